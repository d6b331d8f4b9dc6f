"""The width of a kernel in the spectrum, on fields of the assumed law and on photographs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from problems import (
    Blur,
    Denoising,
    DiskBlur,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    MotionBlur,
    Noise,
    Operator,
    PoissonNoise,
)
from problems.operators.convolution import Convolution
from scoresde import load_prior
from scoresde.cli.app import app
from scoresde.evaluation.residual import check_residual
from scoresde.evaluation.residual.seen_width import SeenWidth, seen_width
from tests.conftest import seeded
from tests.fields import power_law_field

BOX = torch.ones(5, 5) / 25
PAIRS: dict[str, tuple[Convolution, Convolution]] = {  # the stated kernel, twice as wide
    "gaussian": (GaussianBlur(0.8), GaussianBlur(1.6)),
    "disk": (DiskBlur(2.0), DiskBlur(4.0)),
    "motion": (MotionBlur(7, 20.0), MotionBlur(14, 20.0)),
    "box": (Blur(BOX), Blur(torch.ones(10, 10) / 100)),
}


def field(number: int, side: int = 160, slope: float = 2.0) -> Tensor:
    return power_law_field(number, side, channels=1, slope=slope, strength=0.03)


def seen(stated: Operator, true: Operator, x: Tensor, sigma: float) -> SeenWidth:
    y = InverseProblem(true, GaussianNoise(sigma)).measure(x, seeded(100))
    found = seen_width(InverseProblem(stated, GaussianNoise(sigma)), y)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", PAIRS)
def test_fields_of_the_assumed_law(kind: str) -> None:
    """Right kernels are the most likely ones, and half of the width is named with its factor."""
    stated, wide = PAIRS[kind]
    for number, slope in enumerate((1.7, 2.0, 2.6)):
        x = field(number, slope=slope)
        right, wrong = (seen(stated, true, x, 0.01) for true in (stated, wide))
        assert right.factor == pytest.approx(1.0, rel=0.11)  # a step of what is compared
        assert wrong.factor == pytest.approx(2.0, rel=0.1) and wrong.wider
        too_wide = seen(wide, stated, x, 0.01)
        assert too_wide.factor < 0.7 and not too_wide.wider  # left to the residual
        assert not right.wider


def test_a_width_below_that_of_photographs_does_not_count() -> None:
    """Twice 0.3 pixels are a picture that is as sharp as photographs are."""
    found = seen(GaussianBlur(0.3), GaussianBlur(0.6), field(0), 0.001)
    assert found.factor > 1.5 and found.added < 0.72 and not found.wider


@pytest.mark.parametrize(
    ("operator", "noise", "side"),
    [
        (Denoising(), GaussianNoise(0.1), 160),
        (GaussianBlur(1.0), GaussianNoise(0.1), 100),
        (GaussianBlur(1.0), PoissonNoise(100.0), 160),
        (GaussianBlur(1.0), GaussianNoise(torch.full((3, 1, 1), 0.1)), 160),
        (Blur(BOX.expand(3, 5, 5)), GaussianNoise(0.1), 160),
        (Blur(torch.tensor([[-0.1, 1.2, -0.1]])), GaussianNoise(0.1), 160),
    ],
    ids=["no blur", "small", "counts", "a map", "a kernel for each channel", "negative values"],
)
def test_where_it_does_not_apply(operator: Operator, noise: Noise, side: int) -> None:
    y = field(0, side).expand(1, 3, -1, -1)
    assert seen_width(InverseProblem(operator, noise), y) is None


def test_a_kernel_of_the_size_of_the_picture() -> None:
    """Wider ones do not fit."""
    kernel = torch.zeros(160, 160)
    kernel[79:81, 79:81] = 0.25
    found = seen(Blur(kernel), Blur(kernel), field(0), 0.01)
    assert found.factor <= 1.0 and not found.wider


def test_the_check_names_the_kernel() -> None:
    """With a prior of photographs, and not for a window, which may lie out of focus."""
    x, prior = field(0).clamp(-1, 1).expand(1, 3, -1, -1), load_prior("natural")
    stated = InverseProblem(GaussianBlur(0.8, "reflect"), GaussianNoise(0.02))
    y = replace(stated, operator=GaussianBlur(1.6, "reflect")).measure(x, seeded(100))
    soft = GaussianBlur((1.6**2 - 0.8**2) ** 0.5, "reflect").apply(x)  # explains y
    draws = soft.expand(4, 1, -1, -1, -1)
    check = check_residual(stated, y, draws, range_known=True, prior=prior)
    assert check.seen_width is not None and check.report()["seen_width"]["factor"] > 1.8
    (warning,) = check.warnings
    # the widths beside twice the stated one that are compared
    assert any(f"{factor} times as wide" in warning for factor in ("1.9", "2.1"))
    assert "the kernel (its width" in warning and "--gaussian auto" in warning
    for how in ({}, {"prior": prior, "window": True}):
        other = check_residual(stated, y, draws, range_known=True, **how)  # type: ignore[arg-type]
        assert other.seen_width is None and not other.warnings
        assert other.report()["seen_width"] is None


def photograph(name: str, side: int = 150) -> Tensor:
    """A crop (1, 3, side, side) of a photograph of scikit-image at half its size."""
    import skimage.data  # slow to import

    x = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 127.5 - 1
    return torch.nn.functional.avg_pool2d(x, 2)[..., :side, -side:].contiguous()


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
@pytest.mark.parametrize("kind", PAIRS)
def test_photographs(name: str, kind: str) -> None:
    stated, wide = PAIRS[kind]
    x = photograph(name)
    assert not seen(stated, stated, x, 0.02).wider
    assert seen(stated, wide, x, 0.01).wider


@pytest.mark.slow
def test_the_command_warns_of_a_narrow_kernel(tmp_path: Path) -> None:
    """The residual of the draws is that of the noise, and says nothing."""
    x = photograph("coffee")
    y = InverseProblem(GaussianBlur(2.0, "reflect"), GaussianNoise(0.02)).measure(x, seeded())
    np.save(tmp_path / "y.npy", y[0].numpy())
    for std, named in ((2.0, False), (1.0, True)):
        done = CliRunner().invoke(
            app,
            ["restore", str(tmp_path / "y.npy"), "--problem", "deblur", "--gaussian", str(std),
             "--range=-1,1", "--sigma", "0.02", "--solver", "hqs",
             "--out", str(tmp_path / f"out{std}")],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert ("times as wide" in " ".join(done.output.split())) == named
