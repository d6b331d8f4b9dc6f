"""The training loop: accelerate for devices and precision, an average of the weights, checkpoints that resume exactly."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
from scoresde.files import check_writable, read_tensors, write_tensors
from scoresde.networks import UNet
from scoresde.priors.checkpoint import save_prior
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from scoresde.training.config import TrainConfig
from scoresde.training.objective import denoising_score_matching
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

__all__ = ["train"]

_STATE_FORMAT = "scoresde.training/1"


class _Objective(nn.Module):
    """The loss as a module, so that accelerate can distribute it and choose its precision."""

    def __init__(self, prior: ScorePrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x_0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        return denoising_score_matching(self.prior, x_0, sigma, noise)


def _build(config: TrainConfig) -> ScorePrior:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = UNet(config.network)
    shape = (config.network.channels, config.crops[0], config.crops[0])
    autocast = torch.bfloat16 if config.precision == "bf16" else None
    sde = EDMSDE(config.noise.sigma_min, config.noise.sigma_max)
    return ScorePrior(network, sde, shape, config.sigma_data, autocast, fourier=config.fourier)


def _start_from(prior: ScorePrior, init: ScorePrior) -> None:
    try:
        prior.network.load_state_dict(init.network.state_dict())
    except RuntimeError:
        raise InputError(
            "the prior to start from has another network; train with the same channels, widths and blocks"
        ) from None


def _batch(
    data: Dataset, config: TrainConfig, step: int, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    generator = step_generator(config.seed, step, rank)
    crop = config.crops[int(torch.randint(len(config.crops), (), generator=generator))]
    n = max(1, round(config.batch * (config.crops[0] / crop) ** 2))
    x_0 = data.batch(n, crop, generator)
    return x_0, config.noise.draw(n, generator), torch.randn(x_0.shape, generator=generator)


def _save_state(
    path: Path,
    step: int,
    config: TrainConfig,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v.clone() for k, v in average.state_dict().items()}
    tensors |= optimizer_tensors(optimizer, "optimizer.")
    write_tensors(
        path, tensors, {"format": _STATE_FORMAT, "step": step, "config": config.to_dict()}
    )


def _load_state(
    path: Path,
    config: TrainConfig,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    tensors, header = read_tensors(path)
    if header.get("format") != _STATE_FORMAT:
        raise InputError(f"{path} is not a training state")
    saved = TrainConfig.from_dict(header["config"])
    if saved != config:
        new, old = config.to_dict(), saved.to_dict()
        changed = ", ".join(f"{k} was {old[k]}, now {new[k]}" for k in new if new[k] != old[k])
        raise InputError(
            f"{path} was made with other settings ({changed}); resume with the same ones or choose another --out"
        )

    network.load_state_dict(part(tensors, "network."))
    average.load_state_dict(part(tensors, "average."))
    restore_optimizer(optimizer, part(tensors, "optimizer."))
    return int(header["step"])


@contextmanager
def _compiler_error() -> Iterator[None]:
    """One clear line instead of a compiler's many."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

        if not isinstance(error, TorchDynamoException):
            raise
        reason = next(
            (
                line
                for line in str(error).splitlines()
                if line.strip() and not line.strip().endswith(":")
            ),
            type(error).__name__,
        )
        raise InputError(
            f"torch.compile failed, so train without --compile ({reason.strip()})"
        ) from error


