"""A plain denoiser as a prior, in three lines."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.sde import EDMSDE, SDE

__all__ = ["DenoiserPrior"]


class DenoiserPrior(AdaptedPrior):
    """Function ``denoise(x, sigma)`` that removes white noise of level sigma, as a prior.

    Args:
        denoise: Callable that takes x_0 + sigma n, shape (B, C, ...), and sigma, shape (B,), and
            returns an estimate of x_0 with the shape of x. It must be differentiable for guided
            solvers and likelihoods.
        shape: Shape of one sample, such as (C, H, W).
        value_range: Values of the denoiser for the prior's -1 and 1, such as (0, 1). Sigma is in
            the units of these values.
        trained: Smallest and largest sigma of the training, in the units of ``value_range``; beyond
            them the denoiser is told the nearest one. None for no limits.
        multiple: Sides are padded to multiples of this number, and cropped.
        fixed_size: Whether the denoiser takes samples of one size alone.
        sde: Forward process of the prior; None for ``EDMSDE()``.
        conditions: Keyword arguments of every evaluation, see :class:`AdaptedPrior`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import torch
        >>> from scoresde import DenoiserPrior
        >>> prior = DenoiserPrior(lambda x, sigma: x / (1 + sigma[:, None] ** 2), shape=(2,))
        >>> prior.denoise(torch.tensor([[2.0, -4.0]]), 1.0)
        tensor([[ 1., -2.]])
    """

    def __init__(
        self,
        denoise: Callable[..., Tensor],
        shape: tuple[int, ...],
        *,
        value_range: tuple[float, float] = (-1.0, 1.0),
        trained: tuple[float, float] | None = None,
        multiple: int = 1,
        fixed_size: bool = False,
        sde: SDE | None = None,
        conditions: Mapping[str, Any] | None = None,
    ) -> None:
        convention = Convention(
            "x0",
            EDMSDE(),
            "sigma",
            value_range=value_range,
            trained=trained or (0.0, math.inf),
            multiple=multiple,
            fixed_size=fixed_size,
        )
        super().__init__(denoise, convention, shape, sde, conditions)
