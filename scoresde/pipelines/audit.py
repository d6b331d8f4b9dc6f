"""Simulation-based calibration of any prior with any solver and any problem."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.errors import InputError
from scoresde.evaluation.audit import (
    AuditReport,
    RunStatistics,
    TestFunctions,
    decide,
    run_statistics,
)
from scoresde.pipelines.default_noise import default_sigma
from scoresde.pipelines.devices import kept_prior
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.plan import make_plan, solver_of, tiled_prior
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.pipelines.workers import Workers, device_of_worker
from scoresde.priors.base import Prior
from solvers import PointEstimator, PosteriorSampler
from solvers.posterior import IndependentSampler
from solvers.samplers import Heun
from solvers.streams import spawn

__all__ = ["Trials", "audit", "audit_named", "draw_truths"]

FEWEST_RUNS, FEWEST_DRAWS = 20, 3
"""Fewest runs and draws of a run with which the tests mean anything."""

_PIXELS_AT_ONCE = 1 << 18
"""Pixels of all draws that are made together."""

_STEPS = 64
"""Steps of the sampler that draws truths from a prior which has no exact one."""


@dataclass(frozen=True)
class Trials:
    """Truths that are restored together.

    Args:
        truths: Draws of the prior (B, ...).
        y: Their measurements (B, ...).
        streams: A random stream for each draw of an independent solver; else one for all.
    """

    truths: Tensor
    y: Tensor
    streams: list[torch.Generator] | torch.Generator

    def draws(
        self,
        prior: Prior,
        problem: InverseProblem,
        solver: PosteriorSampler,
        n: int,
        progress: Callable[[float], None] | None = None,
    ) -> Tensor:
        """Restore them.

        Args:
            prior: Prior that the solver uses.
            problem: Operator and noise.
            solver: The solver.
            n: Draws for each.
            progress: Called with the finished fraction of the work.

        Returns:
            The draws (n, B, ...), on the CPU.
        """
        streams: Any = self.streams
        found = solver.sample(prior, problem, self.y, n, generator=streams, progress=progress)
        return found.draws.cpu()


@dataclass(frozen=True)
class _Share:
    """Trials with all that their draws depend on, in any process."""

    y: Tensor
    seeds: tuple[int, ...]
    problem: InverseProblem
    solver: PosteriorSampler
    options: RestoreOptions


def _draws(share: _Share) -> Tensor:
    """Run on a worker."""
    options = share.options
    device = device_of_worker(options.device)
    prior = kept_prior(options.prior, device, options.precision, options.average)
    streams = [torch.Generator().manual_seed(seed) for seed in share.seeds]
    trials = Trials(share.y, share.y, streams)
    tiled = tiled_prior(prior, options.tile)
    return trials.draws(tiled, share.problem, share.solver, options.samples)


def audit(
    prior: Prior,
    problem: InverseProblem,
    solver: PosteriorSampler,
    *,
    runs: int = 100,
    draws: int = 19,
    seed: int = 0,
    truths: Tensor | None = None,
    measure: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[float], None] | None = None,
    restored: Callable[[Iterable["Trials"]], Iterable[tuple["Trials", Tensor]]] | None = None,
) -> AuditReport:
    """Test whether the draws of a solver have the law of the posterior.

    Truths are drawn from the prior, measured, and restored. For an exact solver the truth is then
    one more draw, see :mod:`scoresde.evaluation.audit.statistics`. The draws of each run must be
    independent; those of a particle method depend on one another, and it fails to that extent.

    Args:
        prior: Prior that the solver uses.
        problem: Operator and noise.
        solver: Solver to test.
        runs: Number of truths, at least 20.
        draws: Number of draws for each, at least 3; one less than a multiple of 10 suits the
            histograms.
        seed: Seed of all random numbers.
        truths: Draws of the prior, shape (runs, ...); None to draw them here, see
            :func:`draw_truths`.
        measure: Measures truths (B, ...); None for ``problem.measure``.
        progress: Called with the finished fraction of the work.
        restored: Restores trials elsewhere, in their order, by :meth:`Trials.draws`; None to
            restore them here. The report is the same.

    Returns:
        The report.

    Raises:
        ValueError: If the numbers are too small, the solver gives an estimate and no draws, or
            cannot solve the problem.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import DDRM
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> audit(prior, problem, DDRM(steps=5), runs=40, draws=9).passed
        False
    """
    _check(solver, runs, draws)
    solver = solver.independently()  # ranks are uniform among independent draws
    of_truths, of_noise, of_solver, of_tests = spawn(torch.Generator().manual_seed(seed), 4)
    if truths is None:
        truths = draw_truths(prior, runs, of_truths)
    functions = TestFunctions.make(problem, tuple(truths.shape[1:]), of_tests)
    size = max(1, _PIXELS_AT_ONCE // (draws * truths[0].numel()))
    independent = isinstance(solver, IndependentSampler)
    if restored is not None and not independent:
        raise ValueError(
            f"{type(solver).__name__} makes the draws of a measurement together, which several "
            "workers cannot share"
        )

    def measured() -> Iterator[Trials]:
        for some in truths.split(size):
            y = measure(some) if measure is not None else problem.measure(some, of_noise)
            # an independent solver would derive the same streams itself
            own = spawn(of_solver, draws * len(some)) if independent else of_solver
            yield Trials(some, y, own)

    def here(trials: Iterable[Trials]) -> Iterator[tuple[Trials, Tensor]]:
        done = 0
        for some in trials:

            def report(fraction: float, done: int = done, count: int = len(some.y)) -> None:
                if progress:
                    progress((done + fraction * count) / runs)

            yield some, some.draws(prior, problem, solver, draws, report)
            done += len(some.y)

    parts, done = [], 0
    for some, x in (restored or here)(measured()):
        parts.append(
            run_statistics(problem, functions, some.truths.cpu(), some.y.cpu(), x, of_tests)
        )
        done += len(x[0])
        if restored is not None and progress:
            progress(done / runs)
    gaussian = "gaussian_noise" in problem.capabilities and not problem.operator.quantises
    together = RunStatistics.together(parts)
    return decide(together, draws, gaussian=gaussian, generator=of_tests)


def draw_truths(prior: Prior, n: int, generator: torch.Generator) -> Tensor:
    """Draw from a prior: exactly if it can, else by 64 steps of Heun's method.

    Args:
        prior: Prior to draw from.
        n: Number of draws.
        generator: Source of the random numbers.

    Returns:
        Draws, shape (n, ...), in the dtype of the prior.
    """
    if _draws_exactly(prior):
        exact: Tensor = prior.sample(n, generator)  # type: ignore[operator]
        return exact
    size = max(1, _PIXELS_AT_ONCE // torch.Size(prior.shape).numel())
    counts = [min(size, n - first) for first in range(0, n, size)]
    sampler = Heun(_STEPS)
    return torch.cat([sampler.sample(prior, count, generator=generator) for count in counts])


def _draws_exactly(prior: Prior) -> bool:
    return hasattr(prior, "sample")


def audit_named(
    prior: Prior,
    problem: ProblemOptions,
    options: RestoreOptions,
    *,
    runs: int,
    progress: Callable[[float], None] | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Audit a solver by the options of the command line.

    Args:
        prior: Prior of pictures, of the size of its training.
        problem: How pictures are measured. A random mask is the same in all runs.
        options: How they are restored; ``samples`` is the number of draws.
        runs: Number of truths.
        progress: Called with the finished fraction of the work.
        workers: Who restores; None for this process alone. The report is the same.

    Returns:
        The report: the summary of :class:`AuditReport`, "problem" in plain values, "solver",
        "truths" (where they come from) and "seconds".

    Raises:
        InputError: If an option cannot be used.
    """
    if len(prior.shape) != 3:
        raise InputError(
            f"the problems are those of pictures, the prior has samples of shape "
            f"{tuple(prior.shape)}; audit it in Python, by scoresde.pipelines.audit.audit"
        )
    start = time.perf_counter()
    with as_input_error():
        solver = solver_of(options)
        _check(solver, runs, options.samples)
    height, width = prior.shape[1:]
    plan = make_plan(problem, options, size=(height, width), simulate=True, seed=options.seed)
    with as_input_error():
        plan.operator.output_shape(prior.shape)

    def measure(x: Tensor) -> Tensor:
        return torch.cat([plan.measure(one, prior, options.prior).y for one in x.split(1)])

    truths = draw_truths(prior, runs, spawn(torch.Generator().manual_seed(options.seed), 4)[0])
    tiled = tiled_prior(prior, options.tile)
    workers = workers or Workers()

    def shared(trials: Iterable[Trials]) -> Iterator[tuple[Trials, Tensor]]:
        each = list(trials)
        shares = [
            _Share(
                one.y,
                tuple(stream.initial_seed() for stream in one.streams),
                plan.problem,
                solver,
                options,
            )
            for one in each
            if isinstance(one.streams, list)
        ]
        yield from zip(each, workers.map(_draws, shares), strict=True)

    with as_input_error():
        report = audit(
            tiled,
            plan.problem,
            solver,
            runs=runs,
            draws=options.samples,
            seed=options.seed,
            truths=truths,
            measure=measure,
            progress=progress,
            restored=None if workers.alone else shared,
        )
    stated = options.stated_sigma
    sigma = default_sigma(plan.operator, True) if stated is None else stated
    return {
        "format": "scoresde.audit-report/1",
        **report.summary(),
        "problem": plan.description,
        "sigma": sigma,
        "prior": options.prior,
        "solver": options.solver,
        "truths": "exact draws" if _draws_exactly(prior) else f"Heun's method, {_STEPS} steps",
        "seed": options.seed,
        "seconds": round(time.perf_counter() - start, 1),
    }


def _check(solver: PosteriorSampler, runs: int, draws: int) -> None:
    if isinstance(solver, PointEstimator):
        raise ValueError(
            f"{type(solver).__name__} gives one estimate and no draws, so there is nothing to "
            "audit; choose a solver that draws"
        )
    if runs < FEWEST_RUNS or draws < FEWEST_DRAWS:
        raise ValueError(
            f"an audit needs at least {FEWEST_RUNS} runs and {FEWEST_DRAWS} draws of each, got "
            f"{runs} and {draws}"
        )
