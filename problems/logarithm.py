"""Counts behind Beer and Lambert's law as line integrals, with the same likelihood."""

from __future__ import annotations

from torch import Tensor

from problems.noise import CountNoise
from problems.noise.log_counts import LogCountNoise
from problems.operators.base import Operator
from problems.operators.compose import NonlinearComposition
from problems.operators.transmission import Transmission
from problems.problem import InverseProblem

__all__ = ["take_logarithm"]


def take_logarithm(problem: InverseProblem, y: Tensor) -> tuple[InverseProblem, Tensor]:
    """Write counts of photons as line integrals, and the problem as one of these.

    The likelihood of x stays what it was, whatever the counts (:class:`problems.LogCountNoise`);
    the operator loses its exponential. Every solver of ``solvers`` does this on its own.

    Args:
        problem: Operator and noise.
        y: Measurements (B, ...) of this problem.

    Returns:
        For ``Transmission(...) @ A`` with ``CountNoise``, the problem with the operator A, and the
        line integrals of y, of its shape. Any other problem and its y as they are.

    Raises:
        ValueError: If y is no measurement of this problem, has NaN or infinite entries, or counts
            without read noise are negative.

    Example:
        >>> import torch
        >>> from problems import CountNoise, Denoising, InverseProblem, Transmission, take_logarithm
        >>> counts = InverseProblem(Transmission(1e4) @ Denoising(), CountNoise())
        >>> y, x = torch.tensor([[[[3600.0]]]]), torch.tensor([[[[1.0]]]])
        >>> by_log, q = take_logarithm(counts, y)
        >>> "linear" in by_log.capabilities, round(float(q), 3)
        (True, 1.022)
        >>> bool((counts.log_likelihood(y, x) - by_log.log_likelihood(q, x)).abs() < 1e-3)
        True
    """
    found = _outermost(problem.operator)
    if found is None or not isinstance(problem.noise, CountNoise):
        return problem, y
    problem.check_measurement(y)
    if not problem.noise.std and bool((y < 0).any()):
        raise ValueError(
            "counts of photons must be at least 0; subtract no offset from them, or state the read "
            "noise as CountNoise(std=...)"
        )
    law, inner = found
    noise = LogCountNoise(law.photons, law.background, problem.noise.gain, problem.noise.std)
    return InverseProblem(inner, noise), noise.written(y)


def _outermost(operator: Operator) -> tuple[Transmission, Operator] | None:
    """The transmission that an operator ends with, and what comes before it."""
    if not isinstance(operator, NonlinearComposition):
        return None
    if isinstance(operator.outer, Transmission):
        return operator.outer, operator.inner
    found = _outermost(operator.outer)
    return None if found is None else (found[0], found[1] @ operator.inner)
