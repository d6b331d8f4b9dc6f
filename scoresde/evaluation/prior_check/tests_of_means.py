"""Tests of the sign of a mean, by which all findings of a check are decided."""

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["LEVEL", "ratio_with_error", "surely_positive", "t_statistic"]

LEVEL = 0.01
"""Probability that chance alone makes any finding in the check of a right prior, at most.

It is divided by the number of tests (Bonferroni).
"""


def t_statistic(values: Tensor) -> float:
    """Compute Student's t of the mean.

    Args:
        values: One value for each sample, shape (N,), N at least 2.

    Returns:
        The mean over its standard error; 0, inf or -inf for values that are all the same.

    Example:
        >>> import torch
        >>> round(t_statistic(torch.tensor([1.0, 2.0, 3.0])), 3)
        3.464
    """
    mean, std = float(values.double().mean()), float(values.double().std())
    if std == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / std * math.sqrt(len(values))


def surely_positive(values: Tensor, level: float) -> bool:
    """Test whether values have a positive mean (Student's one-sided test).

    Args:
        values: One value for each sample, shape (N,), N at least 2.
        level: Probability of True where the mean is 0 or below, for normal values.

    Returns:
        Whether the mean is above 0 by more than chance allows. Values that are all the same are
        judged by their sign; values that are not finite have no mean, and the answer is False.

    Example:
        >>> import torch
        >>> surely_positive(torch.tensor([1.0, 1.1, 0.9, 1.0]), 0.01)
        True
        >>> surely_positive(torch.tensor([1.0, -1.1, 0.9, -1.0]), 0.01)
        False
    """
    if not bool(torch.isfinite(values).all()):
        return False
    return t_statistic(values) > _quantile(level, len(values) - 1)


@lru_cache(maxsize=1000)
def _quantile(level: float, degrees: int) -> float:
    """Value that Student's t exceeds with a probability of ``level``."""
    from scipy.stats import t as student  # slow to import

    return float(student.isf(level, degrees))


def ratio_with_error(top: Tensor, bottom: Tensor) -> tuple[float, float]:
    """Compute a ratio of means and its standard error (delta method).

    Args:
        top: Numerators, shape (N,).
        bottom: Denominators, shape (N,).

    Returns:
        mean(top) / mean(bottom), and its standard error.

    Example:
        >>> import torch
        >>> ratio_with_error(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 2.0]))
        (2.0, 0.0)
    """
    top, bottom = top.double(), bottom.double()
    ratio = float(top.mean() / bottom.mean())
    error = (top - ratio * bottom).std() / math.sqrt(len(top)) / bottom.mean().abs()
    return ratio, float(error)
