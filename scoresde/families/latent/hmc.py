r"""Hamiltonian Monte Carlo for a batch of chains (Duane et al. 1987; Neal 2011).

With momenta :math:`p \sim N(0, M)`, L leapfrog steps of size e carry (z, p) along the level sets of
:math:`H = -\ln\pi(z) + p^T M^{-1} p/2`, and the end is accepted with probability :math:`\min(1, e^{H - H'})`: :math:`\pi` is left invariant
whatever e, L and the diagonal M are. ``M`` is written as 1/scale^2, so that the algebra is that of M = I for z/scale.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from problems.random_numbers import normal, uniform

__all__ = ["HMC", "LogDensity"]

LogDensity = Callable[[Tensor], tuple[Tensor, Tensor]]
"""z (M, B, D) -> ln pi(z) up to a constant (M, B), float64, and its gradient (M, B, D)."""


class HMC:
    """M chains for each of B targets. step_size (B,) and scale (B, D) are a target's own and all its chains'.

    z: (M, B, D). wanted: acceptance that the step size is adapted to; the optimum is about 0.65 in many dimensions, somewhat higher is
    safer in few. jitter: share of the step size that varies at random, against periodic orbits.
    """

    def __init__(
        self,
        log_density: LogDensity,
        z: Tensor,
        generator: torch.Generator | None,
        leapfrog: int,
        wanted: float = 0.8,
        jitter: float = 0.2,
    ) -> None:
        self.log_density, self.generator, self.leapfrog, self.wanted, self.jitter = (
            log_density,
            generator,
            leapfrog,
            wanted,
            jitter,
        )
        self.z = z
        self.value, self.gradient = log_density(z)
        self.scale = torch.ones_like(z[0])
        self._restart(torch.full((z.shape[1],), 0.1, dtype=torch.float64, device=z.device))

    def _restart(self, step_size: Tensor) -> None:
        """Dual averaging from here: its centre is ten times the step size, as it should be bold (Hoffman and Gelman 2014)."""
        self.step_size = step_size
        self._centre = torch.log(10 * step_size)
        self._excess = torch.zeros_like(step_size)
        self._average = torch.log(step_size)
        self._count = 0
        self._sum, self._square, self._seen = (
            torch.zeros_like(self.scale),
            torch.zeros_like(self.scale),
            0,
        )

    def step(self, adapt: bool) -> Tensor:
        """One transition of every chain; the acceptance probabilities (M, B). adapt: move the step size and take note of z."""
        e = self.step_size * (
            1 + self.jitter * (2 * uniform(self.step_size.shape, self.generator, self.z) - 1)
        )
        move = e.to(self.z.dtype)[:, None] * self.scale
        z, value, gradient = self.z, self.value, self.gradient
        p = normal(z.shape, self.generator, z)
        kinetic = p.double().square().sum(-1) / 2
        for _ in range(self.leapfrog):
            p = p + move / 2 * gradient
            z = z + move * p
            value, gradient = self.log_density(z)
            gradient = gradient.nan_to_num(0, 0, 0)
            p = p + move / 2 * gradient
        change = value - p.double().square().sum(-1) / 2 - self.value + kinetic
        probability = torch.where(change.isfinite(), change.clamp_max(0).exp(), 0)
        yes = uniform(probability.shape, self.generator, z) < probability
        self.z = torch.where(yes[..., None], z, self.z)
        self.value = torch.where(yes, value, self.value)
        self.gradient = torch.where(yes[..., None], gradient, self.gradient)
        if adapt:
            self._adapt(probability.mean(0))
        return probability

    def _adapt(self, acceptance: Tensor) -> None:
        self._count += 1
        t = self._count
        self._excess += (self.wanted - acceptance - self._excess) / (t + 10)
        log_step = self._centre - math.sqrt(t) / 0.05 * self._excess
        self._average += t**-0.75 * (log_step - self._average)
        self.step_size = log_step.exp()
        self._sum += self.z.sum(0)
        self._square += self.z.square().sum(0)
        self._seen += len(self.z)

    def adapt_masses(self) -> None:
        """The scale of each entry becomes its standard deviation over the transitions so far, drawn a little towards their average."""
        if self._seen < 2:
            return
        mean = self._sum / self._seen
        variance = (self._square / self._seen - mean**2).clamp_min(0)
        share = self._seen / (self._seen + 10)
        variance = share * variance + (1 - share) * variance.mean(-1, keepdim=True)
        old, self.scale = self.scale, variance.clamp_min(1e-12).sqrt()
        ratio = (old.double() / self.scale.double()).log().mean(-1).exp()
        self._restart(self._average.exp() * ratio / 3)

    def freeze(self) -> None:
        """End of the warm-up: the step size becomes the average that dual averaging has arrived at."""
        self.step_size = self._average.exp()
