"""Constructors for modules of other projects.

Modules of deepinv and azula are tested where these packages are installed; to run those tests, in
an environment that has the packages of this one:

    pip install deepinv azula
    python -m pytest tests/scoresde/priors/adapted/test_constructors.py
"""

import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from benchmarks.ffdnet import FFDNet, open_ffdnet
from problems.linalg.broadcast import expand_like
from scoresde import EDMSDE, SDE, VESDE, VPSDE, GaussianPrior, SubVPSDE
from scoresde.priors.adapted import (
    AdaptedPrior,
    from_azula,
    from_deepinv,
    from_dncnn,
    from_drunet,
    from_edm,
    from_ffdnet_like,
    from_guided_diffusion,
    from_score_sde,
    read_weights,
)
from tests.conftest import F64, randn
from tests.scoresde.priors.adapted.disguise import ddpm

FFDNET = Path(os.environ.get("SCORESDE_FFDNET", "../shared/data/weights/ffdnet_color.safetensors"))
SHAPE = (1, 4, 4)
MEAN, VARIANCE = 0.2, 0.09


class Exact(nn.Module):
    """Functions of the denoiser of N(0.2, 0.09 I), in the units and with the inputs of a project.

    Args:
        function: Function of the denoiser D(u, s) on [-1, 1], and of what the network is given.
    """

    label_dim, channel_mult = 3, (1, 2, 2)

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor, **conditions: Tensor) -> Tensor:
        """Evaluate the function."""
        return self.function(*given, **conditions)  # type: ignore[operator]


def D(u: Tensor, s: Tensor) -> Tensor:
    """The denoiser on [-1, 1], with one level for each sample."""
    s = expand_like(s, u)
    return MEAN + VARIANCE / (VARIANCE + s**2) * (u - MEAN)


def on_unit(x: Tensor, sigma: Tensor) -> Tensor:
    """The same denoiser on [0, 1]."""
    return (D(2 * x - 1, 2 * sigma) + 1) / 2


def assert_exact(prior: AdaptedPrior, levels: Tensor) -> None:
    """The prior is that of the Gaussian at all levels."""
    size = math.prod(SHAPE)
    exact = GaussianPrior(torch.full(SHAPE, MEAN, dtype=F64), VARIANCE * torch.eye(size, dtype=F64))
    for s in levels.tolist():
        x = MEAN + randn(2, *SHAPE) * math.sqrt(VARIANCE + s**2)
        found = prior.with_sde(EDMSDE()).denoise(x, s)
        torch.testing.assert_close(found, exact.denoise(x, s), rtol=0, atol=1e-9)
    assert not prior.training
    assert not any(p.requires_grad for p in prior.parameters())


def test_guided_diffusion() -> None:
    """Noise and a variance from the index, with a class."""
    abar = ddpm()

    def network(x: Tensor, timesteps: Tensor, y: Tensor) -> Tensor:
        assert y.tolist() == [2] * len(x)
        a = expand_like(abar[timesteps.round().long()], x)
        s = ((1 - a) / a).sqrt()
        eps = (x / a.sqrt() - D(x / a.sqrt(), s.flatten())) / s
        return torch.cat([eps, torch.ones_like(eps)], 1)

    prior = from_guided_diffusion(Exact(network), SHAPE, label=2)
    assert prior.convention.multiple == 4
    assert_exact(prior, ((1 - abar) / abar).sqrt()[[3, 100, 500, 900]])
    given = from_guided_diffusion(Exact(network), SHAPE, abar, label=2)
    assert_exact(given, ((1 - abar) / abar).sqrt()[[3, 500]])


def test_edm() -> None:
    """The preconditioned network, and the one inside."""

    def outside(x: Tensor, sigma: Tensor, class_labels: Tensor) -> Tensor:
        assert class_labels.tolist() == [[0, 1, 0]] * len(x)
        return D(x, sigma)

    def inside(x: Tensor, c_noise: Tensor) -> Tensor:
        s = expand_like((4 * c_noise).exp(), x)
        norm = (s**2 + 0.25).sqrt()
        return (D(x * norm, s.flatten()) - 0.25 / norm**2 * (x * norm)) / (s * 0.5 / norm)

    levels = torch.tensor([0.002, 0.3, 80.0])
    assert_exact(from_edm(Exact(outside), SHAPE, label=1), levels)
    assert_exact(from_edm(Exact(inside), SHAPE, preconditioned=False), levels)
    with pytest.raises(ValueError, match="3 classes, got the label 3"):
        from_edm(Exact(outside), SHAPE, label=3)


@pytest.mark.parametrize("sde", [VPSDE(), SubVPSDE(), VESDE()], ids=lambda s: type(s).__name__)
def test_score_sde(sde: SDE) -> None:
    """Noise on [-1, 1] from 999 t, or the score on [0, 1] from sigma."""

    def noise(x: Tensor, label: Tensor) -> Tensor:
        t = label / 999
        alpha, sigma = expand_like(sde.alpha(t), x), expand_like(sde.sigma(t), x)
        return (x - alpha * D(x / alpha, (sigma / alpha).flatten())) / sigma

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return (on_unit(x, sigma) - x) / expand_like(sigma, x) ** 2

    network = score if isinstance(sde, VESDE) else noise
    prior = from_score_sde(Exact(network), sde, SHAPE)
    assert_exact(prior, torch.tensor([0.03, 0.5, 20.0]))


