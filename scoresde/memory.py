"""Memory that is free."""

import torch

__all__ = ["available_bytes"]


def available_bytes(device: torch.device) -> int:
    """Ask how much memory is free.

    Args:
        device: Device of the tensors.

    Returns:
        Bytes that new tensors on the device may take.

    Example:
        >>> import torch
        >>> available_bytes(torch.device("cpu")) > 0
        True
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
