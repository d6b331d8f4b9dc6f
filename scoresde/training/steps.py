"""What every training loop shares: the random numbers of a step, its learning rate, averages, optimizer states as tensors.

Everything random in step k is drawn from a generator seeded by (seed, k, rank). A run that was interrupted therefore goes on
as if it had not been, and nothing but tensors and the step number has to be stored.
"""

import hashlib
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = [
    "Schedule", "TrainingError", "ema_update", "interrupt_between_steps", "learning_rate", "optimizer_tensors", "part",
    "restore_optimizer", "step_generator",
]  # fmt: skip


class Schedule(Protocol):
    """What a learning rate asks of a configuration."""

    @property
    def steps(self) -> int: ...

    @property
    def warmup(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...


class TrainingError(RuntimeError):
    """The run cannot go on; the message says at which step and why."""


def step_generator(seed: int, step: int, rank: int) -> torch.Generator:
    """The randomness of one step of one process."""
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def learning_rate(config: Schedule, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def ema_update(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """For ``torch.optim.swa_utils.AveragedModel``: an exponential average with a short memory at first."""

    def update(average: list[Tensor], value: list[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(average, value, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Moments and counts of every parameter, by name."""
    states = optimizer.state_dict()["state"].items()
    return {f"{prefix}{index}.{k}": v for index, state in states for k, v in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """What :func:`optimizer_tensors` gave, without its prefix."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    for (
        parameter,
        moments,
    ) in (
        optimizer.state.items()
    ):  # the fused AdamW walks through memory: moments must lie there as parameters do
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


@contextmanager
def interrupt_between_steps() -> Iterator[list[int]]:
    """Ctrl-C fills the list instead of breaking off whatever is going on, so that a step is done as a whole or not at all."""
    received: list[int] = []
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # only the main thread may handle signals, and only it gets them
        yield received
        return
    previous = signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, previous)
