"""The way from noise to a draw: estimates of x_0 at some noise levels, kept for a reader.

A solver tells its :class:`~solvers.posterior.records.Run` the estimate of each step. They are kept
if a :class:`DenoisingPath` is open when the solver is called (:func:`recording_path`), for the
first draw of the first measurement, and cost nothing otherwise. They change no draw.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

__all__ = ["DenoisingPath", "Estimate", "Kind", "current_path", "recording_path"]

Kind = Literal["estimate", "draw"]
"""What a solver has at a noise level: its estimate of x_0 given the noisy state and y, or a draw.
"""


@dataclass(frozen=True)
class Estimate:
    """An estimate of x_0 on the way.

    Args:
        s: Noise-to-signal ratio of the noisy state that it is made of.
        x0: The estimate, a picture (C, H, W) on the CPU in float32, possibly reduced.
        kind: What it is given that state and the measurement.
    """

    s: float
    x0: Tensor
    kind: Kind


class DenoisingPath:
    """A few estimates of x_0 of one draw, about evenly spaced in log s.

    The first and the last one are always kept. Memory is bounded: when there is one too many, the
    one between the two closest neighbours is dropped.

    Args:
        most: Largest number of estimates, at least 3.
        side: Largest height and width of one in pixels; larger pictures are reduced, each pixel to
            the mean of a block.

    Example:
        >>> import torch
        >>> path = DenoisingPath(most=4)
        >>> for s in (16.0, 7.0, 6.0, 4.0, 1.0):
        ...     path.add(s, torch.full((1, 2, 2), s))
        >>> [one.s for one in path.estimates]
        [16.0, 7.0, 4.0, 1.0]
    """

    def __init__(self, most: int = 8, side: int = 256) -> None:
        if most < 3 or side < 1:
            raise ValueError(f"a path needs most >= 3 and side >= 1, got {most} and {side}")
        self.most, self.side = most, side
        self._kept: list[Estimate] = []

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The estimates, from the highest noise level to the lowest."""
        return tuple(self._kept)

    def reduced(self, x: Tensor) -> Tensor:
        """Bring a picture to the size of the estimates.

        Args:
            x: Picture (C, H, W).

        Returns:
            A picture with sides of at most ``side`` pixels, on the CPU, float32, of its own memory.
        """
        x = x.detach().float().cpu()
        factor = math.ceil(max(x.shape[-2:]) / self.side)
        return x.clone() if factor == 1 else F.avg_pool2d(x[None], factor, ceil_mode=True)[0]

    def add(self, s: float, x0: Tensor, kind: Kind = "estimate") -> None:
        """Add the estimate of a step. What is no picture (C, H, W) is left out.

        Args:
            s: Noise-to-signal ratio, positive. Estimates at this level or below, of a solver that
                returns to it, are dropped.
            x0: The estimate.
            kind: "estimate" or "draw".
        """
        if x0.ndim != 3:
            return
        while self._kept and self._kept[-1].s <= s:
            self._kept.pop()
        self._kept.append(Estimate(s, self.reduced(x0), kind))
        if len(self._kept) > self.most:
            levels = [math.log(one.s) for one in self._kept]
            gaps = [before - after for before, after in zip(levels, levels[2:], strict=False)]
            del self._kept[1 + gaps.index(min(gaps))]

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "DenoisingPath":
        """Change the pictures of the estimates.

        Args:
            function: Changes a picture (C, H, W).

        Returns:
            A path of the changed estimates.
        """
        path = DenoisingPath(self.most, self.side)
        for one in self.estimates:
            path.add(one.s, function(one.x0), one.kind)
        return path


_current: ContextVar[DenoisingPath | None] = ContextVar("path", default=None)


@contextmanager
def recording_path(path: DenoisingPath) -> Iterator[DenoisingPath]:
    """Record the estimates of the first draw of a solver that is called within the block.

    Args:
        path: Where they are kept; it should be empty.

    Yields:
        The path. It stays empty for solvers that do not tell their estimates: those that draw all
        together, and point estimators.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import SecondOrderAncestral
        >>> from solvers.posterior.path import DenoisingPath, recording_path
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> with recording_path(DenoisingPath()) as path:
        ...     posterior = SecondOrderAncestral(5).sample(prior, problem, torch.ones(1, 1, 2, 2))
        >>> torch.equal(path.estimates[-1].x0, posterior.draws[0, 0].float())
        True
        >>> [f"{one.s:.1f}" for one in path.estimates]
        ['80.0', '17.5', '2.5', '0.2', '0.0']
    """
    token = _current.set(path)
    try:
        yield path
    finally:
        _current.reset(token)


def current_path() -> DenoisingPath | None:
    """Find the path that is open.

    Returns:
        The path; None if none is.
    """
    return _current.get()
