"""The small model, which on some recordings fails as large ones are known to."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.records import Word
from nightscribe.transcription.transcriber import Clip, Transcriber

TINY = str(Path(__file__).parents[2] / "models" / "tiny")
FRENCH = ("le", "vieux", "bateau", "avait", "quitt\u00e9", "notre", "port", "avant", "le", "lever")
SILENCE_FROM_S = 32.0  # the recordings end in silence


def faulty_transcriber(faults: dict[str, str], guards: GuardsConfig) -> Transcriber:
    """Fails in the first pass over the recordings named; retries succeed."""
    model, engine = ModelConfig(checkpoint=TINY), EngineConfig(device="cpu", num_slots=4)
    transcriber = Transcriber.load(model, engine, guards)
    read_words = partial(_faulty_words, transcriber._adapter.read_words, faults)
    transcriber._adapter = replace(transcriber._adapter, read_words=read_words)
    return transcriber


def _faulty_words(read_words, faults: dict[str, str], clip: Clip, output) -> list[Word]:
    name, _, rest = clip.clip_id.partition("/")
    fault = None if "retry" in rest else FAULTS[faults.get(name, "none")]
    words = read_words(clip, output)
    return fault(words) if fault else words


def _stalled(words: list[Word]) -> list[Word]:
    return [word for word in words if not 5.0 <= word.start_s < 25.0]


def _looping(words: list[Word]) -> list[Word]:
    looped = [replace(w, text=("thank", "you")[i % 2]) for i, w in enumerate(words[8:32])]
    return words[:8] + looped + words[32:]


def _making_up(words: list[Word]) -> list[Word]:
    said = ["see", "you", "next", "time"]
    starts_s = [SILENCE_FROM_S + 4 + index for index in range(len(said))]
    return words + [Word(t, s, s + 0.5, 0.9) for t, s in zip(said, starts_s, strict=True)]


def _in_french(words: list[Word]) -> list[Word]:
    return [replace(w, text=FRENCH[i % len(FRENCH)]) for i, w in enumerate(words)]


FAULTS = {
    "none": None,
    "stall": _stalled,
    "loop": _looping,
    "hallucination": _making_up,
    "language": _in_french,
}
