"""Settings of the likelihoods: their choices, checks, and the defaults that depend on the prior."""

from typing import Literal

import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianMixturePrior
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from solvers.guidance import GuidedPrior

__all__ = [
    "Basis",
    "Divergence",
    "End",
    "Probing",
    "Solver",
    "check_grid",
    "check_samples",
    "check_settings",
    "default_batch",
    "default_end",
    "default_method",
    "levels_end",
    "resolve_end",
]

Divergence = Literal["exact", "hutchinson"]
Probing = Literal["hadamard", "rademacher"]
Basis = Literal["auto", "pixel", "eigen"]
End = Literal["data", "t_min"]
Solver = Literal["rk4", "ab4"]

_EDGE = 1e-4  # noise in bin widths at which blurred edges cost 1e-4 nats per dimension
_ALONE = (
    0.02  # noise in bin widths at which the two edges of a bin are 50 standard deviations apart
)
_FAR = 5.0  # no image on [-1, 1] has such a value, even with noise; one on 0..255 has

_NETWORKS = (ScorePrior, AdaptedPrior)  # trained, and not defined at zero noise


def default_end(prior: Prior) -> End:
    """Choose the default evaluation point.

    Args:
        prior: Prior whose density is evaluated.

    Returns:
        "t_min" for networks, wrapped or not, which are not defined at zero noise; "data" otherwise.
    """
    return "t_min" if isinstance(prior.nesting()[-1], _NETWORKS) else "data"


def default_method(prior: Prior, divergence: Divergence) -> Solver:
    """Choose the default method of the ODE.

    Args:
        prior: Prior whose flow is integrated.
        divergence: How the trace is computed: "exact" or "hutchinson".

    Returns:
        "rk4" with the exact trace, which costs far more than the extra stages, and for networks:
        their flow is stiff where an image lies between two shapes, and there "ab4" overestimates
        the density. "ab4" otherwise.
    """
    return "rk4" if divergence == "exact" or isinstance(prior.nesting()[-1], _NETWORKS) else "ab4"


def levels_end(prior: Prior, width: float) -> End | float:
    """Choose the noise at which the density of dequantised images is evaluated.

    Args:
        prior: Prior on images.
        width: Width of the bin of a grey level, in the units of the images.

    Returns:
        A noise of 1e-4 bin widths, or the smallest noise of the prior if that is less, for a
        network that resolves the edges of bins at any noise: its Fourier features are as fine as
        the bins, and it was trained down to a noise at which the two edges of a bin are far apart.
        "t_min" otherwise.
    """
    network = prior.nesting()[-1]
    if not (isinstance(network, ScorePrior) and network.fourier):
        return "t_min"
    if 2.0 ** -max(network.fourier) > width * (1 + 1e-9) or network.trained[0] > _ALONE * width:
        return "t_min"
    smallest = float(prior.sde.noise_to_signal(torch.tensor(prior.sde.t_min, dtype=torch.float64)))
    return min(_EDGE * width, smallest)


def resolve_end(prior: Prior, end: End | float) -> tuple[Prior, End]:
    """Turn a numeric evaluation point into a prior whose smallest noise it is.

    Args:
        prior: Prior whose density is evaluated.
        end: "data", "t_min" or a noise, as a standard deviation in the units of the data.

    Returns:
        The prior and the end as they are if end is a string. For a number, the prior under an SDE
        with alpha = 1 whose smallest noise is that number, and "t_min".

    Raises:
        ValueError: If a number does not lie between 0 and the largest noise of the prior.
    """
    if isinstance(end, str):
        return prior, end
    largest = float(prior.sde.noise_to_signal(torch.tensor(prior.sde.t_max, dtype=torch.float64)))
    if not 0 < end < largest:
        raise ValueError(
            "end must be 'data', 't_min' or a noise between 0 and the largest of the prior, "
            f"{largest:g}; got {end}"
        )
    return prior.with_sde(EDMSDE(end, largest)), "t_min"


def default_batch(batch: int | None, x: Tensor) -> int:
    """Choose how many samples are processed together.

    Args:
        batch: The number of samples, at least 1; None to choose it.
        x: Samples, (B, *shape).

    Returns:
        The given number, or as many samples as have 2^16 entries in total, at least one.

    Raises:
        ValueError: If batch is less than 1.
    """
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    return batch or max(1, 2**16 // x[0].numel())


def check_grid(end: str, nodes: int) -> None:
    """Check the evaluation point and the number of nodes.

    Args:
        end: "data" or "t_min".
        nodes: Number of nodes; the quadrature and its standard error need at least 8.

    Raises:
        ValueError: If the end is unknown or there are fewer than 8 nodes.
    """
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
    """Check the settings of `log_likelihood` that do not depend on the prior.

    Args:
        divergence: "exact" or "hutchinson".
        probing: "hadamard" or "rademacher".
        basis: "auto", "pixel" or "eigen".
        solver: "rk4" or "ab4"; None for the default.
        probes: Number of random vectors at a node, at least 1.
        paired_every: Distance between nodes that are measured twice; 0 for none.
        nodes: Number of nodes of the grid.
        chunk: Entries of the exact trace computed at once, at least 1; None for the default.

    Raises:
        ValueError: If a setting has an unknown value; the message names it and the known values.
    """
    for name, value, known in (
        ("divergence", divergence, Divergence),
        ("probing", probing, Probing),
        ("basis", basis, Basis),
        ("solver", solver or "rk4", Solver),
    ):
        check_choice(name, value, known)
    if probes < 1 or (chunk is not None and chunk < 1):
        raise ValueError(f"probes and chunk must be at least 1, got {probes} and {chunk}")
    if paired_every < 0 or 4 * paired_every > nodes:
        raise ValueError(
            f"paired_every must lie in 0..{nodes // 4}, a quarter of the nodes, so that at least "
            f"four nodes are measured twice; got {paired_every}"
        )


def check_samples(prior: Prior, x: Tensor) -> None:
    """Check that x is a finite batch of samples of the prior.

    Networks for images accept any height and width. Other priors have one shape.

    Args:
        prior: Prior whose density is evaluated.
        x: Samples, (B, *shape).

    Raises:
        ValueError: If the shape, the dtype or the range of x is wrong, x has NaN or infinite
            entries, or the prior is guided by several measurements.
    """
    layers, shape = prior.nesting(), tuple(prior.shape)
    one_size = len(shape) != 3 or any(
        isinstance(p, GaussianMixturePrior | GuidedPrior) for p in layers
    )
    same = tuple(x.shape[1:]) == shape if one_size else x.ndim == 4 and x.shape[1] == shape[0]
    if not same or not len(x):
        raise ValueError(
            f"x must be a batch (B, {', '.join(map(str, shape))}) of the prior's samples, "
            f"got {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"x must be floating point, got {x.dtype}; use bits_per_dim for 8-bit images"
        )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds NaN or infinite values")
    largest = float(x.abs().max())
    if len(shape) == 3 and isinstance(layers[-1], _NETWORKS) and largest > _FAR:
        raise ValueError(
            f"x reaches {largest:.3g}, but images are on [-1, 1]; "
            "bits_per_dim takes grey levels 0..255 as uint8"
        )
    several = [len(p.y) for p in layers if isinstance(p, GuidedPrior) and len(p.y) > 1]
    if several:
        raise ValueError(
            f"the prior is guided by {several[0]} measurements, each with its own posterior "
            "density: condition on one of them at a time, y[i : i + 1]"
        )
