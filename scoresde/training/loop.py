"""The training loop of every model: priors, and the families beside them.

Accelerate handles devices and processes. Players learn in turn, their weights are averaged, and an
interrupted run resumes exactly: the random numbers of step k depend on (seed, k, rank) alone.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

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

from scoresde.errors import InputError
from scoresde.files import check_writable, read_tensors, write_tensors
from scoresde.training.config import LoopConfig
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
from scoresde.training.task import Cost, Task

__all__ = ["run_training"]

_FORMAT = "scoresde.training/2"
Result = TypeVar("Result")


class _Objective(nn.Module):
    """The losses of a task as a module, so that accelerate can distribute it."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model, self._task = task.model, task

    def forward(self, player: str, *batch: Any) -> Tensor:
        return self._task.loss(player, *batch)


class _Run:
    """A task, an optimizer for each player, and the average of the weights."""

    def __init__(
        self, task: Task[Any], config: LoopConfig, out: Path, *, cpu: bool, log: bool
    ) -> None:
        from accelerate import Accelerator  # slow to import; reading a configuration needs none

        logging: dict[str, Any] = (
            {"log_with": "tensorboard", "project_dir": str(out)} if log else {}
        )
        # tasks choose their own precision: accelerate's holds for the whole process
        self.accelerator = Accelerator(mixed_precision="no", cpu=cpu, **logging)
        if log:
            self.accelerator.init_trackers("log")
        self.task, self.config, self.cost = task, config, Cost()
        self.path = out / "state.safetensors"
        task.model.to(device=self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            task.model, multi_avg_fn=ema_update(config.ema), use_buffers=False
        )
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.AdamW(
                player.parameters(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                betas=config.betas,
                fused=task.fused or None,
            )
            for name, player in task.players().items()
        }

    def distribute(self, *, compiled: bool) -> None:
        """Hand model and optimizers to accelerate, after a state was loaded."""
        prepared = self.accelerator.prepare(_Objective(self.task), *self.optimizers.values())
        self.objective = prepared[0]
        self.optimizers = dict(zip(self.optimizers, prepared[1:], strict=True))
        if compiled:
            self.objective.compile()

    def step(self) -> dict[str, float]:
        """Move every player once; their losses, and the norm of the last gradient."""
        rate = learning_rate(self.config, self.cost.step)
        accelerator, several = self.accelerator, len(self.optimizers) > 1
        generator = step_generator(self.config.seed, self.cost.step, accelerator.process_index)
        batch = tuple(
            v.to(accelerator.device) if isinstance(v, Tensor) else v
            for v in self.task.batch(generator)
        )
        losses: dict[str, Tensor] = {}
        for name, player in self.task.players().items():
            parameters, optimizer = list(player.parameters()), self.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            with _compiler_error():
                loss = self.objective(name, *batch)
                self._check_finite("loss", name, loss, rate)
                # of several players each learns by its own loss alone
                accelerator.backward(loss, **({"inputs": parameters} if several else {}))
            norm = accelerator.clip_grad_norm_(parameters, self.config.clip)
            self._check_finite("norm of the gradient", name, norm, rate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses[name] = loss.detach()
        self.task.after_step()
        self.average.update_parameters(self.task.model)
        self.cost.step += 1
        self.norm, self.rate = norm, rate
        return {name: float(accelerator.reduce(v, "mean")) for name, v in losses.items()}

    def _check_finite(self, what: str, player: str, value: Tensor, rate: float) -> None:
        if bool(torch.isfinite(value)):
            return
        rest = f"; {self.path} holds the last good state" if self.path.exists() else ""
        raise TrainingError(
            f"the {what} of the {player} is {float(value.detach())} at step {self.cost.step}: "
            f"lower the learning rate (--learning-rate, now {rate:.2g}){rest}"
        )

    @contextmanager
    def timed(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.cost.seconds += time.perf_counter() - wall
        self.cost.cpu_seconds += time.process_time() - cpu

    def result(self) -> Any:
        return self.task.result(self.average.module, self.cost)

    def save(self) -> None:
        """Write the state, which holds all that a resume needs, and the trained model so far."""
        if not self.accelerator.is_main_process:
            return
        prefix = self.task.prefix
        tensors = {f"{prefix}.{k}": v for k, v in self.task.model.state_dict().items()}
        tensors |= {f"average.{k}": v.clone() for k, v in self.average.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer.{name}.")
        header = {"format": _FORMAT, "settings": self.settings(), **vars(self.cost)}
        write_tensors(self.path, tensors, header)
        self.task.save(self.result(), self.path.with_name(self.task.result_name))

    def load(self) -> None:
        tensors, header = read_tensors(self.path)
        if header.get("format") != _FORMAT:
            raise InputError(f"{self.path} is not a training state")
        old, new = header["settings"], self.settings()
        names = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        if set(names) <= {"steps", "cooldown"} and self._same_rates_so_far(old, header["step"]):
            names = []
        if names:
            changed = ", ".join(f"{k} was {old.get(k)}, now {new.get(k)}" for k in names)
            raise InputError(
                f"{self.path} was made with other settings ({changed}); resume with the same ones "
                "or choose another folder"
            )
        self.task.model.load_state_dict(part(tensors, f"{self.task.prefix}."))
        self.average.load_state_dict(part(tensors, "average."))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, part(tensors, f"optimizer.{name}."))
        self.cost = Cost(int(header["step"]), header["seconds"], header["cpu_seconds"])

    def _same_rates_so_far(self, old: dict[str, Any], steps: int) -> bool:
        """Whether a run of another length had the same learning rates until now."""
        before = replace(
            self.config, steps=old["steps"], cooldown=old.get("cooldown", self.config.cooldown)
        )
        return all(learning_rate(before, k) == learning_rate(self.config, k) for k in range(steps))

    def settings(self) -> dict[str, Any]:
        """The settings of the task, as JSON has them."""
        return json.loads(json.dumps(self.task.settings()))


@contextmanager
def _compiler_error() -> Iterator[None]:
    """One clear line instead of a compiler's many."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        lines = (line.strip() for line in str(error).splitlines())
        said = (line for line in lines if line and not line.endswith(":"))
        reason = next(said, type(error).__name__)
        raise InputError(f"torch.compile failed, so train without --compile ({reason})") from error


def run_training(
    task: Task[Result],
    config: LoopConfig,
    out: str | Path,
    *,
    resume: bool = False,
    cpu: bool = False,
    compiled: bool = False,
    save_every: int = 1000,
    log_every: int | None = None,
    progress: bool = False,
    stop_after: int | None = None,
) -> Result:
    """Train the model of a task and return the averaged one.

    Writes `state.safetensors` (all that a resume needs) and the trained model into `out`. An
    interrupted run that is resumed ends as if it had not been interrupted. Ctrl-C saves first.

    Args:
        task: What is trained, on what data, by which loss.
        config: Settings of the loop.
        out: Folder of the run, made if need be.
        resume: Continue the interrupted run in `out`.
        cpu: Train on the CPU even where there is a GPU.
        compiled: Compile the objective first.
        save_every: Steps between checkpoints.
        log_every: Steps between entries of the TensorBoard log under `out/log`; None for no log.
        progress: Show a progress bar on standard error.
        stop_after: End at this step, as an interruption would.

    Returns:
        The trained model, frozen and in evaluation mode.

    Raises:
        InputError: If there is nothing to resume, a state is in the way, or it has other settings.
        TrainingError: If a loss or a gradient is not finite.
    """
    out = check_writable(out)
    state = out / "state.safetensors"
    if resume and not state.exists():
        raise InputError(f"nothing to resume: there is no {state}")
    if state.exists() and not resume:
        raise InputError(f"{state} exists; resume it or choose another folder")
    run = _Run(task, config, out, cpu=cpu, log=log_every is not None)
    if resume:
        run.load()
    run.distribute(compiled=compiled)
    last = config.steps if stop_after is None else min(config.steps, stop_after)
    smoothed: dict[str, float] = {}
    logged = time.perf_counter()
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not (progress and run.accelerator.is_main_process),
    )
    with bar, interrupt_between_steps() as interrupted:
        shown = bar.add_task("training", total=config.steps, completed=run.cost.step, loss="")
        while run.cost.step < last:
            with run.timed():
                losses = run.step()
            for name, value in losses.items():
                old = smoothed.get(name, math.nan)
                smoothed[name] = value if math.isnan(old) else 0.99 * old + 0.01 * value
            bar.update(shown, completed=run.cost.step, loss=_format(smoothed))
            if log_every is not None and run.cost.step % log_every == 0:
                speed, logged = log_every / (time.perf_counter() - logged), time.perf_counter()
                run.accelerator.log(_log_entry(losses, smoothed, run, speed), run.cost.step)
            if run.cost.step % save_every == 0:
                run.save()
            if interrupted:
                run.save()
                raise KeyboardInterrupt
    run.save()
    run.accelerator.end_training()
    return run.result()


def _format(losses: dict[str, float]) -> str:
    if len(losses) == 1:
        return f"{next(iter(losses.values())):.4f}"
    return "  ".join(f"{name} {value:.4f}" for name, value in losses.items())


def _log_entry(
    losses: dict[str, float], smoothed: dict[str, float], run: _Run, speed: float
) -> dict[str, float]:
    one = len(losses) == 1
    entry = {"loss" if one else f"loss/{name}": value for name, value in losses.items()}
    entry |= {
        "loss/smoothed" if one else f"loss/{name}/smoothed": value
        for name, value in smoothed.items()
    }
    return entry | {
        "gradient norm": float(run.norm),
        "learning rate": run.rate,
        "steps per second": speed,
    }
