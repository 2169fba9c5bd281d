"""`nightscribe train MANIFEST`: fine-tune a model."""

from collections.abc import Callable
from dataclasses import dataclass
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
from nightscribe.options import group, option
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Fine-tune a model, or train one from scratch, on recordings with reference transcripts."""

    manifest: str = option(
        MISSING, "JSON lines with audio, text and, where known, words with their times"
    )
    output: str = option(MISSING, "folder for the state of the training and the trained model")
    development: str | None = option(None, "manifest of recordings to evaluate on")
    vocabulary: str | None = option(None, "file with text pieces to add, one per line")
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "model to start from")
    schedule: CourseConfig = group(CourseConfig, "length of the training and its intervals")
    optimizer: LearningConfig = group(LearningConfig, "AdamW, learning rate and loss weights")
    adapter: AdapterConfig = group(AdapterConfig, "low-rank adapters (LoRA)")
    windows: WindowConfig = group(WindowConfig, "how utterances are joined into windows")
    augmentation: AugmentationConfig = group(
        AugmentationConfig, "random reverberation, band limits and noise"
    )
    corruption: CorruptionConfig = group(
        CorruptionConfig, "random replacement of text tokens that the model reads"
    )
    decode: DecodeConfig = group(DecodeConfig, "ffmpeg limits")
    workers: WorkersConfig = group(WorkersConfig, "data-parallel training processes")


def train(config: TrainConfig) -> int:
    Path(config.output).mkdir(parents=True, exist_ok=True)
    if config.workers.num_workers == 1:
        learn(config, Worker(0, _device(config.device)))
    else:
        train_on_workers(learn, config, config.workers, str(Path(config.output).resolve()))
    console(soft_wrap=True).print(f"trained model: {Path(config.output) / MODEL_FOLDER}")
    return 0


def learn(config: TrainConfig, worker: Worker) -> None:
    """The work of one training process, from opening the model to writing it."""
    torch.manual_seed(config.schedule.seed)
    folder, student = Path(config.output), _student(config, worker.device)
    agree = alone if config.workers.num_workers == 1 else average_gradients
    learner = Learner(
        student.model.language_model, config.optimizer, config.schedule.num_steps, agree
    )
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
        course=config.schedule,
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
            raise ValueError(f"{path} cannot be used for training: {outcome.detail}")
        return samples_N

    return decode


def _device(name: str) -> torch.device:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(automatic if name == "auto" else name)


def _tell(line: dict[str, Any]) -> None:
    shown = "  ".join(f"{name} {value}" for name, value in line.items())
    console(soft_wrap=True).print(shown)


JOB = Job(name="train", config=TrainConfig, run=train, positional=("manifest",))
