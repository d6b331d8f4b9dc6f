"""Blurs by the spectrum alone: right where its model is, with errors that cover."""

import pytest
import torch
from torch import Tensor

from problems import DiskBlur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from problems.operators.convolution import Convolution
from scoresde.estimation.blur import estimate_blur
from tests.conftest import randn, seeded

SIGMA = 0.02
TRUE: dict[str, Convolution] = {
    "gaussian": GaussianBlur(1.7),
    "disk": DiskBlur(2.6),
    "motion": MotionBlur(11, 37.0),
}
VALUES = {"gaussian": (1.7,), "disk": (2.6,), "motion": (37.0, 11.0)}


def field(number: int) -> Tensor:
    """A random field (1, 3, 128, 128) whose spectrum falls with the square of the frequency."""
    f = torch.fft.fftfreq(128)
    distance = torch.hypot(f[:, None], f).clamp_min(1 / 128)
    white = torch.fft.fft2(randn(1, 3, 128, 128, seed=number))
    return 0.02 * torch.fft.ifft2(white / distance).real


def measured(kind: str, number: int) -> Tensor:
    problem = InverseProblem(TRUE[kind], GaussianNoise(SIGMA))
    return problem.measure(field(number), seeded(1000 + number))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "disk"])
def test_the_errors_cover(kind: str) -> None:
    """There is no bias, and the scatter is 1.3 to 1.4 times what is stated, as on 30 others."""
    z = []
    for number in range(40):
        found = estimate_blur(kind, measured(kind, number), None, SIGMA)
        z.append((found.values[0] - VALUES[kind][0]) / found.error[0])
    scores = torch.tensor(z)
    assert abs(float(scores.mean())) < 3 * 1.4 / 40**0.5
    assert 0.9 < float(scores.std()) < 1.8


@pytest.mark.slow
def test_a_motion_is_found() -> None:
    for number in range(3):
        found = estimate_blur("motion", measured("motion", number), None, SIGMA)
        assert found.source == "spectrum"
        for value, error, true in zip(found.values, found.error, VALUES["motion"], strict=True):
            assert abs(value - true) < 4 * error < 0.1 * true


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "disk", "motion"])
def test_no_blur_is_said(kind: str) -> None:
    y = field(1) + SIGMA * randn(1, 3, 128, 128, seed=2)
    with pytest.raises(ValueError, match="the picture shows no blur of this kind"):
        estimate_blur(kind, y, None, SIGMA)


@pytest.mark.slow
def test_a_blur_beyond_the_range_is_said() -> None:
    y = GaussianBlur(14.0, "circular", truncate=4.0).apply(field(3))
    y = y + 0.002 * randn(1, 3, 128, 128, seed=4)
    with pytest.raises(ValueError, match="or more, the largest that 128x128 pixels can show"):
        estimate_blur("gaussian", y, None, 0.002)


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ValueError, match="source"):
        estimate_blur("disk", field(0), None, SIGMA, source="phase")  # type: ignore[arg-type]


def test_a_small_picture_needs_a_prior() -> None:
    y = measured("disk", 3)[..., :96, :96]
    with pytest.raises(ValueError, match="less than 128 pixels a side needs a prior"):
        estimate_blur("disk", y, None, SIGMA)
    found = estimate_blur("disk", y, None, SIGMA, source="spectrum")
    assert abs(found.values[0] - 2.6) < 0.3
