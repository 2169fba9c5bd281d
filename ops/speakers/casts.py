"""How well a cast finds voices again: the F1 of pairs over recordings with recurring voices.

    python -m ops.speakers.casts game PACKAGE.deb FOLDER
    python -m ops.speakers.casts synthetic CORPUS_FOLDER ...

Each clip is cut into pieces and embedded once; a recording is then a sequence of turns of such
pieces, which is diarized, and the vectors of its speakers are grouped as `nightscribe cast` does.
Where one voice ends is known here: the segmentation network has no part in these figures. A pair
counts as the same voice when most of what both speakers say is of that voice.
"""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nightscribe.records import Span, Voice
from nightscribe.speakers import cast
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.diarization import diarize, overlap_s
from nightscribe.speakers.features import log_mel
from nightscribe.speakers.voices import MAX_PIECE_S, vectors_of
from nightscribe.speakers.weights import load_networks
from ops.speakers.clips import (
    RATE_HZ,
    Clip,
    game_clips,
    synthetic_clips,
    synthetic_voices,
    with_enough,
)

NUM_RECORDINGS, NUM_VOICES = 300, 40
VOICES_OF_RECORDING = (1, 3)
SECONDS_OF_VOICE = (15.0, 30.0)
TURN_PIECES = (1, 4)
PAUSE_S = 0.3
SHORTEST_CLIP_S = 1.0
SOUND_OF_VOICE_S = 150.0  # at most so much of each voice is embedded
SHORTEST_PIECE_S, LENGTH_STEP_S = 0.8, 0.25
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, cast.SAME_PERSON, 0.8, 0.85, 0.9)


@dataclass(frozen=True)
class Piece:
    """A piece of a clip, and what its voice sounds like in it."""

    duration_s: float
    vector: bytes


def pieces_of(clips: Mapping[str, Sequence[Clip]]) -> dict[str, list[Piece]]:
    networks = load_networks(SpeakersConfig().checkpoint, torch.device("cpu"))
    found = {}
    for voice, some in clips.items():
        sounds = list(_cut(some))
        with torch.inference_mode():
            features = [log_mel(torch.from_numpy(sound_N)) for sound_N in sounds]
            features = [one_MF - one_MF.mean(dim=0, keepdim=True) for one_MF in features]
            vectors_VD = vectors_of(features, networks).astype(np.float16)
        found[voice] = [
            Piece(len(sound_N) / RATE_HZ, vector_D.tobytes())
            for sound_N, vector_D in zip(sounds, vectors_VD, strict=True)
        ]
    return found


def _cut(clips: Sequence[Clip]) -> Iterator[NDArray[np.float32]]:
    """Pieces as the pipeline embeds them, until there is enough of this voice."""
    total_s, step = 0.0, round(LENGTH_STEP_S * RATE_HZ)
    for clip in clips:
        num_pieces = int(np.ceil(clip.duration_s / MAX_PIECE_S))
        for piece_N in np.array_split(clip.samples_N, num_pieces):
            if len(piece_N) >= SHORTEST_PIECE_S * RATE_HZ and total_s < SOUND_OF_VOICE_S:
                total_s += len(piece_N) / RATE_HZ
                yield piece_N[: len(piece_N) // step * step]


def recordings(pieces: Mapping[str, Sequence[Piece]]) -> Iterator[list[tuple[str, Voice]]]:
    """Each a sequence of turns; a piece comes again only when all of its voice were used."""
    draw = random.Random("cast")
    decks = {voice: _deck(some, draw) for voice, some in sorted(pieces.items())}
    for _ in range(NUM_RECORDINGS):
        chosen = draw.sample(sorted(pieces), draw.randint(*VOICES_OF_RECORDING))
        left_s = {voice: draw.uniform(*SECONDS_OF_VOICE) for voice in chosen}
        time_s, said = 0.0, []
        while left_s:
            voice = draw.choice(sorted(left_s))
            for _ in range(draw.randint(*TURN_PIECES)):
                piece = next(decks[voice])
                span = Span(round(time_s, 3), round(time_s + piece.duration_s, 3))
                said.append((voice, Voice((span,), piece.duration_s, piece.vector)))
                time_s, left_s[voice] = span.end_s, left_s[voice] - piece.duration_s
            time_s += PAUSE_S
            left_s = {name: seconds for name, seconds in left_s.items() if seconds > 0}
        yield said


def _deck(pieces: Sequence[Piece], draw: random.Random) -> Iterator[Piece]:
    while True:
        yield from draw.sample(list(pieces), len(pieces))


def as_diarized(said: Sequence[tuple[str, Voice]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Whose voice each found speaker is, and its vector."""
    diarization = diarize([voice for _, voice in said], SpeakersConfig(is_on=True))
    for name, vector_D in diarization.vectors.items():
        spans = [span for span in diarization.spans if span.speaker == name]
        seconds: defaultdict[str, float] = defaultdict(float)
        for voice, heard in said:
            seconds[voice] += overlap_s(spans, heard.spans)
        yield max(seconds, key=lambda voice: seconds[voice]), vector_D


def pair_scores(truth: Sequence[str], labels_V: NDArray[np.int64]) -> tuple[float, float, float]:
    """Precision, recall and F1 of "these two are the same voice"."""
    voices = np.unique(np.array(truth), return_inverse=True)[1]
    is_same_VV = np.triu(voices[:, None] == voices[None], 1)
    is_found_VV = np.triu(labels_V[:, None] == labels_V[None], 1)
    both = int((is_same_VV & is_found_VV).sum())
    precision = both / max(int(is_found_VV.sum()), 1)
    recall = both / max(int(is_same_VV.sum()), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def main(kind: str, places: Sequence[Path]) -> None:
    if kind == "game":
        clips = with_enough(game_clips(*places), 60, SHORTEST_CLIP_S)
    else:
        seconds = {place: synthetic_voices(place, SHORTEST_CLIP_S) for place in places}
        every = sum(seconds.values(), Counter())
        chosen = {voice for voice, _ in every.most_common(NUM_VOICES)}
        corpora = [synthetic_clips(place, chosen, SOUND_OF_VOICE_S) for place in places]
        clips = with_enough(
            {voice: some for corpus in corpora for voice, some in corpus.items()},
            0,
            SHORTEST_CLIP_S,
        )
    pieces = pieces_of(clips)
    found = [one for said in recordings(pieces) for one in as_diarized(said)]
    truth, vectors_VD = [voice for voice, _ in found], np.stack([vector for _, vector in found])
    sys.stdout.write(f"{len(clips)} voices, {NUM_RECORDINGS} recordings, {len(found)} speakers\n")
    for same_person in THRESHOLDS:
        labels_V = cast.group(vectors_VD, same_person).labels_V
        scores = " | ".join(f"{one:.3f}" for one in pair_scores(truth, labels_V))
        sys.stdout.write(f"| {same_person} | {labels_V.max() + 1} | {scores} |\n")


if __name__ == "__main__":
    main(sys.argv[1], [Path(place) for place in sys.argv[2:]])
