import numpy as np
import pytest
import torch

from nightscribe.training.evaluation import EvaluationClip, word_error_rate, written_text
from tests.training.models import CONFIG, FIRST_WORD_ID, small_model, tokenizer, tokenizer_model

LOW, HIGH = FIRST_WORD_ID, FIRST_WORD_ID + 1
PADDING, END_OF_PADDING = 3, 0


class Reciter:
    """Says its lines whatever it hears; keeps the scripts that it is given."""

    config = CONFIG

    def __init__(self, *lines):
        self.lines = list(lines)
        self.scripts = []

    def transcribe(self, samples_SN, scripts):
        self.scripts += scripts
        said, self.lines = self.lines[: len(samples_SN)], self.lines[len(samples_SN) :]
        return type("FrameOutputs", (), {"tokens_SF": torch.tensor(said)})


def clip(num_samples, text, prefix=()):
    return EvaluationClip(np.zeros(num_samples, np.int16), text, prefix)


def test_padding_separates_words_and_is_not_written():
    tokens = [PADDING, END_OF_PADDING, LOW, END_OF_PADDING, HIGH, PADDING]
    assert written_text(tokens, small_model(), tokenizer(tokenizer_model())) == "low high"


def test_errors_are_counted_over_all_words_whatever_the_order_of_the_clips():
    reciter = Reciter([0, LOW, 3], [0, HIGH, 3])  # the shorter recording is heard first
    clips = [clip(20, "high low low"), clip(10, "low")]
    assert word_error_rate(reciter, tokenizer(tokenizer_model()), clips) == pytest.approx(2 / 4)


def test_forced_tokens_are_not_words():
    reciter = Reciter([LOW, 0, HIGH, 3])
    clips = [clip(10, "high", prefix=(HIGH, LOW))]
    assert word_error_rate(reciter, tokenizer(tokenizer_model()), clips) == 0
    assert reciter.scripts[0].forced_tokens == (HIGH, LOW)
