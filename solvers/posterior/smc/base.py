"""What sequential Monte Carlo methods ess: resampling, effective sizes, and the loop over measurements."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.jacobian import Linearisation, value_and_products
from solvers.posterior.base import PosteriorSampler
from solvers.posterior.records import Draws, Progress, Request
from solvers.streams import spawn

__all__ = [
    "Denoiser",
    "ParticleSampler",
    "EvaluatedBatch",
    "Population",
    "ess_fraction",
    "systematic",
]

_PRODUCTS = 1 << 12  # at once


def systematic(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n indices, index i about n w_i times: one uniform number, n equidistant points of the distribution function (Kitagawa 1996)."""
    w = torch.softmax(log_weights.double().cpu(), 0)
    points = (
        torch.arange(n, dtype=torch.float64)
        + torch.rand((), dtype=torch.float64, generator=generator)
    ) / n
    return torch.searchsorted(w.cumsum(0), points).clamp_max(len(w) - 1).to(log_weights.device)


def ess_fraction(log_weights: Tensor) -> float:
    """Effective sample size over the number of particles, (sum w)^2 / (M sum w^2), in (0, 1]."""
    return float(1 / torch.softmax(log_weights, 0).square().sum() / len(log_weights))


class Denoiser:
    """D(u, s) = E[x_0 | x_0 + s n = u] of any prior, on flat float64 particles (N, D), with products of its Jacobian; it counts both.

    batch: particles in the network at once.
    """

    def __init__(self, prior: Prior, shape: tuple[int, ...], batch: int) -> None:
        self.prior, self.shape, self.batch = prior, shape, batch
        self.nfe = self.vjps = 0

    @property
    def s_max(self) -> float:
        """The largest noise that the prior knows."""
        return float(
            self.prior.sde.noise_to_signal(torch.tensor(self.prior.sde.t_max, dtype=torch.float64))
        )

    def __call__(self, u: Tensor, s: float) -> Tensor:
        with torch.no_grad():
            return torch.cat([self._denoise(part, s) for part in u.split(self.batch)]).double()

    def at(self, u: Tensor, s: float) -> "EvaluatedBatch":
        """D(u) and, from the same evaluation where all particles fit a batch, products with its Jacobian."""
        if len(u) > self.batch:
            parts = u.split(self.batch)

            def again(v: Tensor) -> Tensor:
                return torch.cat(
                    [self.at(a, s).vjp(b) for a, b in zip(parts, v.split(self.batch), strict=True)]
                )

            return EvaluatedBatch(self(u, s), again)
        one = Linearisation(lambda u: self._denoise(u, s), u)

        def vjp(v: Tensor) -> Tensor:
            self.vjps += len(u)
            return one.vjp(v)

        return EvaluatedBatch(one.value.double(), vjp)

    def jacobian_rows(self, u: Tensor, s: float, rows: Tensor) -> Tensor:
        """J^T a for every row a (m, D) at every particle, (N, D, m)."""
        self.vjps += len(u) * len(rows)
        answer = []
        for part in u.split(min(self.batch, _PRODUCTS)):
            _, products = value_and_products(lambda v: self._denoise(v, s), part)
            some = rows.split(max(1, min(self.batch, _PRODUCTS) // len(part)))
            answer.append(
                torch.cat(
                    [
                        products(a[:, None].expand(-1, len(part), -1).to(self.prior.dtype))
                        for a in some
                    ]
                )
            )
        return torch.cat(answer, 1).permute(1, 2, 0).double()

    def _denoise(self, u: Tensor, s: float) -> Tensor:
        self.nfe += len(u)
        sde = self.prior.sde
        t = (
            sde.t_from_noise_to_signal(torch.tensor(s, dtype=torch.float64))
            .to(dtype=self.prior.dtype, device=u.device)
            .expand(len(u))
        )
        x = u.to(self.prior.dtype).reshape(-1, *self.shape)
        return self.prior.denoise(expand_like(sde.alpha(t), x) * x, t).flatten(1)


@dataclass(frozen=True)
class EvaluatedBatch:
    """D at some particles, (N, D), and v -> J^T v there, J = dD/du."""

    D: Tensor
    vjp: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Population:
    """One measurement y (1, ...), of which n draws are wanted, and what makes them."""

    denoise: Denoiser
    problem: InverseProblem
    y: Tensor
    n: int
    generator: torch.Generator
    progress: Progress

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers, float64, on the device of y."""
        return torch.randn(
            shape, dtype=torch.float64, generator=self.generator, device=self.generator.device
        ).to(self.y.device)


@dataclass(frozen=True)
class ParticleSampler(PosteriorSampler):
    """Draws that interact: all n draws of a measurement, and more, run together as particles. batch: particles in the network at once."""

    def _sample(self, prior: Prior, request: Request) -> Draws:
        """Each measurement has a population of its own: its draws are exchangeable but not independent, resampled from one population."""
        problem, n = request.problem, request.n
        shape, y = (
            problem.input_shape(request.y),
            request.y.to(device=prior.device, dtype=torch.float64),
        )
        denoise = Denoiser(prior, shape, request.batch or 1 << 30)
        draws, diagnostics = [], []
        for b, stream in enumerate(spawn(request.generator, len(y))):

            def report(fraction: float, b: int = b) -> None:
                request.progress((b + fraction) / len(y))

            x, found = self._population(
                Population(denoise, problem, y[b : b + 1], n, stream, report)
            )
            draws.append(x.reshape(n, *shape).to(prior.dtype))
            diagnostics.append(found)
        cost = n * len(y)
        together = {key: [found[key] for found in diagnostics] for key in diagnostics[0]}
        return Draws(
            torch.stack(draws, 1), round(denoise.nfe / cost), round(denoise.vjps / cost), together
        )

    @abstractmethod
    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        """n draws (n, D) for one measurement y (1, ...), and what tells whether to trust them."""
