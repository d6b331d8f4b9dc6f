"""What a terminal shows: help, version, progress, quiet, colours."""

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import scoresde
from scoresde.cli.help import SECTIONS
from scoresde.cli.main import app
from scoresde.cli.restore import _in_short
from tests.commands import run

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def on_terminal(code: str, *, stdout: Path | None = None, **environment: str) -> str:
    """What a Python process writes to a terminal as standard error, and output unless a file."""
    ours, theirs = pty.openpty()
    base = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    base |= {"TERM": "xterm-256color", "COLUMNS": "100"} | environment
    with open(stdout or os.devnull, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=file if stdout else theirs, stderr=theirs, env=base
        )
        os.close(theirs)
        text = b""
        while True:
            try:
                some = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not some:
                break
            text += some
    os.close(ours)
    assert process.wait() == 0, text.decode()
    return text.decode()


BAR = """
from scoresde.cli.console import echo, progress_bar, set_quiet
set_quiet({quiet})
with progress_bar("working", at_once={at_once}) as progress:
    for i in range(5):
        echo(f"row {{i}}")
        if progress:
            progress(i / 4)
"""


def bar(quiet: bool = False, at_once: bool = True) -> str:
    return BAR.format(quiet=quiet, at_once=at_once)


@pytest.mark.slow
def test_progress_is_on_the_terminal_and_the_report_in_the_file(tmp_path: Path) -> None:
    """Lines printed while a bar is shown go where standard output goes."""
    shown = on_terminal(bar(), stdout=tmp_path / "rows")
    assert "working" in shown and "100%" in shown and "row" not in shown
    assert re.search(r"0:00:0.*0:00:0", shown.split("100%")[-1])  # elapsed, and left
    assert (tmp_path / "rows").read_text() == "".join(f"row {i}\n" for i in range(5))
    shown = on_terminal(bar())
    assert all(f"row {i}" in shown for i in range(5)) and "working" in shown


@pytest.mark.slow
def test_a_bar_may_begin_with_its_first_fraction() -> None:
    code = "from scoresde.cli.console import progress_bar\n"
    code += "with progress_bar('working', at_once=False): print('done')"
    assert "working" not in on_terminal(code)
    assert "working" in on_terminal(bar(at_once=False))


def test_quiet_shows_neither_progress_nor_lines() -> None:
    assert on_terminal(bar(quiet=True)) == ""


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38;5;\d+|9[0-7])m")


@pytest.mark.slow
def test_no_color_is_respected() -> None:
    assert COLOUR.search(on_terminal(bar()))
    assert not COLOUR.search(on_terminal(bar(), NO_COLOR="1"))


@pytest.mark.slow
def test_the_bar_of_a_training_is_on_standard_error(tmp_path: Path) -> None:
    """It shows the time left until the deadline, which comes before the steps are done."""
    pytest.importorskip("accelerate")
    code = f"""
import math, torch
from pathlib import Path
from tests.scoresde.cli.test_manners import small_training
small_training(Path({str(tmp_path)!r}))
"""
    shown = on_terminal(code, stdout=tmp_path / "out", PYTHONPATH=str(Path(__file__).parents[3]))
    assert "training" in shown and "loss" in shown and re.search(r"0:59:\d\d|1:00:00", shown)
    assert (tmp_path / "out").read_text() == ""


def small_training(folder: Path) -> None:
    """A few steps of so many that an hour is over first."""
    import torch

    from scoresde.data.datasets import TensorData
    from scoresde.networks import UNetConfig
    from scoresde.training import TrainConfig, train

    torch.manual_seed(0)
    network = UNetConfig(channels=1, widths=(4, 8), blocks=1, attention=(), embedding=8)
    config = TrainConfig(network=network, steps=10**9, batch=2, crops=(8,), precision="no")
    data = TensorData(torch.rand(8, 1, 8, 8))
    train(data, folder / "run", config, cpu=True, progress=True, minutes=60, stop_after=30)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"scoresde {scoresde.__version__}\n", "")


def test_help_lists_every_command_once_with_its_whole_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)
    _, out, _ = run(capsys, "--help")
    words = " ".join(out.split())
    for name, command in COMMANDS.items():
        sentence = " ".join(command.help.split("\n\n")[0].split())
        assert f"{name} {sentence}" in words, name
    assert "..." not in out.split("Examples:")[0].split("Options:")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_once_in_plain_words(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    _, out, _ = run(capsys, name, "--help")
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            rows = re.findall(rf"^  (?:-\w, )?{parameter.opts[0]}(?![\w-])", out, re.MULTILINE)
            assert len(rows) == 1, parameter.opts
    for word in ("<int", "<float", "list[", "<str", "x>=", "<=x", "x<="):
        assert word not in out, word


def test_options_of_a_restoration_stand_by_subject(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "restore", "--help")
    titles = re.findall(r"^(\w.*):$", out, re.MULTILINE)
    assert titles == ["Arguments", "What was measured", "How to restore it", "Options"]
    measured, rest = out.split("How to restore it:")
    restored, others = rest.split("\nOptions:")
    assert "--mask " in measured and "--simulate" in measured and "--sigma " in measured
    assert "--solver" in restored and "--effort" in restored and "--prior" in restored
    assert "--out" in others and "--json" in others


def test_the_list_shows_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    """A default for each setting, or its form, and a space between a name and its summary."""
    status, out, _ = run(capsys, "list")
    assert status == 0 and "=]" not in out
    assert "[--set size=HEIGHT,WIDTH] [--set spacing=WIDTH]" in out
    assert re.search(r"^  annealed-gauss-newton-noise +the same", out, re.MULTILINE)


def test_many_draws_are_named_in_short() -> None:
    files = ["mean.png", *(f"draw_{i}.png" for i in range(1, 9)), "std.png", "report.html"]
    assert _in_short(files) == ["report.html", "mean.png", "draw_1.png to draw_8.png", "std.png"]
    assert _in_short(["draw_1.png", "draw_2.png"]) == ["draw_1.png", "draw_2.png"]
    assert _in_short([]) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_right(
    capsys: pytest.CaptureFixture[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has options and arguments that the command takes."""
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    examples = [line.strip() for line in out.split("Examples:\n")[1].splitlines()]
    assert examples
    for line in examples:
        if line.startswith("eval"):
            line = line.split("$(")[1].split(")")[0]
        program, command, *given = shlex.split(line.split(" > ")[0])
        assert program == "scoresde"
        context = COMMANDS[command].make_context(command, given)
        assert not context.args and (command == name or name == "calibrate")


@pytest.mark.slow
def test_quiet_prints_the_json_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("sample", "--prior", "mnist", "--n", 1, "--steps", 2, "--out", tmp_path / "x.png")
    assert run(capsys, *arguments, "--quiet") == (0, "", "")
    code, out, err = run(capsys, *arguments, "--quiet", "--json")
    assert code == 0 and out.startswith("{") and not err
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "wrote" in out


def test_quiet_leaves_errors(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "sample", "--sampler", "magic", "--quiet")
    assert code == 2 and not out and "unknown sampler" in err


def test_every_command_that_works_can_be_quiet() -> None:
    for name, command in COMMANDS.items():
        has = any("--quiet" in parameter.opts for parameter in command.params)
        assert has == (name not in ("list", "completion")), name
