"""Ctrl-C ends in one line and status 130, whenever it comes; nothing else does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from scoresde.cli import main
from tests.commands import run

# the package exports a function of this name
MODULE = sys.modules["scoresde.cli.main"]

# Python itself ends by the signal, which a shell shows as 130, if the interruption met code that
# an extension module runs
INTERRUPTED = (130, -signal.SIGINT)


def start(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in a process of its own, with the handler of SIGINT that a terminal gives."""
    return subprocess.Popen(
        [sys.executable, "-m", "scoresde", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        # a suite in the background of a script ignores SIGINT, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(levels).save(folder / "a.png")
    return folder / "a.png"


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.15, 0.4, 1.2, 2.0, 4.5])
def test_restore_during_imports_and_work(photo: Path, tmp_path: Path, seconds: float) -> None:
    out = tmp_path / "out"
    command = ("restore", photo, "--problem", "denoise", "--steps", 1000, "--out", out)
    process = start(*command, "--device", "cpu")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED and text == ""
    assert err == "scoresde: interrupted\n"
    assert not out.exists() or os.listdir(out) == []


@pytest.mark.slow
def test_training_saves_before_it_ends(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    small = ("--crop", 8, "--batch", 1, "--widths", 8, "--blocks", 1, "--device", "cpu")
    command = ("train", photo.parent, "--out", out, *small, "--steps", 10**6, "--no-compile")
    process = start(*command, "--save-every", 1)
    deadline = time.monotonic() + 60
    while not (out / "prior.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    text, err = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED and text == ""
    assert err == "scoresde: interrupted\n"
    assert {path.name for path in out.iterdir()} == {
        "log",
        "prior.safetensors",
        "state.safetensors",
    }


@pytest.mark.slow
def test_processes_of_a_verification_say_nothing() -> None:
    """A terminal sends Ctrl-C to all of them."""
    process = start("verify", "--solver", "mmps", "--draws", 100, "--seeds", 2, "--jobs", 2)
    assert process.stdout is not None and process.stdout.readline().startswith("problem")
    process.stdout.readline()  # the first row: they are at work
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in INTERRUPTED and err == "scoresde: interrupted\n"


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), typer.Abort(), ImportError("initialization failed")],
    ids=["plain", "as Typer of old raises it", "as an extension module turns it"],
)
def test_every_form_of_an_interruption(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def command(standalone_mode: bool) -> None:
        if isinstance(error, ImportError):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise error from None
        if isinstance(error, typer.Abort):
            raise error from KeyboardInterrupt()
        raise error

    monkeypatch.setattr(MODULE, "app", command)
    before = signal.getsignal(signal.SIGINT)
    code, out, err = run(capsys, "list")
    assert (code, out, err) == (130, "", "scoresde: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_ends_as_control_c_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the status that tells it; and the handler is the one from before."""
    monkeypatch.setattr(MODULE, "app", lambda standalone_mode: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert run(capsys, "list") == (143, "", "scoresde: interrupted\n")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EOFError("Ran out of input"), "a file ends before its content does (Ran out of input)"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (PermissionError(13, "Permission denied", "x.png"), "x.png: Permission denied"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_faults_are_no_interruptions(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    """Through Typer, which takes the end of a file for Ctrl-D."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr("scoresde.pipelines.demo.demo", lambda *_: fail())
    code, out, err = run(capsys, "demo")
    assert (code, out) == (2, "") and message in err and err.strip().count("\n") == 0


def test_a_fault_of_the_program_keeps_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def command(standalone_mode: bool) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(MODULE, "app", command)
    with pytest.raises(RuntimeError, match="a mistake"):
        main()
