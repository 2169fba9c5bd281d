"""Puts a checkpoint on a device, with as many slots as fit into its memory."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import TypeVar

import torch

from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.open import Checkpoint
from nightscribe.model.device import (
    CACHE_DTYPES,
    DTYPES,
    capability_of,
    device_of,
    free_bytes_of,
    set_tf32,
    total_bytes_of,
)
from nightscribe.model.memory_budget import (
    SMALLEST_BUCKET,
    MemoryBudget,
    budget_for,
    fitting_slots,
)
from nightscribe.model.model_runner import RunnerOptions
from nightscribe.model.precision import Precision, format_of, precision_of
from nightscribe.model.speculative_runner import SpeculativeRunner
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import StepRunner
from nightscribe.model.term_bias import TermTrie

log = logging.getLogger(__name__)

Runner = TypeVar("Runner")

OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "ALLOC_FAILED",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedModel:
    """A model on its device, how many slots should fit, and the options of its runner."""

    speech: SpeechToText
    num_slots: int
    options: RunnerOptions


def load_step_runner(
    checkpoint: Checkpoint,
    engine: EngineConfig,
    terms: TermTrie | None = None,
    stream_terms: float | None = None,
) -> StepRunner:
    """A model with slots; if the memory turns out too small, with half as many, and so on.

    Raises ValueError, before a weight is read, if not even the weights fit.
    """
    loaded = _load(checkpoint, engine)

    def build(num_slots: int) -> StepRunner:
        options = replace(loaded.options, terms=terms, stream_terms=stream_terms)
        return StepRunner(loaded.speech, num_slots, engine.round_steps, options)

    return _with_slots(loaded.num_slots, build)


def load_speculative_runner(checkpoint: Checkpoint, engine: EngineConfig) -> SpeculativeRunner:
    """As `load_step_runner`, for speculative decoding."""
    loaded, frames_per_pass = _load(checkpoint, engine), engine.frames_per_pass or 1
    num_passes = ceil(engine.round_steps / frames_per_pass)

    def build(num_slots: int) -> SpeculativeRunner:
        return SpeculativeRunner(
            loaded.speech, num_slots, frames_per_pass, num_passes, loaded.options
        )

    return _with_slots(loaded.num_slots, build)


def _load(checkpoint: Checkpoint, engine: EngineConfig) -> _LoadedModel:
    device = device_of(engine.device)
    precision = precision_of(
        engine.dtype, engine.kv_cache_dtype, capability_of(device), str(device)
    )
    free_bytes = free_bytes_of(device)
    if device.type == "cuda":
        free_bytes = min(free_bytes, int(engine.gpu_memory_share * total_bytes_of(device)))
    budget = budget_for(checkpoint.config, precision, engine, device.type, free_bytes)
    _refuse_if_too_large(budget, str(device), free_bytes)
    num_slots = _slots_to_try(budget, engine.num_slots, device, free_bytes)
    log.info("%s", describe(str(device), precision, num_slots, budget))
    if device.type == "cuda":
        set_tf32(engine.tf32)
    options = RunnerOptions(
        encode_rows=budget.encode_rows,
        use_graphs=engine.cuda_graphs,
        cache_dtype=CACHE_DTYPES[precision.cache],
        measures_attention=device.type == "cuda" and not engine.reproducible,
        rounds_codec=engine.tf32 == "codec",
        reproducible=engine.reproducible,
    )
    speech = _load_weights(checkpoint, precision, device)
    return _LoadedModel(speech=speech, num_slots=num_slots, options=options)


def describe(device: str, precision: Precision, num_slots: int, budget: MemoryBudget) -> str:
    """Precision, slots and memory, in one line for the log."""
    dtypes = (
        f"weights {precision.weights}, activations {precision.activations}, "
        f"KV cache {precision.cache}"
    )
    return f"{device}: {dtypes}, {num_slots} slots: {budget.describe(num_slots)}"


def _slots_to_try(
    budget: MemoryBudget, configured: int | None, device: torch.device, free_bytes: int
) -> int:
    is_cuda = device.type == "cuda"
    if configured is None:
        fitting = fitting_slots(budget, device.type, free_bytes)
        return fitting or (SMALLEST_BUCKET if is_cuda else 1)
    max_slots = max(budget.max_slots(free_bytes), 1)
    # A GPU reports what it cannot hold, and fewer are tried; on a CPU the system kills the process.
    if is_cuda or configured <= max_slots:
        return configured
    log.warning(
        "%d slots take %.1f GB, %s has %.1f GB free; using %d slots",
        configured,
        (budget.fixed + configured * budget.per_slot) / 1e9,
        device,
        free_bytes / 1e9,
        max_slots,
    )
    return max_slots


def _refuse_if_too_large(budget: MemoryBudget, device: str, free_bytes: int) -> None:
    needed_bytes = budget.weights + budget.codec_weights
    if needed_bytes > free_bytes:
        raise ValueError(
            f"the model takes {needed_bytes / 1e9:.1f} GB, {device} has {free_bytes / 1e9:.1f} GB "
            "free; engine.dtype=int8 or int4 takes less"
        )


def _load_weights(
    checkpoint: Checkpoint, precision: Precision, device: torch.device
) -> SpeechToText:
    return SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        device,
        DTYPES[precision.activations],
        weight_format=format_of(precision.weights),
    )


def _with_slots(num_slots: int, build: Callable[[int], Runner]) -> Runner:
    while True:
        try:
            return build(num_slots)
        except (RuntimeError, MemoryError) as error:
            if num_slots == 1 or not _is_out_of_memory(error):
                raise
        # Outside the handler: inside, the error still refers to the memory that is to be freed.
        log.warning("%d slots do not fit; trying %d", num_slots, num_slots // 2)
        num_slots //= 2
        gc.collect()
        torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, also where the libraries have no exception of their own for it.

    A graph capture that runs out of memory may end in another error, with this one as its context.
    """
    if error is None or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return error is not None
    has_text = any(text in str(error) for text in OUT_OF_MEMORY_TEXTS)
    return has_text or _is_out_of_memory(error.__context__)
