"""The wheel holds one package that works outside of the repository, beside foreign packages."""

import json
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.ops.conftest import FOREIGN, ROOT, names_in, read_from

SAMPLE = ROOT / "samples/human-press-five.flac"
OPTIONAL = ("matplotlib", "sacrebleu", "jiwer", "whisper-normalizer", "jinja2", "protobuf")
CORE_COMMANDS = ("file", "transcribe", "submit", "plan", "doctor", "status", "show", "export")
HIDDEN = {"matplotlib", "sacrebleu", "jiwer", "whisper_normalizer", "jinja2", "google.protobuf"}
LOAD = f"""
import sys, traceback
from importlib import import_module
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
for command in {CORE_COMMANDS}:
    try:
        import_module("nightscribe.jobs." + command)
        print(command)
    except Exception:
        traceback.print_exc()
"""


@pytest.fixture(scope="module")
def run_output(installed, tmp_path_factory) -> Path:
    """The output of `nightscribe transcribe`, run where foreign packages lie about."""
    output = tmp_path_factory.mktemp("run") / "output"
    words = [f"input={SAMPLE}", f"output={output}", "model=tiny", "quiet=true"]
    words += ["intervals.commit_s=0.2", "cluster.num_audio_workers=1", "cluster.in_process=never"]
    ended = installed.run("transcribe", *words, RAY_AUTH_MODE="disabled")
    assert ended.returncode == 0, ended.stderr
    return output


def test_the_wheel_has_one_top_level_name(wheel):
    tops = {name.partition("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"nightscribe"}


@pytest.mark.parametrize(
    "name",
    [
        "nightscribe/py.typed",
        "nightscribe/__main__.py",
        "nightscribe/jobs/cli.py",
        "nightscribe/cluster/transcribing_actor.py",
        "nightscribe/conf/transcribe.yaml",
        "nightscribe/conf/model/tiny.yaml",
        "nightscribe/benchmarks/results/README.md",
        "nightscribe/scoring/leaderboard_2026.json",
    ],
)
def test_the_wheel_has_code_configs_and_data(wheel, name):
    assert name in names_in(wheel)


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        ("conf", "nightscribe/conf"),
        ("models/tiny", "nightscribe/models/tiny"),
        ("pipeline/report/templates", "nightscribe/report/templates"),
    ],
)
def test_every_file_of_the_data_folders_is_in_the_wheel(wheel, folder, inside):
    packed = set(names_in(wheel))
    files = [one for one in (ROOT / folder).rglob("*") if one.is_file()]
    wanted = [f"{inside}/{one.relative_to(ROOT / folder)}" for one in files if _is_data(one)]
    assert wanted
    assert packed.issuperset(wanted)


def _is_data(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix not in (".py", ".pyc")


def test_neither_tests_nor_scripts_are_in_the_wheel(wheel):
    assert not [
        n for n in names_in(wheel) if n.startswith(("nightscribe/tests", "nightscribe/ops"))
    ]


def test_the_metadata_keep_optional_packages_out_of_the_core(wheel):
    (name,) = (n for n in names_in(wheel) if n.endswith(".dist-info/METADATA"))
    metadata = message_from_string(read_from(wheel, name))
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist")]
    core = {one.name for one in requirements if one.marker is None}
    assert {"torch", "ray", "pyarrow"} <= core
    assert not core & set(OPTIONAL)
    assert {"report", "evaluate", "train", "all", "dev"} <= set(metadata.get_all("Provides-Extra"))
    assert metadata["Author"] == "The Nightscribe maintainers"


@pytest.fixture(scope="module")
def loaded(installed):
    """The core commands, loaded by one process where optional packages are not to be found."""
    return installed.python(LOAD)


@pytest.mark.parametrize("command", CORE_COMMANDS)
def test_a_core_command_can_be_loaded_without_optional_packages(loaded, command):
    assert command in loaded.stdout.split(), loaded.stderr


def test_configuration_is_composed_from_inside_the_package(installed):
    shown = installed.run("file", "a.wav", "model=tiny", "--cfg")
    assert shown.returncode == 0, shown.stderr
    found = installed.python("import nightscribe.conf; print(nightscribe.conf.__file__)")
    assert Path(found.stdout.strip()).is_relative_to(installed.site)


def test_the_foreign_packages_would_be_found_first(installed):
    for name in FOREIGN:
        assert "a foreign package" in installed.python(f"import {name}").stderr


def test_file_transcribes(installed):
    ended = installed.run("file", str(SAMPLE), "model=tiny", "format=json")
    assert ended.returncode == 0, ended.stderr
    assert "press" in json.loads(ended.stdout)["text"].lower()


def test_plan_surveys_an_archive(installed):
    ended = installed.run("plan", str(SAMPLE.parent), "model=tiny", "format=json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)


def test_doctor_describes_a_gpu(installed):
    ended = installed.run("doctor", "simulate=L4")
    assert ended.returncode == 0, ended.stderr
    assert "L4" in ended.stdout


def test_bench_writes_its_results_to_the_given_file(installed, tmp_path):
    shown = installed.run("bench", "--cfg", XDG_CACHE_HOME=str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert str(tmp_path / "nightscribe/bench") in shown.stdout


@pytest.mark.ray
def test_transcribe_show_and_report_work_on_a_run(installed, run_output):
    shown = installed.run("show", str(run_output), SAMPLE.stem)
    assert shown.returncode == 0, shown.stderr
    assert "press" in shown.stdout.lower()
    reported = installed.run("report", str(run_output))
    assert reported.returncode == 0, reported.stderr
    assert (run_output / "_run/report.html").stat().st_size > 10_000
