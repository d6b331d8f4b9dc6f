"""Integration of the relative flow over a grid of noise levels, with the change of density."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from solvers.likelihood.endpoints import Endpoint, endpoint_for
from solvers.likelihood.flow import RelativeFlow
from solvers.likelihood.nodes import NodeGrid, quadrature_weights, standard_error
from solvers.likelihood.probes import Probes
from solvers.likelihood.settings import End, Solver

__all__ = ["FlowIntegrator", "FlowResult"]

_AB4 = (55 / 24, -59 / 24, 37 / 24, -9 / 24)


class FlowResult(NamedTuple):
    """Log-densities of a batch, and what they were computed from.

    Attributes:
        value: ln p in nats, (B,), float64.
        std_error: Standard error of value caused by the random probes, (B,).
        dof: Effective degrees of freedom of std_error, (B,).
        integrand: tr J_G - tr J at the nodes, (B, n).
        z: End points of the flow, (B, d).
    """

    value: Tensor
    std_error: Tensor
    dof: Tensor
    integrand: Tensor
    z: Tensor


@dataclass(frozen=True, kw_only=True)
class FlowIntegrator:
    """Integrator of one flow over one grid of noise levels.

    Args:
        flow: Flow of the prior relative to a Gaussian reference in d dimensions.
        grid: Nodes, at least 8.
        end: Where the density is evaluated: "data" or "t_min".
        solver: Method for the steps: "rk4" or "ab4", whose first three steps are Runge-Kutta too.
        probes: Random vectors for the trace; None to compute all its d entries.
        paired_every: Distance between nodes at which the trace is estimated twice; 0 for none.
        chunk: Entries of the exact trace computed at once; None for as many as have 2^17 numbers
            in a batch.
    """

    flow: RelativeFlow
    grid: NodeGrid
    end: End
    solver: Solver
    probes: Probes | None
    paired_every: int
    chunk: int | None

    @cached_property
    def w(self) -> Tensor:
        """Nodes in the variable of the grid, (n,), on the device of the prior."""
        return self.grid.w().to(self.flow.prior.device)

    @cached_property
    def s(self) -> Tensor:
        """Noise-to-signal ratios of the nodes, (n,), on the device of the prior."""
        return self.grid.s(self.w)

    @cached_property
    def endpoint(self) -> Endpoint:
        """Lower end of the flow."""
        return endpoint_for(self.end, self.flow.prior.sde, self.s)

    @cached_property
    def twice(self) -> tuple[int, ...]:
        """Indices of the nodes at which the trace is estimated twice, increasing."""
        if not (self.probes and self.paired_every):
            return ()
        regular = range(self.paired_every // 2, self.grid.n, self.paired_every)
        # these nodes also carry the weight of the part below the first node
        return tuple(sorted({*regular, *self.endpoint.weights_below}))

    @property
    def nfe(self) -> int:
        """Evaluations of the denoiser for each sample."""
        n = self.grid.n
        return n + 3 * sum(map(self._is_runge_kutta, range(n - 1))) + self.endpoint.nfe

    @property
    def vjps(self) -> int:
        """Vector-Jacobian products for each sample."""
        if self.probes is None:
            return self.grid.n * len(self.flow.reference.mean)
        return (self.grid.n + len(self.twice)) * self.probes.k

    def run(
        self,
        x: Tensor,
        generators: list[torch.Generator],
        progress: Callable[[float], None] | None = None,
    ) -> FlowResult:
        """Compute the log-density of a batch.

        Args:
            x: Samples, (B, *shape), on the device of the prior.
            generators: Random generator of each sample; unused without random probes.
            progress: Called with the finished fraction of the nodes.

        Returns:
            Log-densities with their standard errors, the integrand, and the end points.
        """
        reference, alpha = self.flow.reference, self.endpoint.alpha
        d = len(reference.mean)
        u = x.double().flatten(1) / alpha
        q = self.endpoint.standard_deviations(reference.variances)
        z = reference.coordinates(u - reference.mean) / q
        z = self.endpoint.first_node(z, self.flow.slope)
        z, values, differences = self._integrate(z, generators, progress)
        weights = self._weights()
        log_normal = -0.5 * z.square().sum(1) - 0.5 * d * math.log(2 * math.pi)
        value = log_normal - q.log().sum() + values @ weights - d * alpha.log()
        error, dof = standard_error(values, weights, differences, self.twice)
        return FlowResult(value, error, dof, values, z)

    def _weights(self) -> Tensor:
        """Weights of the nodes in the integral over ln s, (n,), with the part below the first."""
        h = self._step
        weights = h * self.grid.rate(self.s) * quadrature_weights(self.grid.n).to(self.s.device)
        for node, weight in self.endpoint.weights_below.items():
            weights[node] += weight
        return weights

    @property
    def _step(self) -> float:
        return float(self.w[1] - self.w[0])

    def _integrate(
        self,
        z: Tensor,
        generators: list[torch.Generator],
        progress: Callable[[float], None] | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Integrate from the first node to the last.

        Returns z there (B, d), the integrand (B, n), and the differences of the nodes measured
        twice (B, len(twice)), None without random probes.
        """
        n, h = self.grid.n, self._step
        slopes: list[Tensor] = []
        values: list[Tensor] = []
        differences: list[Tensor] = []
        for i in range(n):
            sets = [self._vectors(len(z), generators) for _ in range(2 if i in self.twice else 1)]
            slope, found = self.flow.slope_and_traces(z, self.s[i], sets)
            values.append(found.mean(0))
            if len(found) == 2:
                differences.append(found[0] - found[1])
            slopes.append(self.grid.rate(self.s[i]) * slope)
            if progress:
                progress((i + 1) / n)
            if i + 1 == n:
                break
            if self._is_runge_kutta(i):
                z = self._runge_kutta(z, i, h, slopes[-1])
            else:
                for c, k in zip(_AB4, reversed(slopes[-4:]), strict=True):
                    z = z + h * c * k
        if self.probes is None:
            return z, torch.stack(values, 1), None
        stacked = torch.stack(differences, 1) if differences else z.new_empty(len(z), 0)
        return z, torch.stack(values, 1), stacked

    def _is_runge_kutta(self, i: int) -> bool:
        """Whether step i is one of Runge-Kutta: Adams-Bashforth needs three earlier slopes."""
        return self.solver == "rk4" or i < len(_AB4) - 1

    def _runge_kutta(self, z: Tensor, i: int, h: float, k1: Tensor) -> Tensor:
        """A step of order 4 from node i, which needs no earlier slopes."""
        grid, slope = self.grid, self.flow.slope
        middle, end = grid.s(self.w[i] + h / 2), self.s[i + 1]
        k2 = grid.rate(middle) * slope(z + h / 2 * k1, middle)
        k3 = grid.rate(middle) * slope(z + h / 2 * k2, middle)
        k4 = grid.rate(end) * slope(z + h * k3, end)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def _vectors(self, B: int, generators: list[torch.Generator]) -> Iterator[tuple[Tensor, float]]:
        """Vectors (k, B, *shape) and the factor of their quadratic forms in the trace."""
        prior, d = self.flow.prior, len(self.flow.reference.mean)
        if self.probes is not None:
            yield self.probes.draw(generators, prior.dtype, prior.device), 1 / self.probes.k
            return
        step = self.chunk or max(1, min(d, 2**17 // (B * d)))
        for rows in torch.eye(d, dtype=prior.dtype, device=prior.device).split(step):
            yield rows[:, None].expand(-1, B, -1).reshape(-1, B, *self.flow.shape), 1.0
