r"""Posterior draws of an autoregressive image, by particles in raster order.

With a potential :math:`\psi_i(x_{\le i})` that ends as p(y | x) (:mod:`scoresde.families.autoregressive.potentials`) and
few levels the best proposal is at hand as a table,

.. math:: q(x_i) = p(x_i \mid x_{<i})\, \frac{\psi_i}{\psi_{i-1}} / w_i,\quad w_i = \sum_v p(v \mid x_{<i})\, \frac{\psi_i(v)}{\psi_{i-1}},

and :math:`\prod_i w_i` weighs a particle (the fully adapted filter, Pitt and Shephard 1999). A population is resampled before the step
where its effective size has fallen below half. Each draw has a population of its own and takes one particle of it, by its weight: of the
posterior as the particles grow in number. Then sweeps of conditional SMC (particle Gibbs, Andrieu et al. 2010): the draw is particle 0 of
a new population, survives every resampling, and a new draw is taken. A sweep leaves the posterior invariant with any number of particles.

Nothing is approximate where the weights cannot differ between particles: noise-free pixels all before the missing ones. One particle is
enough.
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

_PIXELS = 1 << 18  # of the particles in the network at once


def is_ancestral(table: Tensor) -> bool:
    """Whether sampling the tilted factors in order is exact: all that comes before the last entry that y speaks of is fixed by y.

    table: (P, C, H, W, levels), ln p(y_i | x_i) up to a constant for each i.
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
    """A draw for each population of the potential: (P, C, H, W). diagnostics: "share", the least effective share of particles in any
    population at any pixel; "moved", the share of entries that differ after the last sweep, of those that y does not fix."""
    ancestral = isinstance(potential, Pointwise) and is_ancestral(potential.table)
    if ancestral:
        particles, sweeps = 1, 0
    parts = potential.split(max(1, _PIXELS // (particles * model.shape[1] * model.shape[2])))
    passes, draws, share, moved = len(parts) * (1 + sweeps), [], 1.0, []
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
    """One particle of each of P populations of M, as levels (P, C, H, W); and the least effective share. kept: levels of particles 0."""
    assert isinstance(model.network, PixelCNN)
    (C, H, W), P, L, grid = (
        model.shape,
        potential.populations,
        potential.levels,
        _grid(model, potential),
    )
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
                        tilted, outputs, level = (
                            tilted.flatten(0, 1)[index].reshape(P, M, L),
                            outputs[index],
                            level[index],
                        )
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
    """(P, M), each row summing to 1."""
    if bool((log_weight.max(1).values == -math.inf).any()):
        raise ValueError(
            "the measurement has probability zero at every particle: noise and operator do not allow it"
        )
    return torch.softmax(log_weight, 1)


def _resample(w: Tensor, poor: Tensor, generator: torch.Generator | None, keep: bool) -> Tensor:
    """Indices (P M,) into all particles: independent ones in the poor populations, none moved in the others. keep: particle 0 stays."""
    P, M = w.shape
    index = categorical(w[:, None].expand(P, M, M), generator)
    if keep:
        index[:, 0] = 0
    here = torch.arange(M, device=w.device)
    return (
        torch.where(poor[:, None], index, here) + M * torch.arange(P, device=w.device)[:, None]
    ).flatten()
