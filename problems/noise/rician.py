r"""Rician noise: the magnitude of a signal with complex Gaussian noise, as in MR magnitude images.

With :math:`r = y - \text{black}` and :math:`\nu = |\text{mean} - \text{black}|`,

.. math::

    r = |\nu + \sigma (n_1 + i n_2)|, \qquad
    p(r) = \frac{r}{\sigma^2} \exp\Bigl(-\frac{r^2 + \nu^2}{2 \sigma^2}\Bigr)
           I_0\Bigl(\frac{r \nu}{\sigma^2}\Bigr)

(Rice 1944; Gudbjartsson and Patz 1995). The magnitude of noise alone is not zero but
:math:`\sigma \sqrt{\pi/2}` on average, so that dark places look brighter than they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number
from problems.noise.base import Noise, check_positive
from problems.random_numbers import Generators, randn_like

__all__ = ["RicianNoise"]

_LARGEST_BLACK = 1e15


@dataclass(frozen=True, eq=False, repr=False)
class RicianNoise(Noise):
    """Rician noise, y = black + |mean - black + std (n1 + i n2)|.

    Args:
        std: Standard deviation of each of the two parts, in units of the measurement.
        black: Value of y that stands for no signal: -1 for pictures on [-1, 1], 0 for magnitudes.

    Raises:
        ValueError: If std is not positive or black is not finite.

    Example:
        >>> import torch
        >>> from problems import RicianNoise
        >>> noise = RicianNoise(0.2)
        >>> y = noise.sample(torch.full((1, 1, 4, 4), -1.0), torch.Generator().manual_seed(0))
        >>> bool((y > -1).all())
        True
        >>> noise.log_prob(y, torch.zeros_like(y)).shape
        torch.Size([1])
    """

    std: float
    black: float = -1.0

    def __post_init__(self) -> None:
        check_positive(self.std, "the level of Rician noise")
        check_number(self.black, "black", least=-_LARGEST_BLACK, most=_LARGEST_BLACK)

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Measurements A x without noise (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the number of generators is not B.
        """
        # both parts of a sample from its own generator
        parts = self.std * randn_like(torch.stack([mean, mean], 1), generator)
        return self.black + torch.hypot(mean - self.black + parts[:, 0], parts[:, 1])

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Measurements A x without noise (B, ...).

        Returns:
            Log-densities in nats, of the shape of y; -inf where y is not above black.
        """
        r, signal = (y - self.black) / self.std, (mean - self.black).abs() / self.std
        positive = r.clamp_min(0)
        # ln I0(z) = ln(e^-z I0(z)) + z, which does not overflow
        exponent = torch.special.i0e(positive * signal).log() - 0.5 * (positive - signal).square()
        density = positive.log() + exponent - math.log(self.std)
        return torch.where(r >= 0, density, -torch.inf)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        r"""Multiply by the second moment about the mean, E[(y - mean)^2] on the diagonal.

        y is brighter than the mean. Of all normal laws about the mean, that of this variance is the
        nearest to the law of y. It is :math:`2 \sigma^2` without signal, and tends to
        :math:`\sigma^2` where the signal is strong.

        Args:
            mean: Measurements A x without noise (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products, of the shape of v.
        """
        # in double precision: a strong signal is nearly the mean of r
        s = (mean.double() - self.black) / self.std
        # E[r] = sqrt(pi / 2) L_{1/2}(-s^2 / 2), in exponentially scaled Bessel functions
        z, signal = s.square() / 4, s.abs()
        middle = math.sqrt(math.pi / 2) * (
            (1 + 2 * z) * torch.special.i0e(z) + 2 * z * torch.special.i1e(z)
        )
        # (y - mean)^2 of a signed mean: r is about |s|, so the sign of s is lost
        near = 2 + 2 * signal * (signal - middle)
        moment = torch.where(s >= 0, near, near + 4 * signal * middle)
        return (self.std**2 * moment).to(torch.promote_types(mean.dtype, v.dtype)) * v
