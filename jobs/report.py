"""`nightscribe report RUN`: one HTML file about a run, and a chart of its throughput as SVG."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.jobs.command import run_job
from nightscribe.jobs.config import Job
from nightscribe.jobs.terminal import console
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

REPORT_KEY = "_run/report.html"
CHART_KEY = "_run/throughput.svg"
AUDIO_RATE_HZ = 24_000


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """Tell a whole run in one HTML file that opens anywhere, with sounds to listen to."""

    run: str = field(default=MISSING, metadata={"help": "the output of a run: a folder or s3://"})
    title: str | None = field(default=None, metadata={"help": "its heading; unset: the run's name"})
    max_pages: int = field(
        default=100, metadata={"help": "recordings with a page, the suspicious ones first"}
    )
    max_sound_s: float = field(
        default=3600.0, metadata={"help": "sound in the file, about 0.3 MB a minute"}
    )
    s3: S3Config = field(default_factory=S3Config, metadata={"help": "how to reach object stores"})

    def __post_init__(self) -> None:
        for name in ("max_pages", "max_sound_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def report(config: ReportConfig) -> int:
    store = open_run(config.run, config.s3)
    content = _report(store, config)
    store.write(REPORT_KEY, render_report(content).encode())
    written = [store.uri(REPORT_KEY)]
    if len(content.progress) > 2:
        chart = throughput_svg(content.title, content.progress)
        store.write(CHART_KEY, chart.encode())
        written.append(store.uri(CHART_KEY))
    terminal = console(soft_wrap=True)
    for uri in written:
        terminal.print(uri)
    return 0


def _report(store: Store, config: ReportConfig) -> Report:
    run = stored_run(store)
    rates = read_word_error_rates(store)
    summary = summarize_run(read_transcripts(store), read_failures(store), rates, config.max_pages)
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
    )


def _audio_loader(config: ReportConfig) -> Callable[[Recording, float], EmbeddedAudio | None]:
    """Loads audio up to `max_sound_s` in all; None beyond that, or if the file is gone."""
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
    """The part of the file that was transcribed, decoded under the same limits."""
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


def main() -> None:
    run_job(JOB)


if __name__ == "__main__":
    main()
