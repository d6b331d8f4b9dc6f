r"""A first guess of the noise level, from the finest details of the measurement alone.

White noise is spread over all details, and pictures have little in the finest ones. The median
size of the diagonal coefficients of a wavelet (Donoho and Johnstone 1994, by scikit-image)
therefore shows the noise, wherever y is a picture: y itself has white noise, whatever the operator
did to x before. The holes of a mask are filled first. What fills them has other noise, so that the
estimate is divided by that of white noise of level 1 which went the same way.

Other measurements have no details. A share of their size is the guess there.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from problems import InverseProblem

__all__ = ["first_guess"]

_SHARE = 0.1
_REPLICATES = 4
_SMALLEST = 8  # pixels, of the sides of a picture with details


def first_guess(problem: InverseProblem, y: Tensor) -> float:
    """Guess the standard deviation of the noise.

    Args:
        problem: The operator says which entries are observed.
        y: Measurement (1, ...).

    Returns:
        A standard deviation above 0 in units of y; it includes the texture of the picture.

    Example:
        >>> import torch
        >>> from problems import GaussianNoise, Inpainting, InverseProblem
        >>> g = torch.Generator().manual_seed(0)
        >>> problem = InverseProblem(Inpainting(torch.rand(64, 64, generator=g) > 0.3),
        ...                          GaussianNoise(1.0))
        >>> y = 0.2 * torch.randn(1, 1, 64, 64, generator=g) + torch.linspace(-1, 1, 64)
        >>> abs(first_guess(problem, y) - 0.2) < 0.02
        True
    """
    seen = problem.operator.observed(y).expand_as(y)
    values = y[seen].double()
    size = float(values.square().mean().sqrt())
    found = 0.0
    if y.ndim == 4 and min(y.shape[-2:]) >= _SMALLEST:
        holes = (~seen[0]).cpu().numpy()
        generator = torch.Generator().manual_seed(0)
        white = [torch.randn(y.shape[1:], generator=generator) for _ in range(_REPLICATES)]
        details = _details(y[0].double().cpu().numpy(), holes)
        found = details / float(np.mean([_details(one.double().numpy(), holes) for one in white]))
    return max(found, 1e-3 * size, 1e-12) if found else max(_SHARE * size, 1e-12)


def _details(picture: np.ndarray, holes: np.ndarray) -> float:
    from skimage.restoration import estimate_sigma  # slow to import

    filled = picture
    if holes.any():
        # the nearest observed pixel
        places = [
            ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
            for hole in holes
        ]
        filled = np.stack([one[tuple(at)] for one, at in zip(picture, places, strict=True)])
    return float(estimate_sigma(filled, channel_axis=0, average_sigmas=True))
