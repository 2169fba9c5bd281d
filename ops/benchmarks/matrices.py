"""The time of a step by weight precision, at the width of the published models, on a CPU.

    python -m ops.benchmarks.matrices 2 1 8      # layers, then numbers of slots

Random weights, full KV caches, precisions in turns in one process; prints a Markdown table.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from nightscribe.benchmarks.measurements import in_turns
from nightscribe.benchmarks.random_weights import draw
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.config import LanguageModelConfig
from nightscribe.model.cpu_weights import pack
from nightscribe.model.device import DTYPES
from nightscribe.model.language_model import LanguageModel
from nightscribe.model.memory_budget import memory_budget
from nightscribe.model.native_tensors import read
from nightscribe.model.precision import Precision, format_of, precision_of

KINDS = ("float32", "bfloat16", "int8", "int4")  # float16 has no kernels worth a time on a CPU
REPEATS = 9
WHOLE = PUBLISHED["stt-1b-en_fr"]
HEADER = (
    "| slots | weights | computed in | weights MB | processor ms | wall ms "
    "| of float32's processor time |\n|--:|---|---|--:|--:|--:|--:|\n"
)


def models(config: LanguageModelConfig, num_slots: int) -> dict[str, LanguageModel]:
    """The same random model in every weight precision, loaded."""
    torch.manual_seed(0)
    source = LanguageModel(config).requires_grad_(False)
    draw(source)
    tensors = list(read(source.native_tensors()))
    made = {}
    for kind in KINDS:
        dtype = DTYPES[_numbers(kind).activations]
        format = format_of(kind)
        made[kind] = LanguageModel.load(config, tensors, "cpu", dtype, weight_format=format)
        pack(made[kind], num_slots)
    return made


def step_of(model: LanguageModel, num_slots: int) -> Callable[[], object]:
    config = model.config
    codes = torch.randint(0, config.audio_card, (num_slots, 1, config.num_codebooks))
    text = torch.randint(0, config.text_card, (num_slots, 1))
    cache, fresh_S = model.empty_cache(num_slots), torch.zeros(num_slots, dtype=torch.bool)
    cache.next_positions_B.fill_(cache.capacity)
    reach = (cache.capacity,) * num_slots
    return lambda: model.extend(codes, text, cache, fresh_S, reach)


def rows(config: LanguageModelConfig, num_slots: int) -> list[str]:
    steps = {kind: step_of(model, num_slots) for kind, model in models(config, num_slots).items()}
    elapsed = in_turns(steps, REPEATS, torch.device("cpu"))
    cpu_s = {kind: median(one.cpu_s for one in elapsed[kind]) for kind in KINDS}
    wall_s = {kind: median(one.wall_s for one in elapsed[kind]) for kind in KINDS}
    written = []
    for kind in KINDS:
        numbers = _numbers(kind)
        needs = memory_budget(replace(WHOLE, language_model=config), numbers, 25, encode_rows=1)
        cells = (
            f"{num_slots}",
            kind,
            numbers.activations,
            f"{needs.weights / 1e6:.0f}",
            f"{cpu_s[kind] * 1e3:.1f}",
            f"{wall_s[kind] * 1e3:.1f}",
            f"{cpu_s[kind] / cpu_s['float32']:.2f}",
        )
        written.append(f"| {' | '.join(cells)} |\n")
    return written


def _numbers(kind: str) -> Precision:
    return precision_of(kind, "auto", None, "cpu")


def main(num_layers: str, *slots: str) -> None:
    torch.set_num_threads(1)
    config = replace(WHOLE.language_model, num_layers=int(num_layers))
    sys.stdout.write(f"{num_layers} layers, torch {torch.__version__}\n\n{HEADER}")
    for num_slots in map(int, slots):
        sys.stdout.writelines(rows(config, num_slots))
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
