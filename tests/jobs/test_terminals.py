"""Every command on a pseudo-terminal, as a person meets it: the last frame is read."""

import json
import shutil
from pathlib import Path

import pytest

from nightscribe.jobs.cli import COMMANDS
from nightscribe.storage.locations import open_store
from nightscribe.storage.result_tables import publish_failures, publish_transcripts
from nightscribe.storage.s3 import S3Config
from tests.jobs.test_status import written
from tests.reading.runs import failure, transcript
from tests.survey.sounds import make_sound
from tests.terminals import PROMPT, ROOT, SIZES, Terminal

START_S = 400  # of Ray and the model, where other tests take the CPUs
SAMPLE = ROOT / "samples/human-press-five.flac"
SMALL, LARGE = SIZES["small"], SIZES["large"]
# Starting more workers takes longer than all their work.
QUICK = ("model=tiny", "cluster.num_audio_workers=1", "intervals.commit_s=0.5")
WORKERS = "cluster.in_process=never"
DUMB, PLAIN, C = {"TERM": "dumb"}, {"NO_COLOR": "1"}, {"LC_ALL": "C"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a name in another script, its reference and a failure."""
    folder = tmp_path_factory.mktemp("terminals")
    make_sound(folder / "grüße.wav", 2.0)
    store = open_store(str(folder / "out"), S3Config())
    publish_transcripts(
        store, [transcript(str(folder / "grüße.wav"), "well then, grüße", text="well now grüße")]
    )
    publish_failures(store, [failure(str(folder / "broken.wav"))])
    written(folder / "out", state="finished")
    return folder


# Words, the exit code, a text of the last frame; every command in some size, terminal and locale.
CASES = {
    "status": (["{run}/out"], 0, "finished"),
    "show": (["{run}/out", "grüße"], 0, "grüße"),
    "export": (["{run}/out", "to={run}/exported"], 0, "exported"),
    "evaluate": (["{run}/out"], 0, "WER"),
    "report": (["{run}/out"], 0, ".html"),
    "plan": (["{run}"], 0, "recordings"),
    "doctor": (["--simulate", "T4", "model=stt-2.6b-en"], 0, "streams at once"),
    "completion": (["nightscribe tr"], 0, "transcribe"),
    "file": (["{sample}", "model=tiny"], 0, "press"),
    "submit": (
        ["ray.address=http://127.0.0.1:9", "input=/a", "output=/b", "model=tiny"],
        2,
        "127.0.0.1:9",
    ),
    "transcribe": (["input=/nowhere", "output={run}/new", "model=tiny"], 2, "/nowhere"),
    "train": (
        ["manifest=/nowhere.jsonl", "output={run}/model", "model=tiny"],
        2,
        "there is no file",
    ),
    "bench": (["model=nothing"], 2, "nothing"),
    "history": (["/nowhere"], 2, "no run has written here"),
    "cast": (["/nowhere"], 2, "no run has written here"),
    "diff": (["/nowhere"], 2, "no run has written here"),
    "correct": (["/nowhere", "x"], 2, "x is not a manifest"),
    "live": (["{sample}", "url=http://127.0.0.1:9"], 2, "cannot be reached"),
    "speak": (["text=hello", "tts=nothing"], 2, "nothing"),
    "serve": (["model=nothing"], 2, "nothing"),
    "synthesize": (["input=/nowhere.csv", "output={run}/speech", "tts=nothing"], 2, "nothing"),
}
KINDS = [
    (SMALL, {}), (LARGE, {}), (SMALL, DUMB), (SMALL, PLAIN), (SMALL, C), (LARGE, C), (LARGE, DUMB),
]  # fmt: skip


def test_every_command_is_here():
    assert set(CASES) == set(COMMANDS)


@pytest.mark.parametrize("index", range(len(CASES)), ids=CASES)
def test_a_command_ends_with_a_clean_screen(run, index):
    name, (words, code, text) = list(CASES.items())[index]
    size, env = KINDS[index % len(KINDS)]
    given = [word.format(run=run, sample=SAMPLE) for word in words]
    with Terminal(name, *given, size=size, env=env) as terminal:
        assert terminal.end() == code, terminal.text
        assert text in terminal.text.replace("\n", "")
        assert "Traceback" not in terminal.text
        assert terminal.has_cursor
        assert terminal.cursor_column == 0
        if env == DUMB:
            # Ray brings colorama, which resets colours when the process ends.
            assert b"\x1b" not in terminal.written.removesuffix(b"\x1b[0m")


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_run_is_watched_resized_stopped_continued_and_asked_to_end(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        shutil.copy(ROOT / "samples/alice.opus", tmp_path / f"in/{number}.opus")
    words = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *QUICK, WORKERS]
    with Terminal("transcribe", *words, size=LARGE) as terminal:
        terminal.wait_for("reading the model")
        terminal.wait_for("starting Ray")
        terminal.type(b"\x1a")
        terminal.wait_for(PROMPT)
        assert terminal.has_cursor
        terminal.type(b"\n")
        terminal.wait_for("0 of 3 recordings", timeout_s=START_S)
        terminal.resize(*SMALL)
        assert terminal.end(START_S) == 0, terminal.text
        assert terminal.has_cursor
        assert "3 of 3" in terminal.text
        shown = [line for line in terminal.lines if line.strip()]
        assert not [line for line in shown if "ray" in line.lower() and "nightscribe" not in line]


def ends_by_two_interrupts(terminal):
    terminal.type(b"\x03")
    terminal.wait_for("finishing recordings in progress, Ctrl-C again to stop now")
    terminal.type(b"\x03")
    assert terminal.end(START_S) == 130, terminal.text
    assert "Traceback" not in terminal.written.decode()
    assert terminal.has_cursor


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_ctrl_c_twice_ends_a_run_without_a_traceback(tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(ROOT / "samples/ten-minutes.opus", tmp_path / "in")
    words = [f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}", *QUICK, WORKERS]
    with Terminal("transcribe", *words) as terminal:
        terminal.wait_for("0 of 1 recordings", timeout_s=START_S)
        ends_by_two_interrupts(terminal)
        status = json.loads(Path(tmp_path / "out/_run/status.json").read_text())
        assert status["state"] == "stopped"


@pytest.mark.timeout(900)
def test_a_small_archive_is_watched_in_one_process_drained_and_resumed(tmp_path):
    (tmp_path / "broken.mp3").write_text("<html>Sign in</html>" * 99)
    spans = [f"{ROOT}/samples/ten-minutes.opus,{start},{start + 12}" for start in (0, 12, 24, 36)]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["uri,start,end", *spans, f"{tmp_path}/broken.mp3,,"]))
    words = [f"input={manifest}", f"output={tmp_path / 'out'}", *QUICK]
    with Terminal("transcribe", *words, "engine.num_slots=1") as terminal:
        terminal.wait_for("loading the model", timeout_s=START_S)
        terminal.wait_for("0 of 5 recordings", timeout_s=START_S)
        terminal.wait_for("slot occupancy", timeout_s=START_S)
        terminal.type(b"\x03")
        terminal.wait_for("Ctrl-C again to stop now")
        assert terminal.end(START_S) == 130, terminal.text
        assert "Run the same command to resume." in terminal.text
        assert "starting Ray" not in terminal.written.decode()
    with Terminal("transcribe", *words) as terminal:
        assert terminal.end(START_S) == 0, terminal.text
        assert "5 of 5" in terminal.text
        assert "starting Ray" not in terminal.written.decode()


@pytest.mark.timeout(900)
def test_ctrl_c_twice_ends_one_process_without_a_traceback(tmp_path):
    words = [f"input={ROOT / 'samples/ten-minutes.opus'}", f"output={tmp_path / 'out'}", *QUICK]
    with Terminal("transcribe", *words) as terminal:
        terminal.wait_for("slot occupancy", timeout_s=START_S)
        ends_by_two_interrupts(terminal)
