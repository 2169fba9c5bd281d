"""What a row of a manifest says is read as it is meant, however it is written."""

import pytest

from nightscribe.storage.manifests import timed_words


@pytest.mark.parametrize(
    "written", [{"text": "a", "start_s": 0.5, "end_s": 1.0}, {"word": "a", "start": 0.5, "end": 1}]
)
def test_a_word_that_a_person_wrote_is_certain(written):
    (word,) = timed_words([written], "row 1")
    assert (word.text, word.start_s, word.end_s, word.confidence) == ("a", 0.5, 1.0, 1.0)
