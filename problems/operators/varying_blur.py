r"""A blur that changes over the field: a few kernels, interpolated.

.. math:: y = \sum_i k_i * (w_i x), \qquad \sum_i w_i = 1 .

A point of light at p is spread by the kernel :math:`\sum_i w_i(p)\, k_i` (Nagy and O'Leary 1998;
Hirsch et al. 2010). Kernels that sum to 1 keep the light of every point, and equal kernels give an
ordinary blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from problems.checks import check_sizes, check_tensor
from problems.operators.base import LinearOperator, Operator, Shape, check_image
from problems.operators.blur import Blur
from problems.operators.convolution import Boundary, clean_kernel, example_kernel, fits

__all__ = ["VaryingBlur", "bilinear_weights"]

_SUM = 1e-6  # by how much weights may miss a sum of 1, as those of files in float32 do


@dataclass(frozen=True, eq=False, repr=False)
class VaryingBlur(LinearOperator):
    """Blur whose kernel is interpolated between K given ones.

    Args:
        kernels: Kernels (K, h, w). They are used as they are: make each sum to 1 to keep the
            brightness.
        weights: Weights (K, H, W), with the sides of the images, at least 0 and with sum 1 at every
            pixel; :func:`bilinear_weights` makes them for kernels on a grid.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.

    Raises:
        ValueError: If the kernels or weights have wrong shapes, are not finite, the kernels are all
            zero, the weights are negative or do not sum to 1, the kernels are larger than the
            image, or the boundary is unknown.

    Example:
        Sharp on the left, blurred on the right:

        >>> import torch
        >>> from problems import VaryingBlur, bilinear_weights
        >>> kernels = torch.zeros(2, 3, 3)
        >>> kernels[0, 1, 1] = 1
        >>> kernels[1] = 1 / 9
        >>> blur = VaryingBlur(kernels, bilinear_weights((1, 2), (4, 8)))
        >>> x = torch.zeros(1, 1, 4, 8)
        >>> x[..., 2, 1] = x[..., 2, 6] = 9  # two points of light
        >>> blur.apply(x)[0, 0, 2].round()
        tensor([0., 9., 0., 0., 0., 1., 1., 1.])
    """

    kernels: Tensor
    weights: Tensor
    boundary: Boundary = "circular"

    def __post_init__(self) -> None:
        if not isinstance(self.kernels, Tensor) or self.kernels.ndim != 3:
            found = getattr(self.kernels, "shape", type(self.kernels).__name__)
            raise ValueError(f"kernels (K, h, w) are needed, got {found!s:.80}")
        kernels, _ = clean_kernel(self.kernels, 2)
        weights = check_tensor(self.weights, "weights").detach().clone()
        weights = weights if weights.is_floating_point() else weights.double()
        if weights.ndim != 3 or len(weights) != len(kernels):
            raise ValueError(
                f"{len(kernels)} kernels need weights ({len(kernels)}, H, W), "
                f"got {tuple(weights.shape)}"
            )
        if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
            raise ValueError("the weights of the kernels must be finite and at least 0")
        error = float((weights.double().sum(0) - 1).abs().max())
        if error > _SUM:
            raise ValueError(
                f"the weights of the kernels must sum to 1 at every pixel, they miss it by "
                f"{error:.2g}; divide them by weights.sum(0)"
            )
        object.__setattr__(self, "kernels", kernels)
        object.__setattr__(self, "weights", weights)
        self._each.output_shape(tuple(weights.shape))  # kernels that fit, a known boundary

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        if not fits(shape, 3, 3):
            return {}
        kernels = torch.stack([example_kernel(3, 3, 4)[i].roll(i, 0) for i in range(4)])
        weights = bilinear_weights((2, 2), (shape[1], shape[2]))
        return {f"varying-{b}": cls(kernels, weights, b) for b in ("circular", "valid")}

    @cached_property
    def _each(self) -> Blur:
        """A blur of K channels, each by its own kernel."""
        return Blur(self.kernels, self.boundary)

    @property
    def _sides(self) -> Shape:
        """Sides of a measurement."""
        return self._each.output_shape(tuple(self.weights.shape))[1:]

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (C, H, W).

        Returns:
            Shape of y without its batch, (C, H, W), or (C, H - h + 1, W - w + 1) for "valid".

        Raises:
            ValueError: If the image has not the sides of the weights.
        """
        check_image(shape)
        if tuple(shape[1:]) != tuple(self.weights.shape[1:]):
            raise ValueError(
                f"this operator is made for images (C, H, W) with (H, W) = "
                f"{tuple(self.weights.shape[1:])}, got {tuple(shape)}"
            )
        return (shape[0], *self._sides)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch.

        Returns:
            Shape of x without its batch, (C, H, W).

        Raises:
            ValueError: If y is no measurement of an image with the sides of the weights.
        """
        check_image(shape)
        if tuple(shape[1:]) != self._sides:
            raise ValueError(
                f"this blur measures images of {self._sides} (height, width), got {tuple(shape)}"
            )
        return (shape[0], *self.weights.shape[1:])

    def _weighted(self, like: Tensor) -> Tensor:
        return self._constant("weights", like, lambda: self.weights.to(like))

    def _apply(self, x: Tensor) -> Tensor:
        parts = x.flatten(0, 1)[:, None] * self._weighted(x)
        return self._each._apply(parts).sum(1).reshape(*x.shape[:2], *self._sides)

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        spread = y.flatten(0, 1)[:, None].expand(-1, len(self.kernels), -1, -1)
        parts = self._each._adjoint(spread, tuple(self.weights.shape))
        return (parts * self._weighted(y)).sum(1).reshape(len(y), *shape)


def bilinear_weights(grid: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Make weights that interpolate kernels of a grid of equal regions.

    At the middle of its region a kernel has the weight 1. Between two middles weights are linear,
    and beyond the outermost middles constant.

    Args:
        grid: Numbers (rows, columns) of regions.
        shape: Size (H, W) of the images.

    Returns:
        Weights (rows columns, H, W), float64, row by row. They sum to 1 at every pixel.

    Raises:
        ValueError: If the grid or the shape is not a pair of positive whole numbers.

    Example:
        >>> from problems import bilinear_weights
        >>> bilinear_weights((1, 2), (1, 4))[:, 0]
        tensor([[1.0000, 0.7500, 0.2500, 0.0000],
                [0.0000, 0.2500, 0.7500, 1.0000]], dtype=torch.float64)
    """
    numbers = check_sizes(grid, "the grid of kernels", axes=2)
    sides = check_sizes(shape, "shape (H, W)", axes=2)
    rows, columns = (_hats(count, n) for count, n in zip(numbers, sides, strict=True))
    return torch.einsum("ih,jw->ijhw", rows, columns).flatten(0, 1)


def _hats(count: int, n: int) -> Tensor:
    """Linear interpolation weights (count, n) of an axis."""
    place = ((torch.arange(n, dtype=torch.float64) + 0.5) / n * count - 0.5).clamp(0, count - 1)
    middle = torch.arange(count, dtype=torch.float64)
    return (1 - (place - middle[:, None]).abs()).clamp_min(0)
