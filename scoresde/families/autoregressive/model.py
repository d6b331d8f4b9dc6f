r"""Autoregressive models: :math:`p(x) = \prod_i p(x_i \mid x_{<i})`, exact, each factor a mixture of logistics.

Images: a gated PixelCNN and discretised logistics over the grey levels, in raster order, channels of a pixel last. As in PixelCNN++
(Salimans et al. 2017) the means of a channel move linearly with the channels before it; unlike there each channel has mixture weights of
its own, so that every factor is a mixture that can be tabulated. Vectors: MADE and logistics on the line.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoresde.families.autoregressive.interface import Mixture
from scoresde.families.autoregressive.logistic import (
    discretised_logistic_mixture_log_prob,
    logistic_mixture_log_prob,
    sample_discretised_logistic_mixture,
    sample_logistic_mixture,
    to_levels,
)
from scoresde.families.autoregressive.made import MADE
from scoresde.families.autoregressive.pixelcnn import PixelCNN
from scoresde.families.autoregressive.posterior import RestoreSettings, restore
from scoresde.families.autoregressive.raster import Raster
from scoresde.families.base import DensityKind, GenerativeModel, LogProb
from solvers.posterior.records import Draws, Request

__all__ = ["Autoregressive", "AutoregressiveConfig", "Mixture"]


@dataclass(frozen=True)
class AutoregressiveConfig:
    """Size of an :class:`Autoregressive` model.

    shape: of a sample, an image (C, H, W) or a vector (D,). widths: of an image, channels of each resolution, finest first, each half the
    one before; of a vector, hidden units of each layer. blocks: gated layers per resolution and direction. components: of a mixture.
    levels: grey levels of an image, evenly spaced on [-1, 1]. min_log_scale: of a logistic. (blocks and levels mean nothing to a vector.)
    """

    shape: tuple[int, ...]
    widths: tuple[int, ...] = (32, 64, 96)
    blocks: int = 2
    components: int = 10
    levels: int = 256
    min_log_scale: float = -7.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.shape) not in (1, 3):
            raise ValueError(
                f"an autoregressive model is of vectors (D,) or images (C, H, W), not of samples of shape {self.shape}"
            )
        if not self.widths or min(*self.shape, *self.widths, self.blocks, self.components) < 1:
            raise ValueError(f"all sizes of an autoregressive model must be positive, got {self}")
        if self.levels < 2:
            raise ValueError(f"an image needs at least 2 grey levels, got {self.levels}")
        if not math.isfinite(self.min_log_scale):
            raise ValueError(f"min_log_scale must be finite, got {self.min_log_scale}")


class Autoregressive(GenerativeModel):
    density: ClassVar[DensityKind] = "exact"
    config: AutoregressiveConfig

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        K = config.components
        self.channels = config.shape[0] if self.is_image else 1
        slopes = self.channels * (self.channels - 1) // 2
        outputs = 3 * K * self.channels + K * slopes
        if self.is_image:
            self.network: PixelCNN | MADE = PixelCNN(
                self.channels, outputs, config.widths, config.blocks
            )
        else:
            self.network = MADE(config.shape[0], outputs, config.widths)
        with torch.no_grad():  # components side by side on [-1, 1] at first
            bias = self.network.head.bias.view(-1, outputs)[:, : 3 * K * self.channels].unflatten(
                1, (self.channels, 3, K)
            )
            bias[:, :, 1] += torch.linspace(-1, 1, K) if K > 1 else 0
            bias[:, :, 2] += math.log(1 / K)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.config.shape

    @property
    def is_image(self) -> bool:
        return len(self.config.shape) == 3

    @property
    def nfe_per_sample(self) -> int:
        """Steps one after another, one for each pixel or entry of a vector; with a cache those of an image cost one evaluation of all."""
        return self.shape[1] * self.shape[2] if self.is_image else self.shape[0]

    def split(self, outputs: Tensor, x: Tensor) -> Mixture:
        """The mixtures (..., C, components) that the network's outputs (..., outputs) are for a pixel with channels x (..., C).

        Channel c sees only the channels before it, so x need hold no others yet.
        """
        K, C = self.config.components, self.channels
        logits, means, log_scales = outputs[..., : 3 * K * C].unflatten(-1, (C, 3, K)).unbind(-2)
        if C > 1:
            slopes = torch.tanh(outputs[..., 3 * K * C :]).unflatten(-1, (C * (C - 1) // 2, K))
            moved, first = [means[..., 0, :]], 0
            for c in range(1, C):
                shift = (slopes[..., first : first + c, :] * x[..., :c, None]).sum(-2)
                moved.append(means[..., c, :] + shift)
                first += c
            means = torch.stack(moved, -2)
        return logits, means, log_scales.clamp_min(self.config.min_log_scale)

    def mixture(self, x: Tensor) -> Mixture:
        """p(x_i | x_<i) of every entry of x (B, *shape), each (B, *shape, components)."""
        outputs = self.network(x)
        if not self.is_image:
            logits, means, log_scales = self.split(outputs, x[..., None])
            return logits[:, :, 0], means[:, :, 0], log_scales[:, :, 0]
        logits, means, log_scales = (p.movedim(3, 1) for p in self.split(outputs, x.movedim(1, -1)))
        return logits, means, log_scales

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """ln p(x_i | x_<i) of every entry, shape of x; images are rounded to the nearest levels first. Gradients pass the rounding."""
        if not self.is_image:
            return logistic_mixture_log_prob(x, *self.mixture(x))
        x = x + (to_levels(x, self.config.levels) - x).detach()
        return discretised_logistic_mixture_log_prob(x, *self.mixture(x), self.config.levels)

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """Exact: of the levels of an image (discrete), of the density of a vector. k and generator are not used."""
        self.check(x)
        value = self.entry_log_prob(x.to(next(self.parameters()))).double().flatten(1).sum(1)
        return LogProb(value, "exact", discrete=self.is_image)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-ln p(x) per entry, nats, mean over the batch."""
        self.check(x)
        return -self.entry_log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Entry by entry, each from its mixture; images with cached features."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        like = next(self.parameters())
        if isinstance(self.network, MADE):
            x = like.new_zeros(n, *self.shape)
            for d in range(self.shape[0]):
                logits, means, log_scales = (p[:, d] for p in self.mixture(x))
                x[:, d] = sample_logistic_mixture(logits, means, log_scales, generator)
            return x
        raster = Raster(self.network, n, self.shape, like)
        for i in range(self.shape[1]):
            for j in range(self.shape[2]):
                outputs = raster.outputs(i, j)
                for c in range(self.channels):
                    logits, means, log_scales = (
                        p[:, c] for p in self.split(outputs, raster.at(i, j))
                    )
                    value = sample_discretised_logistic_mixture(
                        logits, means, log_scales, generator, self.config.levels
                    )
                    raster.put(i, j, c, value)
        return raster.x

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Exact, or exact in a limit, by what the problem allows: see :mod:`scoresde.families.autoregressive.posterior`.

        settings: of ``RestoreSettings``.
        """
        return restore(self, request, RestoreSettings(**settings))
