"""Loads a checkpoint of a published size and transcribes ten seconds with it, on a CPU.

    python -m ops.benchmarks.load_cpu 1b DIRECTORY      # or 2.6b; twice: the first call writes it

The weights are random, in the native layout: what is measured is time and memory, not words.
The second call prints one row of the table in the result files.
"""

import json
import random
import resource
import struct
import sys
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sentencepiece
import torch

from nightscribe.model.checkpoints.native_config import PUBLISHED_MIMI, language_model_config
from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.checkpoints.opened import language_model_shapes, mimi_shapes
from nightscribe.model.checkpoints.settings import Settings
from nightscribe.model.speech_to_text import SpeechToText

NUM_SAMPLES = 10 * 24_000
SIZES = {
    "1b": {
        "num_layers": 16,
        "num_heads": 16,
        "text_card": 8000,
        "context": 750,
        "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
    },
    "2.6b": {
        "num_layers": 48,
        "num_heads": 32,
        "text_card": 4000,
        "context": 375,
        "stt_config": {"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0},
    },
}
COMMON = {
    "card": 2048,
    "n_q": 32,
    "dep_q": 0,
    "delays": [0] * 33,
    "dim": 2048,
    "existing_text_padding_id": 3,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "max_period": 100000,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "conditioners": {},
    "cross_attention": False,
    "model_type": "stt",
    "mimi_name": "mimi.safetensors",
    "tokenizer_name": "tokenizer.model",
}


def write_checkpoint(size: str, directory: Path) -> None:
    """A native checkpoint of random weights."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.json"
    config.write_text(json.dumps(COMMON | SIZES[size]))
    shapes = language_model_shapes(language_model_config(Settings.read(config)))
    write_random(directory / "model.safetensors", shapes, torch.bfloat16)
    write_random(directory / "mimi.safetensors", mimi_shapes(PUBLISHED_MIMI), torch.float32)
    write_tokenizer(directory / "tokenizer.model", shapes["text_linear.weight"][0])


def write_random(path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """A safetensors file written tensor by tensor, so that it need not fit into memory."""
    header, end = {}, 0
    for name, shape in shapes.items():
        first, end = end, end + prod(shape) * dtype.itemsize
        kind = {torch.bfloat16: "BF16", torch.float32: "F32"}[dtype]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [first, end]}
    encoded = json.dumps(header).encode()
    drawn = torch.randn(1_000_003) * 0.02  # repeated: no size of a tensor divides it
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, shape in shapes.items():
            is_scale = name.endswith(("alpha", "norm1.weight", "norm2.weight", "cluster_usage"))
            values = torch.ones(1) if is_scale else drawn
            repeated = values.to(dtype).repeat(-(-prod(shape) // len(values)))[: prod(shape)]
            file.write(repeated.view(torch.uint8).numpy().data)


def write_tokenizer(path: Path, num_tokens: int) -> None:
    """Pieces of made-up words."""
    letters = random.Random(0)
    words = ["".join(letters.choices("abcdefghijklmno", k=9)) for _ in range(20_000)]
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words),
            model_writer=file,
            vocab_size=num_tokens,
            model_type="bpe",
            pad_id=3,
            minloglevel=2,
        )


class Clock(NamedTuple):
    """Elapsed time, and CPU time of this process."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> "Clock":
        return cls(time.perf_counter(), time.process_time())

    def since(self, before: "Clock") -> "Clock":
        return Clock(self.wall_s - before.wall_s, self.cpu_s - before.cpu_s)

    def per(self, count: int) -> str:
        return f"{1000 * self.wall_s / count:.0f} ({1000 * self.cpu_s / count:.0f})"


def measure(size: str, directory: Path) -> Iterator[str]:
    """Cells of one row: wall time, and CPU time in brackets."""
    start = Clock.now()
    checkpoint = open_checkpoint(str(directory))
    tensors = checkpoint.mimi_tensors(), checkpoint.language_model_tensors()
    model = SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.bfloat16)
    loaded = Clock.now()
    file_bytes = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    yield f"{size} | {file_bytes / 1e9:.2f}"
    yield f"{loaded.since(start).wall_s:.1f} ({loaded.since(start).cpu_s:.1f})"
    yield f"{peak_bytes() / 1e9:.2f} ({peak_bytes() / file_bytes:.2f} x)"
    samples_SN = np.random.default_rng(0).integers(-9000, 9000, (1, NUM_SAMPLES), np.int16)
    loaded = Clock.now()
    num_frames = sum(codes_SFK.shape[1] for codes_SFK in model.encode(samples_SN))
    encoded = Clock.now()
    output = model.transcribe(samples_SN)
    done = Clock.now()
    assert output.tokens_SF.shape == (1, num_frames)
    encoding, transcribed = encoded.since(loaded), done.since(encoded)
    yield f"{num_frames} | {encoding.per(num_frames)}"
    yield transcribed.since(encoding).per(num_frames + 1)
    yield f"{transcribed.wall_s:.1f} ({transcribed.cpu_s:.1f}) | {peak_bytes() / 1e9:.2f}"


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    size, directory = sys.argv[1], Path(sys.argv[2])
    if not directory.exists():
        write_checkpoint(size, directory)
        return
    torch.set_num_threads(1)
    sys.stdout.write("| " + " | ".join(measure(size, directory)) + " |\n")


if __name__ == "__main__":
    main()
