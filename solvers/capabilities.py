"""The check that a problem has the capabilities that a solver requires, before any work is done."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from problems import GaussianNoise, InverseProblem
from solvers.presets import presets

__all__ = ["Exactness", "check_capabilities"]

Exactness = Literal["asymptotic", "gaussian", "heuristic", "estimate"]
"""Law of a solver's draws in the limit of many steps and a perfect prior.

"asymptotic": the posterior, for any prior; "gaussian": the posterior, for Gaussian priors;
"heuristic": some other law; "estimate": one image for each measurement, and no draws.
"""


class _Solver(Protocol):
    @property
    def requires(self) -> frozenset[str]: ...


def check_capabilities(solver: _Solver, problem: InverseProblem) -> None:
    """Check that a problem has the capabilities that a solver requires.

    Args:
        solver: Guidance or posterior sampler, with its ``requires``.
        problem: Operator and noise of the measurements.

    Raises:
        ValueError: If the problem lacks a capability, with the names of the solvers that can do
            without it, or if its Gaussian noise has level 0.
    """
    # the requirements of a guided sampler are those of its guidance
    name = type(getattr(solver, "guidance", solver)).__name__
    missing = solver.requires - problem.capabilities
    if missing:
        able = [
            other for other, preset in presets().items() if preset.requires <= problem.capabilities
        ]
        raise ValueError(
            f"{name} needs a problem with {', '.join(sorted(missing))}; "
            f"solvers that can do this one: {', '.join(able) or 'none'}"
        )
    if (
        isinstance(problem.noise, GaussianNoise)
        and not isinstance(problem.noise.std, Tensor)
        and problem.noise.std == 0
    ):
        raise ValueError(
            f"{name} needs a noise level above 0; use a small one for clean measurements"
        )
