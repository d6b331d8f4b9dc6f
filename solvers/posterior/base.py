"""Base classes of posterior samplers, with their common call and result."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from problems import InverseProblem, take_logarithm
from problems.checks import check_number
from problems.storage import release
from scoresde.priors.base import CountingPrior, Prior
from solvers.balanced import BalancedStream
from solvers.capabilities import Exactness, check_capabilities
from solvers.guidance.health import Health, recording
from solvers.posterior.batches import Batch, current_maker, keep_batch
from solvers.posterior.path import current_path
from solvers.posterior.records import Arrived, Draws, Enough, Progress, Request, Run, silent
from solvers.posterior.trust import trust
from solvers.presets import Registered
from solvers.samplers.checks import check_draws, check_generators, failures_named
from solvers.scale import Scale, fitted
from solvers.streams import LaterDraws, spawn

__all__ = ["IndependentSampler", "Posterior", "PosteriorSampler", "Progress"]

_PIECE = 1 << 20  # entries


@dataclass(frozen=True)
class Posterior:
    """Draws of p(x | y), with their statistics and cost.

    Args:
        draws: n draws for each of the B measurements, shape (n, B, ...).
        nfe: Network evaluations per draw.
        vjps: Vector-Jacobian products with the network per draw.
        seconds: Wall time of the call.
        diagnostics: Findings of the solver by name, a list with one entry for each measurement.
            Solvers that use the network's Jacobian as a covariance say how much of one it was, and
            how far the draws are from y, see :func:`solvers.posterior.trust.trust`. Empty for most
            other solvers.

    Example:
        >>> import torch
        >>> draws = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)
        >>> posterior = Posterior(draws, nfe=20, vjps=0, seconds=0.1)
        >>> posterior.mean.tolist(), posterior.std.tolist()
        ([[2.0]], [[1.0]])
        >>> lower, upper = posterior.interval(0.5)
        >>> lower.tolist(), upper.tolist()
        ([[1.5]], [[2.5]])
    """

    draws: Tensor
    nfe: int
    vjps: int
    seconds: float
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the draws, the estimate of least squared error, shape (B, ...)."""
        return self._in_pieces(lambda piece: piece.mean(0))

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of each entry over the draws, shape (B, ...); NaN for one draw."""
        if len(self.draws) == 1:
            return torch.full_like(self.draws[0], torch.nan)
        return self._in_pieces(lambda piece: piece.std(0))

    def _in_pieces(self, statistic: Callable[[Tensor], Tensor]) -> Tensor:
        """A statistic of each entry, (n, k) -> (..., k), of a million entries at a time.

        Draws that lie in a file (:mod:`problems.storage`) are then never in memory together.
        """
        flat = self.draws.flatten(1)
        found = statistic(flat[:, :_PIECE])
        if flat.shape[1] > _PIECE:
            whole = found.new_empty(*found.shape[:-1], flat.shape[1])
            whole[..., :_PIECE], found = found, whole
            for first in range(_PIECE, flat.shape[1], _PIECE):
                release(flat)
                found[..., first : first + _PIECE] = statistic(flat[:, first : first + _PIECE])
        release(flat)
        return found.reshape(*found.shape[:-1], *self.draws.shape[1:])

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Compute the central interval of each entry from quantiles of the draws.

        Args:
            level: Nominal coverage of the interval, in (0, 1).

        Returns:
            Lower and upper ends, each of shape (B, ...).

        Raises:
            ValueError: If the level is not in (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval must lie in (0, 1), got {level}")
        ends = torch.tensor(
            [(1 - level) / 2, (1 + level) / 2], dtype=self.draws.dtype, device=self.draws.device
        )
        # torch.quantile limits the size of its input: pieces are needed
        lower, upper = self._in_pieces(lambda piece: piece.quantile(ends, 0))
        return lower, upper


class PosteriorSampler(Registered, ABC):
    """Base of the solvers that draw from p(x | y), given a prior, a problem and y.

    Attributes:
        exactness: The law of the draws in the limit, see ``solvers.capabilities.Exactness``.
        requires: Names of the capabilities that a problem must have.
        balanced: Whether the noise of every four draws sums to zero, see
            :class:`IndependentSampler`.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import DDRM
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> solver = DDRM(steps=5)
        >>> isinstance(solver, PosteriorSampler), solver.exactness
        (True, 'heuristic')
        >>> posterior = solver.sample(prior, problem, torch.ones(2, 1, 2, 2), n=3)
        >>> posterior.draws.shape
        torch.Size([3, 2, 1, 2, 2])
    """

    exactness: ClassVar[Exactness]
    requires: ClassVar[frozenset[str]]

    balanced: bool = False

    def independently(self) -> Self:
        """Give the solver with independent draws.

        Returns:
            The solver itself, or a copy that does not balance the noise of its draws.
        """
        return replace(cast(Any, self), balanced=False) if self.balanced else self

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
        arrived: Arrived | None = None,
        out: Tensor | None = None,
    ) -> Posterior:
        """Draw from the posterior of each measurement.

        Counts behind :class:`problems.Transmission` are restored as line integrals, with the same
        likelihood (:func:`problems.take_logarithm`).

        Args:
            prior: Prior of x.
            problem: Operator and noise that made y.
            y: Measurements, shape (B, ...); converted to the prior's device and dtype.
            n: Number of draws for each measurement, at least 1.
            generator: Source of random numbers; None for torch's global one.
            batch: Number of draws, or particles, in the network at once, which bounds memory;
                None for all. Draws of an :class:`IndependentSampler` do not depend on it, and
                draws of a ``ParticleSampler`` depend on it by rounding only.
            progress: Called with the finished fraction of the work, 0 to 1; None for no reports.
                Where it raises :class:`solvers.posterior.records.Enough`, an
                :class:`IndependentSampler` returns the draws of one measurement that are finished.
            arrived: Called with the draws (k, ...) of each batch of an :class:`IndependentSampler`
                as soon as they are finished; other samplers do not call it.
            out: Tensor (n, B, ...) that takes the draws, each batch of an
                :class:`IndependentSampler` as soon as it is finished, such as one of
                :func:`problems.storage.mapped_empty`; None to make one. It may be on another
                device than the prior.

        Returns:
            The draws, shape (n, B, ...), and what they cost.

        Raises:
            ValueError: If the problem lacks a capability that the solver requires or has no
                noise, if n or batch is no whole number of at least 1, if y is no measurement of
                this problem or has NaN or infinite entries, if the prior does not accept the x of
                such a measurement, if out has another shape, or if draws come out with NaN or
                infinite entries.

        Warns:
            SolverWarning: If some draws are too far from y to be draws of the posterior; only of
                solvers that use the network's Jacobian, and for noise that is independent in each
                entry and has a variance.
        """
        problem, y = take_logarithm(problem, y)
        self._check(problem, y, n, batch)
        prior.check_shape(problem.input_shape(y), "the x of this measurement")
        shape = (n, len(y), *problem.input_shape(y))
        if out is not None and tuple(out.shape) != shape:
            raise ValueError(f"out has the shape {tuple(out.shape)}, the draws have {shape}")
        check_generators(generator)
        start = time.perf_counter()
        request = Request(
            problem,
            problem.operator.mask_unobserved(y),
            n,
            generator,
            batch,
            progress or silent,
            arrived,
            out,
        )
        with failures_named(type(self).__name__):
            solver = fitted(self, Scale(prior, problem, request.y))
            draws = solver._sample(prior, request)
        x = draws.x
        if out is not None and x.data_ptr() != out.data_ptr():
            x = out.copy_(x)
        check_draws(x.flatten(0, 1), type(self).__name__)
        return Posterior(
            x,
            draws.nfe,
            draws.vjps * prior.cost,
            time.perf_counter() - start,
            draws.diagnostics,
        )

    @abstractmethod
    def _sample(self, prior: Prior, request: Request) -> Draws:
        """Make the draws; ``vjps`` counts each product with this prior once, whatever its cost."""

    def _check(self, problem: InverseProblem, y: Tensor, n: int, batch: int | None) -> None:
        """Raise a ValueError that names the first bad argument of ``sample``."""
        check_capabilities(self, problem)
        check_number(n, "the number of draws n", least=1, whole=True)
        if batch is not None:
            check_number(batch, "the batch", least=1, whole=True)
        problem.check_measurement(y)


class IndependentSampler(PosteriorSampler):
    """Base of the solvers whose draws are independent of each other, or of all but one.

    Each draw has a separate random stream derived from the generator, so it is the same in every
    batch and for every number of draws. A solver may balance the noise of every four draws
    (:mod:`solvers.balanced`): each draw has the same law as before, and the mean of four is nearer
    to the posterior mean.
    """

    def _sample(self, prior: Prior, request: Request) -> Draws:
        counted = CountingPrior(prior)
        y = request.y
        total = request.n * len(y)
        generators = spawn(request.generator, total)
        given: object = request.generator
        earlier = given.earlier if isinstance(given, LaterDraws) else []
        y = y.to(device=prior.device, dtype=prior.dtype)
        size = min(request.batch or total, total)
        parts = [
            self._prepare(counted, request.problem, some)
            for some in y.split(request.batch or len(y))
        ]
        prepared = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
        products = sum(count for _, count in parts) / len(parts)
        once, counted.nfe = counted.nfe / len(parts), 0
        chunks, vjps = list(range(0, total, size)), 0
        kept = None if request.out is None else request.out.flatten(0, 1)
        healths: list[Health] = []
        make = current_maker()
        for index, first in enumerate(chunks):
            rows = torch.arange(first, min(first + size, total))

            def report(fraction: float, index: int = index) -> None:
                request.progress((index + fraction) / len(chunks))

            run = Run(
                counted,
                request.problem,
                _rows(y, rows),
                generators[first : first + len(rows)],
                report,
                {name: _rows(value, rows) for name, value in prepared.items()},
                current_path() if first == 0 else None,
                BalancedStream.of_draws(
                    [*earlier, *generators], (rows + len(earlier)).tolist(), len(y)
                )
                if self.balanced
                else None,
            )
            begin = counted.nfe
            try:
                if make is None:
                    with recording(Health(len(rows))) as health:
                        x, count = self._draw(run)
                else:
                    made = make(index)
                    x, count, health = made.x.to(y.device), made.vjps, made.health
                    counted.nfe += made.nfe
                    report(1.0)
            except Enough:
                if not healths or len(y) > 1:
                    raise
                counted.nfe = begin
                total = first
                break
            kept = x.new_empty(total, *x.shape[1:]) if kept is None else kept
            kept[first : first + len(x)] = x
            release(kept)
            healths.append(health)
            vjps += count
            keep_batch(Batch(x, count, counted.nfe - begin, health))
            if request.arrived is not None:
                request.arrived(x)
        assert kept is not None
        x = kept[:total].reshape(-1, len(y), *kept.shape[1:])
        # the cost of what was done once is shared by the draws
        nfe, vjps = counted.nfe // len(healths), vjps // len(healths)
        diagnostics = trust(request.problem, y, x, healths, type(self).__name__)
        return Draws(
            x,
            nfe + math.ceil(once / len(x)),
            vjps + math.ceil(products / len(x)),
            diagnostics,
        )

    def _prepare(
        self, prior: Prior, problem: InverseProblem, y: Tensor
    ) -> tuple[dict[str, Tensor], int]:
        """Find out what all draws of a measurement share, once, without random numbers.

        Args:
            prior: Prior of x.
            problem: Operator and noise that made y.
            y: Measurements, shape (B, ...).

        Returns:
            Tensors (B, ...) by name, of which each :class:`Run` receives its rows as ``prepared``,
            and the number of VJPs.
        """
        return {}, 0

    @abstractmethod
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        """Make one draw for each row of y, row i from generators[i], and count the VJPs."""


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    """Rows i mod B of x (B, ...); x itself, without a copy, where these are all in their order."""
    rows = rows % len(x)
    return x if rows.tolist() == list(range(len(x))) else x[rows]
