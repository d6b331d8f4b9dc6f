r"""Unknown numbers of an operator: the width of a blur, its direction, or any other.

The estimate maximises the evidence :math:`p(y | \theta)`, in which the picture is integrated out.
Its slope is an average over posterior draws (``family``), and a zero of it is sought:

1. along one parameter after another, the last first, in steps up and down until the slope points
   back twice. Disks and lines have several maxima, where the zeros of two transfer functions meet.
   The integral of the slope is the evidence (Gelman and Meng 1998), and the maximum that has most
   of it is refined by the rule of false position (Illinois variant). What is compared is the step
   that EM would take, which depends on the parameter more evenly than the slope. EM itself takes
   that step each time. A draw follows y closely at any parameter, so that it would take hundreds.
2. with all draws, by Newton's method for all parameters together. The Jacobian M comes from
   differences of the equations, at places of the same random numbers.

The standard error is that of an estimating equation, :math:`M^{-1} (B + V/n) M^{-T}`: B is the
variance of the equations over measurements, their complete information less what is missing (Louis
1982), and V/n that over n draws. With weight 1 and exact draws M = B = I, the information. It does
not know what the prior or the solver get wrong.

Under a Gaussian prior the same search runs on the evidence in closed form
(``parametric_evidence``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem
from scoresde.estimation.drawing import drawing_solver
from scoresde.estimation.family import Equations, Family, Parameter, ParametricSource
from scoresde.estimation.parametric_evidence import EvidenceSource
from scoresde.estimation.rounding import rounded
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianPrior
from solvers import PosteriorSampler

__all__ = ["OutOfRange", "ParameterEstimate", "estimate_parameters"]

_LARGEST_EXACT = 1024  # entries of y whose covariance is decomposed at every place
_ALONG = 8  # evaluations along a parameter
_NEWTON, _NEWTON_EXACT = 3, 20  # steps at most, by draws and by the evidence
_CLOSE = 0.01
_BESIDE = 0.25  # of a stride, where the Jacobian is measured
_BACK = 2
_WORST, _WORST_STEPS = 0.35, 2.0  # standard error of ln theta, or in steps, of no use beyond


class OutOfRange(ValueError):
    """The most likely value lies at the end of its range.

    Args:
        parameter: The parameter.
        low: Whether it is the lower end.
    """

    def __init__(self, parameter: Parameter, low: bool) -> None:
        end = parameter.low if low else parameter.high
        super().__init__(
            f"the measurement is explained best by {parameter.name} at the "
            f"{'lower' if low else 'upper'} end of its range, {end:g}; state the value, or another "
            "range"
        )
        self.parameter, self.low = parameter, low


@dataclass(frozen=True)
class ParameterEstimate:
    """Values of parameters and what is known about their errors.

    Args:
        names: What they are.
        values: The estimates.
        error: Standard error of each.
        source: Where the posterior came from: "evidence", "draws" or "spectrum".
        path: Values that were tried.
        problem: The problem with these values.
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    error: tuple[float, ...]
    source: str
    path: tuple[tuple[float, ...], ...]
    problem: InverseProblem

    def report(self) -> dict[str, Any]:
        """Give the result in plain values that JSON can hold.

        Returns:
            Numbers by name.
        """
        return {
            "names": list(self.names),
            "values": rounded(self.values, 4),
            "standard_error": rounded(self.error, 2),
            "source": self.source,
            "path": [rounded(place, 4) for place in self.path],
        }


@dataclass(frozen=True)
class _Place:
    """A coordinate, the step of EM there, its Monte-Carlo error, and the slope of ln p."""

    at: float
    gap: float
    error: float
    evidence: float


class _Source(Protocol):
    def at(self, u: Sequence[float], draws: int) -> Equations: ...


