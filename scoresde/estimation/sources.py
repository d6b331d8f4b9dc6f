r"""Where E[|y - A x|^2 | y] comes from at a stated noise level, and its missing information."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, Inpainting, InverseProblem
from scoresde.estimation.drawing import drawing_solver
from scoresde.evaluation.residual.missing_information import missing_information
from scoresde.evaluation.residual.seen_noise import noise_ratio
from scoresde.priors.base import Prior
from solvers import PosteriorSampler

__all__ = ["DenoiserSource", "DrawSource", "Moments", "Source"]

_PROBES = 4
_STEP = 0.1  # of ln sigma, for the slope of the misfit
_LEAST = 0.02  # of the information of complete data


@dataclass(frozen=True)
class Moments:
    """What a posterior says about the noise, for each level that is sought (k,), float64.

    Args:
        misfit: E[|y - A x|^2 | y] / m.
        rate: 2 m over the information: how much larger the step of Newton is than that of EM.
        entries: Numbers m of observed entries.
    """

    misfit: Tensor
    rate: Tensor
    entries: Tensor


class Source(Protocol):
    """A posterior at any noise level."""

    name: str

    def at(self, sigma: Tensor) -> Moments:
        """Evaluate the posterior.

        Args:
            sigma: Noise levels (k,).

        Returns:
            Its moments.
        """
        ...

    def error(self, sigma: Tensor, moments: Moments) -> Tensor:
        """Compute the standard error at the estimate.

        Args:
            sigma: Noise levels (k,).
            moments: What ``at`` gives there.

        Returns:
            Standard errors of ln sigma (k,).
        """
        ...

    def stated(self, sigma: Tensor) -> InverseProblem:
        """State the problem with these levels.

        Args:
            sigma: Noise levels (k,).

        Returns:
            The problem.
        """
        ...


def with_levels(problem: InverseProblem, y: Tensor, sigma: Tensor) -> InverseProblem:
    """State a problem with one level, or one for each channel.

    Args:
        problem: Operator.
        y: Measurement (1, C, ...).
        sigma: Levels (1,) or (C,).

    Returns:
        The problem.
    """
    if len(sigma) == 1:
        return replace(problem, noise=GaussianNoise(float(sigma)))
    shape = (len(sigma), *[1] * (y.ndim - 2))
    return replace(problem, noise=GaussianNoise(sigma.to(y).reshape(shape)))


class DrawSource:
    """Draws of a solver, with the same random numbers at every level.

    Args:
        problem: Operator.
        y: Measurement (1, ...).
        prior: Prior of the picture.
        seen: Observed entries, bool, shape of y.
        channels: Number of levels, 1 or that of the channels.
        solver: Sampler of the posterior; None for "warm-start".
        draws: Draws at each level.
        generator: Random numbers; None for a fixed seed.
    """

    name = "draws"

    def __init__(
        self,
        problem: InverseProblem,
        y: Tensor,
        prior: Prior,
        seen: Tensor,
        channels: int,
        solver: PosteriorSampler | None,
        draws: int,
        generator: torch.Generator | None,
    ) -> None:
        self.problem, self.y, self.prior, self.seen = problem, y, prior, seen
        self.channels, self.draws = channels, draws
        self.solver = drawing_solver(solver)
        self.seed = generator.initial_seed() if generator is not None else 0

    def stated(self, sigma: Tensor) -> InverseProblem:
        """State the problem with these levels."""
        return with_levels(self.problem, self.y, sigma)

    def at(self, sigma: Tensor) -> Moments:
        """Draw from the posterior at these levels."""
        problem = self.stated(sigma)
        x = self.solver.sample(
            self.prior, problem, self.y, self.draws,
            generator=torch.Generator().manual_seed(self.seed),
        ).draws[:, 0]  # fmt: skip
        r = torch.where(self.seen, self.y - problem.operator.apply(x.to(self.y)), 0).double()
        parts = r[:, None] if self.channels == 1 else r
        where = self.seen[:, None] if self.channels == 1 else self.seen
        found = [
            _moments(parts[:, c].flatten(1) / sigma[c], int(where[:, c].sum()))
            for c in range(self.channels)
        ]
        misfit, rate, m = (torch.tensor(v, dtype=torch.float64) for v in zip(*found))  # noqa: B905
        return Moments(misfit * sigma**2, rate, m)

    def error(self, sigma: Tensor, moments: Moments) -> Tensor:
        r"""Take the information from the slope of the misfit.

        Louis's variance has the scatter of few numbers, one for each draw. Where most of the
        information is missing it says little about what is left. The draws at another level, with
        the same random numbers, show it directly: :math:`I = -ds / d\ln\sigma` with
        :math:`s = m (\text{ratio} - 1)`.
        """
        beside = sigma * math.exp(_STEP)
        fall = moments.misfit / sigma**2 - self.at(beside).misfit / beside**2
        J = 2.0 * moments.entries
        information = (moments.entries * fall / _STEP).clamp(_LEAST * J, J)
        scatter = (J - information) / self.draws  # variance of the slope of so few draws
        return (1 / information + scatter / information**2).sqrt()


def _moments(e: Tensor, m: int) -> tuple[float, float, int]:
    """The fields of `Moments`, in units of the noise, of residuals (n, m) of draws."""
    J = 2.0 * m
    information = max(J - missing_information(e, e).variance, _LEAST * J)
    return float(e.square().sum(1).mean()) / m, J / information, m


class DenoiserSource:
    r"""The denoiser itself, where y = x + n in the observed pixels.

    At the level :math:`\sigma` the posterior of x given a whole noisy picture z is that of the
    prior given :math:`x_t`, with mean D and covariance :math:`\sigma^2 \partial D/\partial z`
    (Tweedie's formulas), so that :math:`E|z - x|^2 = |z - D|^2 + \sigma^2 \operatorname{div} D`,
    here summed over the observed pixels. The divergence comes from random signs, the same at every
    level. Missing pixels are filled with draws of a solver and noise of level :math:`\sigma`: as z
    is then a draw of the whole measurement given y, the mean over draws is E[|y - x|^2 | y]. What
    the solver gets wrong in the observed pixels does not matter. The information is that of z less
    what the filling would say at another level, to first order.

    Args:
        problem: Denoising or Inpainting.
        y: Measurement (1, ...).
        prior: Prior of the picture.
        seen: Observed entries, bool, shape of y.
        solver: Sampler for the missing pixels; None for "warm-start".
        draws: Draws of the missing pixels.
        generator: Random numbers; None for a fixed seed.
    """

    name = "denoiser"

    def __init__(
        self,
        problem: InverseProblem,
        y: Tensor,
        prior: Prior,
        seen: Tensor,
        solver: PosteriorSampler | None,
        draws: int,
        generator: torch.Generator | None,
    ) -> None:
        self.problem, self.y, self.prior, self.seen = problem, y, prior, seen
        self.m, self.draws = int(seen.sum()), draws
        self.solver = drawing_solver(solver)
        self.seed = generator.initial_seed() if generator is not None else 0
        self.whole = bool(seen.all())
        n = 1 if self.whole else draws
        g = torch.Generator().manual_seed(self.seed)
        self.noise = torch.randn(n, *y.shape[1:], generator=g).to(y)
        self.probes = [
            (torch.randint(0, 2, self.noise.shape, generator=g).to(y) * 2 - 1) * seen
            for _ in range(_PROBES)
        ]

    @staticmethod
    def fits(problem: InverseProblem, channels: int) -> bool:
        """Tell whether the measurement is a picture with noise of one level.

        Args:
            problem: Operator.
            channels: Number of levels.

        Returns:
            Whether the denoiser suffices.
        """
        return isinstance(problem.operator, Denoising | Inpainting) and channels == 1

    def stated(self, sigma: Tensor) -> InverseProblem:
        """State the problem with this level."""
        return with_levels(self.problem, self.y, sigma)

    def _filling(self, sigma: Tensor) -> Tensor:
        """Draws of the picture (n, ...), for the missing pixels."""
        if self.whole:
            return self.y
        g = torch.Generator().manual_seed(self.seed)
        problem = self.stated(sigma)
        return self.solver.sample(self.prior, problem, self.y, self.draws, generator=g).draws[:, 0]

    def _ratio(self, filling: Tensor, sigma: float) -> float:
        """E|y - x|^2 / (m sigma^2) over the observed pixels."""
        z = torch.where(self.seen, self.y, filling.to(self.y) + sigma * self.noise)
        ratio = noise_ratio(self.prior, z, sigma, self.seen, self.probes)
        if ratio is None:
            raise ValueError(
                "the noise level cannot be estimated by a denoiser without gradient; state it"
            )
        return ratio

    def at(self, sigma: Tensor) -> Moments:
        """Evaluate the denoiser at this level, and beside it for the information."""
        value, filling = float(sigma), self._filling(sigma)
        ratio = self._ratio(filling, value)
        # s = m (ratio - 1), and I = -ds / d ln sigma
        beside = self._ratio(filling, value * math.exp(_STEP))
        information = max(self.m * (ratio - beside) / _STEP, _LEAST * 2 * self.m)
        found = (ratio * value**2, 2 * self.m / information, self.m)
        return Moments(*(torch.tensor([one], dtype=torch.float64) for one in found))

    def error(self, sigma: Tensor, moments: Moments) -> Tensor:
        """Take the information from the rate, where it is a slope already."""
        return (moments.rate / (2 * moments.entries)).sqrt()
