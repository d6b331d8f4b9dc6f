"""What a device computes fast, by its flags.

Nothing is timed: a choice that depended on the load of the machine would change the draws of a
seed.
"""

from functools import cache

import torch

__all__ = ["fast_bf16"]


@cache
def fast_bf16(device: torch.device) -> bool:
    """Say whether convolutions in bfloat16 are faster than in float32.

    Args:
        device: Device of the convolutions.

    Returns:
        True on a GPU with bfloat16 in hardware, and on a CPU with AMX or AVX512-BF16. False where
        the flags do not tell.

    Example:
        >>> import torch
        >>> fast_bf16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    flags = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, flag, bool)() for flag in flags)
