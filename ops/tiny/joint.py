"""Stage C: train the language model and the codec's transformer together, convolutions frozen.

    python -m ops.tiny.joint POOL WORK --model trained/model --seconds 3600

Codes pass no gradient. So the linear map of the latents that is nearest to the code embeddings is
added to the sum of their rows, with value zero and with its gradient. The codebooks do not change.
Writes the final checkpoint to WORK/joint.

B windows, T positions, F frames, P = F + 1 steps, D width, K codebooks, V entries, W their width.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.mimi import ResidualCodebooks
from nightscribe.model.native_tensors import read
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.model.tokenizer import SentencePieceTokenizer
from nightscribe.training.batches import CorruptionConfig, corrupted
from nightscribe.training.export import export_checkpoint, int8_rows
from nightscribe.training.targets import (
    TextLayout,
    TimedTokens,
    delayed_text,
    speech_classes,
    text_inputs,
)
from nightscribe.training.train_state import head_loss
from ops.tiny.clock import timed_steps
from ops.tiny.codec import load_teacher
from ops.tiny.pool import LABEL_FILE, SOUND_FILE
from ops.tiny.sizes import CONFIG, DELAY_FRAMES, MIMI
from ops.tiny.targets import pool_targets
from ops.tiny.teacher import Teacher

CONVOLVED_FILE = "convolved.npy"
WINDOWS_PER_STEP, CROP_FRAMES = 48, 160
LANGUAGE_RATE, CODEC_SHARE = 8e-4, 0.5
TASK_WEIGHT, COMMITMENT_WEIGHT, HEADS_WEIGHT = 0.15, 0.05, 0.025
DROPOUT, MAX_SPOILT_CODES, AVERAGING = 0.2, 0.1, 0.997


def write_convolved(pool: Path, model: SpeechToText) -> np.ndarray:
    """What the frozen convolutions say of every window, written once."""
    path = pool / CONVOLVED_FILE
    if path.exists():
        return np.load(path, mmap_mode="r")
    sound_WN, partial = np.load(pool / SOUND_FILE, mmap_mode="r"), path.with_suffix(".partial")
    shape = (len(sound_WN), sound_WN.shape[1] // MIMI.hop_samples, MIMI.dim)
    convolved_WTD = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    with torch.inference_mode():
        for index, samples_N in enumerate(sound_WN):
            samples_BN = torch.from_numpy(samples_N.astype(np.float32) / 32768)[None]
            convolved_WTD[index] = model.mimi.seanet(samples_BN)[0].mT.numpy()
    convolved_WTD.flush()
    partial.rename(path)
    return np.load(path, mmap_mode="r")


def nearest_map(branch: ResidualCodebooks, rows_KVD: Tensor) -> Tensor:
    """The linear map from codewords that comes nearest to the rows of their codes: WD."""
    entries = branch.codebooks_KVW.flatten(0, 1)
    centred = (rows_KVD - rows_KVD.mean(dim=1, keepdim=True)).flatten(0, 1)
    ridge = 0.01 * len(entries) * entries.var() * torch.eye(entries.shape[1])
    return torch.linalg.solve(entries.T @ entries + ridge, entries.T @ centred)


class Joint(nn.Module):
    """Latents of the codec to text, with gradients all the way."""

    def __init__(self, model: SpeechToText, teacher: Teacher) -> None:
        super().__init__()
        self.language_model, self.teacher = model.language_model, teacher
        teacher.mimi = model.mimi
        quantizer = model.mimi.quantizer
        teacher.quantizer.branches = [quantizer.semantic, quantizer.acoustic]
        teacher.quantizer.eval()  # codebooks stay
        self.learn_maps()

    @torch.no_grad()
    def learn_maps(self) -> None:
        """Follow the language model's rows, which learn too."""
        tables = self.language_model.embedding.native_tensors()
        rows = [tables[f"emb.{k}.weight"].read()[:-1] for k in range(MIMI.num_codebooks)]
        semantic, acoustic = self.teacher.quantizer.branches
        self.maps = [
            nearest_map(semantic, torch.stack(rows[:1])),
            nearest_map(acoustic, torch.stack(rows[1:])),
        ]

    def forward(
        self, convolved_BTD: Tensor, text_BP: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Logits of text, answers of the heads, what the codec tells, and its commitment."""
        latents_BFD = self.teacher.latents(convolved_BTD).float()
        quantized = self.teacher.quantizer(latents_BFD)
        codes_BPK = self._from_nothing(self._spoilt(self.teacher.mimi.quantizer(latents_BFD)))
        x_BPD = self.language_model.embed(codes_BPK, text_BP) + self._way_back(latents_BFD)
        predicted = self.language_model.predict(
            self.language_model.transformer(F.dropout(x_BPD, DROPOUT))
        )
        return predicted.logits_STV, predicted.vad_STHA, quantized.decoded_BFD, quantized.commitment

    def _way_back(self, latents_BFD: Tensor) -> Tensor:
        """Zero, with the gradient of the maps."""
        branches = zip(self.teacher.quantizer.branches, self.maps, strict=True)
        mapped_BFD = sum(branch.project_in(latents_BFD) @ linear for branch, linear in branches)
        return F.pad(mapped_BFD - mapped_BFD.detach(), (0, 0, 1, 0))

    def _spoilt(self, codes_BFK: Tensor) -> Tensor:
        """Some codes are replaced, in some windows."""
        rates = MAX_SPOILT_CODES * torch.rand(len(codes_BFK), 1, 1)
        others = torch.randint_like(codes_BFK, MIMI.codebook_size)
        return torch.where(torch.rand(codes_BFK.shape) < rates, others, codes_BFK)

    def _from_nothing(self, codes_BFK: Tensor) -> Tensor:
        return F.pad(codes_BFK, (0, 0, 1, 0), value=MIMI.codebook_size)


class CropLoader:
    """Crops of the pool's windows and all that is to be learnt of them."""

    def __init__(self, pool: Path, convolved_WTD: np.ndarray, encode) -> None:
        self.convolved_WTD = convolved_WTD
        self.num_frames = convolved_WTD.shape[1] // MIMI.positions_per_frame
        self.phones_WFP, self.words_WF, *_ = pool_targets(pool, self.num_frames)
        rows = [json.loads(line) for line in (pool / LABEL_FILE).read_text().splitlines()]
        self.words = [[TimedTokens(tuple(encode(t)), s, e) for t, s, e in r["words"]] for r in rows]
        self.layout = TextLayout.of(CONFIG)

    def draw(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Heard, text heard and written, answers, phones, words; one after the other."""
        windows = rng.integers(0, len(self.words), WINDOWS_PER_STEP)
        crops = [(w, int(rng.integers(self.num_frames - CROP_FRAMES + 1))) for w in windows]
        texts = [self._text(window, first) for window, first in crops]
        text_inputs_BP = np.stack([text_inputs(tokens, self.layout) for tokens in texts])
        yield self._cut(self.convolved_WTD, crops, MIMI.positions_per_frame).float()
        silent = (self.layout.padding_id, self.layout.end_of_padding_id)
        others = np.arange(4, CONFIG.language_model.text_card)
        yield torch.from_numpy(corrupted(text_inputs_BP, silent, others, rng, CorruptionConfig()))
        yield torch.from_numpy(np.stack(texts))
        yield torch.from_numpy(np.stack([self._answers(*crop) for crop in crops]))
        yield self._cut(self.phones_WFP, crops, 1)
        yield self._cut(self.words_WF, crops, 1)

    def _text(self, window: int, first: int) -> np.ndarray:
        """The text of a crop: words that began before it are not asked for."""
        whole = delayed_text(self.words[window], self.num_frames, self.layout)
        text = whole[first : first + CROP_FRAMES + 1].copy()
        if first:
            due = DELAY_FRAMES - 1
            text[:due] = self.layout.padding_id
            if text[due] != self.layout.end_of_padding_id:
                text[due] = self.layout.padding_id
        return text

    def _answers(self, window: int, first: int) -> np.ndarray:
        positions_s = (first + np.arange(CROP_FRAMES + 1)) / MIMI.frame_rate_hz
        return speech_classes(self.words[window], positions_s, CONFIG.language_model.vad_head_dim)

    def _cut(self, rows: np.ndarray, crops: list[tuple[int, int]], per_frame: int) -> Tensor:
        cut = [rows[w, per_frame * f : per_frame * (f + CROP_FRAMES)] for w, f in crops]
        return torch.from_numpy(np.stack(cut))


def train(pool: Path, work: Path, folder: Path, seconds: float) -> None:
    torch.manual_seed(0)
    checkpoint = open_checkpoint(str(folder))
    assert isinstance(checkpoint.tokenizer, SentencePieceTokenizer)
    tensors = (checkpoint.mimi_tensors(), checkpoint.language_model_tensors())
    model = SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.float32)
    loader = CropLoader(pool, write_convolved(pool, model), checkpoint.tokenizer.encode)
    teacher = load_teacher(work, *pool_targets(pool, 1)[2:])
    joint = Joint(model, teacher).requires_grad_(True)
    model.mimi.seanet.requires_grad_(False)
    language = list(model.language_model.parameters())
    known = {id(parameter) for parameter in language}
    codec = [p for p in joint.parameters() if p.requires_grad and id(p) not in known]
    optimizer = torch.optim.AdamW([{"params": codec}, {"params": language}], betas=(0.9, 0.98))
    averages = {name: p.detach().clone() for name, p in joint.named_parameters()}
    rng = np.random.default_rng(0)
    for step, (_, rate) in enumerate(timed_steps(seconds, LANGUAGE_RATE)):
        for group, share in zip(optimizer.param_groups, (CODEC_SHARE, 1.0), strict=True):
            group["lr"] = share * rate
        if step % 50 == 0:
            joint.learn_maps()
        loss = _loss(joint, *loader.draw(rng))
        optimizer.zero_grad()
        loss.backward()
        for parameters in (codec, language):
            nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        kept = min(AVERAGING, (step + 1) / (step + 11))
        for name, parameter in joint.named_parameters():
            averages[name].lerp_(parameter.detach(), 1 - kept)
        if step % 25 == 0:
            sys.stdout.write(f"step {step}  loss {loss.item():.3f}\n")
    joint.load_state_dict(averages, strict=False)
    export_checkpoint(
        work / "joint",
        CONFIG,
        int8_rows(read(model.language_model.native_tensors())),
        read(model.mimi.native_tensors()),
        checkpoint.tokenizer.serialized(),
        mimi_dtype=torch.bfloat16,
    )


def _loss(
    joint: Joint,
    convolved_BTD: Tensor,
    text_BP: Tensor,
    written_BP: Tensor,
    answers_BPH: Tensor,
    phones_BFP: Tensor,
    words_BF: Tensor,
) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits, answered, decoded, commitment = joint(convolved_BTD, text_BP)
        task = joint.teacher.nats(decoded, phones_BFP, words_BF)
    nats = F.cross_entropy(logits.mT, written_BP, reduction="none")
    weights = torch.where(written_BP == CONFIG.language_model.padding_id, 0.5, 1.0)
    return (
        (nats * weights).sum() / weights.sum()
        + HEADS_WEIGHT * head_loss(answered, answers_BPH)
        + TASK_WEIGHT * task
        + COMMITMENT_WEIGHT * commitment
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.joint")
    parser.add_argument("pool", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600)
    arguments = parser.parse_args()
    train(arguments.pool, arguments.work, arguments.model, arguments.seconds)


if __name__ == "__main__":
    main()
