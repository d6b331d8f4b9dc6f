"""`--photons auto` at the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from problems import PoissonGaussianNoise
from scoresde.pipelines.settings import ProblemOptions
from tests.commands import run
from tests.conftest import seeded
from tests.scoresde.cli.test_schemas import check

COMMON = ("--problem", "denoise", "--photons", "auto", "--effort", "instant")


def counted_file(path: Path) -> Path:
    """A slope under 40 photons and read noise of 0.1."""
    slope = torch.linspace(-0.8, 0.8, 32).expand(1, 3, 32, 32)
    np.save(path, PoissonGaussianNoise(40.0, 0.1).sample(slope, seeded())[0].numpy())
    return path


@pytest.mark.slow
def test_the_terminal_and_the_files_say_what_was_estimated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = counted_file(tmp_path / "counts.npy"), tmp_path / "out"
    line = ("restore", picture, *COMMON, "--range=-1,1", "--sigma", 0.1, "--out", out)
    code, text, _ = run(capsys, *line)
    assert code == 0
    report = json.loads((out / "report.json").read_text())
    check(report, "restore-report")
    found = report["photons_estimate"]
    assert abs(found["photons"] - 40) < 3 * found["standard_error"] < 15
    assert found["read_noise"] == 0.1 and found["read_noise_error"] is None
    lines = [line for line in text.splitlines() if line.startswith("photons ")]
    assert len(lines) == 1
    assert f"{found['photons']:g} ± {found['standard_error']:g} of a white pixel" in lines[0]
    assert "read noise " not in text and report["sigma"] == 0.1
    noise = json.loads((out / "problem.json").read_text())["noise"]
    assert noise["peak"] == pytest.approx(found["photons"], rel=1e-3) and noise["std"] == 0.1
    page = (out / "report.html").read_text()
    assert "photons of a white pixel" in page and "--photons auto" in page


@pytest.mark.slow
def test_the_read_noise_is_estimated_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = counted_file(tmp_path / "counts.npy"), tmp_path / "out"
    line = ("restore", picture, *COMMON, "--range=-1,1", "--sigma", "auto", "--out", out)
    code, text, _ = run(capsys, *line)
    assert code == 0
    report = json.loads((out / "report.json").read_text())
    check(report, "restore-report")
    found = report["photons_estimate"]
    assert abs(found["photons"] - 40) < 3 * found["standard_error"] < 25
    assert abs(found["read_noise"] - 0.1) < 3 * found["read_noise_error"] < 0.15
    assert "sigma_estimate" not in report
    assert f"{found['read_noise']:g} ± {found['read_noise_error']:g} on [-1, 1]" in text
    assert report["sigma"] == pytest.approx(found["read_noise"], rel=1e-3)
    page = (out / "report.html").read_text()
    assert f"standard error of {found['read_noise_error']:g}" in page


def test_what_shows_no_noise_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = tmp_path / "plain.png", tmp_path / "out"
    Image.fromarray(np.full((32, 32, 3), 128, np.uint8)).save(plain)
    code, _, err = run(capsys, "restore", plain, *COMMON, "--out", out)
    assert code == 2 and err.count("\n") == 1 and "shows no noise" in err
    assert not (out / "report.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("restore", "PICTURE", "--photons", "many"), "takes a number or auto, got 'many'"),
        (("restore", "PICTURE", "--photons", "auto", "--simulate"), "give --photons a number"),
        (
            ("restore", "PICTURE", "--photons", "auto", "--calibration", "PICTURE"),
            "a --calibration holds for the photons",
        ),
        (
            ("restore", "PICTURE", "--photons", "auto", "--windows", "64"),
            "--photons auto looks at the whole picture",
        ),
        (
            ("restore", "PICTURE", "--photons", "9", "--sigma", "auto", "--effort", "instant"),
            "needs --photons auto, which estimates both",
        ),
        (("calibrate", "folder", "--photons", "auto"), "`scoresde calibrate` a number"),
        (("audit", "--photons", "auto"), "`scoresde audit` a number"),
    ],
    ids=["no number", "simulate", "calibration", "windows", "sigma", "calibrate", "audit"],
)
def test_wrong_requests_end_in_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "photo.tif"
    Image.fromarray(np.arange(32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
                    ).save(picture)  # fmt: skip
    words = [str(picture) if one == "PICTURE" else one for one in arguments]
    code, _, err = run(capsys, *words, "--problem", "denoise")
    assert code == 2 and message in err and err.count("\n") == 1


def test_an_estimate_is_not_stated() -> None:
    assert ProblemOptions("denoise", photons="auto").stated_photons is None
    assert ProblemOptions("denoise", photons=30.0).stated_photons == 30.0
