"""A small table of results that no later change may make worse.

Each row has the mean and standard deviation of a few measures over ``SEEDS`` generator seeds of the
solver, on one measurement. A new run, with another seed, is worse where the error of a measure
exceeds the kept one by more than ``DEVIATIONS`` standard deviations. Five values determine a
standard deviation only to within a third, so it has a floor: a share of the value, and the scatter
of as many exact draws.
"""

import math
from typing import Any

import torch

from solvers.posterior import PosteriorSampler
from solvers.verification.metrics import evaluate
from solvers.verification.reference import reference

__all__ = ["MEASURES", "default_draws", "measure", "reference_row", "worse"]

MEASURES = ("distance", "mean", "seen", "unseen")
SEEDS = 5
NEW_SEED = 99
DEVIATIONS = 5.0
RELATIVE = 0.05
CAP = 100.0  # larger values have diverged


def default_draws(problem: str) -> int:
    """Few draws, because the test recomputes all rows; fewer still where a draw is slow."""
    return {"gaussian-white": 100, "gaussian": 100, "blur": 30, "grid-80": 24}.get(problem, 50)


def measure(
    solver: PosteriorSampler, problem: str, draws: int, seed: int = NEW_SEED
) -> dict[str, float]:
    """The measures of one run.

    "unseen" is NaN if the operator measures everything; nothing else is NaN.
    """
    given = reference(problem, draws, 0)
    found = evaluate(solver, given, draws, seed)
    return {
        key: found[key] if key == "unseen" and _all_seen(found) else _capped(found[key])
        for key in MEASURES
    }


def _all_seen(found: dict[str, float]) -> bool:
    return math.isnan(found["unseen"]) and not math.isnan(found["seen"])


def _capped(value: float) -> float:
    return min(value, CAP) if math.isfinite(value) else CAP


def reference_row(solver: PosteriorSampler, name: str, problem: str) -> dict[str, Any]:
    """The row to keep, with [mean, standard deviation] for each measure.

    Raises ValueError if the solver cannot do the problem.
    """
    draws = default_draws(problem)
    runs = [measure(solver, problem, draws, seed) for seed in range(SEEDS)]
    row: dict[str, Any] = {"problem": problem, "solver": name, "draws": draws}
    for key in MEASURES:
        values = torch.tensor([run[key] for run in runs], dtype=torch.float64)
        row[key] = (
            None
            if bool(values.isnan().any())
            else [float(f"{value:.4g}") for value in (values.mean(), values.std())]
        )
    return row


def worse(row: dict[str, Any], new: dict[str, float]) -> list[str]:
    """Describe each measure of ``new`` that is worse than the kept row; empty if none is."""
    chance = {
        "distance": 0.1,
        "mean": 0.3 / row["draws"] ** 0.5,
        "seen": 0.5 / row["draws"] ** 0.5,
        "unseen": 0.5 / row["draws"] ** 0.5,
    }
    found = []
    for key in MEASURES:
        if row[key] is None:
            continue
        value, deviation = row[key]
        allowed = DEVIATIONS * max(deviation, RELATIVE * value, chance[key])
        target = 1.0 if key in ("seen", "unseen") else 0.0
        if abs(new[key] - target) > abs(value - target) + allowed:
            found.append(
                f"{key} was {value:.4g} (standard deviation {deviation:.2g}), is {new[key]:.4g}"
            )
    return found
