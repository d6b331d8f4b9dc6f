"""What a device computes fast, by its flags.

Nothing is timed: a choice that depended on the load of the machine would change the draws of a
seed.
"""

import platform
from functools import cache
from pathlib import Path

import torch

__all__ = ["fast_bf16"]


@cache
def fast_bf16(device: torch.device) -> bool:
    """Say whether convolutions in bfloat16 are faster than in float32.

    Args:
        device: Device of the convolutions.

    Returns:
        True on a GPU with bfloat16 in hardware, on a CPU with AMX, and on one of AMD with
        AVX512-BF16, whose 3x3 convolutions reached twice the rate that float32 can have. On an
        Intel Xeon with AVX512-BF16 but without AMX the network took 1.6 times as long in bfloat16.
        False where the flags do not tell.

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
    if getattr(torch.cpu, "_is_amx_tile_supported", bool)():
        return True
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()) and _is_of_amd()


def _is_of_amd() -> bool:
    """Whether the processor is one of AMD, where the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = platform.processor()  # Windows
    return "AuthenticAMD" in text
