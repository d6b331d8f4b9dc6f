r"""Exact log-likelihood by the probability-flow ODE, with error bars.

In :math:`u = x_t/\alpha_t`, :math:`s = \sigma_t/\alpha_t` the flow of every SDE is :math:`du/d\ln s = u - D(u, s)`, and by the
instantaneous change of variables (Chen et al. 2018; Song et al. 2021, appendix D.2) :math:`d\ln p_s(u)/d\ln s = \mathrm{tr}\,J - d` with
:math:`J = dD/du` in d dimensions. Both are taken relative to a Gaussian reference :math:`N(\mu, U \Lambda U^T)`. With
:math:`q = \sqrt{\Lambda + s^2}`, :math:`z = U^T(u - \mu)/q` and the denoiser :math:`D_G` of the reference,

.. math:: \frac{dz}{d\ln s} = -\frac{U^T(D - D_G)}{q}, \qquad
          \ln p_{s_0}(u) = \ln N(z_T; 0, I) - \sum \ln q_{s_0} + \int (\mathrm{tr}\,J_G - \mathrm{tr}\,J)\, d\ln s .

For Gaussian data both right-hand sides vanish; in general they are smooth enough for fixed steps from node to node of a grid, and at a node
one evaluation of the network serves the value and the products together. A fixed grid also lets every node have probes of its own, so
that their errors average out; every second node is measured by two sets, whose difference tells how large the error of the sum is.
"""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.likelihood.integrator import End, FlowIntegrator, Solver
from solvers.likelihood.nodes import NodeGrid
from solvers.likelihood.probes import Probes
from solvers.likelihood.reference import GaussianReference
from solvers.likelihood.settings import (
    Basis,
    Divergence,
    Probing,
    check_grid,
    check_samples,
    check_settings,
    default_batch,
    default_end,
    default_method,
    resolve_end,
)
from solvers.streams import spawn

__all__ = ["LogLikelihood", "levels_for", "log_likelihood"]

_MOST_NODES = 4096


@dataclass(frozen=True)
class LogLikelihood:
    """What :func:`log_likelihood` returns.

    value: ln p in nats, (B,), float64. std_error: of the random probes, (B,); 0 with the exact trace; the error of the ODE is not in it.
    ode_error: (B,), by how much the value moved when the nodes were doubled for the last time, NaN if no ``tol`` was given; what t_min and
    the largest noise leave open is not in it. dof: (B,), effective degrees of freedom of the standard error, infinite with the exact
    trace. nfe: evaluations of a network, vjps: products of its Jacobian with a vector, both for each sample. s: (nodes,) noise-to-signal
    ratios; integrand: (nodes, B), what the method integrates over ln s. z: (B, d), where the flow ended, N(0, I) if the prior is right.
    """

    value: Tensor
    std_error: Tensor
    ode_error: Tensor
    dof: Tensor
    nfe: int
    vjps: int
    seconds: float
    s: Tensor
    integrand: Tensor
    z: Tensor

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(low, high), (B,): ln p as far as the probes leave it open, by Student's t."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1), got {level}")
        quantile = torch.as_tensor(
            stats.t.ppf((1 + level) / 2, self.dof.cpu().numpy()), device=self.value.device
        )
        return self.value - quantile * self.std_error, self.value + quantile * self.std_error


