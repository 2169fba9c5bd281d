"""The small model, which on some recordings fails as large ones are known to."""

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from nightscribe.cluster.listening import TranscriberListener
from nightscribe.engine.config import EngineConfig
from nightscribe.guards.config import GuardsConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.records import Word
from nightscribe.transcription.transcriber import Clip, HeardClip, Transcriber

TINY = str(Path(__file__).parents[2] / "models" / "tiny")
FRENCH = ("le", "vieux", "bateau", "avait", "quitt\u00e9", "notre", "port", "avant", "le", "lever")
SILENCE_FROM_S = 32.0  # the recordings end in silence


def faulty_listener(faults: dict[str, str], guards: GuardsConfig) -> TranscriberListener:
    """Fails at the first hearing of the recordings named; what is heard again is heard well."""
    model = Transcriber.load(ModelConfig(checkpoint=TINY), EngineConfig(device="cpu", num_slots=4))
    return TranscriberListener(_Failing(model, faults), "tiny", "r", guards)


class _Failing:
    def __init__(self, transcriber: Transcriber, faults: dict[str, str]) -> None:
        self._transcriber, self._faults = transcriber, faults
        self.engine, self.has_died = transcriber.engine, False

    def submit(self, clip: Clip) -> Future[HeardClip]:
        name, _, rest = clip.clip_id.partition("/")
        fault = None if "again" in rest else FAULTS[self._faults.get(name, "none")]
        answer: Future[HeardClip] = Future()
        done = partial(_answer, answer, fault)
        self._transcriber.submit(clip).add_done_callback(done)
        return answer


def _answer(answer, fault, heard: Future[HeardClip]) -> None:
    result = heard.result()
    answer.set_result(replace(result, words=fault(result.words)) if fault else result)


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
