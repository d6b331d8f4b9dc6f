r"""The M step for a kernel of any shape: a quadratic programme on the simplex.

For a picture x let P be the matrix of its patches, one a row, as large as the kernel and mirrored,
so that :math:`k * x = P k`. It includes the pixels outside the frame by the rule of the boundary.
With the second moments :math:`G = E[P^T P | y]` and :math:`b = E[P | y]^T y`

.. math:: E\bigl[|y - k * x|^2 \big| y\bigr] = k^T G k - 2 b^T k + |y|^2 .

G contains the covariance of the posterior. With the one picture of a point estimate in its place
the minimum is near no blur (Levin et al. 2009). EM minimises this over kernels that are nowhere
negative and sum to 1. By Fisher's identity the slope of the evidence in k is
:math:`(b - G k) / \sigma^2`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.checks import check_choice
from problems.operators.convolution import BOUNDARIES, Boundary

__all__ = ["KernelMoments", "minimise_on_simplex", "on_simplex"]

_STEPS = 2000
_CLOSE = 1e-9


@dataclass(frozen=True)
class KernelMoments:
    """Second moments of a posterior, as the M step needs them.

    Args:
        G: E[P^T P | y] (s s, s s), float64.
        b: E[P | y]^T y (s s,), float64.
        power: |y|^2.
        entries: Number of entries of y.

    Example:
        >>> import torch
        >>> from problems import Blur
        >>> x = torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0)).double()
        >>> kernel = torch.tensor([[0.0, 0.1, 0.0], [0.2, 0.3, 0.0], [0.0, 0.4, 0.0]]).double()
        >>> moments = KernelMoments.of(Blur(kernel, "reflect").apply(x), x, 3, "reflect")
        >>> found = minimise_on_simplex(moments.G, moments.b, torch.full((9,), 1 / 9).double())
        >>> torch.allclose(found.reshape(3, 3), kernel, atol=1e-6)
        True
    """

    G: Tensor
    b: Tensor
    power: float
    entries: int

    @classmethod
    def of(cls, y: Tensor, draws: Tensor, side: int, boundary: Boundary) -> KernelMoments:
        """Average over draws.

        Args:
            y: The blurred picture (1, C, H, W).
            draws: Draws of the picture (n, C, H, W), larger than y if the boundary is "valid".
            side: Odd side of the kernel in pixels.
            boundary: Rule for the picture outside the frame.

        Returns:
            The moments.

        Raises:
            ValueError: If the side is even, or shapes do not fit.
        """
        G = torch.zeros(side**2, side**2, dtype=torch.float64)
        b = torch.zeros(side**2, dtype=torch.float64)
        for x in draws:
            P = patches(x[None].double().cpu(), side, boundary)
            rows = y.double().cpu().reshape(-1)
            if len(P) != len(rows):
                raise ValueError(
                    f"draws of shape {tuple(x.shape)} do not fit y of {tuple(y.shape)} with "
                    f"boundary {boundary!r}"
                )
            G += P.T @ P / len(draws)
            b += P.T @ rows / len(draws)
        return cls(G, b, float(y.double().square().sum()), y.numel())

    @classmethod
    def of_normal(
        cls, y: Tensor, mean: Tensor, covariance: Tensor, side: int, boundary: Boundary
    ) -> KernelMoments:
        """Compute the moments of a normal posterior, without draws.

        Args:
            y: The blurred picture (1, C, H, W).
            mean: Mean of the posterior (1, C, h, w).
            covariance: Its covariance (C h w, C h w).
            side: Odd side of the kernel in pixels.
            boundary: Rule for the picture outside the frame.

        Returns:
            The moments.
        """
        of_mean = cls.of(y, mean, side, boundary)
        # each entry of P is an entry of x, or 0 outside of the frame: where does it come from?
        numbers = torch.arange(1, mean.numel() + 1, dtype=torch.float64).reshape(mean.shape)
        at = patches(numbers, side, boundary).round().long()
        V = F.pad(covariance.double(), (1, 0, 1, 0))
        spread = torch.zeros_like(of_mean.G)
        for row in at:
            spread += V[row[:, None], row]
        return cls(of_mean.G + spread, of_mean.b, of_mean.power, of_mean.entries)

    def misfit(self, kernel: Tensor) -> float:
        """Compute E|y - k * x|^2 / m.

        Args:
            kernel: Kernel (s s,).

        Returns:
            The mean square, which is the noise variance where sigma is at its maximum, too.
        """
        k = kernel.double()
        return max(float(k @ self.G @ k - 2 * self.b @ k) + self.power, 0.0) / self.entries

    def slope(self, kernel: Tensor, sigma: float) -> Tensor:
        """Compute the slope of ln p(y | k) in k.

        Args:
            kernel: Kernel (s s,) or (s, s), that of the posterior.
            sigma: Standard deviation of the noise.

        Returns:
            The slope (s s,), float64.
        """
        return (self.b - self.G @ kernel.double().flatten()) / sigma**2


def patches(x: Tensor, side: int, boundary: Boundary) -> Tensor:
    """Cut a picture into mirrored patches, so that their product with a kernel is the convolution.

    Args:
        x: A picture (1, C, H, W).
        side: Odd side of the patches in pixels.
        boundary: Rule for the picture outside the frame.

    Returns:
        One patch a row, (C H W, side side); fewer for "valid".

    Raises:
        ValueError: If the side is even or larger than x allows, or the boundary is unknown.
    """
    check_choice("boundary", boundary, BOUNDARIES)
    if side < 1 or side % 2 == 0:
        raise ValueError(f"the side of a kernel must be odd, got {side}")
    reach = side // 2
    if min(x.shape[-2:]) < side:
        raise ValueError(
            f"a kernel of {side} pixels a side is too large for a picture of {x.shape[-1]}x"
            f"{x.shape[-2]}"
        )
    if boundary == "zero":
        x = F.pad(x, [reach] * 4)
    elif boundary != "valid":
        x = F.pad(x, [reach] * 4, mode=boundary)
    found = F.unfold(x.transpose(0, 1), side)  # channels as a batch
    return found.transpose(1, 2).reshape(-1, side**2).flip(1)


def on_simplex(v: Tensor) -> Tensor:
    """Find the nearest point that is nowhere negative and sums to 1 (Duchi et al. 2008).

    Args:
        v: A vector (n,).

    Returns:
        The point (n,).

    Example:
        >>> import torch
        >>> on_simplex(torch.tensor([0.9, 0.5, -1.0]))
        tensor([0.7000, 0.3000, 0.0000])
    """
    falling = v.sort(descending=True).values
    sums = falling.cumsum(0) - 1
    count = torch.arange(1, len(v) + 1, dtype=v.dtype, device=v.device)
    last = int((falling - sums / count > 0).sum()) - 1
    return (v - sums[last] / (last + 1)).clamp_min(0)


def minimise_on_simplex(
    G: Tensor, b: Tensor, start: Tensor, project: Callable[[Tensor], Tensor] = on_simplex
) -> Tensor:
    """Minimise k^T G k / 2 - b^T k over kernels that are nowhere negative and sum to 1.

    By accelerated projected gradients with restarts (Beck and Teboulle 2009, O'Donoghue and Candes
    2015).

    Args:
        G: Positive semidefinite matrix (n, n).
        b: Vector (n,).
        start: Where to begin, (n,).
        project: Projection to the allowed set.

    Returns:
        The minimum (n,).
    """
    step = 1 / float(torch.linalg.matrix_norm(G, 2).clamp_min(1e-300))
    k = project(start.to(G))
    ahead, t = k, 1.0
    for _ in range(_STEPS):
        new = project(ahead - step * (G @ ahead - b))
        if float((ahead - new) @ (new - k)) > 0:
            t = 1.0  # the momentum points uphill
        later = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead, t = new + (t - 1) / later * (new - k), later
        done = float((new - k).abs().max()) < _CLOSE
        k = new
        if done:
            break
    return k
