r"""Convolution with a kernel, :math:`y = k * x`, for five ways to treat the border.

The image is padded by the rule of the boundary, convolved circularly by FFT, and cropped: one path for every boundary and any
kernel size. The adjoint is the transpose of each of the three steps. "circular" and a symmetric world apart, real photographs
know what lies beyond the frame: "valid" keeps just the pixels whose whole neighbourhood is in x, so x is larger than y.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from kornia.filters import get_gaussian_kernel2d, get_motion_kernel2d
from torch import Tensor

from problems.linalg import bcast
from problems.operator import LinearOperator

__all__ = ["Blur", "Boundary", "GaussianBlur", "MotionBlur"]

Boundary = Literal["circular", "reflect", "replicate", "zero", "valid"]
_CLOSED_FORM = frozenset({"linear", "adjoint", "solve", "closed_form"})


class Blur(LinearOperator):
    """y[i] = sum_j k[j] x[i + c - j], c the middle of the kernel: a true convolution, per channel.

    kernel: (h, w), used as it is (normalise it to sum 1 to keep the brightness). boundary: what x is taken to be outside the frame.
    The solve is exact by FFT for "circular", by conjugate gradients otherwise.
    """

    def __init__(self, kernel: Tensor, boundary: Boundary = "circular") -> None:
        if kernel.ndim != 2 or not kernel.numel():
            raise ValueError(f"a kernel must have shape (h, w), got {tuple(kernel.shape)}")
        if not torch.isfinite(kernel).all() or not kernel.abs().sum() > 0:
            raise ValueError("a kernel must be finite and not all zero")
        if boundary not in get_args(Boundary):
            raise ValueError(f"unknown boundary {boundary!r}; known: {', '.join(get_args(Boundary))}")
        self.kernel, self.boundary = kernel.detach().double().clone(), boundary
        height, width = kernel.shape
        # rows/columns of x that the kernel reaches before and after each pixel of y
        self._margin = (width - 1 - (width - 1) // 2, (width - 1) // 2, height - 1 - (height - 1) // 2, (height - 1) // 2)

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        return _CLOSED_FORM if self.boundary == "circular" else LinearOperator.capabilities

    def _check(self, height: int, width: int) -> None:
        kh, kw = self.kernel.shape
        if kh > height or kw > width:
            raise ValueError(f"the kernel of {kw}x{kh} is too large for an image of {width}x{height} with boundary {self.boundary!r}")

    def _otf(self, height: int, width: int, like: Tensor) -> Tensor:
        """Transfer function of the circular convolution on a (height, width) grid, its centre at the kernel's middle."""
        kh, kw = self.kernel.shape
        padded = F.pad(self.kernel.to(like), (0, width - kw, 0, height - kh))
        return torch.fft.rfft2(torch.roll(padded, (-((kh - 1) // 2), -((kw - 1) // 2)), (0, 1)))

    def _filter(self, x: Tensor, transpose: bool) -> Tensor:
        otf = self._otf(x.shape[-2], x.shape[-1], x)
        return torch.fft.irfft2(torch.fft.rfft2(x) * (otf.conj() if transpose else otf), s=x.shape[-2:])

    def _pad(self, x: Tensor) -> Tensor:
        if self.boundary in ("circular", "valid"):
            return x
        if self.boundary == "zero":
            return F.pad(x, self._margin)
        return F.pad(x, self._margin, mode=self.boundary)

    def _pad_transpose(self, z: Tensor, shape: tuple[int, ...]) -> Tensor:
        left, right, top, bottom = self._margin
        if self.boundary in ("circular", "valid"):
            return z
        if self.boundary == "zero":
            return z[..., top : z.shape[-2] - bottom, left : z.shape[-1] - right]
        for axis, margin in ((-2, (top, bottom)), (-1, (left, right))):  # each padded entry is added to the one that it was copied from
            line = torch.arange(shape[axis], dtype=torch.float64, device=z.device)
            source = F.pad(line[None, None], margin, mode=self.boundary)[0, 0].long()
            folded = (*z.shape[:axis], shape[axis], *z.shape[axis:][1:])
            z = z.new_zeros(folded).index_add(axis, source, z)
        return z

    def apply(self, x: Tensor) -> Tensor:
        self._check(*x.shape[-2:])
        if self.boundary == "circular":
            return self._filter(x, transpose=False)
        left, right, top, bottom = self._margin
        z = self._filter(self._pad(x), transpose=False)
        return z[..., top : z.shape[-2] - bottom, left : z.shape[-1] - right]

    def adjoint(self, y: Tensor) -> Tensor:
        self._check(*self.input_shape(tuple(y.shape[-2:])))
        if self.boundary == "circular":
            return self._filter(y, transpose=True)
        shape = (*y.shape[:-3], *self.input_shape(tuple(y.shape[-3:])))
        return self._pad_transpose(self._filter(F.pad(y, self._margin), transpose=True), shape)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._resize(shape, -1)

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._resize(shape, 1)

    def _resize(self, shape: tuple[int, ...], sign: int) -> tuple[int, ...]:
        if self.boundary != "valid":
            return shape
        return (*shape[:-2], shape[-2] + sign * (self.kernel.shape[0] - 1), shape[-1] + sign * (self.kernel.shape[1] - 1))

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        self._check(*self.input_shape(tuple(v.shape[-2:])))
        if self.boundary == "circular":
            return self._precondition(v, c0, c1)
        return super().solve(v, c0, c1)

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """The solve as if the boundary were circular: exact away from the border."""
        height, width = r.shape[-2:]
        if self.kernel.shape[0] > height or self.kernel.shape[1] > width:  # a "valid" measurement may be smaller than the kernel
            return r
        power = self._otf(height, width, r).abs().square()
        return torch.fft.irfft2(torch.fft.rfft2(r) / (bcast(c0, r) + bcast(c1, r) * power), s=(height, width))


class GaussianBlur(Blur):
    """Gaussian kernel of the given standard deviation in pixels, cut at ``truncate`` deviations."""

    def __init__(self, std: float, boundary: Boundary = "circular", truncate: float = 4.0) -> None:
        if not (math.isfinite(std) and std > 0):
            raise ValueError(f"the standard deviation of a blur must be positive, got {std}")
        if not truncate > 0:
            raise ValueError(f"truncate must be positive, got {truncate}")
        size = 2 * math.ceil(truncate * std) + 1
        super().__init__(get_gaussian_kernel2d((size, size), (std, std), dtype=torch.float64)[0], boundary)
        self.std = std


class MotionBlur(Blur):
    """A straight stroke of ``length`` pixels (odd, at least 3) at ``angle`` degrees, anticlockwise from the horizontal."""

    def __init__(self, length: int, angle: float = 0.0, boundary: Boundary = "circular") -> None:
        if length < 3 or length % 2 == 0:
            raise ValueError(f"the length of a motion blur must be odd and at least 3, got {length}")
        kernel = get_motion_kernel2d(
            length, torch.tensor([float(angle)], dtype=torch.float64), torch.zeros(1, dtype=torch.float64), mode="bilinear"
        )
        super().__init__(kernel[0] / kernel[0].sum(), boundary)
        self.length, self.angle = length, angle
