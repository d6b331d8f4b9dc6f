r"""Hamiltonian Monte Carlo for a batch of chains (Duane et al. 1987; Neal 2011).

With momenta :math:`p \sim N(0, M)`, L leapfrog steps of size e carry (z, p) along the level sets of
:math:`H = -\ln\pi(z) + p^T M^{-1} p/2`. The end is accepted with probability
:math:`\min(1, e^{H - H'})`. This leaves :math:`\pi` invariant for any e, L and diagonal M. ``M`` is
written as 1/scale^2, so that the algebra is that of M = I for z/scale.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from problems.random_numbers import normal, uniform

__all__ = ["HMC", "LogDensity"]

LogDensity = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps z (M, B, D) to ln pi(z) + constant, (M, B), float64, and to its gradient, (M, B, D)."""


class HMC:
    """M Hamiltonian chains for each of B targets.

    All chains of a target share its step size, shape (B,), and its scale, shape (B, D).

    Args:
        log_density: Log-density of the targets up to a constant, with its gradient.
        z: Starts of the chains, shape (M, B, D).
        generator: Source of the random numbers; None for torch's global one.
        leapfrog: Leapfrog steps per transition.
        wanted: Acceptance probability that the step size is adapted to. The optimum is about 0.65
            in many dimensions; a somewhat higher value is safer in few.
        jitter: Largest relative change of the step size, drawn at random in each transition to
            avoid periodic orbits.

    Attributes:
        value: Log-density at the current states, shape (M, B), float64.
        gradient: Gradient of the log-density at the current states, shape (M, B, D).
        step_size: Step size of each target, shape (B,), float64.
        scale: Scale of each entry of z, shape (B, D).

    Example:
        >>> import torch
        >>> def standard_normal(z):
        ...     return -z.double().square().sum(-1) / 2, -z
        >>> generator = torch.Generator().manual_seed(0)
        >>> chains = HMC(standard_normal, torch.zeros(50, 1, 2), generator, leapfrog=4)
        >>> for _ in range(50):
        ...     acceptance = chains.step(adapt=True)
        >>> chains.freeze()
        >>> acceptance = chains.step(adapt=False)
        >>> chains.z.shape, acceptance.shape, 0.5 < float(chains.z.std()) < 1.5
        (torch.Size([50, 1, 2]), torch.Size([50, 1]), True)
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
        self.log_density = log_density
        self.generator = generator
        self.leapfrog = leapfrog
        self.wanted = wanted
        self.jitter = jitter
        self.z = z
        self.value, self.gradient = log_density(z)
        self.scale = torch.ones_like(z[0])
        self._restart(torch.full((z.shape[1],), 0.1, dtype=torch.float64, device=z.device))

    def _restart(self, step_size: Tensor) -> None:
        """Restart dual averaging.

        It is centred at ten times the step size, which favours large steps (Hoffman and Gelman
        2014).
        """
        self.step_size = step_size
        self._centre = torch.log(10 * step_size)
        self._excess = torch.zeros_like(step_size)
        self._average = torch.log(step_size)
        self._count = 0
        self._sum = torch.zeros_like(self.scale)
        self._square = torch.zeros_like(self.scale)
        self._seen = 0

    def step(self, adapt: bool) -> Tensor:
        """Make one transition of every chain.

        Args:
            adapt: True during the warm-up: adapt the step size, and record z for ``adapt_masses``.

        Returns:
            Acceptance probabilities, shape (M, B), float64.
        """
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
        """Set the scale of each entry to its standard deviation over the transitions so far.

        The variances are shrunk a little towards their mean over the entries. Dual averaging then
        restarts.
        """
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
        """End the warm-up: set the step size to the average found by dual averaging."""
        self.step_size = self._average.exp()
