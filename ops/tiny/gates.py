"""Measures a small model on speech outside its training data, against the limits it must meet.

    python -m ops.tiny.gates models/tiny --held-out FOLDER --unseen FOLDER --human FOLDER

The folders are corpora as `ops/tiny/corpus.py` reads them; the human ones have `transcripts.tsv`,
of which only clips of the stated vocabulary count. `--human` may choose between states of training;
`--human-test` chooses nothing and is heard once for each model that ships; `--human-game` is told
beside them. `--whisper FOLDER` compares with a Whisper model in the CTranslate2 format on the same
clips; `--recording FILE` transcribes a composed recording whole and in shards. Prints the results
and writes them as JSON.

N samples.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile
import soxr
import torch

from nightscribe.model.checkpoints.open import open_checkpoint
from nightscribe.model.prompting import SpeechProcessor
from nightscribe.model.speech_to_text import SpeechToText
from nightscribe.records import Word
from nightscribe.training.targets import TimedTokens
from ops.tiny.confusions import confusions
from ops.tiny.corpus import RATE_HZ, TimedWord, read_corpus
from ops.tiny.heads import measure_heads
from ops.tiny.seams import MAX_DIFFERENT, Composed, measure_seams, read_composed

CLIPS_AT_ONCE = 64
NOISE_S = 60
MAX_MEDIAN_S, MAX_P90_S = 0.040, 0.160
CORPORA = ("held_out", "held_out_flite", "unseen")
HUMAN = ("human", "human_test", "human_game")
OPTIONS = (*CORPORA, *HUMAN, "recording", "whisper", "output")
GATES = {"held_out": 0.08, "unseen": 0.10, "human": 0.25, "human_test": 0.25}


@dataclass(frozen=True, slots=True)
class Clip:
    samples_N: np.ndarray
    text: str
    words: tuple[TimedWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    words: list[Word]
    tokens: list[int]
    quiet_FH: np.ndarray  # how sure each head is that nobody speaks within its horizon

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


class Listener:
    """The model under test, hearing clips as recordings of their own."""

    def __init__(self, folder: Path) -> None:
        checkpoint = open_checkpoint(str(folder))
        tensors = (checkpoint.mimi_tensors(), checkpoint.language_model_tensors())
        self.model = SpeechToText.load(checkpoint.config, *tensors, "cpu", torch.float32)
        self.interpreter = SpeechProcessor(config=checkpoint.config, tokenizer=checkpoint.tokenizer)

    def hear(self, clips: Sequence[Clip]) -> list[Answer]:
        order = sorted(range(len(clips)), key=lambda index: len(clips[index].samples_N))
        answers: dict[int, Answer] = {}
        for first in range(0, len(order), CLIPS_AT_ONCE):
            batch = order[first : first + CLIPS_AT_ONCE]
            answers |= zip(batch, self._hear([clips[index] for index in batch]), strict=True)
        return [answers[index] for index in range(len(clips))]

    def _hear(self, clips: list[Clip]) -> Iterator[Answer]:
        longest = max(len(clip.samples_N) for clip in clips)
        rows = [np.pad(clip.samples_N, (0, longest - len(clip.samples_N))) for clip in clips]
        heard = self.model.transcribe(np.stack(rows))
        assert heard.vad_SFHA is not None, "the model has no extra heads"
        vad_SFH = heard.vad_SFHA[:, self.model.config.prefix_frames :, :, 0].numpy()
        said = (heard.tokens_SF, heard.probabilities_SF, vad_SFH)
        for tokens_F, probabilities_F, quiet_FH in zip(*said, strict=True):
            # Step 0 hears nothing; what it says is no part of what is heard of frames.
            tokens = [self.model.config.language_model.padding_id, *tokens_F.tolist()]
            probabilities = [1.0, *probabilities_F.tolist()]
            words = self.interpreter.words(tokens, probabilities, longest)
            yield Answer(words, tokens, quiet_FH)


def measure(clips: Sequence[Clip], answers: Sequence[Answer]) -> dict[str, Any]:
    """Word error rate, its parts, and how far word starts are off where all words are right."""
    counted = jiwer.process_words([c.text for c in clips], [a.text for a in answers])
    off_s = [
        abs(heard.start_s - said.start_s)
        for clip, answer in zip(clips, answers, strict=True)
        if clip.words and clip.text == answer.text
        for said, heard in zip(clip.words, answer.words, strict=True)
    ]
    found: dict[str, Any] = {
        "clips": len(clips),
        "words": counted.hits + counted.substitutions + counted.deletions,
        "wer": counted.wer,
        "substitutions": counted.substitutions,
        "deletions": counted.deletions,
        "insertions": counted.insertions,
    }
    if off_s:
        median_s, p90_s = np.quantile(off_s, (0.5, 0.9))
        found |= {"start_median_s": float(median_s), "start_p90_s": float(p90_s)}
    return found


def shares(answers: Sequence[Answer], clips: Sequence[Clip]) -> dict[str, float]:
    """What a decoder of several frames at once must know of the token stream."""
    tokens = [token for answer in answers for token in answer.tokens]
    seconds = sum(len(clip.samples_N) for clip in clips) / RATE_HZ
    num_words = sum(len(answer.words) for answer in answers)
    return {
        "padding_share": tokens.count(3) / len(tokens),
        "end_of_padding_share": tokens.count(0) / len(tokens),
        "words_per_second": num_words / seconds,
    }


def corpus_clips(folder: Path) -> list[Clip]:
    return [Clip(u.samples_N, u.text, u.words) for u in read_corpus(folder)]


def human_clips(folder: Path, vocabulary: set[str]) -> list[Clip]:
    """The clips of which every word is one that the model knows."""
    with (folder / "transcripts.tsv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    known = [r for r in rows if r["transcript_normalised"].split()]
    known = [r for r in known if set(r["transcript_normalised"].split()) <= vocabulary]
    return [Clip(_read(folder / r["file"]), r["transcript_normalised"]) for r in known]


def wordless_clips() -> dict[str, Clip]:
    """A minute each of silence, noise and tones."""
    rng, seconds_N = np.random.default_rng(0), np.arange(NOISE_S * RATE_HZ) / RATE_HZ
    white_N = rng.standard_normal(len(seconds_N))
    spectrum = np.fft.rfft(white_N) / np.sqrt(np.maximum(np.arange(len(seconds_N) // 2 + 1), 1))
    pink_N = np.fft.irfft(spectrum)
    chords = [
        np.sin(2 * np.pi * hz * seconds_N) * (seconds_N // 0.5 % len(_TUNE_HZ) == index)
        for index, hz in enumerate(_TUNE_HZ)
    ]
    sounds = {
        "silence": np.zeros(len(seconds_N)),
        "white noise": 0.03 * white_N,
        "pink noise": 0.05 * pink_N / pink_N.std(),
        "dial tone": 0.1
        * (np.sin(2 * np.pi * 350 * seconds_N) + np.sin(2 * np.pi * 440 * seconds_N)),
        "tune": 0.2 * np.sum(chords, axis=0),
    }
    return {name: Clip(_int16(sound), "") for name, sound in sounds.items()}


_TUNE_HZ = (262, 330, 392, 523, 392, 330)


def whisper(folder: Path) -> Callable[[Sequence[Clip]], list[str]]:
    """A Whisper model as a listener; numbers it writes as digits are spelt as the corpora do."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)

    def hear(clips: Sequence[Clip]) -> list[str]:
        heard = []
        for clip in clips:
            sound = soxr.resample(clip.samples_N.astype(np.float32) / 32768, RATE_HZ, 16000)
            segments, _ = model.transcribe(sound, language="en", beam_size=1)
            heard.append(spelt(" ".join(segment.text for segment in segments)))
        return heard

    return hear


