r"""Convolution with a kernel, :math:`y = k * x`, with five ways to treat the border.

The image is padded by the rule of the boundary, convolved circularly by FFT, and cropped. This one
path serves every boundary and kernel size. The adjoint is the transpose of each of the three steps.

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

from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import complex_dtype
from problems.linalg.svd import SVD
from problems.linalg.transforms import dct2, hartley2, idct2
from problems.operators.base import LinearOperator, Shape, check_image

__all__ = [
    "BOUNDARIES",
    "CLOSED_FORM",
    "Boundary",
    "Convolution",
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

    def _check_boundary(self) -> None:
        check_choice("boundary", self.boundary, BOUNDARIES)

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities from the structure: "svd" and "closed_form" for "circular", else none."""
        return CLOSED_FORM if self.boundary == "circular" else frozenset()

    @cached_property
    def _margin(self) -> tuple[int, int, int, int]:
        """Reach of the kernel around each pixel of y: (left, right, top, bottom).

        In columns and rows of x.
        """
        height, width = self.taps.shape[-2:]
        return (
            width - 1 - (width - 1) // 2,
            (width - 1) // 2,
            height - 1 - (height - 1) // 2,
            (height - 1) // 2,
        )

    def _check(self, shape: Shape) -> None:
        (kh, kw), (height, width) = self.taps.shape[-2:], shape[-2:]
        if kh > height or kw > width:
            raise ValueError(
                f"the kernel of {kw}x{kh} is too large for an image of {width}x{height} "
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
            shape: Shape of x without its batch, (C, H, W).

        Returns:
            Shape of y without its batch, (C, H, W), or (C, H - h + 1, W - w + 1) for "valid".

        Raises:
            ValueError: If x is not an image, is smaller than the kernel, or has another number of
                channels than the kernels.
        """
        check_image(shape)
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
        check_image(shape)
        shape = self._resize(shape, 1)
        self._check(shape)
        return shape

    def _resize(self, shape: Shape, sign: int) -> Shape:
        if self.boundary != "valid":
            return shape
        return (
            *shape[:-2],
            shape[-2] + sign * (self.taps.shape[-2] - 1),
            shape[-1] + sign * (self.taps.shape[-1] - 1),
        )

    def _spectrum(self, height: int, width: int, like: Tensor) -> Tensor:
        """Return the transfer function of the circular convolution on a (height, width) grid.

        The middle of the kernel is at the origin. The frequencies are those of ``rfft2``.
        """

        def make() -> Tensor:
            kh, kw = self.taps.shape[-2:]
            padded = F.pad(
                self.taps.to(like.device, torch.float64), (0, width - kw, 0, height - kh)
            )
            spectrum: Tensor = torch.fft.rfft2(
                torch.roll(padded, (-((kh - 1) // 2), -((kw - 1) // 2)), (-2, -1))
            )
            return spectrum.to(complex_dtype(like))

        return self._constant(("spectrum", height, width), like, make)

    def _filter(self, x: Tensor, height: int, width: int, transpose: bool) -> Tensor:
        """Convolve x circularly, after filling it up with zeros to (height, width)."""
        spectrum = self._spectrum(height, width, x)
        X = torch.fft.rfft2(x, s=(height, width))
        Y = X * (spectrum.conj() if transpose else spectrum)
        y: Tensor = torch.fft.irfft2(Y, s=(height, width))
        return y

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """Return a size at least as large that is fast to transform.

        The appended entries stay out of the part that is kept.
        """
        return next_fast_len(height, True), next_fast_len(width, True)

    def _pad(self, x: Tensor) -> Tensor:
        if self.boundary == "valid":
            return x
        return (
            F.pad(x, self._margin)
            if self.boundary == "zero"
            else F.pad(x, self._margin, mode=self.boundary)
        )

    def _pad_transpose(self, z: Tensor, shape: Shape) -> Tensor:
        if self.boundary == "valid":
            return z
        left, right, top, bottom = self._margin
        if self.boundary == "zero":
            return z[..., top : z.shape[-2] - bottom, left : z.shape[-1] - right]
        for axis, (before, after) in ((-2, (top, bottom)), (-1, (left, right))):
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
            return self._filter(x, x.shape[-2], x.shape[-1], transpose=False)
        left, right, top, bottom = self._margin
        padded = self._pad(x)
        height, width = padded.shape[-2:]
        z = self._filter(padded, *self._grid(height, width), False)
        return z[..., top : height - bottom, left : width - right]

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        if self.boundary == "circular":
            return self._filter(y, y.shape[-2], y.shape[-1], transpose=True)
        y = F.pad(y, self._margin)
        z = self._filter(y, *self._grid(y.shape[-2], y.shape[-1]), True)[
            ..., : y.shape[-2], : y.shape[-1]
        ]
        return self._pad_transpose(z, shape)

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        height, width = shape[-2:]
        precise = torch.empty(0, dtype=torch.float64, device=like.device)
        spectrum = self._spectrum(height, width, precise)
        size = spectrum.abs()
        # Smaller values are rounding errors, whose phase is arbitrary.
        size = torch.where(size > 1e-14 * size.max(), size, torch.zeros_like(size))
        phase = torch.where(size > 0, spectrum / torch.where(size > 0, size, 1), 1)
        phase = phase.to(complex_dtype(like))
        mirrored = size.flip(-2).roll(1, -2)[..., 1 : (width + 1) // 2].flip(-1)  # |k(-f)| = |k(f)|
        s = torch.cat([size, mirrored], -1).to(like).expand(shape)

        def allpass(x: Tensor, p: Tensor) -> Tensor:
            y: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * p, s=(height, width))
            return y

        return SVD(
            s,
            hartley2,
            hartley2,
            lambda w: allpass(hartley2(w), phase),
            lambda y: hartley2(allpass(y, phase.conj())),
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
        height, width = self.input_shape(tuple(y.shape[1:]))[-2:]
        spectrum, power = self._spectrum(height, width, z), self._power(height, width, z)
        # Staying in the frequency domain takes three transforms instead of six.
        residual = torch.fft.rfft2(y) - spectrum * torch.fft.rfft2(z)
        gain = (
            expand_like(prior_variance, z)
            * spectrum.conj()
            / (expand_like(noise_variance, z) + expand_like(prior_variance, z) * power)
        )
        change: Tensor = torch.fft.irfft2(gain * residual, s=(height, width))
        return z + change

    def _inverse_filter(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute the solve with a circular boundary."""
        power = self._power(r.shape[-2], r.shape[-1], r)
        solution: Tensor = torch.fft.irfft2(
            torch.fft.rfft2(r) / (expand_like(c0, r) + expand_like(c1, r) * power), s=r.shape[-2:]
        )
        return solution

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        if self.boundary != "circular":
            return super()._gram(x, shape)
        product: Tensor = torch.fft.irfft2(
            torch.fft.rfft2(x) * self._power(x.shape[-2], x.shape[-1], x), s=x.shape[-2:]
        )
        return product

    def _power(self, height: int, width: int, like: Tensor) -> Tensor:
        """Return |transfer function|^2 at the frequencies of ``rfft2``."""
        return self._constant(
            ("power", height, width),
            like,
            lambda: self._spectrum(height, width, like).abs().square(),
        )

    @cached_property
    def _even(self) -> bool:
        """True if each kernel equals its mirror image along both axes."""
        return all(
            torch.allclose(self.taps, self.taps.flip(axis), rtol=1e-6, atol=1e-12)
            for axis in (-2, -1)
        )

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute the solve with another boundary, which is exact away from the border.

        For an even kernel on a reflected or replicated image that boundary is the mirrored one,
        which the cosine transform diagonalises. Otherwise it is zero outside, as if y were known on
        a larger frame.
        """
        height, width = r.shape[-2:]
        if self._even and self.boundary in ("reflect", "replicate"):
            power = self._power(2 * height, 2 * width, r)[..., :height, :width]
            return idct2(dct2(r) / (expand_like(c0, r) + expand_like(c1, r) * power))
        kh, kw = self.taps.shape[-2:]
        size = self._grid(height + kh - 1, width + kw - 1)
        if size[0] < kh or size[1] < kw:
            return r
        padded = F.pad(r, (0, size[1] - width, 0, size[0] - height))
        return self._inverse_filter(padded, c0, c1)[..., :height, :width]


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


def clean_kernel(kernel: Tensor) -> Tensor:
    """Check and copy a kernel.

    Args:
        kernel: Kernel (h, w) or (C, h, w).

    Returns:
        Detached copy; integer kernels become float64.

    Raises:
        ValueError: If the kernel has the wrong shape, is complex, not finite or all zero.
    """
    if not isinstance(kernel, Tensor):
        raise ValueError(
            f"a kernel must be a tensor, got {type(kernel).__name__}; convert it with "
            "torch.as_tensor"
        )
    if kernel.ndim not in (2, 3) or not kernel.numel():
        raise ValueError(
            "a kernel must have shape (h, w), or (C, h, w) with one kernel per channel, "
            f"got {tuple(kernel.shape)}"
        )
    if kernel.is_complex() or not torch.isfinite(kernel).all() or not kernel.abs().sum() > 0:
        raise ValueError("a kernel must be real, finite and not all zero")
    kernel = kernel.detach().clone()
    return kernel if kernel.is_floating_point() else kernel.double()


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
