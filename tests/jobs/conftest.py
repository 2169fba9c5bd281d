"""What tests of commands share."""

from importlib import import_module

import pytest


@pytest.fixture
def nightscribe(monkeypatch, capsys):
    """Run a command in a wide window: its exit code, stdout and stderr."""

    def say(name, *words):
        monkeypatch.setattr("sys.argv", [f"nightscribe {name}", *words])
        monkeypatch.setenv("COLUMNS", "250")
        with pytest.raises(SystemExit) as ended:
            import_module(f"nightscribe.jobs.{name}").main()
        return ended.value.code, *capsys.readouterr()

    return say
