"""Puts a checkpoint on a device with as many slots as its memory takes."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Protocol, TypeVar

import torch

from nightscribe.model.checkpoints.open import Checkpoint
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import (
    CACHES,
    DTYPES,
    capability_of,
    device_of,
    free_bytes_of,
    round_products,
    total_bytes_of,
)
from nightscribe.model.memory_budget import SMALLEST_BUCKET, Footprint, encode_rows, footprint
from nightscribe.model.model_runner import Housing
from nightscribe.model.precision import WEIGHT_BITS, Numbers, numbers_of
from nightscribe.model.speculative_runner import LeapingModel
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.step_runner import SteppingModel

log = logging.getLogger(__name__)

Model = TypeVar("Model")

CPU_SLOTS = 8  # a CPU gains little from more
WANT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


class Wishes(Protocol):
    """What the user asked of the engine."""

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def kv_cache_dtype(self) -> str: ...

    @property
    def num_slots(self) -> int | None: ...

    @property
    def tf32(self) -> str: ...

    @property
    def gpu_memory_share(self) -> float: ...

    @property
    def round_steps(self) -> int: ...

    @property
    def frames_per_pass(self) -> int | None: ...

    @property
    def cuda_graphs(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A model on its device, how many slots its memory takes, and how they are kept."""

    speech: SpeechToText
    num_slots: int
    housing: Housing


def load_stepping(checkpoint: Checkpoint, wishes: Wishes) -> SteppingModel:
    """A model with slots; where the memory turns out too small, with half as many, and so on.

    Raises ValueError, before a weight is read, if not even the weights fit.
    """
    fitted = _fitted(checkpoint, wishes)

    def build(num_slots: int) -> SteppingModel:
        return SteppingModel(fitted.speech, num_slots, wishes.round_steps, fitted.housing)

    return _with_slots(fitted.num_slots, build)


def load_leaping(checkpoint: Checkpoint, wishes: Wishes) -> LeapingModel:
    """As `load_stepping`, a model that hears several frames in one pass."""
    fitted, width = _fitted(checkpoint, wishes), wishes.frames_per_pass or 1

    def build(num_slots: int) -> LeapingModel:
        num_passes = ceil(wishes.round_steps / width)
        return LeapingModel(fitted.speech, num_slots, width, num_passes, fitted.housing)

    return _with_slots(fitted.num_slots, build)


def _fitted(checkpoint: Checkpoint, wishes: Wishes) -> _Fitted:
    device = device_of(wishes.device)
    numbers = numbers_of(wishes.dtype, wishes.kv_cache_dtype, capability_of(device), str(device))
    free_bytes = free_bytes_of(device)
    if device.type == "cuda":
        free_bytes = min(free_bytes, int(wishes.gpu_memory_share * total_bytes_of(device)))
    needs = needs_of(checkpoint.config, numbers, wishes, device.type, free_bytes)
    _refuse_if_hopeless(needs, str(device), free_bytes)
    num_slots = _slots_to_try(needs, wishes.num_slots, device, free_bytes)
    log.info("%s", told(str(device), numbers, num_slots, needs))
    if device.type == "cuda":
        round_products(wishes.tf32)
    speech = _loaded(checkpoint, numbers, device)
    housing = Housing(
        encode_rows=needs.encode_rows,
        use_graphs=wishes.cuda_graphs,
        cache_dtype=CACHES[numbers.cache],
    )
    return _Fitted(speech=speech, num_slots=num_slots, housing=housing)


def needs_of(
    config: SpeechToTextConfig,
    numbers: Numbers,
    wishes: Wishes,
    device_type: str,
    free_bytes: float,
) -> Footprint:
    """What a checkpoint takes on a device of this type with so much free."""
    bill = partial(
        footprint, config, numbers, wishes.round_steps, frames_per_pass=wishes.frames_per_pass or 1
    )
    if device_type != "cuda":
        return bill(encode_rows=1, graphs_bytes=0)
    return bill(encode_rows(free_bytes, wishes.round_steps, config.mimi.frame_rate_hz))


def fitting_slots(needs: Footprint, device_type: str, free_bytes: float) -> int:
    """Slots that are worth having and fit; 0 if the model itself does not."""
    if device_type == "cuda":
        return needs.num_slots(free_bytes)
    return min(CPU_SLOTS, needs.most_slots(free_bytes))


def told(device: str, numbers: Numbers, num_slots: int, needs: Footprint) -> str:
    """What goes where, in one line for the log."""
    kinds = f"weights {numbers.weights}, computed in {numbers.activations}, cache {numbers.cache}"
    return f"{device}: {kinds}, {num_slots} slots: {needs.told(num_slots)}"


def _slots_to_try(
    needs: Footprint, wished: int | None, device: torch.device, free_bytes: int
) -> int:
    is_cuda = device.type == "cuda"
    if wished is None:
        fitting = fitting_slots(needs, device.type, free_bytes)
        return fitting or (SMALLEST_BUCKET if is_cuda else 1)
    most = max(needs.most_slots(free_bytes), 1)
    if is_cuda or wished <= most:  # a GPU says itself what it cannot hold; a CPU's system kills
        return wished
    log.warning(
        "%d slots take %.1f GB, %s has %.1f GB free; taking %d",
        *(wished, (needs.fixed + wished * needs.per_slot) / 1e9, device, free_bytes / 1e9, most),
    )
    return most


def _refuse_if_hopeless(needs: Footprint, device: str, free_bytes: int) -> None:
    needed_bytes = needs.weights + needs.codec_weights
    if needed_bytes > free_bytes:
        raise ValueError(
            f"the model takes {needed_bytes / 1e9:.1f} GB, {device} has {free_bytes / 1e9:.1f} GB "
            "free; engine.dtype=int8 or int4 takes less"
        )


def _loaded(checkpoint: Checkpoint, numbers: Numbers, device: torch.device) -> SpeechToText:
    return SpeechToText.load(
        checkpoint.config,
        checkpoint.mimi_tensors(),
        checkpoint.language_model_tensors(),
        device,
        DTYPES[numbers.activations],
        weight_bits=WEIGHT_BITS.get(numbers.weights),
    )


def _with_slots(num_slots: int, build: Callable[[int], Model]) -> Model:
    while True:
        try:
            return build(num_slots)
        except (RuntimeError, MemoryError) as error:
            if num_slots == 1 or not _is_for_want_of_memory(error):
                raise
        # Outside: while the error is handled, it keeps alive what it failed amidst.
        log.warning("%d slots do not fit; trying %d", num_slots, num_slots // 2)
        num_slots //= 2
        gc.collect()
        torch.cuda.empty_cache()


def _is_for_want_of_memory(error: BaseException | None) -> bool:
    """A CPU's allocator and the libraries on a GPU have no error of their own for it.

    And a recording that fails for it may end in another error.
    """
    if error is None or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return error is not None
    is_told = any(sign in str(error) for sign in WANT_OF_MEMORY)
    return is_told or _is_for_want_of_memory(error.__context__)
