"""Which windows are done, so that an interrupted run goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from scoresde.errors import CannotWriteError

__all__ = ["Done", "Record"]


@dataclass(frozen=True)
class Done:
    """What is kept of a finished window, beside its pixels.

    Args:
        index: Number of the window.
        window: Rows and columns of its core.
        seconds: Time of its draws.
        nfe: Evaluations of the network for each draw.
        vjps: Products with its Jacobian for each draw.
        residual: Size of the residual over that of the noise; None where it is not known.
        mean_std: Mean standard deviation on [-1, 1].
        warnings: What the solver and the check of the residual warned of.
    """

    index: int
    window: str
    seconds: float
    nfe: float
    vjps: float
    residual: float | None
    mean_std: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """A file with a line for each finished window.

    Args:
        path: Its path.
        key: Hash of all that the windows depend on.
    """

    path: Path
    key: str

    def read(self) -> dict[int, Done] | None:
        """Read which windows are done.

        Returns:
            The windows by their number; None if the file is not there or of anything else.
        """
        try:
            lines = self.path.read_text().splitlines()
            if not lines or json.loads(lines[0]) != {"key": self.key}:
                return None
        except (OSError, ValueError):
            return None
        found = {}
        for line in lines[1:]:
            try:
                values = json.loads(line)
                one = Done(**values | {"warnings": tuple(values["warnings"])})
            except (ValueError, TypeError, KeyError):  # the line that was being written
                continue
            found[one.index] = one
        return found

    def begin(self) -> None:
        """Start a new file.

        Raises:
            CannotWriteError: If it cannot be written.
        """
        self._write("w", {"key": self.key})

    def add(self, one: Done) -> None:
        """Add a window, whose pixels are on the disk.

        Args:
            one: The window.

        Raises:
            CannotWriteError: If it cannot be written.
        """
        self._write("a", asdict(one))

    def _write(self, mode: str, content: dict[str, object]) -> None:
        line = json.dumps(content)
        try:
            with self.path.open(mode) as file:
                # a line that an interruption cut short must not swallow this one
                file.write(f"{line}\n" if mode == "w" else f"\n{line}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CannotWriteError(
                f"cannot write {self.path}: {error.strerror}; make room, or choose another folder"
            ) from None
