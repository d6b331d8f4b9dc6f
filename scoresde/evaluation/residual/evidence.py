r"""What a residual looks like: the numbers from which the suspects are told apart.

With :math:`\bar y` the mean of :math:`A x_i` over the draws, :math:`r = y - \bar y`, and e the same
in units of the noise:

- ``correlation``: of e with its neighbour, along the axis where it is larger. Noise has 0, a draw
  that follows the noise of y makes it negative, and what A cannot explain is smooth or has edges:
  positive.
- ``kurtosis`` of e: 3 for Gaussian noise, more where a few entries hold the misfit.
- ``unreachable``: what of the misfit remains if every pixel of the picture may err by rho = 0.3,
  about as much as pictures vary, less what would remain of noise n alone,

  .. math:: \frac1m \bigl(r^T W r - n^T W n\bigr), \qquad
            W = (I + \rho^2 \tilde A \tilde A^T)^{-1}, \quad \tilde A = A / \sigma,

  with r and n in units of the noise, for linear operators and white Gaussian noise of one level.
  It is about 0 whatever the solver did, unless y has something that lies outside of the range of
  A, as with a wrong kernel.
- ``outside``: the share of the entries of y that no x on [-1, 1] can give, by A(-1) and A(1). It
  holds for operators that are increasing in every pixel, which is tried on the draws; 0 for others.
- ``grid``: for operators that round, the root mean square of A y - y: a file that A made hardly
  changes if A is applied again. Levels stay where they are, JPEG changes itself by at most 0.016,
  and files of another quality by more. (A file of high quality can keep one of low quality.)
- ``plain``: how much more frequent exactly equal pixels are beside holes than elsewhere.
- ``zeros``: the share of the observed entries that are exactly 0, as entries that were not measured
  are, and noise never is.
- ``ceiling``: the share of the observed entries that have exactly the largest value, if they are
  more than four times as many as the next value has. White noise never ties, and a rounded file has
  few entries at the end of its tail, unless highlights are clipped.
- ``loudness``: the root mean square of y over the larger one of A(-1) and A(1), noise included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import Inpainting, InverseProblem, LinearMatrix
from problems.linalg.solve import conjugate_gradients
from scoresde.evaluation.residual.flat_edge import plain_beside_holes
from scoresde.evaluation.residual.noise_level import finest_details
from scoresde.evaluation.residual.windows import Windows

__all__ = ["Evidence", "gather"]

FREEDOM = 0.3
"""rho: how far a pixel of a restoration may be off, on [-1, 1]."""

_ITERATIONS = 15
_MARGIN = 5.0  # standard deviations of the noise
_SLACK = 0.1  # of A(1) - A(-1), as filters with negative lobes overshoot; half of the widest too
_FEWEST = 64  # pairs of neighbours


@dataclass(frozen=True)
class Evidence:
    """Numbers about one measurement and its prediction; NaN where one does not exist.

    Args:
        size: Mean square of e, the residual of the mean prediction.
        correlation: Of e with its neighbour.
        kurtosis: Fourth moment of e over its squared second.
        concentration: Share of the squares of e in its largest twentieth; 0.28 for Gaussian noise.
        unreachable: Misfit that no change of the picture takes away, 0 for noise.
        stretch: The same over what noise leaves: the variance of the noise where nothing else is.
        details: Bound of the noise of y by its finest details, in stated units.
        details_error: Its standard error.
        outside: Share of the entries of y that no picture can give.
        loudness: Root mean square of y, 1 for the loudest picture.
        coarseness: Root mean square of the noise, 1 for the loudest picture.
        strength: Mean square of y in units of the noise.
        variation: Variance of y in units of the noise; noise alone has 1.
        grid: Change of y by a second application of a rounding operator.
        zeros: Share of the observed entries that are exactly 0.
        plain: Excess of exactly plain pixels beside holes.
        ceiling: Share of the observed entries at the largest value, if it stands out; else 0.
        lowest: Smallest observed entry of y.
        highest: Largest one.
    """

    size: float
    correlation: float
    kurtosis: float
    concentration: float
    unreachable: float
    stretch: float
    details: float
    details_error: float
    outside: float
    loudness: float
    coarseness: float
    strength: float
    variation: float
    grid: float
    zeros: float
    plain: float
    ceiling: float
    lowest: float
    highest: float


def gather(
    problem: InverseProblem,
    y: Tensor,
    mean: Tensor,
    x: Tensor,
    seen: Tensor,
    generator: torch.Generator,
    part: Windows | None = None,
) -> Evidence:
    """Look at the residual of the mean prediction.

    It costs three or four applications of the operator. Where it is linear there is one ``solve``
    if that is fast, and at most 15 products with A A^T otherwise.

    Args:
        problem: Operator and noise.
        y: Measurement (1, ...), zero where nothing is observed.
        mean: Mean of A x over the draws, (1, ...).
        x: A typical picture (1, C, H, W).
        seen: Observed entries, bool, shape of y.
        generator: Random numbers of the noise to compare with.
        part: Windows of y that are looked at; None for all.

    Returns:
        The numbers.
    """
    part = part or Windows()
    unreachable, stretch = _unreachable(problem, y - mean, seen, generator, part)
    grid = _grid(problem, y, seen, part)
    y, mean, seen = part(y), part(mean), part(seen)
    std = _std(problem, y, mean, seen)
    outside, loudness, coarseness = _bounds(problem, y, x, std, seen, part)
    e = torch.where(seen, (y - mean) / std, 0)
    inside, values = e[seen].double(), y[seen].double()
    squares = inside.square()
    size = float(squares.mean())
    twentieth = max(1, len(squares) // 20)
    details = finest_details(y / std, seen) or (math.nan, math.nan)
    return Evidence(
        size=size,
        correlation=_correlation(e, seen, size),
        kurtosis=float(squares.square().mean()) / size**2 if size > 0 else math.nan,
        concentration=float(squares.topk(twentieth).values.sum() / squares.sum()),
        unreachable=unreachable,
        stretch=stretch,
        details=details[0],
        details_error=details[1],
        outside=outside,
        loudness=loudness,
        coarseness=coarseness,
        strength=float((y / std)[seen].double().square().mean()),
        variation=float((y / std)[seen].double().var(correction=0)),
        grid=grid,
        zeros=float((values == 0).double().mean()),
        plain=plain_beside_holes(y, seen) if isinstance(problem.operator, Inpainting) else 0.0,
        ceiling=_ceiling(values),
        lowest=float(values.min()),
        highest=float(values.max()),
    )


def _std(problem: InverseProblem, y: Tensor, mean: Tensor, seen: Tensor) -> Tensor:
    """The standard deviation of each entry, or that of the whole residual."""
    noise = problem.noise
    if {"covariance"} <= noise.capabilities and "joint_density" not in noise.capabilities:
        return noise.covariance_matvec(mean, torch.ones_like(mean)).sqrt()
    scale = (y - mean)[seen].double().square().mean().sqrt().clamp_min(1e-12)
    return torch.full_like(mean, float(scale))


def _correlation(e: Tensor, seen: Tensor, size: float) -> float:
    found = [math.nan]
    for axis in range(2 if e.ndim > 2 else 1, e.ndim):
        n = e.shape[axis] - 1
        pairs = seen.narrow(axis, 0, n) & seen.narrow(axis, 1, n)
        if size > 0 and int(pairs.sum()) >= _FEWEST:
            products = (e.narrow(axis, 0, n) * e.narrow(axis, 1, n))[pairs]
            found.append(float(products.double().mean()) / size)
    return max(found[1:], key=abs, default=math.nan)


def _unreachable(
    problem: InverseProblem, r: Tensor, seen: Tensor, generator: torch.Generator, part: Windows
) -> tuple[float, float]:
    if not {"solve", "gaussian_noise"} <= problem.capabilities:
        return math.nan, math.nan
    noise = problem.operator.mask_unobserved(problem.noise.sample(torch.zeros_like(r), generator))
    seen = part(seen)
    left, expected = (
        float(part(v * _weighted(problem, v))[seen].double().mean()) for v in (r, noise)
    )
    return left - expected, left / max(expected, 1e-30)


def _weighted(problem: InverseProblem, v: Tensor) -> Tensor:
    """(sigma^2 I + rho^2 A A^T)^-1 v; by a few conjugate gradients where it has no fast form.

    From a start at zero v^T x grows with the iterations, so that few of them see less, not more.
    """
    A, variance = problem.linear_operator, problem.noise_variance
    if "closed_form" in A.capabilities and not isinstance(A, LinearMatrix):  # a dense SVD is slow
        return A.solve(v, variance, FREEDOM**2)
    return conjugate_gradients(
        lambda w: variance * w + FREEDOM**2 * A.apply(A.adjoint(w)),
        v,
        iterations=_ITERATIONS,
        rtol=1e-2,
        warn=False,
    )


def _ceiling(values: Tensor) -> float:
    top = values.max()
    below = values[values < top]
    if not len(below):
        return 0.0
    count = len(values) - len(below)
    return count / len(values) if count > 4 * int((below == below.max()).sum()) + 4 else 0.0


def _grid(problem: InverseProblem, y: Tensor, seen: Tensor, part: Windows) -> float:
    last = problem.operator
    while hasattr(last, "outer"):  # of a composition the last part makes y
        last = last.outer
    if not last.quantises or tuple(last.output_shape(tuple(y.shape[1:]))) != tuple(y.shape[1:]):
        return math.nan
    return float(part(last.apply(y) - y)[part(seen)].double().square().mean().sqrt())


def _bounds(
    problem: InverseProblem, y: Tensor, x: Tensor, std: Tensor, seen: Tensor, part: Windows
) -> tuple[float, float, float]:
    """The share of y outside of what pictures give, and how loud y and the noise are."""
    white = torch.ones_like(x)
    one, other, typical = (part(problem.operator.apply(a)) for a in (-white, white, x.clamp(-1, 1)))
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    widest = float((high - low)[seen].max())
    slack = _SLACK * (high - low) + _SLACK / 2 * widest
    noise = float(std[seen].double().square().mean())
    loudest = float(torch.maximum(one.square(), other.square())[seen].double().mean())
    loudness = math.sqrt(float(y[seen].double().square().mean()) / (loudest + noise))
    coarseness = math.sqrt(noise / (loudest + noise))
    if bool(((typical < low - slack) | (typical > high + slack))[seen].any()):
        return 0.0, loudness, coarseness  # not increasing: these are no bounds
    slack = slack + _MARGIN * std
    outside = ((y < low - slack) | (y > high + slack))[seen].double().mean()
    return float(outside), loudness, coarseness
