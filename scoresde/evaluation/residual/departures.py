r"""Ways in which a measurement may differ from what is stated, each as a direction of A x.

A departure is a family of measurements :math:`A_\theta` with the stated one at
:math:`\theta = 0`: a kernel that is wider by a share :math:`\theta`, another boundary, highlights
that are clipped, a picture that is shifted by :math:`\theta` pixels. Its direction is
:math:`h(x) = \partial A_\theta x / \partial\theta` at 0. ``scores`` tests whether the draws want to
go along it.

Where the operator has a parameter (a width, a length, an angle), h is a central difference of the
operator. The others need only A x:

- shift along an axis: minus the derivative of A x along it,
- highlights: :math:`-(A x - c)_+`, with c the level that a tenth of y exceeds,
- the boundary b: :math:`A_b x - A x`, where the other boundary lies at :math:`\theta = 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from problems import (
    Blur,
    Clipping,
    DiskBlur,
    GaussianBlur,
    MotionBlur,
    Operator,
)
from problems.operators.compose import Composition, NonlinearComposition, NonlinearStack, Stack
from problems.operators.convolution import BOUNDARIES, Convolution
from scoresde.evaluation.residual.windows import Windows

__all__ = ["Departure", "clips", "departures"]

_STEP = 0.02  # of a width; differences of kernels are smooth well above rounding
_DEGREES = 2.0
_BRIGHTEST = 0.1  # share of y above the level of the highlights


@dataclass(frozen=True)
class Departure:
    """A family of measurements through the stated one.

    Args:
        kind: "width", "angle", "boundary", "shift" or "highlights".
        words: What differs, for a message.
        least: Size of theta from which on it matters; theta of boundaries and highlights cannot be
            negative.
        direction: From pictures (n, C, H, W) and predictions A x (n, ...) to h, (n, ...).
    """

    kind: str
    words: str
    least: float
    direction: Callable[[Tensor, Tensor], Tensor]


def departures(
    operator: Operator, y: Tensor, seen: Tensor, part: Windows | None = None
) -> list[Departure]:
    """List the departures that can be tested for an operator.

    Args:
        operator: The stated operator.
        y: Measurement (1, ...).
        seen: Observed entries, bool, shape of y.
        part: Windows of y that are looked at; None for all.

    Returns:
        The departures; [] for operators that round.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur
        >>> y = torch.randn(1, 1, 32, 32)
        >>> [one.kind for one in departures(GaussianBlur(1.0), y, torch.ones_like(y) == 1)]
        ['width', 'boundary', 'boundary', 'boundary', 'highlights', 'shift', 'shift']
    """
    if operator.quantises:
        return []
    found = [
        Departure(one.kind, one.words, one.least, _difference(operator, one))
        for one in _variants(operator)
        if _same_shape(operator, one, tuple(y.shape[1:]))
    ]
    if not clips(operator):
        part = part or Windows()
        found += _clipped(part(y)[part(seen)])
    return found + _shifts(operator, y)


# ---- parameters of the operator


@dataclass(frozen=True)
class _Variant:
    """The operator on either side of the stated one; low is None for the stated one itself."""

    kind: str
    words: str
    least: float
    high: Operator
    low: Operator | None
    step: float  # from low to high


def _variants(operator: Operator) -> Iterator[_Variant]:
    if isinstance(operator, Composition | NonlinearComposition):
        for one in _variants(operator.inner):
            low = None if one.low is None else operator.outer @ one.low
            yield replace(one, high=operator.outer @ one.high, low=low)
        for one in _variants(operator.outer):
            low = None if one.low is None else one.low @ operator.inner
            yield replace(one, high=one.high @ operator.inner, low=low)
    if isinstance(operator, GaussianBlur):
        yield _scaled(operator, "std", "the width of the kernel")
    if isinstance(operator, DiskBlur):
        yield _scaled(operator, "radius", "the radius of the kernel")
    if isinstance(operator, MotionBlur):
        if operator.length * (1 - _STEP) >= 1:
            yield _scaled(operator, "length", "the length of the kernel")
        turned = [replace(operator, angle=operator.angle + a) for a in (_DEGREES, -_DEGREES)]
        yield _Variant("angle", "the angle of the kernel", 3.0, turned[0], turned[1],
                       2 * _DEGREES)  # fmt: skip
    if isinstance(operator, Blur | GaussianBlur | DiskBlur | MotionBlur):
        yield from _boundaries(operator)


def _scaled(operator: Operator, name: str, words: str) -> _Variant:
    value = getattr(operator, name)
    high, low = (replace(operator, **{name: value * (1 + s)}) for s in (_STEP, -_STEP))  # type: ignore[type-var]
    return _Variant("width", words, 0.05, high, low, 2 * _STEP)


def _boundaries(operator: Convolution) -> Iterator[_Variant]:
    if operator.boundary == "valid":
        return
    for other in BOUNDARIES:
        if other not in (operator.boundary, "valid"):
            high = replace(operator, boundary=other)  # type: ignore[type-var]
            yield _Variant("boundary", f"the boundary ({other})", 0.1, high, None, 1.0)


def _same_shape(operator: Operator, one: _Variant, shape: tuple[int, ...]) -> bool:
    """Whether the variants give measurements of this shape; with "valid" longer kernels do not."""
    size = operator.input_shape(shape)
    return all(
        tuple(op.output_shape(size)) == shape for op in (one.high, one.low) if op is not None
    )


def _difference(operator: Operator, one: _Variant) -> Callable[[Tensor, Tensor], Tensor]:
    def direction(x: Tensor, prediction: Tensor) -> Tensor:
        low = prediction if one.low is None else one.low.apply(x)
        return (one.high.apply(x) - low) / one.step

    return direction


# ---- from the prediction alone


def clips(operator: Operator) -> bool:
    """Tell whether an operator clips.

    Args:
        operator: Operator; of a composition or a stack all parts count.

    Returns:
        Whether a part of it is Clipping.
    """
    parts = [getattr(operator, name) for name in ("outer", "inner") if hasattr(operator, name)]
    parts += getattr(operator, "operators", ())
    return isinstance(operator, Clipping) or any(clips(part) for part in parts)


def _clipped(values: Tensor) -> list[Departure]:
    few = max(1, int(_BRIGHTEST * len(values)))
    level = float(values.kthvalue(len(values) - few + 1).values)
    return [
        Departure("highlights", "clipped highlights", 0.0,
                  lambda x, prediction: -(prediction - level).clamp_min(0))
    ]  # fmt: skip


def _shifts(operator: Operator, y: Tensor) -> list[Departure]:
    """Shifts of y, or of each part of a stack."""
    if isinstance(operator, Stack | NonlinearStack):
        return [
            Departure("shift", f"measurement {i + 1} of {len(operator.operators)} {words}",
                      0.1, _part(operator, i, axis))
            for i, one in enumerate(operator.operators)
            if len(one.output_shape(operator.shape)) == 3
            for axis, words in _AXES
        ]  # fmt: skip
    if y.ndim != 4:
        return []
    return [
        Departure("shift", f"the measurement {words}", 0.1, _whole(axis)) for axis, words in _AXES
    ]


_AXES = ((-2, "shifted down"), (-1, "shifted to the right"))


def _slope(prediction: Tensor, axis: int) -> Tensor:
    """Minus the central difference, zero at the frame."""
    size = prediction.shape[axis]
    if size < 3:
        return torch.zeros_like(prediction)
    inner = (prediction.narrow(axis, 0, size - 2) - prediction.narrow(axis, 2, size - 2)) / 2
    pad = (1, 1) if axis == -1 else (0, 0, 1, 1)
    return torch.nn.functional.pad(inner, pad)


def _whole(axis: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, prediction: _slope(prediction, axis)


def _part(
    operator: Stack | NonlinearStack, number: int, axis: int
) -> Callable[[Tensor, Tensor], Tensor]:
    def direction(x: Tensor, prediction: Tensor) -> Tensor:
        parts = [torch.zeros_like(part) for part in operator.parts(prediction)]
        parts[number] = _slope(operator.parts(prediction)[number], axis)
        return torch.cat([part.flatten(1) for part in parts], 1)

    return direction
