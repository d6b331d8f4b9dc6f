"""Pipelines of the Hugging Face hub, through huggingface_hub and the user's cache."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from scoresde.errors import InputError

__all__ = ["find_pipeline", "needs"]

_FILES = ("*.json", "*/*.json", "*.safetensors", "*/*.safetensors", "*.bin", "*/*.bin")
_INDEX = "model_index.json"


def needs(module: str, what: str) -> Any:
    """Import a module of the extra ``hub``.

    Args:
        module: Name of the module.
        what: What needs it, as the message says it.

    Returns:
        The module.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"{what} needs the package {module.split('.')[0]} ({error}); install it with: pip "
            "install 'scoresde[hub]'"
        ) from None


def find_pipeline(name: str, check: Callable[[Path, str], object]) -> Path:
    """Find the folder of a pipeline: a local one, or one of the hub.

    A pipeline of the hub comes from the user's cache if it is there, and is downloaded otherwise,
    the index first: what cannot be used is refused before its weights are fetched.

    Args:
        name: Path of a folder, or an id of the hub such as "google/ddpm-cifar10-32".
        check: Called with the path of the downloaded index and the name; it raises an InputError
            for a pipeline that cannot be used.

    Returns:
        The folder.

    Raises:
        InputError: If there is no such folder or id, or it cannot be downloaded.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"there is no folder {name!r}; name the folder of a diffusers pipeline, or an id of "
            "the hub such as google/ddpm-cifar10-32"
        )
    hub = needs("huggingface_hub", f"the pipeline {name!r} of the hub")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(_FILES), local_files_only=True))
    except Exception:  # not in the cache, of several kinds
        pass
    try:
        check(Path(hub.hf_hub_download(name, _INDEX)), name)
        return Path(hub.snapshot_download(name, allow_patterns=list(_FILES)))
    except InputError:
        raise
    except Exception as error:  # no network, no such id, no access: of many kinds
        reason = " ".join((str(error).splitlines() or [""])[0].split())
        raise InputError(
            f"{name!r} is not in the cache of the hub and cannot be downloaded "
            f"({type(error).__name__}: {reason:.80}); where there is a network, run: hf download "
            f"{name} --local-dir FOLDER, and then give diffusers:FOLDER"
        ) from None
