"""What a solver needs of a problem, asked for by name before any work is done."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from problems import GaussianNoise, InverseProblem
from solvers.presets import presets

__all__ = ["Exactness", "check_capabilities"]

Exactness = Literal["asymptotic", "gaussian", "heuristic"]
"""What a solver's draws become with enough steps and a perfect prior: the posterior for any prior ("asymptotic"), for Gaussian
priors ("gaussian"), or something else ("heuristic")."""


class _Solver(Protocol):
    @property
    def requires(self) -> frozenset[str]: ...


def check_capabilities(solver: _Solver, problem: InverseProblem) -> None:
    """ValueError that names what the problem lacks and who can do without."""
    name = type(
        getattr(solver, "guidance", solver)
    ).__name__  # of a guided sampler its guidance decides
    missing = solver.requires - problem.capabilities
    if missing:
        able = [
            other for other, preset in presets().items() if preset.requires <= problem.capabilities
        ]
        raise ValueError(
            f"{name} needs a problem with {', '.join(sorted(missing))}; solvers that can do this one: {', '.join(able) or 'none'}"
        )
    if (
        isinstance(problem.noise, GaussianNoise)
        and not isinstance(problem.noise.std, Tensor)
        and problem.noise.std == 0
    ):
        raise ValueError(
            f"{name} needs a noise level above 0; use a small one for clean measurements"
        )
