"""How far an exported denoiser is from the prior, and how far rounding alone takes it."""

import copy
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.errors import InputError
from scoresde.priors.base import Prior
from scoresde.priors.export.denoiser import TracedDenoiser, trained_levels
from scoresde.sde import EDMSDE

__all__ = ["Agreement", "compare"]

_LEVELS, _LARGEST, _SMALLEST = 4, 80.0, 2e-3
_FACTOR = 4.0  # two orders of summation round differently; each is this near to the exact sum
_COARSE = 1e-3  # where rounding cannot be measured: no graph that is wrong is so near


@dataclass(frozen=True)
class Agreement:
    """Differences between an exported denoiser and the prior.

    Args:
        difference: Largest difference of any entry of D(x, sigma).
        tolerance: What rounding can explain: four times the largest difference of the prior from
            itself in float64, and 16 units in the last place of the largest entry. Where the prior
            does not run in float64, 1e-3 of the largest entry.
    """

    difference: float
    tolerance: float


def compare(
    prior: Prior, traced: TracedDenoiser, evaluate: Callable[[Tensor, Tensor], Tensor]
) -> Agreement:
    """Compare an exported denoiser with the prior, over sizes, batches and noise levels.

    Args:
        prior: The prior.
        traced: Its graph, which says what sizes there are.
        evaluate: The exported denoiser, D(x, sigma) for x (B, C, ...) and sigma (B,).

    Returns:
        The largest difference, and the tolerance.

    Raises:
        InputError: If the difference is beyond the tolerance.
    """
    exact, precise = prior.precise().with_sde(EDMSDE()), _in_float64(prior)
    generator = torch.Generator().manual_seed(0)
    difference = rounding = largest = 0.0
    for shape in _shapes(traced):
        for batch in (1, _LEVELS):
            sigma = _noise_levels(prior)[-batch:].to(prior.dtype)
            scale = (0.25 + sigma**2).sqrt().reshape(-1, *[1] * len(shape))
            x = scale * torch.randn(batch, *shape, generator=generator, dtype=prior.dtype)
            x, sigma = x.to(prior.device), sigma.to(prior.device)
            with torch.no_grad():
                wanted = exact._denoise(x, sigma)
                difference = max(difference, float((evaluate(x, sigma) - wanted).abs().max()))
                largest = max(largest, float(wanted.abs().max()))
                if precise is not None:
                    better = precise._denoise(x.double(), sigma.double())
                    rounding = max(rounding, float((wanted - better).abs().max()))
    ulp = 16 * torch.finfo(prior.dtype).eps * largest
    tolerance = _COARSE * largest if precise is None else _FACTOR * rounding + ulp
    if not difference <= tolerance:
        raise InputError(
            f"the exported denoiser differs from the prior by {difference:.2g}, and rounding "
            f"explains {tolerance:.2g}; it was not written. Please report the prior and the "
            f"version of torch ({torch.__version__})"
        )
    return Agreement(difference, tolerance)


def _shapes(traced: TracedDenoiser) -> list[tuple[int, ...]]:
    """The shape of the training, and for any size another one that no multiple fits."""
    shapes = [traced.shape]
    if traced.least is not None:
        channels, *sides = traced.shape
        if any(side < least for side, least in zip(sides, traced.least, strict=True)):
            shapes = []
        shapes.append((channels, *(least + 4 + 3 * i for i, least in enumerate(traced.least))))
    return shapes


def _noise_levels(prior: Prior) -> Tensor:
    """Noise levels over the training, from small to large."""
    low, high = trained_levels(prior)
    low, high = max(low, _SMALLEST), min(high, _LARGEST)
    ends = math.log(low), math.log(high)
    return torch.linspace(*ends, _LEVELS, dtype=torch.float64).exp()


def _in_float64(prior: Prior) -> Prior | None:
    """The prior in float64, or None if its network has another precision built in."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch of its own code
            double = copy.deepcopy(prior.precise()).to(torch.float64).with_sde(EDMSDE())
        x = torch.zeros(1, *prior.shape, dtype=torch.float64, device=prior.device)
        with torch.no_grad():
            D = double._denoise(x, torch.ones(1, dtype=torch.float64, device=prior.device))
    except Exception:  # whatever a foreign network raises
        return None
    return double if D.dtype == torch.float64 and bool(torch.isfinite(D).all()) else None
