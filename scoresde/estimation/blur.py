"""Blurs of unknown width: Gaussian, out of focus, and of a straight motion.

The evidence of a motion has a maximum for many a line in the picture. Its search therefore begins
with the line that the spectrum of the picture shows best (``scoresde.spectral_evidence``).

Where the picture has at least 128 pixels a side, its spectrum decides (``blur_spectrum``): of up to
256 pixels a side, the square with the most detail, treated as a picture of its own. On smaller
pictures posterior draws decide (``parameters``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from problems import DiskBlur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from problems.checks import check_choice
from problems.operators.convolution import Boundary, Convolution
from scoresde.estimation.blur_spectrum import values_by_spectrum
from scoresde.estimation.drawing import drawing_solver
from scoresde.estimation.family import Parameter
from scoresde.estimation.parameters import OutOfRange, ParameterEstimate, estimate_parameters
from scoresde.estimation.spectral_start import best_starts
from scoresde.priors.base import Prior
from scoresde.spectral_evidence import SPECTRAL, most_detailed
from solvers import PosteriorSampler

__all__ = ["BLURS", "blur_parameters", "estimate_blur"]

SMALLEST = 32
"""Shortest side of a picture whose blur can be estimated."""

LARGE = 128
"""Shortest side, in pixels, of a picture whose spectrum decides."""

Source = Literal["auto", "spectrum", "draws"]
SOURCES: tuple[Source, ...] = ("auto", "spectrum", "draws")

_OWN = {"gaussian": 0.6, "disk": 0.85, "motion": 2.0}  # pixels, that photographs have themselves

_STEPS = 6  # of the solver: as few as its quick setting


def _gaussian(boundary: Boundary) -> Callable[..., Convolution]:
    return lambda std: GaussianBlur(std, boundary)


def _disk(boundary: Boundary) -> Callable[..., Convolution]:
    return lambda radius: DiskBlur(radius, boundary)


def _motion(boundary: Boundary) -> Callable[..., Convolution]:
    # the last parameter is sought first
    return lambda angle, length: MotionBlur(length, angle, boundary)


BLURS: dict[str, Callable[[Boundary], Callable[..., Convolution]]] = {
    "gaussian": _gaussian,
    "disk": _disk,
    "motion": _motion,
}
"""Families of kernels by name."""

# lengths of lines, and degrees between their directions: at the end of a long line few are far
_LINES = {10: (2.5, 3, 4, 5, 6, 7.5), 5: (9, 11, 13, 15), 3: (18, 21, 25)}
_TURN = 60.0  # degrees to either side of the first angle, in which the angle is sought
_LONGER = 2.0  # factor to either side of the first length


def blur_parameters(
    kind: str, y: Tensor, sigma: float = 0.02, larger: Tensor | None = None
) -> tuple[Parameter, ...]:
    """Say what is unknown of a kind of blur, and in which range it is sought.

    Args:
        kind: "gaussian", "disk" or "motion".
        y: The blurred picture (1, C, H, W), which bounds the size of kernels.
        sigma: Standard deviation of its noise, above 0; for the spectrum of a motion.
        larger: More of the picture, for that spectrum; None for y.

    Returns:
        The parameters.

    Raises:
        ValueError: If the kind is unknown, y is not a picture, or too small.

    Example:
        >>> import torch
        >>> [one.name for one in blur_parameters("disk", torch.rand(1, 1, 64, 64))]
        ['the radius of the blur']
    """
    check_choice("blur", kind, tuple(BLURS))
    side = min(y.shape[-2:]) if y.ndim == 4 else 0
    if side < SMALLEST:
        raise ValueError(
            f"a blur is estimated from a picture of at least {SMALLEST} pixels a side, got shape "
            f"{tuple(y.shape)}; state the kernel"
        )
    half = (side - 1) // 2  # the largest reach of a kernel
    if kind == "gaussian":
        return (Parameter("the width of the blur", 1.5, 0.4, min(8.0, half / 4)),)
    if kind == "disk":
        return (Parameter("the radius of the blur", 2.2, 0.7, min(12.0, half / 2), 0.25),)
    longest = min(30.0, half)
    line = best_starts(y if larger is None else larger, sigma, motions(longest), 1)[0]
    assert isinstance(line, MotionBlur)
    low, high = line.angle - _TURN, line.angle + _TURN
    return (
        Parameter("the angle of the motion", line.angle, low, high, 10.0, linear=True),
        Parameter(
            "the length of the motion",
            line.length,
            max(1.2, line.length / _LONGER),
            min(longest, line.length * _LONGER),
            0.2,
        ),
    )


def motions(longest: float) -> list[Convolution]:
    """Make straight motions of several lengths in every direction.

    Args:
        longest: Every line is shorter, in pixels.

    Returns:
        The blurs.

    Example:
        >>> [one.length for one in motions(4.0) if one.angle == 0]
        [2.5, 3]
    """
    return [
        MotionBlur(length, angle, "reflect")
        for degrees, lengths in _LINES.items()
        for length in lengths
        if length < longest
        for angle in range(0, 180, degrees)
    ]


@dataclass(frozen=True)
class _At:
    """The problem of a kernel, with its noise."""

    blur: Callable[..., Convolution]
    sigma: float

    def __call__(self, *values: float) -> InverseProblem:
        return InverseProblem(self.blur(*values), GaussianNoise(self.sigma))


def estimate_blur(
    kind: str,
    y: Tensor,
    prior: Prior | None,
    sigma: float,
    *,
    boundary: Boundary = "reflect",
    source: Source = "auto",
    side: int = 96,
    solver: PosteriorSampler | None = None,
    draws: int = 6,
    generator: torch.Generator | None = None,
) -> ParameterEstimate:
    """Estimate the kernel of a blurred picture.

    Args:
        kind: "gaussian" (width), "disk" (radius) or "motion" (angle in degrees and length).
        y: The blurred picture (1, C, H, W).
        prior: Prior of pictures, for draws; None if the spectrum decides.
        sigma: Standard deviation of its noise, above 0.
        boundary: Rule for the picture outside the frame; "valid" is "reflect" here.
        source: "spectrum" to maximise the evidence of the spectrum, under a Gaussian prior whose
            spectrum is a power law; "draws" that of the prior, by posterior draws; "auto" for the
            spectrum from 128 pixels a side on.
        side: Longest side, in pixels, of the part from which draws are made.
        solver: Sampler of the posterior; None for "warm-start" in 6 steps.
        draws: Draws at each place of the last steps, at least 4.
        generator: Random numbers; None for a fixed seed.

    Returns:
        The estimate.

    Raises:
        ValueError: If y is too small, shows no blur, or says too little about it, or draws are
            needed and there is no prior.
    """
    check_choice("source", source, SOURCES)
    part, larger = most_detailed(y, side), most_detailed(y, max(side, SPECTRAL))
    parameters = blur_parameters(kind, part, sigma, larger)
    blur = BLURS[kind]("reflect" if boundary == "valid" else boundary)
    if source == "spectrum" or (source == "auto" and min(larger.shape[-2:]) >= LARGE):
        try:
            values, error, path = values_by_spectrum(larger, sigma, blur, parameters, _OWN[kind])
        except OutOfRange as end:
            raise ValueError(_words(end, larger)) from None
        names = tuple(p.name for p in parameters)
        problem = _At(BLURS[kind](boundary), sigma)(*values)
        return ParameterEstimate(names, values, error, "spectrum", path, problem)
    if prior is None:
        raise ValueError(
            f"a picture of less than {LARGE} pixels a side needs a prior for the estimate of its "
            'blur; give one, or source="spectrum"'
        )
    problem_of = _At(blur, sigma)
    solver = drawing_solver(solver, _STEPS)
    try:
        found = estimate_parameters(
            problem_of, parameters, part, prior, solver=solver, draws=draws, generator=generator
        )
    except OutOfRange as end:
        raise ValueError(_words(end, part)) from None
    return replace(found, problem=_At(BLURS[kind](boundary), sigma)(*found.values))


def _words(error: OutOfRange, part: Tensor) -> str:
    name, p = error.parameter.name, error.parameter
    if p.linear:
        return "the picture does not show one direction of motion; state the kernel"
    if error.low:
        return (
            f"the picture shows no blur of this kind: {name} is estimated at {p.low:g} pixels or "
            "less; use --problem denoise, or state the kernel"
        )
    return (
        f"{name} is estimated at {p.high:g} pixels or more, the largest that "
        f"{part.shape[-1]}x{part.shape[-2]} pixels can show; state the kernel"
    )
