"""Reading and writing files: whole or not at all, JSON, safetensors with a JSON header, and the files that ship with the package.

No pickles: reading a file cannot run code.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scoresde.errors import InputError

__all__ = [
    "WEIGHTS", "check_writable", "json_safe", "read_header", "read_tensors", "write_json", "write_tensors", "write_atomically",
]  # fmt: skip

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of weights that ship with the package."""


def check_writable(folder: str | Path) -> Path:
    """Create ``folder`` if need be and prove that a file can be written into it."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".scoresde-write-test.")
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise InputError(
            f"cannot write into {folder}: {error.strerror or error}; choose another folder"
        ) from None
    return folder


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call write(temporary path) and rename the result to ``path``: readers see the whole file or none."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    finally:
        Path(name).unlink(missing_ok=True)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON, NaN and infinities as null."""
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def json_safe(value: Any) -> Any:
    """The same structure with what JSON cannot say replaced by None."""
    if isinstance(value, dict):
        return {k: json_safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write a safetensors file with a JSON header, by way of a temporary name."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(
        Path(path),
        lambda temporary: save_file(whole, temporary, metadata={"scoresde": json.dumps(header)}),
    )


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header alone of a file that :func:`write_tensors` wrote."""
    return _read(Path(path), with_tensors=False)[1]


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, header) of a file that :func:`write_tensors` wrote."""
    return _read(Path(path), with_tensors=True)


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("scoresde", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({str(error).splitlines()[0]}); copy or train it again"
        ) from None
    if not isinstance(header, dict):
        raise InputError(
            f"{path} is a safetensors file, but not one of scoresde's: it has no 'scoresde' header"
        )
    return tensors, header
