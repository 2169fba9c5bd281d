"""Stage B: train the codec's convolutions to replace the log-mel features.

    python -m ops.tiny.codec POOL WORK --seconds 3600

They first imitate the features, then the teacher's latents; in the last part the whole codec is
trained. The codebooks are frozen from the beginning, so a language model can be trained on the
teacher's codes at the same time. Writes the codec with an untrained language model as a checkpoint,
which `nightscribe train` continues from.

B windows, N samples, T positions, D width.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.language_model import LanguageModel
from nightscribe.model.native_tensors import read
from nightscribe.model.seanet import SEANet
from nightscribe.training.export import export_checkpoint
from ops.tiny.clock import timed_steps
from ops.tiny.log_mel import Projection
from ops.tiny.pool import SOUND_FILE
from ops.tiny.precision import autocast
from ops.tiny.sizes import CONFIG, MIMI
from ops.tiny.targets import pool_targets
from ops.tiny.teacher import PROJECTION_FILE, TEACHER_FILE, Teacher, write_features
from ops.tiny.tokenizer import word_tokenizer

LEARNING_RATE = 1e-3
WINDOWS_PER_STEP = 3
IMITATE_UNTIL, ALONE_UNTIL = 0.35, 0.7
FEATURE_WEIGHT, TASK_WEIGHT, COMMITMENT_WEIGHT = 0.3, 0.3, 0.03
FIRST_GAIN = 8.0  # speech is far quieter than full scale


@torch.no_grad()
def start(seanet: SEANet, samples_BN: Tensor) -> None:
    """Give every convolution an output of unit variance: without norms, sound would fade away."""
    x_BIN = _unit(seanet.stem, FIRST_GAIN * samples_BN[:, None])
    for stage in seanet.stages:
        for residual in stage.residuals:
            narrowed = _unit(residual.narrow, F.elu(x_BIN))
            x_BIN = x_BIN + _unit(residual.widen, F.elu(narrowed), 0.5)
        x_BIN = _unit(stage.downsample, F.elu(x_BIN))
    _unit(seanet.head, F.elu(x_BIN))
    seanet.stem.conv.weight.mul_(FIRST_GAIN)


def _unit(convolution: nn.Module, x_BIN: Tensor, deviation: float = 1.0) -> Tensor:
    weight = convolution.conv.weight
    nn.init.orthogonal_(weight.view(len(weight), -1))
    convolution.conv.bias.zero_()
    weight.mul_(deviation / convolution(x_BIN).std())
    return convolution(x_BIN)


def distance(convolved: Tensor, wanted: Tensor) -> Tensor:
    """Squared, as a share of the squared length of what is wanted."""
    return (convolved - wanted).square().mean() / wanted.square().mean()


class Distillation:
    """A codec that learns, the teacher it learns from, and how far apart they are."""

    def __init__(self, teacher: Teacher, student: Teacher, importance_D: Tensor) -> None:
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = student
        self.importance_D = importance_D

    def features_loss(self, samples_BN: Tensor, features_BTD: Tensor) -> tuple[Tensor, Tensor]:
        convolved_BTD = self.student.mimi.seanet(samples_BN).mT
        return convolved_BTD, ((convolved_BTD - features_BTD).square() * self.importance_D).mean()

    def latents_loss(self, convolved_BTD: Tensor, features_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """The student's latents, and their distances as they are and as each branch sees them."""
        with torch.no_grad():
            wanted = self.teacher.latents(features_BTD)
        latents = self.student.latents(convolved_BTD)
        loss = distance(latents, wanted)
        for branch in self.teacher.quantizer.branches:
            loss = loss + distance(branch.project_in(latents), branch.project_in(wanted))
        return latents, loss

    def task_loss(self, latents_BFD: Tensor, phones_BFP: Tensor, words_BF: Tensor) -> Tensor:
        quantized = self.teacher.quantizer(latents_BFD.float())
        nats = self.teacher.nats(quantized.decoded_BFD, phones_BFP, words_BF)
        return TASK_WEIGHT * nats + COMMITMENT_WEIGHT * quantized.commitment


