"""A blur of any shape: where the search begins, and what is said where nothing can be found."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from problems import Blur, DiskBlur, GaussianBlur
from problems.checks import check_number
from problems.operators.convolution import Boundary, Convolution
from scoresde.estimation.blur import SMALLEST, motions
from scoresde.estimation.drawing import drawing_solver
from scoresde.estimation.free_kernel import DrawnMoments, KernelEstimate, kernel_by_em
from scoresde.estimation.kernel_choice import BestKernel
from scoresde.estimation.spectral_start import best_starts
from scoresde.estimation.splitting_start import kernels_by_splitting
from scoresde.priors.base import Prior
from scoresde.spectral_evidence import SPECTRAL, SpectralEvidence, most_detailed
from solvers import PosteriorSampler

__all__ = ["KERNEL_SIZE", "LARGEST_KERNEL", "estimate_kernel", "first_kernels"]

KERNEL_SIZE = 15
"""Side of a kernel in pixels, if it is not stated."""

LARGEST_KERNEL = 31
"""Side from which on the second moments take too long."""

_STEPS = 6  # of the solver: as few as its quick setting
_NONE = 0.35  # pixels: spread of a kernel that blurs less than a pixel does itself
_RIM = 0.25  # share of a kernel in its outermost taps that says it was cut
_STDS = (0.5, 0.7, 1, 1.3, 1.6, 2, 2.5, 3, 4)
_RADII = (1, 1.5, 2, 2.5, 3, 4, 5, 7)


def first_kernels(side: int) -> list[Convolution]:
    """Make the kernels from which a search may begin.

    Args:
        side: Odd side of the kernel in pixels.

    Returns:
        Gaussians, disks, and lines in every direction that fit it.

    Example:
        >>> {type(one).__name__ for one in first_kernels(9)} == {
        ...     "GaussianBlur", "DiskBlur", "MotionBlur"}
        True
    """
    reach = side // 2
    found: list[Convolution] = [
        GaussianBlur(std, "reflect", truncate=min(4.0, reach / std))
        for std in _STDS
        if reach >= 1.5 * std
    ]
    found += [DiskBlur(radius, "reflect") for radius in _RADII if radius < reach]
    return found + motions(side + 1)


def estimate_kernel(
    y: Tensor,
    prior: Prior,
    sigma: float,
    *,
    size: int = KERNEL_SIZE,
    boundary: Boundary = "reflect",
    side: int = 128,
    solver: PosteriorSampler | None = None,
    draws: int = 4,
    rounds: int = 16,
    generator: torch.Generator | None = None,
) -> KernelEstimate:
    """Estimate a kernel of any shape, nowhere negative and with sum 1.

    Args:
        y: The blurred picture (1, C, H, W).
        prior: Prior of pictures. Of one that takes any size, the first guess makes use, too.
        sigma: Standard deviation of its noise, above 0.
        size: Odd side of the kernel in pixels, from 3 to 31.
        boundary: Rule for the picture outside the frame.
        side: Longest side, in pixels, of the part that EM uses; the first guess has up to 256.
        solver: Sampler of the posterior; None for "warm-start" in 6 steps.
        draws: Draws in each round, at least 2.
        rounds: Largest number of rounds of EM, at least 4; the later half is averaged. A search
            that begins with a free kernel ends after three rounds that explain the spectrum no
            better.
        generator: Random numbers; None for a fixed seed.

    Returns:
        The estimate.

    Raises:
        ValueError: If an argument is out of range, the picture is too small for the kernel, shows
            no blur, or the kernel does not fit the size.
    """
    check_number(sigma, "sigma of an unknown kernel", above=0)
    check_number(size, "the side of an unknown kernel", least=3, most=LARGEST_KERNEL, whole=True)
    check_number(draws, "draws", least=2, whole=True)
    check_number(rounds, "rounds", least=4, whole=True)
    if size % 2 == 0:
        raise ValueError(f"the side of an unknown kernel must be odd, got {size}")
    smallest = max(SMALLEST, 3 * size)
    if y.ndim != 4 or len(y) != 1 or min(y.shape[-2:]) < smallest:
        raise ValueError(
            f"a kernel of {size}x{size} is estimated from one picture of at least {smallest} "
            f"pixels a side, got shape {tuple(y.shape)}; give a smaller size, or state the kernel"
        )
    part = most_detailed(y, max(side, smallest))
    larger = most_detailed(y, max(SPECTRAL, smallest))
    candidates = [*first_kernels(size), *kernels_by_splitting(larger, prior, sigma, size)]
    start = best_starts(larger, sigma, candidates, 1)[0]
    best = BestKernel(SpectralEvidence(larger, sigma), start, size)
    seed = generator.initial_seed() if generator is not None else 0
    chosen = drawing_solver(solver, _STEPS)
    found = kernel_by_em(
        DrawnMoments(part, prior, chosen, draws, seed),
        start,
        size,
        sigma,
        "reflect" if boundary == "valid" else boundary,
        rounds=rounds,
        watch=best.watch,
    )
    found = best.of(found)
    _check(found)
    return replace(found, problem=replace(found.problem, operator=Blur(found.kernel, boundary)))


def _check(found: KernelEstimate) -> None:
    k = found.kernel
    if found.spread < _NONE:
        raise ValueError(
            f"the picture shows no blur: its kernel is estimated at {found.spread:.2g} pixels of "
            "standard deviation; use --problem denoise, or state the kernel"
        )
    rim = 1 - float(k[1:-1, 1:-1].sum())
    if len(k) > 3 and rim > _RIM:
        raise ValueError(
            f"{rim:.0%} of the estimated kernel of {len(k)}x{len(k)} lie in its outermost taps, so "
            "that it seems to be larger; give a larger --kernel-size, or state the kernel"
        )
