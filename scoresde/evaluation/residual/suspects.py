"""From the evidence to one line that names what to suspect.

The inputs are tried first, in the order in which they are certain: what y itself says without any
restoration, then the misfit. At most one finding is about the inputs, because a wrong one makes all
other signs unreliable. Every limit stands with its reason; "right runs" are those of
benchmarks/results/residual.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from problems import (
    Blur,
    DiskBlur,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    MotionBlur,
)
from scoresde.evaluation.residual.departures import clips
from scoresde.evaluation.residual.evidence import Evidence
from scoresde.evaluation.residual.scores import CLEAR, CLEAR_BOUNDARY, CLEAR_LEARNED, Score
from scoresde.evaluation.residual.seen_noise import SeenNoise
from scoresde.evaluation.residual.seen_width import SeenWidth
from scoresde.evaluation.residual.settings import settings_of
from scoresde.evaluation.residual.values import Values

__all__ = ["Finding", "Known", "suspect"]

OUTSIDE = 1e-3
"""Share of the entries of y that no picture can give; 0 in right runs, by a margin of 5 sigma."""

LOUD = 1.5
"""Loudness of y; at most 1 for pictures, apart from filters that overshoot."""

FAINT = 0.02
"""Loudness below which y is not on the scale of A; the faintest right run has 0.1."""

CEILING = 0.02
"""Share of the entries of y at exactly its largest value, of which noise leaves one."""

ALIKE = 0.25
"""Variance of y in units of the noise; the noise alone has 1, so this is twice too little of it.

Where the operator rounds, the noise stands for that and is not in y: pictures may be plain.
"""

ZEROS = 0.05
"""Share of exact zeros of y where a mask is stated; noise has none."""

PLAIN = 0.1
"""Excess of exactly plain pixels beside holes; 0 for noise, and for clipped pixels on average."""

DARKEST = (-0.06, 0.3)
"""Where the darkest pixels of a picture on [0, 1] lie if it is taken to be on [-1, 1]."""

CONTRAST = 0.3
"""Least contrast of such a picture: hazy skies are left out.

Both hold for 0.9, 0.5 and 0.04 % of photographs of 64, 96 and 160 pixels (2700 crops), and for 92,
97 and 99 % of the same on [0, 1].
"""

GRID = 0.018
"""Change of a rounded file by its own operator: at most 0.016 for JPEG (560 files).

A file of higher quality than stated changes by 0.019 or more.
"""

QUIET_DETAILS = 0.7
"""Bound of the noise by the finest details, in stated units, with 3 standard errors.

Right runs have at least 0.97, and 0.90 with Laplace noise. A little less noise than stated does
no harm.
"""

QUIET = 0.25
"""T below which y has too little noise, if its residual is not one of a solver that follows y.

Only for solvers that aim at the law of the posterior: DPS has 0.2 with right inputs, and DiffPIR
with little noise.
"""

FOLLOWS = -0.1
"""Correlation of the residual of draws that follow the noise of y: below this."""

MISFIT = 8.0
"""T of draws that do not explain y; heuristic solvers have up to 3 at sigma 0.05."""

COARSE = 0.05
"""The same residual relative to a white picture.

Some solvers are no more precise than 0.04, which is a T of 15 at sigma 0.01.
"""

ROUNDED_MISFIT = 2.0
"""The same where the operator rounds and the noise stands for that: the truth has 0.

Exact draws have up to (sigma^2 + q^2)/sigma^2 for a rounding error q, 1.7 for 8 levels and 0.1.
"""

WHITE_MISFIT = 2.2
"""T if the residual is as white as noise, for solvers that aim at the law of the posterior.

The residual of the mean has to be large too, and the draws must not scatter more than the noise.
"""

WHITE = 0.1
"""Correlation up to which a residual counts as white."""

GAUSSIAN = 4.0
"""Kurtosis up to which a residual counts as Gaussian."""

IMPRECISE = 0.03
"""Noise relative to a white picture below which the misfit of a learned prior has patterns too."""

MISFIT_OF_NOISE = 2.0
"""T from which on the noise is suspected first, whose misfit has patterns of its own."""

NO_PATTERN = 3.0
"""How much larger the z of the noise is than those of patterns, where only the noise is wrong."""

_OF_OPERATORS = ("width", "angle", "boundary", "shift")

UNREACHABLE = 0.15
"""Unreachable misfit, beyond 4 standard deviations of noise.

The visible error e of a restoration leaves (e / 0.3)^2 at most, which is this for e = 0.116.
"""

SCATTER = 1.3
"""Scatter of A x among draws in units of the noise, which is at most 1 for exact linear ones."""

EXCESS = 0.3
"""Root mean square beyond [-1, 1] of a draw that diverged.

