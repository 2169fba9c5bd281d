"""`python -m ops.benchmarks.compare` as a developer runs it."""

import pytest

from ops.benchmarks import compare
from tests.benchmarks.test_report import parsed


@pytest.fixture
def say(monkeypatch, capsys, tmp_path):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["compare", *words, f"folder={tmp_path}"])
        with pytest.raises(SystemExit) as ended:
            compare.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_a_step_is_written_to_the_terminal_and_to_a_file(say, tmp_path):
    code, out, _ = say("size=toy", "num_slots=[1,2]", "num_steps=2", "repeats=1", "peers=[]")
    assert code == 0
    assert [row["slots"] for row in parsed(out)] == ["1", "2"]
    (path,) = tmp_path.iterdir()
    assert out.endswith(f"{path}\n")
    text = path.read_text()
    assert parsed(text) == parsed(out)
    assert (
        "`python -m ops.benchmarks.compare size=toy num_slots=[1,2] num_steps=2 repeats=1 peers=[]`"
        in text
    )
    for known in ("torch 2", "commit ", "load ", "random weights"):
        assert known in text


def test_results_in_different_precisions_are_kept_side_by_side(say, tmp_path):
    for dtype in ("float32", "bfloat16"):
        say("size=toy", f"dtype={dtype}", "num_slots=[1]", "num_steps=1", "repeats=1", "peers=[]")
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["peers=[whisper]"], "there is no whisper"),
        (["num_slots=[0]"], "num_slots must be positive numbers"),
        (["repeats=0"], "repeats must be positive"),
        (["what=suite"], "what must be one of step, mimi, clips, queue, growth, got suite"),
        (["size=3b"], "size"),
    ],
)
def test_what_cannot_be_measured_is_reported_in_one_sentence(say, words, complaint):
    code, _, err = say(*words)
    assert code == 2
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("what", "row"),
    [("queue", "slots refilled at once"), ("growth", "median"), ("mimi", "2"), ("clips", "2")],
)
def test_every_measurement_gives_a_table(say, what, row):
    few = ["num_slots=[2]", "num_clips=4", "num_frames=2", "factor=2", "repeats=1", "peers=[]"]
    code, out, _ = say(f"what={what}", "size=toy", *few)
    assert code == 0
    assert row in {cell for found in parsed(out) for cell in found.values()}
