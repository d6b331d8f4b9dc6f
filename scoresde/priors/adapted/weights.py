"""Weights of others, read without running code."""

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scoresde.errors import InputError

__all__ = ["is_plain_pickle", "read_weights"]

_NESTS = ("state_dict", "params_ema", "params", "model", "model_state_dict")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a module, for ``load_state_dict``.

    Safetensors are read as they are. Pickles of torch (.pt, .pth, .ckpt, .bin) are read with
    ``weights_only=True``, which builds tensors and plain containers and runs no code.

    Args:
        path: Path of the file.

    Returns:
        Tensors by name, on the CPU. Weights that are nested under one of the usual names
        ("state_dict", "params_ema", "params", "model", "model_state_dict") are taken from there.

    Raises:
        InputError: If the file is missing or damaged, holds no weights, or is a pickle that needs
            more than tensors; the message says how to convert it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from scoresde.priors.adapted import read_weights
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": {"w": torch.ones(2)}}, Path(folder) / "net.pth")
        ...     read_weights(Path(folder) / "net.pth")
        {'w': tensor([1., 1.])}
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _needed(str(error))
        raise InputError(
            f"{path} is a pickle that needs {reason}, and reading it would run code; convert it "
            "where you trust it: import torch, safetensors.torch as s; s.save_file({k: "
            'v.contiguous() for k, v in module.state_dict().items()}, "weights.safetensors")'
        ) from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is not a whole file of weights ({reason:.100})") from None
    for name in _NESTS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}, not the weights of a module")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors or len(tensors) != len(content):
        others = [str(k) for k, v in content.items() if not isinstance(v, Tensor)]
        raise InputError(
            f"{path} holds more than the weights of a module ({', '.join(others[:4]) or 'nothing'})"
            "; save module.state_dict() alone, as safetensors"
        )
    return tensors


def is_plain_pickle(content: bytes) -> bool:
    """Say whether a pickle of torch holds tensors and plain containers alone.

    Args:
        content: The pickle.

    Returns:
        True if it can be read without running code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols: what is not understood is refused
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        return False
    return True


def _needed(message: str) -> str:
    """What a pickle wants to import, from the message of torch."""
    for mark in ("Unsupported global: GLOBAL ", "Unsupported class "):
        if mark in message:
            return message.split(mark)[1].split()[0].rstrip(".,")
    return "more than tensors"
