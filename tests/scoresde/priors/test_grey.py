"""Grey pictures under a prior of colour pictures."""

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, VPSDE, GaussianPrior, GreyPrior, Prior
from scoresde.sde import SDE
from tests.conftest import F64, randn, seeded

SHAPE = (3, 2, 4)


class ColourGaussian(Prior):
    """N(0, a^2) for the mean of the colours of a pixel, N(0, b^2) for each of two differences."""

    a, b = 0.7, 0.2

    def __init__(self, sde: SDE) -> None:
        super().__init__(sde, SHAPE)

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (self.sde.alpha, self.sde.sigma))
        u, s2 = x_t / alpha, (sigma / alpha) ** 2
        mean = u.mean(1, keepdim=True)
        # the noise of the mean of three colours is s / sqrt(3)
        shrunk = mean * self.a**2 / (self.a**2 + s2 / 3)
        return shrunk + (u - mean) * self.b**2 / (self.b**2 + s2)


@pytest.mark.parametrize("sde", [EDMSDE(), VPSDE()], ids=["edm", "vp"])
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_it_is_the_denoiser_of_the_mean_where_mean_and_differences_are_independent(
    sde: SDE, t: float
) -> None:
    x_t = randn(5, 1, *SHAPE[1:])
    size = SHAPE[1] * SHAPE[2]
    exact = GaussianPrior(torch.zeros(size, dtype=F64), 0.7**2 * torch.eye(size, dtype=F64), sde)
    expected = exact.denoise(x_t.flatten(1), t).reshape(x_t.shape)
    torch.testing.assert_close(GreyPrior(ColourGaussian(sde)).denoise(x_t, t), expected)


def test_its_colours_have_the_noise_that_a_network_expects() -> None:
    """What the colour prior is given is a grey picture with white noise of the level it is told."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Recorder(ColourGaussian):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            seen.append((x_t, t))
            return x_t

    prior, s = GreyPrior(Recorder(EDMSDE())), 0.3
    g = torch.linspace(-1, 1, 200).expand(1, 1, 200, 200)
    noisy = g + s * torch.randn(g.shape, generator=seeded(1))
    prior.denoise(noisy, s)
    ((colours, level),) = seen
    noise = (colours - g).flatten(2)[0].double()
    assert level.item() == pytest.approx(3**0.5 * s)
    # 40,000 pixels: entries of a covariance scatter by 1/200 (off the diagonal) and 1/141
    covariance = torch.cov(noise) / level.item() ** 2
    torch.testing.assert_close(covariance, torch.eye(3, dtype=F64), atol=5 / 141, rtol=0)


def test_it_gives_one_channel_of_any_size() -> None:
    prior = GreyPrior(ColourGaussian(EDMSDE()))
    assert prior.shape == (1, 2, 4) and prior.accepts((1, 9, 9)) and not prior.accepts(SHAPE)
    with pytest.raises(ValueError, match="prior of images"):
        GreyPrior(GaussianPrior(torch.zeros(2), torch.eye(2)))
    with pytest.raises(ValueError, match="shape"):
        prior.denoise(torch.zeros(1, 3, 2, 4), 0.5)


def test_its_jacobian_can_be_vectorised() -> None:
    prior = GreyPrior(ColourGaussian(EDMSDE()))
    x = randn(1, *SHAPE[1:])
    J = torch.func.vmap(
        lambda v: torch.func.jvp(lambda u: prior.denoise(u[None], 0.5), (x,), (v,))[1]
    )(torch.eye(8, dtype=F64).reshape(8, 1, 2, 4))
    expected = 0.7**2 / (0.7**2 + 0.5**2)
    torch.testing.assert_close(J.reshape(8, 8), expected * torch.eye(8, dtype=F64))