Where y is clipped nothing holds the draws back, and they reach 0.2 with right inputs.
"""


@dataclass(frozen=True)
class Finding:
    """Something that cannot be right, or is very unlikely to be.

    Args:
        kind: What is suspected: "range", "noise" or "operator" (inputs), "solver" or "outlier"
            (draws).
        message: One line for the user.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Known:
    """What the caller knows of the measurement and the draws.

    Args:
        range_known: Whether the range of y is known to be right.
        sigma_stated: Whether the noise was stated, and not a default or a stand-in for rounding.
        several: Whether there are several draws, so that their residual has a lower side.
        faithful: Whether the solver aims at the law of the posterior.
        masked: Whether the operator leaves entries of y unobserved.
        exact: Whether the draws are known to have the law of the posterior.
    """

    range_known: bool
    sigma_stated: bool
    several: bool
    faithful: bool
    masked: bool
    exact: bool


@dataclass(frozen=True)
class Scene:
    """All that is known when a finding is made.

    Args:
        problem: Operator and noise.
        ratio: T of a typical draw.
        scatter: Scatter of A x among the draws, in units of the noise.
        entries: Number of observed entries.
        evidence: What the residual looks like.
        values: The range of the draws.
        scores: Along which departures from the stated problem y pulls, the largest z first.
        known: What the caller knows.
        seen_noise: The noise of a picture by the denoiser, where it is known.
        seen_width: The width of the kernel by the spectrum of y, where it is known.
    """

    problem: InverseProblem
    ratio: float
    scatter: float
    entries: int
    evidence: Evidence
    values: Values
    scores: tuple[Score, ...]
    known: Known
    seen_noise: SeenNoise | None = None
    seen_width: SeenWidth | None = None

    @property
    def settings(self) -> str:
        """Inputs of the operator, in words."""
        return settings_of(self.problem.operator)

    @property
    def spans(self) -> str:
        """The range of y, in words."""
        return f"y has values from {self.evidence.lowest:.3g} to {self.evidence.highest:.3g}"

    @property
    def misfit(self) -> str:
        """The residual against the noise, in words."""
        return (
            f"the draws do not explain the measurement: |y - A x|^2 is {self.ratio:.3g} times what "
            f"{self.noise(1.0)} makes; "
        )

    def noise(self, factor: float) -> str:
        """Describe so many times the stated noise.

        Args:
            factor: Standard deviation in units of the stated one.

        Returns:
            Words such as "noise of 0.05".
        """
        noise = self.problem.noise
        if isinstance(noise, GaussianNoise) and not isinstance(noise.std, torch.Tensor):
            return f"noise of {noise.std * factor:.2g}"
        return "the stated noise" if factor == 1 else f"{factor:.2g} times the stated noise"


def suspect(scene: Scene) -> tuple[Finding, ...]:
    """List the findings: at most one about the inputs, and those about the draws.

    Args:
        scene: What is known.

    Returns:
        The findings, the most telling first.
    """
    inputs = next((found for rule in _INPUTS if (found := rule(scene))), None)
    return (*([inputs] if inputs else []), *_draws(scene, inputs))


def _outside(s: Scene) -> Finding | None:
    """Values that no picture gives."""
    e = s.evidence
    if e.outside <= OUTSIDE and e.loudness <= LOUD:
        return None
    if e.loudness <= LOUD and e.outside < 0.1:
        remedy = f"or {s.settings}"
    elif e.lowest > -1 and 100 < e.highest < 300:
        remedy = "(bytes 0..255 need y / 127.5 - 1 first)"
    else:
        remedy = "(counts, bytes and other scales have to be brought to that of A x first)"
    return Finding(
        "range",
        f"no picture on [-1, 1] gives this measurement: {s.spans}; suspect the range of its "
        f"values or its units {remedy}",
    )


def _faint(s: Scene) -> Finding | None:
    """Values that are all nearly the same, or far below those of A."""
    e = s.evidence
    masked = isinstance(s.problem.operator, Inpainting)
    alike = e.variation < ALIKE and not s.problem.operator.quantises
    if alike and masked:
        return Finding(
            "operator",
            f"the observed entries of y are all alike ({s.spans}), as the pixels of a hole are; "
            f"suspect {s.settings}",
        )
    if alike:
        return Finding(
            "range",
            f"the measurement varies less than its noise: {s.spans}; suspect its units, or --sigma",
        )
    if e.loudness < FAINT:
        return Finding(
            "range",
            f"the measurement is much fainter than A makes it ({s.spans}, {e.loudness:.1g} of a "
            f"white picture); suspect its units, or {s.settings}",
        )
    return None


