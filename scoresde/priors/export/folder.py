"""The folder of an export: written whole, and never over files of others."""

import json
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from scoresde.errors import InputError
from scoresde.files import check_writable, write_json

__all__ = ["MARK", "check_folder", "write_folder"]

MARK = "scoresde.json"
"""File of a folder that says what this package wrote into it."""

_FORMAT = "scoresde.export/1"


def check_folder(folder: str | Path) -> Path:
    """Check that an export may be written to a folder.

    Args:
        folder: The folder; it need not exist.

    Returns:
        Its path.

    Raises:
        InputError: If it holds files that this package did not write, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the export")
    if folder.is_dir():
        others = sorted(_found(folder) - _written(folder))
        if others:
            raise InputError(
                f"{folder} holds files that this command did not write ({', '.join(others[:3])}); "
                "name a new folder"
            )
    check_writable(folder.absolute().parent)
    return folder


def write_folder(
    folder: Path, write: Callable[[Path], object], report: dict[str, Any]
) -> list[str]:
    """Write a folder under a temporary name and rename it.

    Args:
        folder: The folder. If it exists, it is an earlier export, which is replaced.
        write: Called with the temporary folder, into which it writes the files.
        report: What is stored about the export, as plain values.

    Returns:
        Names of the files, relative to the folder.

    Raises:
        InputError: If the folder cannot be written, or holds files of others.
    """
    check_folder(folder)
    place = folder.absolute()
    token = secrets.token_hex(8)
    temporary = place.parent / f".{place.name[:100]}.{token}"
    replaced = place.parent / f".{place.name[:100]}.{token}.old"
    try:
        temporary.mkdir()
        write(temporary)
        names = sorted(_found(temporary) | {MARK})
        write_json({"format": _FORMAT, **report, "files": names}, temporary / MARK)
        if place.exists():
            os.replace(place, replaced)
        os.replace(temporary, place)
    except OSError as error:
        with suppress(OSError):  # an earlier export comes back
            if replaced.exists() and not place.exists():
                os.replace(replaced, place)
        reason = error.strerror or error
        raise InputError(f"cannot write {folder}: {reason}; choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if place.exists():
            shutil.rmtree(replaced, ignore_errors=True)
    return names


def _found(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _written(folder: Path) -> set[str]:
    """Names of the files that an earlier export wrote."""
    try:
        content = json.loads((folder / MARK).read_text())
    except (OSError, ValueError):
        return set()
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return set()
    return {str(name) for name in content.get("files", [])}
