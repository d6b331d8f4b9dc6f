"""The five families on the plane.

There, every density can be summed over a grid and every evidence over the latent space.
"""

import math

import torch
from torch import Tensor

from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.families import Family
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.networks import Perceptron, PerceptronConfig
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from scoresde.training.config import LoopConfig
from scoresde.training.objective import NoiseLevels

__all__ = ["PLANE_FAMILIES", "evidence", "lattice"]

Shape = tuple[int, ...]


def _vae(shape: Shape) -> GenerativeModel:
    return VAE(VAEConfig(shape, latent=2, widths=(64, 64), likelihood="gaussian", std=0.1))


def _gan(shape: Shape) -> GenerativeModel:
    return GAN(GANConfig(shape, latent=4, widths=(64, 64), r1=1e-3, r2=1e-3))


def _flow(shape: Shape) -> GenerativeModel:
    return Flow(
        FlowConfig(shape, levels=0, steps=4, hidden=32, coupling="spline", bins=16, alpha=0.0)
    )


def _autoregressive(shape: Shape) -> GenerativeModel:
    return Autoregressive(
        AutoregressiveConfig(shape, widths=(64, 64), components=10, min_log_scale=-4.0)
    )


def _diffusion(shape: Shape) -> GenerativeModel:
    noise, exponents = NoiseLevels(-1.8, 1.2, 0.02, 10.0), (0, 1, 2)
    network = Perceptron(
        PerceptronConfig(shape[0], (64, 64, 64), extra=2 * shape[0] * len(exponents))
    )
    prior = ScorePrior(
        network, EDMSDE(noise.sigma_min, noise.sigma_max), shape, 0.5, fourier=exponents
    )
    return Diffusion(prior, DiffusionConfig(noise=noise))


PLANE_FAMILIES: dict[str, Family] = {
    "vae": Family("VAE", _vae, LoopConfig(batch=256, learning_rate=4e-3, warmup=20, ema=0.99)),
    "gan": Family(
        "GAN",
        _gan,
        LoopConfig(batch=256, learning_rate=2e-3, warmup=20, ema=0.0, betas=(0.0, 0.99), clip=10.0),
    ),
    "flow": Family("flow", _flow, LoopConfig(batch=256, learning_rate=1e-2, warmup=20, ema=0.99)),
    "autoregressive": Family(
        "autoregressive",
        _autoregressive,
        LoopConfig(batch=256, learning_rate=5e-3, warmup=20, ema=0.99),
    ),
    "diffusion": Family(
        "diffusion", _diffusion, LoopConfig(batch=512, learning_rate=4e-3, warmup=20, ema=0.99)
    ),
}
"""Recipes by family, as ``FAMILIES``, for vectors of two entries of order one."""


def lattice(reach: float, spacing: float) -> tuple[Tensor, float]:
    """Divide the square [-reach, reach]^2 into n x n equal cells.

    Args:
        reach: Half the side of the square.
        spacing: Wanted side of a cell; n is 2 reach / spacing, rounded.

    Returns:
        The midpoints of the cells, shape (n^2, 2), float64, the second coordinate running fastest;
        and the area of a cell.
    """
    n = round(2 * reach / spacing)
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * reach / n) - reach
    return torch.cartesian_prod(axis, axis), (2 * reach / n) ** 2


@torch.no_grad()
def evidence(
    model: VAE, x: Tensor, reach: float = 6.0, spacing: float = 0.05, rows: int = 1 << 20
) -> Tensor:
    r"""Compute the evidence of a VAE with two latent entries by a sum over a lattice of z.

    .. math:: \ln p(x) = \ln \int p(x|z)\, N(z; 0, I)\, dz

    Once the spacing resolves the posterior of z, the error falls faster than any power of the
    spacing, down to the prior mass beyond ``reach``, about 1e-8 for the default.

    Args:
        model: VAE with two latent entries.
        x: Samples, shape (B, D).
        reach: Half the side of the square of z, in standard deviations of the prior.
        spacing: Spacing of the lattice, in the same unit.
        rows: Pairs of x and z per evaluation of the likelihood.

    Returns:
        ln p(x) in nats, shape (B,), float64.

    Raises:
        ValueError: If the model does not have two latent entries.
    """
    if model.config.latent != 2:
        raise ValueError(
            "the evidence needs a model with two latent entries, "
            f"this one has {model.config.latent}"
        )
    points, area = lattice(reach, spacing)
    z = points.to(next(model.parameters()))
    log_prior = -points.square().sum(1) / 2 + math.log(area / (2 * math.pi))
    total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    batch = max(1, rows // len(x))
    for z_part, prior_part in zip(z.split(batch), log_prior.to(x.device).split(batch), strict=True):
        raw = model.raw_outputs(z_part)
        grid_x = x.to(raw)[:, None].expand(-1, len(z_part), -1).flatten(0, 1)
        grid_raw = raw.expand(len(x), *raw.shape).flatten(0, 1)
        values = model.likelihood.log_prob(grid_x, grid_raw).double().reshape(len(x), len(z_part))
        total = torch.logaddexp(total, (values + prior_part).logsumexp(1))
    return total
