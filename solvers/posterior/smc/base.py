"""Shared parts of sequential Monte Carlo: resampling, effective sample sizes, the outer loop."""

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
from solvers.posterior.trust import few_ancestors
from solvers.streams import spawn

__all__ = [
    "Denoiser",
    "ParticleSampler",
    "EvaluatedBatch",
    "Population",
    "effective_ancestors",
    "ess_fraction",
    "systematic",
]

_PRODUCTS = 1 << 12  # products with the Jacobian in one call


def systematic(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw n indices by systematic resampling (Kitagawa 1996).

    One uniform number shifts n equidistant points of the distribution function. Index i is drawn
    n w_i times, rounded up or down.

    Args:
        log_weights: Logarithms of the weights, which need not be normalised, shape (M,).
        n: Number of indices.
        generator: Source of the uniform number, on the CPU.

    Returns:
        Indices in ascending order, shape (n,), int64, on the device of the weights.

    Example:
        >>> import torch
        >>> log_weights = torch.tensor([0.5, 0.0, 0.25, 0.25]).log()
        >>> systematic(log_weights, 4, torch.Generator().manual_seed(0)).tolist()
        [0, 0, 2, 3]
    """
    w = torch.softmax(log_weights.double().cpu(), 0)
    points = (
        torch.arange(n, dtype=torch.float64)
        + torch.rand((), dtype=torch.float64, generator=generator, device=generator.device).cpu()
    ) / n
    return torch.searchsorted(w.cumsum(0), points).clamp_max(len(w) - 1).to(log_weights.device)


def ess_fraction(log_weights: Tensor) -> float:
    """Compute the effective sample size as a fraction of the number of particles.

    Args:
        log_weights: Logarithms of the weights, which need not be normalised, shape (M,).

    Returns:
        (sum w)^2 / (M sum w^2), in (0, 1].
    """
    return float(1 / torch.softmax(log_weights, 0).square().sum() / len(log_weights))


def effective_ancestors(ancestors: Tensor, log_weights: Tensor | None = None) -> float:
    """Compute how many first particles the population comes from, by the weights of their lines.

    Args:
        ancestors: Index of the first ancestor of each particle, shape (M,), int64, on the CPU.
        log_weights: Logarithms of the weights, which need not be normalised, shape (M,); None for
            equal ones.

    Returns:
        1 / sum of the squared shares of the ancestors, in [1, M].

    Example:
        >>> import torch
        >>> effective_ancestors(torch.tensor([0, 0, 1, 1]))
        2.0
    """
    w = torch.ones(len(ancestors), dtype=torch.float64)
    if log_weights is not None:
        w = torch.softmax(log_weights.double().cpu(), 0)
    shares = torch.zeros(int(ancestors.max()) + 1, dtype=torch.float64).index_add(0, ancestors, w)
    return float(w.sum() ** 2 / shares.square().sum())


class Denoiser:
    """Denoiser D(u, s) = E[x_0 | x_0 + s n = u] of a prior, on flat particles, with a cost counter.

    Particles have shape (N, D) and dtype float64. The prior computes in its own dtype.

    Args:
        prior: Prior of x_0.
        shape: Shape of one sample, without batch.
        batch: Largest number of particles in the network at once.

    Attributes:
        nfe: Evaluations so far, one for each particle.
        vjps: Vector-Jacobian products so far, one for each particle and vector.
    """

    def __init__(self, prior: Prior, shape: tuple[int, ...], batch: int) -> None:
        self.prior, self.shape, self.batch = prior, shape, batch
        self.nfe = self.vjps = 0

    @property
    def s_max(self) -> float:
        """Largest noise-to-signal ratio of the prior's SDE."""
        return float(
            self.prior.sde.noise_to_signal(torch.tensor(self.prior.sde.t_max, dtype=torch.float64))
        )

    def __call__(self, u: Tensor, s: float) -> Tensor:
        """Denoise particles.

        Args:
            u: Particles at noise s, shape (N, D).
            s: Noise level, a standard deviation.

        Returns:
            Denoised particles, shape (N, D), float64.
        """
        with torch.no_grad():
            return torch.cat([self._denoise(part, s) for part in u.split(self.batch)]).double()

    def at(self, u: Tensor, s: float) -> "EvaluatedBatch":
        """Denoise particles and prepare products with the Jacobian there.

        The products use the same evaluation if all particles fit into one batch; otherwise they
        evaluate the network again.

        Args:
            u: Particles at noise s, shape (N, D).
            s: Noise level, a standard deviation.

        Returns:
            The denoised particles and the products.
        """
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
        """Compute J^T a for every row a at every particle.

        Args:
            u: Particles at noise s, shape (N, D).
            s: Noise level, a standard deviation.
            rows: Vectors a, shape (m, D).

        Returns:
            Products, shape (N, D, m), float64.
        """
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
    """Denoised particles, with products of the denoiser's Jacobian J = dD/du.

    Args:
        D: Denoised particles, shape (N, D).
        vjp: Function v -> J^T v on vectors of shape (N, D).
    """

    D: Tensor
    vjp: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Population:
    """A request for n draws of the posterior of one measurement.

    Args:
        denoise: Denoiser of the prior.
        problem: Operator and noise that made y.
        y: The measurement, shape (1, ...), float64.
        n: Number of draws.
        generator: Source of random numbers.
        progress: Called with the finished fraction of this measurement, 0 to 1.
    """

    denoise: Denoiser
    problem: InverseProblem
    y: Tensor
    n: int
    generator: torch.Generator
    progress: Progress

    def randn(self, *shape: int) -> Tensor:
        """Draw standard normal numbers.

        Args:
            *shape: Shape of the result.

        Returns:
            Random numbers, float64, on the device of y.
        """
        return torch.randn(
            shape, dtype=torch.float64, generator=self.generator, device=self.generator.device
        ).to(self.y.device)


@dataclass(frozen=True)
class ParticleSampler(PosteriorSampler):
    """Base of the solvers that run all draws of a measurement as one population of particles.

    A :class:`SolverWarning` says where the draws come from too few first particles, see
    :func:`solvers.posterior.trust.few_ancestors`.

    The draws of one measurement are exchangeable but not independent, because they are resampled
    from one population. Each measurement has a separate population.
    """

    def _sample(self, prior: Prior, request: Request) -> Draws:
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
        few_ancestors(
            [found["effective_ancestors"] for found in diagnostics], n, type(self).__name__
        )
        together = {key: [found[key] for found in diagnostics] for key in diagnostics[0]}
        return Draws(
            torch.stack(draws, 1), round(denoise.nfe / cost), round(denoise.vjps / cost), together
        )

    @abstractmethod
    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        """Make n draws (n, D) for one measurement y (1, ...), and diagnostics of their quality."""
