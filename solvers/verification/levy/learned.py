"""Solvers with learned denoisers of Lévy processes, against Gibbs chains.

With the exact denoiser, what a solver gets wrong is its own. Here the denoiser is a small network,
as in every use, and a solver has to live with a Jacobian that is no covariance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from problems.checks import check_choice, check_number
from scoresde.priors.base import Prior
from scoresde.priors.checkpoint import load_prior
from solvers.registry import SOLVERS, make_solver
from solvers.verification.levy.problems import MEASUREMENTS, levy_problem
from solvers.verification.levy.scores import score

__all__ = ["LEARNED", "QUICK_SOLVERS", "LearnedSettings", "learned_prior", "learned_table"]

LEARNED: dict[str, str] = {
    "laplace": "Laplace",
    "student": "Student's t with 3 degrees of freedom",
    "bernoulli-laplace": "Bernoulli-Laplace, 10 % jumps",
}
"""Laws of increments with an embedded network, and what they are called."""

QUICK_SOLVERS = ("warm-start", "mmps", "second-order", "diffpir", "ddrm")
"""Solvers of a table that is done in a minute or two, the default one first."""


@dataclass(frozen=True)
class LearnedSettings:
    """Sizes of the comparison.

    Args:
        measurements: Signals of each law, each measured by each operator, at least 1.
        draws: Draws of a solver for each measurement, at least 19.
        sweeps: Draws of each of two Gibbs chains, at least as many as the solver's; a quarter as
            many come before.
        decibels: Mean power of A x over that of the noise, in dB.
        seed: Seed of signals, noise and draws.

    Raises:
        ValueError: If a number is out of its range.
    """

    measurements: int = 2
    draws: int = 50
    sweeps: int = 1000
    decibels: float = 25.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_number(self.measurements, "the number of measurements", least=1, whole=True)
        check_number(self.draws, "the number of draws", least=19, whole=True)
        check_number(self.sweeps, "the number of sweeps", least=self.draws, whole=True)
        check_number(self.decibels, "the signal-to-noise ratio in dB")


def learned_prior(law: str) -> Prior:
    """Load the network of a law.

    Args:
        law: Name of `LEARNED`.

    Returns:
        Prior of signals (1, 64) of RMS 0.5, in float32.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> learned_prior("laplace").shape
        (1, 64)
    """
    check_choice("law of increments with a network", law, LEARNED)
    return load_prior(f"levy/{law}", precision="fp32")


def learned_table(
    laws: Sequence[str],
    measurements: Sequence[str],
    solvers: Sequence[str],
    settings: LearnedSettings | None = None,
) -> Iterator[dict[str, Any]]:
    """Compute the rows of the table, one for each law, measurement and solver.

    Args:
        laws: Names of `LEARNED`.
        measurements: Names of `MEASUREMENTS`.
        solvers: Names of `SOLVERS`.
        settings: Sizes of the comparison; None for the default ones.

    Yields:
        One row after another: "law", "problem", "solver", "r_hat", the largest of the Gibbs chains,
        and the fields of a `LevyScore`. If the solver cannot solve the problem, the row has
        "refused" with the reason in place of the scores.

    Raises:
        ValueError: If a name is unknown.

    Example:
        >>> small = LearnedSettings(measurements=1, draws=20, sweeps=40)
        >>> (row,) = learned_table(["laplace"], ["identity"], ["ddrm"], small)
        >>> row["solver"], row["nfe"]
        ('ddrm', 20.0)
    """
    settings = settings or LearnedSettings()
    for what, names, known in (
        ("law of increments with a network", laws, LEARNED),
        ("measurement", measurements, MEASUREMENTS),
        ("solver", solvers, SOLVERS),
    ):
        for name in names:
            check_choice(what, name, known)
    for law in laws:
        prior = learned_prior(law)
        for problem in measurements:
            case = levy_problem(law, problem, decibels=settings.decibels)
            generator = torch.Generator().manual_seed(settings.seed)
            _, y = case.pairs(settings.measurements, generator)
            burn_in = settings.sweeps // 4
            exact = case.posterior(y, settings.sweeps, generator, burn_in=burn_in)
            r_hat = float(exact.r_hat.max())
            for name in solvers:
                row = {"law": law, "problem": problem, "solver": name, "r_hat": r_hat}
                try:
                    found = score(
                        make_solver(name),
                        case,
                        y,
                        exact,
                        draws=settings.draws,
                        seed=settings.seed,
                        prior=prior,
                    )
                except ValueError as error:
                    yield row | {"refused": str(error)}
                else:
                    yield row | asdict(found)
