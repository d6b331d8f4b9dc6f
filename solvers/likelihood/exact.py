r"""Exact log-likelihood by the probability-flow ODE, with error bars.

In :math:`u = x_t/\alpha_t`, :math:`s = \sigma_t/\alpha_t` the flow of every SDE is
:math:`du/d\ln s = u - D(u, s)`. By the instantaneous change of variables (Chen et al. 2018; Song et
al. 2021, appendix D.2) :math:`d\ln p_s(u)/d\ln s = \mathrm{tr}\,J - d` with :math:`J = dD/du` in d
dimensions. Both are taken relative to a Gaussian reference :math:`N(\mu, U \Lambda U^T)`. With
:math:`q = \sqrt{\Lambda + s^2}`, :math:`z = U^T(u - \mu)/q` and the denoiser :math:`D_G` of the
reference,

.. math:: \frac{dz}{d\ln s} = -\frac{U^T(D - D_G)}{q}, \qquad
          \ln p_{s_0}(u) = \ln N(z_T; 0, I) - \sum \ln q_{s_0}
          + \int (\mathrm{tr}\,J_G - \mathrm{tr}\,J)\, d\ln s .

For Gaussian data both right-hand sides vanish. In general they are smooth enough for fixed steps
from node to node of a grid, and at a node one evaluation of the network serves both its value and
the products with its Jacobian. A fixed grid also allows independent probes at every node, whose
errors average out. Every second node is measured with two sets of probes, and their differences
estimate the error of the sum.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.likelihood.flow import RelativeFlow
from solvers.likelihood.integrator import FlowIntegrator
from solvers.likelihood.nodes import nodes_for
from solvers.likelihood.probes import Probes
from solvers.likelihood.reference import GaussianReference
from solvers.likelihood.settings import (
    Basis,
    Divergence,
    End,
    Probing,
    Solver,
    check_grid,
    check_samples,
    check_settings,
    default_batch,
    default_end,
    default_method,
    resolve_end,
)
from solvers.streams import spawn

__all__ = ["LogLikelihood", "log_likelihood"]

_MOST_NODES = 4096


@dataclass(frozen=True)
class LogLikelihood:
    """Result of `log_likelihood` for a batch of B samples in d dimensions.

    Args:
        value: ln p in nats, (B,), float64.
        std_error: Standard error of value caused by the random probes, in nats, (B,); 0 with the
            exact trace. It does not include the error of the ODE.
        ode_error: Change of value in nats when the nodes were doubled for the last time, (B,); NaN
            if no tol was given. It does not include errors from stopping at t_min and at the
            largest noise.
        dof: Effective degrees of freedom of std_error, (B,); infinite with the exact trace.
        nfe: Network evaluations for each sample.
        vjps: Vector-Jacobian products with a network for each sample.
        seconds: Wall time of the call.
        s: Noise-to-signal ratios of the nodes, (nodes,), increasing.
        integrand: Integrand over ln s at the nodes, (nodes, B).
        z: End points of the flow, (B, d). They are distributed as N(0, I) if x has the density of
            the prior.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import log_likelihood
        >>> prior = GaussianPrior(torch.zeros(2), torch.eye(2))
        >>> x = torch.zeros(3, 2, dtype=torch.float64)
        >>> result = log_likelihood(prior, x, nodes=8)
        >>> result.value.shape, result.integrand.shape
        (torch.Size([3]), torch.Size([8, 3]))
        >>> low, high = result.interval(0.95)  # no width: the trace is exact
        >>> bool((low == high).all())
        True
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
        """Compute a confidence interval of ln p by Student's t, for the error of the probes.

        Args:
            level: Coverage of the interval, in (0, 1).

        Returns:
            The lower and the upper end in nats, each (B,).

        Raises:
            ValueError: If level does not lie in (0, 1).
        """
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
    progress: Callable[[float], None] | None = None,
) -> LogLikelihood:
    r"""Compute ln p(x) by the probability-flow ODE, for any prior, guided or not.

    Args:
        prior: Prior whose density is evaluated. A guided prior must have one measurement.
        x: Samples, (B, *shape), floating point; images on [-1, 1].
        divergence: Method for the trace of the Jacobian at a node. "exact" computes all its d
            entries, d the number of entries of a sample. "hutchinson" estimates it with random
            vectors, all in one evaluation of the network.
        probes: Number of random vectors in a set, at least 1; a power of 2 with "hadamard" probing.
            Used with "hutchinson" only.
        nodes: Number of noise levels in the grid, at least 8. None for 32 with the exact trace and
            72 with random probes. With tol, the number to begin with.
        paired_every: Distance between nodes that are measured with two sets of probes, whose
            differences estimate the standard error: 2 for every second node. At most a quarter of
            the nodes. 0 estimates the error from the scatter of the nodes about a smooth curve
            instead, which overestimates it for networks, whose trace is not smooth. Used with
            "hutchinson" only.
        probing: Kind of random vectors: "hadamard" for structured ones, whose errors partly
            cancel, or "rademacher" for independent signs. Used with "hutchinson" only.
        basis: Coordinates in which the probes are drawn: "eigen" for those of the reference,
            "pixel" for those of x, "auto" for "eigen" if the reference has a basis and "pixel"
            otherwise. Used with "hutchinson" only.
        end: Noise level at which the density is evaluated. "data": that of x_0, p_0, continued
            below t_min by its leading powers of s^2, for data whose density is smooth at the noise
            of t_min. "t_min": the density of x_t at t_min, evaluated at x, which is defined for
            every prior. A number s: the density at x of x_0 plus noise of standard deviation s,
            in the units of x, under an SDE with alpha = 1 (`Prior.with_sde`). None for "t_min" for
            networks, guided or not, and "data" for other priors.
        tol: Tolerance in nats. The nodes are doubled, up to 4096, until no value changes by more;
            a warning says if that was not reached. Needs the exact trace. None to integrate once.
        solver: Method for the ODE. "rk4": Runge-Kutta, four evaluations per node. "ab4":
            Adams-Bashforth, one evaluation per node, which needs more nodes. None for "rk4" with
            the exact trace, which costs much more than the extra evaluations, and for networks,
            whose flow is stiff in places; "ab4" otherwise.
        reference: Gaussian relative to which the flow is integrated, in d dimensions. It affects
            the accuracy, and the distribution assumed at the largest noise. None for the moments
            of the prior (`GaussianReference.of`).
        s_max: Noise-to-signal ratio at which the integration stops, above the smallest noise. None
            for that of the SDE at t_max, which is also the largest possible value.
        node_density: Pair (a, c) with 0 <= a < c. The nodes are uniform in ln s for a < s < c and
            rarer outside. None for 0.4 times the smallest (0 for a reference without a basis) and
            twice the largest standard deviation of the reference.
        generator: Source of the random probes: one generator, from which one is derived for each
            sample, or a sequence of B generators, each of which alone decides the probes of its
            sample. None for torch's global generator. Used with "hutchinson" only.
        batch: Number of samples processed together, at least 1; values do not depend on it. None
            for as many as have 2^16 entries in total.
        chunk: Entries of the exact trace computed together, at least 1; it bounds the memory. None
            for as many as have 2^17 numbers in a batch. Used with "exact" only.
        progress: Called with the finished fraction of the work, after each node. Not used with
            tol, where the amount of work is not known.

    Returns:
        ln p(x) in nats with error estimates, and what they were computed from.

    Raises:
        ValueError: If x does not have the shape of the prior's samples, holds NaN or infinite
            values or values far outside the prior's range; if settings are unknown or contradict
            each other; or if the prior is guided by several measurements, whose posterior
            densities are unrelated.

    Example:
        >>> import torch
        >>> from scoresde import GaussianMixturePrior
        >>> means = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> prior = GaussianMixturePrior(torch.ones(3), means, 0.1 * torch.eye(2).expand(3, 2, 2))
        >>> x = torch.tensor([[0.8, 0.1]], dtype=torch.float64)
        >>> exact = log_likelihood(prior, x)
        >>> bool((exact.value - prior.log_prob(x)).abs() < 1e-3)
        True
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimate = log_likelihood(
        ...     prior, x, divergence="hutchinson", probes=1, generator=generator
        ... )
        >>> low, high = estimate.interval(0.99)
        >>> bool(low < prior.log_prob(x) < high)
        True
    """
    if tol is not None:
        settings: dict[str, Any] = {
            "solver": solver,
            "end": end,
            "reference": reference,
            "s_max": s_max,
            "node_density": node_density,
            "batch": batch,
            "chunk": chunk,
        }
        return _refined(prior, x, tol, nodes, divergence, settings)
    started = time.perf_counter()
    nodes = nodes if nodes is not None else 32 if divergence == "exact" else 72
    prior, end = resolve_end(prior.precise(), default_end(prior) if end is None else end)
    check_grid(end, nodes)
    check_settings(divergence, probing, basis, solver, probes, paired_every, nodes, chunk)
    check_samples(prior, x)
    shape, batch = tuple(x.shape[1:]), default_batch(batch, x)
    reference = (reference or GaussianReference.of(prior, shape)).to(prior.device)
    if len(reference.mean) != x[0].numel():
        raise ValueError(
            f"the reference has {len(reference.mean)} dimensions, "
            f"a sample {shape} has {x[0].numel()}"
        )
    eigen = reference.basis is not None if basis == "auto" else basis == "eigen"
    integrator = FlowIntegrator(
        flow=RelativeFlow(prior, shape, reference),
        grid=nodes_for(prior, reference, nodes, s_max=s_max, node_density=node_density),
        end=end,
        solver=solver or default_method(prior, divergence),
        probes=None
        if divergence == "exact"
        else Probes(shape, probes, reference, eigen, probing == "hadamard"),
        paired_every=paired_every,
        chunk=chunk,
    )
    generators = spawn(generator, len(x)) if integrator.probes else []
    parts = []
    for i in range(0, len(x), batch):
        one = x[i : i + batch].to(prior.device)
        share = None if progress is None else _share(progress, i / len(x), len(one) / len(x))
        parts.append(integrator.run(one, generators[i : i + batch], share))
    value, error, dof, integrand, z = (torch.cat(p, dim=0) for p in zip(*parts, strict=True))
    return LogLikelihood(
        value=value,
        std_error=error,
        ode_error=torch.full_like(value, math.nan),
        dof=dof,
        nfe=integrator.nfe * prior.cost,
        vjps=integrator.vjps * prior.cost,
        seconds=time.perf_counter() - started,
        s=integrator.s,
        integrand=integrand.T,
        z=z,
    )


def _share(
    progress: Callable[[float], None], start: float, length: float
) -> Callable[[float], None]:
    """Progress of a part of the work as progress of the whole."""
    return lambda fraction: progress(start + length * fraction)


def _refined(
    prior: Prior,
    x: Tensor,
    tol: float,
    nodes: int | None,
    divergence: str,
    settings: dict[str, Any],
) -> LogLikelihood:
    """Double the nodes until no value changes by more than tol; with the exact trace."""
    if divergence != "exact":
        raise ValueError(
            "tol needs divergence='exact': the error of random probes is much larger than that of "
            "the nodes"
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
                f"values still change by {float(moved.max()):.2g} nats at {n} nodes: "
                f"tol = {tol:g} is not reached",
                stacklevel=3,
            )
            return result
