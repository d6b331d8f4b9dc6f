"""What a restoration will take, told before it begins.

Memory by a rule of thumb. The time is that of one evaluation of the network on a piece of the
picture, times the evaluations that the solver makes for a small picture.
"""

import math
import time

import torch

from problems import GaussianNoise, Inpainting, InverseProblem, box_mask
from problems.storage import LARGE_VECTOR
from scoresde.defaults import TILE
from scoresde.errors import InputError
from scoresde.evaluation.residual import windows
from scoresde.memory import available_bytes
from scoresde.pipelines.settings import RestoreOptions
from scoresde.priors.base import Prior
from scoresde.sde import EDMSDE
from solvers import make_solver
from solvers.posterior.smc.base import ParticleSampler

__all__ = ["LARGE", "Shrinkage", "check_memory", "estimate_seconds", "memory_bytes", "passes"]

LARGE = 2_000_000
"""Pixels of all draws together from which on the time is told."""

# Pictures in single precision that are held at once (benchmarks/results/large_pictures.md): while
# drawing 16 by warm-start and 13 by hqs, whatever the number of draws, while writing 12.
_DRAWING, _WRITING = 16, 12

_KRYLOV = 32
"""Vectors of the Krylov space of a step, at most; large ones are in files."""

_JUDGED = 80.0
"""Bytes for each entry of each draw that the residual check looks at."""

_FIXED, _NETWORK = 1.5e8, 1.5e3
"""Bytes that any picture takes, and those of the network for each pixel that it works on."""

_SCRATCH = 250.0
"""Bytes for each pixel of what is worked on in pieces of a million pixels, in double precision."""

_AT_ONCE = TILE**2
"""Pixels that the network works on at once, at most: tiles and batches of draws are cut so."""

_BACKWARD = 1.5
"""Time of a vector-Jacobian product over that of an evaluation."""


def check_memory(
    size: tuple[int, int], channels: int, options: RestoreOptions, device: torch.device
) -> None:
    """Check that a restoration fits the memory, before anything large is allocated.

    Args:
        size: Height and width of the picture in pixels.
        channels: Channels of the prior.
        options: Number of draws.
        device: Device of the prior.

    Raises:
        InputError: If it does not fit.
    """
    needed, least = (memory_bytes(size, channels, n) for n in (options.samples, 1))
    available = available_bytes(device)
    if needed <= available:
        return
    remedy = "lower --samples" if least <= available else "crop the picture or scale it down"
    raise InputError(
        f"restoring {size[1]}x{size[0]} pixels with --samples {options.samples} takes about "
        f"{needed / 1e9:.3g} GB of memory, and {available / 1e9:.3g} GB are free; {remedy}"
    )


def memory_bytes(size: tuple[int, int], channels: int, samples: int) -> float:
    """Estimate the memory of a restoration.

    It is the larger one of the memory while drawing, which the number of draws does not change, and
    of that while the draws are judged and written.

    Args:
        size: Height and width of the picture in pixels.
        channels: Channels of the prior.
        samples: Number of draws.

    Returns:
        Bytes.
    """
    pixels = math.prod(size)
    together = max(pixels, min(pixels * samples, _AT_ONCE))  # of the draws of one batch
    one, batch = 4.0 * channels * pixels, 4.0 * channels * together
    in_memory = 4.0 * LARGE_VECTOR  # what is larger is in files
    krylov = _KRYLOV * batch if batch < in_memory else 0.0
    drawing = _NETWORK * min(together, _AT_ONCE) + _DRAWING * batch + krylov
    entries = channels * pixels
    looked_at = entries if entries <= windows.LARGE else windows.ENTRIES
    judging = _WRITING * one + _JUDGED * samples * looked_at
    scratch = _SCRATCH * min(pixels, 1 << 20)
    return _FIXED + scratch + max(drawing, judging) + min(one * samples, in_memory)


class Shrinkage(Prior):
    """The exact denoiser of white Gaussian pictures of variance 1/4: it costs nothing.

    Example:
        >>> import torch
        >>> prior = Shrinkage(EDMSDE(), (1, 2, 2))
        >>> prior.denoise(torch.ones(1, 1, 1, 1), 0.5)
        tensor([[[[0.5000]]]])
    """

    def _denoise(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        s = t.reshape(-1, 1, 1, 1)
        return x_t * (0.25 / (0.25 + s**2))


def passes(options: RestoreOptions) -> float | None:
    """Count the evaluations of the network that a draw takes, with products with its Jacobian.

    Args:
        options: Solver, sampler and steps.

    Returns:
        Evaluations, a product counted as 1.5 of them; None for particle methods, whose cost is not
        that of single draws.

    Example:
        >>> from scoresde.pipelines.settings import RestoreOptions
        >>> passes(RestoreOptions(solver="ddrm")), passes(RestoreOptions(solver="mmps"))
        (20.0, 57.5)
    """
    solver = make_solver(options.solver, options.steps, options.sampler)
    if isinstance(solver, ParticleSampler):
        return None
    side, g = 8, torch.Generator().manual_seed(0)
    problem = InverseProblem(Inpainting(box_mask(side, side, 2, 2, 4, 4)), GaussianNoise(0.05))
    y = problem.measure(0.5 * torch.randn(1, 1, side, side, generator=g), g)
    prior = Shrinkage(EDMSDE(), (1, side, side))
    posterior = solver.sample(prior, problem, y, 1, generator=g)
    return (posterior.nfe + _BACKWARD * posterior.vjps) * options.starts


def estimate_seconds(prior: Prior, size: tuple[int, int], options: RestoreOptions) -> float | None:
    """Estimate the time of a restoration by evaluating the network once, on one tile.

    Args:
        prior: Prior of pictures.
        size: Height and width of the picture in pixels.
        options: Solver, draws and tile.

    Returns:
        Seconds, to a factor of two or so; None where it cannot be told.
    """
    needed = passes(options)
    if needed is None:
        return None
    side = [min(edge, options.tile) for edge in size]
    x = torch.zeros(1, prior.shape[0], *side, dtype=prior.dtype, device=prior.device)
    with torch.no_grad():
        begin = time.perf_counter()
        prior.denoise(x, 0.5 * (prior.sde.t_min + prior.sde.t_max)).sum().item()
        one = time.perf_counter() - begin
    return one * needed * options.samples * math.prod(size) / math.prod(side)
