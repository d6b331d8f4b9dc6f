r"""Down-sampling with a given filter: convolve, then keep every k-th pixel.

With a circular boundary, keeping every k-th pixel of each of d axes folds the :math:`k^d` aliases
of each frequency onto one. :math:`A A^T` is therefore a circular convolution too, with the
transfer function :math:`s^2 = \frac{1}{k^d}\sum_{\text{aliases}} |\hat h|^2` (Zhang, Van Gool and
Timofte 2020, eq. 14). In the SVD, U is the coarse Hartley transform, and V is that of the same
decimation with the kernel :math:`\hat h / s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from problems.checks import check_number
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import complex_dtype
from problems.linalg.svd import SVD
from problems.linalg.transforms import hartley
from problems.operators.base import LinearOperator, Operator, Shape, check_sample
from problems.operators.blur import Blur
from problems.operators.convolution import (
    BOUNDARIES,
    Boundary,
    across,
    clean_kernel,
    example_kernel,
)

__all__ = ["Decimation"]

_LARGEST_FACTOR = 4096


@dataclass(frozen=True, eq=False, repr=False)
class Decimation(LinearOperator):
    """Convolution followed by sampling, y = (kernel * x)[::factor, ::factor].

    Args:
        kernel: Shape (l,), (h, w) or (d, h, w), or one kernel per channel, used as it is, as in
            ``Blur``.
        factor: Whole number of at least 2 that divides all sides of x.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero". The
            solve is exact for "circular", and takes preconditioned conjugate gradients for the
            others.
        dimensions: Number of axes of x after the channels, as in ``Blur``.

    Raises:
        ValueError: If the kernel is not valid, the factor is not a whole number of at least 2, or
            the boundary is unknown or "valid".

    Example:
        >>> import torch
        >>> from problems import Decimation
        >>> operator = Decimation(torch.ones(3, 3) / 9, factor=2)
        >>> y = operator.apply(torch.ones(1, 3, 8, 8))
        >>> y.shape
        torch.Size([1, 3, 4, 4])
        >>> torch.allclose(y, torch.ones(1, 3, 4, 4))
        True
    """

    kernel: Tensor
    factor: int
    boundary: Boundary = "circular"
    dimensions: int | None = None

    def __post_init__(self) -> None:
        try:
            check_number(self.factor, "the factor", least=2, most=_LARGEST_FACTOR, whole=True)
        except ValueError as error:
            raise ValueError(f"{error}; SuperResolution takes fractions") from None
        if self.boundary == "valid" or self.boundary not in BOUNDARIES:
            raise ValueError(
                f"unknown boundary {self.boundary!r:.80} of a decimation; "
                f"known: {', '.join(BOUNDARIES[:-1])}"
            )
        kernel, axes = clean_kernel(self.kernel, self.dimensions)
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "dimensions", axes)
        object.__setattr__(self, "factor", int(self.factor))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        factors = [
            k for k in (2, 4) if shape[-2] % k == 0 and shape[-1] % k == 0 and min(shape[-2:]) >= 3
        ]
        return {
            f"decimate-x{k}-{b}": cls(example_kernel(3, 3), k, b)
            for k in factors
            for b in BOUNDARIES[:-1]
        }

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities from the structure: "svd" and "closed_form" for "circular", else none."""
        return self._blur.structure

    @cached_property
    def _blur(self) -> Blur:
        return Blur(self.kernel, self.boundary, self.dimensions)

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (C, H, W).

        Returns:
            Shape of y without its batch, (C, H / factor, W / factor).

        Raises:
            ValueError: If x is not an image, the factor does not divide both sides, or the kernel
                does not fit.
        """
        check_sample(shape, self._blur.axes)
        if any(n % self.factor for n in shape[1:]):
            what = {1: "a signal", 2: "an image", 3: "a volume"}[self._blur.axes]
            raise ValueError(
                f"the factor {self.factor} does not divide {what} of {across(shape[1:])}; "
                "crop it first"
            )
        self._blur.output_shape(shape)
        return (shape[0], *(n // self.factor for n in shape[1:]))

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (C, h, w).

        Returns:
            Shape of x without its batch, (C, h factor, w factor).

        Raises:
            ValueError: If y is not an image or the kernel does not fit in x.
        """
        check_sample(shape, self._blur.axes)
        return self._blur.input_shape((shape[0], *(n * self.factor for n in shape[1:])))

    def _apply(self, x: Tensor) -> Tensor:
        return self._sampled(self._blur._apply(x))

    def _sampled(self, x: Tensor) -> Tensor:
        """Keep every k-th pixel."""
        for axis in range(-self._blur.axes, 0):
            x = x.unflatten(axis, (-1, self.factor)).select(axis, 0)
        return x

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return self._blur._adjoint(self._spread(y), shape)

    def _spread(self, y: Tensor) -> Tensor:
        """Insert zeros between the pixels."""
        sides = [n * self.factor for n in y.shape[2:]]
        x = y.new_zeros(*y.shape[:2], *sides)
        self._sampled(x).copy_(y)
        return x

    def _power(self, sides: Shape, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return s^2 and the transfer function of the blur divided by s.

        s^2 is on the coarse grid of these sides, with shape (1 or C, ...). The ratio is on the fine
        grid.
        """
        k, d = self.factor, self._blur.axes
        fine = tuple(k * n for n in sides)
        precise = torch.empty(0, dtype=torch.float64, device=like.device)
        half = self._blur._spectrum(fine, precise)
        full = torch.fft.fftn(self._blur._irfft(half, fine), dim=tuple(range(-d, 0)))
        power = full.abs().square()
        for axis, n in enumerate(sides, start=-d):
            power = power.unflatten(axis, (k, n)).sum(axis - 1)
        power = power / k**d
        s = power.sqrt().repeat(1, *[k] * d)[..., : half.shape[-1]]
        floor = 1e-14 * s.max()
        ratio = torch.where(s > floor, half / torch.where(s > floor, s, 1), 0)
        return power.to(like), ratio.to(complex_dtype(like))

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        d, sides, blur = self._blur.axes, tuple(shape[1:]), self._blur
        power, ratio = self._power(tuple(n // self.factor for n in sides), like)

        def filtered(x: Tensor, transfer: Tensor) -> Tensor:
            return blur._irfft(blur._rfft(x) * transfer, sides)

        return SVD(
            power.sqrt().expand(self.output_shape(shape)),
            V=lambda w: filtered(self._spread(hartley(w, d)), ratio.conj()),
            Vt=lambda x: hartley(self._sampled(filtered(x, ratio)), d),
            U=lambda w: hartley(w, d),
            Ut=lambda y: hartley(y, d),
            complete_u=True,
        )

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute the solve as if the boundary were circular."""
        sides = tuple(r.shape[2:])
        power = self._constant(("power", *sides), r, lambda: self._power(sides, r)[0])
        power = power[..., : sides[-1] // 2 + 1]
        R = self._blur._rfft(r)
        return self._blur._irfft(R / (expand_like(c0, r) + expand_like(c1, r) * power), sides)

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        return (
            self._precondition(v, c0, c1)
            if self.boundary == "circular"
            else self._iterate(v, c0, c1, shape)
        )
