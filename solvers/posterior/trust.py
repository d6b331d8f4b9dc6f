"""Whether draws can be trusted: what their diagnostics say, and when a warning is due.

A right draw of p(x | y) has a known residual. Over draws and measurements together y - A x has the
law of the noise, so its mean square is the noise variance, whatever the prior. A draw that is far
from that does not explain y, and neither the prior nor chance is to blame. Of few numbers a single
draw tells little. The mean over the draws of one measurement passes a bound on the chance of a
single one (Chernoff's, of an exponential moment) at most as often, by Jensen's inequality.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from problems import CorrelatedNoise, InverseProblem
from problems.linalg.broadcast import expand_like
from problems.storage import release
from solvers.guidance.health import Health

__all__ = [
    "SolverWarning",
    "chance_limit",
    "few_ancestors",
    "observed",
    "residual_sizes",
    "trust",
]

_FACTOR = 2.0  # noise levels of a residual that approximate solvers with a good prior stay below
_ON_AVERAGE = 1.5  # the same for the root mean square over the draws of a measurement
_ANCESTORS = 30  # of first particles, enough for means and intervals of any number of draws
_SURPRISE = 20.0  # a right draw passes the limit by chance with probability below exp(-20)


class SolverWarning(UserWarning):
    """Warning that a solver's draws should not be trusted."""


def residual_sizes(problem: InverseProblem, y: Tensor, draws: Tensor) -> Tensor:
    """Compute the root mean square of each residual, in units of the noise.

    Where the variance of the noise depends on the measured value, as that of counts, the larger one
    of its values at A x and at y counts: a single photon where none was expected is no alarm.

    Args:
        problem: Operator, and noise that is independent in each entry and has a variance.
        y: Measurements, shape (B, ...).
        draws: n draws for each, shape (n, B, ...).

    Returns:
        Shape (n, B); 1 but for chance where the draws are right, less where counts are few.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> y = torch.tensor([[[[1.0, -1.0]]]])
        >>> residual_sizes(problem, y, torch.stack([0 * y, y])).tolist()
        [[2.0], [0.0]]
    """
    seen = observed(problem, y)
    white = problem.noise_variance if "gaussian_noise" in problem.capabilities else None
    sizes = []
    for x in draws:
        variance = _variance(problem, y, x) if white is None else white
        squares = problem.residual(y, x).square() / variance
        sizes.append(squares.flatten(1).sum(1).div(seen).sqrt())
        release(x)
    return torch.stack(sizes)


def _variance(problem: InverseProblem, y: Tensor, x: Tensor) -> Tensor:
    """The larger one of the variances of the noise at A x and at y, of the shape of y."""
    ones = torch.ones_like(y)
    at_x, at_y = (
        problem.noise.covariance_matvec(mean, ones) for mean in (problem.operator.apply(x), y)
    )
    return torch.maximum(at_x, at_y).clamp_min(torch.finfo(y.dtype).tiny)


def _has_residual(problem: InverseProblem) -> bool:
    """Whether the noise is independent in each entry and has a variance."""
    correlated = isinstance(problem.noise, CorrelatedNoise)
    return "noise_covariance" in problem.capabilities and not correlated


def trust(
    problem: InverseProblem, y: Tensor, draws: Tensor, healths: list[Health], name: str
) -> dict[str, Any]:
    """Collect what was noticed about draws, and warn if some should not be trusted.

    Args:
        problem: Operator and noise that made y.
        y: Measurements, shape (B, ...).
        draws: n draws for each, shape (n, B, ...).
        healths: Records of the batches of draws, whose rows together are those of ``draws``.
        name: Name of the solver, for the warning.

    Returns:
        Empty if nothing was recorded. Else lists with one entry for each measurement:
        "asymmetry", the largest antisymmetric part of the Jacobian over its symmetric part;
        "guarded", the share of the corrections in which the Jacobian had a negative variance;
        for noise that is independent in each entry "residual", the largest root mean square of
        y - A x over the draws in units of the noise.
    """
    if not healths or not all(healths):
        return {}
    n, size = draws.shape[:2]
    asymmetry = torch.cat([one.asymmetry() for one in healths]).reshape(n, size)
    guarded = torch.cat([one.guarded() for one in healths]).reshape(n, size)
    found: dict[str, Any] = {
        "asymmetry": asymmetry.amax(0).tolist(),
        "guarded": guarded.mean(0).tolist(),
    }
    if not _has_residual(problem):
        return found
    residuals = residual_sizes(problem, y, draws)
    found["residual"] = residuals.amax(0).tolist()
    by_chance = chance_limit(observed(problem, y)).sqrt()
    bad = residuals > expand_like(_FACTOR * by_chance, residuals.mT).mT
    rest = torch.where(bad, 0.0, residuals.square()).sum(0) / (~bad).sum(0).clamp_min(1)
    bad |= rest.sqrt() > by_chance.clamp_min(_ON_AVERAGE)
    if bool(bad.any()):
        shares = guarded.mean().item()
        reason = (
            f"in {shares:.0%} of its steps the network's Jacobian was no covariance"
            if shares > 0
            else "its noise levels or iterations may be too few, or end too high for this noise, "
            "or two moments do not describe this posterior"
        )
        warnings.warn(
            f"{int(bad.sum())} of {residuals.numel()} draws of {name} should not be trusted: their "
            f"residuals are up to {residuals.max().item():.3g} times the noise, where right draws "
            f"have about 1; {reason}",
            SolverWarning,
            stacklevel=4,
        )
    return found


def few_ancestors(effective: list[float], n: int, name: str) -> None:
    """Warn if the draws of a particle method come from too few first particles.

    As many as draws are needed, for draws that hardly depend on one another; 30 are enough for the
    statistics of any number of draws.

    Args:
        effective: Effective number of first particles for each measurement.
        n: Number of draws of each measurement.
        name: Name of the solver, for the warning.
    """
    needed = min(n, _ANCESTORS)
    few = [one for one in effective if one < needed]
    if few:
        warnings.warn(
            f"the draws of {name} for {len(few)} of {len(effective)} measurements should not be "
            f"trusted: they come from an effective number of {min(few):.1f} first particles, where "
            f"{needed} are needed; ask for more particles or steps, or choose another solver",
            SolverWarning,
            stacklevel=4,
        )


def chance_limit(m: Tensor) -> Tensor:
    """Compute the largest mean square of m standard normal numbers that chance allows.

    Args:
        m: Numbers of entries.

    Returns:
        Limits that are passed with a probability below exp(-20), as Laurent and Massart (2000)
        bound it, shape of m.

    Example:
        >>> import torch
        >>> chance_limit(torch.tensor(10000.0))
        tensor(1.0934)
    """
    return 1 + 2 * (_SURPRISE / m).sqrt() + 2 * _SURPRISE / m


def observed(problem: InverseProblem, y: Tensor) -> Tensor:
    """Count the entries that each measurement observes.

    Args:
        problem: Operator of the measurements.
        y: Measurements, shape (B, ...).

    Returns:
        Numbers of entries, shape (B,), at least 1, in the dtype of y.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> observed(InverseProblem(Denoising(), GaussianNoise(0.5)), torch.zeros(2, 1, 2, 2))
        tensor([4., 4.])
    """
    return problem.operator.observed(y).flatten(1).sum(1).to(y.dtype).clamp_min(1)
