"""Logs and folders that cannot be written: one clear line."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scoresde.errors import CannotWriteError

__all__ = ["clear_write_error", "quiet_log_thread"]


@contextmanager
def clear_write_error(path: Path) -> Iterator[None]:
    """Raise one clear line where a library cannot write a file or folder.

    Args:
        path: The file or folder.

    Yields:
        Nothing.

    Raises:
        CannotWriteError: If the block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise CannotWriteError(
            f"cannot write {path}: {error.strerror or error}; choose another place"
        ) from None


@contextmanager
def quiet_log_thread() -> Iterator[None]:
    """Keep TensorBoard's thread from printing why it cannot write: its next call says so.

    Yields:
        Nothing. Afterwards errors of threads are printed as before.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        of_the_log = type(args.thread).__module__.startswith("tensorboard.")
        if not (of_the_log and issubclass(args.exc_type, OSError)):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
