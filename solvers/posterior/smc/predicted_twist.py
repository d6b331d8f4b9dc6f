r"""Sequential Monte Carlo with a second-order reverse kernel and predicted twists: draws that tend to the exact posterior.

In :math:`u = x_0 + \sigma n`, with :math:`D = E[x_0|u]` and :math:`V = \sigma^2 J = \mathrm{Cov}[x_0|u]` (Tweedie, to second order),
and the measurement whitened to m numbers, :math:`y = A x_0 + N(0, I)`:

*Kernel.* Given u, the particle at the lower noise :math:`\sigma'`, :math:`\rho = (\sigma'/\sigma)^2`, has mean
:math:`(1-\rho)D + \rho u` and covariance :math:`c^2(\rho I + (1-\rho)J)`, :math:`c^2 = \sigma^2(1-\rho)`. The step
:math:`c(\sqrt\rho\,z + (1-\sqrt\rho) J z)` has this covariance where J is 0 or 1 and nearly so between.

*Twist.* :math:`\psi = N(r; 0, S)` with :math:`r = y - A D`, :math:`S = I + A V A^T`, is :math:`p(y|u)` by moment matching. Before the
step is made, its outcome at :math:`\sigma'` is predicted: :math:`r' = r - M z`, :math:`S' = S - M M^T`, where
:math:`M M^T = K = P (P + \sigma^2\tfrac{\rho}{1-\rho} A A^T)^{-1} P`, :math:`P = A V A^T`. Drawing z from
:math:`p(z)\tilde\psi(z)/\psi`, :math:`\tilde\psi = N(r'; 0, S')`, is conditioning a Gaussian, and the weight of the particle is exactly
:math:`\psi_{new}(u')/\tilde\psi(z)`: the predicted twist against the actual one, no density of any kernel needed.

As the number of particles and of levels grows the draws tend to the posterior; the twists need not be right for that, only not too wrong.
The products :math:`J A^T` cost m each; with m > 4 they are made at some representative particles and shared with those nearest in D.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.smc.base import (
    Denoiser,
    EvaluatedBatch,
    ParticleSampler,
    Population,
    ess_fraction,
    systematic,
)
from solvers.posterior.smc.twist import Twist
from solvers.posterior.smc.whitening import whitened
from solvers.presets import Preset

__all__ = ["PredictedTwistSMC"]


@dataclass(frozen=True)
class PredictedTwistSMC(ParticleSampler):
    """particles: at least so many, and at least twice the draws; half of them once the weights have become flat. ratio: s'/s while the
    weights of a step vary, down to ``flat_ratio`` where they do not. s_max: many times the spread of the data; where the SDE ends, by
    default. resample: when the effective ess falls below. truncate: the weights
    of a step at sqrt(M) times their mean, M particles, against outliers while the twists are crude (Ionides 2008; it vanishes as M grows;
    False for an unbiased evidence). vjp_budget: with the Jacobian, at each level, of all representatives together.

    diagnostics: "ancestors" (first particles with living offspring: below 30 the draws are suspect, more particles help), "log_evidence"
    (ln p of the whitened y, low by what is truncated: two runs that disagree by a nat are suspect), "ess_fraction" (least effective ess of an
    increment; a single outlier makes it small, which truncation mends), "levels".
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    particles: int = 512
    ratio: float = 0.8
    flat_ratio: float = 0.6
    s_max: float | None = None
    s_min: float = 0.02
    resample: float = 0.5
    vjp_budget: int = 2048
    truncate: bool = True

    _FEWEST = 32  # representatives
    _ROWS = 1024  # of a measurement whose m x m matrices are still handled outright

    def __post_init__(self) -> None:
        s_max = math.inf if self.s_max is None else self.s_max
        if not (
            0 < self.flat_ratio <= self.ratio < 1
            and 0 < self.s_min < s_max
            and 0 <= self.resample <= 1
        ):
            raise ValueError(
                f"needed: 0 < flat_ratio <= ratio < 1, 0 < s_min < s_max and resample in [0, 1], got {self}"
            )
        if self.particles < 2 or self.vjp_budget < 1:
            raise ValueError(f"at least 2 particles and 1 product are needed, got {self}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "predicted-twist": Preset(
                "SMC, near exact; for small pictures and measurements of at most 1024 numbers; steps are about its levels",
                lambda steps: cls(
                    ratio=0.8 ** (30 / steps), flat_ratio=0.6 ** (30 / steps), s_max=20.0
                ),
                steps=30,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"predicted-twist": cls()}

    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        denoise, problem, y, n = run.denoise, run.problem, run.y, run.n
        A, y_white = whitened(problem, denoise.shape, y, self._ROWS)
        (m, size), AAt = A.shape, A @ A.T
        many, few = max(2 * n, self.particles), max(n, self.particles // 2)

        s_max = denoise.s_max if self.s_max is None else min(self.s_max, denoise.s_max)
        s, levels, pace = s_max, 0, _Pace()
        z = run.randn(many, size)
        at = denoise.at(torch.zeros_like(z), s)
        u = at.D + s * (z + at.vjp(z) / 2)  # N(D(0), s^2 + V), to first order in V / s^2
        log_w, ancestors, predicted = (
            torch.zeros(many, dtype=A.dtype, device=A.device),
            torch.arange(many),
            None,
        )
        ess, evidence = 1.0, 0.0
        while s > 0:
            levels += 1
            at = denoise.at(u, s)
            twist = self._twist(denoise, A, y_white, u, at, s, log_w, run.generator)
            log_psi = twist.log_density()
            inc = self._truncated(log_psi if predicted is None else log_psi - predicted)
            evidence += float(torch.logsumexp(log_w + inc, 0) - torch.logsumexp(log_w, 0))
            log_w, step_share = log_w + inc, ess_fraction(inc)
            ess = min(ess, step_share)
            shrink = pace.settled(step_share, twist.information()) and len(u) > few
            if shrink or ess_fraction(log_w) < self.resample:
                chosen = systematic(log_w, few if shrink else len(u), run.generator)
                u, twist, ancestors, log_w = (
                    u[chosen],
                    twist[chosen],
                    ancestors[chosen.cpu()],
                    torch.zeros_like(log_w[chosen]),
                )
                at = denoise.at(u, s)
            s_next = s * self._ratio(step_share) if s > self.s_min else 0.0
            rho = (s_next / s) ** 2
            ahead = twist.lookahead(AAt, rho)
            z = ahead.condition(run.randn(len(u), size), run.randn(len(u), m))
            predicted = ahead.log_density(z)
            noise = math.sqrt(rho) * z + (1 - math.sqrt(rho)) * at.vjp(z)
            u, s = (1 - rho) * at.D + rho * u + s * math.sqrt(1 - rho) * noise, s_next
            run.progress(
                1 - max(math.log(max(s, self.s_min) / self.s_min), 0) / math.log(s_max / self.s_min)
            )
        assert predicted is not None
        inc = -0.5 * (y_white - u @ A.T).square().sum(1) - predicted
        evidence += float(
            torch.logsumexp(log_w + inc, 0) - torch.logsumexp(log_w, 0)
        ) - 0.5 * m * math.log(2 * math.pi)
        chosen = systematic(log_w + inc, n, run.generator)
        living = len(ancestors[chosen.cpu()].unique())
        return u[chosen], {
            "ess_fraction": min(ess, ess_fraction(inc)),
            "ancestors": living,
            "levels": levels,
            "log_evidence": evidence,
        }

    def _twist(
        self,
        denoise: Denoiser,
        A: Tensor,
        y: Tensor,
        u: Tensor,
        at: EvaluatedBatch,
        s: float,
        log_w: Tensor,
        generator: torch.Generator,
    ) -> Twist:
        """The products J A^T of every particle, or of representatives, each particle using those of the one nearest in D."""
        representatives = max(self.vjp_budget // len(A), self._FEWEST)
        if len(A) <= 4:
            G, of = (
                torch.stack([at.vjp(a.expand(len(u), -1)) for a in A], -1),
                torch.arange(len(u), device=u.device),
            )
        else:
            chosen = systematic(log_w, min(representatives, len(u)), generator).unique()
            G, of = (
                denoise.jacobian_rows(u[chosen], s, A),
                torch.cdist(at.D, at.D[chosen]).argmin(1),
            )
        return Twist.at(s, y - at.D @ A.T, G, of, A)

    def _ratio(self, ess: float) -> float:
        """s'/s: ``ratio`` where the last step's effective ess was .9 or less, ``flat_ratio`` where it was 1."""
        return self.flat_ratio + (self.ratio - self.flat_ratio) * min(1.0, 10 * (1 - ess))

    def _truncated(self, inc: Tensor) -> Tensor:
        return (
            inc.minimum(torch.logsumexp(inc, 0) - math.log(len(inc)) / 2) if self.truncate else inc
        )


class _Pace:
    """Tells when the population may shrink: the weights are flat, and not because nothing has been learnt yet."""

    def __init__(self) -> None:
        self.rough, self.calm, self.whole = False, 0, 0.0

    def settled(self, ess: float, information: float) -> bool:
        """After a step of this effective ess, with so many nats left: two flat steps, after rough ones or with half of y told."""
        self.whole = self.whole or information
        self.rough, self.calm = self.rough or ess < 0.97, self.calm + 1 if ess > 0.985 else 0
        return self.calm >= 2 and (self.rough or information < self.whole / 2)
