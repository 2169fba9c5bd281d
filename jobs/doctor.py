"""`nightscribe doctor`: check this machine, or what another GPU could do."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from huggingface_hub import HfApi, constants

from nightscribe.audio.ffmpeg import find_ffmpeg
from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.shell.config import Job
from nightscribe.model.checkpoints.locations import Repository, locate
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.checkpoints.open import open_model
from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.cpu_weights import describe_kernels
from nightscribe.model.device import DeviceSpec, FitReport, device_like, fit_report, local_device
from nightscribe.model.gpu_specs import EXAMPLES, GPUS, gpu_named
from nightscribe.model.memory_budget import MAX_SLOTS
from nightscribe.options import group, option
from nightscribe.storage.s3 import source_of_credentials
from nightscribe.survey.costs import USER_RESULTS, known_results, measured_speed

EVERY_GPU = "all"
LIBRARIES = ("torch", "ray", "pyarrow", "huggingface_hub")
HUB_TIMEOUT_S = 5.0
PRECISIONS = {
    "": EngineConfig(),
    " int8": EngineConfig(dtype="int8"),
    " int8 cache": EngineConfig(kv_cache_dtype="int8"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorConfig:
    """Check this machine or a simulated GPU: precision, memory and how many streams fit."""

    simulate: str | None = option(
        None, f"a GPU instead of this machine: {EXAMPLES}; all: a table of GPUs"
    )
    model: ModelConfig = group(
        lambda: ModelConfig(name="", checkpoint=""), "which model; unset: the published ones"
    )
    hub: bool = option(False, "also check that the Hugging Face hub answers")
    engine: EngineConfig = group(EngineConfig, "device, precision and batch size")
    bench_results: str = option(
        USER_RESULTS, "folder with results of `nightscribe bench`, from which speeds are taken"
    )


def examine(config: DoctorConfig) -> int:
    """Exit code 1 if something that every run needs is missing."""
    if config.simulate == EVERY_GPU:
        sys.stdout.write(gpu_table())
        return 0
    if config.simulate is not None:
        _write_of(device_like(gpu_named(config.simulate)), config)
        return 0
    device = local_device(config.engine.device)
    _write_of(device, config)
    if device.kind == "cpu":
        sys.stdout.writelines(f"{line}\n" for line in describe_kernels())
    found = list(checks(config.hub))
    sys.stdout.writelines(f"{'' if one.is_ok else 'MISSING: '}{one.sentence}\n" for one in found)
    return 0 if all(one.is_ok for one in found) else 1


def _write_of(device: DeviceSpec, config: DoctorConfig) -> None:
    found = {
        name: fit_report(sizes, device, config.engine)
        for name, sizes in _models(config.model).items()
    }
    lines = [_described(device), ""]
    for name, diagnosis in found.items():
        lines += [
            *_diagnosed(name, diagnosis, device),
            f"  {_speed(name, device, config.bench_results)}",
            "",
        ]
    sys.stdout.write("\n".join(lines) + "\n")


def _described(device: DeviceSpec) -> str:
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
        yield "  does not fit; engine.dtype=int8 or int4 needs less memory"
    elif found.num_slots > found.max_slots:
        yield f"  {found.num_slots} streams at once do not fit, {found.max_slots} would, {each}"
    else:
        yield f"  {found.num_slots} streams at once, {each}{_why_many(found)}"


def _why_many(found: FitReport) -> str:
    if found.num_slots <= MAX_SLOTS or found.num_slots > found.budget.useful_slots:
        return ""
    return (
        f": more than {MAX_SLOTS}, since streams as short as engine.max_stream_s read little of "
        "their KV cache"
    )


def _speed(model: str, device: DeviceSpec, bench_results: str) -> str:
    measured = measured_speed(device.name, model, known_results(bench_results))
    if measured is None:
        return "speed was not measured on this device"
    return f"{measured.times_real_time:,.0f} times real time, {measured.basis}"


def _models(model: ModelConfig) -> dict[str, SpeechToTextConfig]:
    """Architectures by name, without fetching any."""
    if not model.checkpoint:
        return PUBLISHED
    if model.name in PUBLISHED:
        return {model.name: PUBLISHED[model.name]}
    if isinstance(locate(model.checkpoint)[0], Repository):
        known = ", ".join(PUBLISHED)
        raise ValueError(
            f"{model.checkpoint} is not on disk, and doctor checks local files only; "
            f"it knows {known} without their files"
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


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence about the environment, and whether a run can work with it."""

    is_ok: bool
    sentence: str


def checks(contact_hub: bool, ffmpeg: str | None = None) -> Iterator[Check]:
    """Findings about programs, libraries, the hub and credentials."""
    yield _ffmpeg(ffmpeg)
    yield _libraries()
    yield _hub(contact_hub)
    yield _credentials()


def _ffmpeg(configured: str | None) -> Check:
    try:
        program = find_ffmpeg(configured)
    except ValueError as error:
        return Check(False, f"{error}: no recording can be decoded")
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    if answer.returncode or len(words) < 3:
        return Check(False, f"ffmpeg does not run: {program} ended with {answer.returncode}")
    return Check(True, f"ffmpeg {words[2]} at {program}")


def _libraries() -> Check:
    known = {name: _version(name) for name in LIBRARIES}
    missing = [name for name, found in known.items() if found is None]
    installed = ", ".join(f"{name} {found}" for name, found in known.items() if found)
    if missing:
        return Check(False, f"{', '.join(missing)} not installed (installed: {installed})")
    return Check(True, f"Python {platform.python_version()}, {installed}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _hub(contact: bool) -> Check:
    cache = Path(constants.HF_HUB_CACHE)
    num_cached = len(list(cache.glob("models--*"))) if cache.is_dir() else 0
    cached = f"{num_cached} models of the hub are cached in {cache}"
    if not contact:
        return Check(True, f"{cached}; the hub was not contacted (use hub=true)")
    try:
        HfApi().model_info("kyutai/stt-2.6b-en", timeout=HUB_TIMEOUT_S)
    except Exception as error:
        return Check(False, f"{cached}; the hub does not answer ({type(error).__name__})")
    return Check(True, f"{cached}; the hub answers")


def _credentials() -> Check:
    source = source_of_credentials()
    if source is None:
        return Check(True, "no S3 credentials on this machine; instance roles were not checked")
    return Check(True, f"S3 credentials found (from {source})")


JOB = Job(name="doctor", config=DoctorConfig, run=examine, options=("simulate",))
