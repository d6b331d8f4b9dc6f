r"""Counts of photons behind an object, on the scale of line integrals.

A ray with the line integral p has :math:`s = I_0 e^{-p}` photons on average, and a detector reads y
about s + b with a background b. On the scale

.. math:: q = -\ln\frac{(y - b) + g/2}{I_0}

with the gain g, of a count without noise q = p but for the half photon. The half photon makes the
bias of q one of the order of :math:`1/s^2` instead of 1/(2 s). The map is extended below y = b by
its tangent there, so that it can be undone for every y: q holds what y does, and the likelihood of
p given q is that of p given y, to the digit. Only approximations differ. The mean of q is nearly
linear in p where that of y is exponential, and a Gaussian about a wrong p is wrong by factors for y
and by little for q.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_tensor
from problems.noise.base import Noise, check_level, check_positive
from problems.noise.gaussian import broadcasts
from problems.noise.photons import CountNoise
from problems.random_numbers import Generators

__all__ = ["LogCountNoise"]

_HALF = 0.5  # photons that are added before the logarithm
_GROWTH = 30.0  # largest exponent of a mean count: line integrals below -30 count as -30


@dataclass(frozen=True, eq=False, repr=False)
class LogCountNoise(Noise):
    """Noise of counts that are written as line integrals, for :func:`problems.take_logarithm`.

    The reading y of the detector has the law of ``CountNoise(gain, std)`` about
    ``photons exp(-mean) + background``, and the measurement is ``written(y)``. The density is that
    of y: a probability of each count where there is no read noise.

    Args:
        photons: Mean reading of a ray that meets nothing, in units of the detector. A number, or a
            tensor that broadcasts to one measurement, such as (detectors,) for a flat field.
        background: Mean reading that does not come through the object.
        gain: Units of the detector per photon.
        std: Standard deviation of the read noise, in units of the detector; 0 for none.

    Raises:
        ValueError: If the photons or the gain are not positive, or the background or std is
            negative or not finite.

    Example:
        >>> import torch
        >>> from problems import LogCountNoise
        >>> noise = LogCountNoise(photons=1e4)
        >>> q = noise.written(torch.tensor([[10000.0, 500.0, 0.0]]))
        >>> q.round(decimals=3)
        tensor([[-0.0000,  2.9950,  9.9030]])
        >>> noise.readings(q).round(decimals=1).abs()
        tensor([[10000.,   500.,     0.]])
        >>> noise.covariance_matvec(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[1.0000e-04, 1.0000e-04]])
    """

    photons: float | Tensor
    background: float = 0.0
    gain: float = 1.0
    std: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.photons, Tensor):
            photons = check_tensor(self.photons, "the photons").detach().clone()
            if not bool((torch.isfinite(photons) & (photons > 0)).all()):
                raise ValueError("the photons must be finite and positive; mask dead detectors")
            object.__setattr__(self, "photons", photons)
        else:
            check_positive(self.photons, "the number of photons")
        check_positive(self.gain, "the gain")
        check_level(self.background)
        check_level(self.std)

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    @property
    def counts(self) -> CountNoise:
        """Noise of the detector's readings."""
        return CountNoise(self.gain, self.std)

    def written(self, y: Tensor) -> Tensor:
        """Write readings of the detector as line integrals.

        Args:
            y: Readings (B, ...), in units of the detector; negative ones are read noise.

        Returns:
            Line integrals without unit, of the shape of y.
        """
        above = (y - self.background) / self.gain  # photons
        linear = (above.clamp_max(0) / _HALF).to(y)
        whole = (above.clamp_min(0) + _HALF) * self.gain
        return -((whole / self._photons(y)).log() + linear)

    def readings(self, q: Tensor) -> Tensor:
        """Undo :meth:`written`.

        Args:
            q: Line integrals (B, ...), without unit.

        Returns:
            Readings in units of the detector, of the shape of q.
        """
        photons = self._photons(q) / self.gain
        dark = -(_HALF / photons).log()  # q of a reading without a photon
        whole = photons * (-torch.minimum(q, dark)).clamp_max(_GROWTH).exp() - _HALF
        above = whole - _HALF * (q - dark).clamp_min(0)
        return above * self.gain + self.background

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw a measurement given its mean.

        Args:
            mean: Line integrals A x (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Readings as line integrals, of the shape of ``mean``.

        Raises:
            ValueError: If the number of generators is not B.
        """
        return self.written(self.counts.sample(self._expected(mean), generator))

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute the log-density of the reading of each entry.

        Args:
            y: Measurements (B, ...), as :meth:`written` gives them.
            mean: Line integrals A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y.
        """
        return self.counts.log_density(self.readings(y), self._expected(mean))

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the variance of many photons, on the diagonal.

        It is the variance of the reading over the square of its derivative by the line integral,
        the inverse of Fisher's information about it.

        Args:
            mean: Line integrals A x (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products, of the shape of v.
        """
        signal = self._signal(mean).clamp_min(torch.finfo(mean.dtype).tiny ** 0.25)
        return self.counts.covariance_matvec(signal + self.background, v) / signal**2

    def _photons(self, like: Tensor) -> Tensor:
        if isinstance(self.photons, Tensor) and not broadcasts(self.photons.shape, like.shape[1:]):
            raise ValueError(
                f"photons of shape {tuple(self.photons.shape)} do not fit a measurement of shape "
                f"{tuple(like.shape[1:])}"
            )
        return torch.as_tensor(self.photons, dtype=like.dtype, device=like.device)

    def _signal(self, integral: Tensor) -> Tensor:
        return self._photons(integral) * (-integral).clamp_max(_GROWTH).exp()

    def _expected(self, integral: Tensor) -> Tensor:
        return self._signal(integral) + self.background
