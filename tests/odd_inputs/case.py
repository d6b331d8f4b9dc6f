"""A case of an odd input: a command, what it must come to, and how that is checked by value."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["SIGMA", "Case", "Command", "Desk", "Expectation", "Outcome", "Recipe"]

Command = tuple[str, ...]
Expectation = Literal["right", "refused", "either", "clean", "partly"]
"""right: exit 0 and the right values. refused: one line, status 2. either: one of these two, but
never other values. clean: any of the two without a check of values, for damage without a truth.
partly: of a folder, the bad pictures are listed, status 3, and the others are right."""

SIGMA = "0.002"
"""Noise of the restorations: a quarter of a grey level, so that the mean must show the picture."""


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Args:
        status: Exit status; None if the command ended by an exception.
        stdout: Standard output.
        stderr: Standard error.
        exception: The exception that reached the user, in one line; empty if there was none.
        noise: Warnings and log records that a user would see beside the error lines.
    """

    status: int | None
    stdout: str
    stderr: str
    exception: str = ""
    noise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Desk:
    """What a recipe works with.

    Args:
        folder: Empty folder of the case.
        rng: Random numbers of the case.
        colour: Untrained prior for colour, whose denoiser is that of white noise of std 0.5.
        grey: The same for grey pictures.
    """

    folder: Path
    rng: np.random.Generator
    colour: Path
    grey: Path

    @property
    def out(self) -> Path:
        """Folder that the command writes into; it does not exist yet."""
        return self.folder / "out"

    def size(self) -> tuple[int, int]:
        """Height and width, never equal, so that a transposed picture shows."""
        height = int(self.rng.integers(12, 20))
        return height, height + int(self.rng.integers(1, 6))

    def pick(self, *choices: str) -> str:
        """One of these."""
        return choices[int(self.rng.integers(len(choices)))]

    def restore(
        self, image: Path, *options: object, problem: object = "denoise", grey: bool = False
    ) -> Command:
        """A restoration that gives the picture back within a grey level, and takes little time.

        With noise of SIGMA the posterior of the untrained prior is the measurement itself.
        """
        return tuple(
            map(
                str,
                (
                    *("restore", image, "--problem", problem, "--sigma", SIGMA),
                    *("--solver", "hqs", "--steps", 2, "--device", "cpu", "--out", self.out),
                    *("--prior", self.grey if grey else self.colour, *options),
                ),
            )
        )


@dataclass(frozen=True)
class Case:
    """A command and what it must come to.

    Args:
        command: Arguments of the command line.
        expect: What it must come to.
        names: A refusal must hold one of these words, such as the name of the file or the option;
            in any case of letters.
        check: Returns what is wrong with the values of a run that succeeded; None if nothing is.
        before: Commands that run first and must succeed.
        outputs: Files and folders that a refusal must not leave.
    """

    command: Command
    expect: Expectation
    names: tuple[str, ...] = ()
    check: Callable[[Outcome], str | None] = lambda outcome: None
    before: tuple[Command, ...] = ()
    outputs: tuple[Path, ...] = ()


Recipe = Callable[[Desk], Case]
"""Writes the files of a case into the folder of the desk."""
