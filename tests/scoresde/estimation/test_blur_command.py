"""`--gaussian auto` and its like at the command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import DiskBlur, GaussianBlur, GaussianNoise, InverseProblem
from scoresde.estimation import ParameterEstimate
from scoresde.pipelines import estimated_blur, task
from scoresde.pipelines.estimated_blur import without_unknown_blur
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
        }  # fmt: skip
        operator, values, error, names = found[kind]
        problem = InverseProblem(operator, GaussianNoise(sigma))
        return ParameterEstimate(names, values, error, "draws", (values,), problem)

    monkeypatch.setattr(estimated_blur, "estimate_blur", known)
    return calls


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
        (("restore", "PICTURE", "--kernel", "auto"), "a kernel of any shape is not estimated"),
        (("restore", "PICTURE", "--disk", "auto", "--simulate"), "needs a kernel to blur with"),
        (("restore", "PICTURE", "--disk", "auto", "--photons", "90"), "noise of one level"),
        (("restore", "PICTURE", "--motion", "auto"), "a motion is not estimated"),
        (("calibrate", "folder", "--disk", "auto"), "`scoresde calibrate` a number"),
        (("audit", "--gaussian", "auto"), "`scoresde audit` a number"),
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
    assert kind == "gaussian" and isinstance(stated.gaussian, float)
