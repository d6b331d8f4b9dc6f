r"""Sequential Monte Carlo with a second-order reverse kernel and predicted twists.

The draws tend to the exact posterior. Let :math:`u = x_0 + \sigma n`, :math:`D = E[x_0|u]` and
:math:`V = \sigma^2 J = \mathrm{Cov}[x_0|u]` (Tweedie, to second order), and let the measurement be
whitened to m numbers, :math:`y = A x_0 + N(0, I)`.

*Kernel.* Given u, the particle at the lower noise :math:`\sigma'`, with
:math:`\rho = (\sigma'/\sigma)^2`, has mean :math:`(1-\rho)D + \rho u` and covariance
:math:`c^2(\rho I + (1-\rho)J)`, :math:`c^2 = \sigma^2(1-\rho)`. The step
:math:`c(\sqrt\rho\,z + (1-\sqrt\rho) J z)` has this covariance where the eigenvalues of J are 0 or
1, and approximately for eigenvalues between.

*Twist.* :math:`\psi = N(r; 0, S)` with :math:`r = y - A D`, :math:`S = I + A V A^T`, is
:math:`p(y|u)` by moment matching. Before the step is made, the twist at :math:`\sigma'` is
predicted: :math:`r' = r - M z`, :math:`S' = S - M M^T`, where
:math:`M M^T = K = P (P + \sigma^2\tfrac{\rho}{1-\rho} A A^T)^{-1} P`, :math:`P = A V A^T`. A draw
of z from :math:`p(z)\tilde\psi(z)/\psi`, :math:`\tilde\psi = N(r'; 0, S')`, is a conditioned
Gaussian. The weight of the particle is exactly :math:`\psi_{new}(u')/\tilde\psi(z)`, the actual
twist over the predicted one. No density of a kernel is needed.

The draws tend to the posterior as the numbers of particles and of levels grow. The twists need not
be exact for that, only good enough. The products :math:`J A^T` cost m products per particle. For
m > 4 they are computed at some of the particles, see ``representatives``.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.smc.base import (
    Denoiser,
    EvaluatedBatch,
    ParticleSampler,
    Population,
    effective_ancestors,
    ess_fraction,
    systematic,
)
from solvers.posterior.smc.representatives import Representatives
from solvers.posterior.smc.twist import Twist
from solvers.posterior.smc.whitening import whitened
from solvers.presets import Preset
from solvers.scale import OfData

__all__ = ["PredictedTwistSMC"]


@dataclass(frozen=True)
class PredictedTwistSMC(ParticleSampler):
    """Sequential Monte Carlo with predicted twists, close to the exact posterior.

    It is for small images and measurements of at most 1024 numbers. The diagnostics are

    - "ancestors": first particles with descendants among the draws. Below 30 the draws are suspect;
      more particles help.
    - "effective_ancestors": their effective number, from the weights of their descendants in the
      whole population.
    - "log_evidence": ln p of the whitened y in nats, which truncation lowers. Two runs that differ
      by a nat are suspect.
    - "ess_fraction": smallest effective sample size of the weights, as a fraction. Below 0.1, one
      step rested on few particles.
    - "levels": number of noise levels.

    Args:
        particles: Smallest number of particles; there are never fewer than twice the draws. Half of
            them remain once the weights have become flat.
        ratio: Ratio s'/s of the noise levels while the weights of a step vary.
        flat_ratio: Ratio s'/s where the weights of a step are equal, at most ``ratio``.
        s_max: First noise level, which should be many times the standard deviation of the data;
            None for the largest level of the SDE.
        s_min: Noise level at or below which the next step ends at 0.
        resample: Effective sample size, as a fraction in [0, 1], below which the particles are
            resampled.
        vjp_budget: Most vector-Jacobian products at each level, of all representatives together.
            Where neighbours have the same Jacobian, 2048 of them suffice and no more are made.
        truncate: Limit the weights to sqrt(M) times their mean, for M particles, against outliers
            while the twists are inaccurate (Ionides 2008; the effect vanishes as M grows). False
            for an unbiased evidence.

    Raises:
        ValueError: If 0 < flat_ratio <= ratio < 1 or 0 < s_min < s_max does not hold, resample is
            not in [0, 1], particles is below 2, or vjp_budget is below 1.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> solver = PredictedTwistSMC(particles=64)
        >>> g = torch.Generator().manual_seed(0)
        >>> posterior = solver.sample(prior, problem, torch.ones(1, 1, 2, 2), n=200, generator=g)
        >>> posterior.draws.shape
        torch.Size([200, 1, 1, 2, 2])
        >>> round(float(posterior.mean.mean()), 1)  # the exact posterior mean is 0.8
        0.8
        >>> sorted(posterior.diagnostics)
        ['ancestors', 'effective_ancestors', 'ess_fraction', 'levels', 'log_evidence']
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    particles: int = 512
    ratio: float = 0.8
    flat_ratio: float = 0.6
    s_max: float | None = None
    s_min: float = 0.02
    resample: float = 0.5
    vjp_budget: int = 1 << 16
    truncate: bool = True

    _ROWS = 1024  # largest m for which m x m matrices are affordable

    def __post_init__(self) -> None:
        s_max = math.inf if self.s_max is None else self.s_max
        if not (
            0 < self.flat_ratio <= self.ratio < 1
            and 0 < self.s_min < s_max
            and 0 <= self.resample <= 1
        ):
            raise ValueError(
                "PredictedTwistSMC needs 0 < flat_ratio <= ratio < 1, 0 < s_min < s_max "
                f"and resample in [0, 1], got {self}"
            )
        if self.particles < 2 or self.vjp_budget < 1:
            raise ValueError(
                f"PredictedTwistSMC needs particles >= 2 and vjp_budget >= 1, got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs, where ``steps`` is about the number of noise levels.
        """
        return {
            "predicted-twist": Preset(
                "SMC near the exact posterior, for small images and up to 1024 measured values; "
                "at least 512 particles",
                lambda steps: cls(
                    ratio=0.8 ** (30 / steps),
                    flat_ratio=0.6 ** (30 / steps),
                    s_max=OfData(40.0),
                    s_min=OfData(0.04),
                    vjp_budget=1 << 11,  # products with a network are slow
                ),
                steps=30,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"predicted-twist": cls(particles=2048, vjp_budget=1 << 17)}

    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        denoise, generator = run.denoise, run.generator
        A, y = whitened(run.problem, denoise.shape, run.y, self._ROWS)
        AAt = A @ A.T
        initial_size, final_size = max(2 * run.n, self.particles), max(run.n, self.particles // 2)
        s_max = denoise.s_max if self.s_max is None else min(self.s_max, denoise.s_max)

        particles = self._start(run, s_max, initial_size, A)
        s, levels, ess, evidence, predicted = s_max, 0, 1.0, 0.0, None
        weights_are_flat = _FlatWeights()
        while s > 0:
            levels += 1
            at = denoise.at(particles.u, s)
            twist = self._twist(denoise, A, y, particles, at, s, generator)
            log_psi = twist.log_density()
            increments = log_psi if predicted is None else log_psi - predicted
            particles, gain, step_ess = particles.weighed(increments, self.truncate)
            evidence, ess = evidence + gain, min(ess, ess_fraction(particles.log_w))

            shrink = weights_are_flat(step_ess, twist.information()) and len(particles) > final_size
            if shrink or ess_fraction(particles.log_w) < self.resample:
                n = final_size if shrink else len(particles)
                chosen = systematic(particles.log_w, n, generator)
                particles, twist = particles.resampled(chosen), twist[chosen]
                at = denoise.at(particles.u, s)

            s_next = s * self._ratio(step_ess) if s > self.s_min else 0.0
            u, predicted = self._propose(run, particles.u, at, twist, AAt, s, s_next)
            particles, s = replace(particles, u=u), s_next
            run.progress(
                1 - max(math.log(max(s, self.s_min) / self.s_min), 0) / math.log(s_max / self.s_min)
            )
        assert predicted is not None

        log_likelihood = -0.5 * (y - particles.u @ A.T).square().sum(1)
        particles, gain, _ = particles.weighed(log_likelihood - predicted)
        evidence += gain - 0.5 * len(A) * math.log(2 * math.pi)
        log_w = particles.log_w
        chosen = systematic(log_w, run.n, generator)
        return particles.u[chosen], {
            "ess_fraction": min(ess, ess_fraction(log_w)),
            "ancestors": len(particles.ancestors[chosen.cpu()].unique()),
            "effective_ancestors": effective_ancestors(particles.ancestors, log_w),
            "levels": levels,
            "log_evidence": evidence,
        }

    def _start(self, run: Population, s: float, n: int, A: Tensor) -> "_Particles":
        """Draw n particles at the largest noise s: N(D(0), s^2 I + V), to first order in V/s^2."""
        z = run.randn(n, A.shape[1])
        at = run.denoise.at(torch.zeros_like(z), s)
        log_w = torch.zeros(n, dtype=A.dtype, device=A.device)
        return _Particles(at.D + s * (z + at.vjp(z) / 2), log_w, torch.arange(n))

    def _propose(
        self,
        run: Population,
        u: Tensor,
        at: EvaluatedBatch,
        twist: Twist,
        AAt: Tensor,
        s: float,
        s_next: float,
    ) -> tuple[Tensor, Tensor]:
        """Draw the particles at s_next given y, and compute their predicted log-twist."""
        rho = (s_next / s) ** 2
        lookahead = twist.lookahead(AAt, rho)
        z = lookahead.condition(run.randn(*u.shape), run.randn(len(u), len(AAt)))
        noise = math.sqrt(rho) * z + (1 - math.sqrt(rho)) * at.vjp(z)
        u = (1 - rho) * at.D + rho * u + s * math.sqrt(1 - rho) * noise
        return u, lookahead.log_density(z)

    def _twist(
        self,
        denoise: Denoiser,
        A: Tensor,
        y: Tensor,
        particles: "_Particles",
        at: EvaluatedBatch,
        s: float,
        generator: torch.Generator,
    ) -> Twist:
        """Compute the twist of all particles.

        With few rows of A the products J A^T are computed at every particle, otherwise at
        representatives.
        """
        u = particles.u
        if len(A) <= 4:
            G = torch.stack([at.vjp(a.expand(len(u), -1)) for a in A], -1)
            return Twist.at(s, y - at.D @ A.T, G, torch.arange(len(u), device=u.device), A)
        return Representatives(A, y, self.vjp_budget, generator).twist(
            s, at.D, particles.log_w, lambda chosen, rows: denoise.jacobian_rows(u[chosen], s, rows)
        )

    def _ratio(self, ess: float) -> float:
        """Choose s'/s: ``ratio`` after an effective sample size up to 0.9, ``flat_ratio`` at 1."""
        return self.flat_ratio + (self.ratio - self.flat_ratio) * min(1.0, 10 * (1 - ess))


@dataclass(frozen=True)
class _Particles:
    """Weighted particles: u (M, D), log-weights (M,), and indices of the first ancestors (M,)."""

    u: Tensor
    log_w: Tensor
    ancestors: Tensor

    def __len__(self) -> int:
        return len(self.u)

    def weighed(
        self, increments: Tensor, truncate: bool = False
    ) -> tuple["_Particles", float, float]:
        """Add increments to the log-weights.

        Args:
            increments: Logarithms of the factors of the weights, shape (M,).
            truncate: Limit the new weights to sqrt(M) times their mean.

        Returns:
            The particles; ln of the weighted mean of the factors; the effective sample size that
            the factors leave, as a fraction (the conditional one of Zhou et al. 2016).
        """
        before = torch.log_softmax(self.log_w, 0)
        log_w = before + increments
        if truncate:
            log_w = log_w.minimum(torch.logsumexp(log_w, 0) - math.log(len(self)) / 2)
        mean = torch.logsumexp(log_w, 0)
        mean_square = torch.logsumexp((2 * log_w - before)[before > -math.inf], 0)
        ess = float((2 * mean - mean_square).exp())
        return replace(self, log_w=log_w), float(mean), ess

    def resampled(self, chosen: Tensor) -> "_Particles":
        """Keep the chosen particles, with equal weights."""
        return _Particles(
            self.u[chosen], torch.zeros_like(self.log_w[chosen]), self.ancestors[chosen.cpu()]
        )


@dataclass
class _FlatWeights:
    """Test of whether the weights have become flat, so that fewer particles suffice.

    Flat weights at the beginning do not count: there y has no influence yet.
    """

    varied: bool = False
    flat_steps: int = 0
    initial_information: float = 0.0

    def __call__(self, ess: float, information: float) -> bool:
        """Record one step and return whether the weights are flat.

        True after two consecutive steps with an effective sample size above 98.5 %, once it has
        been below 97 % or half of the information in y has been absorbed. ess: as a fraction.
        information: still to be gained from y, in nats.
        """
        self.initial_information = self.initial_information or information
        self.varied = self.varied or ess < 0.97
        self.flat_steps = self.flat_steps + 1 if ess > 0.985 else 0
        absorbed = information < self.initial_information / 2
        return self.flat_steps >= 2 and (self.varied or absorbed)