def log_likelihood(
    prior: Prior,
    x: Tensor,
    *,
    divergence: Divergence = "exact",
    probes: int = 16,
    nodes: int | None = None,
    paired_every: int = 2,
    probing: Probing = "hadamard",
    basis: Basis = "auto",
    end: End | float | None = None,
    tol: float | None = None,
    solver: Solver | None = None,
    reference: GaussianReference | None = None,
    s_max: float | None = None,
    node_density: tuple[float, float] | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    batch: int | None = None,
    chunk: int | None = None,
) -> LogLikelihood:
    r"""ln p(x) in nats for samples x (B, *shape), in [-1, 1] for images, of any :class:`Prior`, guided or not.

    divergence: "exact" computes all d entries of the trace, ``chunk`` of them at a time; "hutchinson" estimates it at each node with
    ``probes`` fresh vectors, all of which share one evaluation. paired_every: one node in so many is measured with two sets of them, whose
    difference tells the standard error; 0 for none, where the scatter of the nodes about a smooth curve tells it, which for a network is
    too much, as its trace is not smooth. probing: "hadamard" (structured; ``probes`` a power of 2) or
    "rademacher" (independent). basis: of the probes: "eigen" for the coordinates of the reference, "pixel" for those of x; "auto" takes
    eigen where the reference has a basis. nodes: of the grid; by default 32 with the exact trace and 72 without. tol: in nats; with the
    exact trace, double the nodes until no value moves by more. solver: "rk4" takes four
    evaluations a node, "ab4" one, and more nodes; by default rk4 with the exact trace, which costs much more than they, and for networks,
    whose flow is stiff in places; else ab4.

    end: "data" is p_0, continued below t_min by its leading order in s^2, for data that is smooth at t_min; "t_min" is the density of
    x_t at t_min, evaluated at x, which is defined for every prior; a number s is the density of x_0 with noise of standard deviation s,
    at x, under an SDE with alpha = 1 (``with_sde``). By default "t_min" for networks, guided or not, and "data" for others.
    reference: by default what the prior says of itself (:meth:`GaussianReference.of`). s_max: where to stop, if before the SDE does.
    node_density: (a, c): nodes are uniform in ln s for a < s < c and rarer outside; by default about the smallest and the largest standard
    deviation of the reference. generator: one for all, or one for each sample. batch: samples at a time, by default as many as have
    2^16 entries together; no value depends on it, for each sample has random numbers of its own. chunk: rows of the exact trace at a
    time, by default as many as have 2^17 entries in a batch.

    ValueError: for x of a shape that is not the prior's, NaN, values far outside of the prior's range, or settings that contradict each
    other; for a prior guided by several measurements, whose densities have nothing in common.
    """
    if tol is not None:
        settings: dict[str, Any] = {
            "solver": solver, "end": end, "reference": reference, "s_max": s_max, "node_density": node_density, "batch": batch, "chunk": chunk,
        }  # fmt: skip
        return _refined(prior, x, tol, nodes, divergence, settings)
    started = time.perf_counter()
    nodes = nodes if nodes is not None else 32 if divergence == "exact" else 72
    prior, end = resolve_end(prior, default_end(prior) if end is None else end)
    check_grid(end, nodes)
    check_settings(divergence, probing, basis, solver, probes, paired_every, nodes, chunk)
    check_samples(prior, x)
    shape, batch = tuple(x.shape[1:]), default_batch(batch, x)
    reference = (reference or GaussianReference.of(prior, shape)).to(prior.device)
    if len(reference.mean) != x[0].numel():
        raise ValueError(
            f"the reference has {len(reference.mean)} dimensions, a sample {shape} has {x[0].numel()}"
        )
    solver = solver or default_method(prior, divergence)
    eigen = reference.basis is not None if basis == "auto" else basis == "eigen"
    drawer = (
        None
        if divergence == "exact"
        else Probes(shape, probes, reference, eigen, probing == "hadamard")
    )
    generators = spawn(generator, len(x)) if drawer else []
    flow = FlowIntegrator(
        prior,
        shape,
        reference,
        levels_for(prior, reference, nodes, s_max, node_density),
        end,
        solver,
        drawer,
        paired_every,
        chunk,
    )
    parts = [
        flow.run(x[i : i + batch].to(prior.device), generators[i : i + batch])
        for i in range(0, len(x), batch)
    ]
    value, error, dof, integrand, z = (torch.cat(p, dim=0) for p in zip(*parts, strict=True))
    vjps = nodes * x[0].numel() if drawer is None else (nodes + len(flow.twice)) * probes
    unknown = torch.full_like(value, math.nan)
    return LogLikelihood(
        value,
        error,
        unknown,
        dof,
        flow.nfe * prior.cost,
        vjps * prior.cost,
        time.perf_counter() - started,
        flow.s,
        integrand.T,
        z,
    )


def _refined(
    prior: Prior,
    x: Tensor,
    tol: float,
    nodes: int | None,
    divergence: str,
    settings: dict[str, Any],
) -> LogLikelihood:
    """With the exact trace, on 2, 4, 8, ... times the nodes, until no value moves by more than ``tol``."""
    if divergence != "exact":
        raise ValueError(
            "tol needs divergence='exact': random probes move the values by much more than the nodes do"
        )
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    n = nodes if nodes is not None else 32
    result = log_likelihood(prior, x, nodes=n, **settings)
    nfe, vjps, seconds = result.nfe, result.vjps, result.seconds
    while True:
        n *= 2
        finer = log_likelihood(prior, x, nodes=n, **settings)
        nfe, vjps, seconds = nfe + finer.nfe, vjps + finer.vjps, seconds + finer.seconds
        moved = (finer.value - result.value).abs()
        result = replace(finer, ode_error=moved, nfe=nfe, vjps=vjps, seconds=seconds)
        if bool((moved <= tol).all()):
            return result
        if 2 * n > _MOST_NODES:
            warnings.warn(
                f"values still move by {float(moved.max()):.2g} nats at {n} nodes: tol = {tol:g} is not reached",
                stacklevel=3,
            )
            return result


def levels_for(
    prior: Prior,
    reference: GaussianReference,
    nodes: int,
    s_max: float | None,
    node_density: tuple[float, float] | None,
) -> NodeGrid:
    """So many nodes from the prior's smallest noise to its largest, or to s_max, dense where the reference says that the density changes.
    node_density: (a, c) of ``NodeGrid`` instead. ValueError if s_max lies below the smallest noise."""
    ends = prior.sde.noise_to_signal(
        torch.tensor([prior.sde.t_min, prior.sde.t_max], dtype=torch.float64)
    )
    first, last = float(ends[0]), min(float(ends[1]), math.inf if s_max is None else s_max)
    if not first < last:
        raise ValueError(
            f"s_max must lie above the smallest noise of the prior, {first:g}; got {last:g}"
        )
    smallest, largest = (
        math.sqrt(max(float(v), 1e-12))
        for v in (reference.variances.min(), reference.variances.max())
    )
    a, c = node_density or (0.0 if reference.basis is None else 0.4 * smallest, 2 * largest)
    if not 0 <= a < c:
        raise ValueError(f"a node_density (a, c) needs 0 <= a < c, got {node_density}")
    return NodeGrid(first, last, nodes, a, c)
