"""A text is spoken the same alone and among others, whole and frame by frame."""

import numpy as np
import pytest
from safetensors.torch import save_file

from nightscribe.errors import NightscribeError
from nightscribe.model.checkpoints.text_to_speech import open_speech_checkpoint
from nightscribe.model.tts.conditioning import ConditionError
from nightscribe.speech.config import SpeechConfig
from nightscribe.speech.synthesizer import (
    Speech,
    SpeechFailure,
    SpeechRequest,
    Synthesizer,
    options_of,
)
from nightscribe.speech.voices import Voices
from tests.model.tts import peer
from tests.speech.checkpoints import CROSS, PROMPT, write_speech_checkpoint, write_voiced_checkpoint

FRAME_S = 0.08
FIRST_WORD_S = 2 * FRAME_S  # every text begins with two steps of padding


def request_of(name: str, *turns: str, voice: str = "ann", seed: int = 0) -> SpeechRequest:
    voices = (voice,) if len(turns) < 2 else (voice, "bob")
    return SpeechRequest(request_id=name, turns=turns, voices=voices, seed=seed)


REQUESTS = [
    request_of("short", "one two"),
    request_of("long", "the night is long and the scribe writes on until the morning", voice="bob"),
    request_of("dialogue", "who counts", "he counts the waves", "so"),
    request_of("break", 'one <break time="0.4s"/> two', seed=5),
    request_of("again", "one two", seed=5),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_voiced_checkpoint(tmp_path_factory.mktemp("speech"))


def load(folder, num_slots: int, temperature: float, read_audio=None, **options) -> Synthesizer:
    checkpoint = open_speech_checkpoint(str(folder))
    voices = Voices(checkpoint, str(folder), read_audio)
    config = SpeechConfig(
        device="cpu", num_slots=num_slots, temperature=temperature, dtype="float32", **options
    )
    return Synthesizer.load(checkpoint, voices, config, guidance=2.0)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_text_is_spoken_alone_as_among_others(folder, temperature):
    together = {
        speech.request.request_id: speech
        for speech in load(folder, 2, temperature).speak(REQUESTS)
        if isinstance(speech, Speech)
    }
    assert len(together) == len(REQUESTS)
    alone = load(folder, 1, temperature)
    for request in REQUESTS:
        (speech,) = alone.speak([request])
        assert speech.words == together[request.request_id].words
        np.testing.assert_allclose(
            speech.samples_N, together[request.request_id].samples_N, atol=1e-5
        )


def test_a_stream_gives_the_same_samples_frame_by_frame(folder):
    synthesizer = load(folder, 1, 0.8)
    (speech,) = synthesizer.speak([REQUESTS[2]])
    frames = list(synthesizer.stream(REQUESTS[2]))
    assert {len(frame) for frame in frames} == {int(FRAME_S * speech.sample_rate_hz)}
    np.testing.assert_allclose(np.concatenate(frames), speech.samples_N, atol=1e-5)


def test_texts_that_are_decoded_together_frame_by_frame_forget_those_before_them(folder):
    batch = load(folder, 2, 0.0).batch()
    heard = []
    for _ in range(2):
        both = [batch.begin(request_of(voice, "one", voice=voice), 1) for voice in ("ann", "bob")]
        while not all(utterance.is_complete for utterance in both):
            batch.step()
        heard.append([utterance.take_samples() for utterance in both])
        for utterance in both:
            batch.remove(utterance)
    for before_N, again_N in zip(*heard, strict=True):
        np.testing.assert_allclose(again_N, before_N, atol=1e-5)


def test_words_are_those_of_the_text_in_order_and_inside_the_sound(folder):
    for speech in load(folder, 3, 0.8).speak(REQUESTS):
        words = [word for turn in speech.request.turns for word in turn.split()]
        written = [word for word in words if "<" not in word and "time=" not in word]
        assert [word.text for word in speech.words] == written
        starts = [word.start_s for word in speech.words]
        assert starts == sorted(starts)
        assert starts[0] == pytest.approx(FIRST_WORD_S)
        assert all(0 <= w.start_s < w.end_s <= speech.duration_s for w in speech.words)


def test_another_seed_and_another_voice_speak_otherwise(folder):
    requests = [
        request_of("a", "one two"),
        request_of("b", "one two", seed=1),
        request_of("c", "one two", voice="bob"),
        request_of("d", "one two"),
    ]
    spoken = {s.request.request_id: s.samples_N for s in load(folder, 4, 0.8).speak(requests)}
    assert np.array_equal(spoken["a"], spoken["d"])
    assert not np.array_equal(spoken["a"], spoken["b"])
    assert not np.array_equal(spoken["a"], spoken["c"])


def test_the_second_voice_of_a_dialogue_is_its_own_though_another_shares_the_first(folder):
    def dialogue(name: str, *voices: str) -> SpeechRequest:
        return SpeechRequest(request_id=name, turns=("one", "two"), voices=voices)

    requests = [dialogue("a", "ann", "bob"), dialogue("b", "ann", "ann")]
    together = {s.request.request_id: s.samples_N for s in load(folder, 2, 0.0).speak(requests)}
    for request in requests:
        (alone,) = load(folder, 1, 0.0).speak([request])
        np.testing.assert_allclose(alone.samples_N, together[request.request_id], atol=1e-5)
    assert not np.array_equal(together["a"], together["b"])


def test_a_shorter_voice_speaks_beside_a_longer_one_as_alone(folder):
    short_1WT = peer.random_voice(3)[None, :, :4].contiguous()
    save_file({"speaker_wavs": short_1WT}, folder / "short.safetensors")
    short = request_of("short", "one two", voice=str(folder / "short.safetensors"))
    (alone,) = load(folder, 1, 0.0).speak([short])
    both = load(folder, 2, 0.0).speak([request_of("long", "one two"), short])
    together = {one.request.request_id: one for one in both}
    np.testing.assert_allclose(together["short"].samples_N, alone.samples_N, atol=1e-5)


def test_texts_that_cannot_be_spoken_are_failures_among_the_others(folder):
    bad = [
        request_of("empty", ""),
        request_of("spaces", " \n\t "),
        request_of("huge", "a " * 30_000),
        request_of("comma", 'a <break time="1,5s"/>'),
        request_of("voice", "one", voice="nobody"),
        request_of("letter", "one", voice="my dear Ann, " * 40),
        request_of("zero", "one", voice="an\0n"),
    ]
    results = list(load(folder, 2, 0.0).speak([*bad, REQUESTS[0]]))
    failed = {
        one.request.request_id: one.detail for one in results if isinstance(one, SpeechFailure)
    }
    assert failed.keys() == {request.request_id for request in bad}
    assert "no word" in failed["empty"]
    assert "'nobody'" in failed["voice"]
    assert "no voice 'my dear Ann" in failed["letter"]
    assert [s.request.request_id for s in results if isinstance(s, Speech)] == ["short"]


def test_a_recording_lends_its_voice_to_a_model_without_speakers(tmp_path):
    folder = write_speech_checkpoint(tmp_path, PROMPT)
    (folder / "me.wav").touch()
    (folder / "tiny.wav").touch()
    rng = np.random.default_rng(0)

    def read_audio(path):
        num_samples = 1000 if path.stem == "tiny" else 24_000
        return (rng.standard_normal(num_samples) * 3000).astype(np.int16)

    synthesizer = load(folder, 2, 0.0, read_audio)
    request = request_of("a", "one two three", voice=str(folder / "me.wav"))
    (speech,) = synthesizer.speak([request])
    assert [word.text for word in speech.words] == ["one", "two", "three"]
    assert speech.words[0].start_s == pytest.approx(FIRST_WORD_S)
    np.testing.assert_allclose(
        np.concatenate(list(synthesizer.stream(request))), speech.samples_N, atol=1e-5
    )
    (failure,) = synthesizer.speak([request_of("b", "one", voice=str(folder / "tiny.wav"))])
    assert "0.04 s" in failure.detail


def test_options_that_the_model_cannot_follow_are_refused(folder):
    with pytest.raises(NightscribeError, match="at most 5"):
        load(folder, 1, 0.0, num_codebooks=9)


@pytest.mark.parametrize("guidance", [7.0, 1.96, 1.25])
def test_a_guidance_that_no_text_could_have_is_refused_before_any_is_spoken(guidance):
    with pytest.raises(
        ConditionError, match=f"one of 1.0, 1.5, 2.0 for this model, not {guidance:g}"
    ):
        options_of(CROSS, SpeechConfig(), guidance)
    assert options_of(CROSS, SpeechConfig(), 1.5).guidance is None
    assert options_of(PROMPT, SpeechConfig(), guidance).guidance == guidance


def test_fewer_codebooks_speak_too(folder):
    (speech,) = load(folder, 1, 0.0, num_codebooks=3).speak([REQUESTS[0]])
    assert speech.duration_s > 0
