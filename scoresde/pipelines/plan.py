"""From options to a measurement and its posterior draws: what restoring and calibrating share."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem, Noise, Operator
from problems.checks import check_choice
from problems.reading.pictures import Picture
from problems.storage import LARGE_VECTOR, mapped_empty
from scoresde.defaults import TILE_OVERLAP
from scoresde.errors import CannotWriteError, InputError
from scoresde.memory import available_bytes
from scoresde.pipelines.cost import memory_bytes
from scoresde.pipelines.default_noise import default_sigma
from scoresde.pipelines.named_problems import (
    ImageContext,
    build_noise,
    build_operator,
    entry_of,
)
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.settings import DEFAULT_SOLVER, ProblemOptions, RestoreOptions
from scoresde.priors.base import Prior
from scoresde.priors.grey import GreyPrior
from scoresde.priors.tiled import TiledPrior
from solvers import EFFORTS, BestOf, PointEstimator, Posterior, PosteriorSampler, make_solver
from solvers.streams import spawn

__all__ = [
    "Measurement",
    "Plan",
    "budget",
    "check_options",
    "draw",
    "make_plan",
    "prior_for",
    "restore_tensor",
    "solver_of",
    "starts_for",
    "tiled_prior",
]

# Of all draws together: about 1 GB of activations with gradients. On a CPU the time for each pixel
# is the same within 5 % from 100,000 pixels on, and 16 % more for a single draw of 160 x 160.
_PIXELS_AT_ONCE = 1 << 18

_ROOM = 4 << 30  # bytes kept of an evaluation in tiles

MAX_STEPS = 1_000_000
"""More steps than any solver profits from."""

MAX_STARTS = 1000
"""More starts than residuals can tell apart."""


@dataclass(frozen=True)
class Measurement:
    """A measurement, and what is known of the picture.

    Args:
        problem: Operator and noise.
        y: The measurement (1, ...).
        truth: The picture behind it (1, C, H, W) on [-1, 1] if it was simulated, else None.
        grey: Whether the picture has one channel where the prior has several.
    """

    problem: InverseProblem
    y: Tensor
    truth: Tensor | None
    grey: bool


@dataclass(frozen=True)
class Plan:
    """What is known of a restoration before a prior is loaded.

    Args:
        operator: Measurement of the picture as it is.
        noise: Noise of the measurement.
        description: The problem in plain values, for the report.
        context: The picture at hand.
        generator: Random numbers of the noise of a simulated measurement.
        source: Name of the picture, for errors.
    """

    operator: Operator
    noise: Noise
    description: dict[str, Any]
    context: ImageContext
    generator: torch.Generator
    source: str

    @property
    def problem(self) -> InverseProblem:
        """Operator and noise."""
        return InverseProblem(self.operator, self.noise)

    def picture_size(self, picture: Tensor) -> tuple[int, int]:
        """Find the size of the restored picture.

        Args:
            picture: (1, C, ...): the truth when simulating, else the measurement.

        Returns:
            Height and width in pixels.

        Raises:
            InputError: If the measurement does not fit the operator.
        """
        if self.context.simulate:
            return self.context.size
        with as_input_error("the measurement does not fit the problem"):
            shape = self.operator.input_shape(tuple(picture.shape[1:]))
        return shape[-2], shape[-1]

    def measure(self, picture: Tensor, prior: Prior, name: str) -> Measurement:
        """Measure a picture, or take it as the measurement.

        Args:
            picture: (1, C, ...): the truth when simulating, else the measurement.
            prior: Prior whose channels the restoration has.
            name: Name of the prior, for errors.

        Returns:
            The measurement.

        Raises:
            InputError: If the picture fits neither the operator nor the prior.
        """
        simulate, channels = self.context.simulate, prior.shape[0]
        with as_input_error():
            operator, problem = self.operator, self.problem
            grey = _is_grey(operator, picture, simulate, channels, name)
            if not simulate:
                y = operator.mask_unobserved(_without_missing(picture, operator, self.source))
                return Measurement(problem, y, None, grey)
            if operator.quantises:  # its rounding is all the noise that there is
                return Measurement(problem, operator.apply(picture), picture, grey)
            return Measurement(problem, problem.measure(picture, self.generator), picture, grey)


def make_plan(
    problem: ProblemOptions,
    restore: RestoreOptions,
    *,
    size: tuple[int, int],
    simulate: bool,
    seed: int,
    file: Picture | None = None,
    source: str = "the measurement",
) -> Plan:
    """Build operator and noise of a restoration.

    Args:
        problem: How the picture is measured.
        restore: How it is restored.
        size: Height and width of the picture in pixels.
        simulate: Whether the picture is the truth, to be measured.
        seed: Seed of the noise, and of a random mask. The noise is the same whether the mask is
            drawn or read.
        file: What the file of the picture holds beside its values.
        source: Name of the picture, for errors.

    Returns:
        The plan.

    Raises:
        InputError: If an option is unknown or out of its range.
    """
    of_mask = spawn(torch.Generator().manual_seed(seed), 1)[0]
    context = ImageContext(*size, simulate, of_mask, file)
    operator, description = build_operator(problem, context)
    noise = build_noise(problem, restore.stated_sigma, default_sigma(operator, simulate))
    check_options(restore)
    of_noise = torch.Generator().manual_seed(seed)
    return Plan(operator, noise, description, context, of_noise, source)


def check_options(options: RestoreOptions) -> None:
    """Check that a solver can be made of the options.

    Args:
        options: How a measurement is restored.

    Raises:
        InputError: If not.
    """
    if options.samples < 1:
        raise InputError(f"--samples must be at least 1, got {options.samples}")
    if not 0 <= options.seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2^63 - 1, got {options.seed}")
    if options.batch is not None and options.batch < 1:
        raise InputError(f"--batch must be at least 1, got {options.batch}")
    if options.steps is not None and not 1 <= options.steps <= MAX_STEPS:
        raise InputError(f"--steps must be from 1 to {MAX_STEPS}, got {options.steps}")
    if not 1 <= options.starts <= MAX_STARTS:
        raise InputError(f"--starts must be from 1 to {MAX_STARTS}, got {options.starts}")
    with as_input_error():
        solver = solver_of(options)
    if isinstance(solver, PointEstimator) and options.samples != 1:
        raise InputError(
            f"{options.solver} gives one estimate and no draws, but {options.samples} were asked "
            "for; leave --samples out, or choose a solver that draws"
        )


def solver_of(options: RestoreOptions) -> PosteriorSampler:
    """Make the solver of the options.

    Args:
        options: Solver, sampler, steps and starts.

    Returns:
        The solver, or the best of several of its runs.

    Raises:
        ValueError: If a name is unknown, or the solver has no use for a sampler or for starts.
    """
    solver = make_solver(options.solver, options.steps, options.sampler)
    return solver if options.starts == 1 else BestOf(solver, options.starts)


def starts_for(problem: str, solver: str, starts: int | None) -> int:
    """Decide the number of starts where it is not given.

    Args:
        problem: Name of the problem, or the path of its description.
        solver: Name of the solver.
        starts: What was given; None for the number of the problem.

    Returns:
        Runs of the solver for each draw; by default 1 for point estimators.

    Raises:
        InputError: If the solver is unknown.
    """
    if starts is not None:
        return starts
    entry = entry_of(problem)
    with as_input_error():
        if entry is None or isinstance(make_solver(solver), PointEstimator):
            return 1
    return entry.starts


def budget(
    effort: str,
    solver: str | None,
    steps: int | None,
    samples: int | None,
    problem: str | None = None,
) -> tuple[str, int | None, int]:
    """Decide solver, steps and samples by the name of a budget, where they are not given.

    Args:
        effort: "instant", "quick", "normal" or "thorough".
        solver: Name of the solver, None if the budget decides.
        steps: Steps, None if the budget decides.
        samples: Draws, None if the budget decides.
        problem: Name of the problem, whose own solver takes the place of the default one.

    Returns:
        Solver, steps (None for the solver's default) and draws, which are 1 for point estimators.

    Raises:
        InputError: If the effort or the solver is unknown.
    """
    with as_input_error():
        check_choice("effort", effort, EFFORTS)
        chosen = EFFORTS[effort]
        entry = None if problem is None else entry_of(problem)
        own = None if entry is None else entry.solver
        solver = (own or chosen.solver or DEFAULT_SOLVER) if solver is None else solver
        if steps is None and chosen.steps != 1:
            steps = chosen.scaled_steps(solver)
        if samples is None:
            samples = 1 if isinstance(make_solver(solver), PointEstimator) else chosen.draws
    return solver, steps, samples


def restore_tensor(
    prior: Prior,
    problem: InverseProblem,
    y: Tensor,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
    arrived: Callable[[Tensor], None] | None = None,
    folder: Path | None = None,
) -> Posterior:
    """Draw from the posterior of one measurement, in memory that a tile bounds.

    Large draws lie in a file without a name, see :mod:`problems.storage`.

    Args:
        prior: Prior of pictures.
        problem: Operator and noise.
        y: The measurement (1, ...).
        options: Solver, draws, seed and tile.
        progress: Called with the finished fraction of the work.
        arrived: Called with finished draws, see :meth:`solvers.PosteriorSampler.sample`.
        folder: Folder of the file of large draws; None for that of temporary files.

    Returns:
        The posterior.

    Raises:
        InputError: If the solver cannot do the problem.
    """
    with as_input_error():
        solver = solver_of(options)
        shape = (options.samples, 1, *problem.input_shape(y))
        needed = memory_bytes((shape[-2], shape[-1]), shape[-3], options.samples)
        tiled = tiled_prior(prior, options.tile, needed)
        batch = draws_at_once(problem, y, options)
        generator = torch.Generator().manual_seed(options.seed)
        out = _in_file(shape, folder) if math.prod(shape) >= LARGE_VECTOR else None
        return solver.sample(
            tiled,
            problem,
            y,
            options.samples,
            generator=generator,
            batch=batch,
            progress=progress,
            arrived=arrived,
            out=out,
        )


def draws_at_once(problem: InverseProblem, y: Tensor, options: RestoreOptions) -> int:
    """Decide how many draws go through the network together.

    Args:
        problem: Operator and noise.
        y: The measurement (1, ...).
        options: Number of draws, and the batch if one was asked for.

    Returns:
        Their number.
    """
    pixels = torch.Size(problem.input_shape(y)[-2:]).numel()
    return max(1, min(options.batch or _PIXELS_AT_ONCE // pixels, options.samples))


def _in_file(shape: tuple[int, ...], folder: Path | None) -> Tensor:
    """Room on the disk for large draws."""
    try:
        return mapped_empty(shape, folder=folder)
    except OSError as error:
        raise CannotWriteError(
            f"the draws need {4e-9 * math.prod(shape):.3g} GB in {folder or 'the temporary folder'}"
            f" ({error.strerror or error}); make room, choose another folder, or lower --samples"
        ) from None


def prior_for(measurement: Measurement, prior: Prior) -> Prior:
    """Give the prior of a picture with as many channels as it has.

    Args:
        measurement: What is known of the picture.
        prior: Prior of pictures, which may have more.

    Returns:
        The prior, as one of grey pictures where this one is grey.
    """
    return GreyPrior(prior) if measurement.grey else prior


def tiled_prior(prior: Prior, tile: int, needed: float = 0.0) -> TiledPrior:
    """Bound what a network is given at once.

    Args:
        prior: Prior of pictures.
        tile: Largest side in pixels.
        needed: Bytes of memory that the rest of the work will take.

    Returns:
        The prior on tiles, with the usual overlap or a quarter of a small tile, in multiples of 8.
        A quarter of the memory that is free may be kept for products with its Jacobian.
    """
    overlap = min(TILE_OVERLAP, tile // 32 * 8)
    free, share = available_bytes(prior.device), 1.0
    if prior.device.type == "cpu":
        # the other cores may belong to other workers, which take memory, too
        share = min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
    room = min(_ROOM, share * min(free / 4, free - needed))
    return TiledPrior(prior, tile, overlap, int(max(room, 0)))


def draw(
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
    arrived: Callable[[Tensor], None] | None = None,
    folder: Path | None = None,
) -> Posterior:
    """Draw from the posterior, on the CPU.

    Args:
        prior: Prior of pictures.
        measurement: What is known of the picture.
        options: Solver, draws, seed and tile.
        progress: Called with the finished fraction of the work.
        arrived: Called with finished draws, see :meth:`solvers.PosteriorSampler.sample`.
        folder: Folder of the file of large draws; None for that of temporary files.

    Returns:
        The posterior, draws (n, 1, C, H, W) in float32.

    Raises:
        InputError: If the solver cannot do the problem.
    """
    posterior = restore_tensor(
        prior_for(measurement, prior),
        measurement.problem,
        measurement.y,
        options,
        progress,
        arrived,
        folder,
    )
    return replace(posterior, draws=posterior.draws.float().cpu())


def _without_missing(y: Tensor, operator: Operator, source: str) -> Tensor:
    """Zeros in the place of values that are no numbers, where the operator observes nothing."""
    missing = ~torch.isfinite(y)
    if not bool(missing.any()):
        return y
    y = torch.where(missing, 0.0, y)
    seen = missing & operator.observed(y)
    if bool(seen.any()):
        raise InputError(
            f"{source} has {int(seen.sum())} values that are NaN or infinite and not marked as "
            "missing; mark them in a --mask, or fill them"
        )
    return y


def _is_grey(operator: Operator, picture: Tensor, simulate: bool, channels: int, name: str) -> bool:
    """Whether the picture has one channel where the prior has several."""
    shape = tuple(picture.shape[1:])
    given = shape[0] if simulate else operator.input_shape(shape)[0]
    if given not in (1, channels):
        raise InputError(f"the picture has {given} channels, the prior {name!r} is for {channels}")
    return given != channels
