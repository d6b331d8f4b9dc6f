r"""Exact log-likelihood by the probability-flow ODE, with error bars.

In :math:`u = x_t/\alpha_t`, :math:`s = \sigma_t/\alpha_t` the flow of every SDE is :math:`du/d\ln s = u - D(u, s)`, and by the
instantaneous change of variables (Chen et al. 2018; Song et al. 2021, appendix D.2) :math:`d\ln p_s(u)/d\ln s = \mathrm{tr}\,J - d` with
:math:`J = dD/du` in d dimensions. Both are taken relative to a Gaussian reference :math:`N(\mu, U \Lambda U^T)`. With
:math:`q = \sqrt{\Lambda + s^2}`, :math:`z = U^T(u - \mu)/q` and the denoiser :math:`D_G` of the reference,

.. math:: \frac{dz}{d\ln s} = -\frac{U^T(D - D_G)}{q}, \qquad
          \ln p_{s_0}(u) = \ln N(z_T; 0, I) - \sum \ln q_{s_0} + \int (\mathrm{tr}\,J_G - \mathrm{tr}\,J)\, d\ln s .

For Gaussian data both right-hand sides vanish; in general they are smooth enough for a multistep method on a fixed grid of nodes, where the
network is evaluated once per node, for the value and the products together. A fixed grid also lets every node have probes of its
own, so that their errors average out; every second node is measured by two sets, whose difference tells how large the error of the sum is.
"""

import math
import time
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy import stats
from torch import Tensor

from scoresde.prior import Prior
from solvers.likelihood.flow import End, Flow, Solver
from solvers.likelihood.grid import Levels
from solvers.likelihood.probes import Probes
from solvers.likelihood.reference import GaussianReference
from solvers.noise import spawn

__all__ = ["LogLikelihood", "check_grid", "check_samples", "levels_for", "log_likelihood"]

Divergence = Literal["exact", "hutchinson"]
Probing = Literal["hadamard", "rademacher"]
Basis = Literal["auto", "pixel", "eigen"]


@dataclass(frozen=True)
class LogLikelihood:
    """What :func:`log_likelihood` returns.

    value: ln p in nats, (B,), float64. std_error: of the random probes, (B,); 0 with the exact trace; the error of the ODE is not in it.
    nfe: evaluations of the denoiser, products: of its Jacobian with a vector, both for each sample. s: (nodes,) noise-to-signal
    ratios; integrand: (nodes, B), what the method integrates over ln s. z: (B, d), where the flow ended, N(0, I) if the prior is right.
    dof: (B,), effective degrees of freedom of the standard error, infinite with the exact trace.
    """

    value: Tensor
    std_error: Tensor
    dof: Tensor
    nfe: int
    products: int
    seconds: float
    s: Tensor
    integrand: Tensor
    z: Tensor

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(low, high), (B,): ln p as far as the probes leave it open, by Student's t."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1), got {level}")
        quantile = torch.as_tensor(stats.t.ppf((1 + level) / 2, self.dof.cpu().numpy()), device=self.value.device)
        return self.value - quantile * self.std_error, self.value + quantile * self.std_error


