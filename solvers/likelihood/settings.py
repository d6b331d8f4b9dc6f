"""What the likelihoods ask of their arguments, and the defaults that depend on them."""

from typing import Literal

import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianMixturePrior
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from solvers.guidance import GuidedPrior
from solvers.likelihood.integrator import End, Solver

__all__ = [
    "Basis", "Divergence", "Probing", "default_batch", "check_grid", "check_samples", "check_settings", "default_end", "levels_end", "resolve_end",
    "default_method",
]  # fmt: skip

Divergence = Literal["exact", "hutchinson"]
Probing = Literal["hadamard", "rademacher"]
Basis = Literal["auto", "pixel", "eigen"]

_EDGE = 1e-4  # noise in widths of a level: its edges then blur away 1e-4 nats in each dimension
_ALONE = 0.02  # noise in widths of a level: 50 of it lie between its edges
_FAR = 5.0  # no picture on [-1, 1] has such a value, however noisy; one on 0..255 has


def default_end(prior: Prior) -> End:
    """Where the density is taken if nothing is said: a network knows no data without noise."""
    return "t_min" if isinstance(prior.nesting()[-1], ScorePrior) else "data"


def default_method(prior: Prior, divergence: Divergence) -> Solver:
    """The method of the ODE if nothing is said: the one of many stages where the trace costs more than they do, and for networks, whose
    flow is stiff where an image lies between two shapes; there the multistep method errs, and to the better side."""
    return "rk4" if divergence == "exact" or isinstance(prior.nesting()[-1], ScorePrior) else "ab4"


def levels_end(prior: Prior, width: float) -> End | float:
    """Where the density of dequantised images is taken, their levels being so wide. Far below that for a network that sees the edges of
    levels at any noise, by Fourier features as fine as the levels and training down to a noise at which an edge stands alone; else
    "t_min"."""
    network = prior.nesting()[-1]
    if not (isinstance(network, ScorePrior) and network.fourier):
        return "t_min"
    if 2.0 ** -max(network.fourier) > width * (1 + 1e-9) or network.trained[0] > _ALONE * width:
        return "t_min"
    smallest = float(prior.sde.noise_to_signal(torch.tensor(prior.sde.t_min, dtype=torch.float64)))
    return min(_EDGE * width, smallest)


def resolve_end(prior: Prior, end: End | float) -> tuple[Prior, End]:
    """Prior and end as they are; for a noise s, the prior under an SDE with alpha = 1 whose smallest noise is s, and "t_min". ValueError
    for a number that is no noise of the prior."""
    if isinstance(end, str):
        return prior, end
    largest = float(prior.sde.noise_to_signal(torch.tensor(prior.sde.t_max, dtype=torch.float64)))
    if not 0 < end < largest:
        raise ValueError(
            f"a density can be taken at 'data', 't_min' or a noise between 0 and the largest of the prior, {largest:g}; got {end}"
        )
    return prior.with_sde(EDMSDE(end, largest)), "t_min"


def default_batch(batch: int | None, x: Tensor) -> int:
    """Samples at a time: as asked, or as many as have 2^16 entries. ValueError for fewer than one."""
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    return batch or max(1, 2**16 // x[0].numel())


def check_grid(end: str, nodes: int) -> None:
    """ValueError for an unknown end, or fewer nodes than the error of the sum can be told from."""
    check_choice("end", end, End)
    if nodes < 8:
        raise ValueError(f"the grid needs at least 8 nodes, got {nodes}")


def check_settings(
    divergence: str,
    probing: str,
    basis: str,
    solver: str | None,
    probes: int,
    paired_every: int,
    nodes: int,
    chunk: int | None,
) -> None:
    """ValueError that names the setting and what it may be."""
    for name, value, known in (
        ("divergence", divergence, Divergence), ("probing", probing, Probing), ("basis", basis, Basis), ("solver", solver or "rk4", Solver),
    ):  # fmt: skip
        check_choice(name, value, known)
    if probes < 1 or (chunk is not None and chunk < 1):
        raise ValueError(f"probes and chunk must be at least 1, got {probes} and {chunk}")
    if paired_every < 0 or 4 * paired_every > nodes:
        raise ValueError(
            f"paired_every must be 0, or leave four nodes or more that are measured twice: at most {nodes // 4}, got {paired_every}"
        )


def check_samples(prior: Prior, x: Tensor) -> None:
    """ValueError if x is not a finite batch of the prior's samples; networks for images take any size."""
    layers, shape = prior.nesting(), tuple(prior.shape)
    one_size = len(shape) != 3 or any(
        isinstance(p, GaussianMixturePrior | GuidedPrior) for p in layers
    )
    same = tuple(x.shape[1:]) == shape if one_size else x.ndim == 4 and x.shape[1] == shape[0]
    if not same or not len(x):
        raise ValueError(
            f"x must be a batch (B, {', '.join(map(str, shape))}) of the prior's samples, got {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"x must be floating point, got {x.dtype}; for 8-bit images there is bits_per_dim"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds NaN or infinite values")
    largest = float(x.abs().max())
    if len(shape) == 3 and isinstance(layers[-1], ScorePrior) and largest > _FAR:
        raise ValueError(
            f"x reaches {largest:.3g}, but images are on [-1, 1]; bits_per_dim takes grey levels 0..255 as uint8"
        )
    several = [len(p.y) for p in layers if isinstance(p, GuidedPrior) and len(p.y) > 1]
    if several:
        raise ValueError(
            f"the prior is guided by {several[0]} measurements, and each has a posterior density of its own: "
            "condition on one of them at a time, y[i : i + 1]"
        )