def spelt(text: str) -> str:
    """Lower case, no punctuation, numbers in words: the same for references and every listener."""
    from num2words import num2words

    text = text.lower().replace("%", " percent ").replace("$", " dollars ").replace("-", " ")
    text = re.sub(r"(\d+)(st|nd|rd|th)\b", lambda m: num2words(int(m[1]), to="ordinal"), text)
    text = re.sub(r"\d[\d,]*", lambda m: num2words(int(m[0].replace(",", ""))), text)
    return " ".join(re.sub(r"[^a-z' ]", " ", text.replace("-", " ")).split())


def _read(path: Path) -> np.ndarray:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    return _int16(soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ))


def _int16(sound: np.ndarray) -> np.ndarray:
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)


def passed(results: dict[str, Any]) -> dict[str, bool]:
    """Each gate and whether it holds; sets that were not measured are not passed."""
    speech = results["speech"]
    gates = {
        f"{name}: WER <= {limit:.0%}": name in speech and speech[name]["wer"] <= limit
        for name, limit in GATES.items()
    }
    timed = [found for found in speech.values() if "start_median_s" in found]
    gates["word starts: median <= 40 ms"] = bool(timed) and all(
        found["start_median_s"] <= MAX_MEDIAN_S for found in timed
    )
    gates["word starts: p90 <= 160 ms"] = bool(timed) and all(
        found["start_p90_s"] <= MAX_P90_S for found in timed
    )
    gates["no words in a minute without speech"] = not any(results["wordless"].values())
    if "seams" in results:
        gates["stitched = whole"] = results["seams"]["different"] <= MAX_DIFFERENT
    return gates


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    listener = Listener(arguments.model)
    vocabulary = set((arguments.model / "vocabulary.txt").read_text(encoding="utf-8").split())
    folders = {name: folder for name, folder in vars(arguments).items() if folder is not None}
    clips = {name: corpus_clips(folders[name]) for name in CORPORA if name in folders}
    if "unseen" in clips:  # its engine does not say when it speaks
        clips["unseen"] = [Clip(clip.samples_N, clip.text) for clip in clips["unseen"]]
    clips |= {name: human_clips(folders[name], vocabulary) for name in HUMAN if name in folders}
    answers = {name: listener.hear(some) for name, some in clips.items()}
    results: dict[str, Any] = {
        "speech": {name: measure(some, answers[name]) for name, some in clips.items()},
        "wordless": _wordless(listener),
        "confusions": {
            name: confusions([c.text for c in some], [a.text for a in answers[name]])
            for name, some in clips.items()
        },
    }
    if arguments.recording is not None:
        results |= _recording(listener, read_composed(arguments.recording))
    every = [answer for some in answers.values() for answer in some]
    results["tokens"] = shares(every, [c for some in clips.values() for c in some])
    if arguments.whisper is not None:
        results["whisper"] = _whisper(arguments.whisper, clips, answers)
    results["passed"] = passed(results)
    return results


