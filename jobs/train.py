"""`nightscribe train MANIFEST`: teach a model a language, a trade or a room of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.cluster.training_workers import (
    Worker,
    WorkersConfig,
    average_gradients,
    train_on_workers,
)
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.training.augmentation import AugmentationConfig
from nightscribe.training.batches import BatchMaker
from nightscribe.training.dataset import Decode, samples_of, utterances_of
from nightscribe.training.evaluation import DevelopmentClip, word_error_rate
from nightscribe.training.examples import read_manifest
from nightscribe.training.learner import Learner, LearningConfig, alone
from nightscribe.training.plotting import plot_log
from nightscribe.training.student import AdapterConfig, Student, open_student
from nightscribe.training.token_corruption import CorruptionConfig
from nightscribe.training.trainer import LOG_FILE, Course, CourseConfig, Lessons
from nightscribe.training.vocabulary import read_pieces
from nightscribe.training.windows import WindowConfig, WindowSampler

MODEL_FOLDER, PLOT_FILE = "model", "training.png"


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """Train or fine-tune a model on recordings of which it is known what is said."""

    manifest: str = field(
        default=MISSING, metadata={"help": "JSON lines with audio, text and, if known, timed words"}
    )
    output: str = field(default=MISSING, metadata={"help": "folder of the training and its model"})
    development: str | None = field(
        default=None, metadata={"help": "manifest to measure on, never learnt from"}
    )
    vocabulary: str | None = field(
        default=None, metadata={"help": "file of new text pieces, one a line"}
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda, ..."})
    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(checkpoint=MISSING),
        metadata={"help": "what to begin with"},
    )
    course: CourseConfig = field(default_factory=CourseConfig, metadata={"help": "its length"})
    learning: LearningConfig = field(default_factory=LearningConfig, metadata={"help": "its pace"})
    adapter: AdapterConfig = field(
        default_factory=AdapterConfig, metadata={"help": "low-rank adapters (LoRA)"}
    )
    windows: WindowConfig = field(
        default_factory=WindowConfig, metadata={"help": "how utterances are joined"}
    )
    augmentation: AugmentationConfig = field(
        default_factory=AugmentationConfig, metadata={"help": "rooms, lines and noises"}
    )
    corruption: CorruptionConfig = field(
        default_factory=CorruptionConfig, metadata={"help": "how the heard text is spoilt"}
    )
    decode: DecodeConfig = field(
        default_factory=DecodeConfig, metadata={"help": "how ffmpeg is held"}
    )
    workers: WorkersConfig = field(
        default_factory=WorkersConfig, metadata={"help": "processes that learn together"}
    )


def train(config: TrainConfig) -> int:
    Path(config.output).mkdir(parents=True, exist_ok=True)
    if config.workers.num_workers == 1:
        learn(config, Worker(0, _device(config.device)))
    else:
        train_on_workers(learn, config, config.workers, str(Path(config.output).resolve()))
    console(soft_wrap=True).print(f"the trained model: {Path(config.output) / MODEL_FOLDER}")
    return 0


def learn(config: TrainConfig, worker: Worker) -> None:
    """What one worker does, from opening the model to writing it."""
    torch.manual_seed(config.course.seed)
    folder, student = Path(config.output), _student(config, worker.device)
    agree = alone if config.workers.num_workers == 1 else average_gradients
    learner = Learner(student.model.language_model, config.learning, config.course.num_steps, agree)
    course = Course(
        learner=learner,
        lessons=_lessons(config, student, worker),
        folder=folder,
        measure=_measure(config, student) if worker.is_first else None,
        keeps=worker.is_first,
    )
    course.run(_tell)
    if worker.is_first:
        student.write(folder / MODEL_FOLDER, learner)
        plot_log(folder / LOG_FILE, folder / PLOT_FILE)


def _student(config: TrainConfig, device: torch.device) -> Student:
    checkpoint = open_model(config.model)
    pieces = read_pieces(Path(config.vocabulary)) if config.vocabulary else []
    return open_student(checkpoint, pieces, config.adapter, device)


def _lessons(config: TrainConfig, student: Student, worker: Worker) -> Lessons:
    model = student.model
    rate_hz = model.config.mimi.sample_rate_hz
    examples = read_manifest(Path(config.manifest))
    utterances = utterances_of(examples, _decoder(config, rate_hz), student.tokenizer, model)
    maker = BatchMaker(
        config=model.config,
        mimi=model.mimi,
        corruption=config.corruption,
        prefixes=_prefixes(config, student),
    )
    return Lessons(
        sampler=WindowSampler(utterances, rate_hz, config.windows),
        augmentation=config.augmentation,
        maker=maker,
        course=config.course,
        rank=worker.rank,
    )


def _measure(config: TrainConfig, student: Student) -> Callable[[], float] | None:
    if config.development is None:
        return None
    examples, prefixes = read_manifest(Path(config.development)), _prefixes(config, student)
    rate_hz = student.model.config.mimi.sample_rate_hz
    sounds = samples_of(examples, _decoder(config, rate_hz), rate_hz)
    clips = [
        DevelopmentClip(samples_N, example.text, prefixes.get(example.domain or "", ()))
        for example, samples_N in zip(examples, sounds, strict=True)
    ]
    return lambda: word_error_rate(student.model, student.tokenizer, clips)


def _prefixes(config: TrainConfig, student: Student) -> dict[str, tuple[int, ...]]:
    padding_id = student.model.config.language_model.padding_id
    return {name: domain.first_tokens(padding_id) for name, domain in config.model.domains.items()}


def _decoder(config: TrainConfig, rate_hz: int) -> Decode:
    def decode(path: Path) -> np.ndarray:
        samples_N, outcome = read_waveform(path, config.decode, rate_hz)
        if outcome.status != "ok":
            raise ValueError(f"{path} cannot be learnt from: {outcome.detail}")
        return samples_N

    return decode


def _device(name: str) -> torch.device:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if name == "auto" else name)


def _tell(line: dict[str, Any]) -> None:
    shown = "  ".join(f"{name} {value}" for name, value in line.items())
    console(soft_wrap=True).print(shown)


JOB = Job(name="train", config=TrainConfig, run=train, positional=("manifest",))
