"""What the server and the process that restores a picture tell each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.ui.limits import Limits

__all__ = ["Arrived", "Estimated", "Event", "Finished", "Order", "Refused", "Searching", "Working"]


@dataclass(frozen=True)
class Order:
    """A restoration.

    Args:
        picture: File of the picture, in the folder.
        problem: How it was measured.
        options: How it is restored.
        simulate: Whether the picture is good and is damaged first.
        folder: Folder of the job, for its files.
        limits: What it may take.
    """

    picture: Path
    problem: ProblemOptions
    options: RestoreOptions
    simulate: bool
    folder: Path
    limits: Limits


@dataclass(frozen=True)
class Estimated:
    """The first answer, a point estimate.

    Args:
        estimate: File of the estimate.
        measurement: File of the picture as it is restored, damaged first if that was asked for.
        seconds: Time since the order.
    """

    estimate: Path
    measurement: Path
    seconds: float


@dataclass(frozen=True)
class Searching:
    """What is not known of the measurement is being estimated.

    Args:
        what: "blur", "noise", or "blur and noise".
    """

    what: str


@dataclass(frozen=True)
class Working:
    """A part of the draws is done.

    Args:
        fraction: From 0 to 1.
    """

    fraction: float


@dataclass(frozen=True)
class Arrived:
    """Draws are finished.

    Args:
        count: Draws so far.
        wanted: Draws that were asked for.
        mean: File of their mean.
        draw: File of the last draw.
        std: File of the map of their standard deviation; None for one draw.
    """

    count: int
    wanted: int
    mean: Path
    draw: Path
    std: Path | None


@dataclass(frozen=True)
class Finished:
    """All is done, or as much as was until the end came.

    Args:
        out: Folder of the results, as `scoresde restore` writes it.
        archive: All of them in a file, with the picture and the mask.
        report: Content of report.json.
        warnings: What to know before the result is used, a sentence each.
        command: The command that repeats it.
        python: The same as Python.
        ended: "all" for all draws, "stop" or "time" for an early end.
        seconds: Time since the order.
    """

    out: Path
    archive: Path
    report: dict[str, Any]
    warnings: tuple[str, ...]
    command: str
    python: str
    ended: str
    seconds: float


@dataclass(frozen=True)
class Refused:
    """There is no result.

    Args:
        reason: Why, in a sentence.
    """

    reason: str


Event = Estimated | Searching | Working | Arrived | Finished | Refused
"""What the process reports. The last event is Finished or Refused."""
