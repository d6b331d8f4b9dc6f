"""What a user says on the command line, read into values."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from scoresde.errors import InputError

__all__ = ["as_input_error", "numbers", "settings"]


@contextmanager
def as_input_error() -> Iterator[None]:
    """A ValueError of the library, raised while a user's options are turned into objects, is the user's to mend."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from None


def numbers(text: str, kind: type, option: str, form: str | None = None) -> tuple[Any, ...]:
    """Numbers separated by commas; as many as ``form``, say "LENGTH,ANGLE", has parts, if it is given."""
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or (form is not None and len(values) != len(form.split(","))):
        what = form or f"{ {int: 'whole numbers', float: 'numbers'}[kind] } separated by commas"
        raise InputError(f"{option} takes {what}, got {text!r}")
    return values


def settings(given: Iterable[str], defaults: dict[str, Any], owner: str) -> dict[str, Any]:
    """``NAME=VALUE`` pairs over the defaults, each value read as what its default is."""
    values = dict(defaults)
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or name not in defaults:
            known = ", ".join(f"{key}={value}" for key, value in defaults.items())
            raise InputError(
                f"--set takes NAME=VALUE; {owner} has {known or 'no settings'}; got {pair!r}"
            )
        values[name] = _read(text, type(defaults[name]), name)
    return values


def _read(text: str, kind: type, name: str) -> Any:
    if kind is bool:
        if text.lower() not in ("yes", "no", "true", "false", "1", "0"):
            raise InputError(f"--set {name} takes yes or no, got {text!r}")
        return text.lower() in ("yes", "true", "1")
    try:
        return kind(text)
    except ValueError:
        raise InputError(
            f"--set {name} takes {'a whole number' if kind is int else 'a number'}, got {text!r}"
        ) from None
