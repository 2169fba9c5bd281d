"""What `import nightscribe` offers to Python programs."""

import subprocess
import sys

import pytest

import nightscribe


def test_every_public_name_can_be_imported():
    for name in nightscribe.__all__:
        assert getattr(nightscribe, name).__name__ == name
    assert dir(nightscribe) == sorted(nightscribe.__all__)


def test_importing_the_package_loads_neither_torch_nor_ray():
    script = (
        "import sys, nightscribe; from nightscribe import EngineConfig, ModelConfig, transcribe; "
        "print(*({'torch', 'ray'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Transcribe'"):
        nightscribe.Transcribe  # noqa: B018


def test_a_file_is_transcribed_in_one_call():
    transcript = nightscribe.transcribe(
        "samples/bella.opus", model="tiny", settings={"engine.device": "cpu", "channel": 0}
    )
    assert transcript.text == " ".join(word.text for word in transcript.words)
    assert len(transcript.words) > 5
    assert 0 <= transcript.words[0].start_s < transcript.words[-1].end_s <= transcript.duration_s


def test_a_transcriber_gives_the_same_words_for_many_clips():
    whole = nightscribe.transcribe("samples/bella.opus", model="tiny")
    transcriber = nightscribe.load_transcriber("tiny", settings={"engine.num_slots": 2})
    samples_N = nightscribe.read_audio("samples/bella.opus")
    clips = [nightscribe.Clip(name, samples_N) for name in "abc"]
    for one in transcriber.transcribe(clips):
        assert [word.text for word in one.words] == [word.text for word in whole.words]


def test_a_wrong_setting_is_refused_by_name():
    with pytest.raises(ValueError, match=r"there is no key engine\.devise"):
        nightscribe.transcribe("a.wav", model="tiny", settings={"engine.devise": "cpu"})
