"""How pictures are measured and restored, as plain values: what a calibration holds for, and nothing else.

Files count by what is in them, not by their names; random masks by their law, not by their pixels.
"""

import hashlib
from pathlib import Path
from typing import Any

from problems import Noise
from scoresde.errors import InputError
from scoresde.pipelines.named_problems import PROBLEMS, ProblemOptions
from scoresde.pipelines.parsing import settings
from scoresde.priors.checkpoint import embedded_priors
from solvers.registry import SOLVERS

__all__ = ["check_same", "procedure"]


def procedure(
    damage: ProblemOptions,
    noise: Noise,
    *,
    prior: str,
    average: str | None,
    solver: str,
    sampler: str | None,
    steps: int | None,
    samples: int,
) -> dict[str, Any]:
    """Everything that shapes the law of an interval but the picture itself, its size and the seed."""
    entry = SOLVERS[solver]
    described = {"sigma" if key == "std" else key: value for key, value in noise.describe().items()}
    return {
        **_wanted(damage), **described, "prior": prior, "prior_file": _digest(embedded_priors().get(prior, Path(prior))),
        "average": average, "solver": solver, "sampler": sampler or entry.sampler, "steps": steps or entry.steps, "samples": samples,
    }  # fmt: skip


def _wanted(damage: ProblemOptions) -> dict[str, Any]:
    if damage.problem.endswith(".json"):
        return {"problem": _digest(Path(damage.problem))}
    entry = PROBLEMS[damage.problem]
    given = {
        name: getattr(damage, name) for name in entry.uses if getattr(damage, name) is not None
    }
    chosen = settings(damage.set, entry.settings, damage.problem)
    chosen.pop("size", None)  # of the picture, which only a measurement that does not show it needs
    return {
        "problem": damage.problem,
        **{k: _digest(v) if isinstance(v, Path) else v for k, v in given.items()},
        **chosen,
    }


def _digest(path: Path) -> str:
    """Of the bytes of a file: enough of its SHA-256 to tell it from any other."""
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def check_same(made: dict[str, Any], now: dict[str, Any]) -> None:
    """InputError that names every difference: a calibration holds for the procedure that it was made for and for no other."""
    names = [
        name for name in {**made, **now} if name != "prior" and made.get(name) != now.get(name)
    ]
    if not names:
        return
    if made.get("prior") != now.get("prior"):  # the names say more than digests
        names = ["prior" if name == "prior_file" else name for name in names]
    differences = "; ".join(f"{name} {_say(made, name)}, here {_say(now, name)}" for name in names)
    raise InputError(
        f"the calibration was made for another procedure: {differences}; restore in the same way, or calibrate this one"
    )


def _say(values: dict[str, Any], name: str) -> str:
    return str(values[name]) if values.get(name) is not None else "none"
