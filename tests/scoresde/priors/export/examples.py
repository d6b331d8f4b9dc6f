"""Small priors of every kind that can be exported."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from scoresde import EDMSDE, VPSDE, AdaptedPrior, Convention, DenoiserPrior, Prior, ScorePrior
from scoresde.networks import DiT, DiTConfig, Perceptron, PerceptronConfig, UNet, UNetConfig
from scoresde.priors.averaged import EquivariantPrior

__all__ = ["EXAMPLES", "example", "levels", "noisy"]

SDE = EDMSDE(0.01, 20.0)


def _filled(network: nn.Module) -> nn.Module:
    """The network with weights everywhere: its last layers start at zero."""
    generator = torch.Generator().manual_seed(0)
    for weights in network.parameters():
        weights.data.add_(0.1 * torch.randn(weights.shape, generator=generator))
    return network


def _own(network: nn.Module, shape: tuple[int, ...], **settings: Any) -> Prior:
    prior = ScorePrior(_filled(network), SDE, shape, 0.4, card={"summary": "tiny"}, **settings)
    return prior.eval().requires_grad_(False)


def _unet() -> Prior:
    config = UNetConfig(channels=2, widths=(8, 16), blocks=1, attention=(1,), embedding=16)
    return _own(UNet(config), (2, 16, 16))


def _fourier() -> Prior:
    config = UNetConfig(
        channels=1, widths=(8, 8), blocks=1, attention=(), embedding=16, extra=4, patch=1
    )
    return _own(UNet(config), (1, 12, 12), fourier=(3, 5))


def _dit() -> Prior:
    return _own(DiT(DiTConfig(channels=1, width=16, depth=1, heads=2, patch=4)), (1, 16, 16))


def _signals() -> Prior:
    config = UNetConfig(
        channels=1, widths=(8, 8), blocks=1, attention=(1,), embedding=16, dimensions=1
    )
    return _own(UNet(config), (1, 32))


def _vector() -> Prior:
    return _own(Perceptron(PerceptronConfig(size=3, widths=(8, 8))), (3,))


class _Foreign(nn.Module):
    """A network of others, for sides that are multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down, self.up = nn.Conv2d(1, 8, 4, stride=4), nn.ConvTranspose2d(8, 1, 4, stride=4)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return self.up(self.down(x).tanh() * (index[:, None, None, None] / 1000).cos())


def _foreign() -> Prior:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    convention = Convention("eps", torch.cumprod(1 - betas, 0), "index", multiple=4)
    return AdaptedPrior(_Foreign().eval(), convention, (1, 16, 16)).requires_grad_(False)


def _function() -> Prior:
    return DenoiserPrior(
        lambda x, sigma: x / (1 + sigma[:, None, None, None] ** 2),
        (1, 8, 8),
        value_range=(0.0, 1.0),
        sde=VPSDE(),
    )


EXAMPLES = {
    "unet": _unet,
    "fourier": _fourier,
    "dit": _dit,
    "signals": _signals,
    "vector": _vector,
    "averaged": lambda: EquivariantPrior(_foreign(), "turns"),
    "foreign": _foreign,
    "function": _function,
}


def example(name: str) -> Prior:
    """One of them, under its own SDE."""
    return EXAMPLES[name]()


def levels(batch: int) -> Tensor:
    """Noise levels inside of the training, and far beyond it on both sides."""
    return torch.linspace(math.log(1e-3), math.log(90.0), batch).exp()


def noisy(shape: tuple[int, ...], batch: int = 5) -> tuple[Tensor, Tensor]:
    """Samples with noise of these levels."""
    sigma = levels(batch) if batch > 1 else torch.tensor([0.7])
    generator = torch.Generator().manual_seed(1)
    scale = (0.16 + sigma**2).sqrt().reshape(-1, *[1] * len(shape))
    return scale * torch.randn(batch, *shape, generator=generator), sigma
