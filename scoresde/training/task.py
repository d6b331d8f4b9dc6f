"""What the training loop trains: a model, the batch of a step, and a loss for each player."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from scoresde.training.share import Share

__all__ = ["Cost", "Task"]

Result = TypeVar("Result")


@dataclass
class Cost:
    """What a run has cost so far, over all its interruptions.

    Attributes:
        step: Steps taken.
        seconds: Wall time of the steps.
        cpu_seconds: Processor time of the steps.
    """

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Task(ABC, Generic[Result]):
    """A model to be trained by :func:`scoresde.training.loop.run_training`.

    Attributes:
        model: Everything that is learned and averaged.
        prefix: Name of the model in the state file.
        result_name: File name of the result in the run's folder.
        fused: Whether AdamW runs as one kernel on a CPU, as it always does on a GPU.
    """

    prefix: ClassVar[str] = "model"
    result_name: ClassVar[str] = "model.safetensors"
    fused: ClassVar[bool] = False
    model: nn.Module

    def players(self) -> dict[str, nn.Module]:
        """Name the modules that learn in turn in every step.

        Returns:
            One module under "model", except for adversarial games.
        """
        return {"model": self.model}

    def use_device(self, device: torch.device) -> None:
        """Prepare the data for the device of the training; nothing by default.

        Args:
            device: Device on which the model is.
        """

    @abstractmethod
    def batch(self, generator: torch.Generator) -> tuple[Any, ...]:
        """Draw the data of one step, possibly in another thread.

        Args:
            generator: Source of all random numbers of this step, the same in all processes.

        Returns:
            The arguments of :meth:`loss`, for all processes together; tensors are moved to the
            device by the loop.
        """

    def part(self, generator: torch.Generator, share: Share) -> tuple[float, tuple[Any, ...]]:
        """Draw the part of :meth:`batch` that is for one process; by default, rows of tensors.

        Args:
            generator: Source of all random numbers of this step, the same in all processes.
            share: The process.

        Returns:
            The weight of its loss, and the arguments of :meth:`loss`.
        """
        batch = self.batch(generator)
        rows = {len(v) for v in batch if isinstance(v, Tensor)}
        if share.processes == 1 or not rows:
            return 1.0, batch
        n = rows.pop()
        if rows:
            raise ValueError("a batch whose tensors have different numbers of rows is not shared")
        part = share.rows(n)
        return share.weight(n), tuple(v[part] if isinstance(v, Tensor) else v for v in batch)

    def prepare(self, generator: torch.Generator) -> None:
        """Set by the whole first batch what a model sets by data, if several processes train.

        Args:
            generator: Source of all random numbers of the first step.
        """

    def batch_sizes(self) -> tuple[int, ...]:
        """List the numbers of samples that a step may have.

        Returns:
            The numbers, where they are others than the batch of the settings.
        """
        return ()

    @abstractmethod
    def loss(self, player: str, *batch: Any) -> Tensor:
        """Compute what a player minimises.

        Args:
            player: A name of :meth:`players`.
            *batch: What :meth:`batch` gave.

        Returns:
            A scalar.
        """

    def after_step(self) -> None:
        """Do what is left once all players have moved."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Describe everything that decides the result.

        Returns:
            Plain values; a run resumes only with the same ones.
        """

    @abstractmethod
    def result(self, average: nn.Module, cost: Cost) -> Result:
        """Build the trained model.

        Args:
            average: The model with averaged weights.
            cost: What the training has cost.

        Returns:
            The model, frozen and in evaluation mode.
        """

    @abstractmethod
    def save(self, result: Result, path: Path) -> None:
        """Write the trained model.

        Args:
            result: What :meth:`result` gave.
            path: File to write.
        """
