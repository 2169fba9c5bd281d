"""Whose words: two-speaker dialogues of synthetic voices, transcribed by the model tiny.

    OMP_NUM_THREADS=1 python -m ops.speakers.words CORPUS_FOLDER ...

Every pair of the voices with at least a minute of speech, without overlap. A word is right when the
speaker who was found for it is the one whose utterance is nearest to its middle; found speakers are
matched to true ones, each to another, as fits best.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, permutations
from pathlib import Path

import soundfile

from nightscribe.jobs.file import load_transcriber, read_audio
from nightscribe.records import Word
from nightscribe.speakers.config import SpeakersConfig
from nightscribe.speakers.diarization import diarize, with_speakers
from nightscribe.transcription.clips import Clip
from ops.speakers.clips import RATE_HZ, synthetic_clips, with_enough
from ops.speakers.dialogues import Dialogue, Spoken, compose

DURATION_S = 100.0
TOTAL_S, SHORTEST_S = 60.0, 1.0
MOST_S = 160.0  # of each voice are read


def dialogues(corpora: Sequence[Path]) -> Iterator[Dialogue]:
    clips = {}
    for corpus in corpora:
        clips |= with_enough(synthetic_clips(corpus, most_s=MOST_S), TOTAL_S, SHORTEST_S)
    for one, other in combinations(sorted(clips), 2):
        chosen = {one: clips[one], other: clips[other]}
        yield compose(f"{one} and {other}", chosen, DURATION_S, overlap=0.0, seed=1)


def clip_of(dialogue: Dialogue) -> Clip:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dialogue.wav"
        soundfile.write(path, dialogue.samples_N, RATE_HZ)
        return Clip(dialogue.name, read_audio(path))


def num_right(words: Sequence[Word], spoken: Sequence[Spoken]) -> int:
    """Words whose speaker is the true one, by the best match of the names."""
    pairs = Counter((word.speaker, _nearest(word, spoken).speaker) for word in words)
    found, true = (sorted({pair[side] or "" for pair in pairs}) for side in (0, 1))
    found += [""] * (len(true) - len(found))
    return max(
        sum(pairs[name, speaker] for name, speaker in zip(names, true, strict=True))
        for names in permutations(found, len(true))
    )


def _nearest(word: Word, spoken: Sequence[Spoken]) -> Spoken:
    middle_s = (word.start_s + word.end_s) / 2
    return min(spoken, key=lambda one: max(one.start_s - middle_s, middle_s - one.end_s))


def main(corpora: Sequence[Path]) -> None:
    asked = {"speakers": "on", "engine.num_slots": 8, "engine.device": "cpu"}
    transcriber, total, right = load_transcriber("tiny", settings=asked), 0, 0
    spoken = {dialogue.name: dialogue for dialogue in dialogues(corpora)}
    for transcript in transcriber.transcribe(map(clip_of, spoken.values())):
        spans = diarize(transcript.voices, SpeakersConfig(is_on=True)).spans
        words = with_speakers(transcript.words, spans)
        correct = num_right(words, spoken[transcript.clip_id].spoken)
        num_found = len({span.speaker for span in spans})
        sys.stdout.write(
            f"| {transcript.clip_id} | {num_found} | {len(words)} | {correct / len(words):.1%} |\n"
        )
        sys.stdout.flush()
        total, right = total + len(words), right + correct
    sys.stdout.write(f"| all {len(spoken)} | | {total} | {right / total:.1%} |\n")


if __name__ == "__main__":
    main([Path(place) for place in sys.argv[1:]])
