"""Training of a family's model by the loop of :mod:`scoresde.training.loop`."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.data.datasets import Dataset
from scoresde.families.base import GenerativeModel
from scoresde.families.store import save_model
from scoresde.training.config import LoopConfig
from scoresde.training.loop import run_training
from scoresde.training.share import Share
from scoresde.training.task import Cost, Task

__all__ = ["train_model"]


class _FamilyTask(Task[GenerativeModel]):
    """A model of any family, its players in turn."""

    def __init__(self, model: GenerativeModel, data: Dataset, config: LoopConfig) -> None:
        self.model: GenerativeModel = model
        self.data, self.config = data, config

    def players(self) -> dict[str, nn.Module]:
        return self.model.players()

    def batch(self, generator: torch.Generator) -> tuple[Any, ...]:
        x = self.data.batch(self.config.batch, self.model.shape[-1], generator)
        return x, generator  # the loss goes on with the numbers of this step

    def part(self, generator: torch.Generator, share: Share) -> tuple[float, tuple[Any, ...]]:
        weight, (x, _) = super().part(generator, share)
        if share.processes > 1:  # each goes on with numbers of its own
            seeds = torch.randint(2**62, (share.processes,), generator=generator)
            generator = torch.Generator().manual_seed(int(seeds[share.rank]))
        return weight, (x, generator)

    def prepare(self, generator: torch.Generator) -> None:
        device = next(self.model.parameters()).device
        self.model.prepare(self.batch(generator)[0].to(device))

    def loss(self, player: str, *batch: Any) -> Tensor:
        x, generator = batch
        bf16 = self.config.precision == "bf16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            return self.model.player_loss(player, x, generator)

    def after_step(self) -> None:
        self.model.after_step()

    def settings(self) -> dict[str, Any]:
        return {
            "kind": type(self.model).__name__,
            "model": asdict(self.model.config),
            "loop": self.config.to_dict(),
        }

    def result(self, average: nn.Module, cost: Cost) -> GenerativeModel:
        model, averaged = copy.deepcopy(self.model), dict(average.named_parameters())
        state = {name: averaged.get(name, v) for name, v in self.model.state_dict().items()}
        model.load_state_dict(state)
        model.card = {
            "training": self.config.to_dict(),
            "step": cost.step,
            "samples": cost.step * self.config.batch,
            "seconds": round(cost.seconds, 3),
            "cpu_seconds": round(cost.cpu_seconds, 3),
        }
        return model.eval().requires_grad_(False)

    def save(self, result: GenerativeModel, path: Path) -> None:
        save_model(result, path)


def train_model(
    model: GenerativeModel,
    data: Dataset,
    out: str | Path,
    config: LoopConfig | None = None,
    *,
    resume: bool = False,
    save_every: int = 1000,
    progress: bool = False,
    stop_after: int | None = None,
) -> GenerativeModel:
    """Train a model of any family in place.

    Writes `out/state.safetensors` (all that a resume needs) and `out/model.safetensors` (the model
    with averaged weights). An interrupted run that is resumed ends as if it had not been
    interrupted. Launched by `accelerate launch` or `torchrun`, several processes share the batch of
    a step. The numbers that a loss draws, such as latent vectors, are others for another number of
    processes.

    Args:
        model: Model to train, on the device where it is to be trained.
        data: Samples of the model's shape.
        out: Folder of the run.
        config: Settings of the loop.
        resume: Continue the interrupted run in `out`.
        save_every: Steps between checkpoints.
        progress: Show a progress bar on standard error.
        stop_after: End at this step, as an interruption would.

    Returns:
        A copy with averaged weights, frozen and in evaluation mode; its card has the settings and
        the cost of the training.

    Raises:
        InputError: If the folder or the settings do not fit the run.
        TrainingError: If a loss or a gradient is not finite.
    """
    config = config or LoopConfig()
    return run_training(
        _FamilyTask(model.train(), data, config),
        config,
        out,
        resume=resume,
        cpu=model.device.type == "cpu",
        save_every=save_every,
        progress=progress,
        stop_after=stop_after,
    )
