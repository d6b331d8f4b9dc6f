"""The range of the values of draws, which a picture has on [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Values"]

_TAIL = 0.002  # of the pixels may be darker than the darkest
_LARGE = 1 << 22  # entries from which on every few are looked at


@dataclass(frozen=True)
class Values:
    """The range of draws.

    Args:
        lost: Numbers of the draws, from 0, that have entries that are not finite.
        excess: Root mean square by which the entries of each draw exceed [-1, 1]; NaN for lost
            ones.
        darkest: Value that all but 0.2 % of the pixels of the typical picture exceed.
        brightest: Value that all but 0.2 % fall short of.
        far: Numbers of the draws that lie far from the others.
        distances: How many median distances each draw is from the median draw.
        count: Number of draws.
    """

    lost: tuple[int, ...]
    excess: tuple[float, ...]
    darkest: float
    brightest: float
    far: tuple[int, ...]
    distances: tuple[float, ...]
    count: int

    @classmethod
    def of(cls, draws: Tensor, typical: Tensor, far: tuple[int, ...], found: Tensor) -> Values:
        """Measure the range of draws.

        Args:
            draws: Draws (n, 1, C, H, W).
            typical: Mean of the draws that can be used (1, C, H, W).
            far: Numbers of the draws that lie far from the others.
            found: Distances of the draws from the median draw, (n,).

        Returns:
            The range.
        """
        finite = torch.isfinite(draws).flatten(1).all(1)
        excess = [float((x.abs() - 1).clamp_min(0).double().square().mean().sqrt()) for x in draws]
        pixels = typical.flatten()
        pixels = pixels[:: len(pixels) // _LARGE + 1]
        few = int(_TAIL * len(pixels))
        darkest, brightest = pixels.kthvalue(1 + few), pixels.kthvalue(len(pixels) - few)
        middle = found[torch.isfinite(found)].median().clamp_min(1e-12)
        return cls(
            lost=tuple((~finite).nonzero()[:, 0].tolist()),
            excess=tuple(e if ok else float("nan") for e, ok in zip(excess, finite, strict=True)),
            darkest=float(darkest.values),
            brightest=float(brightest.values),
            far=far,
            distances=tuple((found / middle).tolist()),
            count=len(draws),
        )
