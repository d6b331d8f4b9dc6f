"""`--gaussian auto` and its like at the command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import Blur, DiskBlur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from scoresde.estimation import ParameterEstimate
from scoresde.estimation.free_kernel import KernelEstimate
from scoresde.pipelines import estimated_blur, task
from scoresde.pipelines.estimated_blur import UnknownBlur, is_unknown, without_unknown_blur
from scoresde.pipelines.settings import IntervalOptions, ProblemOptions
from tests.commands import run
from tests.conftest import seeded

ROOT = Path(__file__).parents[3]
DEBLUR = ("--problem", "deblur", "--effort", "instant")


def blurred_file(path: Path) -> Path:
    slope = torch.linspace(-0.6, 0.6, 48).expand(1, 3, 48, 48)
    y = GaussianBlur(1.5, "reflect").apply(slope) + 0.05 * torch.randn(
        1, 3, 48, 48, generator=seeded()
    )
    np.save(path, y[0].numpy())
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The estimate itself takes long and is tested in test_parameters.py; here it is given."""
    calls: list[tuple[Any, ...]] = []

    def known(
        kind: str, y: Tensor, prior: Any, sigma: float, *, boundary: Any, generator: Any
    ) -> ParameterEstimate:
        calls.append((kind, sigma, boundary))
        found = {
            "gaussian": (GaussianBlur(1.5, boundary), (1.5,), (0.04,), ("the width",)),
            "disk": (DiskBlur(2.5, boundary), (2.5,), (0.1,), ("the radius",)),
            "motion": (
                MotionBlur(9, 30.5, boundary), (30.5, 9.0), (0.3, 0.04), ("the angle", "the length")
            ),
        }  # fmt: skip
        operator, values, error, names = found[kind]
        problem = InverseProblem(operator, GaussianNoise(sigma))
        return ParameterEstimate(names, values, error, "draws", (values,), problem)

    monkeypatch.setattr(estimated_blur, "estimate_blur", known)
    return calls


