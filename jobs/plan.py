"""`nightscribe plan INPUT`: survey an archive and estimate time and cost, from headers alone."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

from omegaconf import MISSING
from rich.filesize import decimal
from rich.progress import track
from rich.table import Column, Table

from nightscribe.audio.decode import DecodeConfig, read_header_text
from nightscribe.audio.segmentation import ShardConfig, probable_shards
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import clock, console
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.native_config import PUBLISHED
from nightscribe.model.gpu_specs import GPUS, estimate_throughput, gpu_named, plain_name
from nightscribe.options import check_options, group, option
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording
from nightscribe.rendering.document import one_line
from nightscribe.runs.audio_reader import SourceConfig
from nightscribe.storage.content_hash import ContentHasher
from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config, open_file
from nightscribe.storage.sources import describe_skipped, recordings
from nightscribe.storage.store import OUTSIDE
from nightscribe.storage.tables import in_parallel
from nightscribe.survey.archive import (
    ArchiveSurvey,
    Header,
    SurveyedRecording,
    SurveyOptions,
    UnreadableError,
    read_header,
    survey,
)
from nightscribe.survey.costs import (
    OUTPUT_BYTES_PER_H,
    USER_RESULTS,
    ArchiveWorkload,
    CostEstimate,
    GpuSpeed,
    cpus_to_feed,
    decoding_cpu_h,
    estimate_cost,
    known_results,
    limited_by_cpus,
    measured_speed,
)

DEFAULT_SILENCE_S = 1.0
TIME_DECIMALS, COST_DIGITS = 3, 9
REMEMBERED_HEADERS = 4096
KINDS = ("codec", "rate", "channels", "folder")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig:
    """Survey an archive from file headers: hours, duplicates, bad files, GPU hours and cost."""

    input: str = option(MISSING, "file, folder, glob pattern or manifest; local or s3://")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "which model")
    gpus: list[str] = option(
        ["h200", "h100", "l40s"], f"GPUs to compare; known are {', '.join(map(plain_name, GPUS))}"
    )
    num_gpus: int = option(1, "number of GPUs", minimum=1)
    num_cpus: int | None = option(
        None,
        "number of CPU cores of all machines; null: enough to keep the GPUs busy",
        minimum=1,
    )
    prices: dict[str, float] = option({}, "price of a GPU hour, as in prices.h200=3.5")
    source: SourceConfig = group(SourceConfig, "channels, scratch space and decoding")
    shard: ShardConfig = group(ShardConfig, "how recordings are cut into shards")
    planning: PlanningConfig = group(PlanningConfig, "order of the work")
    num_rows: int = option(10, "longest list of folders or files to print")
    format: str = option("table", "output format", choices=("table", "json"))
    bench_results: str = option(
        USER_RESULTS, "folder with results of `nightscribe bench`, from which speeds are taken"
    )
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)
        for gpu in self.prices:
            if gpu not in self.gpus:
                raise ValueError(f"prices.{gpu} is for none of gpus=[{','.join(self.gpus)}]")


def run_plan(config: PlanConfig) -> int:
    speeds = list(_speeds(config))
    skipped = Counter[str]()
    archive = _surveyed(config, skipped)
    costs = list(_costs(archive, config, speeds)) if archive.transcribed_s else []
    if config.format == "json":
        sys.stdout.write(json.dumps(_document(archive, costs, skipped), indent=2) + "\n")
    else:
        _print(archive, costs, config, skipped)
    return 0


def _surveyed(config: PlanConfig, skipped: Counter[str]) -> ArchiveSurvey:
    """What the headers of all files but duplicates say."""
    found = recordings(config.input, config.s3, skipped)
    planned = list(plan(found, ContentHasher(), config.planning))
    originals = [one.recording for one in planned if one.duplicate_of is None]
    looked = track(
        in_parallel(lambda recording: _look_at(recording, config.s3), originals),
        total=len(originals),
        description="reading headers",
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    options = SurveyOptions(
        num_shards_of=partial(probable_shards, config=config.shard),
        splits_channels=config.source.channels == "split",
    )
    return survey(looked, len(planned) - len(originals), options)


def _look_at(recording: Recording, s3: S3Config) -> SurveyedRecording:
    if recording.version == OUTSIDE:
        return SurveyedRecording(recording, None, StorageError(OUTSIDE, recording.uri).sentence)
    try:
        file = (recording.uri, recording.version, recording.size_bytes)
        return SurveyedRecording(recording, _header(*file, s3))
    except UnreadableError as error:
        return SurveyedRecording(recording, None, str(error))
    except StorageError as error:
        return SurveyedRecording(recording, None, error.sentence)


@lru_cache(maxsize=REMEMBERED_HEADERS)
def _header(uri: str, version: str, size_bytes: int, s3: S3Config) -> Header:
    """Of this version of a file: a manifest may name thousands of spans of it."""
    store, key = open_file(uri, s3)
    with store.open(key) as file:

        def read_at(first: int, num_bytes: int) -> bytes:
            file.seek(first)
            return file.read(num_bytes)

        return read_header(PurePosixPath(uri).suffix, size_bytes, read_at, _ask)


def _ask(path: Path) -> str:
    return read_header_text(path, DecodeConfig())


def _speeds(config: PlanConfig) -> Iterator[GpuSpeed]:
    """The speed of each GPU, where one is known: the newest measurement, else an estimate."""
    benchmarks, model = known_results(config.bench_results), config.model.name
    for gpu in config.gpus:
        speed = measured_speed(gpu, model, benchmarks) or _estimated(gpu, model)
        if speed is not None:
            yield speed


def _estimated(gpu: str, model: str) -> GpuSpeed | None:
    known = gpu_named(gpu)
    found = estimate_throughput(PUBLISHED[model], known) if model in PUBLISHED else None
    if found is None:
        return None
    return GpuSpeed(gpu, found.times_real_time, f"estimate, {found.num_slots} slots")


def _costs(
    archive: ArchiveSurvey, config: PlanConfig, speeds: Sequence[GpuSpeed]
) -> Iterator[CostEstimate]:
    work = ArchiveWorkload(
        duration_s=archive.transcribed_s,
        num_shards=archive.num_shards,
        silence_per_shard_s=_silence_per_shard_s(config.model.name),
    )
    for speed in speeds:
        price = config.prices.get(speed.gpu)
        cost = estimate_cost(work, speed, config.num_gpus, price)
        if config.num_cpus is not None:
            cost = limited_by_cpus(cost, _cpu_h(archive), config.num_cpus, config.num_gpus)
        yield cost


def _cpu_h(archive: ArchiveSurvey) -> float:
    return decoding_cpu_h(archive.seconds_by["codec"], archive.num_recordings)


def _silence_per_shard_s(model: str) -> float:
    """Silence that is added around each shard: an assumption where the model is not published."""
    if model not in PUBLISHED:
        return DEFAULT_SILENCE_S
    config = PUBLISHED[model]
    return config.num_frames(0) / config.mimi.frame_rate_hz


def _document(
    archive: ArchiveSurvey, costs: list[CostEstimate], skipped: Counter[str]
) -> dict[str, Any]:
    return {
        "num_recordings": archive.num_recordings,
        "num_duplicates": archive.num_duplicates,
        "duration_s": round(archive.duration_s, TIME_DECIMALS),
        "transcribed_s": round(archive.transcribed_s, TIME_DECIMALS),
        "size_bytes": archive.size_bytes,
        "num_shards": archive.num_shards,
        "output_bytes": _output_bytes(archive),
        "seconds_by": {kind: _rounded(archive.seconds_by[kind]) for kind in KINDS},
        "unreadable": {one.recording.uri: one.error for one in archive.unreadable},
        "skipped": dict(skipped),
        "decoding_cpu_h": round(_cpu_h(archive), TIME_DECIMALS),
        "costs": [_cost(cost) for cost in costs],
    }


def _cost(cost: CostEstimate) -> dict[str, Any]:
    """Of archives of minutes, too, whose hours begin with zeros."""

    def short(amount: float | None) -> float | None:
        return None if amount is None else float(f"{amount:.{COST_DIGITS}g}")

    speed = asdict(cost.speed) | {"times_real_time": short(cost.speed.times_real_time)}
    hours = {"gpu_h": short(cost.gpu_h), "wall_h": short(cost.wall_h)}
    return {"speed": speed, **hours, "price": short(cost.price)}


def _rounded(seconds: Counter[str]) -> dict[str, float]:
    return {name: round(duration_s, TIME_DECIMALS) for name, duration_s in seconds.items()}


def _output_bytes(archive: ArchiveSurvey) -> int:
    return round(archive.transcribed_s / 3600 * OUTPUT_BYTES_PER_H)


def _print(
    archive: ArchiveSurvey, costs: list[CostEstimate], config: PlanConfig, skipped: Counter[str]
) -> None:
    terminal = console()
    terminal.print(_totals_table(archive, skipped))
    terminal.print(_hours_table(archive, config.num_rows))
    if archive.unreadable:
        terminal.print(_trouble_table(archive, config.num_rows))
    if not archive.transcribed_s:
        terminal.print("there is no audio to transcribe, and so no cost to estimate")
        return
    if costs:
        terminal.print(_cost_table(costs, config))
        terminal.print(_cpus_sentence(archive, costs, config))
    unknown = [gpu for gpu in config.gpus if gpu not in {cost.speed.gpu for cost in costs}]
    if unknown:
        terminal.print(f"the speed of {config.model.name} on {', '.join(unknown)} is not known")


def _totals_table(archive: ArchiveSurvey, skipped: Counter[str]) -> Table:
    table = Table(show_header=False, box=None)
    table.add_row("recordings", f"{archive.num_recordings:,}")
    table.add_row("hours", clock(archive.duration_s))
    if archive.transcribed_s != archive.duration_s:
        table.add_row("to transcribe", f"{clock(archive.transcribed_s)} (each channel separately)")
    table.add_row("longest", clock(archive.longest_s))
    table.add_row("size", decimal(archive.size_bytes))
    table.add_row("duplicates", f"{archive.num_duplicates:,} (transcribed once)")
    table.add_row("unreadable", f"{len(archive.unreadable):,}")
    if skipped:
        table.add_row("skipped", f"{skipped.total():,} ({describe_skipped(skipped)})")
    table.add_row("shards", f"about {archive.num_shards:,}")
    table.add_row("output", f"about {decimal(_output_bytes(archive))}")
    return table


def _hours_table(archive: ArchiveSurvey, num_rows: int) -> Table:
    table = Table("by", Column("", overflow="fold"), Column("hours", justify="right"))
    for kind in KINDS:
        for name, duration_s in _hours_rows(archive.seconds_by[kind], num_rows):
            table.add_row(kind, name, clock(duration_s))
            kind = ""
        table.add_section()
    return table


def _hours_rows(seconds: Counter[str], num_rows: int) -> Iterator[tuple[str, float]]:
    """The largest first; the rest of a long list as one row."""
    shown = seconds.most_common(num_rows)
    yield from shown
    if len(seconds) > num_rows:
        left_s = sum(seconds.values()) - sum(duration_s for _, duration_s in shown)
        yield f"{len(seconds) - num_rows} more", left_s


def _trouble_table(archive: ArchiveSurvey, num_rows: int) -> Table:
    table = Table(Column("unreadable", overflow="fold"), "reason")
    for one in archive.unreadable[:num_rows]:
        table.add_row(one_line(one.recording.path), one.error)
    if len(archive.unreadable) > num_rows:
        table.add_row(f"{len(archive.unreadable) - num_rows} more", "")
    return table


def _cost_table(costs: list[CostEstimate], config: PlanConfig) -> Table:
    count = f"{config.num_gpus} x " if config.num_gpus > 1 else ""
    table = Table("GPU", "GPU-hours", "wall hours", "price", "x real time", "basis")
    for cost in costs:
        gpu = cost.speed.gpu
        price = f"prices.{gpu}=?" if cost.price is None else _amount(cost.price)
        hours = _amount(cost.gpu_h), _amount(cost.wall_h)
        speed = f"{cost.speed.times_real_time:,.0f}"
        table.add_row(f"{count}{gpu}", *hours, price, speed, cost.speed.basis)
    return table


def _cpus_sentence(archive: ArchiveSurvey, costs: list[CostEstimate], config: PlanConfig) -> str:
    """How many CPUs the fastest of the GPUs needs, and whether those at hand are the limit."""
    speeds, cpu_h = [cost.speed for cost in costs], _cpu_h(archive)
    unlimited = _costs(archive, replace(config, num_cpus=None), speeds)
    fastest = min(unlimited, key=lambda cost: cost.wall_h)
    needed = ceil(cpus_to_feed(cpu_h, fastest, config.num_gpus))
    text = (
        f"decoding takes about {_amount(cpu_h)} CPU-hours: "
        f"{config.num_gpus} x {fastest.speed.gpu} need {needed} CPU cores"
    )
    if config.num_cpus is not None and config.num_cpus < needed:
        text += f"; with num_cpus={config.num_cpus} the CPUs are the limit, not the GPUs"
    return text


def _amount(amount: float) -> str:
    """Three digits or two decimals: archives last from minutes to years."""
    if amount >= 100:
        return f"{amount:,.1f}"
    return f"{amount:#.3g}" if amount >= 1 else f"{max(amount, 0.01):.2f}"


JOB = Job(name="plan", config=PlanConfig, run=run_plan, positional=("input",))
