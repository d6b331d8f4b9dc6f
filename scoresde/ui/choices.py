"""What a visitor chose, as the options of `scoresde restore`."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scoresde.errors import InputError
from scoresde.pipelines.settings import DEFAULT_SOLVER, ProblemOptions, RestoreOptions
from scoresde.ui.limits import Limits
from solvers.posterior.point import PointEstimator
from solvers.registry import SOLVERS, make_solver

__all__ = ["BLURS", "KINDS", "TILE", "Choices", "grey_levels", "instant"]

KINDS = {
    "missing": "Parts are missing or covered",
    "blur": "It is blurred",
    "small": "It is too small",
    "noise": "It is noisy",
    "jpeg": "It has JPEG artefacts",
}
"""What may be wrong with a picture, in the words of the page."""

BLURS = {
    "gaussian": "soft (Gaussian)",
    "disk": "out of focus",
    "motion": "camera moved",
}
"""Kinds of blur, in the words of the page."""

TILE = 512
"""Largest side that the network is given at once: 512x512 pixels are not cut.

The default of 384 cuts such a picture into four overlapping tiles with 2.25 times its pixels.
"""

_STEPS, _STEPS_OF_JPEG = 4, 2
"""Of the first answer. On the photographs of the demo it is at most 0.25 dB below that of the
solver's own 8 steps; of JPEG, whose steps take longest, 0.05 dB."""

_GREY = 127.5  # grey levels of 255 in a unit of [-1, 1]
_MOST_NOISE = 255.0


def grey_levels(sigma: float) -> float:
    """Convert a standard deviation on [-1, 1] to grey levels of 255.

    Args:
        sigma: Standard deviation on [-1, 1].

    Returns:
        The same in grey levels.

    Example:
        >>> grey_levels(0.2)
        25.5
    """
    return _GREY * sigma


@dataclass(frozen=True)
class Choices:
    """The controls of the page.

    Args:
        kind: What is wrong with the picture, a key of ``KINDS``.
        simulate: The picture is good: damage it first in this way.
        mask: Picture of the missing parts, white on black.
        box: Missing rectangle, "TOP,LEFT,HEIGHT,WIDTH", in the place of a mask.
        blur: Kind of blur, a key of ``BLURS``.
        width: Standard deviation, radius or length of the blur, in pixels; None to estimate it
            from the picture.
        angle: Direction of a motion, in degrees; estimated with its length.
        scale: Factor by which the picture is enlarged.
        noise: Noise in the picture, in grey levels of 255; None to estimate it; not of JPEG.
        quality: Quality of the JPEG; None for the tables of the file.
        prior: Name of the prior.
        solver: Name of the solver of the draws.
        steps: Its steps; None for its own.
        draws: Number of draws.
        seed: Seed of all random numbers.

    Example:
        >>> Choices("blur", blur="disk", width=3.0).problem()
        ProblemOptions(problem='deblur', mask=None, mask_value=None, invert_mask=False, box=None, \
random=None, kernel=None, kernel_size=None, key=None, gaussian=None, motion=None, disk=3.0, \
boundary=None, scale=None, filter=None, photons=None, set=(), range=None, array=None, select=(), \
maps=None, noise_scan=None)
    """

    kind: str
    simulate: bool = False
    mask: Path | None = None
    box: str = ""
    blur: str = "gaussian"
    width: float | None = 2.0
    angle: float = 0.0
    scale: float = 2.0
    noise: float | None = 2.55
    quality: int | None = None
    prior: str = "natural"
    solver: str = DEFAULT_SOLVER
    steps: int | None = None
    draws: int = 8
    seed: int = 0

    def problem(self) -> ProblemOptions:
        """Give the options that describe the problem.

        Returns:
            The options.

        Raises:
            InputError: If a choice is unknown or missing.
        """
        if self.kind == "missing":
            if self.box.strip():
                return ProblemOptions("inpaint", box=self.box.replace(" ", ""))
            if self.mask is None:
                raise InputError("paint over the missing parts, or type a rectangle")
            return ProblemOptions("inpaint", mask=self.mask)
        if self.kind == "blur":
            _known("kind of blur", self.blur, BLURS)
            return ProblemOptions("deblur", **{self.blur: self._kernel()})
        if self.kind == "small":
            return ProblemOptions("super-resolve", scale=self.scale)
        if self.kind == "noise":
            return ProblemOptions("denoise")
        _known("damage", self.kind, KINDS)
        said = () if self.quality is None else (f"quality={self.quality}",)
        return ProblemOptions("jpeg", set=said)

    def _kernel(self) -> Any:
        """The value of the option that describes the blur."""
        if self.width is not None:
            return f"{self.width:g},{self.angle:g}" if self.blur == "motion" else self.width
        if self.simulate:
            raise InputError("a picture that is damaged first needs the width of its blur")
        return "auto"

    def options(self, limits: Limits, priors: tuple[str, ...]) -> RestoreOptions:
        """Give the options of the restoration.

        Args:
            limits: What may be asked for.
            priors: Names of the priors that are offered.

        Returns:
            The options. Draws are made one at a time.

        Raises:
            InputError: If a choice is unknown or beyond its limit.
        """
        _known("prior", self.prior, priors)
        _known("solver", self.solver, SOLVERS)
        if self.steps is not None and not 1 <= self.steps <= limits.steps:
            raise InputError(f"the steps must be from 1 to {limits.steps}, got {self.steps}")
        if not 1 <= self.draws <= limits.draws:
            raise InputError(f"the draws must be from 1 to {limits.draws}, got {self.draws}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"the seed must be from 0 to 2^63 - 1, got {self.seed}")
        single = isinstance(make_solver(self.solver, self.steps), PointEstimator)
        return RestoreOptions(
            sigma=self._sigma(),
            solver=self.solver,
            steps=self.steps,
            samples=1 if single else self.draws,
            seed=self.seed,
            prior=self.prior,
            tile=TILE,
            batch=1,
        )

    def _sigma(self) -> float | Literal["auto"] | None:
        if self.kind == "jpeg":
            return None
        if self.noise is None:
            return "auto"
        if not (math.isfinite(self.noise) and 0 < self.noise <= _MOST_NOISE):
            raise InputError(f"the noise must be above 0 and at most {_MOST_NOISE:g} grey levels")
        return round(self.noise / _GREY, 4)


def instant(options: RestoreOptions, kind: str) -> RestoreOptions:
    """Give the options of the first answer.

    Args:
        options: Options of the draws.
        kind: Name of the problem.

    Returns:
        The same with the solver "hqs" in few steps.

    Example:
        >>> instant(RestoreOptions(), "deblur").solver
        'hqs'
    """
    steps = _STEPS_OF_JPEG if kind == "jpeg" else _STEPS
    return replace(options, solver="hqs", sampler=None, steps=steps, samples=1)


def _known(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise InputError(f"unknown {what} {name!r}; known: {', '.join(names)}")
