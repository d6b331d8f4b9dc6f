"""The command and the Python that repeat a restoration."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scoresde.pipelines.plan import starts_for
from scoresde.pipelines.settings import (
    IntervalOptions,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
)

__all__ = ["RestoreCall"]

_WIDTH = 88
_ALWAYS = ("problem", "solver", "samples", "seed", "prior")
"""Options that are written even where they are the default, which may change."""


@dataclass(frozen=True)
class RestoreCall:
    r"""The arguments of :func:`scoresde.pipelines.restore.restore`.

    Args:
        image: File of the picture or measurement.
        problem: How it was measured.
        options: How it is restored.
        out: Folder of the results.
        simulate: Whether the picture is the truth and is measured first.
        interval: Level and calibration of the intervals.
        output: Which files are written.

    Example:
        >>> from pathlib import Path
        >>> options = RestoreOptions(sigma=0.1)
        >>> call = RestoreCall(Path("a photo.png"), ProblemOptions("denoise"), options, Path("out"))
        >>> print(call.command())
        scoresde restore 'a photo.png' --problem denoise --sigma 0.1 --solver warm-start \
            --samples 8 --seed 0 --prior natural --out out
    """

    image: Path
    problem: ProblemOptions
    options: RestoreOptions
    out: Path
    simulate: bool = False
    interval: IntervalOptions = field(default_factory=IntervalOptions)
    output: OutputOptions = field(default_factory=OutputOptions)

    def command(self) -> str:
        """Write the command, in the quoting of a POSIX shell.

        Returns:
            One command; long ones are continued on further lines.
        """
        words = list(self._words())
        lines = [shlex.join(words[0])]
        for word in map(shlex.join, words[1:]):
            if len(lines[-1]) + 1 + len(word) > _WIDTH:
                lines.append(f"    {word}")
            else:
                lines[-1] += f" {word}"
        return " \\\n".join(lines)

    def _words(self) -> Iterator[list[str]]:
        """The command in pieces that stay on one line."""
        image = str(self.image)
        yield ["scoresde", "restore", f"./{image}" if image.startswith("-") else image]
        yield from _given(self.problem)
        if self.simulate:
            yield ["--simulate"]
        yield from _given(self.options)
        if self.options.starts == 1 != starts_for(self.problem.problem, self.options.solver, None):
            yield _option("starts", 1)  # the problem has another default
        yield from _given(self.interval)
        yield from _given(self.output)
        yield _option("out", self.out)

    def python(self) -> str:
        """Write the same as Python.

        Returns:
            A program.
        """
        more = self.output != OutputOptions()
        settings = ["IntervalOptions", *["OutputOptions"] * more, "ProblemOptions"]
        lines = [
            "from pathlib import Path",
            "",
            "from scoresde.pipelines.restore import restore",
            f"from scoresde.pipelines.settings import {', '.join(settings)}, RestoreOptions",
            "",
            "result = restore(",
            f"    {_literal(self.image)},",
            f"    {_constructor(self.problem)},",
            f"    {_constructor(self.options)},",
            f"    {_literal(self.out)},",
            f"    simulate={self.simulate},",
            f"    interval={_constructor(self.interval)},",
            *[f"    output={_constructor(self.output)},"] * more,
            ")",
            "result.posterior.draws  # (n, 1, C, H, W) on [-1, 1]",
        ]
        return "\n".join(lines)


def _given(options: Any) -> Iterator[list[str]]:
    """The options that say something beyond their default."""
    for one in fields(options):
        value = getattr(options, one.name)
        if value == one.default and one.name not in _ALWAYS:
            continue
        if value is True:
            yield [_flag(one.name)]
        elif isinstance(value, tuple):
            for each in value:
                yield _option(one.name, each)
        else:
            yield _option(one.name, value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, value: Any) -> list[str]:
    text = repr(value) if isinstance(value, float) else str(value)
    # a value that begins with a minus would be read as an option
    return [f"{_flag(name)}={text}"] if text.startswith("-") else [_flag(name), text]


def _literal(value: Any) -> str:
    return f"Path({str(value)!r})" if isinstance(value, Path) else repr(value)


def _constructor(options: Any) -> str:
    given = [
        f"{one.name}={_literal(getattr(options, one.name))}"
        for one in fields(options)
        if getattr(options, one.name) != one.default or one.name in _ALWAYS
    ]
    return f"{type(options).__name__}({', '.join(given)})"
