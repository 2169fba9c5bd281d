"""Memory of each pair of precisions (weights/KV cache), and how it changes the transcripts.

    python -m ops.benchmarks.precisions models/tiny samples float32/float32 float32/int8 ...

A pair is `engine.dtype` and `engine.kv_cache_dtype`. Transcribes every recording of a folder, long
ones in pieces of a minute, with each pair in turn; the first pair is what the others are held
against. Where the folder says what is spoken (`texts.json`, or words in a file named like the
recording), also the word error rate. Prints a table of Markdown.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch

from nightscribe.audio.decode import AudioDecoder, DecodeConfig
from nightscribe.audio.waveform import mix
from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.memory_budget import MemoryBudget, memory_budget
from nightscribe.model.precision import Precision, precision_of
from nightscribe.transcription.transcriber import Clip, ClipTranscript, Transcriber

PIECE_S = 60
NUM_SLOTS = 8
SUFFIXES = (".opus", ".flac", ".wav", ".mp3")
HEADER = (
    "| weights | computed in | cache | weights MB | cache KB per slot | tokens alike | clips alike "
    "| words that differ | word errors | processor time |\n"
    "|---|---|---|--:|--:|--:|--:|--:|--:|--:|\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The transcripts of one pair of precisions, and its cost."""

    numbers: Precision
    needs: MemoryBudget
    transcripts: dict[str, ClipTranscript]
    processor_s: float

    def row(self, first: "Outcome", references: dict[str, str]) -> str:
        alike = [
            np.mean(self.transcripts[clip_id].tokens_T == plain.tokens_T)
            for clip_id, plain in first.transcripts.items()
        ]
        steps = [plain.num_steps for plain in first.transcripts.values()]
        words = [
            [_text(outcome.transcripts[clip_id]) for clip_id in first.transcripts]
            for outcome in (first, self)
        ]
        cells = (
            self.numbers.weights,
            self.numbers.activations,
            self.numbers.cache,
            f"{self.needs.weights / 1e6:.2f}",
            f"{self.needs.cache_per_slot / 1e3:.0f}",
            f"{np.average(alike, weights=steps):.2%}",
            f"{sum(share == 1 for share in alike)} of {len(alike)}",
            f"{jiwer.wer(*words):.2%}",
            self._word_errors(references),
            f"{self.processor_s / first.processor_s:.2f}",
        )
        return f"| {' | '.join(cells)} |\n"

    def _word_errors(self, references: dict[str, str]) -> str:
        """Of whole recordings, their pieces joined."""
        spoken = {name: "" for name in references}
        for clip_id in sorted(self.transcripts, key=_name_and_piece):
            name, _ = _name_and_piece(clip_id)
            if name in spoken:
                spoken[name] += f" {_text(self.transcripts[clip_id])}"
        return f"{jiwer.wer(list(references.values()), list(spoken.values())):.2%}"


def references_of(folder: Path) -> dict[str, str]:
    """What is spoken in the recordings of a folder, by the name of the file."""
    texts = folder / "texts.json"
    references: dict[str, str] = json.loads(texts.read_text()) if texts.exists() else {}
    for path in folder.iterdir():
        words = path.with_suffix(".json")
        if path.suffix in SUFFIXES and words.exists():
            references[path.name] = " ".join(one["text"] for one in json.loads(words.read_text()))
    return references


def _name_and_piece(clip_id: str) -> tuple[str, int]:
    name, _, piece = clip_id.rpartition(" ")
    return name, int(piece)


def measure(checkpoint: str, pair: str, clips: list[Clip]) -> Outcome:
    dtype, cache = pair.split("/")
    engine = EngineConfig(device="cpu", dtype=dtype, kv_cache_dtype=cache, num_slots=NUM_SLOTS)
    transcriber = Transcriber.load(ModelConfig(name="measured", checkpoint=checkpoint), engine)
    began_s = time.process_time()
    transcripts = {one.clip_id: one for one in transcriber.transcribe(clips)}
    processor_s = time.process_time() - began_s
    numbers = precision_of(dtype, cache, None, "cpu")
    config = open_checkpoint(checkpoint).config
    return Outcome(
        numbers=numbers,
        needs=memory_budget(config, numbers, engine.round_steps, encode_rows=1),
        transcripts=transcripts,
        processor_s=processor_s,
    )


def clips_of(folder: Path, rate_hz: int) -> Iterator[Clip]:
    """Every recording, in pieces, longest first."""
    pieces = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
        with AudioDecoder(path, DecodeConfig(), rate_hz) as sound:
            samples_N = np.concatenate(list(mix(sound, rate_hz)))
        size = PIECE_S * rate_hz
        for index, first in enumerate(range(0, len(samples_N), size)):
            pieces.append(Clip(f"{path.name} {index}", samples_N[first : first + size]))
    return iter(sorted(pieces, key=lambda clip: -len(clip.samples_N)))


def main(checkpoint: str, folder: str, *pairs: str) -> None:
    torch.set_num_threads(1)
    rate_hz = open_checkpoint(checkpoint).config.mimi.sample_rate_hz
    clips = list(clips_of(Path(folder), rate_hz))
    sound_s = sum(len(clip.samples_N) for clip in clips) / rate_hz
    sys.stdout.write(f"{len(clips)} clips, {sound_s:.0f} s, torch {torch.__version__}\n\n{HEADER}")
    first, references = None, references_of(Path(folder))
    for pair in pairs:
        outcome = measure(checkpoint, pair, clips)
        first = first or outcome
        sys.stdout.write(outcome.row(first, references))
        sys.stdout.flush()


def _text(transcripts: ClipTranscript) -> str:
    return " ".join(word.text for word in transcripts.words)


if __name__ == "__main__":
    main(*sys.argv[1:])
