"""`nightscribe train MANIFEST`: fine-tune a model."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
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
from nightscribe.jobs import INTERRUPTED
from nightscribe.jobs.shell.config import Job
from nightscribe.jobs.shell.terminal import console, stopped_by_signals
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_model
from nightscribe.options import group, option
from nightscribe.training.augmentation import AugmentationConfig
from nightscribe.training.batches import BatchMaker, CorruptionConfig
from nightscribe.training.dataset import Decode, read_manifest, samples_of, utterances_of
from nightscribe.training.evaluation import EvaluationClip, word_error_rate
from nightscribe.training.lora import AdapterConfig
from nightscribe.training.plotting import plot_log
from nightscribe.training.train_state import OptimizerConfig, TrainState, no_sync
from nightscribe.training.trainable_model import TrainableModel, open_trainable
from nightscribe.training.trainer import LOG_FILE, DataLoader, ScheduleConfig, Trainer
from nightscribe.training.vocabulary import read_pieces
from nightscribe.training.windows import WindowConfig, WindowSampler

MODEL_FOLDER, PLOT_FILE = "model", "training.png"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Fine-tune a model, or train one from scratch, on recordings with reference transcripts."""

    manifest: str = option(
        MISSING, "JSON lines, CSV or Parquet with audio, text and, where known, timed words"
    )
    output: str = option(MISSING, "folder for the state of the training and the trained model")
    development: str | None = option(None, "manifest of recordings to evaluate on")
    vocabulary: str | None = option(None, "file with text pieces to add, one per line")
    max_skipped_share: float = option(
        0.2, "stop when more of the examples than this do not match their text", minimum=0
    )
    device: str = option("auto", "auto, cpu, cuda, cuda:1, ...")
    model: ModelConfig = group(lambda: ModelConfig(checkpoint=MISSING), "model to start from")
    schedule: ScheduleConfig = group(ScheduleConfig, "length of the training and its intervals")
    optimizer: OptimizerConfig = group(OptimizerConfig, "AdamW, learning rate and loss weights")
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
    import_module("matplotlib")  # a missing one is told now, not when the plot is drawn at the end
    Path(config.output).mkdir(parents=True, exist_ok=True)
    if config.workers.num_workers == 1:
        with stopped_by_signals() as stop:
            train_worker(config, Worker(0, _device(config.device)), stop)
        if stop.is_set():
            console(stderr=True).print("the state is saved; run the same command to resume")
            return INTERRUPTED
    else:
        train_on_workers(train_worker, config, config.workers, str(Path(config.output).resolve()))
    console(soft_wrap=True).print(f"trained model: {Path(config.output) / MODEL_FOLDER}")
    return 0


def train_worker(config: TrainConfig, worker: Worker, stop: threading.Event | None = None) -> None:
    """The work of one training process, from opening the model to writing it."""
    torch.manual_seed(config.schedule.seed)
    folder, trainable = Path(config.output), _trainable(config, worker.device)
    sync = no_sync if config.workers.num_workers == 1 else average_gradients
    state = TrainState(
        trainable.model.language_model, config.optimizer, config.schedule.num_steps, sync
    )
    trainer = Trainer(
        state=state,
        loader=_loader(config, trainable, worker),
        folder=folder,
        evaluate=_evaluator(config, trainable) if worker.is_first else None,
        writes_files=worker.is_first,
    )
    stop = stop or threading.Event()
    trainer.run(_print, stop)
    if worker.is_first and not stop.is_set():
        trainable.write(folder / MODEL_FOLDER, state)
        plot_log(folder / LOG_FILE, folder / PLOT_FILE)


def _trainable(config: TrainConfig, device: torch.device) -> TrainableModel:
    checkpoint = open_model(config.model)
    pieces = read_pieces(Path(config.vocabulary)) if config.vocabulary else []
    return open_trainable(checkpoint, pieces, config.adapter, device)


def _loader(config: TrainConfig, trainable: TrainableModel, worker: Worker) -> DataLoader:
    model = trainable.model
    rate_hz = model.config.mimi.sample_rate_hz
    examples = read_manifest(Path(config.manifest))
    utterances = utterances_of(
        examples, _decoder(config, rate_hz), trainable.tokenizer, model, config.max_skipped_share
    )
    maker = BatchMaker(
        config=model.config,
        mimi=model.mimi,
        corruption=config.corruption,
        prefixes=_prefixes(config, trainable),
    )
    return DataLoader(
        sampler=WindowSampler(utterances, rate_hz, config.windows),
        augmentation=config.augmentation,
        maker=maker,
        schedule=config.schedule,
        rank=worker.rank,
    )


def _evaluator(config: TrainConfig, trainable: TrainableModel) -> Callable[[], float] | None:
    if config.development is None:
        return None
    examples, prefixes = read_manifest(Path(config.development)), _prefixes(config, trainable)
    rate_hz = trainable.model.config.mimi.sample_rate_hz
    waveforms = samples_of(examples, _decoder(config, rate_hz), rate_hz)
    clips = [
        EvaluationClip(samples_N, example.text, prefixes.get(example.domain or "", ()))
        for example, samples_N in zip(examples, waveforms, strict=True)
    ]
    return lambda: word_error_rate(trainable.model, trainable.tokenizer, clips)


def _prefixes(config: TrainConfig, trainable: TrainableModel) -> dict[str, tuple[int, ...]]:
    padding_id = trainable.model.config.language_model.padding_id
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


def _print(line: dict[str, Any]) -> None:
    shown = "  ".join(f"{name} {value}" for name, value in line.items())
    console(soft_wrap=True).print(shown)


JOB = Job(name="train", config=TrainConfig, run=train, positional=("manifest",))
