"""A prompt is output or comes before the recording, and is not part of the transcript."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightscribe.model.config import SpeechToTextConfig
from nightscribe.model.prompting import SEPARATOR_FRAMES, Prompt, SpeechProcessor
from tests.goldens.inputs import LANGUAGE_MODEL, MIMI

PAD, END, A, B, C = 3, 0, 4, 5, 6
FRAME = MIMI.frame_samples
CONFIG = SpeechToTextConfig(
    mimi=MIMI, language_model=LANGUAGE_MODEL, delay_s=0.5, silence_prefix_s=0.1
)


class Letters:
    """Tokens 4, 5, ... are a word each: a, b, ..."""

    def encode(self, text):
        return [ord(letter) - 93 for letter in text.replace(" ", "")]

    def decode(self, tokens):
        return " ".join(chr(93 + token) for token in tokens)

    def begins_word(self, token):
        return True


@dataclass
class FirstTokens:
    tokens: tuple[int, ...]

    def first_tokens(self, padding_id):
        return (*self.tokens, padding_id, padding_id)


@pytest.fixture
def interpreter():
    domains = {"law": FirstTokens((9, 8)), "news": FirstTokens((7,))}
    return SpeechProcessor(config=CONFIG, tokenizer=Letters(), domains=domains)


def texts(interpreter, tokens, prompt):
    words = interpreter.words(tokens, [1.0] * len(tokens), 99 * FRAME, prompt)
    return [word.text for word in words]


def test_a_domain_is_set_by_tokens_that_are_not_words(interpreter):
    prompt = Prompt(domain="law")
    assert interpreter.constraints(prompt).forced_tokens == (9, 8, PAD, PAD)
    assert interpreter.constraints(prompt).prompt_tokens == ()
    said = [9, 8, PAD, PAD, *[PAD] * 6, END, A, PAD]
    assert texts(interpreter, said, prompt) == ["a"]


def test_recordings_that_name_no_domain_have_the_models_usual_one(interpreter):
    assert interpreter.constraints(interpreter.prompt()).forced_tokens == ()
    usual = SpeechProcessor(
        config=CONFIG, tokenizer=Letters(), domains=interpreter.domains, default_domain="news"
    )
    assert usual.constraints(usual.prompt()).forced_tokens == (7, PAD, PAD)
    assert usual.constraints(usual.prompt("law")).forced_tokens == (9, 8, PAD, PAD)


def test_an_unknown_domain_is_named_with_the_known_ones(interpreter):
    with pytest.raises(ValueError, match="no domain 'sports'; it knows law, news"):
        interpreter.constraints(Prompt(domain="sports"))


def test_a_prompt_text_is_output_before_the_transcript_begins(interpreter):
    prompt = Prompt(text="a b a")
    assert interpreter.constraints(prompt).prompt_tokens == (A, B, A)
    said = [*[PAD] * 8, END, A, END, B, PAD, PAD, END, A, END, A, PAD, END, B]
    assert texts(interpreter, said, prompt) == ["a", "b"]


def test_a_text_that_was_never_finished_leaves_no_answer(interpreter):
    assert texts(interpreter, [*[PAD] * 8, END, A, END, B], Prompt(text="a b a")) == []


def test_prompt_audio_comes_in_whole_frames_before_a_silence_and_the_recording(interpreter):
    prompt = Prompt(samples_N=np.full(FRAME + 1, 5, np.int16))
    heard_N = interpreter.input_samples(np.full(7, 9, np.int16), prompt)
    lead = (2 + SEPARATOR_FRAMES) * FRAME
    assert heard_N.dtype == np.int16
    assert (heard_N[: FRAME + 1] == 5).all()
    assert not heard_N[FRAME + 1 : lead].any()
    assert heard_N[lead:].tolist() == [9] * 7


def test_without_prompt_audio_the_input_is_the_recording(interpreter):
    samples_N = np.arange(5, dtype=np.int16)
    assert interpreter.input_samples(samples_N, Prompt(text="a")).tolist() == samples_N.tolist()


SAID = st.lists(st.sampled_from([PAD, PAD, END, A, B, C]), max_size=30)


@given(
    answer=SAID,
    said_of_prompt=st.lists(st.sampled_from([PAD, END, A, B]), min_size=18, max_size=18),
)
def test_a_prompts_sound_neither_adds_to_the_answer_nor_shifts_it(answer, said_of_prompt):
    """Twelve frames of prompt and silence come first; its last word closes in the silence."""
    interpreter = SpeechProcessor(config=CONFIG, tokenizer=Letters())
    prompt = Prompt(samples_N=np.ones(2 * FRAME, np.int16))
    before = CONFIG.prefix_frames + CONFIG.delay_steps
    first_half, lead = 2 + SEPARATOR_FRAMES // 2 + before, 2 + SEPARATOR_FRAMES
    told = [*said_of_prompt[:first_half], *[PAD] * (lead + before - first_half), *answer]
    alone = [*[PAD] * before, *answer]
    probabilities = np.linspace(0.1, 0.9, len(told))
    with_prompt = interpreter.words(told, probabilities, 20 * FRAME, prompt)
    without = interpreter.words(alone, probabilities[lead:], 20 * FRAME)
    assert [w.text for w in with_prompt] == [w.text for w in without]
    assert [w.start_s for w in with_prompt] == pytest.approx([w.start_s for w in without])
    assert [w.end_s for w in with_prompt] == pytest.approx([w.end_s for w in without])
    assert [w.confidence for w in with_prompt] == pytest.approx([w.confidence for w in without])
