"""Whether a recording transcribed in shards gives the same text as transcribed whole.

N samples.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile

from nightscribe.audio.segmentation import ShardConfig, ShardSamples, cut
from nightscribe.records import Recording, Shard, ShardTranscript, Word
from nightscribe.stitching import stitch
from ops.tiny.corpus import RATE_HZ

MAX_DIFFERENT = 0.003

Hear = Callable[[Sequence[np.ndarray]], list[list[Word]]]


@dataclass(frozen=True, slots=True)
class Composed:
    """The recording and its reference words."""

    samples_N: np.ndarray
    words: list[dict]

    @property
    def text(self) -> str:
        return " ".join(word["text"] for word in self.words)


def read_composed(path: Path) -> Composed:
    """A recording with a JSON file of its words beside it."""
    samples_N, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == RATE_HZ, f"{path} is at {rate_hz} Hz"
    words = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Composed(samples_N, words)


def measure_seams(
    composed: Composed, whole: Sequence[Word], hear: Hear, max_s: float = 60.0
) -> dict[str, Any]:
    """Word errors of whole and stitched against the truth, and of one against the other."""
    cuts = list(cut([composed.samples_N], RATE_HZ, ShardConfig(max_s=max_s)))
    outputs = hear([shard.samples_N for shard in cuts])
    stitched = stitch(map(_transcript, cuts, outputs)).words
    whole_text, stitched_text = _text(whole), _text(stitched)
    different = jiwer.process_words(whole_text, stitched_text)
    return {
        "shards": len(cuts),
        "words": len(composed.words),
        "whole_wer": jiwer.wer(composed.text, whole_text),
        "stitched_wer": jiwer.wer(composed.text, stitched_text),
        "different": different.wer,
        "only_whole": different.deletions,
        "only_stitched": different.insertions,
    }


def _transcript(shard: ShardSamples, words: list[Word]) -> ShardTranscript:
    return ShardTranscript(
        shard=Shard(
            recording=Recording(uri="composed", size_bytes=0, version=""),
            index=shard.index,
            sample_rate_hz=RATE_HZ,
            start_sample=shard.start_sample,
            end_sample=shard.end_sample,
            owned_start_sample=shard.owned_start_sample,
            owned_end_sample=shard.owned_end_sample,
            is_last=shard.is_last,
        ),
        words=tuple(words),
        model="tiny",
        model_revision="",
    )


def _text(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)
