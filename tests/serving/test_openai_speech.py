"""A request to speak is refused by name before anything is made."""

import pytest

from nightscribe.serving.openai_speech import _text
from nightscribe.serving.transcriptions import RequestError


@pytest.mark.parametrize("content", [{}, {"input": 7}, {"input": None}, {"input": "  "}])
def test_a_request_without_text_is_refused(content):
    with pytest.raises(RequestError, match="input must be given, as a text"):
        _text(content, "input")
    assert _text(content | {"input": " a "}, "input") == " a "
