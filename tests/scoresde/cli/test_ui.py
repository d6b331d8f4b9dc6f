"""`scoresde ui`: its options, and what it says where it cannot start."""

import builtins
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from scoresde.cli.main import app
from tests.commands import run


def test_without_gradio_there_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "gradio":
            raise ModuleNotFoundError("No module named 'gradio'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    status, _, err = run(capsys, "ui")
    assert status == 2 and len(err.splitlines()) == 1
    assert "pip install 'scoresde[ui]'" in err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--minutes", "-1", "minutes must be above 0"), ("--max-megabytes", "0", "must be above 0")],
)
def test_limits_that_allow_nothing(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "ui", option, value)
    assert status == 2 and words in err


def test_this_machine_alone_unless_told_otherwise_and_no_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = run(capsys, "ui", "--help")
    assert "default: 127.0.0.1" in " ".join(out.split()) and "--share" not in out
    command = get_command(app).commands["ui"]  # type: ignore[attr-defined]
    assert not [one for one in command.params if "share" in one.name]


def test_help_imports_neither_torch_nor_gradio() -> None:
    code = (
        "import sys; sys.argv = ['scoresde', 'ui', '--help']\n"
        "from scoresde.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([one for one in ('torch', 'gradio') if one in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.splitlines()[-1] == "[]"