def train(
    data: Dataset,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    init: ScorePrior | None = None,
    resume: bool = False,
    cpu: bool = False,
    compiled: bool = False,
    save_every: int = 1000,
    log_every: int = 50,
    progress: bool = False,
    stop_after: int | None = None,
) -> ScorePrior:
    """Train a :class:`ScorePrior` by denoising score matching and return it with its averaged weights.

    Writes ``out/state.safetensors`` (all that a resume needs), ``out/prior.safetensors`` (the averaged prior) and a TensorBoard
    log under ``out/log``. ``init``: a prior with the same network, whose weights to start from. Ctrl-C saves before it ends.
    ``compiled`` by ``torch.compile``, which needs a compiler (C++ on a CPU): up to a minute of preparation for each size of crop, then
    faster steps, the same but for rounding.
    ``stop_after`` ends the run early as an interruption would.
    Launch with ``accelerate launch`` to use several processes; each draws ``config.batch`` images a step.
    """
    from accelerate import (
        Accelerator,
    )  # slow to import, and not needed by those who only read configurations

    config = config or TrainConfig()
    out = check_writable(out)
    state_path, prior_path = out / "state.safetensors", out / "prior.safetensors"
    if resume and not state_path.exists():
        raise InputError(f"nothing to resume: there is no {state_path}")
    if state_path.exists() and not resume:
        raise InputError(
            f"{state_path} exists; pass --resume to go on with it or choose another --out"
        )

    # the prior casts by itself: accelerate's choice of precision holds for the whole process
    accelerator = Accelerator(
        mixed_precision="no", cpu=cpu, log_with="tensorboard", project_dir=str(out)
    )
    accelerator.init_trackers("log")
    prior = _build(config).to(device=accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if init is not None and not resume:
        _start_from(prior, init)
    average = AveragedModel(prior.network, multi_avg_fn=ema_update(config.ema))
    optimizer = torch.optim.AdamW(
        prior.network.parameters(),
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
        fused=True,
    )
    first = _load_state(state_path, config, prior.network, average, optimizer) if resume else 0
    objective, optimizer = accelerator.prepare(_Objective(prior), optimizer)
    if compiled:
        objective.compile()

    def averaged() -> ScorePrior:
        network = UNet(config.network).to(accelerator.device)
        network.load_state_dict(average.module.state_dict())
        card = {"training": config.to_dict()}
        return ScorePrior(
            network, prior.sde, prior.shape, config.sigma_data, card=card, fourier=config.fourier
        )

    def save(step: int) -> None:
        if accelerator.is_main_process:
            _save_state(state_path, step, config, prior.network, average, optimizer)
            save_prior(averaged(), prior_path)

    def check_finite(what: str, value: Tensor, step: int, rate: float) -> None:
        if not torch.isfinite(value):
            rest = f"; {state_path} holds the last good state" if state_path.exists() else ""
            raise TrainingError(
                f"the {what} is {value.item()} at step {step}: lower --learning-rate (now {rate:.2g}){rest}"
            )

    bar = Progress(
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(), TimeRemainingColumn(), disable=not (progress and accelerator.is_main_process),
    )  # fmt: skip
    last = config.steps if stop_after is None else min(config.steps, stop_after)
    step, smoothed, logged = first, math.nan, time.perf_counter()
    with bar, interrupt_between_steps() as interrupted:
        task = bar.add_task("training", total=config.steps, completed=first, loss=math.nan)
        while step < last:
            rate = learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = _batch(data, config, step, accelerator.process_index)
            x_0, sigma, noise = (v.to(accelerator.device) for v in batch)
            with _compiler_error():
                loss = objective(x_0, sigma, noise).mean()
                check_finite("loss", loss, step, rate)
                accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(prior.network.parameters(), config.clip)
            check_finite("norm of the gradient", norm, step, rate)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update_parameters(prior.network)
            step += 1
            value = float(accelerator.reduce(loss.detach(), "mean"))
            smoothed = value if math.isnan(smoothed) else 0.99 * smoothed + 0.01 * value
            bar.update(task, completed=step, loss=smoothed)
            if step % log_every == 0:
                speed, logged = log_every / (time.perf_counter() - logged), time.perf_counter()
                accelerator.log(
                    {
                        "loss": value,
                        "loss/smoothed": smoothed,
                        "gradient norm": float(norm),
                        "learning rate": rate,
                        "steps per second": speed,
                    },
                    step,
                )
            if step % save_every == 0:
                save(step)
            if interrupted:
                save(step)
                raise KeyboardInterrupt
    save(step)
    accelerator.end_training()
    return averaged().eval().requires_grad_(False)
