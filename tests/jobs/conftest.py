"""What tests of commands share."""

import pytest

from nightscribe.jobs import cli


@pytest.fixture
def nightscribe(monkeypatch, capsys):
    """Run a command in a wide window: its exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["nightscribe", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "250")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run
