import asyncio

import numpy as np
import pytest

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.stall_retry import hear_attempts, hear_attempts_later, redecode
from nightscribe.records import Span, Word
from tests.guards.sounds import RATE_HZ, counted, said

CONFIG = GuardsConfig(retry_temperature=0.4)
SPEECH = [Span(0, 40)]
TRUTH = counted(0, 40)
# The samples carry their own time, so that an attempt shows which audio it holds.
CLOCK_N = (np.arange(40 * RATE_HZ) * 100 // RATE_HZ + 1).astype(np.int16)


class StallingModel:
    """Hears the truth of whatever span it is given, from the given attempt on."""

    def __init__(self, heals_at=1, rubbish=()):
        self.heals_at, self.rubbish, self.attempts = heals_at, rubbish, []

    def __call__(self, attempt):
        self.attempts.append(attempt)
        if len(self.attempts) < self.heals_at:
            return list(self.rubbish)
        end_s = attempt.start_s + len(attempt.samples_N) / RATE_HZ
        heard = [word for word in TRUTH if attempt.start_s <= word.start_s < end_s]
        return [
            Word(w.text, w.start_s - attempt.start_s, w.end_s - attempt.start_s, 0.8) for w in heard
        ]


def run(words, model, config=CONFIG, speech=SPEECH):
    return hear_attempts(redecode(CLOCK_N, RATE_HZ, words, speech, config), model)


def without(start_s, end_s):
    return [word for word in TRUTH if not start_s <= word.start_s < end_s]


def texts_of(words):
    return [word.text for word in words]


def times(words):
    return [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in words]


@pytest.mark.parametrize("span", [(10, 30), (0, 20), (25, 40), (0, 40)])
def test_a_cured_stall_gives_the_words_of_an_unbroken_hearing(span):
    redecoded = run(without(*span), StallingModel())
    assert times(redecoded.words) == times(TRUTH)
    assert len(redecoded.cured) == redecoded.num_attempts == 1


def test_nothing_is_heard_again_where_nothing_stalled():
    model = StallingModel()
    assert run(TRUTH, model).words == tuple(TRUTH)
    assert model.attempts == []


def test_attempts_are_fresh_then_after_silence_then_at_a_temperature():
    model = StallingModel(heals_at=3)
    redecoded = run(without(10, 30), model)
    fresh, quiet, warm = model.attempts
    assert [attempt.temperature for attempt in model.attempts] == [0.0, 0.0, 0.4]
    assert fresh.samples_N[0] == CLOCK_N[round(fresh.start_s * RATE_HZ)]
    num_silent = len(quiet.samples_N) - len(fresh.samples_N)
    assert num_silent == 2 * RATE_HZ
    assert not quiet.samples_N[:num_silent].any()
    assert quiet.samples_N[num_silent:].tolist() == fresh.samples_N.tolist()
    assert warm.start_s == quiet.start_s == fresh.start_s - 2
    assert times(redecoded.words) == times(TRUTH)


def test_an_incurable_stall_keeps_what_was_known_and_says_so():
    redecoded = run(without(10, 30), StallingModel(heals_at=9))
    assert redecoded.words == tuple(without(10, 30))
    assert redecoded.cured == ()
    assert redecoded.num_attempts == 3


def test_a_loop_is_no_cure():
    model = StallingModel(heals_at=9, rubbish=said("thank you " * 20, 1.0))
    assert run(without(10, 30), model).words == tuple(without(10, 30))


def test_the_better_of_two_incomplete_hearings_is_kept():
    model = StallingModel(heals_at=9, rubbish=counted(2, 8))
    redecoded = run(without(10, 30), model)
    assert len(redecoded.words) == len(without(10, 30)) + 12
    assert redecoded.cured == ()


@pytest.mark.parametrize("shift_s", [-0.4, -0.2, 0.2, 0.4])
def test_a_word_at_the_edge_is_heard_once_however_the_times_are_off(shift_s):
    shifted = [
        Word(word.text, max(word.start_s + shift_s, 0), max(word.end_s + shift_s, 0), 0.9)
        for word in TRUTH
    ]
    known = [word for word in shifted if not 10 <= word.start_s < 30]
    assert [word.text for word in run(known, StallingModel()).words] == texts_of(TRUTH)


def test_a_stretched_word_ends_where_the_words_found_after_it_begin():
    *words, last = without(10, 40)
    redecoded = run([*words, Word(last.text, last.start_s, 40.0, 0.9)], StallingModel())
    assert all(word.end_s - word.start_s <= 1.1 for word in redecoded.words)


def test_audio_decoded_again_is_limited():
    model = StallingModel()
    assert run(without(10, 30), model, GuardsConfig(max_retry_s=5.0)).num_attempts == 0


def test_a_model_that_many_ask_hears_the_same():
    model = StallingModel(heals_at=3)

    async def hear(attempt):
        return model(attempt)

    attempts = redecode(CLOCK_N, RATE_HZ, without(10, 30), SPEECH, CONFIG)
    redecoded = asyncio.run(hear_attempts_later(attempts, hear))
    assert redecoded == run(without(10, 30), StallingModel(heals_at=3))


def test_no_temperature_means_two_attempts():
    model = StallingModel(heals_at=9)
    run(without(10, 30), model, GuardsConfig(retry_temperature=0.0))
    assert len(model.attempts) == 2