def estimate_parameters(
    problem_of: Callable[..., InverseProblem],
    parameters: Sequence[Parameter],
    y: Tensor,
    prior: Prior,
    *,
    solver: PosteriorSampler | None = None,
    draws: int = 8,
    weighted: bool = True,
    generator: torch.Generator | None = None,
) -> ParameterEstimate:
    """Estimate parameters of an operator from a measurement.

    Args:
        problem_of: Makes the problem of the values, one argument for each parameter. The operator
            must be a smooth function of them, and the noise Gaussian.
        parameters: The parameters. The last is sought first, with the others at their start.
        y: One measurement (1, ...).
        prior: Prior of the picture.
        solver: Sampler of the posterior, where draws are needed; None for "warm-start". A point
            estimate in its place goes to no blur.
        draws: Draws at each place of the last steps, at least 4; half as many, but 4, before.
        weighted: Whether to leave out directions of y that draws follow at any parameter, with far
            less Monte-Carlo error; False for maximum likelihood, which needs many draws.
        generator: Random numbers; None for a fixed seed.

    Returns:
        The estimate.

    Raises:
        OutOfRange: If the most likely value lies at the end of its range. A ValueError.
        ValueError: If the noise is not Gaussian, y is not one finite measurement, there are fewer
            than 4 draws, or y says too little about a parameter.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> i = torch.arange(200.0)
        >>> covariance = torch.exp(-(i[:, None] - i).abs() / 5)
        >>> prior = GaussianPrior(torch.zeros(1, 200), covariance)
        >>> def problem_of(std):
        ...     return InverseProblem(GaussianBlur(std, dimensions=1), GaussianNoise(0.02))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = problem_of(1.5).measure(prior.sample(1, g), g)
        >>> found = estimate_parameters(problem_of, [Parameter("width", 1.0, 0.3, 8.0)], y, prior)
        >>> abs(found.values[0] - 1.5) < 2 * found.error[0] < 0.3
        True
    """
    family = Family(problem_of, tuple(parameters))
    u = [p.coordinate(p.start) for p in family.parameters]
    first = family.at(u)
    _check(first, family, y, draws)
    y = first.operator.mask_unobserved(y.detach())
    if isinstance(prior, GaussianPrior) and _is_small(first, y):
        source, name = EvidenceSource(family, y, prior), "evidence"
        search = _Search(source, family, drawn=False)
    else:
        seed = generator.initial_seed() if generator is not None else 0
        chosen = drawing_solver(solver)
        drawn, name = ParametricSource(family, y, prior, chosen, seed, weighted), "draws"
        search = _Search(drawn, family, drawn=True)
    for i in reversed(range(len(u))):
        u = search.along(u, i, max(4, draws // 2))
    u, covariance = search.together(u, draws)
    sd = covariance.diagonal().clamp_min(0).sqrt().tolist()
    for p, c, s in zip(family.parameters, u, sd, strict=True):
        if not p.linear and c - 2 * s < p.coordinate(p.low):
            raise OutOfRange(p, low=True)
        if not s < (_WORST_STEPS if p.linear else _WORST):
            raise ValueError(
                f"the measurement says too little about {p.name}: {p.value(c):.3g} with a standard "
                f"error of {p.error(p.value(c), s):.2g}; state it"
            )
    values = tuple(p.value(c) for p, c in zip(family.parameters, u, strict=True))
    error = tuple(p.error(v, s) for p, v, s in zip(family.parameters, values, sd, strict=True))
    names = tuple(p.name for p in family.parameters)
    return ParameterEstimate(names, values, error, name, tuple(search.path), family.at(u))


def _check(problem: InverseProblem, family: Family, y: Tensor, draws: int) -> None:
    if not family.parameters:
        raise ValueError("there is no parameter to estimate")
    noise = problem.noise
    if not isinstance(noise, GaussianNoise) or not bool((torch.as_tensor(noise.std) > 0).all()):
        raise ValueError(
            f"parameters are estimated with Gaussian noise of a level above 0, not with {noise!r}"
        )
    if problem.operator.quantises:
        raise ValueError("the operator rounds, so that it has no slope along its parameters")
    if y.ndim < 2 or len(y) != 1:
        raise ValueError(f"one measurement (1, ...) is needed, got shape {tuple(y.shape)}")
    if not bool(torch.isfinite(y[problem.operator.observed(y).expand_as(y)]).all()):
        raise ValueError("the measurement has observed entries that are not finite; mask them")
    if draws < 4:
        raise ValueError(f"at least 4 draws are needed for a standard error, got {draws}")


def _is_small(problem: InverseProblem, y: Tensor) -> bool:
    return {"linear", "normal"} <= problem.capabilities and y.numel() <= _LARGEST_EXACT


@dataclass
class _Search:
    """The search for a zero of the equations.

    Args:
        source: The equations.
        family: Names and ranges of the parameters.
        drawn: Whether the equations come from draws.
        path: Values that were tried.
    """

    source: _Source
    family: Family
    drawn: bool
    path: list[tuple[float, ...]] = field(default_factory=list)

    def _at(self, u: Sequence[float], draws: int) -> Equations:
        self.path.append(tuple(p.value(c) for p, c in zip(self.family.parameters, u, strict=True)))
        return self.source.at(u, draws)

    def _ends(self, i: int) -> tuple[float, float]:
        p = self.family.parameters[i]
        return p.coordinate(p.low), p.coordinate(p.high)

    def along(self, u: list[float], i: int, draws: int) -> list[float]:
        """Find the zero along one parameter that has the most evidence.

        Args:
            u: Coordinates, of which the i-th is where the search begins.
            i: Number of the parameter.
            draws: Draws at each place.

        Returns:
            Coordinates with another i-th, within a hundredth or the Monte-Carlo error.
        """
        line = [_Place(*self._along(u, i, u[i], draws))]
        for sign in (1, -1):
            self._scan(line, u, i, draws, sign)
        a, b = self._best(line, i)
        return [*u[:i], self._between(u, i, draws, a, b), *u[i + 1 :]]

    def _along(self, u: list[float], i: int, c: float, draws: int) -> tuple[float, ...]:
        """The i-th coordinate, EM's step along it, its Monte-Carlo error, and the slope."""
        found = self._at([*u[:i], c, *u[i + 1 :]], draws)
        H = float(found.complete[i, i])
        if not H > 0:
            name = self.family.parameters[i].name
            raise ValueError(f"the measurement does not depend on {name}; state it")
        gap, error = float(found.slope[i]) / H, math.sqrt(float(found.monte_carlo[i, i])) / H
        return c, gap, error, float(found.evidence[i])

    def _scan(self, line: list[_Place], u: list[float], i: int, draws: int, sign: int) -> None:
        """Go along a parameter until the slope points back twice, or to the end of its range."""
        end = self._ends(i)[sign > 0]
        stride = self.family.parameters[i].stride
        back = 0
        place = line[0 if sign < 0 else -1]
        while True:
            back = back + 1 if place.gap * sign < 0 else 0
            if back == _BACK or place.at == end:
                return
            c = place.at + sign * stride
            c = end if (end - c) * sign < 0.3 * stride else c
            place = _Place(*self._along(u, i, c, draws))
            line.insert(0 if sign < 0 else len(line), place)

    def _best(self, line: list[_Place], i: int) -> tuple[_Place, _Place]:
        """The interval of a maximum with the most evidence, by the integral of its slope."""
        evidence = 0.0
        found: list[tuple[float, _Place | None, _Place | None]] = []
        if line[0].gap < 0:
            found.append((evidence, None, line[0]))
        for a, b in pairwise(line):
            before = evidence
            evidence += (a.evidence + b.evidence) / 2 * (b.at - a.at)
            if a.gap >= 0 > b.gap:
                found.append((max(before, evidence), a, b))
        if line[-1].gap >= 0:
            found.append((evidence, line[-1], None))
        _, low, high = max(found, key=lambda one: one[0])
        if low is None or high is None:
            raise OutOfRange(self.family.parameters[i], low=low is None)
        return low, high

    def _between(self, u: list[float], i: int, draws: int, a: _Place, b: _Place) -> float:
        """The zero between two places by false position."""
        fa, fb, c, side = a.gap, b.gap, a.at, 0
        low, high = a.at, b.at
        for _ in range(_ALONG):
            c = (low * fb - high * fa) / (fb - fa)
            if high - low < 2 * _CLOSE:
                break
            _, fc, error, _ = self._along(u, i, c, draws)
            if abs(fc) <= 0.5 * error:
                break
            if fc < 0:
                high, fb, fa = c, fc, fa / 2 if side < 0 else fa
                side = -1
            else:
                low, fa, fb = c, fc, fb / 2 if side > 0 else fb
                side = 1
        return c

    def together(self, u: list[float], draws: int) -> tuple[list[float], Tensor]:
        """Take steps of Newton; return the place and the covariance of its coordinates.

        With draws, whose evaluations are dear, all steps have the first Jacobian.
        """
        here = self._at(u, draws)
        M = self._jacobian(u, here, draws)
        for number in range(_NEWTON if self.drawn else _NEWTON_EXACT):
            if number > 0 and not self.drawn:
                M = self._jacobian(u, here, draws)
            step = torch.linalg.solve(M, here.slope)
            largest = torch.tensor([p.stride for p in self.family.parameters]).to(step)
            step = torch.minimum(torch.maximum(step, -largest), largest).tolist()
            u = [
                min(max(c + s, self._ends(i)[0]), self._ends(i)[1])
                for i, (c, s) in enumerate(zip(u, step, strict=True))
            ]
            if max(abs(s) for s in step) < _CLOSE:
                break
            here = self._at(u, draws)
        inverse = torch.linalg.inv(M)
        return u, inverse @ (here.variance + here.monte_carlo) @ inverse.T

    def _jacobian(self, u: list[float], here: Equations, draws: int) -> Tensor:
        """Minus the derivative of the equations, at least a small share of complete data's."""
        columns = []
        for i, p in enumerate(self.family.parameters):
            step = _BESIDE * p.stride
            step = step if u[i] + step <= self._ends(i)[1] else -step
            there = self._at([*u[:i], u[i] + step, *u[i + 1 :]], draws)
            columns.append((here.slope - there.slope) / step)
        M = torch.stack(columns, 1)
        lam, Q = torch.linalg.eigh(here.complete)
        root = Q * lam.clamp_min(1e-12 * float(lam.max()) + 1e-300).sqrt()
        inverse = torch.linalg.pinv(root)
        share, P = torch.linalg.eigh(inverse @ ((M + M.T) / 2) @ inverse.T)
        P = root @ P
        return (P * share.clamp_min(0.01)) @ P.T
