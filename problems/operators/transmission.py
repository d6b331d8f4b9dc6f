r"""X-rays in counts: Beer and Lambert's law, and the units of attenuation.

A ray with the line integral p of the attenuation lets :math:`I_0 e^{-p}` of :math:`I_0` photons
pass. Counts are compared with it as they are, with :class:`problems.CountNoise`, or through their
logarithm, with :class:`problems.LogPoissonNoise`. The first is exact for rays with few photons, or
none, and has a nonlinear operator; the second has a linear one.

Hounsfield units are attenuation relative to water, 0 for water and -1000 for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number, check_tensor
from problems.operators.base import Operator, Shape

__all__ = ["Transmission", "attenuation_of", "hounsfield_of", "line_integrals"]

_LARGEST = 1e15
_NONE = 0.5  # count that stands for no photon, as in LogPoissonNoise


@dataclass(frozen=True, eq=False, repr=False)
class Transmission(Operator):
    """Mean counts behind an object, y = photons exp(-x) + background, for line integrals x.

    ``Transmission(photons) @ FanBeam(...)`` maps an attenuation in 1/mm to mean counts, and
    ``CountNoise()`` gives the counts their law.

    Args:
        photons: Mean count of a ray that meets nothing. A number, or a tensor that broadcasts to
            one measurement, such as (detectors,) for a flat field.
        background: Mean count that does not come through the object: scatter, dark counts.

    Raises:
        ValueError: If the photons are not positive or the background is negative.

    Example:
        >>> import torch
        >>> from problems import CountNoise, InverseProblem, ParallelBeam, Transmission
        >>> beam = ParallelBeam((0.0,), (3, 3), pixel=0.5, detectors=3, pitch=0.5)
        >>> x = torch.full((1, 1, 3, 3), 0.02)
        >>> (Transmission(1e4) @ beam).apply(x).round()
        tensor([[[[9704., 9704., 9704.]]]])
        >>> problem = InverseProblem(Transmission(1e4) @ beam, CountNoise())
        >>> counts = problem.measure(x, torch.Generator().manual_seed(0))
        >>> bool((counts == counts.round()).all())
        True
    """

    photons: float | Tensor
    background: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.photons, Tensor):
            photons = check_tensor(self.photons, "the photons").detach().clone()
            photons = photons if photons.is_floating_point() else photons.double()
            if not bool((torch.isfinite(photons) & (photons > 0)).all()):
                raise ValueError("the photons must be finite and positive; mask dead detectors")
            object.__setattr__(self, "photons", photons)
        else:
            check_number(self.photons, "the number of photons", above=0, most=_LARGEST)
        check_number(self.background, "the background", least=0, most=_LARGEST)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of the line integrals.

        Returns:
            One number of photons, and a flat field with a background, by name.
        """
        flat = torch.linspace(1.0, 2.0, shape[-1], dtype=torch.float64)
        return {"transmission": cls(10.0), "transmission-flat": cls(flat, 0.5)}

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y, which is that of x.

        Args:
            shape: Shape of x, without the batch.

        Returns:
            The same shape.

        Raises:
            ValueError: If a tensor of photons does not broadcast to it.
        """
        if isinstance(self.photons, Tensor):
            field = tuple(self.photons.shape)
            ends = tuple(shape)[len(shape) - len(field) :]
            fits = len(field) <= len(shape)
            if not fits or any(n not in (1, m) for n, m in zip(field, ends, strict=True)):
                raise ValueError(
                    f"photons of shape {field} do not fit line integrals of shape {tuple(shape)}"
                )
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x, which is that of y.

        Args:
            shape: Shape of y, without the batch.

        Returns:
            The same shape.

        Raises:
            ValueError: If a tensor of photons does not broadcast to it.
        """
        return self.output_shape(shape)

    def _apply(self, x: Tensor) -> Tensor:
        photons = self.photons.to(x) if isinstance(self.photons, Tensor) else self.photons
        return photons * (-x).exp() + self.background


def line_integrals(counts: Tensor, photons: float | Tensor) -> Tensor:
    """Compute line integrals -ln(counts / photons), for :class:`problems.LogPoissonNoise`.

    Args:
        counts: Photons behind the object, at least 0; none counts as half a photon.
        photons: Photons without the object; a number or a tensor that broadcasts to the counts.

    Returns:
        Line integrals of the attenuation, without unit, of the shape of the counts.

    Raises:
        ValueError: If a count is negative or not finite, or the photons are not positive.

    Example:
        >>> import torch
        >>> from problems import line_integrals
        >>> line_integrals(torch.tensor([1000.0, 367.88]), 1000.0).round(decimals=3).abs()
        tensor([0., 1.])
    """
    counts = check_tensor(counts, "counts")
    if not bool((torch.isfinite(counts) & (counts >= 0)).all()):
        raise ValueError(
            "counts of photons must be finite and at least 0; subtract no offset from them, and "
            "mask dead detectors"
        )
    if isinstance(photons, Tensor):
        if not bool((torch.isfinite(photons) & (photons > 0)).all()):
            raise ValueError("the photons must be finite and positive; mask dead detectors")
    else:
        photons = check_number(photons, "the number of photons", above=0, most=_LARGEST)
    counts = counts if counts.is_floating_point() else counts.to(torch.get_default_dtype())
    return -(counts.clamp_min(_NONE) / photons).log()


def attenuation_of(hounsfield: Tensor, water: float) -> Tensor:
    """Compute attenuation from Hounsfield units, water (1 + HU / 1000).

    Args:
        hounsfield: Values in Hounsfield units.
        water: Attenuation of water, in the unit of the result: about 0.02 per mm at 60 to 70 keV.

    Returns:
        Attenuation, of the shape of the values.

    Raises:
        ValueError: If the attenuation of water is not positive.

    Example:
        >>> import torch
        >>> from problems import attenuation_of
        >>> attenuation_of(torch.tensor([-1000.0, 0.0, 1000.0]), water=0.02)
        tensor([0.0000, 0.0200, 0.0400])
    """
    check_number(water, "the attenuation of water", above=0, most=_LARGEST)
    return water * (1 + hounsfield / 1000)


def hounsfield_of(attenuation: Tensor, water: float) -> Tensor:
    """Compute Hounsfield units from attenuation, 1000 (attenuation / water - 1).

    Args:
        attenuation: Attenuation, such as in 1/mm.
        water: Attenuation of water in the same unit.

    Returns:
        Hounsfield units, of the shape of the attenuation.

    Raises:
        ValueError: If the attenuation of water is not positive.

    Example:
        >>> import torch
        >>> from problems import hounsfield_of
        >>> hounsfield_of(torch.tensor([0.0, 0.02, 0.04]), water=0.02)
        tensor([-1000.,     0.,  1000.])
    """
    check_number(water, "the attenuation of water", above=0, most=_LARGEST)
    return 1000 * (attenuation / water - 1)
