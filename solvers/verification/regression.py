"""A small table that is kept, so that no row of the large one gets worse unseen.

Each row holds mean and standard deviation of a few measures over ``SEEDS`` generator seeds of the solver, on one measurement. A new run,
with yet another seed, is worse where a measure's error exceeds the kept one's by more than ``DEVIATIONS`` standard deviations. Of five
values a standard deviation is known to a third only, hence the floor below which it is not believed: a share of the value, and what as many
exact draws would scatter.
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
CAP = 100.0  # whatever is further off has diverged


def default_draws(problem: str) -> int:
    """Few, for the test recomputes all rows; fewer where a draw is slow."""
    return {"gaussian-white": 100, "gaussian": 100, "blur": 30, "grid-80": 24}.get(problem, 50)


def measure(
    solver: PosteriorSampler, problem: str, draws: int, seed: int = NEW_SEED
) -> dict[str, float]:
    """The measures of one run; NaN only where A sees everything and nothing is "unseen"."""
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
    """The row to keep: for each measure [mean, standard deviation]. ValueError where the solver cannot do the problem."""
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
    """What of ``new`` is worse than the kept row, in words; empty if nothing is."""
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