def _recording(listener: Listener, composed: Composed) -> dict[str, Any]:
    """What is measured on the composed recording: seams of shards, and the heads."""
    (whole,) = listener.hear([Clip(composed.samples_N, "")])
    mimi = listener.model.config.mimi
    num_frames = len(composed.samples_N) // mimi.hop_samples
    words = [TimedTokens((0,), word["start_s"], word["end_s"]) for word in composed.words]
    return {
        "seams": measure_seams(
            composed,
            whole.words,
            lambda sounds: [a.words for a in listener.hear([Clip(sound, "") for sound in sounds])],
        ),
        "heads": measure_heads(words, whole.quiet_FH[:num_frames], mimi.frame_rate_hz),
    }


def _wordless(listener: Listener) -> dict[str, int]:
    clips = wordless_clips()
    answers = listener.hear(list(clips.values()))
    return {name: len(answer.words) for name, answer in zip(clips, answers, strict=True)}


def _whisper(
    folder: Path, clips: dict[str, list[Clip]], answers: dict[str, list[Answer]]
) -> dict[str, Any]:
    """Both listeners on the same clips, their texts and the references spelt alike."""
    hear = whisper(folder)
    compared = {}
    for name, some in clips.items():
        said = [spelt(clip.text) for clip in some]
        compared[name] = {
            "whisper": jiwer.wer(said, hear(some)),
            "this model": jiwer.wer(said, [spelt(answer.text) for answer in answers[name]]),
        }
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.gates")
    parser.add_argument("model", type=Path)
    for option in OPTIONS:
        parser.add_argument(f"--{option.replace('_', '-')}", type=Path)
    arguments = parser.parse_args()
    results = run(arguments)
    text = json.dumps(results, indent=2)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    missed = [gate for gate, is_passed in results["passed"].items() if not is_passed]
    sys.exit(f"missed: {'; '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
