r"""Split Gibbs sampling: PnP-DM (Wu et al. 2024), DPnP (Xu and Chi 2024).

The state has a copy z of x, coupled to it by :math:`N(z; x, \rho^2 I)`. Two conditional draws
alternate:

.. math:: z \sim p(y|z)\,N(z; x, \rho^2 I) \quad\text{(a Gaussian: prox and perturb)}, \qquad
          x \sim p_0(x)\,N(z; x, \rho^2 I) \quad\text{(the reverse SDE from noise } \rho).

For :math:`\rho \to 0` the law of x tends to the posterior, but the chain mixes more and more
slowly, so :math:`\rho` is lowered during the run. At a given :math:`\rho` the law of the chain is
the posterior of the measurement :math:`y = A(x + \rho n') + n`, which is too wide by :math:`\rho`.
The last :math:`\rho` is therefore bound to the width :math:`\sigma_y/\|A\|` with which y determines
x in its best direction: at a share f of it the noise of y counts as :math:`1 + f^2` times as large.

The second draw takes few ancestral steps, which omit the covariance of :math:`x_0` at each of them:
where the prior is wider than :math:`\rho`, three steps keep a tenth of its variance. With
``lanczos`` the steps have that covariance (:class:`SecondOrderAncestral`), and one is exact for a
Gaussian prior.

Where A is not linear or the noise not Gaussian, the first draw has no closed form. With
``likelihood`` "mala" it is replaced by Metropolis-adjusted Langevin steps from the last z
(:mod:`solvers.posterior.mala`), which leave the joint law of x and z as it is.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems.checks import check_choice
from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.mala import langevin_steps
from solvers.posterior.records import Run, ancestral_mean
from solvers.posterior.second_order import linearised_denoiser, square_root_product
from solvers.posterior.starts import first_estimate
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid
from solvers.scale import OfData, Scale

__all__ = ["SplitGibbs"]

_TRIES = 4  # of a classical estimate, where chains of Langevin steps start


@dataclass(frozen=True)
class SplitGibbs(IndependentSampler):
    r"""Split Gibbs sampling, for linear measurements with Gaussian noise, and for others by MALA.

    The cost is sweeps * inner network evaluations, and lanczos vector-Jacobian products for each.

    Args:
        sweeps: Number of sweeps of two draws each.
        rho_max: Coupling of the first sweep, a standard deviation in the units of x, as rho_min and
            s_min, or in standard deviations of the data (:class:`solvers.scale.OfData`).
        rho_min: Coupling of the last sweeps, if ``finest`` asks for no smaller one.
        anneal: Share of the sweeps in [0, 1] over which rho falls geometrically from rho_max to
            rho_min, where it stays.
        inner: Steps of the reverse SDE in each sweep.
        s_min: Smallest noise level of the reverse SDE, below rho_min; at most a third of the
            coupling at hand.
        grid: Spacing of the levels of the reverse SDE; only ``spacing`` and ``rho`` are used.
        finest: Largest coupling of the last sweeps in units of :math:`\sigma_y/\|A\|`; None for no
            such bound.
        lanczos: Products for the covariance of each step of the reverse SDE; 0 for ancestral steps,
            as published.
        likelihood: How z is drawn given y and x, "exact": by ``prox``; "mala": by Metropolis-
            adjusted Langevin steps, for any differentiable measurement, from an estimate by y.
        langevin: Number of these steps in each sweep.
        tau: Their size, in (0, 2), in units of the inverse curvature over the cube root of the
            number of entries of x, at which the share of the steps that are taken does not fall
            with that number (Roberts and Rosenthal 1998).

    Raises:
        ValueError: If sweeps, inner or langevin is below 1, anneal is not in [0, 1], lanczos is
            negative, finest is not positive, tau is not in (0, 2), likelihood is unknown, or
            0 < s_min < rho_min <= rho_max does not hold.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = SplitGibbs(sweeps=4, inner=3).sample(prior, problem, y, n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 12)
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    sweeps: int = 100
    rho_max: float = OfData(20.0)
    rho_min: float = OfData(0.16)
    anneal: float = 0.6
    inner: int = 10
    s_min: float = OfData(0.02)
    grid: TimeGrid = field(default_factory=lambda: TimeGrid("log_snr"))
    finest: float | None = 0.4
    lanczos: int = 0
    likelihood: Literal["exact", "mala"] = "exact"
    langevin: int = 20
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_choice("likelihood", self.likelihood, ("exact", "mala"))
        if self.langevin < 1 or not 0 < self.tau < 2:
            raise ValueError(
                f"SplitGibbs needs langevin >= 1 and tau in (0, 2), got {self.langevin} and "
                f"{self.tau}"
            )
        if (
            self.sweeps < 1
            or self.inner < 1
            or not 0 < self.s_min < self.rho_min <= self.rho_max
            or not 0 <= self.anneal <= 1
            or self.lanczos < 0
            or not (self.finest is None or self.finest > 0)
        ):
            raise ValueError(
                "SplitGibbs needs sweeps, inner >= 1, 0 < s_min < rho_min <= rho_max, anneal in "
                f"[0, 1], lanczos >= 0 and finest > 0, got {self}"
            )

    @property
    def requires(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities that a problem must have, which depend on ``likelihood``."""
        if self.likelihood == "mala":
            return frozenset({"vjp", "noise_covariance"})
        return frozenset({"linear", "adjoint", "solve", "gaussian_noise"})

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "split-gibbs": Preset(
                "alternates draws given y and given the prior (PnP-DM), for linear measurements; "
                "a step is a sweep of 1 evaluation and 2 VJPs",
                lambda steps: cls(steps, rho_max=OfData(4.0), inner=1, anneal=0.8, lanczos=2),
                steps=24,
            ),
            "split-gibbs-mala": Preset(
                "split Gibbs with Metropolis-adjusted Langevin steps, for any differentiable "
                "measurement; a step is a sweep of 1 evaluation and 2 VJPs",
                lambda steps: cls(
                    steps,
                    rho_max=OfData(0.6),
                    inner=1,
                    anneal=0.8,
                    lanczos=2,
                    likelihood="mala",
                    langevin=40,
                ),
                steps=60,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"split-gibbs": cls()}

    def rho(self, sweep: int) -> float:
        """Compute the coupling of a sweep.

        Args:
            sweep: Index of the sweep, from 0.

        Returns:
            Standard deviation rho of z given x.
        """
        fraction = min(1.0, sweep / max(1.0, self.anneal * (self.sweeps - 1)))
        rho: float = self.rho_max * (self.rho_min / self.rho_max) ** fraction
        return rho

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        if self.finest is not None:
            lowest = 1.01 * self.grid.levels(run.prior.sde, 2)[1]  # the SDE must reach below
            bound = max(self.finest * Scale(run.prior, run.problem, run.y).measured, lowest)
            rho_min = min(self.rho_min, bound)
            bounded = replace(self, rho_min=rho_min, s_min=min(self.s_min, rho_min / 3))
            return replace(bounded, finest=None)._draw(run)
        problem, y, products = run.problem, run.y, 0
        x = z = self.rho_max * run.randn()
        tau = self.tau / x[0].numel() ** (1 / 3)
        if self.likelihood == "mala":  # Langevin steps of this size do not get there from noise
            x = z = first_estimate(run, _TRIES)
        for sweep in range(self.sweeps):
            rho = self.rho(sweep)
            if self.likelihood == "mala":
                z, _ = langevin_steps(run, z, x, rho**2, self.langevin, tau)
            else:
                A = problem.linear_operator
                z = x + rho * run.randn()
                blurred = y + problem.noise_variance**0.5 * run.randn_like(y)
                z = A.prox(z, A.mask_unobserved(blurred), problem.noise_variance, rho**2)
            x, count = self._denoising_draw(run, z, rho)
            products += count
            run.progress((sweep + 1) / self.sweeps)
        return x, products

    def _denoising_draw(self, run: Run, z: Tensor, rho: float) -> tuple[Tensor, int]:
        """Draw x_0 given x_0 + rho n = z by steps from noise rho down to 0, and count the VJPs."""
        prior, sde, count = run.prior, run.prior.sde, 0
        grid = TimeGrid(self.grid.spacing, self.grid.rho, rho, self.s_min)
        times, levels = grid.along(prior, self.inner)
        levels[0], u = rho, z
        for t, s, s_next in zip(times, levels, levels[1:], strict=False):
            q = (s_next / s) ** 2
            if self.lanczos:
                at = linearised_denoiser(prior, u, t)
                D = at.value + s * square_root_product(at.vjp, run.randn(), self.lanczos)
                count += at.count
            else:
                D = prior.denoise(sde.alpha(t) * u, t)
            u = ancestral_mean(D, u, s, s_next)
            if s_next > 0:
                u = u + s_next * (1 - q) ** 0.5 * run.randn_like(u)
        return u, count
