"""The command and the Python in a report lead to the call that made it."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import scoresde.pipelines.restore
from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.settings import (
    IntervalOptions,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
)
from tests.commands import run

CALLS = {
    "least": RestoreCall(
        Path("photo.png"), ProblemOptions("denoise"), RestoreOptions(), Path("out")
    ),
    "one-start": RestoreCall(
        Path("y.npy"),
        ProblemOptions("phase-retrieval"),
        RestoreOptions(solver="mmps", starts=1),
        Path("out"),
    ),
    "names": RestoreCall(
        Path("-a 'photo' $(x).png"),
        ProblemOptions("inpaint", mask=Path("my mask.png"), mask_value=-0.1, invert_mask=True),
        RestoreOptions(solver="mmps", sampler="heun", steps=7, prior="my prior.safetensors"),
        Path("out put"),
        simulate=True,
        interval=IntervalOptions(0.95, Path("cal.json")),
    ),
    "numbers": RestoreCall(
        Path("x.npy"),
        ProblemOptions(
            "deblur", motion="-5,30", photons=1e-7, range="-1,1", set=("a=b", "c=1 2"), scale=2.5
        ),
        RestoreOptions(
            sigma=1 / 3,
            samples=1,
            seed=2**62,
            average="turns",
            device="cpu",
            precision="fp32",
            tile=128,
        ),
        Path("out"),
    ),
    "files": RestoreCall(
        Path("scan.tif"),
        ProblemOptions("denoise", range="0.1%,99.9%"),
        RestoreOptions(),
        Path("clean.tif"),
        output=OutputOptions("tiff32", no_draws=True),
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_command_leads_to_the_same_call(
    call: RestoreCall, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[RestoreCall] = []
    monkeypatch.setattr(scoresde.pipelines.restore, "restore", recorder(made))
    words = in_a_shell(call.command())
    assert words[0] == "restore" and all(len(line) <= 100 for line in call.command().splitlines())
    run(capsys, *words)
    assert [same_file(one) for one in made] == [same_file(call)]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_python_leads_to_the_same_call(
    call: RestoreCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[RestoreCall] = []
    monkeypatch.setattr(scoresde.pipelines.restore, "restore", recorder(made))
    program = "\n".join(call.python().splitlines()[:-1])  # the last line shows the draws
    with pytest.raises(SystemExit):
        exec(compile(program, "report", "exec"), {})
    assert made == [call]


def in_a_shell(command: str) -> list[str]:
    """The arguments that a shell gives to scoresde."""
    script = f"scoresde() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    told = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return told.stdout.split("\0")[:-1]


def same_file(call: RestoreCall) -> RestoreCall:
    """The call with a whole path: a name that begins with a minus is written with its folder."""
    return replace(call, image=call.image.resolve())


def recorder(made: list[RestoreCall]) -> Any:
    def restore(
        image: Path,
        problem: ProblemOptions,
        options: RestoreOptions,
        out: Path,
        *,
        simulate: bool,
        interval: IntervalOptions,
        output: OutputOptions = OutputOptions(),
        progress: Any = None,
        workers: Any = None,
        say: Any = None,
    ) -> Any:
        made.append(RestoreCall(image, problem, options, out, simulate, interval, output))
        raise SystemExit(0)  # nothing is restored

    return restore
