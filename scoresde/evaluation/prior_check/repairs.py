r"""The classic mistakes, each with the change of the denoiser that undoes it.

Someone who connects a network to this package can misunderstand it in a few known ways: the range
of its values, the units of its noise level, what it predicts, the index of its steps, the order of
its channels. Each of these errors is a known function of the denoiser, and each has an inverse
here: given the denoiser P of the prior as it is, a repair computes what the denoiser would be
without the error. With P(u, s) for u = x_0 + s n:

- range: :math:`(P(a u + b, a s) - b)/a`;
- units of the noise: :math:`P(u, c s)`;
- prediction: what the network has predicted follows from P and u under the assumed kind, and the
  denoiser follows from it under the right one (see outputs.py);
- step: the network is asked at the noise level of another step, with x_t as it is, and its
  prediction is used at the right level;
- channels: P, before and after them a permutation.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations

from torch import Tensor

from scoresde.evaluation.prior_check.outputs import OUTPUTS, Output
from scoresde.evaluation.prior_check.schedules import SCHEDULES, Schedule

__all__ = ["Question", "Repair", "repairs"]


@dataclass(frozen=True)
class Question:
    """What the denoiser is asked for a repair; repairs with the same question share the answer.

    Args:
        name: Name by which equal questions are known.
        asked: Computes the input of the denoiser and its noise level from u and s; None where
            there is no such level. The result for (u, s) itself is D, which is known.
    """

    name: str
    asked: Callable[[Tensor, float], tuple[Tensor, float] | None]


@dataclass(frozen=True)
class Repair:
    """One mistake and its inverse.

    Args:
        kind: "range", "sigma", "prediction", "step" or "channels".
        mistake: What was mistaken, in words.
        remedy: What to do, in words.
        question: What the denoiser is asked; None if D = P(u, s) is enough.
        repaired: Computes the denoised samples without the mistake from u (B, ...), s and the
            answer.
        finer: Repairs that are like this one, more exactly; None if this one is exact.
    """

    kind: str
    mistake: str
    remedy: str
    question: Question | None
    repaired: Callable[[Tensor, float, Tensor], Tensor]
    finer: Callable[[], list["Repair"]] | None = None


def repairs(shape: tuple[int, ...]) -> list[Repair]:
    """List the repairs that suit samples of a shape.

    Args:
        shape: Shape of one sample, channels first.

    Returns:
        The repairs, those that need no further evaluation of the network first.

    Example:
        >>> [one.kind for one in repairs((3, 8, 8))][:2]
        ['prediction', 'prediction']
    """
    colours = _channels() if len(shape) == 3 and shape[0] == 3 else iter(())
    return [*_predictions(), *_ranges(), *_units(), *colours, *_steps()]


def _predictions() -> Iterator[Repair]:
    for assumed, right in permutations(OUTPUTS.values(), 2):
        yield Repair(
            "prediction",
            f"the network predicts {right.name} and is read as {assumed.name}",
            f"state that it predicts {right.name}",
            None,
            _reread(assumed, right, 1),
        )
    for name in ("eps", "v", "velocity"):
        yield Repair(
            "prediction",
            f"the network predicts {name} with the other sign",
            f"change the sign of its output, or of the definition of {name}",
            None,
            _reread(OUTPUTS[name], OUTPUTS[name], -1),
        )


def _reread(assumed: Output, right: Output, sign: int) -> Callable[[Tensor, float, Tensor], Tensor]:
    return lambda u, s, D: right.denoised(u, sign * assumed.predicted(u, D, s), s)


_SCALES = ("[-1, 1]", 1.0, 0.0), ("[0, 1]", 0.5, 0.5), ("[0, 255]", 127.5, 127.5)
"""Ranges of pictures: value = scale x + offset for x on [-1, 1]."""


def _ranges() -> Iterator[Repair]:
    for (assumed, scale, offset), (right, wanted, shift) in permutations(_SCALES, 2):
        # u in the units of one range is a u + b in those of the other, as the network sees it
        a, b = wanted / scale, (shift - offset) / scale
        yield Repair(
            "range",
            f"the network takes values on {right} and is given values on {assumed}",
            f"state that its values are on {right}",
            *_mapped(a, b, a),
        )
        yield Repair(
            "range",
            f"the network takes values on {right} and is given values on {assumed}, with the noise "
            f"level of {right}",
            f"state that its values are on {right}; convert the values as the noise level",
            *_mapped(a, b, 1.0),
        )
    yield Repair(
        "range",
        "the network takes values on [-1/2, 1/2] and is given values on [-1, 1]",
        "state that its values are on [-1/2, 1/2]",
        *_mapped(0.5, 0.0, 0.5),
    )


def _mapped(
    a: float, b: float, c: float
) -> tuple[Question, Callable[[Tensor, float, Tensor], Tensor]]:
    question = Question(f"range {a} {b} {c}", lambda u, s: (a * u + b, c * s))
    return question, lambda u, s, answer: (answer - b) / a


_UNITS = (
    (2.0, "half as large as it should be, as that of [0, 1] for values on [-1, 1]"),
    (0.5, "twice as large as it should be, as that of [-1, 1] for values on [0, 1]"),
    (1 / 255, "255 times too large, as that of 8-bit values for values on [0, 1]"),
    (255.0, "255 times too small, as that of [0, 1] for 8-bit values"),
    (1 / 127.5, "127.5 times too large, as that of 8-bit values for values on [-1, 1]"),
    (127.5, "127.5 times too small, as that of [-1, 1] for 8-bit values"),
)


def _units() -> Iterator[Repair]:
    for c, words in _UNITS:
        factor = f"{c:g}" if c >= 1 else f"1/{1 / c:g}"
        yield Repair(
            "sigma",
            f"the noise level that the network is told is {words}",
            f"multiply the noise level that it is told by {factor}",
            Question(f"sigma {c}", partial(_scaled, c)),
            lambda u, s, answer: answer,
        )


def _scaled(c: float, u: Tensor, s: float) -> tuple[Tensor, float]:
    return u, c * s


def _channels() -> Iterator[Repair]:
    swapped = Question("channels", lambda u, s: (u.flip(1), s))
    places: tuple[tuple[str, Question | None, bool], ...] = (
        ("at its input and output", swapped, True),
        ("at its input alone", swapped, False),
        ("at its output alone", None, True),
    )
    for words, question, after in places:
        yield Repair(
            "channels",
            f"the channels are in the wrong order {words}: BGR for RGB",
            f"reverse the order of the channels {words}",
            question,
            (lambda u, s, answer: answer.flip(1)) if after else (lambda u, s, answer: answer),
        )


_SHIFTS = (1, -1, 4, -4, 16, -16, 64, -64, 256, -256)
"""Steps; one of them is within a factor of two of any shift, and finer ones are tried near it."""


def _steps() -> Iterator[Repair]:
    for shift in _SHIFTS:
        for schedule in SCHEDULES:
            yield from _shifted(schedule, shift, 1.0)
    for schedule in SCHEDULES:
        yield from _told(
            schedule,
            None,
            f"the network is told the 1000 steps of a {schedule.name} schedule in reverse",
            "replace the index i of the step by 999 - i",
        )


def _shifted(schedule: Schedule, shift: int, octaves: float) -> Iterator[Repair]:
    """The repairs of a shift that is known up to some octaves, and the finer ones."""
    size = "one step" if abs(shift) == 1 else f"{abs(shift)} steps"
    where, verb, to = ("late", "subtract", "from") if shift > 0 else ("early", "add", "to")
    # 13 values, or fewer where they are next to each other
    near = {round(shift * 2 ** (octaves * k / 6)) for k in range(-6, 7)}

    def finer() -> list[Repair]:
        narrower = 0.0 if _dense(near) else octaves / 12
        return [one for n in sorted(near, key=abs) for one in _shifted(schedule, n, narrower)]

    yield from _told(
        schedule,
        shift,
        f"the network is told a step that is {size} too {where} of the 1000 of a "
        f"{schedule.name} schedule",
        f"{verb} {abs(shift)} {to} the index of the step, or correct the schedule",
        finer if len(near) > 1 and octaves else None,
    )


def _dense(values: set[int]) -> bool:
    """Whether whole numbers follow each other."""
    return len(values) == max(values) - min(values) + 1


def _told(
    schedule: Schedule,
    shift: int | None,
    mistake: str,
    remedy: str,
    finer: Callable[[], list[Repair]] | None = None,
) -> Iterator[Repair]:
    """A repair for each kind of prediction; None for the reverse order."""

    def level(s: float) -> float | None:
        index = schedule.index(s)
        if index is None:
            return None
        return schedule.level(999 - index if shift is None else index - shift)

    def asked(u: Tensor, s: float) -> tuple[Tensor, float] | None:
        told = level(s)
        return None if told is None else (_same_input(u, s, told), told)

    question = Question(f"step {schedule.name} {shift}", asked)
    for name in ("eps", "x0", "v"):
        output = OUTPUTS[name]

        def repaired(u: Tensor, s: float, answer: Tensor, output: Output = output) -> Tensor:
            told = level(s)
            assert told is not None  # else there is no answer
            F = output.predicted(_same_input(u, s, told), answer, told)
            return output.denoised(u, F, s)

        yield Repair("step", mistake, remedy, question, repaired, finer)


def _same_input(u: Tensor, s: float, told: float) -> Tensor:
    """The u whose x_t = alpha u at the level ``told`` is that of u at s."""
    alpha = OUTPUTS["eps"].alpha
    return u * (alpha(s) / alpha(told))
