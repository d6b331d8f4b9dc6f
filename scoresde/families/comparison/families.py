"""The five families at equal size, with the settings of their training.

Each has about a million parameters for pictures of 28x28.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from problems.checks import check_choice
from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.base import GenerativeModel
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.networks import UNet, UNetConfig
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from scoresde.training.config import LoopConfig
from scoresde.training.objective import NoiseLevels

__all__ = ["FAMILIES", "Family"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """Recipe of a family: its network and its training.

    Args:
        title: Name in tables.
        build: Makes the model of samples of a given shape, for pictures (C, H, W), with random
            weights.
        fit: Settings of the training. The number of steps is set by the budget instead.
    """

    title: str
    build: Callable[[Shape], GenerativeModel]
    fit: LoopConfig


def _vae(shape: Shape) -> GenerativeModel:
    return VAE(VAEConfig(shape, latent=32, widths=(48, 96)))


def _gan(shape: Shape) -> GenerativeModel:
    return GAN(GANConfig(shape, widths=(56, 116), r1=0.1, r2=0.1))


def _flow(shape: Shape) -> GenerativeModel:
    return Flow(FlowConfig(shape))


def _autoregressive(shape: Shape) -> GenerativeModel:
    return Autoregressive(AutoregressiveConfig(shape, widths=(24, 64, 112)))


def _diffusion(shape: Shape) -> GenerativeModel:
    """Build a score model like the embedded prior of digits, with fewer channels.

    The noise goes down to a fraction of a grey level; the Fourier features resolve grey levels.
    """
    noise, exponents = NoiseLevels(-3.2, 2.4, 1e-4, 80.0), (4, 5, 6, 7, 8)
    network = UNetConfig(
        shape[0], widths=(48, 96), blocks=3, attention=(1,), extra=2 * shape[0] * len(exponents)
    )
    prior = ScorePrior(
        UNet(network), EDMSDE(noise.sigma_min, noise.sigma_max), shape, 0.6, fourier=exponents
    )
    return Diffusion(prior, DiffusionConfig(noise=noise))


FAMILIES: dict[str, Family] = {
    "vae": Family("VAE", _vae, LoopConfig(batch=64, learning_rate=2e-3, precision="bf16")),
    "gan": Family(
        "GAN",
        _gan,
        LoopConfig(
            batch=32, learning_rate=1e-3, betas=(0.0, 0.9), ema=0.0, clip=10.0, precision="bf16"
        ),
    ),
    "flow": Family("flow", _flow, LoopConfig(batch=32, learning_rate=1e-3, precision="bf16")),
    "autoregressive": Family(
        "autoregressive",
        _autoregressive,
        LoopConfig(batch=32, learning_rate=1e-3, precision="bf16"),
    ),
    "diffusion": Family(
        "diffusion", _diffusion, LoopConfig(batch=32, learning_rate=1e-3, precision="bf16")
    ),
}


def build(name: str, shape: Shape, seed: int = 0) -> GenerativeModel:
    """Build the untrained model of a family.

    Args:
        name: Name of the family, a key of ``FAMILIES``.
        shape: Shape of a picture, (C, H, W).
        seed: Seed of the random weights.

    Returns:
        The model, with random weights.

    Raises:
        ValueError: If the family is unknown.
    """
    check_choice("family", name, FAMILIES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FAMILIES[name].build(shape)
