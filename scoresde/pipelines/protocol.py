"""How pictures are measured and restored, as plain values: what a calibration depends on.

Files count by their content, not by their names; random masks by their distribution, not by their
pixels.
"""

from pathlib import Path
from typing import Any

from problems import Noise
from scoresde.errors import InputError
from scoresde.pipelines.content_hash import content_hash
from scoresde.pipelines.named_problems import PROBLEMS, is_described
from scoresde.pipelines.parsing import settings
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.priors.checkpoint import embedded_priors
from solvers.registry import SOLVERS

__all__ = ["check_same", "protocol"]


def protocol(
    problem: ProblemOptions,
    noise: Noise,
    restore: RestoreOptions,
    description: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect what decides the distribution of an interval, except picture, size and seed.

    Args:
        problem: How pictures are measured.
        noise: Noise of the measurements.
        restore: How they are restored.
        description: The problem in plain values, where the picture at hand decides some of them,
            as the tables of a JPEG file.

    Returns:
        Plain values by name.

    Raises:
        InputError: If a file cannot be read.
    """
    entry = SOLVERS[restore.solver]
    described = noise.describe()
    described = {"sigma" if key == "std" else key: value for key, value in described.items()}
    prior_file = embedded_priors().get(restore.prior, Path(restore.prior))
    own = _problem(problem)
    own.update({name: value for name, value in (description or {}).items() if name in own})
    return {
        **own,
        **described,
        "prior": restore.prior,
        "prior_file": _digest(prior_file),
        "average": restore.average,
        "solver": restore.solver,
        "sampler": entry.sampler if restore.sampler is None else restore.sampler,
        "steps": entry.steps if restore.steps is None else restore.steps,
        "samples": restore.samples,
        **({"starts": restore.starts} if restore.starts != 1 else {}),
    }


def _problem(options: ProblemOptions) -> dict[str, Any]:
    if is_described(options.problem):
        return {"problem": _digest(Path(options.problem))}
    entry = PROBLEMS[options.problem]
    given = {name: options.value(name) for name in entry.uses}
    given = {name: value for name, value in given.items() if value not in (None, False)}
    chosen = settings(options.set, entry.settings, options.problem)
    chosen.pop("size", None)  # of the picture: only measurements that do not show it need it
    digests = {k: _digest(v) if isinstance(v, Path) else v for k, v in given.items()}
    return {"problem": options.problem, **digests, **chosen}


def _digest(path: Path) -> str:
    """Enough of the SHA-256 of a file or folder to tell it from any other."""
    try:
        return f"sha256:{content_hash(path)[:16]}"
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def check_same(made: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a calibration was made for this protocol.

    Args:
        made: Protocol of the calibration.
        now: Protocol of the restoration.

    Raises:
        InputError: If they differ; the message names every difference.
    """
    both = {**made, **now}
    names = [name for name in both if name != "prior" and made.get(name) != now.get(name)]
    if not names:
        return
    if made.get("prior") != now.get("prior"):  # the names say more than digests
        names = ["prior" if name == "prior_file" else name for name in names]
    differences = "; ".join(f"{name} {_say(made, name)}, here {_say(now, name)}" for name in names)
    raise InputError(
        f"the calibration was made for another procedure: {differences}; restore in the same way, "
        "or calibrate this one"
    )


def _say(values: dict[str, Any], name: str) -> str:
    return str(values[name]) if values.get(name) is not None else "none"
