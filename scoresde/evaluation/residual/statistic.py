r"""The size of residuals against the size that the noise of the problem gives them.

For Gaussian noise of standard deviations :math:`\sigma_j` over the m observed entries

.. math:: T(y, x) = \frac1m \sum_j \Bigl(\frac{y_j - (A x)_j}{\sigma_j}\Bigr)^2 ,

and if y was measured from x then :math:`m T \sim \chi^2_m`: mean 1, standard deviation
:math:`\sqrt{2/m}`. For other noises the mean and the standard deviation come from replicates
:math:`y' \sim p(y | A x)` (a posterior predictive check, Gelman et al. 2013). A noise with a
variance has :math:`T = |y - A x|^2 / E|y' - A x|^2`. One without has

.. math:: T = 1 + \frac2m \bigl(E \ln p(y' | A x) - \ln p(y | A x)\bigr) ,

which for Gaussian noise would be the same T.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, Noise

__all__ = ["Misfits", "misfits"]

_REPLICATES = 20
_FEW_REPLICATES = 4  # of large measurements, whose averages hardly scatter
_LARGE = 1 << 20


@dataclass(frozen=True)
class Misfits:
    """T of several predictions of one measurement.

    Args:
        ratios: T of each prediction, shape (n,), float64; 1 is expected, infinite where y is
            impossible under the noise.
        scatter: Standard deviation of T if y was measured from x.
        entries: Number m of observed entries.
    """

    ratios: Tensor
    scatter: float
    entries: int


def misfits(
    problem: InverseProblem,
    y: Tensor,
    predictions: Tensor,
    generator: torch.Generator,
    seen: Tensor | None = None,
) -> Misfits:
    """Compare a measurement with several predictions of it.

    Args:
        problem: Operator and noise.
        y: Measurement (1, ...).
        predictions: A x of each image, shape (n, ...), finite.
        generator: Random numbers of the replicates.
        seen: Observed entries, bool, shape of y; None to ask the operator.

    Returns:
        Their T.

    Raises:
        ValueError: If the noise has no spread at all, so that no misfit can be judged.
    """
    seen = problem.operator.observed(y) if seen is None else seen
    noise = problem.noise
    m = int(seen.sum())
    if isinstance(noise, GaussianNoise):
        std = torch.as_tensor(noise.std).to(y).expand_as(y)[seen]
        if not bool((std > 0).all()):
            raise ValueError(
                "a residual can be judged only against noise above 0, got a standard deviation "
                "of 0; state a small one for clean measurements"
            )
        ratios = [float(((y[seen] - p[None][seen]) / std).double().square().mean())
                  for p in predictions]  # fmt: skip
        return Misfits(torch.tensor(ratios, dtype=torch.float64), math.sqrt(2 / m), m)
    squares = "covariance" in noise.capabilities
    size = _squares if squares else _surprise
    mean = predictions[len(predictions) // 2][None]
    count = _REPLICATES if m <= _LARGE else _FEW_REPLICATES
    replicates = torch.tensor(
        [size(noise, noise.sample(mean, generator), mean, seen) for _ in range(count)],
        dtype=torch.float64,
    )
    expected, scatter = replicates.mean(), float(replicates.std())
    sizes = torch.tensor([size(noise, y, p[None], seen) for p in predictions], dtype=torch.float64)
    if squares:
        if not expected > 0:
            raise ValueError(
                f"a residual can be judged only against noise above 0, got {noise!r} without any"
            )
        return Misfits(sizes / expected, scatter / float(expected), m)
    return Misfits(1 + 2 * (sizes - expected) / m, 2 * scatter / m, m)


def _squares(noise: Noise, y: Tensor, mean: Tensor, seen: Tensor) -> float:
    return float((y - mean)[seen].double().square().sum())


def _surprise(noise: Noise, y: Tensor, mean: Tensor, seen: Tensor) -> float:
    """-ln p(y | mean)."""
    if "joint_density" in noise.capabilities:
        return -float(noise.log_prob(y, mean))
    return -float(noise.log_density(y, mean)[seen].double().sum())
