r"""The noise of a measurement by its own finest details, without any restoration.

In a 2 x 2 block :math:`d = (y_{00} - y_{01} - y_{10} + y_{11})/2` of white noise has the standard
deviation of the noise; of a plain surface it is 0. The median of :math:`|d|`, divided by that of
a standard normal variable, hardly sees edges. Texture, a mosaic of colours and a signal that is not
smooth only add to it. It is therefore a bound: the noise can be less than this, but not more.
"""

import math

from torch import Tensor

__all__ = ["finest_details"]

_MEDIAN = 0.6744897501960817  # of |N(0, 1)|
_FEWEST = 64  # blocks
_ROOT_VARIANCE = 1.1664  # of the median of |N(0, 1)| over n, times sqrt(n), divided by the median


def finest_details(e: Tensor, seen: Tensor) -> tuple[float, float] | None:
    """Estimate the standard deviation of white noise in pictures.

    Args:
        e: Pictures (1, C, h, w), in units of the noise that is stated.
        seen: Entries that count, bool, shape of e.

    Returns:
        The estimate and its standard error; None if fewer than 64 blocks of 2 x 2 count.

    Example:
        >>> import torch
        >>> from scoresde.evaluation.residual.noise_level import finest_details
        >>> e = 0.3 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
        >>> estimate, error = finest_details(e + 5.0, torch.ones_like(e) == 1)
        >>> abs(estimate - 0.3) < 4 * error < 0.03
        True
    """
    if e.ndim != 4 or min(e.shape[-2:]) < 2:
        return None
    corners = [(slice(i, i - 1 or None), slice(j, j - 1 or None)) for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (e[..., rows, columns] for rows, columns in corners)
    whole = seen[..., :-1, :-1]
    for rows, columns in corners[1:]:
        whole = whole & seen[..., rows, columns]
    count = int(whole.sum())
    if count < _FEWEST:
        return None
    estimate = float(((a - b - c + d) / 2)[whole].abs().median()) / _MEDIAN
    # blocks overlap: a quarter of them is independent
    return estimate, estimate * _ROOT_VARIANCE / math.sqrt(count / 4)
