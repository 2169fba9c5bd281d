"""Stage C: train the language model and the codec's transformer together, convolutions frozen.

    python -m ops.tiny.joint SHARDS WORK --model models/tiny --phones SPEECH --seconds 3600
    python -m ops.tiny.joint SHARDS WORK --model models/tiny --phones SPEECH --seconds 900 --cool

Goes on from WORK/joint-state.safetensors where that is there, else from the model, and writes it
every few minutes. `--cool` lets the learning rate fall to nothing and leaves the state as it was:
a branch to measure or to ship. Writes the average of the weights as a checkpoint, WORK/joint or
WORK/cooled.

Codes pass no gradient. So the linear map of the latents that is nearest to the code embeddings is
added to the sum of their rows, with value zero and with its gradient. The codebooks do not change.

B windows, T positions, F frames, P = F + 1 steps, D width, K codebooks, V entries, W their width.
"""

import argparse
import json
import sys
import time
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
from nightscribe.training.export import export_checkpoint, int8_rows
from nightscribe.training.train_state import head_loss
from ops.tiny.clock import wait_while_paused
from ops.tiny.corpus import read_phones
from ops.tiny.crops import CropLoader, Crops
from ops.tiny.precision import autocast
from ops.tiny.progress import Progress
from ops.tiny.sizes import CONFIG, MIMI
from ops.tiny.targets import StoredTensors
from ops.tiny.teacher import Teacher

WINDOWS_PER_STEP, CROP_FRAMES = 24, 128
LANGUAGE_RATE, CODEC_RATE, HEADS_RATE = 6e-4, 3e-4, 2e-3
WARMUP_STEPS, SAVED_EVERY_S = 60, 240
TASK_WEIGHT, COMMITMENT_WEIGHT, HEADS_WEIGHT = 0.15, 0.05, 0.025
DROPOUT, MAX_SPOILT_CODES = 0.2, 0.1


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
        teacher.quantizer.is_quantizing = True
        teacher.quantizer.eval()  # codebooks stay
        self.requires_grad_(True)
        model.mimi.seanet.requires_grad_(False)
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

    def loss(self, crops: Crops) -> tuple[Tensor, Tensor]:
        """What is minimised, and the nats of a token that is no padding."""
        with autocast():
            logits, answered, decoded, commitment = self(crops.convolved_BTD, crops.text_BP)
            task = self.teacher.nats(decoded, crops.phones_BFP, crops.words_BF)
        nats = F.cross_entropy(logits.float().mT, crops.written_BP, reduction="none")
        is_padding = crops.written_BP == CONFIG.language_model.padding_id
        weights = torch.where(is_padding, 0.5, 1.0)
        loss = (
            (nats * weights).sum() / weights.sum()
            + HEADS_WEIGHT * head_loss(answered, crops.answers_BPH)
            + TASK_WEIGHT * task
            + COMMITMENT_WEIGHT * commitment
        )
        return loss, nats.detach()[~is_padding].mean()

    def groups(self) -> list[dict]:
        """Parameters by how fast they learn: the language model, the codec, the heads."""
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        language = [p for n, p in named if n.startswith("language_model.")]
        codec = [p for n, p in named if n.startswith("teacher.mimi.")]
        heads = [p for n, p in named if not n.startswith(("language_model.", "teacher.mimi."))]
        rates = (LANGUAGE_RATE, CODEC_RATE, HEADS_RATE)
        return [
            {"params": some, "full_lr": rate}
            for some, rate in zip((language, codec, heads), rates, strict=True)
        ]


class Training:
    """The model that learns, from where and how far it has come."""

    def __init__(self, shards: Path, folder: Path, phones: list[str], words: list[str]) -> None:
        torch.manual_seed(0)
        checkpoint = open_checkpoint(str(folder))
        assert isinstance(checkpoint.tokenizer, SentencePieceTokenizer)
        self.tokenizer = checkpoint.tokenizer
        tensors = (checkpoint.mimi_tensors(), checkpoint.language_model_tensors())
        self.model = SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.float32)
        names = StoredTensors(phones), StoredTensors(words)
        self.joint = Joint(self.model, Teacher(len(names[0]), len(names[1])))
        self.optimizer = torch.optim.AdamW(self.joint.groups(), betas=(0.9, 0.98))
        self.progress = Progress(self.joint, self.optimizer)
        self.loader = CropLoader(shards, self.tokenizer.encode, *names)

    def step(self, share: float) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["full_lr"]
        if self.progress.step % 50 == 0:
            self.joint.learn_maps()
            self.loader.refresh()
        rng = np.random.default_rng(self.progress.step)
        torch.manual_seed(self.progress.step)
        loss, nats = self.joint.loss(self.loader.draw(WINDOWS_PER_STEP, CROP_FRAMES, rng))
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.progress.average()
        return loss.item(), nats.item()

    def run(self, seconds: float, is_cooling: bool, state: Path) -> None:
        started = saved = time.monotonic()
        first = self.progress.step
        self.joint.learn_maps()
        self.loader.refresh()
        while (gone := (time.monotonic() - started) / seconds) < 1:
            wait_while_paused()
            warmth = min(1.0, (self.progress.step - first + 1) / WARMUP_STEPS)
            loss, nats = self.step(1 - gone if is_cooling else warmth)
            if self.progress.step % 10 == 0:
                _tell(step=self.progress.step, loss=loss, nats=nats, seconds=gone * seconds)
            if not is_cooling and time.monotonic() - saved > SAVED_EVERY_S:
                self.progress.save(state)
                saved = time.monotonic()
        if not is_cooling:
            self.progress.save(state)

    def export(self, folder: Path) -> None:
        """The average as a checkpoint; what learns stays as it is."""
        with self.progress.averaged():
            export_checkpoint(
                folder,
                CONFIG,
                int8_rows(read(self.model.language_model.native_tensors())),
                read(self.model.mimi.native_tensors()),
                self.tokenizer.serialized(),
                mimi_dtype=torch.bfloat16,
            )


def _tell(**values: float) -> None:
    sys.stdout.write(json.dumps({n: round(v, 4) for n, v in values.items()}) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.joint")
    parser.add_argument("shards", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--phones", type=Path, required=True, help="corpus that has all phones")
    parser.add_argument("--vocabulary", type=Path, default=Path("models/tiny/vocabulary.txt"))
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--cool", action="store_true")
    arguments = parser.parse_args()
    words = arguments.vocabulary.read_text(encoding="utf-8").split()
    training = Training(arguments.shards, arguments.model, read_phones(arguments.phones), words)
    state = arguments.work / "joint-state.safetensors"
    if state.exists():
        training.progress.load(state)
    arguments.work.mkdir(parents=True, exist_ok=True)
    training.run(arguments.seconds, arguments.cool, state)
    training.export(arguments.work / ("cooled" if arguments.cool else "joint"))


if __name__ == "__main__":
    main()
