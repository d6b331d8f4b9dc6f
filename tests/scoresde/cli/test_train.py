"""`scoresde train` in stages, on several folders, and `scoresde average`."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

import scoresde.training
from scoresde import load_prior
from scoresde.data.datasets import ImageFolder
from scoresde.errors import OtherProcessError
from scoresde.files import read_header
from tests.commands import run

SMALL = (
    *("--steps", 6, "--batch", 2, "--crop", 8, "--widths", "8,16", "--blocks", "1,2"),
    *("--attention", "none", "--channels", 1, "--device", "cpu", "--seed", 3),
)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        levels = rng.integers(0, 256, (12, 14), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / name / "x.png")
    return [tmp_path / "a", tmp_path / "b"]


@pytest.mark.slow
def test_stages_of_a_run(
    capsys: pytest.CaptureFixture[str], folders: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = ("train", *folders, "--out", out, *SMALL, "--continue")
    code, text, err = run(capsys, *command, "--minutes", 1e-9)
    assert code == 0, err
    first, second = text.splitlines()
    assert first.startswith("trained 1 steps on 2 images; wrote")
    assert second == "5 steps are left; go on with the same command and --continue"
    code, text, err = run(capsys, *command, "--minutes", 60, "--json")
    assert code == 0, err
    report = json.loads(text)
    assert (report["steps"], report["of"], report["images"]) == (6, 6, 2)
    network = load_prior(report["prior"]).network.config
    assert (network.blocks, network.attention, network.preactivation) == ((1, 2), (), True)
    code, _, err = run(capsys, *command[:-1])
    assert code == 2 and "exists; resume it" in err


def test_an_average_is_chosen_afterwards(
    capsys: pytest.CaptureFixture[str], folders: list[Path], tmp_path: Path
) -> None:
    out, prior = tmp_path / "run", tmp_path / "priors" / "long.safetensors"
    options = ("--snapshot-every", 2, "--weighting", "min-snr", "--accumulate", 2)
    code, _, err = run(capsys, "train", folders[0], "--out", out, *SMALL, *options)
    assert code == 0, err
    average = ("average", out, "--sigma-rel", 0.2, "--out", prior)
    code, text, err = run(capsys, *average, "--json")
    assert code == 0, err
    report = json.loads(text)
    assert report.pop("format") == "scoresde.average-report/1"
    assert report == {"prior": str(prior), "sigma_rel": 0.2, "step": 6}
    assert read_header(prior)["card"]["average"] == {"sigma_rel": 0.2, "step": 6}
    code, text, _ = run(capsys, *average, "--step", 4)
    assert code == 0 and text.startswith("averaged the weights up to step 4 with sigma_rel 0.2")
    for wrong, message in (
        (("--step", 5), "no snapshot of step 5"),
        (("--sigma-rel", 0.5), "sigma_rel must be above 0"),
    ):
        code, _, err = run(capsys, *average, *wrong)
        assert code == 2 and message in err and err.count("\n") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run(
    capsys: pytest.CaptureFixture[str],
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    status: int,
) -> None:
    """It ends with the status of its signal, after the step; of several processes one says so."""
    draw = ImageFolder.batch

    def interrupted(self: ImageFolder, *args: Any, **rest: Any) -> Tensor:
        signal.raise_signal(number)
        return draw(self, *args, **rest)

    monkeypatch.setattr(ImageFolder, "batch", interrupted)
    for rank, line in (("0", "scoresde: interrupted\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        out = tmp_path / rank
        code, _, err = run(capsys, "train", *folders, "--out", out, *SMALL)
        assert (code, err) == (status, line)
        assert read_header(out / "state.safetensors")["step"] == 1


def test_the_first_process_speaks(
    capsys: pytest.CaptureFixture[str],
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    out = tmp_path / "run"
    code, text, err = run(capsys, "train", *folders, "--out", out, *SMALL, "--json")
    assert (code, text, err) == (0, "", "") and not (out / "report.html").exists()

    def failed(*_: Any, **__: Any) -> None:
        raise OtherProcessError("process 0 of 2 failed")

    monkeypatch.setattr(scoresde.training, "train", failed)
    assert run(capsys, "train", *folders, "--out", out, *SMALL) == (2, "", "")


def test_bad_values_are_named(
    capsys: pytest.CaptureFixture[str], folders: list[Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    start = ("train", *folders, "--out", tmp_path / "o")
    for wrong, message in (
        ((*start, "--recipe", "magic"), "unknown recipe 'magic'"),
        ((*start, "--weighting", "magic"), "unknown weighting 'magic'"),
        ((*start, "--blocks", "1,x"), "--blocks takes whole numbers"),
        ((*start, "--blocks", "1,2"), "do not fit the 3 levels"),
        ((*start, "--attention", "some"), "--attention takes whole numbers"),
        (
            (*start, "--cooldown", 0),
            "cooldown must be a finite number, above 0, at most 1, got 0.0",
        ),
        ((*start, "--accumulate", 0), "accumulate must be a whole number from 1 on, got 0"),
        ((*start, tmp_path / "x.npy"), "one array file, or on folders"),
    ):
        code, out, err = run(capsys, *wrong)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, err
