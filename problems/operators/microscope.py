r"""The blur of a microscope: depth in the specimen, cover glass, immersion (Gibson and Lanni 1991).

An objective is free of aberrations for a point at the lower side of a cover glass of the thickness
:math:`t_g^*` and the index :math:`n_g^*`, through an immersion :math:`t_i^*` thick, of the index
:math:`n_i^*`. For a point at the depth d in a specimen of the index :math:`n_s`, and with the stage
moved by z, a ray at :math:`\rho` of the pupil is ahead by

.. math::

    \lambda W(\rho) = (t_i^* + z)\, r(n_i) - t_i^*\, r(n_i^*) + d\, r(n_s)
                      + t_g\, r(n_g) - t_g^*\, r(n_g^*), \qquad
    r(n) = \sqrt{n^2 - \mathrm{NA}^2 \rho^2}

(Li et al. 2017), up to a constant. As the objective was designed, with d = 0, only the defocus
:math:`z\, r(n_i)` is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number
from problems.operators.base import Operator, Shape
from problems.operators.convolution import fits
from problems.operators.optics import DiffractionBlur, steepness, zernike

__all__ = ["MicroscopeBlur"]

_LONGEST = 1e6  # micrometres
_GRID = 513  # radii of the pupil, on which the slope of W is looked for


@dataclass(frozen=True, eq=False, repr=False)
class MicroscopeBlur(DiffractionBlur):
    """Convolution with the point spread function of a microscope by the model of Gibson and Lanni.

    Lengths are in micrometres, in the plane of the specimen. Light is scalar, which holds up to
    apertures of about 1; above, the true spot is wider by some percent.

    Args:
        wavelength: Wavelength of the emitted light in vacuum.
        aperture: Numerical aperture NA, below every index. Rays beyond the index of the specimen do
            not come out of it: with an oil objective of 1.4 in water, 1.32 is what is used.
        pixel: Side of a pixel: that of the camera divided by the magnification.
        defocus: Distance z by which the stage is moved away from the objective; :attr:`focus` is
            that of the sharpest paraxial image.
        aberrations: Further aberrations, pairs (index of Noll, root mean square in waves).
        index: Refractive index of the immersion as it is.
        size: Odd side of the kernel in pixels; None to decide by the rays.
        boundary: Rule for x outside the frame, as of :class:`problems.DiffractionBlur`.
        depth: Depth of the point below the cover glass.
        sample_index: Refractive index of the specimen.
        working_distance: Thickness of the immersion for which the objective was designed.
        design_index: Index of the immersion for which it was designed; None for the one that is.
        cover: Thickness of the cover glass as it is.
        cover_index: Its refractive index.
        design_cover: Thickness of the cover glass for which the objective was designed.
        design_cover_index: Its refractive index.

    Raises:
        ValueError: If a length is negative or not finite, the aperture not below every index, or
            as of :class:`problems.DiffractionBlur`.

    Example:
        An oil objective, 10 micrometres deep in water, focused on that depth:

        >>> from dataclasses import replace
        >>> from problems import MicroscopeBlur
        >>> blur = MicroscopeBlur(0.52, 1.2, 0.1, index=1.515, depth=10.0, size=31)
        >>> blur = replace(blur, defocus=blur.focus)
        >>> round(blur.focus, 2)  # the stage moves towards the objective
        -11.39
        >>> blur.kernel.shape
        torch.Size([31, 31])
    """

    depth: float = 0.0
    sample_index: float = 1.33
    working_distance: float = 150.0
    design_index: float | None = None
    cover: float = 170.0
    cover_index: float = 1.5
    design_cover: float = 170.0
    design_cover_index: float = 1.5

    def __post_init__(self) -> None:
        for name, what in (
            ("depth", "the depth"),
            ("working_distance", "the working distance"),
            ("cover", "the thickness of the cover glass"),
            ("design_cover", "the design thickness of the cover glass"),
        ):
            check_number(getattr(self, name), what, least=0, most=_LONGEST)
        check_number(self.aperture, "the numerical aperture", above=0)
        indices = {
            "of the specimen": self.sample_index,
            "of the cover glass": self.cover_index,
            "of the cover glass by design": self.design_cover_index,
            "of the immersion": self.index,
            "of the immersion by design": (
                self.index if self.design_index is None else self.design_index
            ),
        }
        for what, index in indices.items():
            check_number(index, f"the refractive index {what}", above=0, most=10)
            if float(index) <= float(self.aperture):
                raise ValueError(
                    f"the numerical aperture {self.aperture:g} must be below the refractive index "
                    f"{what}, {index:g}: rays beyond it do not pass; state the aperture that is "
                    "used"
                )
        super().__post_init__()

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        if not fits(shape, 5, 5):
            return {}
        lens = cls(0.5, 0.9, 0.3, index=1.0, size=5, depth=2.0, cover=172.0, boundary="reflect")
        return {"microscope": lens}

    @property
    def _design_index(self) -> float:
        return float(self.index if self.design_index is None else self.design_index)

    @property
    def _layers(self) -> tuple[tuple[float, float], ...]:
        """Thickness and index of each layer; negative for those of the design."""
        return (
            (self.working_distance + self.defocus, self.index),
            (-self.working_distance, self._design_index),
            (self.depth, self.sample_index),
            (self.cover, self.cover_index),
            (-self.design_cover, self.design_cover_index),
        )

    @property
    def focus(self) -> float:
        """Defocus for which rays near the axis meet: that of the sharpest image at low aperture.

        Where the indices differ, the sharpest image at a high aperture is a little away from it.
        """
        rest = sum(thickness / n for thickness, n in self._layers) - self.defocus / self.index
        return -float(self.index) * rest

    @property
    def _ray_error(self) -> float:
        rho = torch.linspace(0, 1, _GRID, dtype=torch.float64) * self.aperture
        slope = torch.zeros_like(rho)
        for thickness, n in self._layers:
            slope = slope + thickness * rho / (n**2 - rho**2).sqrt()
        others = sum(abs(size) * steepness(j) for j, size in self.aberrations)
        return float(slope.abs().max()) + others * self.wavelength / self.aperture

    def _waves(self, rho: Tensor, theta: Tensor) -> Tensor:
        waves = torch.zeros_like(rho)
        for thickness, n in self._layers:
            waves = waves + thickness * ((n**2 - (self.aperture * rho) ** 2).sqrt() - n)
        waves = waves / self.wavelength
        for index, size in self.aberrations:
            waves = waves + size * zernike(index, rho, theta)
        return waves
