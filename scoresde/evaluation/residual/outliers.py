r"""Draws that fall out of the population of the others.

The distance of draw i is the root mean square of :math:`x_i - \mathrm{median}_k x_k`, with the
median of each pixel. In many dimensions the distances of draws of one law concentrate: for a
Gaussian posterior of covariance V the scatter of their squares, relative to the mean, is
:math:`\sqrt{2\,\mathrm{tr}\,V^2} / \mathrm{tr}\,V`. A draw at several times the median distance
is therefore either a failure of the solver or another mode of the posterior. The two cannot be told
apart by distances, so a finding asks to look at it and does not say that it is wrong. Where more
than a quarter of the draws lie far from the median, they are a population of their own, and none of
them is an outlier.

The residual does not show such draws: those of an inpainting fit the observed pixels as well as the
others do.
"""

import torch
from torch import Tensor

__all__ = ["FAR", "distances", "outlying"]

FAR = 4.0
"""Distance of a draw from the median draw, in median distances, from which on it is an outlier.

In 12 of 14 right runs of benchmarks/results/residual.md with such draws they are 5 to 22 dB worse
than the median draw, in one 11 dB better, and in one alike.
"""

_RARE = 0.25  # share of the draws up to which they are outliers and not another mode

_FEWEST = 4  # draws, for a median that one of them cannot move far


def distances(draws: Tensor) -> Tensor:
    """Compute how far each draw lies from the median draw.

    Args:
        draws: Draws (n, 1, C, H, W); those that are not finite are infinitely far.

    Returns:
        Root mean square distances, shape (n,), float64.
    """
    flat = draws.flatten(1)
    finite = torch.isfinite(flat).all(1)
    found = torch.full((len(draws),), torch.inf, dtype=torch.float64)
    if bool(finite.any()):
        median = flat[finite].median(0).values
        for i in finite.nonzero()[:, 0].tolist():
            found[i] = (flat[i] - median).double().square().mean().sqrt()
    return found


def outlying(found: Tensor) -> tuple[int, ...]:
    """List the draws that lie far from the others.

    Args:
        found: Distances of the draws, shape (n,).

    Returns:
        Numbers of the draws, from 0; none of fewer than 4 finite ones, and none if they are more
        than a quarter.
    """
    finite = torch.isfinite(found)
    if int(finite.sum()) < _FEWEST:
        return ()
    limit = FAR * found[finite].median()
    far = tuple((finite & (found > limit)).nonzero()[:, 0].tolist())
    return far if len(far) <= _RARE * len(found) else ()
