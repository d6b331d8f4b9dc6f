"""The draws of one picture, its batches by several workers."""

import math
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.errors import InputError
from scoresde.pipelines.devices import kept_prior
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.plan import Measurement, draw, draws_at_once, solver_of, tiled_prior
from scoresde.pipelines.settings import RestoreOptions
from scoresde.pipelines.workers import Workers, device_of_worker
from scoresde.priors.base import Prior
from scoresde.priors.grey import GreyPrior
from solvers import Posterior
from solvers.posterior import IndependentSampler
from solvers.posterior.batches import Batch, keeping_batches, made_by
from solvers.posterior.path import DenoisingPath, Estimate, current_path, recording_path
from solvers.posterior.trust import SolverWarning
from solvers.streams import LaterDraws, spawn

__all__ = ["check_shareable", "draw_shared"]


@dataclass(frozen=True)
class _Share:
    """A batch with all that its draws depend on, in any process."""

    problem: InverseProblem
    y: Tensor
    grey: bool
    earlier: tuple[int, ...]
    seeds: tuple[int, ...]
    options: RestoreOptions
    first: bool


def check_shareable(options: RestoreOptions, batch: int) -> None:
    """Check that there are batches to share.

    Args:
        options: Solver and number of draws.
        batch: Draws that go through the network together.

    Raises:
        InputError: If the solver makes all draws together, or one batch has them all.
    """
    n = options.samples
    if n == 1:
        raise InputError(
            "--workers share the draws of a picture, and there is one; leave out --workers and "
            "--scheduler"
        )
    with as_input_error():
        solver = solver_of(options)
    if not isinstance(solver, IndependentSampler):
        raise InputError(
            f"--workers share the draws of a picture, and {options.solver} makes them together; "
            "leave out --workers"
        )
    if batch >= n:
        raise InputError(
            f"--workers share batches, and all {n} draws are in one; give --batch "
            f"{math.ceil(n / 2)} or less (the draws depend on --batch by rounding)"
        )


def draw_shared(
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    workers: Workers,
    progress: Callable[[float], None] | None = None,
    arrived: Callable[[Tensor], None] | None = None,
    folder: Path | None = None,
) -> Posterior:
    """Draw as :func:`scoresde.pipelines.plan.draw` does, with the same result bit for bit.

    Args:
        prior: The prior that the options name.
        measurement: What is known of the picture.
        options: Solver, draws, seed, tile and batch.
        workers: Who makes the batches.
        progress: Called with the finished fraction of the work.
        arrived: Called with finished draws.
        folder: Folder of the file of large draws.

    Returns:
        The posterior.

    Raises:
        InputError: If the solver cannot do the problem, or there is nothing to share.
    """
    if workers.alone:
        return draw(prior, measurement, options, progress, arrived, folder)
    batch = draws_at_once(measurement.problem, measurement.y, options)
    check_shareable(options, batch)
    streams = spawn(torch.Generator().manual_seed(options.seed), options.samples)
    seeds = [one.initial_seed() for one in streams]
    shares = [
        _Share(
            measurement.problem,
            measurement.y,
            measurement.grey,
            tuple(seeds[:i]),
            tuple(seeds[i : i + batch]),
            options,
            first=i == 0,
        )
        for i in range(0, options.samples, batch)
    ]
    with closing(workers.map(_make, shares)) as each:

        def make(index: int) -> Batch:
            made, estimates = next(each)
            path = current_path()
            if path is not None:
                for one in estimates:
                    path.add(one.s, one.x0, one.kind)
            return made

        with made_by(make):
            return draw(prior, measurement, options, progress, arrived, folder)


def _make(share: _Share) -> tuple[Batch, tuple[Estimate, ...]]:
    """Run on a worker."""
    options = share.options
    device = device_of_worker(options.device)
    prior = kept_prior(options.prior, device, options.precision, options.average)
    tiled = tiled_prior(GreyPrior(prior) if share.grey else prior, options.tile)
    streams, earlier = (
        [torch.Generator().manual_seed(seed) for seed in seeds]
        for seeds in (share.seeds, share.earlier)
    )
    with (
        as_input_error(),
        warnings.catch_warnings(),
        keeping_batches() as batches,
        recording_path(DenoisingPath()) as path,
    ):
        warnings.simplefilter("ignore", SolverWarning)  # said of all draws together, elsewhere
        solver = solver_of(options)
        n = len(streams)
        several: object = LaterDraws(streams, earlier)
        solver.sample(tiled, share.problem, share.y, n, generator=several, batch=n)  # type: ignore[arg-type]
    (batch,) = batches
    batch = replace(batch, x=batch.x.cpu(), health=batch.health.cpu())
    return batch, path.estimates if share.first else ()
