r"""Diffraction: the blur of a lens, computed from its pupil in physical units.

The field in the image plane is the Fourier transform of the pupil function (Born and Wolf 1999).
With the pupil on the unit disk :math:`|\rho| \le 1`, the numerical aperture NA and the wavelength
:math:`\lambda`,

.. math::

    h(x) = \frac1\pi \int_{|\rho| \le 1}
           e^{2\pi i (W(\rho) + \mathrm{NA}\,\rho \cdot x / \lambda)}\, d^2\rho, \qquad
    \text{intensity} = |h(x)|^2 .

Without aberrations W it is Airy's pattern :math:`(2 J_1(v)/v)^2`, with
:math:`v = 2\pi\,\mathrm{NA}\,|x|/\lambda`. W is in waves. Out of focus by z it is
:math:`z \sqrt{n^2 - \mathrm{NA}^2 \rho^2} / \lambda` up to a constant, with n the refractive index;
other aberrations are sums of Zernike polynomials in the order and normalisation of Noll (1976).

The integral is a Gauss-Chebyshev rule over the rows of the disk and a Gauss-Legendre rule along
each row. Both converge exponentially, since the integrand is smooth, so that the pattern is exact
to rounding. Values of pixels are integrals over their area, by a Gauss-Legendre rule too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.special import roots_legendre
from torch import Tensor

from problems.checks import check_number
from problems.operators.base import Operator, Shape
from problems.operators.convolution import Boundary, Convolution, check_side, fits

__all__ = ["DiffractionBlur", "steepness", "zernike"]

_MOST_NODES = 512  # of the rule across the pupil
_MOST_POINTS = 128  # of the rule across a pixel
_HIGHEST = 1 << 10  # Noll index
_LARGEST = 1e15
_RINGS = 5.0  # radius of the kernel in units of wavelength / NA, without aberrations


def zernike(index: int, rho: Tensor, theta: Tensor) -> Tensor:
    """Compute a Zernike polynomial in the order of Noll (1976).

    The mean of its square over the unit disk is 1. The first ones are piston, two tilts, defocus
    (4), two astigmatisms (5, 6), two comas (7, 8), two trefoils (9, 10) and spherical aberration
    (11).

    Args:
        index: Index j of Noll, from 1 to 1024.
        rho: Distance from the centre of the pupil, 1 at its edge.
        theta: Angle in radians, anticlockwise from the x axis, of the shape of rho.

    Returns:
        Values, of the shape of rho.

    Raises:
        ValueError: If the index is not a whole number from 1 to 1024.

    Example:
        >>> import torch
        >>> from problems import zernike
        >>> zernike(4, torch.tensor([0.0, 1.0]), torch.zeros(2))  # sqrt(3) (2 rho^2 - 1)
        tensor([-1.7321,  1.7321])
    """
    n, m = _noll(index)
    radial = torch.zeros_like(rho)
    for k in range((n - abs(m)) // 2 + 1):
        factor = (-1) ** k * math.comb(n - k, k) * math.comb(n - 2 * k, (n - abs(m)) // 2 - k)
        radial = radial + factor * rho ** (n - 2 * k)
    if m == 0:
        return math.sqrt(n + 1) * radial
    angular = (m * theta).cos() if m > 0 else (-m * theta).sin()
    return math.sqrt(2 * (n + 1)) * radial * angular


def _noll(index: int) -> tuple[int, int]:
    """The degree n, and the frequency m of the cosine, or -m of the sine."""
    j = int(check_number(index, "a Zernike index", least=1, most=_HIGHEST, whole=True))
    n = (math.isqrt(8 * j - 7) - 1) // 2
    place = j - n * (n + 1) // 2 - 1  # within the degree
    m = 2 * ((place + 1) // 2) if n % 2 == 0 else 2 * (place // 2) + 1
    return n, m if j % 2 == 0 else -m


@dataclass(frozen=True, eq=False, repr=False)
class DiffractionBlur(Convolution):
    """Convolution with the incoherent point spread function of a circular lens.

    All lengths are in one unit, such as micrometres, and in the plane of the object or, with the
    aperture of that side, of the image.

    Args:
        wavelength: Wavelength of the light in vacuum.
        aperture: Numerical aperture NA.
        pixel: Side of a pixel.
        defocus: Distance from the focus along the optical axis; the sign matters only with other
            aberrations.
        aberrations: Pairs (index of Noll, root mean square in waves) of Zernike polynomials.
        index: Refractive index of the medium, above NA.
        size: Odd side of the kernel in pixels; None for 5 wavelength / NA on either side and the
            geometric blur in addition. Airy's pattern then has 98 percent of its light inside.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.

    Raises:
        ValueError: If a length is not positive, the aperture not below the index, an aberration no
            such pair, the size even, the kernel or a pixel too large for the wavelength, or the
            boundary unknown.

    Example:
        Green light through a dry microscope objective, with pixels of 100 nm:

        >>> from problems import DiffractionBlur
        >>> blur = DiffractionBlur(wavelength=0.52, aperture=0.75, pixel=0.1, size=31)
        >>> blur.kernel.shape
        torch.Size([31, 31])
        >>> round(float(blur.kernel.sum()), 6)
        1.0
        >>> round(blur.airy_radius, 3)  # 0.61 wavelength / NA, to the first dark ring
        0.423
    """

    wavelength: float
    aperture: float
    pixel: float
    defocus: float = 0.0
    aberrations: tuple[tuple[int, float], ...] = ()
    index: float = 1.0
    size: int | None = None
    boundary: Boundary = "circular"

    def __post_init__(self) -> None:
        check_number(self.wavelength, "the wavelength", above=0, most=_LARGEST)
        check_number(self.index, "the refractive index", above=0, most=_LARGEST)
        check_number(self.aperture, "the numerical aperture", above=0, below=float(self.index))
        check_number(self.pixel, "the side of a pixel", above=0, most=_LARGEST)
        check_number(self.defocus, "the defocus", least=-_LARGEST, most=_LARGEST)
        if not isinstance(self.aberrations, list | tuple):
            raise ValueError(f"aberrations are pairs (index, waves), got {self.aberrations!s:.80}")
        pairs = []
        for one in self.aberrations:
            if not isinstance(one, list | tuple) or len(one) != 2:
                raise ValueError(f"aberrations are pairs (index, waves), got {one!s:.80}")
            _noll(one[0])
            pairs.append((int(one[0]), check_number(one[1], "the waves of an aberration")))
        object.__setattr__(self, "aberrations", tuple(pairs))
        if self.size is not None:
            size = check_number(self.size, "the size of the kernel", least=1, whole=True)
            if size % 2 == 0:
                raise ValueError(f"the size of the kernel must be odd, got {self.size}")
            object.__setattr__(self, "size", int(size))
        check_side(self._side, "a lens of this aperture with these pixels")
        self._nodes(self._side / 2 * self.pixel)
        if self._points > _MOST_POINTS:
            raise ValueError(
                f"a pixel of {self.pixel:g} is far larger than the blur of this lens, whose first "
                f"dark ring has a radius of {self.airy_radius:.3g}; the lens makes no difference"
            )
        self._check_boundary()

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
        lens = {"wavelength": 0.5, "aperture": 0.25, "pixel": 1.0, "size": 5}
        return {
            "airy": cls(**lens, boundary="reflect"),  # type: ignore[arg-type]
            "coma": cls(**lens, aberrations=((7, 0.1),), defocus=3.0),  # type: ignore[arg-type]
        }

    @property
    def airy_radius(self) -> float:
        """Radius of the first dark ring of the lens without aberrations."""
        return 3.8317059702075125 / (2 * math.pi) * self.wavelength / self.aperture

    @property
    def _side(self) -> float:
        if self.size is not None:
            return float(self.size)
        reach = self._ray_error + _RINGS * self.wavelength / self.aperture
        return 2.0 * math.ceil(reach / self.pixel) + 1

    @property
    def _ray_error(self) -> float:
        """A bound on how far rays miss the image: the slope of W times wavelength / NA."""
        angle = self.aperture / math.sqrt(self.index**2 - self.aperture**2)
        waves = sum(abs(a) * steepness(j) for j, a in self.aberrations)
        return abs(self.defocus) * angle + waves * self.wavelength / self.aperture

    def _nodes(self, farthest: float) -> int:
        """Number of nodes along a row of the pupil for positions up to a distance."""
        # radians from the middle of the pupil to its edge
        slope = 2 * math.pi * self.aperture / self.wavelength * (farthest + self._ray_error)
        most = _MOST_NODES - 32
        if slope > most:
            reach = farthest + self._ray_error
            raise ValueError(
                f"the kernel reaches {farthest:.3g} from its middle and rays miss it by up to "
                f"{self._ray_error:.3g}; together they can be at most {most / slope * reach:.3g} "
                "for this wavelength and aperture"
            )
        return math.ceil(slope) + 32  # degree 2 count - 1, above that of the oscillation

    @property
    def _points(self) -> int:
        """Number of nodes across a pixel, on which the intensity turns by 2 turn radians."""
        turn = 2 * math.pi * self.aperture * self.pixel / self.wavelength
        return math.ceil(turn) + 4

    def _waves(self, rho: Tensor, theta: Tensor) -> Tensor:
        """The aberration W in waves; the rest of the phase is the same everywhere."""
        inside = (self.index**2 - (self.aperture * rho) ** 2).sqrt() - self.index
        waves = self.defocus / self.wavelength * inside
        for index, size in self.aberrations:
            waves = waves + size * zernike(index, rho, theta)
        return waves

    def intensity(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the intensity on a grid, in units of the peak without aberrations.

        Args:
            x: Positions (X,) to the right of the geometric image.
            y: Positions (Y,) above the geometric image.

        Returns:
            Intensities (Y, X), float64. At the origin it is the Strehl ratio.

        Raises:
            ValueError: If the positions are too far out for the wavelength.
        """
        turn = 2 * math.pi * self.aperture / self.wavelength
        count = self._nodes(max(float(x.abs().max()), float(y.abs().max())))
        # rows of the disk at eta, of half length sqrt(1 - eta^2): Gauss-Chebyshev, second kind
        step = math.pi / (count + 1)
        place = torch.arange(1, count + 1, dtype=torch.float64) * step
        eta, half = place.cos(), place.sin()
        nodes, weights = (torch.from_numpy(a) for a in roots_legendre(count))
        xi = half[:, None] * nodes
        rho, theta = torch.hypot(xi, eta[:, None]), torch.atan2(eta[:, None].expand_as(xi), xi)
        pupil = _turned(2 * math.pi * self._waves(rho, theta)) * weights
        x, y = x.to(torch.float64), y.to(torch.float64)
        lines = zip(xi, pupil, strict=True)
        rows = torch.stack([_turned(turn * torch.outer(x, line)) @ part for line, part in lines])
        columns = _turned(turn * torch.outer(y, eta)) * (half**2 * step)
        field = columns @ rows / math.pi
        return field.real**2 + field.imag**2

    @cached_property
    def kernel(self) -> Tensor:
        """Kernel of shape (size, size), float64, with sum 1; its rows go down the image."""
        fractions = self.light
        return fractions / fractions.sum()

    @property
    def light(self) -> Tensor:
        """Part of the light that falls on each pixel of the kernel, shape (size, size), float64.

        Their sum is the part inside the kernel; all of the light is 1.
        """
        side = int(self._side)
        nodes, weights = (torch.from_numpy(a) for a in roots_legendre(self._points))
        middle = torch.arange(side, dtype=torch.float64) - side // 2
        fine = ((middle[:, None] + nodes / 2) * self.pixel).flatten()
        values = self.intensity(fine, -fine).unflatten(0, (side, -1)).unflatten(-1, (side, -1))
        mean = torch.einsum("iajb,a,b->ij", values, weights / 2, weights / 2)
        # Parseval: the integral of the intensity is (wavelength / NA)^2 / pi
        return mean * (self.pixel * self.aperture / self.wavelength) ** 2 * math.pi

    @property
    def taps(self) -> Tensor:
        """Kernel with a channel axis, shape (1, h, w)."""
        return self.kernel[None]


def steepness(index: int) -> float:
    """Bound the slope of a Zernike polynomial on the disk: Markov's n^2 times its maximum.

    Args:
        index: Index of Noll.

    Returns:
        The bound.
    """
    n, m = _noll(index)
    return n**2 * math.sqrt((1 if m == 0 else 2) * (n + 1))


def _turned(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)
