r"""The probability flow of a prior relative to a Gaussian reference, and what it does to the density."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.jacobian import value_and_products
from solvers.likelihood.nodes import NodeGrid, error_from_pairs, error_of_sum, quadrature_weights
from solvers.likelihood.probes import Probes
from solvers.likelihood.reference import GaussianReference

__all__ = ["End", "FlowIntegrator", "Solver"]

End = Literal["data", "t_min"]
Solver = Literal["rk4", "ab4"]

_AB4 = (55 / 24, -59 / 24, 37 / 24, -9 / 24)


class FlowIntegrator:
    """The flow of one prior through one grid of noise levels."""

    def __init__(
        self, prior: Prior, shape: tuple[int, ...], reference: GaussianReference, levels: NodeGrid, end: End, solver: Solver,
        drawer: Probes | None, paired_every: int, chunk: int | None,
    ) -> None:  # fmt: skip
        self.prior, self.shape, self.reference, self.levels, self.end = (
            prior,
            shape,
            reference,
            levels,
            end,
        )
        self.solver, self.drawer, self.repeat = solver, drawer, paired_every
        self.w = levels.w().to(prior.device)
        self.s = levels.s(self.w)
        self.chunk, self.nfe = chunk, 0
        self.second = max(1, int((self.s < 1.6 * self.s[0]).sum()))
        self.twice: list[int] = []  # nodes that are measured twice
        if drawer and paired_every:
            heavy = {0, self.second} if end == "data" else set()
            self.twice = sorted({*range(paired_every // 2, levels.n, paired_every), *heavy})

    def run(self, x: Tensor, generators: list[torch.Generator]) -> tuple[Tensor, ...]:
        """ln p (B,), its standard error and degrees of freedom (B,), integrand (B, nodes), final z (B, d)."""
        self.nfe = 0
        n, h = len(self.w), float(self.w[1] - self.w[0])
        lam, mean = self.reference.variances, self.reference.mean
        d = len(mean)
        alpha = self.prior.sde.alpha(torch.tensor(self.prior.sde.t_min, dtype=torch.float64))
        u = x.double().flatten(1) / (1.0 if self.end == "data" else alpha)
        centred = self.reference.coordinates(u - mean)
        if self.end == "data":
            q_end = lam.clamp_min(1e-300).sqrt()
            z = self._continued(centred / q_end)
        else:
            q_end = (lam + self.s[0] ** 2).sqrt()
            z = centred / q_end
        slopes: list[Tensor] = []
        integrand: list[Tensor] = []
        differences: list[Tensor] = []
        for i in range(n):
            slope, found = self._node(z, self.s[i], generators, 2 if i in self.twice else 1)
            integrand.append(found.mean(0))
            if len(found) == 2:
                differences.append(found[0] - found[1])
            rate = self.levels.rate(self.s[i])
            slopes.append(rate * slope)
            if i + 1 == n:
                break
            if i < 3 or self.solver == "rk4":
                z = self._runge_kutta(z, i, h, slopes[-1])
            else:
                for c, k in zip(_AB4, reversed(slopes[-4:]), strict=True):
                    z = z + h * c * k
        values = torch.stack(integrand, 1)
        weights = h * self.levels.rate(self.s) * quadrature_weights(n).to(values.device)
        if self.end == "data":  # a s^2 + b s^4 through the first two nodes, integrated from 0
            first, second = self._below()
            weights[[0, self.second]] += torch.tensor(
                [first, second], dtype=torch.float64, device=values.device
            )
        log_normal = -0.5 * z.square().sum(1) - 0.5 * d * math.log(2 * math.pi)
        value = log_normal - q_end.log().sum() + values @ weights
        if self.end == "t_min":
            value = value - d * alpha.log()
        zero = torch.zeros_like(value)
        if self.drawer is None:
            error, dof = zero, zero + math.inf
        elif self.twice:
            error, dof = error_from_pairs(torch.stack(differences, 1), self.twice, weights)
        else:
            error, dof = error_of_sum(values, weights)
        return value, error, dof, values, z

    def _below(self) -> tuple[float, float]:
        """Weights of f at the first node and at the one called second in the integral of f = a s^2 + b s^4 over ln s below the first."""
        p, r = float(self.s[0]) ** 2, float(self.s[self.second]) ** 2
        return (2 * r - p) / (4 * (r - p)), -(p**2) / (4 * r * (r - p))

    def _continued(self, z_0: Tensor) -> Tensor:
        """z at the first node from z at s = 0. On smooth data dz/d ln s = a s^2 + b s^4 + ...; a and b by fixed-point iteration."""
        p, r = float(self.s[0]) ** 2, float(self.s[self.second]) ** 2
        f = g = torch.zeros_like(z_0)
        for _ in range(3):
            a, b = (f * r / p - g * p / r) / (r - p), (g / r - f / p) / (r - p)
            f = self._slope(z_0 + a * p / 2 + b * p**2 / 4, self.s[0])
            g = self._slope(z_0 + a * r / 2 + b * r**2 / 4, self.s[self.second])
        first, second = self._below()
        return z_0 + first * f + second * g

    def _denoised(self, u: Tensor, s: Tensor) -> Tensor:
        """D(u, s) for u (B, *shape) in the prior's precision."""
        t = self.prior.sde.t_from_noise_to_signal(s).clamp(
            self.prior.sde.t_min, self.prior.sde.t_max
        )
        return self.prior.denoise(
            (self.prior.sde.alpha(t) * u).to(self.prior.dtype), t.to(self.prior.dtype)
        )

    def _point(self, z: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, *shape) at z, and q."""
        q = (self.reference.variances + s**2).sqrt()
        return (self.reference.mean + self.reference.from_coordinates(q * z)).reshape(
            len(z), *self.shape
        ), q

    def _difference(self, D: Tensor, z: Tensor, q: Tensor) -> Tensor:
        """dz/d ln s = -U^T (D - D_G) / q."""
        return (
            self.reference.variances / q**2 * z
            - self.reference.coordinates(D.double().flatten(1) - self.reference.mean) / q
        )

    def _slope(self, z: Tensor, s: Tensor) -> Tensor:
        self.nfe += 1
        u, q = self._point(z, s)
        with torch.no_grad():
            return self._difference(self._denoised(u.to(self.prior.dtype), s), z, q)

    def _runge_kutta(self, z: Tensor, i: int, h: float, k1: Tensor) -> Tensor:
        """A step of order 4 that needs no past."""
        middle, end = self.levels.s(self.w[i] + h / 2), self.s[i + 1]
        k2 = self.levels.rate(middle) * self._slope(z + h / 2 * k1, middle)
        k3 = self.levels.rate(middle) * self._slope(z + h / 2 * k2, middle)
        k4 = self.levels.rate(end) * self._slope(z + h * k3, end)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def _node(
        self, z: Tensor, s: Tensor, generators: list[torch.Generator], times: int
    ) -> tuple[Tensor, Tensor]:
        """dz/d ln s (B, d) and tr J_G - tr J (times, B), measured so many times; from one evaluation."""
        self.nfe += 1
        u, q = self._point(z, s)
        D, products = value_and_products(lambda v: self._denoised(v, s), u.to(self.prior.dtype))
        trace_G = (self.reference.variances / q**2).sum()
        total = torch.zeros(times, len(z), dtype=torch.float64, device=z.device)
        for one in total:
            for v, scale in self._vectors(len(z), generators):
                one += scale * (v * products(v)).flatten(2).double().sum((0, 2))
        return self._difference(D, z, q), trace_G - total

    def _vectors(self, B: int, generators: list[torch.Generator]) -> Iterator[tuple[Tensor, float]]:
        """Vectors (k, B, *shape) and the factor of their quadratic forms in the trace."""
        dtype, device, d = self.prior.dtype, self.prior.device, len(self.reference.mean)
        if self.drawer is not None:
            yield self.drawer.draw(generators, dtype, device), 1 / self.drawer.k
            return
        step = self.chunk or max(1, min(d, 2**17 // (B * d)))
        for rows in torch.eye(d, dtype=dtype, device=device).split(step):
            yield rows[:, None].expand(-1, B, -1).reshape(-1, B, *self.shape), 1.0
