"""What one visitor may ask of the server."""

from dataclasses import dataclass

from scoresde.errors import InputError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds on the work that the page accepts.

    Args:
        pixels: Pixels of a picture, before and after the restoration.
        bytes: Size of an uploaded file.
        jobs: Pictures that are restored at the same time, each in a process of its own.
        waiting: Visitors that may wait in line beyond these.
        minutes: Time of one restoration, after which it ends with the draws that are finished.
        draws: Draws of one restoration.
        steps: Steps of a solver.

    Raises:
        InputError: If a bound is not positive.

    Example:
        >>> Limits(minutes=2.0).seconds
        120.0
    """

    pixels: int = 1_000_000
    bytes: int = 20_000_000
    jobs: int = 1
    waiting: int = 8
    minutes: float = 10.0
    draws: int = 32
    steps: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InputError(f"the limit on {name} must be above 0, got {value:g}")

    @property
    def seconds(self) -> float:
        """Time of one restoration."""
        return 60.0 * self.minutes
