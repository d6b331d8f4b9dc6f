"""Averages of the weights that a run follows, and their snapshots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from scoresde.files import write_tensors
from scoresde.training.posthoc import power_decay, power_exponent
from scoresde.training.steps import ema_weight, move_towards, part

__all__ = ["SNAPSHOT_FORMAT", "TRACKED", "ExponentialAverage", "PowerAverages", "stored_average"]

TRACKED = (0.05, 0.10)
"""Lengths sigma_rel of the power-function averages that a run follows."""

SNAPSHOT_FORMAT = "scoresde.average/1"


class ExponentialAverage(AveragedModel):
    """An exponential average of the weights, with a short memory at first (``ema_weight``).

    Args:
        model: Model whose parameters are averaged. Its buffers are copied.
        decay: Decay in the long run, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=False)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module, moving: Tensor | None = None) -> None:
        """Take the parameters of a model into the average; the first ones replace it.

        Args:
            model: The model.
            moving: 1, or 0 to leave the average as it is; a scalar on the device. None for 1.
        """
        count = int(self.n_averaged)  # on the CPU, wherever the model is
        parameters = list(model.parameters())
        if moving is None:
            moving = torch.ones((), device=parameters[0].device)
        weight = moving * (ema_weight(self.decay, count) if count else 1.0)
        move_towards(self.module.parameters(), parameters, weight)
        for copied, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            copied.copy_(buffer)
        self.n_averaged += 1


class PowerAverages:
    """The power-function averages of a model's parameters that a run follows.

    Args:
        model: Model whose parameters are averaged.
        since: Steps taken before. The parameters count as having been during them what they are
            now.
        lengths: Lengths sigma_rel of the averages.
    """

    def __init__(
        self, model: nn.Module, since: int = 0, lengths: Sequence[float] = TRACKED
    ) -> None:
        self.since, self.lengths = since, tuple(lengths)
        self._names = [name for name, _ in model.named_parameters()]
        self._averages = {
            length: [p.detach().clone() for p in model.parameters()] for length in lengths
        }

    def update(self, model: nn.Module, step: int, moving: Tensor) -> None:
        """Take the parameters after a step into the averages.

        Args:
            model: The model.
            step: Steps taken, this one included.
            moving: 1, or 0 to leave the averages as they are; a scalar on the device.
        """
        for length, average in self._averages.items():
            weight = 1 - power_decay(power_exponent(length), step)
            move_towards(average, model.parameters(), moving * weight)

    def tensors(self) -> dict[str, Tensor]:
        """Collect the averages.

        Returns:
            Tensors by the length and the name of the parameter, such as "0.05/stem.weight".
        """
        return {
            f"{length:g}/{name}": value
            for length, average in self._averages.items()
            for name, value in zip(self._names, average, strict=True)
        }

    def load(self, tensors: dict[str, Tensor], since: int) -> None:
        """Load what :meth:`tensors` gave.

        Args:
            tensors: Tensors by length and name.
            since: Step at which they were begun.
        """
        self.since = since
        for name, value in self.tensors().items():
            value.copy_(tensors[name])

    def save(self, folder: Path, step: int, model: nn.Module, settings: dict[str, Any]) -> None:
        """Write a snapshot, in half precision.

        Args:
            folder: Folder of the snapshots.
            step: Steps taken.
            model: The model, for its buffers.
            settings: Settings of the run.
        """
        folder.mkdir(exist_ok=True)
        tensors = {name: value.to(torch.float16) for name, value in self.tensors().items()}
        buffers = model.state_dict().keys() - set(self._names)
        tensors |= {f"buffers/{name}": model.state_dict()[name] for name in sorted(buffers)}
        header = {
            "format": SNAPSHOT_FORMAT,
            "step": step,
            "since": self.since,
            "lengths": list(self.lengths),
            "settings": settings,
        }
        write_tensors(folder / f"{step}.safetensors", tensors, header)


def stored_average(tensors: dict[str, Tensor], length: float) -> dict[str, Tensor]:
    """Select one average of a snapshot.

    Args:
        tensors: Tensors of the snapshot.
        length: Its length sigma_rel.

    Returns:
        Parameters by name.
    """
    return part(tensors, f"{length:g}/")
