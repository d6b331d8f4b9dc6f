r"""Annealed Gauss-Newton steps from a classical estimate, for measurements far from linear.

The noise level s falls from one at which only the details of a first estimate are in doubt. At each
level

.. math:: \hat x_0 = D(u),\qquad
          x = \arg\min_x -2\ln p(y|x) + |x - \hat x_0|^2/(c\,s)^2,\qquad
          u = x + s'\,n,

with fresh noise n of the next level s', as in DAPS (Zhang et al. 2025), whose draw of x_0 given y
is replaced by its mode, and the many small steps to it by a few damped Gauss-Newton steps
(:func:`solvers.posterior.levenberg.marquardt_step`). The last :math:`\hat x_0` is the answer. Its
spread over draws is that of the solutions that are found, not of the posterior.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from problems.checks import check_choice, check_number
from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.levenberg import marquardt_step
from solvers.posterior.records import Run
from solvers.posterior.starts import first_estimate, likely_placement
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid
from solvers.scale import OfData

__all__ = ["AnnealedGaussNewton"]


@dataclass(frozen=True)
class AnnealedGaussNewton(IndependentSampler):
    r"""Denoise, fit the measurement by Gauss-Newton steps, and add the noise of the next level.

    The cost is one network evaluation for each step, and for phase retrieval 22 more, for two
    decisions about the place of the picture in its frame.

    Args:
        steps: Number of noise levels.
        iterations: Gauss-Newton steps at each level.
        products: Conjugate gradients of each Gauss-Newton step.
        coupling: Standard deviation of x_0 around its denoised estimate, in noise levels s. The
            smaller it is, the more the prior counts.
        start: "estimate": an estimate from y alone, by the hybrid input-output algorithm (Fienup
            1982) for phase retrieval, otherwise the smoothest image that explains y; "noise": pure
            noise, which needs a large first level and twice as many steps.
        tries: Runs of the hybrid input-output algorithm of which the best one is taken.
        grid: Noise levels.

    Raises:
        ValueError: If a number is not positive, or start is unknown.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = AnnealedGaussNewton(5).sample(prior, problem, y, n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 5)
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "noise_covariance"})

    steps: int = 40
    iterations: int = 2
    products: int = 4
    coupling: float = 2.0
    start: Literal["estimate", "noise"] = "estimate"
    tries: int = 8
    grid: TimeGrid = field(default_factory=lambda: TimeGrid(s_max=OfData(2.0), s_min=OfData(0.1)))

    def __post_init__(self) -> None:
        for name in ("steps", "iterations", "products", "tries"):
            check_number(getattr(self, name), name, least=1, whole=True)
        check_number(self.coupling, "coupling", above=0)
        check_choice("start", self.start, ("estimate", "noise"))

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "annealed-gauss-newton": Preset(
                "Gauss-Newton steps towards y between denoising steps, from a classical estimate; "
                "for measurements far from linear; 1 evaluation per step",
                lambda steps: cls(steps),
                steps=40,
            ),
            "annealed-gauss-newton-noise": Preset(
                "the same from pure noise, for objects in the dark, whose place is not known; "
                "1 evaluation per step",
                lambda steps: cls(
                    steps, start="noise", grid=TimeGrid(s_max=OfData(10.0), s_min=OfData(0.1))
                ),
                steps=80,
            ),
        }

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        times, levels = self.grid.along(run.prior, self.steps)
        u = levels[0] * run.randn()
        if self.start == "estimate":
            u = u + first_estimate(run, self.tries)
        x0_hat = u
        for t, s, s_next in zip(times, levels, levels[1:], strict=False):
            x0_hat = run.prior.denoise(run.prior.sde.alpha(t) * u, t)
            run.note(s, x0_hat)
            run.progress(1 - s_next / levels[0])
            if s_next > 0:
                variance = x0_hat.new_full((len(x0_hat),), (self.coupling * s) ** 2)
                x = marquardt_step(
                    run.problem, x0_hat, run.y, variance, self.iterations, self.products
                )
                u = x + s_next * run.randn()
        return likely_placement(run, x0_hat), 0
