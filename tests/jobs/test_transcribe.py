"""`nightscribe transcribe` and `submit`, as far as they can be tested without Ray."""

import os
import shlex
import signal
from importlib import import_module

import pytest

from nightscribe.cluster.ray_jobs import RayJob
from nightscribe.jobs.shell.attempts import TOO_MANY_FAILURES
from nightscribe.jobs.shell.command import INTERRUPTED
from nightscribe.jobs.shell.config import ConfigError, configurations
from nightscribe.jobs.shell.display import Display, next_commands
from nightscribe.jobs.shell.terminal import stopped_by_signals
from nightscribe.jobs.submit import JOB as SUBMIT
from nightscribe.jobs.submit import _upload, command
from nightscribe.jobs.transcribe import JOB as TRANSCRIBE
from nightscribe.jobs.transcribe import engine_of, exit_code
from nightscribe.runs.progress import Progress

GIVEN = ["input=a", "output=b", "model.checkpoint=c"]


def progress(state="finished", failures=0):
    return Progress(
        run_id="r", num_recordings=9, estimated_s=0.0, state=state, num_failures_before=failures
    )


@pytest.mark.parametrize(
    ("told", "max_failures", "code"),
    [
        (progress(), 0, 0),
        (progress(failures=1), None, 0),
        (progress(failures=1), 1, 0),
        (progress(failures=2), 1, TOO_MANY_FAILURES),
        (progress("stopped"), None, INTERRUPTED),
    ],
)
def test_the_exit_code_shows_too_many_failures_and_unfinished_runs(told, max_failures, code):
    assert exit_code(told, max_failures) == code


def test_a_night_that_a_limit_stopped_is_a_success():
    assert exit_code(progress("stopped"), None, is_limited=True) == 0
    assert exit_code(progress("stopped", failures=2), 1, is_limited=True) == TOO_MANY_FAILURES


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["budget=40"], "budget=40 needs a price: set price_per_gpu_hour"),
        (["budget=40", "price_per_gpu_hour=3.5", "currency=XYZ"], "currency must be one of"),
        (["deadline=2020-01-01T07:00"], "deadline 2020-01-01T07:00 has passed"),
        (["deadline=noon"], "expected a time such as 07:00"),
        (["revise.where=status != 'ok'"], "add revise=true"),
        (["revise=true", "revise.where=confidenc < 1"], "did you mean confidence?"),
        (["missing=forget"], "missing must be one of keep, drop"),
    ],
)
def test_what_contradicts_itself_is_one_sentence(words, sentence):
    with pytest.raises(ValueError, match=r"\w") as refused:
        configurations(TRANSCRIBE, [*GIVEN, *words])
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_revise_true_is_short_for_its_switch():
    (config,) = configurations(TRANSCRIBE, [*GIVEN, "revise=true", "revise.where=status != 'ok'"])
    assert (config.revise.on, config.revise.where) == (True, "status != 'ok'")


@pytest.mark.parametrize("job", [TRANSCRIBE, SUBMIT], ids=lambda job: job.name)
def test_groups_choose_and_keys_override(job):
    words = [*GIVEN, "cluster=shared_gpu", "source=split", "shard=whole", "cluster.num_actors=3"]
    (config,) = configurations(job, words)
    assert config.cluster.gpus_per_actor == 0.25
    assert config.cluster.num_actors == 3
    assert config.source.channels == "split"
    assert config.shard.max_s is None


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ([], 1.0),
        (["cluster=shared_gpu"], 0.25),
        (["cluster=shared_gpu", "engine.gpu_memory_share=0.1"], 0.1),
        (["cluster.gpus_per_actor=2"], 1.0),
        (["cluster.gpus_per_actor=0"], 1.0),
    ],
)
def test_actors_that_share_a_gpu_share_its_memory(words, share):
    (config,) = configurations(TRANSCRIBE, [*GIVEN, *words])
    assert engine_of(config).gpu_memory_share == share


def test_a_misspelt_key_names_the_right_one():
    with pytest.raises(ConfigError, match=r"did you mean cluster\.num_actors\?"):
        configurations(TRANSCRIBE, [*GIVEN, "cluster.num_actor=3"])


def test_the_first_signal_stops_gently_and_the_second_at_once():
    with stopped_by_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_submitted_command_is_quoted():
    assert command("py", ["input=s3://a/my file", "model=tiny"]) == (
        "py -m nightscribe transcribe quiet=true 'input=s3://a/my file' model=tiny"
    )


def test_a_job_uploads_the_package_as_real_files_and_nothing_else():
    with _upload(True) as folder:
        assert [path.name for path in folder.iterdir()] == ["nightscribe"]
        for part in ("jobs/cli.py", "conf/transcribe.yaml", "models/tiny/config.json"):
            assert (folder / "nightscribe" / part).is_file()
        assert not [path for path in folder.rglob("*") if path.is_symlink()]
        assert not [*folder.rglob("__pycache__"), *folder.rglob("*.opus")]
    with _upload(False) as folder:
        assert folder is None


def test_a_job_has_a_runtime_environment(tmp_path):
    made = RayJob(command="x", folder=tmp_path, env={"A": "1"})
    assert made.runtime_env["working_dir"] == str(tmp_path)
    assert made.runtime_env["env_vars"] == {"A": "1"}
    assert "working_dir" not in RayJob(command="x", folder=None).runtime_env


def test_the_summary_shows_commands_that_can_be_typed():
    assert "same command" in next_commands(progress("stopped"), "out")[0]
    for next_command in next_commands(progress(), "the out"):
        _, name, *words = shlex.split(next_command)
        (asked,) = configurations(import_module(f"nightscribe.jobs.{name}").JOB, words)
        assert asked.run == "the out"


def test_the_summary_keeps_brackets_and_says_how_to_retry(capsys):
    Display("out", quiet=True).summarise(progress(failures=2))
    told = capsys.readouterr().err
    assert "nightscribe export out formats=[srt] to=subtitles" in told
    assert "failures.retry=all" in told
