r"""Convolution with a kernel, :math:`y = k * x`, for five ways to treat the border.

The image is padded by the rule of the boundary, convolved circularly by FFT, and cropped: one path for every boundary and any
kernel size. The adjoint is the transpose of each of the three steps. "circular" and a symmetric world apart, real photographs
know what lies beyond the frame: "valid" keeps just the pixels whose whole neighbourhood is in x, so x is larger than y.

A circular convolution is its polar decomposition: with the transfer function :math:`\hat k = |\hat k| e^{i\varphi}` and the Hartley
transform H, :math:`A = (Q H)\,\mathrm{diag}|\hat k|\,H`, Q the all-pass filter :math:`e^{i\varphi}`: that is its real SVD.
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
    "clean_kernel",
    "example_kernel",
    "extended",
    "fits",
]

Boundary = Literal["circular", "reflect", "replicate", "zero", "valid"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)
CLOSED_FORM = frozenset({"svd", "closed_form"})


class Convolution(LinearOperator):
    """y[i] = sum_j k[j] x[i + c - j], c the middle of the kernel: a true convolution, per channel.

    boundary: what x is taken to be outside the frame. The solve is exact by FFT for "circular", otherwise by conjugate gradients unless
    the kernel is separable.
    """

    boundary: Boundary

    @property
    @abstractmethod
    def taps(self) -> Tensor:
        """The kernel, (1, h, w), or (C, h, w): one for each channel."""

    def _check_boundary(self) -> None:
        check_choice("boundary", self.boundary, BOUNDARIES)

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        return CLOSED_FORM if self.boundary == "circular" else frozenset()

    @cached_property
    def _margin(self) -> tuple[int, int, int, int]:
        """Rows and columns of x that the kernel reaches beyond each pixel of y: left, right, top, bottom."""
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
                f"the kernel of {kw}x{kh} is too large for an image of {width}x{height} with boundary {self.boundary!r}"
            )
        if len(self.taps) not in (1, shape[0]):
            raise ValueError(
                f"there are {len(self.taps)} kernels for {shape[0]} channels; give one, or one for each channel"
            )

    def output_shape(self, shape: Shape) -> Shape:
        check_image(shape)
        self._check(shape)
        return self._resize(shape, -1)

    def input_shape(self, shape: Shape) -> Shape:
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
        """Transfer function of the circular convolution on a (height, width) grid, its centre at the kernel's middle."""

        def make() -> Tensor:
            kh, kw = self.taps.shape[-2:]
            padded = F.pad(
                self.taps.to(like.device, torch.float64), (0, width - kw, 0, height - kh)
            )
            spectrum = torch.fft.rfft2(
                torch.roll(padded, (-((kh - 1) // 2), -((kw - 1) // 2)), (-2, -1))
            )
            return spectrum.to(complex_dtype(like))

        return self._constant(("spectrum", height, width), like, make)

    def _filter(self, x: Tensor, height: int, width: int, transpose: bool) -> Tensor:
        """Circular convolution of x, filled up with zeros to (height, width)."""
        spectrum = self._spectrum(height, width, x)
        X = torch.fft.rfft2(x, s=(height, width))
        return torch.fft.irfft2(X * (spectrum.conj() if transpose else spectrum), s=(height, width))

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        """A size that is quick to transform; what is appended stays out of the part that is kept."""
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
                if len(index):  # each padded entry is added to the one that it was copied from
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
        size = torch.where(
            size > 1e-14 * size.max(), size, torch.zeros_like(size)
        )  # below lies rounding, of no certain phase
        phase = torch.where(size > 0, spectrum / torch.where(size > 0, size, 1), 1)
        phase = phase.to(complex_dtype(like))
        mirrored = size.flip(-2).roll(1, -2)[..., 1 : (width + 1) // 2].flip(-1)  # |k(-f)| = |k(f)|
        s = torch.cat([size, mirrored], -1).to(like).expand(shape)

        def allpass(x: Tensor, p: Tensor) -> Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(x) * p, s=(height, width))

        return SVD(
            s, hartley2, hartley2, lambda w: allpass(hartley2(w), phase), lambda y: hartley2(allpass(y, phase.conj())),
            complete_v=True, complete_u=True,
        )  # fmt: skip

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        if self.boundary == "circular":
            return self._inverse_filter(v, c0, c1)
        return super()._solve(v, c0, c1, shape)

    def prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        if self.boundary != "circular":
            return super().prox(z, y, noise_variance, prior_variance)
        height, width = self.input_shape(tuple(y.shape[1:]))[-2:]
        spectrum, power = self._spectrum(height, width, z), self._power(height, width, z)
        residual = torch.fft.rfft2(y) - spectrum * torch.fft.rfft2(
            z
        )  # three transforms in the place of six
        gain = (
            expand_like(prior_variance, z)
            * spectrum.conj()
            / (expand_like(noise_variance, z) + expand_like(prior_variance, z) * power)
        )
        return z + torch.fft.irfft2(gain * residual, s=(height, width))

    def _inverse_filter(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """The solve with a circular boundary."""
        power = self._power(r.shape[-2], r.shape[-1], r)
        return torch.fft.irfft2(
            torch.fft.rfft2(r) / (expand_like(c0, r) + expand_like(c1, r) * power), s=r.shape[-2:]
        )

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        if self.boundary != "circular":
            return super()._gram(x, shape)
        return torch.fft.irfft2(
            torch.fft.rfft2(x) * self._power(x.shape[-2], x.shape[-1], x), s=x.shape[-2:]
        )

    def _power(self, height: int, width: int, like: Tensor) -> Tensor:
        """|transfer function|^2, as ``rfft2`` orders it."""
        return self._constant(
            ("power", height, width),
            like,
            lambda: self._spectrum(height, width, like).abs().square(),
        )

    @cached_property
    def _even(self) -> bool:
        """Whether each kernel is its own mirror image along both axes."""
        return all(
            torch.allclose(self.taps, self.taps.flip(axis), rtol=1e-6, atol=1e-12)
            for axis in (-2, -1)
        )

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """The solve with another boundary, exact away from the border: mirrored, which the cosine transform makes diagonal, for an even
        kernel on a continued image; else zero outside, as if more were known there."""
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
    """For each place of an axis padded by the boundary's rule, the index that it is copied from."""
    index = torch.arange(-before, size + after, device=device)
    if boundary == "replicate":
        return index.clamp(0, size - 1)
    period = max(2 * size - 2, 1)
    index = index % period
    return torch.where(index < size, index, period - index)


def clean_kernel(kernel: Tensor) -> Tensor:
    if kernel.ndim not in (2, 3) or not kernel.numel():
        raise ValueError(
            f"a kernel must have shape (h, w), or (C, h, w) with one for each channel, got {tuple(kernel.shape)}"
        )
    if kernel.is_complex() or not torch.isfinite(kernel).all() or not kernel.abs().sum() > 0:
        raise ValueError("a kernel must be real, finite and not all zero")
    kernel = kernel.detach().clone()
    return kernel if kernel.is_floating_point() else kernel.double()


def example_kernel(height: int, width: int, channels: int = 1) -> Tensor:
    """For examples: asymmetric, of both signs, with no value that stands out."""
    generator = torch.Generator().manual_seed(height * 10 + width)
    kernel = (
        torch.randn(channels, height, width, generator=generator, dtype=torch.float64)
        / (height * width) ** 0.5
    )
    return kernel if channels > 1 else kernel[0]


def fits(shape: Shape, height: int, width: int) -> bool:
    return height <= shape[-2] and width <= shape[-1]
