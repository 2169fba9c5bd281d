"""The first word names the command."""

import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from runpy import run_module

import pytest

from nightscribe.jobs.cli import COMMANDS, main
from nightscribe.jobs.shell.command import EXTRA_OF_MODULE


def said(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["nightscribe", *words])
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command(monkeypatch, capsys, words):
    code, page, _ = said(monkeypatch, capsys, *words)
    assert code == 0
    assert all(f"  {name} " in page for name in COMMANDS)
    assert max(map(len, page.splitlines())) < 80


def test_a_wrong_command_is_one_sentence(monkeypatch, capsys):
    code, out, err = said(monkeypatch, capsys, "fil")
    assert (code, out) == (2, "")
    assert err == "nightscribe: there is no command fil; did you mean file?\n"


def test_ctrl_c_while_a_command_is_imported_shows_no_traceback(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("nightscribe.jobs.cli.import_module", interrupted)
    assert said(monkeypatch, capsys, "show") == (130, "", "")


def test_the_version_is_that_of_the_distribution(monkeypatch, capsys):
    _, printed, _ = said(monkeypatch, capsys, "--version")
    assert printed == f"nightscribe {version('nightscribe')}\n"


def test_a_missing_extra_is_named_with_the_words_that_install_it(monkeypatch, nightscribe):
    for module in [name for name in sys.modules if name.startswith("nightscribe.re")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "nightscribe.jobs.report", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, out, err = nightscribe("report", "somewhere")
    assert (code, out) == (2, "")
    assert err == (
        'nightscribe: nightscribe report needs the extra "report" (jinja2 is not installed): '
        "pip install 'nightscribe[report]'\n"
    )


def test_the_extras_that_errors_name_are_those_of_the_distribution():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    distributions = {
        "docx": "python-docx",
        "google": "protobuf",
        "whisper_normalizer": "whisper-normalizer",
    }
    for module, extra in EXTRA_OF_MODULE.items():
        name = distributions.get(module, module)
        assert any(one.startswith(name) for one in extras[extra]), module
        assert not any(one.startswith(name) for one in project["dependencies"]), module


def test_a_missing_module_of_the_core_keeps_its_traceback(monkeypatch, nightscribe):
    monkeypatch.setitem(sys.modules, "nightscribe.jobs.status", None)
    with pytest.raises(ModuleNotFoundError):
        nightscribe("status", "somewhere")


def test_the_first_help_page_is_short_and_the_other_has_every_key(nightscribe):
    keys = import_module("nightscribe.jobs.transcribe").JOB.keys
    pages = [nightscribe("transcribe", "--help", *more)[1] for more in ([], ["all"])]
    common, every = (
        {line.split()[0].split("=")[0] for line in page.splitlines() if line[:2] == "  "} & {*keys}
        for page in pages
    )
    assert 20 <= len(common) <= 36
    assert every == {path for path, key in keys.items() if not key.is_group}
    assert "more keys: nightscribe transcribe --help all" in pages[0]
    assert "guards.stall_s" not in pages[0]


def test_the_list_of_commands_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['nightscribe', '--help']; import nightscribe.jobs.cli as cli; "
        "cli.main(); "
        "assert not {'torch', 'ray', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_help_errors_and_completion_import_neither_torch_nor_ray():
    """Those that measure, diagnose and train apart, which nobody types in a hurry."""
    names = [
        f"nightscribe.jobs.{name}" for name in COMMANDS if name not in ("bench", "doctor", "train")
    ]
    script = f"import sys, {', '.join(names)}; print(*({{'torch', 'ray'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


def test_what_plots_a_training_is_missed_before_it_begins(monkeypatch, nightscribe, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    words = ("manifest=/nowhere.jsonl", f"output={tmp_path / 'out'}", "model=tiny")
    code, _, err = nightscribe("train", *words)
    assert (code, "pip install 'nightscribe[train]'" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_the_help_of_training_imports_neither_ray_nor_matplotlib():
    """They take seconds, and a single worker that draws no plot needs neither."""
    script = "import sys, nightscribe.jobs.train; print(*({'ray', 'matplotlib'} & {*sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (loaded.returncode, loaded.stdout.split()) == (0, []), loaded.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_page(name, nightscribe):
    code, page, err = nightscribe(name, "--help")
    assert (code, err) == (0, "")
    assert page.startswith(f"usage: nightscribe {name}")


def test_the_package_runs_as_a_module_too(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nightscribe", "show", "--help"])
    with pytest.raises(SystemExit) as ended:
        run_module("nightscribe", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: nightscribe show")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_of_every_command_has_a_help_text(name):
    job = import_module(f"nightscribe.jobs.{name}").JOB
    assert job.name == name
    assert [path for path, key in job.keys.items() if not key.meaning] == []
    assert job.config.__doc__
