"""`nightscribe bench`: how fast one step is, beside the reference implementation, on this machine.

Both hear the same random codes with the same random weights, in one process and in turns; medians
of processor and wall time. The reference is left out where it is not installed.
"""

import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from jobs.command import run_job
from jobs.config import Job
from pipeline.model.config import LanguageModelConfig
from pipeline.model.language_model import LanguageModel
from pipeline.model.packing import pack
from pipeline.model.placement import DTYPES

Step = Callable[[], Any]


@dataclass(kw_only=True, slots=True)
class BenchConfig:
    """Measure the language model's step beside the reference's."""

    shape: str = field(default="small", metadata={"help": "sizes", "choices": ("small", "1b")})
    dtype: str = field(default="float32", metadata={"help": "numbers", "choices": tuple(DTYPES)})
    num_slots: list[int] = field(
        default_factory=lambda: [1, 8, 32], metadata={"help": "streams side by side"}
    )
    num_layers: int = field(default=0, metadata={"help": "layers; 0: as many as the shape has"})
    repeats: int = field(default=5, metadata={"help": "steps of each that are timed, in turns"})
    num_threads: int = field(default=1, metadata={"help": "processor cores"})


def config_of(bench: BenchConfig) -> LanguageModelConfig:
    """The sizes of the published 1B model, or small ones."""
    is_small = bench.shape == "small"
    return LanguageModelConfig(
        dim=256 if is_small else 2048,
        num_heads=4 if is_small else 16,
        num_layers=bench.num_layers or (4 if is_small else 16),
        ffn_dim=704 if is_small else 5632,
        context=64 if is_small else 750,
        rope_max_period=1e5,
        norm_eps=1e-8,
        num_codebooks=32,
        audio_card=2048,
        text_card=8000,
        text_start_id=8000,
        num_text_rows=8001,
    )


def run_bench(bench: BenchConfig) -> int:
    torch.set_num_threads(bench.num_threads)
    config = config_of(bench)
    write = sys.stdout.write
    write(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, ")
    write(f"{bench.shape} with {config.num_layers} layers, {bench.dtype}, ")
    write(f"{bench.num_threads} threads, ring full, medians of {bench.repeats} in turns\n\n")
    write("| slots | ours ms | reference ms | ratio of processor time | of wall time |\n")
    write("|--:|--:|--:|--:|--:|\n")
    reference, ours = _models(config, DTYPES[bench.dtype])
    pack(ours, max(bench.num_slots))
    for num_slots in bench.num_slots:
        steps = {"ours": _our_step(ours, num_slots)}
        if reference is not None:
            steps["reference"] = _reference_step(reference, config, num_slots)
        write(_row(num_slots, timed(steps, bench.repeats)))
    return 0


def timed(steps: dict[str, Step], repeats: int) -> dict[str, tuple[float, float]]:
    """Median processor and wall seconds of each, taken in turns after a turn that is not timed."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            processor_s, wall_s = time.process_time(), time.perf_counter()
            step()
            spent = time.process_time() - processor_s, time.perf_counter() - wall_s
            if turn:
                times[name].append(spent)
    return {name: _medians(spent) for name, spent in times.items()}


def _medians(spent: list[tuple[float, float]]) -> tuple[float, float]:
    processor_s, wall_s = zip(*spent, strict=True)
    return median(processor_s), median(wall_s)


def _row(num_slots: int, times: dict[str, tuple[float, float]]) -> str:
    ours_s = times["ours"]
    if "reference" not in times:
        return f"| {num_slots} | {ours_s[0] * 1e3:.1f} | not installed | | |\n"
    theirs_s = times["reference"]
    ratios = [theirs / ours for theirs, ours in zip(theirs_s, ours_s, strict=True)]
    shown = f"{ours_s[0] * 1e3:.1f} | {theirs_s[0] * 1e3:.1f}"
    return f"| {num_slots} | {shown} | {ratios[0]:.2f} | {ratios[1]:.2f} |\n"


def _our_step(model: LanguageModel, num_slots: int) -> Step:
    codes, text = _inputs(model.config, num_slots)
    cache = model.empty_cache(num_slots)
    cache.next_positions_B.fill_(cache.capacity)
    fresh_S = torch.zeros(num_slots, dtype=torch.bool)
    reach = (cache.capacity,) * num_slots
    return lambda: model.extend(codes, text, cache, fresh_S, reach).logits_STV.argmax(-1)


def _inputs(config: LanguageModelConfig, num_slots: int) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.randint(0, config.audio_card, (num_slots, 1, config.num_codebooks))
    return codes, torch.randint(0, config.text_card, (num_slots, 1))


def _models(config: LanguageModelConfig, dtype: torch.dtype) -> tuple[Any, LanguageModel]:
    """The reference's model, if there is one, and ours with the same weights."""
    torch.manual_seed(0)
    try:
        from moshi.models.lm import LMModel
    except ImportError:
        return None, LanguageModel(config).to(dtype).eval().requires_grad_(False)
    reference = LMModel(**_reference_sizes(config)).to(dtype).eval().requires_grad_(False)
    return reference, LanguageModel.load(config, _native(reference), "cpu", dtype)


def _native(reference: Any) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in reference.state_dict().items():
        name = name.replace("in_projs.0.weight", "in_proj_weight")
        yield name.replace("out_projs.0.weight", "out_proj.weight"), tensor


def _reference_sizes(config: LanguageModelConfig) -> dict[str, Any]:
    return {
        "n_q": config.num_codebooks,
        "dep_q": 0,
        "card": config.audio_card,
        "text_card": config.text_card,
        "dim": config.dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_layers,
        "hidden_scale": config.ffn_dim * 3 / 2 / config.dim,
        "norm": "rms_norm_f32",
        "gating": "silu",
        "positional_embedding": "rope",
        "causal": True,
        "context": config.context,
        "max_period": config.rope_max_period,
        "delays": [0] * (config.num_codebooks + 1),
        "existing_text_padding_id": config.padding_id,
        "depformer_multi_linear": True,
        "depformer_dim": 8,
        "depformer_num_heads": 2,
        "depformer_num_layers": 1,
        "device": "cpu",
    }


def _reference_step(reference: Any, config: LanguageModelConfig, num_slots: int) -> Step:
    codes, text = _inputs(config, num_slots)
    rows = torch.cat((text[:, None], codes.mT), dim=1)

    def step() -> Any:
        with torch.no_grad():
            return reference.forward_text(rows)[1].argmax(-1)

    if reference._streaming_state is not None:
        reference._stop_streaming()
    reference.streaming_forever(num_slots)
    for _ in range(config.context if config.dim <= 256 else 0):
        step()
    return step


JOB = Job(name="bench", config=BenchConfig, run=run_bench)


def main() -> None:
    run_job(JOB)
