"""User-facing errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

__all__ = ["CannotWriteError", "InputError", "OtherProcessError", "as_input_error", "require"]


class InputError(ValueError):
    """Invalid user input.

    The message is one line that says what is wrong and how to fix it. The command line prints it
    and exits with status 2.

    Example:
        >>> from scoresde import InputError, load_prior
        >>> try:
        ...     load_prior("magic")
        ... except InputError as error:
        ...     print(str(error).split(";")[0])
        unknown prior 'magic'
    """


class CannotWriteError(InputError):
    """A result that cannot be written: the disk is full, or the folder is not writable."""


class OtherProcessError(InputError):
    """Another process of the same run has failed, and says why. The command line ends silently."""


@contextmanager
def as_input_error(what: str = "") -> Iterator[None]:
    """Re-raise a ValueError of the library as an InputError, where a user's options caused it.

    Args:
        what: What the error is about, put before it with a colon.

    Yields:
        Nothing.

    Raises:
        InputError: If the block raises a ValueError.

    Example:
        >>> from scoresde.errors import InputError, as_input_error
        >>> try:
        ...     with as_input_error():
        ...         int("three")
        ... except InputError as error:
        ...     print(error)
        invalid literal for int() with base 10: 'three'
    """
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{what}: {error}" if what else str(error)) from None


def require(extra: str, what: str, *modules: str) -> None:
    """Check that the packages of an extra are installed, before the work that needs them.

    Args:
        extra: Name of the extra of the package.
        what: What needs it, at the start of the message.
        *modules: Names of the modules.

    Raises:
        InputError: If one cannot be imported; the message has the command that installs them.

    Example:
        >>> require("train", "training", "json")
        >>> require("train", "training", "json", "no_such_module")
        Traceback (most recent call last):
        scoresde.errors.InputError: training needs no_such_module: pip install 'scoresde[train]'
    """
    missing = []
    for name in modules:
        try:
            import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install 'scoresde[{extra}]'")
