"""Names for the completion of a shell, without the imports that define them.

The registries import torch, which takes longer than a user waits at a key press. So their names are
also in `names.json`, which ``python -m scoresde.pipelines.names`` writes; a test holds the two
together.
"""

import json
from collections.abc import Callable
from pathlib import Path

import typer

__all__ = ["NAMES", "completed", "completed_list", "setting_names", "stored_names"]

NAMES = Path(__file__).with_name("names.json")
"""The names of each registry."""

_WEIGHTS = Path(__file__).parents[1] / "weights"
_FORMAT = "scoresde.names/1"


def stored_names(kind: str) -> list[str]:
    """Read the names of a registry.

    Args:
        kind: Key of names.json, such as "solvers"; "priors" for the weights of the package.

    Returns:
        The names; none if the file is missing, since a completion has no place for an error.

    Example:
        >>> "warm-start" in stored_names("solvers"), "natural" in stored_names("priors")
        (True, True)
    """
    if kind == "priors":
        return sorted(path.stem for path in _WEIGHTS.glob("*.safetensors"))
    names = _read().get(kind, [])
    return list(names)


def _read() -> dict[str, list[str]]:
    try:
        content = json.loads(NAMES.read_text())
    except (OSError, ValueError):
        return {}
    return content["names"] if content.get("format") == _FORMAT else {}


def completed(*kinds: str) -> Callable[[str], list[str]]:
    """Make the completion of an option that takes a name.

    Args:
        *kinds: Keys of names.json.

    Returns:
        A function of the start of a name, for ``typer.Option(autocompletion=...)``.

    Example:
        >>> completed("efforts")("q")
        ['quick']
    """

    def complete(incomplete: str) -> list[str]:
        names = dict.fromkeys(name for kind in kinds for name in stored_names(kind))
        return [name for name in names if name.startswith(incomplete)]

    return complete


def completed_list(kind: str) -> Callable[[str], list[str]]:
    """Make the completion of an option that takes names separated by commas.

    Args:
        kind: Key of names.json.

    Returns:
        A function of what was typed so far, of which it completes the last name.

    Example:
        >>> completed_list("families")("gan,v")
        ['gan,vae']
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        rest = [name for name in completed(kind)(last) if name not in before.split(",")]
        return [before + comma + name for name in rest]

    return complete


def setting_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete NAME= of `--set` by the settings of the problem that was typed before.

    Args:
        ctx: What was parsed so far.
        incomplete: Start of the setting.

    Returns:
        Settings, each with "="; those of all problems if there is none yet.
    """
    problem = ctx.params.get("problem")
    kind = f"settings of {problem}" if problem else "settings"
    return [f"{name}=" for name in stored_names(kind) if f"{name}=".startswith(incomplete)]
