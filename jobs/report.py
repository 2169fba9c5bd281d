"""`nightscribe report RUN`: write one HTML report of a run, and a chart of its throughput."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.options import check_options, group, option
from nightscribe.reading.report_data import build_report, summarize_run
from nightscribe.reading.run_status import read_status, read_totals, read_word_error_rates
from nightscribe.records import Recording
from nightscribe.report.audio import embed_audio
from nightscribe.report.charts import throughput_svg
from nightscribe.report.content import EmbeddedAudio, Report
from nightscribe.report.page import render_report
from nightscribe.storage.errors import StorageError
from nightscribe.storage.locations import S3Config
from nightscribe.storage.result_tables import open_run, read_failures, read_transcripts
from nightscribe.storage.run import stored_run
from nightscribe.storage.scratch import ScratchConfig, fetched
from nightscribe.storage.store import Store
from nightscribe.storage.voices import cast_names, named

REPORT_KEY = "_run/report.html"
CHART_KEY = "_run/throughput.svg"
AUDIO_RATE_HZ = 24_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig:
    """Write one self-contained HTML report of a run, with playable audio."""

    run: str = option(MISSING, "output of a run: a folder or s3://")
    title: str | None = option(None, "heading of the report; unset: the name of the run")
    speakers: list[str] = option([], "names of the channels, as in [Agent,Customer]")
    max_pages: int = option(
        100, "recordings with a page of their own, suspicious ones first", minimum=0
    )
    max_sound_s: float = option(
        3600.0, "most audio in the file, about 0.3 MB per minute", minimum=0
    )
    s3: S3Config = group(S3Config, "access to object stores")

    def __post_init__(self) -> None:
        check_options(self)


def report(config: ReportConfig) -> int:
    store = open_run(config.run, config.s3)
    page = _report(store, config)
    store.write(REPORT_KEY, render_report(page).encode())
    written = [store.uri(REPORT_KEY)]
    if len(page.progress) > 2:
        chart = throughput_svg(page.title, page.progress)
        store.write(CHART_KEY, chart.encode())
        written.append(store.uri(CHART_KEY))
    terminal = console(soft_wrap=True)
    for uri in written:
        terminal.print(uri)
    return 0


def _report(store: Store, config: ReportConfig) -> Report:
    run = stored_run(store)
    rates = read_word_error_rates(store)
    transcripts = map(partial(named, names=cast_names(store)), read_transcripts(store))
    summary = summarize_run(transcripts, read_failures(store), rates, config.max_pages)
    if not summary.num_recordings:
        raise ValueError(f"{config.run}: no recording is finished yet")
    return build_report(
        config.title or config.run,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        summary,
        read_status(store),
        dict(run.settings) if run else {},
        read_totals(store),
        _audio_loader(config),
        config.speakers,
    )


def _audio_loader(config: ReportConfig) -> Callable[[Recording, float], EmbeddedAudio | None]:
    """The audio of recordings until `max_sound_s` is used up; None where the file is gone."""
    left_s = config.max_sound_s

    def load(recording: Recording, duration_s: float) -> EmbeddedAudio | None:
        nonlocal left_s
        if not 0 < duration_s <= left_s:
            return None
        try:
            samples_N = _samples(recording, duration_s, config.s3)
        except (StorageError, OSError, ValueError):
            return None
        left_s -= len(samples_N) / AUDIO_RATE_HZ
        return embed_audio(samples_N, AUDIO_RATE_HZ) if len(samples_N) else None

    return load


def _samples(recording: Recording, duration_s: float, s3: S3Config) -> NDArray[np.int16]:
    """The samples of a recording, decoded with the default limits."""
    with fetched(recording, s3, ScratchConfig()) as path:
        samples_N, _ = read_waveform(
            path,
            DecodeConfig(),
            AUDIO_RATE_HZ,
            channel=recording.channel,
            start_s=recording.start_s,
            end_s=recording.start_s + duration_s,
        )
    return samples_N


JOB = Job(name="report", config=ReportConfig, run=report, positional=("run",))
