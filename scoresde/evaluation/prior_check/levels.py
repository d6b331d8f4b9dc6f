r"""What one noise level shows of a prior.

For u = x_0 + s n and the exact denoiser D(u) = E[x_0|u] of the law of x_0, whatever that law:

- error: :math:`E|D - x_0|^2` is at most that of any linear filter, and that of u itself,
  :math:`s^2 d`;
- slope: D - x_0 is orthogonal to every function of u, so the regression of the noise s n on the
  residual R = u - D has the slope 1, :math:`E[s n \cdot R] = E|R|^2`;
- mean: :math:`E[D] = E[x_0]`;
- covariance: the Jacobian of D is :math:`Cov(x_0|u)/s^2`, hence symmetric and positive, and
  :math:`E|D - x_0|^2 = s^2 E[tr J]` (second-order Tweedie; Efron 2011, Stein 1981).

Each of these is an average over samples, with a standard error. The trace and the antisymmetric
part A of J come from products with random vectors: :math:`E[v \cdot J v] = tr J`, and
:math:`u \cdot J v - v \cdot J u = 2 u \cdot A v` has the variance :math:`4 |A|_F^2`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.prior_check.denoiser import Denoiser
from scoresde.evaluation.prior_check.tests_of_means import ratio_with_error
from scoresde.evaluation.prior_check.wiener import linear_denoised

__all__ = ["LevelCheck", "examine"]


@dataclass(frozen=True)
class LevelCheck:
    """A prior at one noise level; sums over the entries of each of N samples, float64.

    Args:
        s: Standard deviation of the noise.
        u: Noisy samples, shape (N, ...).
        D: Denoised samples, shape (N, ...).
        error: Squared error of D, shape (N,).
        noise: Squared error of u, s^2 |n|^2, shape (N,).
        linear: Squared error of the linear filter, shape (N,).
        rescaled: Squared error with the residual u - D multiplied by ``slope``, shape (N,).
        centred: Squared error without its mean in each channel, shape (N,).
        slope: Slope of the noise on the residual, and its standard error.
        bias: Mean of D - x_0 over all entries, and its standard error.
        trace: Estimates of s^2 tr J, shape (N,); None where D cannot be differentiated.
        symmetric: Estimates of 2 |S|_F of the symmetric part, shape (N,); None as above.
        antisymmetric: The same for the antisymmetric part.
        lowest: Smallest v.Jv / v.v over samples and probes; None as above.
    """

    s: float
    u: Tensor
    D: Tensor
    error: Tensor
    noise: Tensor
    linear: Tensor
    rescaled: Tensor
    centred: Tensor
    slope: tuple[float, float]
    bias: tuple[float, float]
    trace: Tensor | None
    symmetric: Tensor | None
    antisymmetric: Tensor | None
    lowest: float | None

    @property
    def calibration(self) -> tuple[float, float] | None:
        """Squared error over s^2 tr J, 1 for exact denoisers, and its standard error."""
        return None if self.trace is None else ratio_with_error(self.error, self.trace)

    @property
    def asymmetry(self) -> float | None:
        """|A|_F / |S|_F of the Jacobian, 0 for exact denoisers."""
        if self.symmetric is None or self.antisymmetric is None:
            return None
        return float((self.antisymmetric.square().sum() / self.symmetric.square().sum()).sqrt())


def examine(
    denoiser: Denoiser, x0: Tensor, s: float, generator: torch.Generator, batch: int
) -> LevelCheck:
    """Examine a prior at one noise level.

    Args:
        denoiser: The prior.
        x0: Samples, shape (N, ...), in the dtype of the prior.
        s: Standard deviation of the noise.
        generator: Source of the random numbers, on the CPU.
        batch: Samples in the network at once.

    Returns:
        The numbers.
    """
    n, left, right = (
        torch.randn(x0.shape, generator=generator, dtype=torch.float64).to(x0) for _ in range(3)
    )
    u = x0 + s * n
    D, JTl, JTr = _products(lambda x: denoiser(x, s), u, left, right, batch)
    x, noisy, restored = x0.double(), u.double(), D.double()
    residual, noise = noisy - restored, noisy - x
    slope = ratio_with_error(_dot(noise, residual), _dot(residual, residual))
    wrong = restored - x
    over = [0, *range(2, x.ndim)]
    each = wrong.flatten(1).mean(1)
    linear = linear_denoised(x.cpu(), noisy.cpu(), s).to(x)
    trace = symmetric = antisymmetric = lowest = None
    if JTl is not None and JTr is not None:
        own = torch.stack([_dot(left, JTl), _dot(right, JTr)])
        trace = s**2 * own.mean(0)
        cross, across = _dot(JTl, right), _dot(JTr, left)
        symmetric, antisymmetric = cross + across, cross - across
        norms = torch.stack([_dot(left, left), _dot(right, right)])
        lowest = float((own / norms).min())
    return LevelCheck(
        s,
        u,
        D,
        _dot(wrong, wrong),
        _dot(noise, noise),
        (linear - x).flatten(1).square().sum(1),
        (noisy - slope[0] * residual - x).flatten(1).square().sum(1),
        (wrong - wrong.mean(over, keepdim=True)).flatten(1).square().sum(1),
        slope,
        (float(each.mean()), float(each.std() / len(each) ** 0.5)),
        trace,
        symmetric,
        antisymmetric,
        lowest,
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a.double() * b.double()).flatten(1).sum(1)


def _products(
    f: Callable[[Tensor], Tensor], u: Tensor, left: Tensor, right: Tensor, batch: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """f(u) and J^T of two vectors; None for the products where f cannot be differentiated."""
    values, products = [], []
    for x, a, b in zip(u.split(batch), left.split(batch), right.split(batch), strict=True):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            D = f(x)
        values.append(D.detach())
        if D.requires_grad:
            first = torch.autograd.grad(D, x, a, retain_graph=True)[0]
            products.append((first, torch.autograd.grad(D, x, b)[0]))
    if len(products) < len(values):
        return torch.cat(values), None, None
    pairs = zip(*products, strict=True)
    JTl, JTr = (torch.cat(one) for one in pairs)
    return torch.cat(values), JTl, JTr
