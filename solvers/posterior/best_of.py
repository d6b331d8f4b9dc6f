"""Several runs of a solver for each draw, of which the one that explains y best is kept.

A nonlinear measurement has wrong images from which no small step leads to a better one, and a
solver may end in any of them. Their residuals :math:`|y - A(x)|` are larger than what noise makes,
so that they can be told from solutions without a truth, as Zhang et al. (2025) do for phase
retrieval with four runs.

To keep the smallest residual favours images that fit the noise, too: the draws that are kept are
not draws of the posterior, even if the solver's are.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from problems.checks import check_number
from scoresde.priors.base import Prior
from solvers.capabilities import Exactness
from solvers.posterior.base import PosteriorSampler
from solvers.posterior.point import PointEstimator
from solvers.posterior.records import Draws, Request
from solvers.posterior.trust import SolverWarning, chance_limit, observed, residual_sizes

__all__ = ["BestOf"]

_FAR = 1.25  # residuals beyond chance that approximate solvers with a good prior stay below


@dataclass(frozen=True)
class BestOf(PosteriorSampler):
    """The best of several runs of a solver, by the residual.

    ``Posterior.diagnostics`` says "starts", the number of runs for each draw; "start_residuals",
    the root mean square of y - A(x) of each run in units of the noise, a list for each draw;
    "residual", the largest one that was kept; and, if the measurement leaves something open for
    every image, "ambiguities", its names. The draws that are kept are then turned like the best of
    them.

    Args:
        solver: Solver whose draws are independent of each other.
        starts: Number of its runs for each draw, at least 1.

    Raises:
        ValueError: If starts is below 1, or the solver gives point estimates without random
            numbers.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import DAPS
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> solver, g = BestOf(DAPS(steps=5, ode=2), starts=3), torch.Generator().manual_seed(0)
        >>> posterior = solver.sample(prior, problem, torch.ones(1, 1, 2, 2), n=2, generator=g)
        >>> runs = posterior.diagnostics["start_residuals"][0]
        >>> len(runs), len(runs[0])
        (2, 3)
        >>> max(map(min, runs)) == posterior.diagnostics["residual"][0]
        True
    """

    exactness: ClassVar[Exactness] = "heuristic"

    solver: PosteriorSampler
    starts: int = 4

    def __post_init__(self) -> None:
        check_number(self.starts, "the number of starts", least=1, whole=True)
        if isinstance(self.solver, PointEstimator):
            raise ValueError(
                f"{type(self.solver).__name__} gives the same estimate from every start; choose a "
                "solver that draws"
            )

    @property
    def requires(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities that a problem must have: those of the solver, and noise with a variance."""
        return self.solver.requires | {"noise_covariance"}

    def _sample(self, prior: Prior, request: Request) -> Draws:
        problem, size, starts = request.problem, len(request.y), self.starts
        inner = replace(request, n=request.n * starts, arrived=None, out=None)
        with warnings.catch_warnings():
            # of the runs that are dropped; the ones that are kept are judged below
            warnings.simplefilter("ignore", SolverWarning)
            found = self.solver.independently()._sample(prior, inner)
        n = len(found.x) // starts  # fewer than were asked for if the drawing was ended
        x = found.x[: n * starts]
        y = request.y.to(device=x.device, dtype=x.dtype)
        residuals = residual_sizes(problem, y, x).nan_to_num(torch.inf).reshape(n, starts, size)
        x = x.reshape(n, starts, *found.x.shape[1:])
        index = residuals.argmin(1)[:, None]
        kept = residuals.gather(1, index)[:, 0]
        x = x.gather(1, index.reshape(n, 1, size, *[1] * (x.ndim - 3)).expand(-1, -1, *x.shape[2:]))
        x = x[:, 0]
        diagnostics: dict[str, Any] = {
            name: value for name, value in found.diagnostics.items() if name != "residual"
        }
        diagnostics |= {
            "starts": [starts] * size,
            "start_residuals": residuals.permute(2, 0, 1).tolist(),
            "residual": kept.amax(0).tolist(),
        }
        align = getattr(problem.operator, "align", None)
        if align is not None:
            first = kept.argmin(0).reshape(1, size, *[1] * (x.ndim - 2)).expand(1, *x.shape[1:])
            x = cast(Callable[[Tensor, Tensor], Tensor], align)(x, x.gather(0, first))
            diagnostics["ambiguities"] = [list(problem.operator.ambiguities)] * size
        self._warn(kept, observed(problem, y))
        if request.arrived is not None:
            request.arrived(x.flatten(0, 1))
        return Draws(x, found.nfe * starts, found.vjps * starts, diagnostics)

    def _warn(self, kept: Tensor, m: Tensor) -> None:
        """Warn if the best residual of a draw is far from its law, (n, B)."""
        bad = kept > _FAR * chance_limit(m).sqrt()
        if bool(bad.any()):
            warnings.warn(
                f"no run explains the measurement for {int(bad.sum())} of {kept.numel()} draws: "
                f"the smallest of {self.starts} residuals is up to {kept.max().item():.3g} times "
                "the noise, where a solution has about 1; ask for more --starts, more steps or "
                "another solver, or check the noise level and the settings of the problem",
                SolverWarning,
                stacklevel=4,
            )
