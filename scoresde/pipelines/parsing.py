"""Parsing of option values."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

from scoresde.errors import InputError, as_input_error

__all__ = ["as_input_error", "numbers", "settings"]


def numbers(text: str, kind: type, option: str, form: str | None = None) -> tuple[Any, ...]:
    """Parse numbers separated by commas.

    Args:
        text: What the user wrote.
        kind: int or float.
        option: Name of the option, for the error.
        form: Names of the numbers, such as "LENGTH,ANGLE"; None for any number of them.

    Returns:
        The numbers.

    Raises:
        InputError: If the text has another form.

    Example:
        >>> numbers("5,30", float, "--motion", "LENGTH,ANGLE")
        (5.0, 30.0)
    """
    try:
        values = tuple(kind(part) for part in text.split(","))
        if not all(math.isfinite(value) for value in values):
            values = ()
    except ValueError:
        values = ()
    if not values or (form is not None and len(values) != len(form.split(","))):
        names = {int: "whole numbers", float: "numbers"}
        what = form or f"{names[kind]} separated by commas"
        raise InputError(f"{option} takes {what}, got {text!r}")
    return values


def settings(given: Iterable[str], defaults: dict[str, Any], owner: str) -> dict[str, Any]:
    """Parse "NAME=VALUE" pairs over the defaults.

    Args:
        given: The pairs.
        defaults: Known names and their values; each value is read as the type of its default.
        owner: Name of the problem that the settings belong to, for the error.

    Returns:
        The defaults with the given values in their place.

    Raises:
        InputError: If a name is unknown or a value cannot be read.

    Example:
        >>> settings(["quality=30"], {"quality": 10, "subsampling": True}, "jpeg")
        {'quality': 30, 'subsampling': True}
    """
    values = dict(defaults)
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or name not in defaults:
            pairs = ", ".join(f"{key}={value}" for key, value in defaults.items())
            near = difflib.get_close_matches(name.lower(), defaults, 1)
            meant = f"; did you mean {near[0]}?" if near and name not in defaults else ""
            raise InputError(
                f"--set takes NAME=VALUE; {owner} has {pairs or 'no settings'}; got {pair!r}{meant}"
            )
        values[name] = _read(text, type(defaults[name]), name)
    return values


def _read(text: str, kind: type, name: str) -> Any:
    if kind is bool:
        if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
            raise InputError(f"--set {name} takes yes or no, got {text!r}")
        return text.lower() in ("yes", "true", "1")
    try:
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
        return value
    except ValueError:
        what = "a whole number" if kind is int else "a finite number"
        raise InputError(f"--set {name} takes {what}, got {text!r}") from None
