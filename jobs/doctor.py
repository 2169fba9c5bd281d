"""`nightscribe doctor`: what this machine, or another one, can do, and what is missing."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.command import run_job
from nightscribe.jobs.config import Job
from nightscribe.jobs.environment_checks import findings
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.device import DeviceSpec, FitReport, device_like, fit_report, local_device
from nightscribe.model.gpu_specs import EXAMPLES, GPUS, gpu_named
from nightscribe.survey.costs import measured_speed, read_benchmarks

EVERY_GPU = "all"
BENCHMARKS = Path(__file__).parent.parent / "ops" / "benchmarks"
PRECISIONS = {
    "": EngineConfig(),
    " int8": EngineConfig(dtype="int8"),
    " int8 cache": EngineConfig(cache="int8"),
}


@dataclass(kw_only=True, slots=True)
class DoctorConfig:
    """Tell what this machine, or a simulated GPU, can do and how many streams it hears at once."""

    simulate: str | None = field(
        default=None,
        metadata={"help": f"a GPU instead of this machine: {EXAMPLES}; all: a table of GPUs"},
    )
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(name="", checkpoint=""),
        metadata={"help": "a model; without one the published ones are told of"},
    )
    hub: bool = field(default=False, metadata={"help": "also ask whether the hub can be reached"})
    engine: EngineConfig = field(
        default_factory=EngineConfig, metadata={"help": "where the model runs"}
    )


def examine(config: DoctorConfig) -> int:
    """Exit code 1 if something that every run needs is missing."""
    if config.simulate == EVERY_GPU:
        sys.stdout.write(gpu_table())
        return 0
    if config.simulate is not None:
        _write_of(device_like(gpu_named(config.simulate)), config)
        return 0
    _write_of(local_device(config.engine.device), config)
    found = list(findings(config.hub))
    sys.stdout.writelines(f"{'' if one.is_well else 'MISSING: '}{one.sentence}\n" for one in found)
    return 0 if all(one.is_well for one in found) else 1


def _write_of(device: DeviceSpec, config: DoctorConfig) -> None:
    found = {
        name: fit_report(sizes, device, config.engine)
        for name, sizes in _models(config.model).items()
    }
    lines = [_told(device), ""]
    for name, diagnosis in found.items():
        lines += [*_diagnosed(name, diagnosis, device), ""]
    sys.stdout.write("\n".join(lines) + "\n")


def _told(device: DeviceSpec) -> str:
    sets = f", {' '.join(device.instruction_sets)}" if device.instruction_sets else ""
    kind = f", capability {_dotted(device.capability)}" if device.capability else sets
    size, free = device.memory_bytes / 1e9, device.free_bytes / 1e9
    return f"{device.name}{kind}, {size:.0f} GB of memory, {free:.0f} GB free"


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def _diagnosed(name: str, found: FitReport, device: DeviceSpec) -> Iterator[str]:
    numbers, needs = found.precision, found.budget
    yield name
    yield (
        f"  weights {numbers.weights}, computed in {numbers.activations}, cache {numbers.cache}: "
        f"{found.reason}"
    )
    yield f"  {needs.describe(found.num_slots)}"
    each = f"{needs.per_slot / 1e6:.0f} MB each"
    if not found.num_slots or not found.max_slots:
        yield "  does not fit; engine.dtype=int8 or int4 takes less"
    elif found.num_slots > found.max_slots:
        yield f"  {found.num_slots} streams at once do not fit, {found.max_slots} would, {each}"
    else:
        yield f"  {found.num_slots} streams at once, {each}"
    yield f"  {_speed(name, device)}"


def _speed(model: str, device: DeviceSpec) -> str:
    measured = measured_speed(device.name, model, read_benchmarks(BENCHMARKS))
    if measured is None:
        return "how many keep up with real time is not measured on this device"
    return f"{measured.times_real_time:,.0f} times real time, {measured.basis}"


def _models(model: ModelConfig) -> dict[str, SpeechToTextConfig]:
    """Sizes by name; nothing is fetched for them."""
    if not model.checkpoint:
        return PUBLISHED
    if model.name in PUBLISHED:
        return {model.name: PUBLISHED[model.name]}
    if not Path(model.checkpoint).exists():
        known = ", ".join(PUBLISHED)
        raise ValueError(
            f"{model.checkpoint} is not on disk, where the doctor looks alone; "
            f"without their files it knows {known}"
        )
    return {model.name: open_model(model).config}


def gpu_table() -> str:
    """Slots by GPU, model and precision, in Markdown."""
    short = {"stt-1b-en_fr": "1B", "stt-2.6b-en": "2.6B"}
    columns = [f"{short[name]}{kind}" for name in PUBLISHED for kind in PRECISIONS]
    lines = [
        f"| GPU | capability | computed in | {' | '.join(columns)} |",
        f"|---|---|---|{'--:|' * len(columns)}",
    ]
    for gpu in GPUS:
        device = device_like(gpu)
        cells = [_cell(model, kind, device) for model in PUBLISHED for kind in PRECISIONS]
        computed = fit_report(
            PUBLISHED["stt-1b-en_fr"], device, EngineConfig()
        ).precision.activations
        name = f"{gpu.name} {gpu.memory_gb} GB"
        row = [name, _dotted(gpu.capability), computed, *cells]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _cell(model: str, kind: str, device: DeviceSpec) -> str:
    num_slots = fit_report(PUBLISHED[model], device, PRECISIONS[kind]).num_slots
    return str(num_slots) if num_slots else "-"


JOB = Job(name="doctor", config=DoctorConfig, run=examine, options=("simulate",))


def main() -> None:
    run_job(JOB)


if __name__ == "__main__":
    main()