@pytest.mark.slow
def test_the_terminal_and_the_files_say_what_was_estimated(
    tmp_path: Path, asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = blurred_file(tmp_path / "blurred.npy"), tmp_path / "out"
    code, text, err = run(
        capsys, "restore", picture, *DEBLUR, "--gaussian", "auto", "--sigma", 0.05, "--boundary",
        "replicate", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    assert asked == [("gaussian", 0.05, "replicate")]
    assert "blur         gaussian 1.5 ± 0.04 pixels, estimated from the picture" in text
    report = json.loads((out / "report.json").read_text())
    schema = json.loads((ROOT / "scoresde/schemas/restore-report.json").read_text())
    pytest.importorskip("jsonschema").validate(report, schema)
    found = report["blur_estimate"]
    assert set(found) == set(schema["properties"]["blur_estimate"]["properties"])
    assert (found["kind"], found["values"], found["standard_error"]) == ("gaussian", [1.5], [0.04])
    described = json.loads((out / "problem.json").read_text())
    assert described["operator"]["std"] == 1.5  # what the restoration used
    assert described["operator"]["boundary"] == "replicate"
    page = (out / "report.html").read_text()
    assert "Estimated from the picture, with a standard error of 0.04" in page
    assert "--gaussian auto" in page


@pytest.mark.slow
def test_the_noise_may_be_unknown_too(
    tmp_path: Path,
    asked: list[tuple[Any, ...]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture, out = blurred_file(tmp_path / "blurred.npy"), tmp_path / "out"
    # tested in test_command.py
    monkeypatch.setattr(task, "with_estimated_noise", lambda prior, measured, *_: (measured, None))
    code, text, err = run(
        capsys, "restore", picture, *DEBLUR, "--disk", "auto", "--sigma", "auto", "--out", out
    )
    assert code == 0, err
    kind, sigma, _ = asked[0]
    assert kind == "disk" and sigma == pytest.approx(0.05, rel=0.1)
    assert "disk 2.5 ± 0.1 pixels" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("restore", "PICTURE", "--gaussian", "wide"), "takes a number or auto, got 'wide'"),
        (("restore", "PICTURE", "--kernel", "auto", "--simulate"), "give --kernel a file"),
        (("restore", "PICTURE", "--kernel", "auto", "--disk", 2), "exclude each other"),
        (("restore", "PICTURE", "--kernel", "auto", "--kernel-size", 8), "must be odd, got 8"),
        (("restore", "PICTURE", "--kernel", "auto", "--kernel-size", 21), "at least 63 pixels"),
        (("restore", "PICTURE", "--disk", 2, "--kernel-size", 9), "the side of a --kernel auto"),
        (("restore", "PICTURE", "--disk", "auto", "--simulate"), "needs a kernel to blur with"),
        (("restore", "PICTURE", "--disk", "auto", "--photons", "90"), "noise of one level"),
        (("restore", "PICTURE", "--motion", "auto", "--simulate"), "--motion LENGTH,ANGLE"),
        (("calibrate", "folder", "--disk", "auto"), "`scoresde calibrate` a number"),
        (("audit", "--gaussian", "auto"), "`scoresde audit` a number"),
        (("audit", "--motion", "auto"), "give `scoresde audit` one"),
        (("calibrate", "folder", "--kernel", "auto"), "give `scoresde calibrate` one"),
    ],
)
def test_what_cannot_be_asked_for_ends_in_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = blurred_file(tmp_path / "blurred.npy")
    words = [picture if one == "PICTURE" else one for one in arguments]
    code, _, err = run(capsys, *words, "--problem", "deblur", "--out", tmp_path / "out")
    assert code == 2 and err.count("\n") == 1 and message in err


def test_a_stand_in_fits_until_the_measurement_is_read() -> None:
    known = ProblemOptions("deblur", gaussian=2.0)
    none = IntervalOptions()
    assert without_unknown_blur(known, simulate=True, interval=none) == (known, None)
    asked = replace(known, gaussian="auto")
    stated, kind = without_unknown_blur(asked, simulate=False, interval=none)
    assert kind == UnknownBlur("gaussian") and isinstance(stated.gaussian, float)
    asked = ProblemOptions("deblur", kernel=Path("auto"), kernel_size=9)
    stated, kind = without_unknown_blur(asked, simulate=False, interval=none)
    assert kind == UnknownBlur("kernel", 9)
    assert stated == replace(asked, kernel=None, kernel_size=None, gaussian=1.0)


def test_a_file_may_be_called_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = ProblemOptions("deblur", kernel=Path("auto"))
    assert is_unknown("kernel", named)
    Path("auto").write_bytes(b"")
    assert not is_unknown("kernel", named)


@pytest.mark.slow
def test_a_motion_has_a_length_and_an_angle(
    tmp_path: Path, asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    picture, out = blurred_file(tmp_path / "blurred.npy"), tmp_path / "out"
    code, text, err = run(
        capsys, "restore", picture, *DEBLUR, "--motion", "auto", "--sigma", 0.05, "--out", out
    )
    assert code == 0, err
    assert asked == [("motion", 0.05, "reflect")]
    assert "motion 9 ± 0.04 pixels at 30.5 ± 0.3 degrees, estimated from the picture" in text
    found = json.loads((out / "report.json").read_text())["blur_estimate"]
    assert found["values"] == [9.0, 30.5] and found["path"] == [[9.0, 30.5]]
    page = (out / "report.html").read_text()
    assert "9 pixels" in page and "30.5 degrees" in page


@pytest.mark.slow
def test_a_kernel_of_any_shape(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate itself is tested in test_free_kernel.py; here it is given."""
    picture, out = blurred_file(tmp_path / "blurred.npy"), tmp_path / "out"

    def known(
        y: Tensor, prior: Any, sigma: float, *, size: int, boundary: Any, generator: Any
    ) -> KernelEstimate:
        kernel = MotionBlur(size, 30.0).kernel
        problem = InverseProblem(Blur(kernel, boundary), GaussianNoise(sigma))
        return KernelEstimate(kernel, 0.03, sigma, "", (0.8, 0.9), problem)

    monkeypatch.setattr(estimated_blur, "estimate_kernel", known)
    code, text, err = run(
        capsys, "restore", picture, *DEBLUR, "--kernel", "auto", "--kernel-size", 5, "--sigma",
        0.05, "--out", out,
    )  # fmt: skip
    assert code == 0, err
    assert "blur         kernel of any shape, its spread" in text
    report = json.loads((out / "report.json").read_text())
    assert report["blur_estimate"]["kind"] == "kernel"
    schema = json.loads((ROOT / "scoresde/schemas/restore-report.json").read_text())
    pytest.importorskip("jsonschema").validate(report, schema)
    described = json.loads((out / "problem.json").read_text())
    kernel = described["operator"]["kernel"]
    assert described["operator"]["boundary"] == "reflect" and kernel is not None
    assert "--kernel auto" in (out / "report.html").read_text()
