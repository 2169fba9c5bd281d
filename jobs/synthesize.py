"""`nightscribe synthesize input=MANIFEST output=URI`: speak thousands of texts, on Ray.

Plan, resume, failures, status and report are those of `transcribe`, by the same code.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from numpy import int16
from numpy.typing import NDArray
from omegaconf import MISSING, OmegaConf

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.encode import FORMATS
from nightscribe.budget import CURRENCIES
from nightscribe.jobs.file import samples_of
from nightscribe.jobs.shell.attempts import ShellAttempt, exit_code, limits
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.display import Display
from nightscribe.jobs.shell.logs import Log, LogConfig, logged
from nightscribe.jobs.shell.night_log import describe_receipt
from nightscribe.jobs.shell.notifications import check_notifications
from nightscribe.jobs.shell.run_options import FailuresConfig, ReviseConfig
from nightscribe.jobs.shell.terminal import stopped_by_signals
from nightscribe.jobs.shell.workplace import Workplace
from nightscribe.options import check_options, group, option
from nightscribe.planning import PlanningConfig, plan
from nightscribe.records import Recording, Transcript
from nightscribe.runs.config import ClusterConfig, IntervalsConfig, RayConfig
from nightscribe.speech.config import SpeechConfig, SpeechModelConfig
from nightscribe.speech.table import write_speech_table
from nightscribe.speech.texts import TextDefaults, audio_key, texts
from nightscribe.storage.generations import generations
from nightscribe.storage.lease import LeaseConfig
from nightscribe.storage.locations import open_store
from nightscribe.storage.plan_changes import MISSING_FILES
from nightscribe.storage.run import Settings, check_settings, check_writable
from nightscribe.storage.s3 import S3Config
from nightscribe.storage.store import Store

if TYPE_CHECKING:
    from nightscribe.model.checkpoints.text_to_speech import SpeechCheckpoint
    from nightscribe.runs.attempt import RunSpec
    from nightscribe.speech.file_speaker import FileSpeaker
    from nightscribe.speech.voices import Voices
    from nightscribe.storage.run import Night


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthesizeConfig:
    """Speak every text of a manifest. The same command resumes, and later adds what is new."""

    input: str = option(
        MISSING, "manifest (CSV, JSONL, Parquet) with text or turns, and id, voice, seed; or s3://"
    )
    output: str = option(MISSING, "folder for the results; local or s3://")
    format: str = option("flac", "of the audio files", choices=FORMATS, common=True)
    voice: str = option(
        "expresso/ex03-ex01_happy_001_channel1_334s.wav",
        "voice of texts whose row names none: see nightscribe speak",
        common=True,
    )
    other_voice: str | None = option(None, "voice of the second speaker of such texts")
    seed: int = option(0, "seed of texts whose row has none", minimum=0)
    quiet: bool = option(False, "print a line every 30 s instead of a progress bar")
    missing: str = option(
        "keep",
        "what happens to rows of texts that are not in the manifest any more: keep or drop",
        choices=MISSING_FILES,
    )
    revise: ReviseConfig = group(ReviseConfig, "whether to speak anew what is there")
    deadline: str | None = option(
        None, "begin nothing that would not end by then, as in transcribe", common=True
    )
    budget: float | None = option(
        None, "most to spend in one night; needs price_per_gpu_hour", above=0
    )
    price_per_gpu_hour: float | None = option(
        None, "price of an hour of one GPU, or of one worker without a GPU", above=0
    )
    currency: str = option("USD", "currency of budget and price", choices=CURRENCIES)
    log: LogConfig = group(LogConfig, "logging")
    tts: SpeechModelConfig = group(
        lambda: SpeechModelConfig(checkpoint=MISSING), "which text-to-speech model"
    )
    speech: SpeechConfig = group(SpeechConfig, "device, precision and sampling")
    cluster: ClusterConfig = group(ClusterConfig, "workers and timeouts")
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits, for recordings of voices")
    ray: RayConfig = group(RayConfig, "which Ray cluster")
    s3: S3Config = group(S3Config, "access to object stores")
    planning: PlanningConfig = group(PlanningConfig, "order of the work")
    failures: FailuresConfig = group(FailuresConfig, "what counts as a success")
    intervals: IntervalsConfig = group(IntervalsConfig, "how often results and status are written")
    lease: LeaseConfig = group(LeaseConfig, "one writer at a time to an output")

    def __post_init__(self) -> None:
        check_options(self)
        limits(self, num_gpus=1.0)


def synthesize(config: SynthesizeConfig) -> int:
    """Do what is left to do; the exit code."""
    is_logged = config.log.format == "json"
    with logged(config.log) as run_log, Display(config.output, config.quiet, is_logged) as display:
        return _synthesize(config, run_log, display)


def _synthesize(config: SynthesizeConfig, run_log: Log, display: Display) -> int:
    # What is wrong is said before Ray is started.
    store = open_store(config.output, config.s3)
    check_notifications("synthesize")
    display.begin("reading the model")
    checkpoint, voices = _model(config)
    check_settings(store, generations(store), _settings(config, checkpoint), config.revise.revision)
    check_writable(store)
    with (
        Workplace(config, config.speech.num_slots, display) as place,
        _compared(store, config, voices) as (path, night),
        stopped_by_signals() as stop,
    ):
        attempt = ShellAttempt(
            store=store, config=config, place=place, run_log=run_log, display=display
        )
        spec = _run_spec(config, checkpoint, path, night)
        progress, receipt = attempt.run(spec, stop)
    write_speech_table(store)
    display.summarise(progress, describe_receipt(receipt))
    return exit_code(progress, config.failures.max, receipt.stopped_by is not None)


def _model(config: SynthesizeConfig) -> tuple["SpeechCheckpoint", "Voices"]:
    from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
    from nightscribe.speech.synthesizer import options_of
    from nightscribe.speech.voices import Voices

    checkpoint = open_speech_checkpoint(config.tts.checkpoint)
    options_of(checkpoint.config, config.speech, config.tts.guidance)
    rate_hz = checkpoint.config.mimi.sample_rate_hz
    read_audio = partial(read_voice, config.decode, rate_hz)
    return checkpoint, Voices(checkpoint, config.tts.voices, read_audio)


def read_voice(decode: DecodeConfig, rate_hz: int, path: Path) -> NDArray[int16]:
    """The samples of a recording whose voice is continued."""
    return samples_of(str(path), None, decode, rate_hz)[0]


def _settings(config: SynthesizeConfig, checkpoint: "SpeechCheckpoint") -> Settings:
    """Everything that may change the sound; with other settings it is another run."""
    speech = config.speech
    return {
        "speech_model": checkpoint.name,
        "speech_model_revision": checkpoint.revision,
        "format": config.format,
        "voices": config.tts.voices,
        "guidance": config.tts.guidance,
        "dtype": speech.dtype,
        "num_codebooks": speech.num_codebooks,
        "temperature": speech.temperature,
        "padding_bonus": speech.padding_bonus,
        "word_padding": speech.word_padding,
    }


@contextmanager
def _compared(
    store: Store, config: SynthesizeConfig, voices: "Voices"
) -> Iterator[tuple[Path, "Night"]]:
    """What is new in the manifest, planned, as a file, and the plan that it was compared with."""
    from nightscribe.storage.current_plan import read_current
    from nightscribe.storage.run import Night, write_plan

    defaults = TextDefaults(
        voice=config.voice,
        other_voice=config.other_voice,
        seed=config.seed,
        check=voices.__getitem__,
    )
    found = texts(config.input, config.s3, defaults, partial(_audio_uri, store, config.format))
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        path = Path(folder) / "plan.parquet"
        before = read_current(store, path.parent)
        write_plan(plan(before.unseen(found), _content_of, config.planning), path)
        night = Night(
            missing=config.missing,
            revision=config.revise.revision,
            retry=config.failures.retry,
            compared=before,
        )
        yield path, night


def _audio_uri(store: Store, extension: str, text_id: str) -> str:
    return store.uri(audio_key(text_id, extension))


def _content_of(recording: Recording) -> str:
    """Every text gets a file of its own, also one that says what another one says."""
    return recording.uri


def _run_spec(
    config: SynthesizeConfig, checkpoint: "SpeechCheckpoint", plan_path: Path, night: "Night"
) -> "RunSpec":
    from nightscribe.cluster.speech_stages import speech_stages
    from nightscribe.runs.attempt import RunSpec

    rate_hz = checkpoint.config.mimi.sample_rate_hz
    load = partial(load_speaker, config, rate_hz)
    return RunSpec(
        plan=plan_path,
        settings=_settings(config, checkpoint),
        config_text=OmegaConf.to_yaml(OmegaConf.structured(config)),
        stages=speech_stages(load, config.format, config.output, config.s3),
        examine=unexamined,
        cluster=config.cluster,
        intervals=config.intervals,
        lease=config.lease,
        night=night,
    )


def load_speaker(config: SynthesizeConfig, rate_hz: int) -> "FileSpeaker":
    """On a worker."""
    from nightscribe.speech.file_speaker import FileSpeaker

    read_audio = partial(read_voice, config.decode, rate_hz)
    store = open_store(config.output, config.s3)
    return FileSpeaker.load(config.tts, config.speech, read_audio, store)


def unexamined(transcript: Transcript) -> Transcript:
    """The guards judge what was heard; here it was written."""
    return transcript


JOB = Job(name="synthesize", config=SynthesizeConfig, run=synthesize)
