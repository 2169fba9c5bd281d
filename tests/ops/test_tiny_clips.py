"""Windows of clips: single words and phrases with nothing around them, words where they sound."""

import numpy as np

from nightscribe.training.targets import TimedTokens
from nightscribe.training.windows import Utterance
from ops.tiny.clips import MAX_CUT_S, clip_window
from ops.tiny.corpus import RATE_HZ

WINDOW = 15 * RATE_HZ


def utterance(*spans_s: tuple[float, float]) -> Utterance:
    """Words sound as their number plus one, all else is silent."""
    samples_N = np.zeros(4 * RATE_HZ, np.float32)
    words = []
    for number, (start_s, end_s) in enumerate(spans_s):
        samples_N[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)] = number + 1
        words.append(TimedTokens((number,), start_s, end_s))
    return Utterance(samples_N, tuple(words))


SAID = utterance((0.5, 0.9), (1.0, 1.4), (1.5, 2.2))


def drawn(seed: int):
    return clip_window([SAID], WINDOW, np.random.default_rng(seed))


def test_nothing_sounds_outside_the_clips():
    for seed in range(10):
        window = drawn(seed)
        assert not window.samples_N[~window.is_clip_N].any()
        assert 0.05 < window.is_clip_N.mean() < 0.8


def test_words_lie_where_they_sound():
    for seed in range(10):
        window = drawn(seed)
        for word in window.words:
            middle = int((word.start_s + word.end_s) / 2 * RATE_HZ)
            assert window.samples_N[middle] != 0
            # Cut starts are cut by so little that the word is still one.
            assert window.is_clip_N[max(0, int((word.start_s + 1.2 * MAX_CUT_S) * RATE_HZ))]


def test_a_word_taken_from_a_phrase_brings_no_other_along():
    single = [drawn(seed) for seed in range(30)]
    alone = 0
    for window in single:
        edges = np.flatnonzero(np.diff(np.r_[0, window.is_clip_N.astype(int), 0]))
        for first, end in edges.reshape(-1, 2) / RATE_HZ:
            inside = [w for w in window.words if first - 0.1 < w.start_s < end]
            if len(inside) == 1:
                alone += 1
                heard = window.samples_N[int(first * RATE_HZ) : int(end * RATE_HZ)]
                levels = heard[heard != 0]
                middle = levels[len(levels) // 4 : -len(levels) // 4]
                assert np.ptp(middle) < 0.05 * middle.max()
    assert alone > 20


def test_whole_utterances_are_clips_too():
    assert any(
        {0, 1, 2} <= {w.tokens[0] for w in drawn(seed).words} and len(drawn(seed).words) >= 3
        for seed in range(5)
    )
