"""A request to speak is refused by name before anything is made."""

import pytest

from nightscribe.serving.openai_speech import _format, _text
from nightscribe.serving.transcriptions import RequestError


@pytest.mark.parametrize("content", [{}, {"input": 7}, {"input": None}, {"input": "  "}])
def test_a_request_without_text_is_refused(content):
    with pytest.raises(RequestError, match="input must be given, as a text"):
        _text(content, "input")
    assert _text(content | {"input": " a "}, "input") == " a "


@pytest.mark.parametrize("format", ["ogg", ["mp3"], {"mp3": 1}, 3])
def test_a_format_that_is_none_is_refused(format):
    with pytest.raises(RequestError, match="response_format must be one of mp3, opus"):
        _format({"response_format": format})
    assert _format({"response_format": "opus"}) == "opus"
    assert _format({"response_format": None}) == "mp3"
