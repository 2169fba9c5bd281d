"""How well a cast finds voices again: the F1 of pairs over 300 recordings with 40 recurring voices.

    OMP_NUM_THREADS=1 python -m ops.speakers.casts FOUND.jsonl game PACKAGE.deb FOLDER
    OMP_NUM_THREADS=1 python -m ops.speakers.casts FOUND.jsonl synthetic CORPUS_FOLDER ...

Recordings of 20 to 40 s with one to three voices are composed, and their speakers found as the
pipeline does: windows, vectors, clusters. `FOUND.jsonl` gets a line for each, so that a run that
was ended goes on where it was. The vectors of all are then grouped as `nightscribe cast` does. A
pair counts as the same voice when most of what both speakers say is of that voice.
"""

import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nightscribe.records import Span
from nightscribe.speakers import cast
from nightscribe.speakers.diarization import overlap_s
from ops.speakers.clips import Clip, game_clips, synthetic_clips, synthetic_voices, with_enough
from ops.speakers.compare import diarized
from ops.speakers.dialogues import Dialogue, compose

NUM_RECORDINGS, NUM_VOICES = 300, 40
VOICES_OF_RECORDING = (1, 3)
SECONDS_OF_RECORDING = (20.0, 40.0)
OVERLAP = 0.05
SHORTEST_CLIP_S = 0.7
SOUND_OF_VOICE_S = 150.0  # at most so much of each synthetic voice is read
LEAST_OF_MIX_S = 6.0
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, cast.SAME_PERSON, 0.8, 0.85, 0.9)

Found = tuple[str, list[float]]


def chosen_voices(seconds: Mapping[str, float], num_voices: int) -> list[str]:
    """Every voice that is no mix, and mixes with the most of a base that is never alone.

    A mix is named after its bases and their weights: `a*0.70+b*0.30`. One for each such base.
    """
    alone = {voice for voice in seconds if "*" not in voice}
    mixes: dict[str, tuple[float, str]] = {}
    for voice, heard_s in sorted(seconds.items()):
        if voice in alone or heard_s < LEAST_OF_MIX_S:
            continue
        for part in voice.split("+"):
            base, _, weight = part.partition("*")
            if base not in alone:
                mixes[base] = max(mixes.get(base, (0.0, "")), (float(weight), voice))
    names = [name for _, name in sorted(mixes.values(), reverse=True)]
    return sorted(alone)[:num_voices] + names[: max(num_voices - len(alone), 0)]


def clips_of(kind: str, places: Sequence[Path]) -> dict[str, list[Clip]]:
    if kind == "game":
        return with_enough(game_clips(*places), 60, SHORTEST_CLIP_S)
    seconds = sum((synthetic_voices(place, SHORTEST_CLIP_S) for place in places), Counter[str]())
    chosen = set(chosen_voices(seconds, NUM_VOICES))
    clips: dict[str, list[Clip]] = {}
    for place in places:
        clips |= synthetic_clips(place, chosen, SOUND_OF_VOICE_S)
    return with_enough(clips, 0, SHORTEST_CLIP_S)


def recordings(clips: Mapping[str, Sequence[Clip]]) -> Iterator[Dialogue]:
    """Each of a few voices; the same ones whatever was done before."""
    for number in range(NUM_RECORDINGS):
        draw = random.Random(f"cast {number}")
        voices = draw.sample(sorted(clips), draw.randint(*VOICES_OF_RECORDING))
        chosen = {voice: clips[voice] for voice in voices}
        duration_s = draw.uniform(*SECONDS_OF_RECORDING)
        yield compose(f"cast-{number}", chosen, duration_s, OVERLAP, number)


def found_in(recording: Dialogue) -> Iterator[Found]:
    """Whose voice each found speaker is, and its vector."""
    diarization = diarized(recording)
    for name, vector_D in diarization.vectors.items():
        spans = [span for span in diarization.spans if span.speaker == name]
        seconds: defaultdict[str, float] = defaultdict(float)
        for one in recording.spoken:
            seconds[one.speaker] += overlap_s(spans, [Span(one.start_s, one.end_s)])
        yield max(sorted(seconds), key=lambda voice: seconds[voice]), vector_D.tolist()


def found_in_all(clips: Mapping[str, Sequence[Clip]], path: Path) -> list[list[Found]]:
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    with path.open("a") as file:
        for number, recording in enumerate(recordings(clips)):
            if number >= len(lines):
                found.append(list(found_in(recording)))
                file.write(json.dumps(found[-1]) + "\n")
                file.flush()
    return found


def pair_scores(truth: Sequence[str], labels_V: NDArray[np.int64]) -> tuple[float, float, float]:
    """Precision, recall and F1 of "these two are the same voice"."""
    voices = np.unique(np.array(truth), return_inverse=True)[1]
    is_same_VV = np.triu(voices[:, None] == voices[None], 1)
    is_found_VV = np.triu(labels_V[:, None] == labels_V[None], 1)
    both = int((is_same_VV & is_found_VV).sum())
    precision = both / max(int(is_found_VV.sum()), 1)
    recall = both / max(int(is_same_VV.sum()), 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def main(path: Path, kind: str, places: Sequence[Path]) -> None:
    clips = clips_of(kind, places)
    every = [one for some in found_in_all(clips, path) for one in some]
    truth = [voice for voice, _ in every]
    vectors_VD = np.array([vector for _, vector in every], np.float32)
    sys.stdout.write(f"{len(clips)} voices, {NUM_RECORDINGS} recordings, {len(every)} speakers\n")
    for same_person in THRESHOLDS:
        labels_V = cast.group(vectors_VD, same_person).labels_V
        scores = " | ".join(f"{one:.3f}" for one in pair_scores(truth, labels_V))
        sys.stdout.write(f"| {same_person} | {labels_V.max() + 1} | {scores} |\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [Path(place) for place in sys.argv[3:]])
