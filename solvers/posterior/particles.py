"""What sequential Monte Carlo methods share: resampling, effective sizes, and the loop over measurements."""

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.prior import Prior, expand_like
from solvers.noise import spawn
from solvers.posterior.base import Posterior, PosteriorSampler, Progress

__all__ = ["Denoiser", "ParticleSampler", "effective_share", "log_normal", "systematic"]


def systematic(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n indices, index i about n w_i times: one uniform number, n equidistant points of the distribution function (Kitagawa 1996)."""
    w = torch.softmax(log_weights.double().cpu(), 0)
    points = (torch.arange(n, dtype=torch.float64) + torch.rand((), dtype=torch.float64, generator=generator)) / n
    return torch.searchsorted(w.cumsum(0), points).clamp_max(len(w) - 1).to(log_weights.device)


def effective_share(log_weights: Tensor) -> float:
    """Effective sample size over the number of particles, (sum w)^2 / (M sum w^2), in (0, 1]."""
    return float(1 / torch.softmax(log_weights, 0).square().sum() / len(log_weights))


def log_normal(r: Tensor, L: Tensor) -> Tensor:
    """ln N(r; 0, L L^T) but for the constant -m/2 ln 2 pi: r (N, m), L (N or 1, m, m) lower triangular -> (N,)."""
    w = torch.linalg.solve_triangular(L, r[..., None], upper=False)[..., 0]
    return -0.5 * w.square().sum(-1) - L.diagonal(dim1=-2, dim2=-1).log().sum(-1)


class Denoiser:
    """D(u, s) = E[x_0 | x_0 + s n = u] of any prior, on flat float64 particles (N, D), with products of its Jacobian; it counts both."""

    def __init__(self, prior: Prior, shape: tuple[int, ...], batch: int) -> None:
        self.prior, self.shape, self.batch = prior, shape, batch
        self.evaluations = self.products = 0

    def __call__(self, u: Tensor, s: float) -> Tensor:
        self.evaluations += len(u)
        with torch.no_grad():
            return torch.cat([self._denoise(part, s).flatten(1) for part in u.split(self.batch)]).double()

    def with_pulled(self, u: Tensor, s: float, pull: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """D and J^T v, J = dD/du, v = pull(D) for all particles at once."""
        if len(u) > self.batch:
            return self.with_product(u, s, pull(self(u, s)))
        self.evaluations += len(u)
        self.products += len(u)
        with torch.enable_grad():
            point = u.detach().requires_grad_()
            D = self._denoise(point, s).flatten(1)
            values = D.detach().double()
            return values, torch.autograd.grad(D, point, pull(values).to(D.dtype))[0]

    def with_product(self, u: Tensor, s: float, v: Tensor) -> tuple[Tensor, Tensor]:
        """D and J^T v, J = dD/du."""
        self.evaluations += len(u)
        self.products += len(u)
        pairs = []
        for part, w in zip(u.split(self.batch), v.split(self.batch), strict=True):
            with torch.enable_grad():
                point = part.detach().requires_grad_()
                D = self._denoise(point, s).flatten(1)
                pairs.append((D.detach().double(), torch.autograd.grad(D, point, w.to(D.dtype))[0]))
        values, products = zip(*pairs, strict=True)
        return torch.cat(values), torch.cat(products)

    def _denoise(self, u: Tensor, s: float) -> Tensor:
        sde = self.prior.sde
        t = sde.t_from_noise_to_signal(torch.tensor(s, dtype=torch.float64)).to(dtype=self.prior.dtype, device=u.device).expand(len(u))
        x = u.to(self.prior.dtype).reshape(-1, *self.shape)
        return self.prior.denoise(expand_like(sde.alpha(t), x) * x, t)


@dataclass(frozen=True)
class ParticleSampler(PosteriorSampler):
    """Draws that interact: all n draws of a measurement, and more, run together as particles. batch: particles in the network at once."""

    def sample(
        self,
        prior: Prior,
        problem: InverseProblem,
        y: Tensor,
        n: int = 1,
        *,
        generator: torch.Generator | None = None,
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> Posterior:
        """n draws for each of the B measurements y (B, ...), each measurement with a population of its own.

        The draws of one measurement are exchangeable but not independent: they are resampled from one population.
        """
        self._check(problem, y, n, batch)
        start, shape = time.perf_counter(), problem.input_shape(y)
        y = problem.operator.observed(y).to(device=prior.device, dtype=torch.float64)
        denoise = Denoiser(prior, shape, batch or 1 << 30)
        draws, diagnostics = [], []
        for b, stream in enumerate(spawn(generator, len(y))):

            def report(fraction: float, b: int = b) -> None:
                if progress:
                    progress((b + fraction) / len(y))

            x, found = self._population(denoise, problem, y[b : b + 1], n, stream, report)
            draws.append(x.reshape(n, *shape).to(prior.dtype))
            diagnostics.append(found)
        cost = n * len(y)
        return Posterior(
            torch.stack(draws, 1), round(denoise.evaluations / cost), round(denoise.products / cost), time.perf_counter() - start,
            {key: [found[key] for found in diagnostics] for key in diagnostics[0]},
        )  # fmt: skip

    @abstractmethod
    def _population(
        self, denoise: Denoiser, problem: InverseProblem, y: Tensor, n: int, generator: torch.Generator, progress: Callable[[float], None]
    ) -> tuple[Tensor, dict[str, Any]]:
        """n draws (n, D) for one measurement y (1, ...), and what tells whether to trust them."""

    def _draw(
        self, prior: Prior, problem: InverseProblem, y: Tensor, generators: list[torch.Generator], progress: Progress
    ) -> tuple[Tensor, int]:
        raise NotImplementedError  # ``sample`` does it all
