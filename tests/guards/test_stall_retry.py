import numpy as np
import pytest

from nightscribe.guards.config import GuardsConfig
from nightscribe.guards.stall_retry import retry_stalls
from nightscribe.records import Span, Word
from tests.guards.retries import run_retries
from tests.guards.sounds import RATE_HZ, counted, speak

CONFIG = GuardsConfig(retry_temperature=0.4)
SPEECH = [Span(0, 40)]
WORDS = counted(0, 40)
# The samples carry their own time, so that an attempt shows which audio it holds.
CLOCK_N = (np.arange(40 * RATE_HZ) * 100 // RATE_HZ + 1).astype(np.int16)


class StallingModel:
    """Transcribes any span correctly, from the given attempt on."""

    def __init__(self, works_at=1, wrong_words=()):
        self.works_at, self.wrong_words, self.attempts = works_at, wrong_words, []

    def __call__(self, attempt):
        self.attempts.append(attempt)
        if len(self.attempts) < self.works_at:
            return list(self.wrong_words)
        end_s = attempt.start_s + len(attempt.samples_N) / RATE_HZ
        inside = [word for word in WORDS if attempt.start_s <= word.start_s < end_s]
        return [
            Word(w.text, w.start_s - attempt.start_s, w.end_s - attempt.start_s, 0.8)
            for w in inside
        ]


def run(words, model, config=CONFIG, speech=SPEECH):
    return run_retries(retry_stalls(CLOCK_N, RATE_HZ, words, speech, config), model)


def without(start_s, end_s):
    return [word for word in WORDS if not start_s <= word.start_s < end_s]


def texts_of(words):
    return [word.text for word in words]


def times(words):
    return [(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in words]


@pytest.mark.parametrize("span", [(10, 30), (0, 20), (25, 40), (0, 40)])
def test_a_fixed_stall_gives_the_words_of_a_run_without_a_stall(span):
    result = run(without(*span), StallingModel())
    assert times(result.words) == times(WORDS)
    assert len(result.fixed_stalls) == result.num_attempts == 1


def test_nothing_is_retried_where_nothing_stalled():
    model = StallingModel()
    assert run(WORDS, model).words == tuple(WORDS)
    assert model.attempts == []


def test_attempts_are_fresh_then_after_silence_then_at_a_temperature():
    model = StallingModel(works_at=3)
    result = run(without(10, 30), model)
    fresh, quiet, warm = model.attempts
    assert [attempt.temperature for attempt in model.attempts] == [0.0, 0.0, 0.4]
    assert fresh.samples_N[0] == CLOCK_N[round(fresh.start_s * RATE_HZ)]
    num_silent = len(quiet.samples_N) - len(fresh.samples_N)
    assert num_silent == 2 * RATE_HZ
    assert not quiet.samples_N[:num_silent].any()
    assert quiet.samples_N[num_silent:].tolist() == fresh.samples_N.tolist()
    assert warm.start_s == quiet.start_s == fresh.start_s - 2
    assert times(result.words) == times(WORDS)


def test_a_stall_that_no_attempt_fixes_keeps_the_first_words():
    result = run(without(10, 30), StallingModel(works_at=9))
    assert result.words == tuple(without(10, 30))
    assert result.fixed_stalls == ()
    assert result.num_attempts == 3


def test_a_loop_does_not_fix_a_stall():
    model = StallingModel(works_at=9, wrong_words=speak("thank you " * 20, 1.0))
    assert run(without(10, 30), model).words == tuple(without(10, 30))


def test_the_better_of_two_incomplete_attempts_is_kept():
    model = StallingModel(works_at=9, wrong_words=counted(2, 8))
    result = run(without(10, 30), model)
    assert len(result.words) == len(without(10, 30)) + 12
    assert result.fixed_stalls == ()


def test_a_later_attempt_replaces_the_words_of_an_earlier_one():
    model = StallingModel(works_at=2, wrong_words=counted(2, 8))
    result = run(without(10, 30), model)
    assert len(model.attempts) == 2
    assert times(result.words) == times(WORDS)


@pytest.mark.parametrize("known_s", [-0.4, 0.4])
def test_a_word_at_the_edge_appears_once_though_its_two_times_are_off_in_opposite_directions(
    known_s,
):
    model = StallingModel()

    def early_or_late(attempt):
        return [shifted(word, -known_s) for word in model(attempt)]

    known = [shifted(word, known_s) for word in without(10, 30)]
    assert texts_of(run(known, early_or_late).words) == texts_of(WORDS)


def shifted(word, by_s):
    start_s, end_s = (max(time_s + by_s, 0.0) for time_s in (word.start_s, word.end_s))
    return Word(word.text, start_s, end_s, word.confidence)


@pytest.mark.parametrize("shift_s", [-0.4, -0.2, 0.2, 0.4])
def test_a_word_at_the_edge_appears_once_however_the_times_are_off(shift_s):
    shifted = [
        Word(word.text, max(word.start_s + shift_s, 0), max(word.end_s + shift_s, 0), 0.9)
        for word in WORDS
    ]
    known = [word for word in shifted if not 10 <= word.start_s < 30]
    assert [word.text for word in run(known, StallingModel()).words] == texts_of(WORDS)


def test_a_stretched_word_ends_where_the_words_found_after_it_begin():
    *words, last = without(10, 40)
    result = run([*words, Word(last.text, last.start_s, 40.0, 0.9)], StallingModel())
    assert all(word.end_s - word.start_s <= 1.1 for word in result.words)


def test_retried_audio_is_limited():
    model = StallingModel()
    assert run(without(10, 30), model, GuardsConfig(max_retry_s=5.0)).num_attempts == 0


@pytest.mark.parametrize(("limit_s", "num_fixed"), [(17.9, 0), (18.0, 1), (35.9, 1), (36.0, 2)])
def test_stalls_are_retried_as_long_as_their_sum_is_within_the_limit(limit_s, num_fixed):
    known = [word for word in WORDS if not 1 <= word.start_s < 20 and word.start_s < 21.5]
    result = run(known, StallingModel(), GuardsConfig(max_retry_s=limit_s))
    assert [span.duration_s for span in result.fixed_stalls] == pytest.approx([18.0] * num_fixed)
    assert result.num_attempts == num_fixed


def test_no_temperature_means_two_attempts():
    model = StallingModel(works_at=9)
    run(without(10, 30), model, GuardsConfig(retry_temperature=0.0))
    assert len(model.attempts) == 2
