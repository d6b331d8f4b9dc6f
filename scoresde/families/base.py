"""What every family of generative models answers: a density, draws, a loss to learn by, and the posterior of a measurement."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from problems import InverseProblem
from solvers.posterior.base import Posterior
from solvers.posterior.records import Draws, Request, silent

__all__ = ["DensityKind", "GenerativeModel", "LogProb"]

DensityKind = Literal["exact", "bound", "implicit"]


@dataclass(frozen=True)
class LogProb:
    """ln p(x), nats. kind: what the numbers are. discrete: of the 8-bit picture itself, else of x on [-1, 1].

    value: (B,). std_error: (B,), of what random numbers leave open, None where none were used.
    """

    value: Tensor
    kind: Literal["exact", "ELBO", "IWAE"]
    discrete: bool = False
    std_error: Tensor | None = None


class GenerativeModel(nn.Module, ABC):
    """A family's model of samples of one shape, images on [-1, 1].

    density: "exact" (``log_prob`` is the density), "bound" (below it) or "implicit" (there is none to be had).
    ``config`` is a frozen dataclass that builds the same network again: ``type(model)(model.config)``.
    """

    density: ClassVar[DensityKind]
    config: Any

    def __init__(self) -> None:
        super().__init__()
        self.card: dict[str, Any] = {}

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    @abstractmethod
    def nfe_per_sample(self) -> int:
        """Evaluations of the network for one sample."""

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A scalar to be minimised, for a batch x (B, *shape)."""

    def players(self) -> dict[str, nn.Module]:
        """The modules that learn in turn in every step, each by its own loss: one, but for a GAN."""
        return {"model": self}

    def player_loss(
        self, player: str, x: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """The scalar that this player minimises."""
        return self.loss(x, generator)

    def after_step(self) -> None:
        """Called once all players have moved."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws, (n, *shape)."""

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """ln p(x) of x (B, *shape), or a bound on it from k samples a point. ValueError where the family has none."""
        raise ValueError(
            f"{type(self).__name__} is an implicit model: it draws samples and has no density to evaluate"
        )

    def restore(
        self,
        problem: InverseProblem,
        y: Tensor,
        n: int = 1,
        *,
        generator: torch.Generator | None = None,
        progress: Callable[[float], None] | None = None,
        **settings: Any,
    ) -> Posterior:
        """n draws of p(x | y) for each measurement y (B, ...), by the family's own means; settings are those of these means.

        ValueError that names what is wrong with y, n or a setting.
        """
        start = time.perf_counter()
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        expected = tuple(problem.operator.output_shape(self.shape))
        if tuple(y.shape[1:]) != expected:
            raise ValueError(
                f"a sample {tuple(self.shape)} measures as {expected}, got measurements of shape {tuple(y.shape[1:])}"
            )
        y = problem.operator.mask_unobserved(y).to(next(self.parameters()))
        if not bool(torch.isfinite(y).all()):
            raise ValueError("the measurement has NaN or infinite entries; mask them out")
        draws = self._restore(
            Request(problem, y, n, generator, progress=progress or silent), **settings
        )
        return Posterior(
            draws.x, draws.nfe, draws.vjps, time.perf_counter() - start, draws.diagnostics
        )

    @abstractmethod
    def _restore(self, request: Request, **settings: Any) -> Draws:
        """y: checked, of the precision and on the device of the model, holes zeroed."""

    @property
    def continuous(self) -> bool:
        """Whether it learns a density on [-1, 1], for which grey levels are to be dequantised: (k + u)/128 - 1. Else k/127.5 - 1."""
        return False

    def as_pictures(self, x: Tensor) -> Tensor:
        """What 8 bits show of samples x: the grey level k of each entry, as k/127.5 - 1."""
        level = ((x + 1) * 128).floor() if self.continuous else ((x + 1) * 127.5).round()
        return level.clamp(0, 255) / 127.5 - 1

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def check(self, x: Tensor) -> None:
        """ValueError if x is not a batch of this model's samples."""
        if tuple(x.shape[1:]) != tuple(self.shape):
            raise ValueError(
                f"{type(self).__name__} is a model of samples {tuple(self.shape)}, got a batch of shape {tuple(x.shape)}"
            )
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the samples have NaN or infinite entries")
