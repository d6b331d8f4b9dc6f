r"""Posterior draws of an autoregressive image, by particles in raster order.

Let :math:`\psi_i(x_{\le i})` be a potential that ends as p(y | x)
(:mod:`scoresde.families.autoregressive.potentials`). With few levels, the best proposal can be
tabulated,

.. math:: q(x_i) = p(x_i \mid x_{<i})\, \frac{\psi_i}{\psi_{i-1}} / w_i,\quad
          w_i = \sum_v p(v \mid x_{<i})\, \frac{\psi_i(v)}{\psi_{i-1}},

and :math:`\prod_i w_i` is the weight of a particle (the fully adapted filter, Pitt and Shephard
1999). A population is resampled before the step if its effective size has fallen below half. Each
draw has a separate population and takes one particle of it, in proportion to the weights. Its
distribution tends to the posterior as the number of particles grows.

Then follow sweeps of conditional SMC (particle Gibbs, Andrieu et al. 2010): the draw is particle 0
of a new population, survives every resampling, and a new draw is taken. A sweep leaves the
posterior invariant with any number of particles.

The draws are exact if the weights cannot differ between particles, that is, if noise-free pixels
all come before the missing ones. One particle is then enough.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scoresde.families.autoregressive.categorical import categorical
from scoresde.families.autoregressive.interface import PixelModel
from scoresde.families.autoregressive.logistic import discretised_logistic_mixture_log_prob
from scoresde.families.autoregressive.pixelcnn import PixelCNN
from scoresde.families.autoregressive.potentials import Pointwise, Potential
from scoresde.families.autoregressive.raster import Raster

__all__ = ["is_ancestral", "particle_draws"]

_PIXELS = 1 << 18  # most pixels of all particles in the network at once


def is_ancestral(table: Tensor) -> bool:
    """Check if sampling the tilted factors in order is exact.

    Args:
        table: ln p(y_i | x_i) up to a constant for each i, shape (P, C, H, W, levels).

    Returns:
        True if y fixes all entries before the last entry that it depends on.
    """
    flat = table.permute(0, 2, 3, 1, 4).flatten(1, 3)
    speaks = (flat != flat[..., :1]).any(-1).any(0)
    fixed = (torch.isfinite(flat).sum(-1) == 1).all(0)
    last = int(speaks.nonzero().max()) if bool(speaks.any()) else 0
    return bool(fixed[:last].all())


@torch.no_grad()
def particle_draws(
    model: PixelModel,
    potential: Potential,
    generator: torch.Generator | None,
    *,
    particles: int,
    sweeps: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Draw one sample for each population of a potential.

    Args:
        model: Autoregressive model of images.
        potential: Factors that tilt the model towards the measurement, for P populations.
        generator: Source of the random numbers; None for torch's global one.
        particles: Particles in each population.
        sweeps: Sweeps of particle Gibbs after the first pass.
        progress: Called with the finished fraction of the work, 0 to 1; None for no reports.

    Returns:
        Draws, shape (P, C, H, W), and diagnostics. "share" is the smallest effective share of
        particles in any population at any pixel. "moved" is the share of the entries not fixed by y
        that the last sweep has changed. "exact" is True for ancestral sampling. "nfe" is the number
        of evaluations of whole images per draw.

    Raises:
        ValueError: If the measurement has probability zero at every particle.

    Example:
        >>> import torch
        >>> from scoresde.families.autoregressive import (
        ...     Autoregressive, AutoregressiveConfig, Pointwise, particle_draws)
        >>> config = AutoregressiveConfig((1, 2, 2), widths=(4,), blocks=1, components=1, levels=4)
        >>> table = torch.zeros(3, 1, 2, 2, 4, dtype=torch.float64)
        >>> table[:, 0, 0, 0, :3] = -torch.inf  # the first pixel must have the highest level
        >>> x, diagnostics = particle_draws(
        ...     Autoregressive(config), Pointwise(table), torch.Generator().manual_seed(0),
        ...     particles=4, sweeps=1)
        >>> x.shape, x[:, 0, 0, 0]
        (torch.Size([3, 1, 2, 2]), tensor([1., 1., 1.]))
        >>> diagnostics["method"], diagnostics["exact"]
        ('ancestral', True)
    """
    ancestral = isinstance(potential, Pointwise) and is_ancestral(potential.table)
    if ancestral:
        particles, sweeps = 1, 0
    parts = potential.split(max(1, _PIXELS // (particles * model.shape[1] * model.shape[2])))
    passes = len(parts) * (1 + sweeps)
    draws = []
    share = 1.0
    moved = []
    for p, part in enumerate(parts):
        x: Tensor | None = None
        before: Tensor | None = None
        for sweep in range(1 + sweeps):

            def report(fraction: float, done: int = p * (1 + sweeps) + sweep) -> None:
                if progress:
                    progress((done + fraction) / passes)

            before = x
            x, least = _population(model, part, particles, generator, x, report)
            share = min(share, least)
        assert x is not None
        if before is not None:
            moved.append((x != before)[part.free()].double().mean())
        draws.append(x)
    diagnostics: dict[str, Any] = {
        "method": "ancestral"
        if ancestral
        else "particles"
        if isinstance(potential, Pointwise)
        else "particles that look ahead",
        "particles": particles,
        "sweeps": sweeps,
        "share": share,
    }
    if sweeps:
        diagnostics["moved"] = float(torch.stack(moved).mean())
    return _grid(model, potential)[torch.cat(draws)], diagnostics | {
        "exact": ancestral,
        "nfe": particles * (1 + sweeps),
    }


def _grid(model: PixelModel, potential: Potential) -> Tensor:
    """Compute the values of the levels on [-1, 1], (levels,)."""
    like = next(model.parameters())
    return torch.linspace(-1, 1, potential.levels, dtype=torch.float64, device=like.device).to(
        like.dtype
    )


def _population(
    model: PixelModel,
    potential: Potential,
    M: int,
    generator: torch.Generator | None,
    kept: Tensor | None,
    progress: Callable[[float], None],
) -> tuple[Tensor, float]:
    """Run P populations of M particles, and draw one particle of each.

    The result has levels (P, C, H, W) and the smallest effective share. kept: levels of particles
    0, or None.
    """
    assert isinstance(model.network, PixelCNN)
    C, H, W = model.shape
    P = potential.populations
    L = potential.levels
    grid = _grid(model, potential)
    potential.begin(M)
    raster = Raster(model.network, P * M, model.shape, grid)
    level = torch.zeros(P * M, C, H, W, dtype=torch.int64, device=grid.device)
    log_weight, share = torch.zeros(P, M, dtype=torch.float64, device=grid.device), 1.0
    for i in range(H):
        for j in range(W):
            outputs = raster.outputs(i, j)
            for c in range(C):
                logits, means, log_scales = (
                    p[:, c, None] for p in model.split(outputs, raster.at(i, j))
                )
                factor = discretised_logistic_mixture_log_prob(
                    grid.expand(P * M, L), logits, means, log_scales, L
                ).double()
                tilted = factor.reshape(P, M, L)
                if (told := potential.factors(c, i, j)) is not None:
                    tilted = tilted + told
                    log_weight = log_weight + torch.logsumexp(tilted, -1)
                    w = _weights(log_weight)
                    effective = 1 / w.square().sum(1) / M
                    share = min(share, float(effective.min()))
                    poor = effective < 0.5
                    if bool(poor.any()):
                        index = _resample(w, poor, generator, kept is not None)
                        log_weight = torch.where(poor[:, None], 0.0, log_weight)
                        tilted = tilted.flatten(0, 1)[index].reshape(P, M, L)
                        outputs = outputs[index]
                        level = level[index]
                        raster.select(index)
                        potential.select(index)
                chosen = categorical(torch.softmax(tilted, -1), generator)
                if kept is not None:
                    chosen[:, 0] = kept[:, c, i, j]
                level[:, c, i, j] = chosen.flatten()
                raster.put(i, j, c, grid[chosen.flatten()])
                potential.put(c, i, j, grid[chosen.flatten()])
        progress((i + 1) / H)
    last = categorical(_weights(log_weight), generator)
    return level.reshape(P, M, C, H, W)[torch.arange(P, device=level.device), last], share


def _weights(log_weight: Tensor) -> Tensor:
    """Normalise weights (P, M) so that each row sums to 1."""
    if bool((log_weight.max(1).values == -math.inf).any()):
        raise ValueError(
            "the measurement has probability zero at every particle: noise and operator do not "
            "allow it"
        )
    return torch.softmax(log_weight, 1)


def _resample(w: Tensor, poor: Tensor, generator: torch.Generator | None, keep: bool) -> Tensor:
    """Choose the ancestors of all particles, as indices (P M,).

    They are independent draws in the poor populations, and the particles themselves in the others.
    If keep is True, particle 0 stays.
    """
    P, M = w.shape
    index = categorical(w[:, None].expand(P, M, M), generator)
    if keep:
        index[:, 0] = 0
    here = torch.arange(M, device=w.device)
    return (
        torch.where(poor[:, None], index, here) + M * torch.arange(P, device=w.device)[:, None]
    ).flatten()
