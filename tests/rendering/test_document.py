from hypothesis import given

from nightscribe.records import Word
from nightscribe.rendering.document import (
    Document,
    RenderingConfig,
    Speaker,
    monologue,
    paragraphs,
    utterances,
)
from tests.rendering.test_cues import speak
from tests.rendering.test_formats import spoken_words

CONFIG = RenderingConfig()


def texts(document, config=CONFIG):
    return [utterance.text for utterance in utterances(document, config)]


def test_punctuation_ends_an_utterance_but_not_inside_a_name():
    words = speak('Mr. so and so left. "Really?" He did, e.g. by boat.')
    assert texts(monologue("talk", words)) == [
        "Mr. so and so left.",
        '"Really?"',
        "He did, e.g. by boat.",
    ]


def test_a_pause_ends_an_utterance():
    words = [*speak("one two"), *speak("three four", start_s=2.0)]
    assert texts(monologue("talk", words)) == ["one two", "three four"]


def test_a_word_that_lasts_until_the_next_still_shows_the_pause():
    words = [Word("one", 0.0, 5.0, 0.9), Word("two", 5.0, 5.3, 0.9)]
    assert texts(monologue("talk", words)) == ["one", "two"]


def test_end_of_turn_detection_ends_an_utterance():
    words = tuple(speak("yes of course now tell me"))
    spoken = Document("talk", (Speaker("", words, turn_ends_s=(0.8,)),))
    assert texts(spoken) == ["yes of course", "now tell me"]
    assert len(list(paragraphs(utterances(spoken, CONFIG), CONFIG))) == 2


def test_paragraphs_end_with_a_long_pause_a_speaker_or_enough_sentences():
    config = RenderingConfig(max_paragraph_words=4)
    left = [*speak("One two. Three four. Five six."), *speak("Seven.", start_s=9.0)]
    document = Document(
        "call", (Speaker("L", tuple(left)), Speaker("R", tuple(speak("Eight.", start_s=20))))
    )
    found = [
        " ".join(utterance.text for utterance in paragraph)
        for paragraph in paragraphs(utterances(document, config), config)
    ]
    assert found == ["One two. Three four.", "Five six.", "Seven.", "Eight."]


@given(spoken_words())
def test_utterances_and_paragraphs_partition_the_words(words):
    spoken = utterances(monologue("talk", words), CONFIG)
    parts = [utterance for paragraph in paragraphs(spoken, CONFIG) for utterance in paragraph]
    assert parts == spoken
    assert [word for utterance in spoken for word in utterance.words] == list(words)
