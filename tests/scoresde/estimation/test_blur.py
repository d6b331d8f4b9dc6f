"""Families of blurs: what is guessed, cut out, and said where nothing can be estimated."""

import pytest
import torch
from torch import Tensor

from problems import GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from scoresde import GaussianPrior
from scoresde.estimation import blur
from scoresde.estimation.blur import BLURS, blur_parameters, estimate_blur
from tests.conftest import F64, seeded

SIDE, SIGMA = 16, 0.02
AXIS = torch.arange(SIDE, dtype=F64)
FIELD = torch.exp(-(AXIS[:, None] - AXIS).abs() / 4)
PRIOR = GaussianPrior(torch.zeros(1, SIDE, SIDE, dtype=F64), 0.09 * torch.kron(FIELD, FIELD))
ROOT = 0.3 * torch.linalg.cholesky(FIELD)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 16 pixels are allowed, whose evidence is quick."""
    monkeypatch.setattr(blur, "SMALLEST", SIDE)


def picture(number: int = 0) -> Tensor:
    white = torch.randn(1, 1, SIDE, SIDE, generator=seeded(number), dtype=F64)
    return ROOT @ white @ ROOT.T / 0.3


@pytest.mark.usefixtures("small")
def test_the_width_of_a_gaussian() -> None:
    y = InverseProblem(GaussianBlur(0.9, "reflect"), GaussianNoise(SIGMA)).measure(
        picture(), seeded(1)
    )
    found = estimate_blur("gaussian", y, PRIOR, SIGMA)
    assert found.source == "evidence"
    assert abs(found.values[0] - 0.9) < 3 * found.error[0] < 0.3
    operator = found.problem.operator
    assert isinstance(operator, GaussianBlur) and operator.std == found.values[0]


@pytest.mark.usefixtures("small")
def test_a_sharp_picture_is_said_to_be_sharp() -> None:
    y = picture(2) + SIGMA * torch.randn(1, 1, SIDE, SIDE, generator=seeded(3), dtype=F64)
    with pytest.raises(ValueError, match="shows no blur of this kind: the width") as raised:
        estimate_blur("gaussian", y, PRIOR, SIGMA)
    assert "--problem denoise" in str(raised.value)


@pytest.mark.usefixtures("small")
def test_what_is_larger_than_the_picture_is_said_so() -> None:
    """16 pixels show widths up to 1.75."""
    soft = GaussianBlur(3.0).apply(0.3 * torch.randn(1, 1, 64, 64, generator=seeded(4), dtype=F64))
    y = soft[..., :SIDE, :SIDE]
    y = y + SIGMA * torch.randn(1, 1, SIDE, SIDE, generator=seeded(5), dtype=F64)
    with pytest.raises(ValueError, match="or more, the largest that 16x16 pixels can show"):
        estimate_blur("gaussian", y, PRIOR, SIGMA)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ("square", torch.zeros(1, 3, 64, 64), "unknown blur"),
        ("disk", torch.zeros(1, 3, 16, 64), "at least 32 pixels a side"),
        ("gaussian", torch.zeros(1, 64), "at least 32 pixels a side"),
    ],
)
def test_what_is_no_picture_has_no_parameters(kind: str, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blur_parameters(kind, y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "disk", "motion"])
@pytest.mark.parametrize("side", [32, 33, 64, 200])
def test_all_kernels_of_a_range_fit_the_picture(kind: str, side: int) -> None:
    y = torch.randn(1, 1, side, side, generator=seeded())
    parameters = blur_parameters(kind, y)
    values = [p.high if not p.linear else p.start for p in parameters]
    BLURS[kind]("reflect")(*values).apply(y)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_length_and_the_angle_of_a_motion() -> None:
    """A field whose spectrum falls alike in all directions, so that it shows the motion's."""
    distance = torch.hypot(
        AXIS[:, None, None, None] - AXIS[None, None, :, None],
        AXIS[None, :, None, None] - AXIS[None, None, None, :],
    )
    covariance = 0.09 * torch.exp(-distance / 4).reshape(SIDE**2, SIDE**2)
    prior = GaussianPrior(torch.zeros(1, SIDE, SIDE, dtype=F64), covariance)
    problem = InverseProblem(MotionBlur(5, 40.0, "reflect"), GaussianNoise(SIGMA))
    y = problem.measure(prior.sample(1, seeded(0)), seeded(1))
    found = estimate_blur("motion", y, prior, SIGMA)
    assert found.names == ("the angle of the motion", "the length of the motion")
    assert found.values[0] == pytest.approx(40, abs=3 * found.error[0])
    assert found.values[1] == pytest.approx(5, abs=3 * found.error[1])
    assert found.error[0] < 15 and found.error[1] < 0.6
