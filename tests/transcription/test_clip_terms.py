"""Terms of one clip: as if they were those of the run, for this clip and no other."""

import numpy as np
import pytest

from nightscribe.audio.decode import DecodeConfig
from nightscribe.audio.waveform import read_waveform
from nightscribe.engine.config import EngineConfig
from nightscribe.model.checkpoints.model_config import ModelConfig
from nightscribe.model.terms_config import Terms
from nightscribe.transcription.transcriber import Clip, Transcriber
from tests.documents import ROOT

RATE_HZ = 24_000
# So strong that they are heard where nobody says them.
STRENGTH = 8.0
FIRST, SECOND = ("kilometers", "please try again"), ("yankee", "press six")
ENGINE = EngineConfig(device="cpu", dtype="float32", num_slots=2)


def noisy(name):
    samples_N, _ = read_waveform(ROOT / "samples" / name, DecodeConfig(), RATE_HZ)
    samples_N = samples_N[: 2 * RATE_HZ]
    noise_N = np.random.default_rng(0).normal(0, samples_N.std() / 1.4, len(samples_N))
    return (samples_N + noise_N).clip(-32768, 32767).astype(np.int16)


def load(terms):
    model = ModelConfig(name="tiny", checkpoint=str(ROOT / "models/tiny"))
    return Transcriber.load(model, ENGINE, terms=terms)


def tokens(transcriber, *clips):
    return {one.clip_id: one.tokens_T.tolist() for one in transcriber.transcribe(clips)}


def test_each_clip_is_heard_with_its_own_terms_and_with_those_of_the_run():
    sounds = {name: noisy(name) for name in ("bella.opus", "daniel.opus", "human-press-five.flac")}
    one, two, three = sounds

    def clips(*terms):
        return [Clip(n, s, terms=t) for (n, s), t in zip(sounds.items(), terms, strict=True)]

    none = tokens(load(None), *clips((), (), ()))
    of_run = [tokens(load(Terms(terms, STRENGTH)), *clips((), (), ())) for terms in (FIRST, SECOND)]
    mixed = tokens(load(Terms((), STRENGTH, True)), *clips(FIRST, SECOND, ()))
    assert mixed == {one: of_run[0][one], two: of_run[1][two], three: none[three]}
    assert mixed[one] != none[one]
    assert mixed[two] != none[two]
    both = tokens(load(Terms(FIRST, STRENGTH, True)), *clips((), FIRST, ()))
    assert both == of_run[0]


def test_a_clip_with_terms_is_refused_where_nobody_looks_at_them():
    with pytest.raises(ValueError, match=r"clip 'a' has terms: load the transcriber with Terms"):
        tokens(load(None), Clip("a", np.ones(9, np.int16), terms=("please",)))


def test_terms_that_are_too_many_for_one_recording_are_one_sentence():
    vocabulary = (ROOT / "models/tiny/vocabulary.txt").read_text().split()
    many = tuple(f"{a} {b}" for a in vocabulary[:60] for b in vocabulary[:60])
    with pytest.raises(ValueError, match=r"3600 terms of one recording have \d+ pieces, and 512"):
        tokens(load(Terms((), 1.0, True)), Clip("a", np.ones(9, np.int16), terms=many))


def test_terms_with_several_frames_per_pass_are_refused_in_one_sentence():
    model = ModelConfig(name="tiny", checkpoint=str(ROOT / "models/tiny"))
    engine = EngineConfig(device="cpu", dtype="float32", num_slots=1, frames_per_pass=2)
    for terms in (Terms(("please",), 1.0), Terms((), 1.0, True)):
        with pytest.raises(ValueError, match=r"terms need engine\.frames_per_pass=1, not 2"):
            Transcriber.load(model, engine, terms=terms)
