"""Measurement noise."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GaussianNoise"]


@dataclass(frozen=True)
class GaussianNoise:
    """y = mean + std * N(0, I). std is in units of the measurement ([-1, 1] for images); 0 only where no likelihood is asked for."""

    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"the noise level must be a finite number >= 0, got {self.std}")

    @property
    def variance(self) -> float:
        return float(self.std) ** 2

    def sample(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(mean.shape, dtype=mean.dtype, device=generator.device if generator else mean.device, generator=generator)
        return mean + self.std * noise.to(mean.device)

    def log_prob(self, y: Tensor, mean: Tensor) -> Tensor:
        """log N(y; mean, std^2 I) of each sample, (B,), up to no constant."""
        if self.std == 0:
            raise ValueError("a likelihood needs a noise level above 0")
        r = ((y - mean) / self.std).flatten(1)
        return -0.5 * r.square().sum(1) - r.shape[1] * math.log(self.std * math.sqrt(2 * math.pi))
