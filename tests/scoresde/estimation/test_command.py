"""`--sigma auto` at the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.pipelines.settings import RestoreOptions
from tests.commands import run
from tests.conftest import seeded

COMMON = ("--problem", "denoise", "--sigma", "auto", "--effort", "instant")


def noisy_file(path: Path) -> Path:
    slope = torch.linspace(-0.6, 0.6, 48).expand(3, 48, 48)
    np.save(path, (slope + 0.1 * torch.randn(3, 48, 48, generator=seeded())).numpy())
    return path


@pytest.mark.slow
def test_the_terminal_and_the_files_say_what_was_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = noisy_file(tmp_path / "noisy.npy"), tmp_path / "out"
    code, text, _ = run(capsys, "restore", picture, *COMMON, "--out", out)
    assert code == 0
    report = json.loads((out / "report.json").read_text())
    sigma, error = (report["sigma_estimate"][key][0] for key in ("sigma", "standard_error"))
    assert abs(sigma - 0.1) < 0.005 and 0 < error < 0.003
    lines = [line for line in text.splitlines() if line.startswith("noise ")]
    assert len(lines) == 1 and f"{sigma:g} ± {error:g}" in lines[0]
    assert report["sigma"] == pytest.approx(sigma, rel=1e-3)
    described = json.loads((out / "problem.json").read_text())
    assert described["noise"]["std"] == pytest.approx(sigma, rel=1e-3)
    page = (out / "report.html").read_text()
    assert "estimated from the measurement" in page and "--sigma auto" in page


def test_what_shows_no_noise_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tmp_path / "plain.png"
    Image.fromarray(np.full((32, 32, 3), 128, np.uint8)).save(plain)
    code, _, err = run(capsys, "restore", plain, *COMMON, "--out", tmp_path / "out")
    assert code == 2 and err.count("\n") == 1 and "shows no noise" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("restore", "x.png", "--sigma", "much"), "takes a number or auto, got 'much'"),
        (("calibrate", "folder", "--sigma", "auto"), "`scoresde calibrate` a number"),
        (("audit", "--sigma", "auto"), "`scoresde audit` a number"),
    ],
    ids=["no number", "calibrate", "audit"],
)
def test_auto_and_numbers_alone_are_levels(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *arguments, "--problem", "denoise")
    assert code == 2 and message in err


def test_an_estimate_is_not_stated() -> None:
    assert RestoreOptions(sigma="auto").stated_sigma is None
    assert RestoreOptions(sigma=0.1).stated_sigma == 0.1