def _holes(s: Scene) -> Finding | None:
    """Entries that were not measured although the mask says so."""
    e, masked = s.evidence, isinstance(s.problem.operator, Inpainting)
    if e.zeros > ZEROS and s.known.masked and not s.problem.operator.quantises:
        return Finding(
            "operator",
            f"{100 * e.zeros:.0f} % of the entries that the mask declares observed are exactly 0; "
            f"suspect {s.settings}",
        )
    if masked and e.plain > PLAIN:
        return Finding(
            "operator",
            f"{100 * e.plain:.0f} % of the pixels beside the holes have exactly one colour, as if "
            f"the holes went on; suspect {s.settings}: it may be too small or shifted",
        )
    return None


def _grid(s: Scene) -> Finding | None:
    """A file that the stated rounding did not make."""
    if not s.evidence.grid > GRID:  # NaN where nothing rounds
        return None
    return Finding(
        "operator",
        f"this file was not made by the stated operator, which would change it again by "
        f"{s.evidence.grid:.2g}; suspect {s.settings}",
    )


def _halved(s: Scene) -> Finding | None:
    """A picture on [0, 1]."""
    v = s.values
    if s.known.range_known or not DARKEST[0] < v.darkest < DARKEST[1]:
        return None
    if v.brightest - v.darkest < CONTRAST:
        return None
    return Finding(
        "range",
        f"nothing in the restoration is darker than mid-grey (it has {v.darkest:.2f} to "
        f"{v.brightest:.2f}), as if the picture were on [0, 1] and not on [-1, 1]; suspect the "
        "range of the values (2 y - A(1), with A(1) the measurement of a white picture, is right)",
    )


def _ceiling(s: Scene) -> Finding | None:
    """Highlights that were clipped after the noise came in."""
    e, operator = s.evidence, s.problem.operator
    white = isinstance(s.problem.noise, GaussianNoise)
    if e.ceiling < CEILING or not white or operator.quantises or clips(operator):
        return None
    return Finding(
        "operator",
        f"{100 * e.ceiling:.0f} % of the measurement has exactly its largest value, "
        f"{e.highest:.3g}: clipped highlights, which the stated operator does not have; mask these "
        "entries or state the clipping",
    )


def _scored(s: Scene) -> Finding | None:
    """The departure along which y pulls most."""
    scores = [one for one in s.scores if one.matters]
    if s.known.exact:
        scores = [one for one in scores if abs(one.z) > CLEAR]
    else:
        scores = _beyond_the_prior(s, scores)
    if not scores:
        return None
    # a wrong operator leaves misfit that noise explains in part, other noise leaves no pattern
    patterns = [one for one in scores if one.kind != "noise"]
    first = scores[0]
    if first.kind == "noise" and patterns and abs(first.z) < NO_PATTERN * abs(patterns[0].z):
        first = patterns[0]
    if first.kind == "noise":
        more, noise = ("more", "larger") if first.z > 0 else ("less", "smaller")
        if first.z < 0 and not s.known.sigma_stated:
            return None
        return Finding(
            "noise",
            f"the measurement has {more} noise than stated, by {abs(first.z):.0f} standard errors "
            f"(T is {s.ratio:.2g}); suspect --sigma: try a {noise} one, or --sigma auto",
        )
    other = ", or a prior that knows no such pictures"
    if first.kind == "boundary":  # a shifted kernel leaves the same pattern along the frame
        other = f", or else {s.settings}{other}"
    sense = {"width": ("too narrow", "too wide")}.get(first.kind)
    what = first.words
    if sense is not None:
        what = f"{first.words}, which is {sense[first.z < 0]}"
    return Finding(
        "operator",
        f"the residual of the draws has the pattern of another operator, by {abs(first.z):.0f} "
        f"standard errors; suspect {what}" + ("" if s.known.exact else other),
    )


def _beyond_the_prior(s: Scene, scores: list[Score]) -> list[Score]:
    """Those that stand out from the misfit of a learned prior."""
    if not s.known.faithful or s.ratio > MISFIT_OF_NOISE:
        return []
    # that misfit looks like noise, and that of its range like clipping
    scores = [one for one in scores if one.kind in _OF_OPERATORS]
    imprecise = s.evidence.coarseness < IMPRECISE
    if imprecise and scores and scores[0].kind != "boundary":
        return []
    limits = {"boundary": CLEAR_BOUNDARY}
    return [one for one in scores if abs(one.z) > limits.get(one.kind, CLEAR_LEARNED)]


def _seen(s: Scene) -> Finding | None:
    """Noise in pixels that is not that which is stated."""
    seen = s.seen_noise
    if seen is None:
        return None
    if seen.more:
        return Finding(
            "noise",
            f"the measurement has more noise than stated, {s.noise(seen.factor)} or more in place "
            f"of {s.noise(1.0)}, and the draws keep it; suspect --sigma: try --sigma auto, or a "
            "prior that knows such pictures",
        )
    if seen.less and s.known.sigma_stated:
        return Finding(
            "noise",
            f"the measurement has clearly less noise than stated, which is {s.noise(1.0)}; suspect "
            "--sigma (too large a value blurs the restoration): try --sigma auto",
        )
    return None


