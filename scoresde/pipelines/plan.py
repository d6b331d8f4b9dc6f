"""From options to a measurement and its posterior draws: what restoring and calibrating share."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import Grayscale, InverseProblem, Noise, Operator
from problems.checks import check_choice
from scoresde.defaults import TILE_OVERLAP
from scoresde.errors import InputError
from scoresde.pipelines.named_problems import ImageContext, build_noise, build_operator
from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.settings import DEFAULT_SOLVER, ProblemOptions, RestoreOptions
from scoresde.priors.base import Prior
from scoresde.priors.tiled import TiledPrior
from solvers import EFFORTS, PointEstimator, Posterior, make_solver

__all__ = ["Measurement", "Plan", "budget", "check_options", "draw", "make_plan", "restore_tensor"]

# Of all draws together: about 1 GB of activations with gradients. On a CPU the time for each pixel
# is the same within 5 % from 100,000 pixels on, and 16 % more for a single draw of 160 x 160.
_PIXELS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Measurement:
    """A measurement in the prior's channels.

    Args:
        problem: Operator and noise.
        y: The measurement (1, ...).
        truth: The picture behind it (1, C, H, W) on [-1, 1] if it was simulated, else None.
        grey: Whether the picture is grey, that is, the mean of the prior's colours.
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
    """

    operator: Operator
    noise: Noise
    description: dict[str, Any]
    context: ImageContext

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
            operator = _for_prior(self.operator, picture, simulate, channels, name)
            grey = operator is not self.operator
            problem = InverseProblem(operator, self.noise)
            if not simulate:
                return Measurement(problem, operator.mask_unobserved(picture), None, grey)
            x = picture.expand(-1, channels, -1, -1) if grey else picture
            if operator.quantises:  # its rounding is all the noise that there is
                return Measurement(problem, operator.apply(x), picture, grey)
            return Measurement(problem, problem.measure(x, self.context.generator), picture, grey)


def make_plan(
    problem: ProblemOptions,
    restore: RestoreOptions,
    *,
    image: Path,
    size: tuple[int, int],
    simulate: bool,
    seed: int,
) -> Plan:
    """Build operator and noise of a restoration.

    Args:
        problem: How the picture is measured.
        restore: How it is restored.
        image: File of the picture.
        size: Its height and width in pixels.
        simulate: Whether the picture is the truth, to be measured.
        seed: Seed of a random mask, and then of the noise.

    Returns:
        The plan.

    Raises:
        InputError: If an option is unknown or out of its range.
    """
    context = ImageContext(image, *size, simulate, torch.Generator().manual_seed(seed))
    operator, description = build_operator(problem, context)
    default = 0.1 if operator.quantises else 0.05 if simulate else 0.02
    noise = build_noise(problem, restore.sigma, default)
    check_options(restore)
    return Plan(operator, noise, description, context)


def check_options(options: RestoreOptions) -> None:
    """Check that a solver can be made of the options.

    Args:
        options: How a measurement is restored.

    Raises:
        InputError: If not.
    """
    if options.samples < 1:
        raise InputError(f"--samples must be at least 1, got {options.samples}")
    with as_input_error():
        solver = make_solver(options.solver, options.steps, options.sampler)
    if isinstance(solver, PointEstimator) and options.samples != 1:
        raise InputError(
            f"{options.solver} gives one estimate and no draws, but {options.samples} were asked "
            "for; leave --samples out, or choose a solver that draws"
        )


def budget(
    effort: str, solver: str | None, steps: int | None, samples: int | None
) -> tuple[str, int | None, int]:
    """Decide solver, steps and samples by the name of a budget, where they are not given.

    Args:
        effort: "instant", "quick", "normal" or "thorough".
        solver: Name of the solver, None if the budget decides.
        steps: Steps, None if the budget decides.
        samples: Draws, None if the budget decides.

    Returns:
        Solver, steps (None for the solver's default) and draws, which are 1 for point estimators.

    Raises:
        InputError: If the effort or the solver is unknown.
    """
    with as_input_error():
        check_choice("effort", effort, EFFORTS)
        chosen = EFFORTS[effort]
        solver = solver or chosen.solver or DEFAULT_SOLVER
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
) -> Posterior:
    """Draw from the posterior of one measurement, in memory that a tile bounds.

    Args:
        prior: Prior of pictures.
        problem: Operator and noise.
        y: The measurement (1, ...).
        options: Solver, draws, seed and tile.
        progress: Called with the finished fraction of the work.

    Returns:
        The posterior.

    Raises:
        InputError: If the solver cannot do the problem.
    """
    with as_input_error():
        solver = make_solver(options.solver, options.steps, options.sampler)
        pixels = torch.Size(problem.input_shape(y)[-2:]).numel()
        tiled = TiledPrior(prior, options.tile, min(TILE_OVERLAP, options.tile // 4))
        batch = max(1, min(_PIXELS_AT_ONCE // pixels, options.samples))
        generator = torch.Generator().manual_seed(options.seed)
        return solver.sample(
            tiled, problem, y, options.samples, generator=generator, batch=batch, progress=progress
        )


def draw(
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None = None,
) -> Posterior:
    """Draw from the posterior, on the CPU, grey again if the picture was.

    Args:
        prior: Prior of pictures.
        measurement: What is known of the picture.
        options: Solver, draws, seed and tile.
        progress: Called with the finished fraction of the work.

    Returns:
        The posterior, draws (n, 1, C, H, W) in float32.

    Raises:
        InputError: If the solver cannot do the problem.
    """
    posterior = restore_tensor(prior, measurement.problem, measurement.y, options, progress)
    draws = posterior.draws.float().cpu()
    return replace(posterior, draws=draws.mean(2, keepdim=True) if measurement.grey else draws)


def _for_prior(
    base: Operator, picture: Tensor, simulate: bool, channels: int, name: str
) -> Operator:
    """The operator on the prior's channels: a grey picture is the mean of the prior's colours."""
    shape = tuple(picture.shape[1:])
    given = shape[0] if simulate else base.input_shape(shape)[0]
    if given == channels:
        return base
    if given != 1:
        raise InputError(f"the picture has {given} channels, the prior {name!r} is for {channels}")
    return base @ Grayscale((1 / channels,) * channels)
