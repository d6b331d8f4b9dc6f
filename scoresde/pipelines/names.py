"""The names of all registries, for messages and for the completion of a shell.

``python -m scoresde.pipelines.names`` writes `scoresde/cli/names.json`, after a name was added.
"""

from pathlib import Path
from typing import get_args

from problems.operators.convolution import BOUNDARIES
from problems.operators.super_resolution import FILTERS
from scoresde.families.comparison.families import FAMILIES
from scoresde.files import write_json
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.priors.averaged import GROUPS
from scoresde.priors.export import FORMATS as EXPORTS
from scoresde.priors.score import Precision
from scoresde.training import RECIPES
from scoresde.training.objective import WEIGHTINGS
from solvers import EFFORTS, SAMPLERS, SOLVERS
from solvers.likelihood.settings import Divergence
from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, VERIFIED
from solvers.verification.levy import LEARNED, MEASUREMENTS

__all__ = ["FORMAT", "registered_names", "write_names"]

FORMAT = "scoresde.names/1"
"""Format of names.json."""


def registered_names() -> dict[str, list[str]]:
    """List the names of each registry.

    Returns:
        Names by the kind of thing, in the order of the registry.

    Example:
        >>> registered_names()["efforts"]
        ['instant', 'quick', 'normal', 'thorough']
    """
    settings = {f"settings of {name}": list(entry.settings) for name, entry in PROBLEMS.items()}
    every = dict.fromkeys(name for names in settings.values() for name in names)
    return {
        "problems": list(PROBLEMS),
        "solvers": list(SOLVERS),
        "samplers": list(SAMPLERS),
        "efforts": list(EFFORTS),
        "averages": list(GROUPS),
        "recipes": list(RECIPES),
        "exports": list(EXPORTS),
        "families": list(FAMILIES),
        "weightings": list(WEIGHTINGS),
        "boundaries": list(BOUNDARIES),
        "filters": list(FILTERS),
        "precisions": list(get_args(Precision)),
        "divergences": list(get_args(Divergence)),
        "verified solvers": list(VERIFIED),
        "exact problems": [*EXACT_PROBLEMS, *FULL_PROBLEMS],
        "laws": list(LEARNED),
        "measurements": list(MEASUREMENTS),
        "settings": list(every),
        **{kind: names for kind, names in settings.items() if names},
    }


def write_names(path: Path) -> None:
    """Write the names for the completion of a shell.

    Args:
        path: Path of names.json.
    """
    write_json({"format": FORMAT, "names": registered_names()}, path)


if __name__ == "__main__":
    write_names(Path(__file__).parents[1] / "cli" / "names.json")
