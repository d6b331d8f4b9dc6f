r"""Autoregressive models: :math:`p(x) = \prod_i p(x_i \mid x_{<i})`.

The density is exact, and each factor is a mixture of logistics.

Images: a gated PixelCNN and discretised logistics over the grey levels, in raster order, channels
of a pixel last. As in PixelCNN++ (Salimans et al. 2017) the means of a channel depend linearly on
the channels before it. Unlike there, each channel has separate mixture weights, so that every
factor is a mixture that can be tabulated.

Vectors: MADE and logistics on the real line.
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

    Args:
        shape: Shape of a sample: an image (C, H, W) or a vector (D,).
        widths: Of an image, channels of each resolution, finest first; each resolution is half the
            one before. Of a vector, units of each hidden layer.
        blocks: Gated layers per resolution, before the coarser level and again after it; unused for
            vectors.
        components: Components of a mixture.
        levels: Grey levels of an image, evenly spaced on [-1, 1]; unused for vectors.
        min_log_scale: Lower bound on the natural logarithm of the scale of a logistic.

    Raises:
        ValueError: If a size is not positive, there are fewer than 2 levels, or min_log_scale is
            not finite.
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
                "an autoregressive model needs vectors (D,) or images (C, H, W), "
                f"not samples of shape {self.shape}"
            )
        if not self.widths or min(*self.shape, *self.widths, self.blocks, self.components) < 1:
            raise ValueError(f"all sizes of an autoregressive model must be positive, got {self}")
        if self.levels < 2:
            raise ValueError(f"an image needs at least 2 grey levels, got {self.levels}")
        if not math.isfinite(self.min_log_scale):
            raise ValueError(f"min_log_scale must be finite, got {self.min_log_scale}")


class Autoregressive(GenerativeModel):
    """Autoregressive model of images (PixelCNN) or vectors (MADE).

    Args:
        config: Size.

    Attributes:
        network: The causal network.
        channels: Channels of an image; 1 for vectors.

    Example:
        >>> import torch
        >>> from scoresde.families import Autoregressive, AutoregressiveConfig
        >>> config = AutoregressiveConfig((1, 2, 2), widths=(4,), blocks=1, components=2, levels=4)
        >>> model = Autoregressive(config)
        >>> x = model.sample(3, torch.Generator().manual_seed(0))
        >>> x.shape, model.log_prob(x).discrete
        (torch.Size([3, 1, 2, 2]), True)
        >>> pixel = torch.linspace(-1, 1, 4)
        >>> pictures = torch.cartesian_prod(pixel, pixel, pixel, pixel).reshape(-1, 1, 2, 2)
        >>> round(float(model.log_prob(pictures).value.detach().exp().sum()), 4)
        1.0
    """

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
        with torch.no_grad():  # the means of the components start evenly spaced on [-1, 1]
            bias = self.network.head.bias.view(-1, outputs)[:, : 3 * K * self.channels].unflatten(
                1, (self.channels, 3, K)
            )
            bias[:, :, 1] += torch.linspace(-1, 1, K) if K > 1 else 0
            bias[:, :, 2] += math.log(1 / K)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis."""
        return self.config.shape

    @property
    def is_image(self) -> bool:
        """True for images, False for vectors."""
        return len(self.config.shape) == 3

    @property
    def nfe_per_sample(self) -> int:
        """Sequential steps per sample: one for each pixel, or for each entry of a vector.

        With a cache, all steps of an image together cost one evaluation of the network.
        """
        return self.shape[1] * self.shape[2] if self.is_image else self.shape[0]

    def split(self, outputs: Tensor, x: Tensor) -> Mixture:
        """Convert outputs of the network to the mixtures of a pixel's channels.

        The mixture of channel c depends only on the channels before it; the other entries of x may
        be undefined.

        Args:
            outputs: Outputs of the network, shape (..., outputs).
            x: Channels of the pixels, shape (..., C).

        Returns:
            Logits, means and log-scales, each (..., C, components).
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
        """Compute p(x_i | x_<i) of every entry.

        Args:
            x: Samples, shape (B, *shape).

        Returns:
            Logits, means and log-scales, each (B, *shape, components).
        """
        outputs = self.network(x)
        if not self.is_image:
            logits, means, log_scales = self.split(outputs, x[..., None])
            return logits[:, :, 0], means[:, :, 0], log_scales[:, :, 0]
        logits, means, log_scales = (p.movedim(3, 1) for p in self.split(outputs, x.movedim(1, -1)))
        return logits, means, log_scales

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """Compute ln p(x_i | x_<i) of every entry.

        Gradients pass through the rounding of images unchanged.

        Args:
            x: Samples, shape (B, *shape). Images are rounded to the nearest levels.

        Returns:
            Log-probabilities in nats, shape of x.
        """
        if not self.is_image:
            return logistic_mixture_log_prob(x, *self.mixture(x))
        x = x + (to_levels(x, self.config.levels) - x).detach()
        return discretised_logistic_mixture_log_prob(x, *self.mixture(x), self.config.levels)

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """Compute ln p(x) exactly.

        Args:
            x: Samples, shape (B, *shape). Images are rounded to the nearest levels.
            k: Not used.
            generator: Not used.

        Returns:
            Log-probabilities of the levels of images, or log-densities of vectors, in nats, shape
            (B,), float64.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
        self.check(x)
        value = self.entry_log_prob(x.to(next(self.parameters()))).double().flatten(1).sum(1)
        return LogProb(value, "exact", discrete=self.is_image)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute -ln p(x) per entry, in nats.

        Args:
            x: Samples, shape (B, *shape).
            generator: Not used.

        Returns:
            The mean over the batch, a scalar.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
        self.check(x)
        return -self.entry_log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples entry by entry, images with cached features.

        Args:
            n: Number of draws, at least 1.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).

        Raises:
            ValueError: If n < 1.
        """
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
        """Draw exactly, or exactly in a limit, depending on the problem.

        See :mod:`scoresde.families.autoregressive.posterior`. The settings are those of
        ``RestoreSettings``.
        """
        return restore(self, request, RestoreSettings(**settings))
