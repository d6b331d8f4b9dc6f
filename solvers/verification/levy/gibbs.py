r"""Exact posteriors of sums of increments by Gibbs sampling.

For y = A x + n with x = L u the increments are Gaussian given their variances w: with
:math:`G = (AL)^T AL/\sigma^2`, :math:`g = (AL)^T y/\sigma^2` and :math:`W = \mathrm{diag}\,w`,

.. math:: u = W^{1/2} v, \quad v \sim N(M^{-1} W^{1/2} g,\, M^{-1}), \quad
          M = I + W^{1/2} G W^{1/2} ,

which holds for variances of zero, too. Laplace and Student's t increments alternate between
p(u | w, y) and p(w | u). For Bernoulli-Laplace increments u is integrated out: with
:math:`K = G - G W^{1/2} M^{-1} W^{1/2} G`, the w are drawn one after another, and each change is a
rank-one update of K.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number
from solvers.verification.levy.chains import effective_size, r_hat
from solvers.verification.levy.increments import BernoulliLaplaceIncrements, Increments
from solvers.verification.levy.signals import LevyProcess
from solvers.verification.levy.spikes import collapsed_variance

__all__ = ["Evidence", "GibbsDraws", "evidence", "gibbs", "sweep"]

F64 = torch.float64


@dataclass(frozen=True)
class Evidence:
    """What measurements say of the increments: their log-likelihood is g^T u - u^T G u / 2.

    Args:
        curvature: The matrix G, (n, n), float64.
        slope: The vectors g of B measurements, (B, n), float64.
    """

    curvature: Tensor
    slope: Tensor


@dataclass(frozen=True)
class GibbsDraws:
    """Draws of the posteriors of B measurements from independent chains.

    Args:
        draws: Signals, (chains, draws, B, n), float64.
    """

    draws: Tensor

    @property
    def pooled(self) -> Tensor:
        """Draws of all chains, (chains * draws, B, n)."""
        return self.draws.flatten(0, 1)

    @property
    def mean(self) -> Tensor:
        """Posterior means, (B, n)."""
        return self.pooled.mean(0)

    @property
    def std(self) -> Tensor:
        """Posterior standard deviations, (B, n)."""
        return self.pooled.std(0)

    @property
    def r_hat(self) -> Tensor:
        """Split R-hat of every sample of every signal, (B, n); near 1 for chains that agree."""
        return r_hat(self.draws)

    @property
    def effective_size(self) -> Tensor:
        """Number of independent draws that would give means of the same accuracy, (B, n)."""
        return effective_size(self.draws)

    @property
    def standard_error(self) -> Tensor:
        """Monte-Carlo standard errors of the means, (B, n)."""
        return self.std / self.effective_size.sqrt()


def evidence(process: LevyProcess, A: Tensor, y: Tensor, noise_std: float) -> Evidence:
    """Compute what measurements say of the increments.

    Args:
        process: Law of the signals.
        A: Matrix of the measurement, (m, n).
        y: Measurements, (B, m).
        noise_std: Standard deviation of the noise, positive.

    Returns:
        Curvature and slope of the log-likelihood of the increments.

    Raises:
        ValueError: If a shape does not fit or the noise is not positive.
    """
    check_number(noise_std, "the standard deviation of the noise", above=0)
    if A.ndim != 2 or A.shape[1] != process.length or y.ndim != 2 or y.shape[1] != len(A):
        raise ValueError(
            f"for signals of length {process.length} A must be (m, {process.length}) and y (B, m), "
            f"got {tuple(A.shape)} and {tuple(y.shape)}"
        )
    H = A.double() @ process.sums() / noise_std
    return Evidence(H.T @ H, y.double() @ H / noise_std)


def gibbs(
    process: LevyProcess,
    A: Tensor,
    y: Tensor,
    noise_std: float,
    *,
    draws: int,
    chains: int = 2,
    burn_in: int = 500,
    thin: int = 1,
    generator: torch.Generator,
) -> GibbsDraws:
    """Draw from the posteriors of measurements y = A x + n.

    Every chain starts from variances of the prior, so that chains start apart.

    Args:
        process: Law of the signals x.
        A: Matrix of the measurement, (m, n).
        y: Measurements, (B, m).
        noise_std: Standard deviation of the noise, positive.
        draws: Number of draws that each chain keeps, at least 1.
        chains: Number of chains for each measurement, at least 1.
        burn_in: Number of sweeps before the first draw, at least 0.
        thin: Number of sweeps for each draw, at least 1.
        generator: Source of the random numbers, on the CPU.

    Returns:
        The draws of all chains.

    Raises:
        ValueError: If a shape does not fit or a number is out of its range.

    Example:
        >>> from solvers.verification.levy import levy_process
        >>> generator, process = torch.Generator().manual_seed(0), levy_process("laplace", 8)
        >>> x = process.sample(3, generator)
        >>> y = x + 0.1 * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        >>> A = torch.eye(8, dtype=x.dtype)
        >>> found = gibbs(process, A, y, 0.1, draws=400, generator=generator)
        >>> found.draws.shape, bool((found.r_hat < 1.05).all())
        (torch.Size([2, 400, 3, 8]), True)
    """
    for name, value, least in (
        ("number of draws", draws, 1),
        ("number of chains", chains, 1),
        ("burn-in", burn_in, 0),
        ("thinning", thin, 1),
    ):
        check_number(value, f"the {name}", least=least, whole=True)
    given = evidence(process, A, y, noise_std)
    given = Evidence(given.curvature, given.slope.repeat(chains, 1))
    w = process.law.variances(tuple(given.slope.shape), generator)
    kept = torch.empty(draws, chains, *y.shape[:1], process.length, dtype=F64)
    for i in range(-burn_in, draws * thin):
        u, w = sweep(process.law, given, w, generator)
        if i >= 0 and i % thin == thin - 1:
            kept[i // thin] = process.signals(u).reshape(kept.shape[1:])
    return GibbsDraws(kept.transpose(0, 1))


def sweep(
    law: Increments, given: Evidence, w: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw all variances and all increments once.

    Args:
        law: Law of the increments.
        given: What the measurements say.
        w: Variances of the last sweep, (B, n).
        generator: Source of the random numbers.

    Returns:
        New increments u and variances w, (B, n) each. If w had the law p(w | y), then (u, w) has
        the law p(u, w | y).
    """
    if isinstance(law, BernoulliLaplaceIncrements):
        w = _collapsed(law, given, w, generator)
        return _increments(given, w, generator), w
    u = _increments(given, w, generator)
    return u, law.variances_given(u, generator)


