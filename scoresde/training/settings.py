"""Settings of a run and of its state: which may differ, and what older states lack."""

from collections.abc import Iterable
from typing import Any

__all__ = ["changed_settings", "flattened"]

_ADDED: dict[str, Any] = {
    "accumulate": 1,
    "cooldown": 1.0,
    "dimensions": 2,
    "kind": "UNet",
    "preactivation": True,
    "snapshot_every": None,
    "weighting": "edm",
}
"""Settings that older states lack, and what they were then."""

_REMOVED: dict[str, Any] = {"mismatch": 0.0}
"""Settings that newer runs lack, and what they are now."""

_FREE = ("accumulate", "shape", "snapshot_every")
"""Settings that change a run by rounding at most, and the shape, which follows from the data."""


def flattened(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name the entries of nested settings by their paths.

    Args:
        settings: Nested dictionaries of plain values.
        prefix: Start of the names.

    Returns:
        The values by dotted names.

    Example:
        >>> flattened({"steps": 3, "network": {"patch": 2}})
        {'steps': 3, 'network.patch': 2}
    """
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= {f"{prefix}{name}": value} if inner is None else inner
    return flat


def changed_settings(
    old: dict[str, Any], new: dict[str, Any], free: Iterable[str] = ()
) -> list[str]:
    """Describe the settings in which two runs differ.

    Args:
        old: Settings of a state, nested. What was added since counts as its default.
        new: Settings of a run, nested.
        free: Names of further settings that may differ.

    Returns:
        One text for each difference that matters.

    Example:
        >>> changed_settings({"seed": 0}, {"seed": 1, "cooldown": 1.0})
        ['seed was 0, now 1']
    """
    left, right = flattened(old), flattened(new)
    ignored, described = (*_FREE, *free), []
    for name in {**left, **right}:
        last = name.rpartition(".")[2]
        before, now = left.get(name, _ADDED.get(last)), right.get(name, _REMOVED.get(last))
        # "model.steps" of a flow are not steps of the loop
        of_the_loop = name.removeprefix("loop.") == last
        if before != now and not (of_the_loop and last in ignored):
            described.append(f"{name} was {before}, now {now}")
    return described
