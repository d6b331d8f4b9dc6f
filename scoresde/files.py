"""File input and output: atomic writes, JSON, and safetensors with a JSON header.

A file is written completely or not at all. There are no pickles: reading a file cannot run code.
"""

import json
import math
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scoresde.errors import CannotWriteError, InputError

__all__ = [
    "WEIGHTS",
    "check_writable",
    "json_safe",
    "read_header",
    "read_tensors",
    "remove_leftovers",
    "write_json",
    "write_tensors",
    "write_atomically",
]

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights that ship with the package."""


def check_writable(folder: str | Path) -> Path:
    """Create a folder if it does not exist, and check that files can be written into it.

    The probe has no name where the system allows that, so that runs in one folder at the same time
    do not meet, and an interruption leaves nothing.

    Args:
        folder: Path of the folder.

    Returns:
        The path of the folder.

    Raises:
        CannotWriteError: If the folder cannot be created or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CannotWriteError(
            f"cannot write into {folder}: {error.strerror or error}; choose another folder"
        ) from None
    return folder


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and rename it, so that readers never see part of it.

    An interruption leaves the old file, or none, and no temporary one. The content is on the disk
    before the name is, so that a crash of the system leaves no empty file.

    Args:
        path: Path of the file; its folder must exist.
        write: Called with the temporary path, to which it writes the content.

    Raises:
        CannotWriteError: If the file cannot be written.
    """
    # chosen here: an interruption within mkstemp would leave a file of unknown name
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(8)}"
    try:
        temporary.touch(exist_ok=False)
        write(temporary)
        os.chmod(temporary, 0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CannotWriteError(f"cannot write {path}: {reason}; choose another place") from None
    finally:
        # renamed, or never made; what else may be wrong has been said
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of :func:`write_atomically` that a kill or a crash has left.

    Args:
        path: Path of the file that nobody is writing now.
    """
    name = re.compile(rf"\.{re.escape(path.name[:100])}\.[0-9a-f]{{16}}")
    for other in path.parent.glob(".*"):
        if name.fullmatch(other.name):
            with suppress(OSError):
                other.unlink()


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file; NaN and infinities become null.

    Args:
        content: Content as plain values.
        path: Path of the file.

    Raises:
        InputError: If the file cannot be written.
    """
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def json_safe(value: Any) -> Any:
    """Replace what JSON cannot represent by None.

    Args:
        value: Nested dictionaries, lists and tuples of plain values.

    Returns:
        The same structure with None for NaN and infinities, and lists for tuples.

    Example:
        >>> json_safe({"loss": float("nan"), "shape": (1, 28, 28)})
        {'loss': None, 'shape': [1, 28, 28]}
    """
    if isinstance(value, dict):
        return {k: json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a safetensors file with a JSON header, atomically.

    Args:
        path: Path of the file.
        tensors: Tensors by name, on any device.
        header: Header as plain JSON values.

    Raises:
        InputError: If the file cannot be written.
    """
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(
        Path(path),
        lambda temporary: save_file(whole, temporary, metadata={"scoresde": json.dumps(header)}),
    )


def read_header(path: str | Path) -> dict[str, Any]:
    """Read only the JSON header of a file that :func:`write_tensors` wrote.

    Args:
        path: Path of the file.

    Returns:
        The header.

    Raises:
        InputError: If the file is missing, damaged, or has no header of scoresde.
    """
    return _read(Path(path), with_tensors=False)[1]


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`write_tensors` wrote.

    Args:
        path: Path of the file.

    Returns:
        The tensors by name, on the CPU, and the header.

    Raises:
        InputError: If the file is missing, damaged, or has no header of scoresde.
    """
    return _read(Path(path), with_tensors=True)


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        if path.is_dir():
            raise InputError(
                f"{path} is a folder, not a checkpoint; name a .safetensors file in it"
            )
        if not path.is_file():
            raise InputError(f"there is no checkpoint {path}")
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("scoresde", "null"))
            names = file.keys() if with_tensors else ()
            tensors = {name: file.get_tensor(name) for name in names}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a whole safetensors file ({reason}); copy or train it again"
        ) from None
    if not isinstance(header, dict):
        raise InputError(
            f"{path} is a safetensors file, but not one of scoresde's: it has no 'scoresde' header"
        )
    return tensors, header