def train(pool: Path, work: Path, seconds: float, words: list[str]) -> None:
    torch.manual_seed(0)
    features_WTD, sound_WN = write_features(pool), np.load(pool / SOUND_FILE, mmap_mode="r")
    num_frames = features_WTD.shape[1] // MIMI.positions_per_frame
    phones_WFP, words_WF, num_phones, num_words = pool_targets(pool, num_frames)
    teacher, student = (load_teacher(work, num_phones, num_words) for _ in range(2))
    start(student.mimi.seanet, _floats(sound_WN[:4, : 10 * 24000]))
    projection = Projection.load(pool / PROJECTION_FILE)
    distillation = Distillation(teacher, student, projection.importance_D())
    parameters = list(student.mimi.parameters())
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    rng = np.random.default_rng(0)
    for step, (gone, learning_rate) in enumerate(timed_steps(seconds, LEARNING_RATE)):
        optimizer.param_groups[0]["lr"] = learning_rate
        for parameter in _all_but_seanet(student):
            parameter.requires_grad_(gone > ALONE_UNTIL)
        windows = np.sort(rng.choice(len(sound_WN), WINDOWS_PER_STEP))
        features_BTD = torch.from_numpy(features_WTD[windows].astype(np.float32))
        with autocast():
            convolved, features_loss = distillation.features_loss(
                _floats(sound_WN[windows]), features_BTD
            )
            loss = features_loss
            if gone > IMITATE_UNTIL:
                latents, loss = distillation.latents_loss(convolved, features_BTD)
                loss = loss + FEATURE_WEIGHT * features_loss
            if gone > ALONE_UNTIL:
                targets = (torch.from_numpy(t[windows]) for t in (phones_WFP, words_WF))
                loss = loss + distillation.task_loss(latents, *targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            sys.stdout.write(f"step {step}  loss {loss.item():.3f}\n")
    write_start(student, work / "start", words)


def _all_but_seanet(student: Teacher) -> Iterator[nn.Parameter]:
    for name, parameter in student.mimi.named_parameters():
        if not name.startswith("seanet."):
            yield parameter


def load_teacher(work: Path, num_phones: int, num_words: int) -> Teacher:
    teacher = Teacher(num_phones, num_words)
    teacher.load_state_dict(load_file(work / TEACHER_FILE))
    teacher.quantizer.is_quantizing = True
    teacher.mimi.quantizer.settle()
    return teacher


def write_start(student: Teacher, folder: Path, words: list[str]) -> None:
    """A checkpoint whose language model knows the codec's codes, and nothing else yet."""
    language_model = LanguageModel(CONFIG.language_model)
    _hear_codewords(language_model, student)
    export_checkpoint(
        folder,
        CONFIG,
        read(language_model.native_tensors()),
        read(student.mimi.native_tensors()),
        word_tokenizer(words),
        dtype=torch.float32,
    )


@torch.no_grad()
def _hear_codewords(language_model: LanguageModel, student: Teacher) -> None:
    """An embedding starts as its codeword: their sum is then the quantized latent."""
    tables = []
    for branch, decode in zip(student.quantizer.branches, student.quantizer.decoders, strict=True):
        tables += [decode(codebook_VW) for codebook_VW in branch.codebooks_KVW]
    scale = torch.stack([table.var() for table in tables]).sum().sqrt()
    native = language_model.native_tensors()
    for index, table in enumerate(tables):
        silent = torch.zeros_like(table[:1])
        native[f"emb.{index}.weight"].fill(torch.cat((table / scale, silent)))
    native["text_emb.weight"].fill(0.5 * native["text_emb.weight"].read())


def _floats(sound_BN: np.ndarray) -> Tensor:
    return torch.from_numpy(sound_BN.astype(np.float32) / 32768)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.codec")
    parser.add_argument("pool", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args()
    words = arguments.vocabulary.read_text(encoding="utf-8").split()
    train(arguments.pool, arguments.work, arguments.seconds, words)


if __name__ == "__main__":
    main()
