"""Checks of the settings of a training: one sentence with the value and what is possible."""

import math
from collections.abc import Sequence

__all__ = ["check_number", "check_whole"]


def check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    """Check a setting that is a whole number.

    Args:
        name: Name of the setting.
        value: Its value.
        low: Smallest possible value.
        high: Largest possible value; None for any.

    Raises:
        ValueError: If the value is no whole number or out of the range.

    Example:
        >>> check_whole("steps", 0, 1)
        Traceback (most recent call last):
        ValueError: steps must be a whole number from 1 on, got 0
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        upper = "on" if high is None else f"to {high}"
        raise ValueError(f"{name} must be a whole number from {low} {upper}, got {value}")


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> None:
    """Check a setting that is a finite number.

    Args:
        name: Name of the setting.
        value: Its value.
        above: Number that it must exceed; None for any.
        low: Smallest possible value; None for any.
        high: Largest possible value; None for any.
        below: Number that it must stay below; None for any.

    Raises:
        ValueError: If the value is no finite number or out of the range.

    Example:
        >>> check_number("ema", 1.5, low=0, below=1)
        Traceback (most recent call last):
        ValueError: ema must be a finite number, at least 0, below 1, got 1.5
    """
    fits = (
        isinstance(value, int | float)
        and math.isfinite(value)
        and (above is None or value > above)
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (below is None or value < below)
    )
    if not fits:
        bounds: Sequence[tuple[str, float | None]] = (
            ("above", above),
            ("at least", low),
            ("at most", high),
            ("below", below),
        )
        words = "".join(f", {word} {bound:g}" for word, bound in bounds if bound is not None)
        raise ValueError(f"{name} must be a finite number{words}, got {value}")
