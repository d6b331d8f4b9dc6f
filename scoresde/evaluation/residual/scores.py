r"""Score tests: along which departure from the stated problem does the measurement pull?

By Fisher's identity the slope of the log-evidence is the posterior mean of the slope of the
log-likelihood. For a measurement :math:`A_\theta x` with noise of variance :math:`\sigma^2`, and h
the direction of the departure (``departures``),

.. math:: s = \frac{\partial}{\partial\theta} \ln p(y | \theta)
            = E\Bigl[\frac{r^T h(x)}{\sigma^2} \Big| y\Bigr], \qquad r = y - A x ,

and for the level of the noise, with :math:`\theta = \ln\sigma`,
:math:`s = E[|r|^2 / \sigma^2 - m | y]`. Where the problem is right s has mean 0, and by
Louis 1982 its variance is the information of complete data less what is missing,

.. math:: I = J - \mathrm{Var}\Bigl(\frac{r^T h}{\sigma^2} \Big| y\Bigr), \qquad
          J = E \frac{|h|^2}{\sigma^2} \quad \text{or} \quad 2 m .

Any weights W leave :math:`r^T W h` with mean 0. Where the signal is far above the noise, the draws
follow y whatever the operator is, and nearly all information is missing, more exactly than few
draws can show. h is therefore multiplied by :math:`W = (I + \rho^2 A A^T / \sigma^2)^{-1}`, which
leaves out these directions, if the operator has a fast solve.

The second term is the spread of the posterior. A draw that is uncertain along h pulls wherever its
noise happens to, and only what all draws agree on counts. With n draws the mean of their slopes has
the variance :math:`I + \mathrm{Var}/n`, and

.. math:: z = \bar s / \sqrt{I + \mathrm{Var}/n}, \qquad \hat\theta = \bar s / I

are standard normal and a one-step estimate of the departure (Rao 1948). The variance of few draws
is itself uncertain (``missing_information``). It is taken at the lower end of its one-sided
interval, which makes z smaller rather than larger. If nothing is wrong, z exceeds 4 in size once in
16,000 tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from problems.storage import release
from scoresde.evaluation.residual.departures import departures
from scoresde.evaluation.residual.missing_information import (
    MissingInformation,
    missing_information,
    missing_information_of_groups,
)
from scoresde.evaluation.residual.windows import Windows

__all__ = ["Score", "score_tests"]

FEWEST_DRAWS = 4
"""With fewer the spread along a direction is not known."""

CLEAR = 4.0
"""Size of z from which on a departure is taken for real, if the draws are exact."""

CLEAR_LEARNED = 8.0
"""The same for draws of a learned prior: right runs have up to 6 at noise of 0.05 (width)."""

CLEAR_BOUNDARY = 15.0
"""The same for boundaries, which few pixels decide: right runs have up to 8, wrong ones from 28.