def log_likelihood(
    prior: Prior,
    x: Tensor,
    *,
    divergence: Divergence = "exact",
    probes: int = 16,
    nodes: int | None = None,
    repeat: int = 2,
    probing: Probing = "hadamard",
    basis: Basis = "auto",
    end: End = "data",
    solver: Solver | None = None,
    reference: GaussianReference | None = None,
    s_max: float | None = None,
    clock: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    batch: int | None = None,
    chunk: int | None = None,
) -> LogLikelihood:
    r"""ln p(x) in nats for samples x (B, *shape), in [-1, 1] for images, of any :class:`Prior`, guided or not.

    divergence: "exact" computes all d entries of the trace, ``chunk`` of them at a time; "hutchinson" estimates it at each node with
    ``probes`` fresh vectors, all of which share one evaluation. repeat: one node in so many is measured with two sets of them, whose
    difference tells the standard error; 0 for none, where the scatter of the nodes about a smooth curve tells it, which for a network is
    too much, as its trace is not smooth. probing: "hadamard" (structured; ``probes`` a power of 2) or
    "rademacher" (independent). basis: of the probes: "eigen" for the coordinates of the reference, "pixel" for those of x; "auto" takes
    eigen where the reference has a basis. nodes: of the grid; by default 32 with the exact trace and 72 without. solver: "rk4" takes four
    evaluations a node, "ab4" one, and more nodes; by default rk4 with the exact trace, which costs much more than they, and else ab4.

    end: "data" is p_0, continued below t_min by its leading order in s^2, for data that is smooth at t_min; "t_min" is the density of
    x_t at t_min, evaluated at x, which is defined for every prior. reference: by default what the prior says of itself
    (:meth:`GaussianReference.of`). s_max: where to stop, if before the SDE does. clock: (a, c): nodes are uniform in ln s for a < s < c and
    rarer outside; by default about the smallest and the largest standard deviation of the reference. batch: samples at a time, 64 or
    2^15 entries by default; no value depends on it, for each sample has random numbers of its own.

    ValueError: for x of a shape that is not the prior's, NaN, or settings that contradict each other.
    """
    started = time.perf_counter()
    nodes = nodes or (32 if divergence == "exact" else 72)
    check_grid(end, nodes)
    _check_settings(divergence, probing, basis, solver, probes, repeat, nodes)
    check_samples(prior, x)
    shape, batch = tuple(x.shape[1:]), batch_of(batch, x)
    reference = (reference or GaussianReference.of(prior, shape)).to(prior.device)
    if len(reference.mean) != x[0].numel():
        raise ValueError(f"the reference has {len(reference.mean)} dimensions, a sample {shape} has {x[0].numel()}")
    solver = solver or ("rk4" if divergence == "exact" else "ab4")
    eigen = reference.basis is not None if basis == "auto" else basis == "eigen"
    drawer = None if divergence == "exact" else Probes(shape, probes, reference, eigen, probing == "hadamard")
    generators = spawn(generator, len(x)) if drawer else []
    flow = Flow(prior, shape, reference, levels_for(prior, reference, nodes, s_max, clock), end, solver, drawer, repeat, chunk)
    parts = [flow.run(x[i : i + batch].to(prior.device), generators[i : i + batch]) for i in range(0, len(x), batch)]
    value, error, dof, integrand, z = (torch.cat(p, dim=0) for p in zip(*parts, strict=True))
    products = nodes * x[0].numel() if drawer is None else (nodes + len(flow.twice)) * probes
    return LogLikelihood(value, error, dof, flow.nfe, products, time.perf_counter() - started, flow.s, integrand.T, z)


def _check_settings(divergence: str, probing: str, basis: str, solver: str | None, probes: int, repeat: int, nodes: int) -> None:
    for name, value, known in (
        ("divergence", divergence, Divergence), ("probing", probing, Probing), ("basis", basis, Basis), ("solver", solver or "rk4", Solver),
    ):  # fmt: skip
        if value not in get_args(known):
            raise ValueError(f"unknown {name} {value!r}; known: {', '.join(get_args(known))}")
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}")
    if repeat < 0 or 4 * repeat > nodes:
        raise ValueError(f"repeat must be 0, or leave four nodes or more that are measured twice: at most {nodes // 4}, got {repeat}")


def check_grid(end: str, nodes: int | None) -> None:
    """ValueError for an unknown end, or fewer nodes than the error of the sum can be told from; None is a default."""
    if end not in get_args(End):
        raise ValueError(f"unknown end {end!r}; known: {', '.join(get_args(End))}")
    if nodes is not None and nodes < 8:
        raise ValueError(f"the grid needs at least 8 nodes, got {nodes}")


def batch_of(batch: int | None, x: Tensor) -> int:
    """Samples at a time: as asked, or many where they are small. ValueError for fewer than one."""
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    return batch or max(64, 2**15 // x[0].numel())


def check_samples(prior: Prior, x: Tensor) -> None:
    """ValueError if x is not a finite batch of the prior's samples, of any size where these are images."""
    if x.ndim != len(prior.shape) + 1 or (len(prior.shape) == 3 and x.shape[1] != prior.shape[0]) or not len(x):
        raise ValueError(f"x must be a batch (B, {', '.join(map(str, prior.shape))}) of the prior's samples, got {tuple(x.shape)}")
    if len(prior.shape) != 3 and tuple(x.shape[1:]) != tuple(prior.shape):
        raise ValueError(f"x must be a batch (B, {', '.join(map(str, prior.shape))}) of the prior's samples, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, got {x.dtype}; for 8-bit images there is bits_per_dim")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds NaN or infinite values")


def levels_for(prior: Prior, reference: GaussianReference, nodes: int, s_max: float | None, clock: tuple[float, float] | None) -> Levels:
    """So many nodes from the prior's smallest noise to its largest, or to s_max, dense where the reference says that the density changes.
    clock: (a, c) of ``Levels`` instead. ValueError if s_max lies below the smallest noise."""
    ends = prior.sde.noise_to_signal(torch.tensor([prior.sde.t_min, prior.sde.t_max], dtype=torch.float64))
    first, last = float(ends[0]), min(float(ends[1]), s_max or math.inf)
    if not first < last:
        raise ValueError(f"s_max must lie above the smallest noise of the prior, {first:g}; got {last:g}")
    smallest, largest = (math.sqrt(max(float(v), 1e-12)) for v in (reference.variances.min(), reference.variances.max()))
    a, c = clock or (0.0 if reference.basis is None else 0.4 * smallest, 2 * largest)
    return Levels(first, last, nodes, a, c)
