"""Stage A: train the codec without its convolutions to classify phones and words from log-mel.

    python -m ops.tiny.teacher POOL WORK --seconds 1800

The quantizer is switched on after a third of the time: codebooks that follow untrained vectors do
not recover.

B windows, N samples, T positions, F frames, D width, P phone places.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.mimi import Mimi
from ops.tiny.clock import timed_steps
from ops.tiny.log_mel import Projection
from ops.tiny.pool import SOUND_FILE
from ops.tiny.precision import autocast
from ops.tiny.quantizing import TrainableQuantizer
from ops.tiny.sizes import MIMI
from ops.tiny.targets import NUM_PLACES, pool_targets

QUANTIZE_AFTER = 0.35
LEARNING_RATE = 2e-3
WINDOWS_PER_STEP = 16
WORD_WEIGHT, COMMITMENT_WEIGHT, SPREAD_WEIGHT = 0.5, 0.15, 0.1
FEATURES_FILE, PROJECTION_FILE = "features.npy", "projection.safetensors"
TEACHER_FILE = "teacher.safetensors"


class Teacher(nn.Module):
    """A codec whose convolutions are not used, its quantizer in training, and two heads."""

    def __init__(self, num_phones: int, num_words: int) -> None:
        super().__init__()
        self.mimi = Mimi(MIMI)
        for layer in self.mimi.transformer.layers:
            for scale in (layer.attention_scale, layer.feed_forward_scale):
                nn.init.constant_(scale.factors_D, 0.3)
        self.quantizer = TrainableQuantizer(self.mimi.quantizer, MIMI.dim)
        self.phone_head = nn.Linear(MIMI.dim, NUM_PLACES * num_phones)
        self.word_head = nn.Linear(MIMI.dim, num_words)

    def latents(self, features_BTD: Tensor) -> Tensor:
        """What the quantizer gets, given what the convolutions would have said."""
        heard_BDT = self.mimi.transformer(features_BTD).mT
        past = heard_BDT[..., :1].expand(-1, -1, self.mimi.downsample.num_past).clone()
        return self.mimi.downsample(heard_BDT, past).mT

    def nats(self, decoded_BFD: Tensor, phones_BFP: Tensor, words_BF: Tensor) -> Tensor:
        """What the right phones and words cost."""
        phones = self.phone_head(decoded_BFD).unflatten(-1, (NUM_PLACES, -1)).float()
        words = self.word_head(decoded_BFD).float()
        return F.cross_entropy(phones.flatten(0, 2), phones_BFP.flatten()) + (
            WORD_WEIGHT * F.cross_entropy(words.flatten(0, 1), words_BF.flatten())
        )

    def loss(self, latents_BFD: Tensor, phones_BFP: Tensor, words_BF: Tensor) -> Tensor:
        quantized = self.quantizer(latents_BFD.float())
        return (
            self.nats(quantized.decoded_BFD, phones_BFP, words_BF)
            + COMMITMENT_WEIGHT * quantized.commitment
            + SPREAD_WEIGHT * quantized.spread
        )

    def accuracy(self, latents_BFD: Tensor, phones_BFP: Tensor) -> float:
        """The share of places with a phone where the quantized latents tell it."""
        phones = self.phone_head(self.quantizer(latents_BFD.float()).decoded_BFD)
        guesses_BFP = phones.unflatten(-1, (NUM_PLACES, -1)).argmax(dim=-1)
        is_phone_BFP = phones_BFP > 0
        return (guesses_BFP == phones_BFP)[is_phone_BFP].float().mean().item()


def write_features(pool: Path) -> np.ndarray:
    """The features of every window, written once: training reads them many times."""
    path = pool / FEATURES_FILE
    if path.exists():
        return np.load(path, mmap_mode="r")
    sound_WN = np.load(pool / SOUND_FILE, mmap_mode="r")
    projection = _projection(pool, sound_WN)
    num_positions = sound_WN.shape[1] // MIMI.hop_samples
    shape = (len(sound_WN), num_positions, MIMI.dim)
    partial = path.with_suffix(".partial")
    features_WTD = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for first in range(0, len(sound_WN), 32):
        samples_BN = _floats(sound_WN[first : first + 32])
        features_WTD[first : first + 32] = projection(samples_BN).numpy()
    features_WTD.flush()
    partial.rename(path)
    return np.load(path, mmap_mode="r")


def _projection(pool: Path, sound_WN: np.ndarray) -> Projection:
    path = pool / PROJECTION_FILE
    if not path.exists():
        Projection.fit(_floats(sound_WN[:150]), MIMI.dim).save(path)
    return Projection.load(path)


def _floats(sound_BN: np.ndarray) -> Tensor:
    return torch.from_numpy(sound_BN.astype(np.float32) / 32768)


def train(pool: Path, work: Path, seconds: float) -> None:
    torch.manual_seed(0)
    features_WTD = write_features(pool)
    num_frames = features_WTD.shape[1] // MIMI.positions_per_frame
    phones_WFP, words_WF, num_phones, num_words = pool_targets(pool, num_frames)
    teacher, rng = Teacher(num_phones, num_words), np.random.default_rng(0)
    parameters = [p for n, p in teacher.named_parameters() if not n.startswith("mimi.seanet")]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.02)
    for step, (gone, learning_rate) in enumerate(timed_steps(seconds, LEARNING_RATE)):
        if gone > QUANTIZE_AFTER and not teacher.quantizer.is_quantizing:
            with torch.no_grad():
                some = torch.from_numpy(features_WTD[:128].astype(np.float32))
                teacher.quantizer.start(torch.cat([teacher.latents(s) for s in some.split(16)]))
        optimizer.param_groups[0]["lr"] = learning_rate
        windows = np.sort(rng.choice(len(features_WTD), WINDOWS_PER_STEP))
        features_BTD = _roughened(torch.from_numpy(features_WTD[windows].astype(np.float32)), rng)
        phones_BFP, words_BF = (torch.from_numpy(t[windows]) for t in (phones_WFP, words_WF))
        with autocast():
            latents_BFD = teacher.latents(features_BTD)
            loss = teacher.loss(latents_BFD, phones_BFP, words_BF)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 50 == 0:
            accuracy = teacher.accuracy(latents_BFD, phones_BFP)
            sys.stdout.write(f"step {step}  loss {loss.item():.3f}  phones {accuracy:.3f}\n")
    work.mkdir(parents=True, exist_ok=True)
    save_file(dict(teacher.state_dict()), work / TEACHER_FILE)


def _roughened(features_BTD: Tensor, rng: np.random.Generator) -> Tensor:
    """A little noise, and gaps of up to 160 ms."""
    rough_BTD = features_BTD + 0.05 * torch.randn_like(features_BTD)
    for row_TD in rough_BTD:
        for start in rng.integers(0, len(row_TD) - 4, rng.integers(0, 4)):
            row_TD[start : start + rng.integers(1, 5)] = 0
    return rough_BTD


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.teacher")
    parser.add_argument("pool", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=1800)
    arguments = parser.parse_args()
    train(arguments.pool, arguments.work, arguments.seconds)


if __name__ == "__main__":
    main()
