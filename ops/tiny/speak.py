"""Synthesises a corpus: texts of the grammar, voices of one engine, Opus files and a manifest.

    python -m ops.tiny.speak kokoro CORPUS --count 8000 --seed 1 --voices VOICES_FOLDER

`--held-out` uses Kokoro's held-out voices and flite's `rms`.
"""

import argparse
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from ops.tiny.clock import wait_while_paused
from ops.tiny.corpus import RATE_HZ, Spoken
from ops.tiny.grammar import Grammar

GAP_S = 0.4
FILE_S = 600
BITRATE = "24k"


def speakers(arguments: argparse.Namespace, texts: Iterable[str]) -> Iterator[Spoken]:
    """One utterance a text; texts that an engine cannot time are left out."""
    rng = np.random.default_rng((arguments.seed, 1))
    yield from {"kokoro": _kokoro, "flite": _flite, "piper": _piper}[arguments.engine](
        arguments, texts, rng
    )


def _kokoro(arguments, texts: Iterable[str], rng: np.random.Generator) -> Iterator[Spoken]:
    from ops.tiny.voices.kokoro import ENGLISH, HELD_OUT, Kokoro

    engine = Kokoro(arguments.voices)
    english = {path.stem for path in arguments.voices.glob(ENGLISH)}
    accents = sorted({path.stem for path in arguments.voices.glob("*.bin")} - english)
    names = sorted(english - set(HELD_OUT))
    for index, text in enumerate(texts):
        wait_while_paused()
        if arguments.held_out:
            voice, speed = {HELD_OUT[index % 4]: 1.0}, float(rng.triangular(0.8, 1.18, 1.3))
        else:
            voice, speed = engine.voice(rng, names, accents), float(rng.triangular(0.7, 1.12, 1.5))
        yield engine.speak(f"kokoro-{arguments.seed}-{index:05}", text, voice, speed)


def _flite(arguments, texts: Iterable[str], rng: np.random.Generator) -> Iterator[Spoken]:
    from ops.tiny.voices.flite import speak

    voices = ("rms",) if arguments.held_out else ("slt", "awb", "kal16")
    for index, text in enumerate(texts):
        voice = voices[rng.integers(len(voices))]
        spoken = speak(f"flite-{arguments.seed}-{index:05}", text, voice, rng)
        if spoken is not None:
            yield spoken


def _piper(arguments, texts: Iterable[str], rng: np.random.Generator) -> Iterator[Spoken]:
    from ops.tiny.voices.piper import Piper

    engine = Piper()
    for index, text in enumerate(texts):
        yield engine.speak(f"piper-{arguments.seed}-{index:05}", text, rng)


def write_corpus(utterances: Iterable[Spoken], folder: Path) -> None:
    """Files of about ten minutes, and the rows of the manifest and of the phones."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = (folder / "manifest.jsonl").open("w", encoding="utf-8")
    phones = (folder / "phones.jsonl").open("w", encoding="utf-8")
    with manifest, phones:
        for name, together in _files(utterances):
            place = GAP_S
            for spoken in together:
                manifest.write(json.dumps(_row(spoken, name, place)) + "\n")
                phones.write(json.dumps([spoken.utterance_id, spoken.phones]) + "\n")
                place += len(spoken.samples_N) / RATE_HZ + GAP_S
            _write_opus(folder / name, together)


def _files(utterances: Iterable[Spoken]) -> Iterator[tuple[str, list[Spoken]]]:
    together: list[Spoken] = []
    number = 0
    for spoken in utterances:
        together.append(spoken)
        if sum(len(u.samples_N) for u in together) > FILE_S * RATE_HZ:
            yield f"speech-{number:03}.opus", together
            together, number = [], number + 1
    if together:
        yield f"speech-{number:03}.opus", together


def _row(spoken: Spoken, name: str, place: float) -> dict:
    return {
        "id": spoken.utterance_id,
        "audio": name,
        "start_s": round(place, 4),
        "end_s": round(place + len(spoken.samples_N) / RATE_HZ, 4),
        "text": spoken.text,
        "voice": spoken.voice,
        "words": [
            {"text": w.text, "start_s": round(w.start_s, 4), "end_s": round(w.end_s, 4)}
            for w in spoken.words
        ],
    }


def _write_opus(path: Path, utterances: list[Spoken]) -> None:
    gap_N = np.zeros(int(GAP_S * RATE_HZ), np.int16)
    sound_N = np.concatenate([gap_N, *(np.concatenate((u.samples_N, gap_N)) for u in utterances)])
    source = ["-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "pipe:0"]
    target = ["-c:a", "libopus", "-b:a", BITRATE, "-application", "audio", str(path)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *source, *target]
    subprocess.run(command, input=sound_N.tobytes(), check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ops.tiny.speak")
    parser.add_argument("engine", choices=("kokoro", "flite", "piper"))
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--vocabulary", type=Path, default=Path("models/tiny/vocabulary.txt"))
    parser.add_argument("--voices", type=Path, help="folder of Kokoro's voices")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args()
    words = arguments.vocabulary.read_text(encoding="utf-8").split()
    texts = (text for text, _ in Grammar(words, arguments.seed).draw(arguments.count))
    write_corpus(speakers(arguments, texts), arguments.corpus)


if __name__ == "__main__":
    main()
