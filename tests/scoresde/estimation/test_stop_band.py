"""The noise level in the stop band of a blur: unbiased, with its stated error, or refused."""

import pytest
import torch
from torch import Tensor

from problems import (
    Blur,
    DiskBlur,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    MotionBlur,
    Operator,
)
from problems.operators.convolution import Boundary
from scoresde import load_prior
from scoresde.estimation import estimate_noise
from scoresde.estimation.stop_band import noise_in_stop_band
from tests.conftest import seeded

SIGMA = 0.02


def picture(number: int, channels: int = 3, side: int = 64) -> Tensor:
    """A random field with the spectrum of pictures, of standard deviation 0.5."""
    frequency = torch.fft.fftfreq(2 * side).double()
    power = 1 / (frequency[:, None].square() + frequency.square() + 1e-4)
    white = torch.randn(channels, 2 * side, 2 * side, dtype=torch.float64, generator=seeded(number))
    x = torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real[:, :side, :side]
    return (0.5 * (x - x.mean()) / x.std())[None]


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["reflect", "circular", "zero", "valid"])
def test_errors_have_the_stated_size(boundary: Boundary) -> None:
    problem = InverseProblem(GaussianBlur(1.5, boundary), GaussianNoise(SIGMA))
    runs = 200
    errors, stated = torch.zeros(runs), torch.zeros(runs)
    for i in range(runs):
        y = problem.measure(picture(i), seeded(1000 + i))
        found = noise_in_stop_band(problem, y, 2 * SIGMA)
        assert found is not None
        errors[i], stated[i] = found[0] - SIGMA, found[1]
    scores = errors / stated
    assert float(stated.max()) < 0.02 * SIGMA
    # the bound q on the bias: half a per cent of the level
    assert abs(float(errors.mean())) < 0.005 * SIGMA
    # the root mean square of 200 standard scores is 1 +- 0.05
    assert 0.85 < float(scores.square().mean().sqrt()) < 1.2


def test_each_channel_has_its_own_level() -> None:
    levels = torch.tensor([0.01, 0.02, 0.05])
    problem = InverseProblem(GaussianBlur(2.0, "reflect"), GaussianNoise(0.03))
    clean = problem.operator.apply(picture(0))
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=seeded(1))
    y = clean + levels.reshape(-1, 1, 1) * noise
    found = noise_in_stop_band(problem, y, 0.03, channels=3)
    assert found is not None
    assert torch.allclose(found[0].float(), levels, rtol=0.06)
    assert torch.all(found[1] < 0.02 * found[0])


@pytest.mark.parametrize(
    "operator",
    [MotionBlur(9, 30.0, "reflect"), DiskBlur(1.5, "reflect"), Blur(torch.ones(1, 1), "reflect")],
    ids=["motion", "small disk", "no blur"],
)
def test_a_narrow_stop_band_is_left_to_the_posterior(operator: Operator) -> None:
    problem = InverseProblem(operator, GaussianNoise(SIGMA))
    y = problem.measure(picture(0), seeded(1))
    assert noise_in_stop_band(problem, y, SIGMA) is None


def test_a_blurred_picture_needs_no_draws() -> None:
    problem = InverseProblem(GaussianBlur(1.5, "reflect"), GaussianNoise(SIGMA))
    y = problem.measure(picture(0).float(), seeded(1))
    found = estimate_noise(problem, y, load_prior("natural"))
    assert found.source == "stop band"
    assert abs(found.sigma[0] - SIGMA) < 3 * found.error[0] < 0.06 * SIGMA
    assert found.problem.noise_variance == pytest.approx(found.sigma[0] ** 2)
