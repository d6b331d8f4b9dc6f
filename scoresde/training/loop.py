"""The training loop of every model: priors, and the families beside them.

Accelerate handles devices and processes. Players learn in turn, their weights are averaged, and an
interrupted run resumes exactly: the random numbers of step k depend on (seed, k) alone. Several
processes share the batch of a step (:mod:`scoresde.training.share`), so that a run may go on with
another number of them.

No step waits for a GPU. Losses and gradients are looked at on the device, and once in many steps
the result is read. From the first value that is not finite, nothing moves any more; a state is
only written after such a check.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Row
from rich.text import Text
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.files import check_writable, read_tensors, remove_leftovers, write_tensors
from scoresde.networks.axes import channels_last
from scoresde.training.averages import ExponentialAverage, PowerAverages
from scoresde.training.batches import Batches
from scoresde.training.checks import check_number, check_whole
from scoresde.training.compiling import CompilerError, clear_compiler_error, compilation_pays
from scoresde.training.config import LoopConfig
from scoresde.training.logs import clear_write_error, quiet_log_thread
from scoresde.training.processes import Processes, new_accelerator
from scoresde.training.settings import changed_settings, flattened
from scoresde.training.share import check_batch
from scoresde.training.steps import (
    TrainingError,
    fastest_convolutions,
    interrupt_between_steps,
    learning_rate,
    optimizer_tensors,
    part,
    restore_optimizer,
    split_batch,
    step_generator,
)
from scoresde.training.task import Cost, Task
from scoresde.training.watch import FiniteWatch

__all__ = ["run_training"]

_FORMAT = "scoresde.training/2"
_SEEN = ("loss", "norm of the gradient")
Result = TypeVar("Result")


class _Objective(nn.Module):
    """The losses of a task as a module, so that accelerate can distribute it."""

    def __init__(self, task: Task[Any]) -> None:
        super().__init__()
        self.model, self._task = task.model, task

    def forward(self, player: str, *batch: Any) -> Tensor:
        return self._task.loss(player, *batch)


class _Run:
    """A task, an optimizer for each player, and the averages of the weights."""

    def __init__(
        self, task: Task[Any], config: LoopConfig, out: Path, *, cpu: bool, log: bool
    ) -> None:
        self.accelerator = new_accelerator(cpu=cpu, log=out if log else None)
        self.processes = Processes(self.accelerator)
        self.device: torch.device = self.accelerator.device
        self.task, self.config, self.cost = task, config, Cost()
        self.path, self._logs = out / "state.safetensors", log
        channels_last(task.model.to(device=self.device))
        self.processes.copy_from_first(task.model)
        with self.processes.together():
            task.use_device(self.device)
        self.average = ExponentialAverage(task.model, config.ema)
        self.powers = None if config.snapshot_every is None else PowerAverages(task.model)
        self.fused = task.fused or self.device.type != "cpu"
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.AdamW(
                player.parameters(),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                betas=config.betas,
                fused=self.fused or None,
            )
            for name, player in task.players().items()
        }
        self.unwrapped = dict(self.optimizers)
        self.watch, self.losses = FiniteWatch(self.device), list[Tensor]()
        self.may_fall_back = False

    def start(self, resume: bool | None) -> None:
        """Check the folder, read the state if there is one, and open the log."""
        with self.processes.together():
            check_batch(self.config.batch, self.task.batch_sizes(), self.processes.share.processes)
            if self.processes.first:
                check_writable(self.path.parent)
            exists = self.path.exists()
            if resume and not exists:
                raise InputError(f"nothing to resume: there is no {self.path}")
            if exists and resume is False:
                raise InputError(f"{self.path} exists; resume it or choose another folder")
            if exists:
                self.load()
            if self.processes.first:
                for name in (self.path.name, self.task.result_name):
                    remove_leftovers(self.path.with_name(name))
        steps = self.processes.gathered(self.cost.step)
        if len(set(steps)) > 1:
            error = InputError(
                f"the processes do not see the same {self.path}: they would go on from the steps "
                f"{steps}; use a folder that all machines share"
            )
            self.processes.fail(error)
        if self._logs:
            with self.processes.together(), clear_write_error(self.path.with_name("log")):
                self.accelerator.init_trackers("log")

    def log(self, entry: dict[str, float], step: int) -> None:
        """Write an entry of the log."""
        with self.processes.together(), clear_write_error(self.path.with_name("log")):
            self.accelerator.log(entry, step)

    def distribute(self, compiled: bool | None) -> None:
        """Hand model and optimizers to accelerate, after a state was loaded."""
        if self.processes.several and self.cost.step == 0:
            self.task.prepare(step_generator(self.config.seed, 0))
        prepared = self.accelerator.prepare(_Objective(self.task), *self.optimizers.values())
        self.objective = prepared[0]
        self.optimizers = dict(zip(self.optimizers, prepared[1:], strict=True))
        self.may_fall_back = compiled is None
        if compiled is None:
            compiled = compilation_pays(self.device, self.config.steps - self.cost.step)
        if compiled:
            self.objective.compile()

    def draw(self, step: int) -> tuple[Any, ...]:
        """This process's part of the batch of a step, after the weight of its loss.

        The random numbers depend on the step alone.
        """
        weight, batch = self.task.part(step_generator(self.config.seed, step), self.processes.share)
        return weight, *batch

    def step(self, batch: tuple[Any, ...]) -> None:
        """Move every player once, without a look at the numbers."""
        step, players = self.cost.step, self.task.players()
        rate, losses = learning_rate(self.config, step), []
        for index, (name, player) in enumerate(players.items()):
            parameters, optimizer = list(player.parameters()), self.optimizers[name]
            for group in optimizer.param_groups:
                group["lr"] = rate
            # of several players each learns by its own loss alone
            loss = self._backward(name, batch, parameters, alone=len(players) > 1)
            loss = self.processes.mean(loss)
            norm = self.accelerator.clip_grad_norm_(parameters, self.config.clip)
            code = len(_SEEN) * (step * len(players) + index)
            for kind, value in enumerate((loss, norm)):
                self.watch.look(value, code + kind)
            if self.fused:  # one kernel, which can be told on the device not to move
                self.unwrapped[name].found_inf = self.watch.failed  # type: ignore[attr-defined]
                optimizer.step()
            elif not self.watch.failed:  # on a CPU there is nothing to wait for
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.float())
        self.task.after_step()
        moving = 1 - self.watch.failed
        self.average.update_parameters(self.task.model, moving)
        if self.powers is not None:
            self.powers.update(self.task.model, step + 1, moving)
        self.cost.step += 1
        self.losses.append(torch.stack(losses))
        self.norm, self.rate = norm, rate

    def _backward(
        self, name: str, batch: tuple[Any, ...], parameters: list[nn.Parameter], *, alone: bool
    ) -> Tensor:
        """Add the gradient of a player's loss, and return the loss."""
        try:
            with clear_compiler_error():
                return self._accumulate(name, batch, parameters, alone=alone)
        except CompilerError as error:
            if not self.may_fall_back:
                raise
            if self.processes.first:
                print(f"scoresde: {error}; training goes on without it", file=sys.stderr)
            self.objective._compiled_call_impl = None
            for parameter in parameters:
                parameter.grad = None
            return self._accumulate(name, batch, parameters, alone=alone)

    def _accumulate(
        self, name: str, batch: tuple[Any, ...], parameters: list[nn.Parameter], *, alone: bool
    ) -> Tensor:
        weight, *rest = batch
        parts = split_batch(tuple(rest), self.config.accumulate)
        losses = []
        for number, (share, some) in enumerate(parts, 1):
            # processes exchange gradients once, after the last part; DDP waits for those of all
            # parameters, which is not what a player alone has
            exchange = number == len(parts) and not alone
            with nullcontext() if exchange else self.accelerator.no_sync(self.objective):
                loss = self.objective(name, *some)
                if (factor := weight * share) != 1:
                    loss = factor * loss
                self.accelerator.backward(loss, **({"inputs": parameters} if alone else {}))
            losses.append(loss.detach())
        if alone:
            self.processes.average_gradients(parameters)
        return losses[0] if len(parts) == 1 else torch.stack(losses).sum()

    def check(self) -> list[dict[str, float]]:
        """Read the losses since the last check, after making sure that all numbers were finite."""
        failure, names = self.watch.failure(), list(self.task.players())
        if failure is not None:
            code, value = failure
            code, kind = divmod(code, len(_SEEN))
            step, index = divmod(code, len(names))
            rest = f"; {self.path} holds the last good state" if self.path.exists() else ""
            error = TrainingError(
                f"the {_SEEN[kind]} of the {names[index]} is {value} at step {step}: "
                "lower the learning rate (--learning-rate, now "
                f"{learning_rate(self.config, step):.2g}){rest}"
            )
            self.processes.fail(error)
        if not self.losses:
            return []
        losses = torch.stack(self.losses).tolist()
        self.losses.clear()
        return [dict(zip(names, values, strict=True)) for values in losses]

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
        with self.processes.together():
            if self.processes.first:
                self._save()

    def _save(self) -> None:
        prefix = self.task.prefix
        tensors = {f"{prefix}.{k}": v for k, v in self.task.model.state_dict().items()}
        tensors |= {f"average.{k}": v.clone() for k, v in self.average.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer.{name}.")
        header = {"format": _FORMAT, "settings": self.settings(), **vars(self.cost)}
        if self.powers is not None:
            tensors |= {f"powers.{k}": v for k, v in self.powers.tensors().items()}
            header["powers_since"] = self.powers.since
        write_tensors(self.path, tensors, header)
        self.task.save(self.result(), self.path.with_name(self.task.result_name))

    def close(self) -> None:
        """Close the log. The processes stay connected: another training may follow."""
        with self.processes.together(), clear_write_error(self.path.with_name("log")):
            for tracker in self.accelerator.trackers:
                tracker.finish()

    def snapshot(self) -> None:
        """Write the power-function averages."""
        with self.processes.together():
            if self.powers is not None and self.processes.first:
                folder = self.path.with_name("averages")
                with clear_write_error(folder):
                    self.powers.save(folder, self.cost.step, self.task.model, self.settings())

    def load(self) -> None:
        tensors, header = read_tensors(self.path)
        if header.get("format") != _FORMAT:
            raise InputError(f"{self.path} is not a training state; choose another folder")
        try:
            self._load(tensors, header)
        except InputError:
            raise
        # a state that lacks something, or has it in another form
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self.path} is a damaged training state ({reason[:200]}); copy it again or "
                "choose another folder"
            ) from None

    def _load(self, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        old, step = header["settings"], int(header["step"])
        free = ("steps", "cooldown") if self._same_rates_so_far(old, step) else ()
        if changed := changed_settings(old, self.settings(), free):
            raise InputError(
                f"{self.path} was made with other settings ({', '.join(changed)}); resume with the "
                "same ones or choose another folder"
            )
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise ValueError(f"{name} is not finite")
        self.task.model.load_state_dict(part(tensors, f"{self.task.prefix}."))
        self.average.load_state_dict(part(tensors, "average."))
        for name, optimizer in self.optimizers.items():
            restore_optimizer(optimizer, part(tensors, f"optimizer.{name}."))
        self.cost = Cost(step, float(header["seconds"]), float(header["cpu_seconds"]))
        if self.powers is not None:
            powers = part(tensors, "powers.")
            # begun now, if the run had none so far
            self.powers = PowerAverages(self.task.model, step)
            if powers:
                self.powers.load(powers, int(header["powers_since"]))

    def _same_rates_so_far(self, old: dict[str, Any], steps: int) -> bool:
        """Whether a run of another length had the same learning rates until now."""
        loop = {k.removeprefix("loop."): v for k, v in flattened(old).items()}
        before = replace(self.config, steps=loop["steps"], cooldown=loop.get("cooldown", 1.0))
        return all(learning_rate(before, k) == learning_rate(self.config, k) for k in range(steps))

    def settings(self) -> dict[str, Any]:
        """The settings of the task, as JSON has them."""
        return json.loads(json.dumps(self.task.settings()))


def run_training(
    task: Task[Result],
    config: LoopConfig,
    out: str | Path,
    *,
    resume: bool | None = False,
    cpu: bool = False,
    compiled: bool | None = False,
    save_every: int = 1000,
    log_every: int | None = None,
    check_every: int | None = None,
    prefetch: int | None = None,
    progress: bool = False,
    stop_after: int | None = None,
    minutes: float | None = None,
) -> Result:
    """Train the model of a task and return the averaged one.

    Writes `state.safetensors` (all that a resume needs) and the trained model into `out`. An
    interrupted run that is resumed ends as if it had not been interrupted. Ctrl-C saves first.

    Args:
        task: What is trained, on what data, by which loss.
        config: Settings of the loop.
        out: Folder of the run, made if need be.
        resume: Continue the interrupted run in `out`; None to do so if there is one.
        cpu: Train on the CPU even where there is a GPU.
        compiled: Compile the objective first; None to do so where it pays, and to go on without if
            it fails.
        save_every: Steps between checkpoints.
        log_every: Steps between entries of the TensorBoard log under `out/log`; None for no log.
        check_every: Steps between looks at losses and gradients, each of which waits for the
            device; None for 1 on a CPU, where it costs nothing, and 20 elsewhere.
        prefetch: Batches that a thread prepares ahead; None for none on a CPU, which is busy, and 4
            elsewhere.
        progress: Show a progress bar on standard error.
        stop_after: End at this step, as an interruption would.
        minutes: End after this time, as an interruption would.

    Returns:
        The trained model, frozen and in evaluation mode.

    Raises:
        InputError: If there is nothing to resume, or a state is in the way, damaged, or of other
            settings.
        ValueError: If a number of steps or the time is out of its range.
        TrainingError: If a loss or a gradient is not finite.
    """
    for setting, number, least in (
        ("save_every", save_every, 1),
        ("log_every", log_every, 1),
        ("check_every", check_every, 1),
        ("prefetch", prefetch, 0),
        ("stop_after", stop_after, 1),
    ):
        if number is not None:
            check_whole(setting, number, least)
    if minutes is not None:
        check_number("minutes", minutes, above=0)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    run = _Run(task, config, Path(out), cpu=cpu, log=log_every is not None)
    with quiet_log_thread():
        run.start(resume)
        run.distribute(compiled)
    on_cpu = run.device.type == "cpu"
    check_every = check_every or (1 if on_cpu else 20)
    ahead = prefetch if prefetch is not None else 0 if on_cpu else 4
    last = config.steps if stop_after is None else min(config.steps, stop_after)
    smoothed: dict[str, float] = {}
    logged, logged_at = time.perf_counter(), run.cost.step
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        _TimeLeft(deadline),
        console=Console(stderr=True),
        redirect_stdout=sys.stdout.isatty(),
        disable=not (progress and run.processes.first),
    )
    batches = Batches(run.draw, run.device, last, ahead)
    stop = 0
    with (
        bar,
        interrupt_between_steps() as interrupted,
        batches,
        fastest_convolutions(),
        quiet_log_thread(),
    ):
        shown = bar.add_task("training", total=config.steps, completed=run.cost.step, loss="")
        while run.cost.step < last and not stop:
            with run.timed(), run.processes.met(run.cost.step, run.path):
                run.step(batches.get(run.cost.step))
            step = run.cost.step
            logs = log_every is not None and step % log_every == 0
            saves = step % save_every == 0
            snaps = step == config.steps or (
                config.snapshot_every is not None and step % config.snapshot_every == 0
            )
            # a signal, whose numbers begin at 2, or the end of the time
            wish = interrupted[0] if interrupted else int(time.monotonic() > deadline)
            # several processes stop at the same check
            early = wish and not run.processes.several
            if not (early or logs or saves or snaps or step % check_every == 0 or step == last):
                continue
            with run.timed(), run.processes.met(step, run.path):
                losses = run.check()
                stop = max(run.processes.gathered(wish))
            for name, value in ((name, v) for one in losses for name, v in one.items()):
                old = smoothed.get(name, math.nan)
                smoothed[name] = value if math.isnan(old) else 0.99 * old + 0.01 * value
            bar.update(shown, completed=step, loss=_format(smoothed))
            if logs:
                speed = (step - logged_at) / (time.perf_counter() - logged)
                logged, logged_at = time.perf_counter(), step
                run.log(_log_entry(losses[-1], smoothed, run, speed), step)
            if snaps:
                run.snapshot()
            if saves:
                run.save()
            if stop >= signal.SIGINT:
                run.save()
                raise KeyboardInterrupt(*(interrupted or [stop]))
    # the other processes may read what the first one writes: they wait for it
    run.save()
    run.close()
    return run.result()


class _TimeLeft(TimeRemainingColumn):
    """Time left until all steps are done, or until a deadline if that comes first."""

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline

    def render(self, task: Row) -> Text:
        by_steps = task.time_remaining
        left = self.deadline - time.monotonic()
        if task.finished or math.isinf(left) or (by_steps is not None and by_steps <= left):
            return super().render(task)
        minutes, seconds = divmod(max(0, int(left)), 60)
        hours, minutes = divmod(minutes, 60)
        return Text(f"{hours:d}:{minutes:02d}:{seconds:02d}", style="progress.remaining")


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
