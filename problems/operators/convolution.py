r"""Convolution with a kernel, :math:`y = k * x`, with five ways to treat the border.

Samples have one, two or three axes after the channels: signals, images and volumes. They are
padded by the rule of the boundary, convolved circularly by FFT, and cropped. This one path serves
every boundary and kernel size. The adjoint is the transpose of each of the three steps.

Every boundary but "valid" makes an assumption about the pixels outside the frame. A real photograph
does not satisfy it: its border pixels depend on what really lies beyond the frame. "valid" keeps
only the pixels whose whole neighbourhood is in x, so that x is larger than y.

The SVD of a circular convolution is its polar decomposition. With the transfer function
:math:`\hat k = |\hat k| e^{i\varphi}` and the Hartley transform H,
:math:`A = (Q H)\,\mathrm{diag}|\hat k|\,H`, where Q is the all-pass filter :math:`e^{i\varphi}`.
All three factors are real.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from problems.checks import check_choice, check_number
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import complex_dtype
from problems.linalg.svd import SVD
from problems.linalg.transforms import dct, hartley, idct
from problems.operators.base import LinearOperator, Shape, check_sample

__all__ = [
    "BOUNDARIES",
    "CLOSED_FORM",
    "Boundary",
    "Convolution",
    "across",
    "check_side",
    "clean_kernel",
    "example_kernel",
    "extended",
    "fits",
]

Boundary = Literal["circular", "reflect", "replicate", "zero", "valid"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
CLOSED_FORM = frozenset({"svd", "closed_form"})


class Convolution(LinearOperator):
    """Base class of convolutions, y[i] = sum_j k[j] x[i + c - j] with c the middle of the kernel.

    It is a true convolution (the kernel is mirrored), applied to each channel. The solve is exact
    by FFT for the boundary "circular". For the others it takes conjugate gradients, unless the
    kernel is separable.

    Attributes:
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.
    """

    boundary: Boundary

    @property
    @abstractmethod
    def taps(self) -> Tensor:
        """Kernel with a channel axis: (1, h, w), or (C, h, w) with one kernel per channel."""

    @property
    def axes(self) -> int:
        """Number of axes of x after the channels: 1 for signals, 2 for images, 3 for volumes."""
        return self.taps.ndim - 1

    def _check_boundary(self) -> None:
        check_choice("boundary", self.boundary, BOUNDARIES)

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities from the structure: "svd" and "closed_form" for "circular", else none."""
        return CLOSED_FORM if self.boundary == "circular" else frozenset()

    @cached_property
    def _reach(self) -> tuple[tuple[int, int], ...]:
        """Reach of the kernel on either side of an entry of y, for each axis: (before, after)."""
        return tuple((n - 1 - (n - 1) // 2, (n - 1) // 2) for n in self.taps.shape[1:])

    @property
    def _margin(self) -> list[int]:
        """The reach in the order of ``F.pad``, the last axis first."""
        return [side for pair in reversed(self._reach) for side in pair]

    def _check(self, shape: Shape) -> None:
        kernel, sides = self.taps.shape[1:], shape[1:]
        if any(k > n for k, n in zip(kernel, sides, strict=True)):
            what = {1: "a signal", 2: "an image", 3: "a volume"}[self.axes]
            raise ValueError(
                f"the kernel of {across(kernel)} is too large for {what} of {across(sides)} "
                f"with boundary {self.boundary!r}"
            )
        if len(self.taps) not in (1, shape[0]):
            raise ValueError(
                f"there are {len(self.taps)} kernels for {shape[0]} channels; "
                "give one kernel, or one per channel"
            )

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (C, H, W) for images.

        Returns:
            Shape of y without its batch, (C, H, W), or (C, H - h + 1, W - w + 1) for "valid".

        Raises:
            ValueError: If x has other axes, is smaller than the kernel, or has another number of
                channels than the kernels.
        """
        check_sample(shape, self.axes)
        self._check(shape)
        return self._resize(shape, -1)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (C, H, W), or (C, H - h + 1, W - w + 1) for
                "valid".

        Returns:
            Shape of x without its batch, (C, H, W).

        Raises:
            ValueError: If y is not an image, or x would be smaller than the kernel or have another
                number of channels than the kernels.
        """
        check_sample(shape, self.axes)
        shape = self._resize(shape, 1)
        self._check(shape)
        return shape

    def _resize(self, shape: Shape, sign: int) -> Shape:
        if self.boundary != "valid":
            return shape
        kernel = self.taps.shape[1:]
        return (shape[0], *(n + sign * (k - 1) for n, k in zip(shape[1:], kernel, strict=True)))

    def _rfft(self, x: Tensor, sides: Shape | None = None) -> Tensor:
        X: Tensor = torch.fft.rfftn(x, s=sides, dim=tuple(range(-self.axes, 0)))
        return X

    def _irfft(self, X: Tensor, sides: Shape) -> Tensor:
        x: Tensor = torch.fft.irfftn(X, s=sides, dim=tuple(range(-self.axes, 0)))
        return x

    def _spectrum(self, sides: Shape, like: Tensor) -> Tensor:
        """Return the transfer function of the circular convolution on a grid of these sides.

        The middle of the kernel is at the origin. The frequencies are those of ``rfftn``.
        """

        def make() -> Tensor:
            kernel = self.taps.shape[1:]
            padded = torch.zeros(len(self.taps), *sides, dtype=torch.float64, device=like.device)
            leading(padded, kernel).copy_(self.taps)
            middle = tuple(-((n - 1) // 2) for n in kernel)
            spectrum = self._rfft(torch.roll(padded, middle, tuple(range(-self.axes, 0))))
            return spectrum.to(complex_dtype(like))

        return self._constant(("spectrum", *sides), like, make)

    def _filter(self, x: Tensor, sides: Shape, transpose: bool) -> Tensor:
        """Convolve x circularly, after filling it up with zeros to these sides."""
        spectrum = self._spectrum(sides, x)
        X = self._rfft(x, sides)
        return self._irfft(X * (spectrum.conj() if transpose else spectrum), sides)

    def _grid(self, sides: Shape) -> Shape:
        """Return sides at least as long that are fast to transform.

        The appended entries stay out of the part that is kept.
        """
        return tuple(next_fast_len(n, True) for n in sides)

    def _pad(self, x: Tensor) -> Tensor:
        if self.boundary == "valid":
            return x
        return (
            F.pad(x, self._margin)
            if self.boundary == "zero"
            else F.pad(x, self._margin, mode=self.boundary)
        )

    def _cropped(self, z: Tensor) -> Tensor:
        """Take the reach of the kernel off every axis."""
        for axis, (before, after) in enumerate(self._reach, start=-self.axes):
            z = z.narrow(axis, before, z.shape[axis] - before - after)
        return z

    def _pad_transpose(self, z: Tensor, shape: Shape) -> Tensor:
        if self.boundary == "valid":
            return z
        if self.boundary == "zero":
            return self._cropped(z)
        for axis, (before, after) in enumerate(self._reach, start=-self.axes):
            size = shape[axis]
            source = extended(size, before, after, self.boundary, z.device)
            z, ends = (
                z.narrow(axis, before, size),
                (z.narrow(axis, 0, before), z.narrow(axis, before + size, after)),
            )
            for end, index in zip(ends, (source[:before], source[before + size :]), strict=True):
                if len(index):  # each padded entry is added to the entry it was copied from
                    z = z.index_add(axis, index, end)
        return z

    def _apply(self, x: Tensor) -> Tensor:
        if self.boundary == "circular":
            return self._filter(x, tuple(x.shape[2:]), transpose=False)
        padded = self._pad(x)
        sides = tuple(padded.shape[2:])
        z = self._filter(padded, self._grid(sides), transpose=False)
        return self._cropped(leading(z, sides))

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        if self.boundary == "circular":
            return self._filter(y, tuple(y.shape[2:]), transpose=True)
        y = F.pad(y, self._margin)
        sides = tuple(y.shape[2:])
        z = self._filter(y, self._grid(sides), transpose=True)
        return self._pad_transpose(leading(z, sides), shape)

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        sides, axes = tuple(shape[1:]), self.axes
        precise = torch.empty(0, dtype=torch.float64, device=like.device)
        spectrum = self._spectrum(sides, precise)
        size = spectrum.abs()
        # Smaller values are rounding errors, whose phase is arbitrary.
        size = torch.where(size > 1e-14 * size.max(), size, torch.zeros_like(size))
        phase = torch.where(size > 0, spectrum / torch.where(size > 0, size, 1), 1)
        phase = phase.to(complex_dtype(like))
        mirrored = size  # |k(-f)| = |k(f)|
        for axis in range(-axes, -1):
            mirrored = mirrored.flip(axis).roll(1, axis)
        mirrored = mirrored[..., 1 : (sides[-1] + 1) // 2].flip(-1)
        s = torch.cat([size, mirrored], -1).to(like).expand(shape)

        def allpass(x: Tensor, p: Tensor) -> Tensor:
            return self._irfft(self._rfft(x) * p, sides)

        return SVD(
            s,
            lambda w: hartley(w, axes),
            lambda x: hartley(x, axes),
            lambda w: allpass(hartley(w, axes), phase),
            lambda y: hartley(allpass(y, phase.conj()), axes),
            complete_v=True,
            complete_u=True,
        )

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        if self.boundary == "circular":
            return self._inverse_filter(v, c0, c1)
        return super()._solve(v, c0, c1, shape)

    def _prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        if self.boundary != "circular":
            return super()._prox(z, y, noise_variance, prior_variance)
        sides = tuple(self.input_shape(tuple(y.shape[1:]))[1:])
        spectrum, power = self._spectrum(sides, z), self._power(sides, z)
        # Staying in the frequency domain takes three transforms instead of six.
        residual = self._rfft(y) - spectrum * self._rfft(z)
        gain = (
            expand_like(prior_variance, z)
            * spectrum.conj()
            / (expand_like(noise_variance, z) + expand_like(prior_variance, z) * power)
        )
        return z + self._irfft(gain * residual, sides)

    def _inverse_filter(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute the solve with a circular boundary."""
        sides = tuple(r.shape[2:])
        power = self._power(sides, r)
        return self._irfft(self._rfft(r) / (expand_like(c0, r) + expand_like(c1, r) * power), sides)

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        if self.boundary != "circular":
            return super()._gram(x, shape)
        sides = tuple(x.shape[2:])
        return self._irfft(self._rfft(x) * self._power(sides, x), sides)

    def _power(self, sides: Shape, like: Tensor) -> Tensor:
        """Return |transfer function|^2 at the frequencies of ``rfftn``."""
        return self._constant(
            ("power", *sides), like, lambda: self._spectrum(sides, like).abs().square()
        )

    @cached_property
    def _even(self) -> bool:
        """True if each kernel equals its mirror image along every axis."""
        return all(
            torch.allclose(self.taps, self.taps.flip(axis), rtol=1e-6, atol=1e-12)
            for axis in range(-self.axes, 0)
        )

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute the solve with another boundary, which is exact away from the border.

        For an even kernel on a reflected or replicated image that boundary is the mirrored one,
        which the cosine transform diagonalises. Otherwise it is zero outside, as if y were known on
        a larger frame.
        """
        sides, axes = tuple(r.shape[2:]), self.axes
        if self._even and self.boundary in ("reflect", "replicate"):
            power = leading(self._power(tuple(2 * n for n in sides), r), sides)
            return idct(dct(r, axes) / (expand_like(c0, r) + expand_like(c1, r) * power), axes)
        kernel = self.taps.shape[1:]
        grid = self._grid(tuple(n + k - 1 for n, k in zip(sides, kernel, strict=True)))
        if any(n < k for n, k in zip(grid, kernel, strict=True)):
            return r
        margin = [(0, g - n) for g, n in zip(grid, sides, strict=True)]
        padded = F.pad(r, [side for pair in reversed(margin) for side in pair])
        return leading(self._inverse_filter(padded, c0, c1), sides)


def across(sides: Shape) -> str:
    """Write sides as they are read in messages, width first.

    Args:
        sides: Lengths of the axes of a sample.

    Returns:
        Text such as "640x480" for (480, 640).
    """
    return "x".join(str(n) for n in reversed(sides))


def leading(x: Tensor, sides: Shape) -> Tensor:
    """Take the first entries along the last axes.

    Args:
        x: Tensor (..., n_1, ..., n_d).
        sides: The d numbers of entries that are kept.

    Returns:
        View of x, with no more entries than it has.
    """
    for axis, n in enumerate(sides, start=-len(sides)):
        x = x.narrow(axis, 0, min(n, x.shape[axis]))
    return x


def extended(
    size: int, before: int, after: int, boundary: Boundary, device: torch.device | None = None
) -> Tensor:
    """Compute the source index of each entry of a padded axis.

    Args:
        size: Length of the axis before padding.
        before: Number of entries that are added in front.
        after: Number of entries that are added at the end.
        boundary: Rule of the padding: "replicate", "reflect" or "circular".
        device: Device of the result; None for the default.

    Returns:
        Indices on [0, size), shape (before + size + after,), int64.
    """
    index = torch.arange(-before, size + after, device=device)
    if boundary == "replicate":
        return index.clamp(0, size - 1)
    period = max(2 * size - 2, 1)
    index = index % period
    return torch.where(index < size, index, period - index)


_LARGEST_SIDE = 4096


def check_side(side: float, what: str) -> None:
    """Check the side of a kernel, before the kernel is made.

    Args:
        side: Side in pixels.
        what: What the kernel is, as the message says it.

    Raises:
        ValueError: If the side is above 4096 pixels.
    """
    if not side <= _LARGEST_SIDE:
        raise ValueError(
            f"{what} has a kernel of {side:.4g} pixels a side, at most {_LARGEST_SIDE} are possible"
        )


def clean_kernel(kernel: Tensor, dimensions: int | None = None) -> tuple[Tensor, int]:
    """Check and copy a kernel.

    Args:
        kernel: Kernel (l,), (h, w) or (d, h, w), or one kernel per channel with an axis more.
        dimensions: Number of axes of each kernel, 1 to 3; None for 1 if the kernel is (l,), else 2.

    Returns:
        Detached copy, float64 for an integer kernel, and the number of axes.

    Raises:
        ValueError: If the kernel has the wrong shape, is complex, not finite or all zero.
    """
    if not isinstance(kernel, Tensor):
        raise ValueError(
            f"a kernel must be a tensor, got {type(kernel).__name__}; convert it with "
            "torch.as_tensor"
        )
    axes = (1 if kernel.ndim == 1 else 2) if dimensions is None else dimensions
    axes = int(check_number(axes, "dimensions of a kernel", least=1, most=3, whole=True))
    if kernel.ndim not in (axes, axes + 1) or not kernel.numel():
        sides = {1: "l", 2: "h, w", 3: "d, h, w"}[axes]
        raise ValueError(
            f"a kernel with dimensions={axes} must have shape ({sides}{',' * (axes == 1)}), or "
            f"(C, {sides}) with one kernel per channel, got {tuple(kernel.shape)}"
        )
    if kernel.is_complex() or not torch.isfinite(kernel).all() or not kernel.abs().sum() > 0:
        raise ValueError("a kernel must be real, finite and not all zero")
    kernel = kernel.detach().clone()
    return kernel if kernel.is_floating_point() else kernel.double(), axes


def example_kernel(height: int, width: int, channels: int = 1) -> Tensor:
    """Build a kernel for examples: asymmetric, with both signs, and no dominant value.

    Args:
        height: Height h of the kernel in pixels.
        width: Width w of the kernel in pixels.
        channels: Number C of kernels.

    Returns:
        Kernel (h, w), or (C, h, w) for more than one channel, float64. The same for the same size.
    """
    generator = torch.Generator().manual_seed(height * 10 + width)
    kernel: Tensor = (
        torch.randn(channels, height, width, generator=generator, dtype=torch.float64)
        / (height * width) ** 0.5
    )
    return kernel if channels > 1 else kernel[0]


def fits(shape: Shape, height: int, width: int) -> bool:
    """Return True if a kernel fits in an image.

    Args:
        shape: Shape of the image, (C, H, W).
        height: Height of the kernel in pixels.
        width: Width of the kernel in pixels.

    Returns:
        True if neither side of the kernel is longer than that of the image.
    """
    return height <= shape[-2] and width <= shape[-1]
