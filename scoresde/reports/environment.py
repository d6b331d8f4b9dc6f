"""What a run was made with: versions, machine, memory."""

import platform
import sys
from importlib import metadata
from typing import Any

import torch

__all__ = ["environment", "peak_memory"]

_PACKAGES = ("scoresde", "torch", "numpy", "pillow")


def environment(device: torch.device) -> dict[str, str]:
    """List versions and the device, for a page that tells how a result was made.

    Args:
        device: Device of the network.

    Returns:
        Descriptions by name. Neither the name of the machine nor that of the user is among them.

    Example:
        >>> import torch
        >>> list(environment(torch.device("cpu")))[:2]
        ['scoresde', 'torch']
    """
    found = {name: _version(name) for name in _PACKAGES}
    found["Python"] = platform.python_version()
    found["system"] = f"{platform.system()} {platform.machine()}"
    if device.type == "cuda":
        found["device"] = f"{device}: {torch.cuda.get_device_name(device)}"
    else:
        threads = torch.get_num_threads()
        found["device"] = f"{device}, {threads} thread{'s' if threads > 1 else ''}"
    return found


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # used from a folder, never installed
        return "unknown"


def peak_memory(device: torch.device) -> dict[str, Any] | None:
    """Ask for the largest memory that this process has used so far.

    Args:
        device: Device of the network.

    Returns:
        "bytes" and "of" (what they are); None where the system does not tell.
    """
    if device.type == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated(device), "of": "tensors on the GPU"}
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"bytes": size, "of": "the whole process, Python and libraries included"}