def _factor(given: Evidence, root: Tensor) -> Tensor:
    """Cholesky factor of M, (B, n, n)."""
    M = root[:, :, None] * given.curvature * root[:, None, :]
    M.diagonal(dim1=-2, dim2=-1).add_(1)
    factor: Tensor = torch.linalg.cholesky(M)
    return factor


def _solve(triangle: Tensor, b: Tensor, *, upper: bool = False) -> Tensor:
    x: Tensor = torch.linalg.solve_triangular(triangle, b[..., None], upper=upper)
    return x[..., 0]


def _increments(given: Evidence, w: Tensor, generator: torch.Generator) -> Tensor:
    """Draw p(u | w, y)."""
    root = w.sqrt()
    factor = _factor(given, root)
    z = torch.randn(w.shape, dtype=F64, generator=generator)
    return root * _solve(factor.mT, _solve(factor, root * given.slope) + z, upper=True)


def _collapsed(
    law: BernoulliLaplaceIncrements, given: Evidence, w: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw the variances one after another, in random order, with the increments integrated out."""
    w, root = w.clone(), w.sqrt()
    factor = _factor(given, root)
    half = torch.linalg.solve_triangular(
        factor, root[:, :, None] * given.curvature, upper=False
    )  # K and c = K u for the best u; K is G without what the variances already explain
    K = given.curvature - half.mT @ half
    c = given.slope - (half.mT @ _solve(factor, root * given.slope)[..., None])[..., 0]
    for j in torch.randperm(w.shape[1], generator=generator).tolist():
        without = 1 - w[:, j] * K[:, j, j]  # takes the variance j itself out again
        drawn = collapsed_variance(law, K[:, j, j] / without, c[:, j] / without, generator)
        (rows,) = (drawn != w[:, j]).nonzero(as_tuple=True)
        change = drawn[rows] - w[rows, j]
        column = K[rows, :, j]
        gain = change / (1 + change * column[:, j])
        c[rows] -= (gain * c[rows, j])[:, None] * column
        K[rows] -= (gain[:, None] * column)[:, :, None] * column[:, None, :]
        w[:, j] = drawn
    return w
