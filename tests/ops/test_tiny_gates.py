"""What a small model must reach: a set that was not heard, or missed by little, has not passed."""

import copy

import pytest

from ops.tiny.gates import human_clips, passed

GOOD: dict = {
    "speech": {
        "held_out": {"wer": 0.08, "start_median_s": 0.040, "start_p90_s": 0.160},
        "unseen": {"wer": 0.10},
        "human": {"wer": 0.25},
        "human_test": {"wer": 0.25},
    },
    "wordless": {"silence": 0, "tune": 0},
    "seams": {"different": 0.003},
}


def test_a_model_at_all_limits_passes():
    assert all(passed(GOOD).values())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("speech", "held_out", "wer"), 0.081),
        (("speech", "unseen", "wer"), 0.101),
        (("speech", "human", "wer"), 0.251),
        (("speech", "human_test", "wer"), 0.251),
        (("speech", "held_out", "start_median_s"), 0.041),
        (("speech", "held_out", "start_p90_s"), 0.161),
        (("wordless", "tune"), 1),
        (("seams", "different"), 0.0031),
    ],
)
def test_each_limit_is_a_gate_of_its_own(path, value):
    found = copy.deepcopy(GOOD)
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert list(passed(found).values()).count(False) == 1


def test_what_was_not_heard_has_not_passed():
    found = copy.deepcopy(GOOD)
    del found["speech"]["human_test"]
    assert passed(found)["human_test: WER <= 25%"] is False


def test_only_clips_of_the_vocabulary_count(tmp_path):
    rows = "file\ttranscript_normalised\nnothing.flac\tpress beyond\nsilent.flac\t\n"
    (tmp_path / "transcripts.tsv").write_text(rows)
    assert human_clips(tmp_path, {"press"}) == []
