"""Half precision as a format of storage: what is given in it is computed in float32.

FFTs, solves and decompositions have no half precision on a CPU, and a sum over an image loses its
last digits in it.
"""

import torch
from torch import Tensor

__all__ = ["HALVES", "widened"]

HALVES = (torch.float16, torch.bfloat16)


def widened(x: Tensor) -> Tensor:
    """Convert half precision to float32.

    Args:
        x: Tensor of any dtype.

    Returns:
        x in float32 if its dtype is float16 or bfloat16, otherwise x itself.

    Example:
        >>> import torch
        >>> widened(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return x.float() if x.dtype in HALVES else x
