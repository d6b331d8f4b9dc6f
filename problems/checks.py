"""Checks of arguments that all packages share, with one clear message each."""

from typing import Any, get_args

__all__ = ["check_choice"]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check that a setting has one of its known values.

    Args:
        name: Name of the setting in the message.
        value: Value of the setting.
        choices: Known values: a ``Literal`` type, or an iterable of strings.

    Raises:
        ValueError: If the value is unknown; the message lists the known ones.

    Example:
        >>> check_choice("boundary", "zero", ("reflect", "zero"))
        >>> check_choice("boundary", "magic", ("reflect", "zero"))
        Traceback (most recent call last):
        ValueError: unknown boundary 'magic'; known: reflect, zero
    """
    known: tuple[str, ...] = get_args(choices) or tuple(choices)
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; known: {', '.join(known)}")