def _quiet(s: Scene) -> Finding | None:
    """Less noise than stated."""
    e = s.evidence
    if not s.known.sigma_stated:
        return None
    if e.details + 3 * e.details_error < QUIET_DETAILS:
        factor = e.details
    elif s.known.several and s.known.faithful and s.ratio < QUIET and e.correlation > FOLLOWS:
        factor = math.sqrt(s.ratio)
    else:
        return None
    return Finding(
        "noise",
        f"the measurement has less noise than stated, about {s.noise(factor)} in place of "
        f"{s.noise(1.0)}; suspect --sigma (too large a value blurs the restoration)",
    )


def _misfit(s: Scene) -> Finding | None:
    """A residual that is too large."""
    e = s.evidence
    white = e.correlation < WHITE and e.kurtosis < GAUSSIAN
    unreachable = e.unreachable > UNREACHABLE + 4 * math.sqrt(2 / s.entries)
    # a loose fit can look white too, of coefficients or of small pictures
    held = s.known.several and s.known.faithful
    quiet_draws = held and s.scatter < 1 and s.ratio - s.scatter > WHITE_MISFIT - 1
    limit = ROUNDED_MISFIT if s.problem.operator.quantises else MISFIT
    large = (s.ratio > limit and math.sqrt(s.ratio) * e.coarseness > COARSE) or (
        white and quiet_draws and s.ratio > WHITE_MISFIT
    )
    if not (large or unreachable):
        return None
    diverged = _median(s.values.excess) > EXCESS or s.scatter > SCATTER
    if white and not (diverged and s.ratio > MISFIT and not unreachable):
        # draws follow noise that is too small, but not where A reaches nothing
        factor = math.sqrt(max(s.ratio, e.stretch) if e.stretch > 0 else s.ratio)
        noise = s.noise(factor)
        other = s.settings if math.isnan(e.details) else "a prior that knows no such pictures"
        return Finding(
            "noise", s.misfit + f"suspect --sigma, as the residual looks like {noise}, or {other}"
        )
    if unreachable or not diverged:
        return Finding("operator", s.misfit + f"suspect {s.settings}")
    return Finding(
        "solver",
        s.misfit + "suspect the solver, whose draws diverge (try more --steps or another --solver),"
        f" or {s.settings}",
    )


_ESTIMATED = (
    (GaussianBlur, "gaussian"),
    (DiskBlur, "disk"),
    (MotionBlur, "motion"),
    (Blur, "kernel"),
)  # options of the command that estimate a kernel


def _narrow(s: Scene) -> Finding | None:
    """A kernel that is narrower than the spectrum of y shows."""
    width = s.seen_width
    if width is None or not width.wider:
        return None
    option = next(name for kind, name in _ESTIMATED if isinstance(s.problem.operator, kind))
    return Finding(
        "operator",
        f"the measurement has less fine detail than photographs keep under the stated kernel, as "
        f"if that were {width.factor:.1f} times as wide; suspect {s.settings}: try "
        f"--{option} auto, unless the picture itself is that soft",
    )


def _median(numbers: tuple[float, ...]) -> float:
    finite = sorted(n for n in numbers if math.isfinite(n))
    return finite[len(finite) // 2] if finite else math.inf


_INPUTS: tuple[Callable[[Scene], Finding | None], ...] = (
    _outside, _faint, _holes, _grid, _ceiling, _quiet, _seen, _scored, _misfit, _halved, _narrow,
)  # fmt: skip


def _draws(s: Scene, inputs: Finding | None) -> list[Finding]:
    """Draws that cannot be used."""
    v, found = s.values, []
    if v.lost:
        found.append(Finding("solver", f"{_named(v.lost)} values that are not finite; leave them "
                             "out, or try more --steps or another --solver"))  # fmt: skip
    diverged = tuple(i for i, e in enumerate(v.excess) if e > EXCESS and i not in v.far)
    if diverged and not inputs:
        worst = max(v.excess[i] for i in diverged)
        found.append(
            Finding(
                "solver",
                f"{_named(diverged)} values far outside of [-1, 1] (by {worst:.2g} on average): "
                "the solver diverged; try more --steps or another --solver",
            )
        )
    if v.far:
        times = max(v.distances[i] for i in v.far)
        found.append(
            Finding(
                "outlier",
                f"{_named(v.far, 'lies', 'lie')} {times:.2g} times as far from the others as these "
                "from each other: failed, or another solution; look at it, and if it is worse draw "
                "again with another --seed or more --steps",
            )
        )
    return found


def _named(draws: tuple[int, ...], one: str = "has", more: str = "have") -> str:
    numbers = ", ".join(str(i + 1) for i in draws)
    return f"draw {numbers} {one}" if len(draws) == 1 else f"draws {numbers} {more}"
