"""One training loop for all families: players in turn, an average of the weights, checkpoints that resume exactly."""

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from scoresde.data.datasets import Dataset
from scoresde.errors import InputError
from scoresde.families.base import GenerativeModel
from scoresde.families.store import save_model
from scoresde.files import check_writable, read_tensors, write_tensors
from scoresde.training.steps import (
    TrainingError,
    ema_update,
    interrupt_between_steps,
    learning_rate,
    optimizer_tensors,
    part,
    restore_optimizer,
    step_generator,
)

__all__ = ["FitConfig", "fit"]

_STATE_FORMAT = "scoresde.fit/1"


@dataclass(frozen=True)
class FitConfig:
    """steps: of all players, batch samples each. learning_rate: peak after ``warmup`` steps, then a cosine to zero. ema: decay of the
    average of the weights, 0 for none. clip: norm of a gradient. betas: of AdamW. precision: "bf16" or "no"."""

    steps: int = 5000
    batch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if min(self.steps, self.batch) < 1:
            raise ValueError(
                f"steps and batch must be at least 1, got {self.steps} and {self.batch}"
            )
        if not (self.learning_rate > 0 and self.clip > 0 and 0 <= self.ema < 1):
            raise ValueError("learning_rate and clip must be positive and ema in [0, 1)")
        if self.precision not in ("bf16", "no"):
            raise ValueError(f"precision must be 'bf16' or 'no', got {self.precision!r}")


class _Run:
    """A model, its average, an optimizer for each player; all of it as tensors."""

    def __init__(self, model: GenerativeModel, config: FitConfig) -> None:
        self.model, self.config, self.seconds, self.cpu_seconds = model, config, 0.0, 0.0
        self.average = AveragedModel(model, multi_avg_fn=ema_update(config.ema), use_buffers=False)
        self.optimizers = {
            name: torch.optim.AdamW(
                player.parameters(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                betas=config.betas,
            )
            for name, player in model.players().items()
        }

    def step(self, x: Tensor, generator: torch.Generator, step: int) -> dict[str, float]:
        """One move of every player; their losses. TrainingError where one is not finite."""
        rate, losses = learning_rate(self.config, step), {}
        for name, player in self.model.players().items():
            parameters, optimizer = list(player.parameters()), self.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(
                x.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
            ):
                loss = self.model.player_loss(name, x, generator)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            norm = nn.utils.clip_grad_norm_(parameters, self.config.clip)
            for what, value in (("loss", loss), ("norm of the gradient", norm)):
                if not torch.isfinite(value):
                    raise TrainingError(
                        f"the {what} of the {name} is {float(value.detach())} at step {step}: lower the learning rate ({rate:.2g})"
                    )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses[name] = float(loss.detach())
        self.model.after_step()
        self.average.update_parameters(self.model)
        return losses

    def averaged(self, step: int) -> GenerativeModel:
        """The averaged model; its card says what the training was and what it cost, from the first step on."""
        model = copy.deepcopy(self.model)
        average = dict(self.average.module.named_parameters())
        model.load_state_dict(
            {name: average.get(name, value) for name, value in self.model.state_dict().items()}
        )
        model.card = {
            "training": asdict(self.config),
            "step": step,
            "samples": step * self.config.batch,
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
        }
        return model.eval().requires_grad_(False)

    def save(self, path: Path, step: int) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v.clone() for k, v in self.average.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer.{name}.")
        cost = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        write_tensors(
            path, tensors, {"format": _STATE_FORMAT, "step": step, **cost, **self._settings()}
        )

    def load(self, path: Path) -> int:
        tensors, header = read_tensors(path)
        if header.get("format") != _STATE_FORMAT:
            raise InputError(f"{path} is not a training state of a baseline")
        made, now = {k: header.get(k) for k in self._settings()}, self._settings()
        if made != now:
            raise InputError(
                f"{path} was made with other settings ({made}, now {now}); resume with the same ones or choose another folder"
            )
        self.model.load_state_dict(part(tensors, "model."))
        self.average.load_state_dict(part(tensors, "average."))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, part(tensors, f"optimizer.{name}."))
        self.seconds, self.cpu_seconds = float(header["seconds"]), float(header["cpu_seconds"])
        return int(header["step"])

    @contextmanager
    def timed(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu

    def _settings(self) -> dict[str, Any]:
        """As JSON has them."""
        settings = {
            "kind": type(self.model).__name__,
            "model": asdict(self.model.config),
            "fit": asdict(self.config),
        }
        return json.loads(json.dumps(settings))


def fit(
    model: GenerativeModel,
    data: Dataset,
    out: str | Path,
    config: FitConfig | None = None,
    *,
    resume: bool = False,
    save_every: int = 1000,
    progress: bool = False,
    stop_after: int | None = None,
) -> GenerativeModel:
    """Train ``model`` in place and return it with its averaged weights, frozen.

    Writes ``out/state.safetensors`` (all that a resume needs) and ``out/model.safetensors`` (the averaged model). An interrupted run that
    is resumed ends as if it had not been. ``stop_after`` ends it early as an interruption would.
    """
    config, out = config or FitConfig(), check_writable(Path(out))
    state_path = out / "state.safetensors"
    if resume != state_path.exists():
        what = (
            f"nothing to resume: there is no {state_path}"
            if resume
            else f"{state_path} exists; resume it or choose another folder"
        )
        raise InputError(what)
    run = _Run(model.train().to(memory_format=torch.channels_last), config)  # type: ignore[call-overload]
    step = run.load(state_path) if resume else 0
    last = config.steps if stop_after is None else min(config.steps, stop_after)

    def save() -> None:
        run.save(state_path, step)
        save_model(run.averaged(step), out / "model.safetensors")

    columns = (
        TextColumn("fitting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    with (
        Progress(*columns, TimeRemainingColumn(), disable=not progress) as bar,
        interrupt_between_steps() as interrupted,
    ):
        task, smoothed = (
            bar.add_task("fitting", total=config.steps, completed=step, loss=""),
            dict[str, float](),
        )
        while step < last:
            with run.timed():
                generator = step_generator(config.seed, step, 0)
                x = data.batch(config.batch, model.shape[-1], generator).to(model.device)
                losses = run.step(x, generator, step)
            for name, value in losses.items():
                old = smoothed.get(name, math.nan)
                smoothed[name] = value if math.isnan(old) else 0.99 * old + 0.01 * value
            step += 1
            bar.update(
                task,
                completed=step,
                loss="  ".join(f"{name} {value:.4f}" for name, value in smoothed.items()),
            )
            if step % save_every == 0:
                save()
            if interrupted:
                save()
                raise KeyboardInterrupt
    save()
    return run.averaged(step)