def test_denoisers_of_unit_range() -> None:
    """Sigma as a map, a vector, an image, or not at all."""
    levels = torch.tensor([0.01, 0.1, 0.39])
    assert_exact(from_drunet(Exact(lambda x: on_unit(x[:, :1], x[:, 1, 0, 0])), SHAPE), levels)
    assert_exact(from_ffdnet_like(Exact(on_unit), SHAPE), levels)
    image = Exact(lambda x, sigma: on_unit(x, sigma.reshape(len(x))))
    assert_exact(from_ffdnet_like(image, SHAPE, passing="image"), levels)
    assert_exact(from_deepinv(Exact(on_unit), SHAPE), levels)
    level = torch.full((2,), 0.1)
    clean = Exact(lambda x: on_unit(x, level.to(x)))
    noise = Exact(lambda x: x - on_unit(x, level.to(x)))
    for network, residual in ((clean, False), (noise, True)):
        prior = from_dncnn(network, SHAPE, 0.1, residual=residual)
        assert prior.trained == (0.2, 0.2)
        # in float32, the precision of the level here
        x = randn(2, *SHAPE).float()
        wanted = D(x, torch.full((2,), 0.2))
        torch.testing.assert_close(prior.denoise(x, 0.2), wanted, rtol=0, atol=1e-5)
    assert from_drunet(Exact(on_unit), SHAPE).trained == pytest.approx((0, 100 / 255))


def test_azula_like() -> None:
    """A schedule of the module, and the mean of what it returns."""

    class Denoiser(nn.Module):
        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return torch.cos(1.5 * t), torch.sin(1.5 * t) + 1e-3

        def forward(self, x_t: Tensor, t: Tensor) -> SimpleNamespace:
            alpha, sigma = self.schedule(t)
            return SimpleNamespace(mean=D(x_t / expand_like(alpha, x_t), sigma / alpha))

    assert_exact(from_azula(Denoiser(), SHAPE), torch.tensor([0.01, 0.5, 10.0]))
    with pytest.raises(ValueError, match="unknown kind of denoiser"):
        from_azula(nn.Identity(), SHAPE)


@pytest.mark.parametrize(
    "name", ["VPSchedule", "VESchedule", "CosineSchedule", "RectifiedSchedule", "DecaySchedule"]
)
def test_azula(name: str) -> None:
    """A Gaussian denoiser of azula, under each of its schedules, is our Gaussian prior."""
    denoise = pytest.importorskip("azula.denoise", reason="azula is not installed")
    noise = pytest.importorskip("azula.noise", reason="azula is not installed")
    covariance = pytest.importorskip("azula.linalg.covariance", reason="azula is not installed")
    schedule = getattr(noise, name)()
    denoiser = denoise.GaussianDenoiser(
        torch.full(SHAPE, MEAN, dtype=F64),
        covariance.IsotropicCovariance(torch.tensor(VARIANCE, dtype=F64)),
        schedule,
    )

    class Batched(nn.Module):
        """azula's Gaussian denoiser takes one time for a batch."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor) -> SimpleNamespace:
            return SimpleNamespace(mean=denoiser(x_t, t[0]).mean)

    assert_exact(from_azula(Batched(), SHAPE), torch.tensor([0.01, 0.5, 10.0]))


def test_karras_denoiser_of_azula() -> None:
    """A network within azula's preconditioning, against a direct call of it."""
    denoise = pytest.importorskip("azula.denoise", reason="azula is not installed")
    noise = pytest.importorskip("azula.noise", reason="azula is not installed")

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(randn(4, 4))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return (x @ self.weight).tanh() * expand_like(t, x).cos()

    schedule = noise.VPSchedule()
    denoiser = denoise.KarrasDenoiser(Backbone(), schedule)
    prior = from_azula(denoiser, SHAPE)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=F64)
    alpha, sigma = schedule(t)
    x = randn(3, *SHAPE)
    wanted = denoiser(expand_like(alpha, x) * x, t).mean
    torch.testing.assert_close(prior.denoise(x, sigma / alpha), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["DRUNet", "MedianFilter"])
def test_deepinv(name: str) -> None:
    """Denoisers of deepinv, against a direct call of them on [0, 1]."""
    models = pytest.importorskip(
        "deepinv.models", reason="deepinv, or the torchvision that it imports, is not installed"
    )
    torch.manual_seed(0)
    denoiser = (
        models.DRUNet(in_channels=1, out_channels=1, nc=(4, 4, 4, 4), nb=1, pretrained=None)
        if name == "DRUNet"
        else models.MedianFilter()
    )
    prior = from_deepinv(denoiser, (1, 16, 16))
    x = randn(2, 1, 16, 16).float()
    with torch.no_grad():
        wanted = 2 * denoiser((x + 1) / 2, torch.full((2,), 0.15)) - 1
    torch.testing.assert_close(prior.denoise(x, 0.3), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_ffdnet(size: tuple[int, int]) -> None:
    """The public colour FFDNet gives what its own module gives, at levels of its training."""
    if not FFDNET.is_file():
        pytest.skip(
            f"there are no weights of FFDNet at {FFDNET}; set SCORESDE_FFDNET to their path"
        )
    network = FFDNet()
    network.load_state_dict(read_weights(FFDNET))
    prior = from_ffdnet_like(network, (3, 64, 64))
    own = open_ffdnet(FFDNET, torch.device("cpu"))
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size) * 2 - 1
    for s in (5, 30, 100, 150):
        level = s / 255
        x_t = x + level * torch.randn(x.shape)
        with torch.no_grad():
            direct = 2 * network((x_t + 1) / 2, torch.full((2,), level / 2)) - 1
        torch.testing.assert_close(prior.denoise(x_t, level), direct, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            prior.denoise(x_t, level), own.denoise(x_t, level), rtol=0, atol=1e-5
        )
    assert prior.trained == pytest.approx((0.0, 150 / 255))