At any noise: with 0.02, where the misfit of a learned prior has the pattern of a width with a z of
23, right boundaries have at most 3, and wrong ones 134 and more.
"""

FREEDOM = 0.1
"""How far a pixel may vary, on [-1, 1], along directions that y does not fix."""

_ONE_SIDED = ("boundary", "highlights")

_FLOOR = 0.03  # of the complete information


@dataclass(frozen=True)
class Score:
    """The test of one departure.

    Args:
        kind: "noise", or the kind of a :class:`departures.Departure`.
        words: What differs.
        z: Slope of the log-evidence in standard deviations.
        theta: One-step estimate of the departure; of ln sigma for the noise.
        matters: Whether theta is large enough to matter, and has a sign that it can have.
    """

    kind: str
    words: str
    z: float
    theta: float
    matters: bool


def score_tests(
    problem: InverseProblem,
    y: Tensor,
    draws: Sequence[Tensor],
    predictions: Tensor,
    seen: Tensor,
    part: Windows | None = None,
    groups: Sequence[Sequence[int]] | None = None,
) -> tuple[Score, ...]:
    """Test the noise level and all departures of the operator.

    It costs up to two applications of an operator for each draw and parameter of the operator.

    Args:
        problem: Operator and noise.
        y: Measurement (1, ...), zero where nothing is observed.
        draws: n posterior draws (1, C, H, W).
        predictions: The windows of A x of each, (n, ...).
        seen: Observed entries, bool, shape of y.
        part: Windows of y that are looked at; None for all.
        groups: Draws whose noise sums to zero, four by four, from 0; None if all are independent.

    Returns:
        The tests, the largest z first; () if the noise is not Gaussian and white, the operator
        rounds, or there are fewer than 4 draws.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.randn(1, 1, 64, 64, generator=g)  # of the prior N(0, 1), with noise of 0.5
        >>> x = 0.8 * (1.25**0.5 * y) + 0.2**0.5 * torch.randn(8, 1, 64, 64, generator=g)
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> tests = score_tests(problem, 1.25**0.5 * y, x.split(1), x, torch.ones_like(y) == 1)
        >>> abs(tests[0].z) < CLEAR
        True
    """
    noise, operator = problem.noise, problem.operator
    count = len(draws) if groups is None else sum(map(len, groups))
    if not isinstance(noise, GaussianNoise) or operator.quantises or count < FEWEST_DRAWS:
        return ()
    part = part or Windows()
    found = departures(operator, y, seen, part)
    y, seen = part(y), part(seen)
    std = torch.as_tensor(noise.std).to(y).expand_as(y)
    e = torch.where(seen, (y - predictions) / std, 0).flatten(1)  # (n, m)
    m = int(seen.sum())
    tests = [_test("noise", "the level of the noise", 0.0, (e, e), 2.0 * m, m, groups)]
    directions: list[list[Tensor]] = [[] for _ in found]
    for x, own in zip(draws, predictions.split(1), strict=True):
        prediction = own if part.all else operator.apply(x)
        for one, h in zip(found, directions, strict=True):
            weighted = _weighted(problem, one.direction(x, prediction))
            h.append(torch.where(seen, part(weighted) / std, 0).flatten(1))
        release(x)
    for one, parts in zip(found, directions, strict=True):
        whole = torch.cat(parts)
        parts.clear()
        J = float(whole.double().square().sum(1).mean())
        if J > 0:
            tests.append(_test(one.kind, one.words, one.least, (e, whole), J, 0.0, groups))
    return tuple(sorted(tests, key=lambda test: -abs(test.z)))


def _test(
    kind: str,
    words: str,
    least: float,
    pair: tuple[Tensor, Tensor],
    J: float,
    expected: float,
    groups: Sequence[Sequence[int]] | None,
) -> Score:
    e, h = pair[0].double(), pair[1].double()
    s = float((e * h).sum(1).mean()) - expected
    missing = _missing(e, h, groups)
    information = max(J - missing.lower, _FLOOR * J)
    z = s / math.sqrt(information + missing.of_mean)
    theta = s / information
    matters = theta > least if kind in _ONE_SIDED else abs(theta) > least
    return Score(kind, words, z, theta, matters)


def _missing(e: Tensor, h: Tensor, groups: Sequence[Sequence[int]] | None) -> MissingInformation:
    if groups is None:
        return missing_information(e, h)
    index = torch.tensor(groups)
    return missing_information_of_groups(e[index], h[index])


def _weighted(problem: InverseProblem, h: Tensor) -> Tensor:
    """W h with W = (I + FREEDOM^2 A A^T / sigma^2)^-1; h where there is no fast form of it."""
    if not {"closed_form", "gaussian_noise"} <= problem.capabilities:
        return h
    A, variance = problem.linear_operator, problem.noise_variance
    if isinstance(A, LinearMatrix):  # a dense SVD is slow
        return h
    return variance * A.solve(h, variance, FREEDOM**2)
