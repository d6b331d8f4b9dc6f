"""Checks of arguments that all packages share, with one clear message each."""

import difflib
import math
from collections.abc import Iterable
from typing import Any, SupportsFloat, cast, get_args

from torch import Tensor

__all__ = ["check_choice", "check_number", "check_sizes", "check_tensor", "unknown"]

_LARGEST = 1 << 30  # entries of an image


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check that a setting has one of its known values.

    Args:
        name: Name of the setting in the message.
        value: Value of the setting.
        choices: Known values: a ``Literal`` type, or an iterable of strings.

    Raises:
        ValueError: If the value is unknown; the message lists the known ones, the nearest first.

    Example:
        >>> check_choice("boundary", "zero", ("reflect", "zero"))
        >>> check_choice("boundary", "magic", ("reflect", "zero"))
        Traceback (most recent call last):
        ValueError: unknown boundary 'magic'; known: reflect, zero
    """
    known: tuple[str, ...] = get_args(choices) or tuple(choices)
    if value not in known:
        raise ValueError(unknown(name, value, known))


def unknown(name: str, value: object, known: Iterable[str], label: str = "known") -> str:
    """Write the message for an unknown name, with the nearest of the known ones.

    Args:
        name: What the name is of.
        value: The unknown name.
        known: The known names.
        label: Word before the known names.

    Returns:
        The message, without a full stop.

    Example:
        >>> unknown("solver", "ddmr", ("dps", "ddrm"))
        "unknown solver 'ddmr'; did you mean 'ddrm'? known: dps, ddrm"
        >>> unknown("solver", "magic", ("dps", "ddrm"))
        "unknown solver 'magic'; known: dps, ddrm"
    """
    names = tuple(known)
    near = _nearest(value, names) if isinstance(value, str) else None
    meant = f"did you mean {near!r}? " if near is not None else ""
    return f"unknown {name} {value!r:.80}; {meant}{label}: {', '.join(names) or 'none'}"


def _nearest(value: str, names: tuple[str, ...]) -> str | None:
    """The name that is most like a text, whatever its case; None if none is."""
    lower = {name.lower(): name for name in reversed(names)}
    # texts are compared in quadratic time, and no name is longer
    found = difflib.get_close_matches(value[:80].lower(), lower, 1)
    return lower[found[0]] if found else None


def check_number(
    value: object,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    whole: bool = False,
) -> float:
    """Check that a setting is a finite real number in its range.

    Args:
        value: Value of the setting.
        name: Name of the setting in the message.
        above: The number must be above this one; None for no such bound.
        least: The number must be at least this one; None for no such bound.
        below: The number must be below this one; None for no such bound.
        most: The number must be at most this one; None for no such bound.
        whole: True if the number must be whole.

    Returns:
        The number as a plain float, whatever number type it had (NumPy's, an int, a tensor).

    Raises:
        ValueError: If the value is no number, not finite, outside of its range, or not whole.

    Example:
        >>> check_number(3, "the number of steps", least=1, whole=True)
        3.0
        >>> check_number(float("nan"), "the step", above=0, most=10)
        Traceback (most recent call last):
        ValueError: the step must be positive, got nan
        >>> check_number(11, "the step", above=0, most=10)
        Traceback (most recent call last):
        ValueError: the step must be at most 10, got 11
    """
    number = _number(value)
    inside = (
        math.isfinite(number)
        and (above is None or number > above)
        and (least is None or number >= least)
        and (below is None or number < below)
        and (most is None or number <= most)
        and (not whole or number.is_integer())
    )
    if not inside:
        lower = (
            f"at least {least:g}"
            if least is not None
            else "positive"
            if above == 0
            else f"above {above:g}"
            if above is not None
            else ""
        )
        upper = (
            f"below {below:g}"
            if below is not None
            else f"at most {most:g}"
            if most is not None
            else ""
        )
        high = (most is not None and number > most) or (below is not None and number >= below)
        rule = upper if high else lower or upper  # the bound that is missed
        if whole:
            rule = f"a whole number of {rule}" if rule else "a whole number"
        raise ValueError(f"{name} must be {rule or 'a finite number'}, got {value!s:.80}")
    return number


def _number(value: object) -> float:
    """The value of a real number of any type; NaN for everything else, also text and booleans."""
    if isinstance(value, bool | str | bytes | None):
        return math.nan
    try:
        return float(cast(SupportsFloat, value))
    except (TypeError, ValueError, RuntimeError):
        return math.nan
    except OverflowError:  # a Python integer of more than 308 digits
        return math.inf


def check_tensor(value: object, name: str) -> Tensor:
    """Check that a setting is a tensor of real numbers.

    Args:
        value: Value of the setting.
        name: Name of the setting in the message.

    Returns:
        The tensor.

    Raises:
        ValueError: If it is none, or complex.

    Example:
        >>> check_tensor([0, 1], "a mask")
        Traceback (most recent call last):
        ValueError: a mask must be a tensor of real numbers, got list; convert it with \
torch.as_tensor
    """
    if not isinstance(value, Tensor) or value.is_complex():
        found = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"{name} must be a tensor of real numbers, got {found}; convert it with torch.as_tensor"
        )
    return value


def check_sizes(value: object, name: str, axes: int | None = None) -> tuple[int, ...]:
    """Check that a setting is a list of sizes, such as (H, W).

    Args:
        value: Value of the setting.
        name: Name of the setting in the message.
        axes: How many sizes there must be; None for any number.

    Returns:
        The sizes as a tuple of ints.

    Raises:
        ValueError: If it is no list or tuple of as many whole numbers from 1 to 2^30, or their
            product is larger than that.

    Example:
        >>> check_sizes([8, 8], "shape", axes=2)
        (8, 8)
    """
    count = "" if axes is None else f"{axes} "
    if not isinstance(value, list | tuple) or len(value) != (len(value) if axes is None else axes):
        raise ValueError(f"{name} must be a list of {count}sizes, got {value!s:.80}")
    try:
        sizes = tuple(
            int(check_number(n, "a size", least=1, most=_LARGEST, whole=True)) for n in value
        )
    except ValueError as error:
        raise ValueError(f"{error}, in {name} {value!s:.80}") from None
    if math.prod(sizes) > _LARGEST:
        raise ValueError(f"{name} must have at most {_LARGEST} entries, got {sizes}")
    return sizes
