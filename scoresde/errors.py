"""The error that means: the input is at fault, and this is what to do."""

from pathlib import Path

__all__ = ["InputError", "check_writable"]


class InputError(ValueError):
    """A user's input that cannot be used. The message is one line that names what is wrong and what to do."""


def check_writable(folder: str | Path) -> Path:
    """Create ``folder`` if need be and prove that a file can be written into it."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".scoresde-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror or error}; choose another --out") from None
    return folder
