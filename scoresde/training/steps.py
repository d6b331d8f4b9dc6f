"""Parts of a training step: random numbers, learning rate, averages, optimizer states as tensors.

Everything random in step k is drawn from a generator seeded by (seed, k). An interrupted run
therefore continues as if it had not been interrupted, and only tensors and the step number are
stored.
"""

import hashlib
import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = [
    "Schedule",
    "TrainingError",
    "ema_update",
    "ema_weight",
    "fastest_convolutions",
    "interrupt_between_steps",
    "learning_rate",
    "move_towards",
    "optimizer_tensors",
    "part",
    "restore_optimizer",
    "split_batch",
    "step_generator",
]


class Schedule(Protocol):
    """The settings that the learning rate depends on."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        ...

    @property
    def warmup(self) -> int:
        """Steps of linear warm-up."""
        ...

    @property
    def learning_rate(self) -> float:
        """Peak learning rate."""
        ...

    @property
    def cooldown(self) -> float:
        """Part of the steps, at the end, in which the rate falls to zero."""
        ...


class TrainingError(RuntimeError):
    """The run cannot continue; the message names the step and the reason."""


def step_generator(seed: int, step: int) -> torch.Generator:
    """Create the generator of one step, the same one for all processes.

    Args:
        seed: Seed of the run.
        step: Number of the step.

    Returns:
        A CPU generator, the same for the same arguments.
    """
    # the 0 was the number of the process in earlier versions, whose runs may go on
    digest = hashlib.sha256(f"{seed}/{step}/0".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Let cuDNN time its algorithms for every new shape and keep the fastest.

    Batches have few shapes, so that the choice pays after a few steps: on an H200 the compiled step
    of the recipe "natural-gpu" with 128 crops took 14 ms with it and 21 ms without.

    Yields:
        Nothing. Afterwards the choice is as it was before.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def learning_rate(config: Schedule, step: int) -> float:
    """Compute the learning rate: linear warm-up, then the peak, at last half a cosine to zero.

    A rate that is constant for long lets a run be prolonged while it goes (Hägele et al. 2024).

    Args:
        config: Peak, warm-up, cool-down and length of the run.
        step: Number of the step, from 0.

    Returns:
        The learning rate of this step.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    start = (1 - config.cooldown) * config.steps
    cooled = max(0.0, step - start) / max(1.0, config.steps - start)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * cooled))


def ema_weight(decay: float, count: int) -> float:
    """Compute the weight of new values in an exponential average.

    The memory is short at first: the decay of update k is at most (1 + k) / (10 + k).

    Args:
        decay: Decay in the long run, in [0, 1).
        count: Number k of the updates so far.

    Returns:
        One minus the decay of this update.

    Example:
        >>> ema_weight(0.999, 0), round(ema_weight(0.999, 10**6), 6)
        (0.9, 0.001)
    """
    return 1 - min(decay, (1 + count) / (10 + count))


def move_towards(average: Iterable[Tensor], value: Iterable[Tensor], weight: Tensor) -> None:
    """Update averages in place: average <- average + weight (value - average).

    Args:
        average: Averages.
        value: New values, in the same order.
        weight: Weight of the new values, a scalar on their device. It may depend on what was
            computed there, so that no step waits for the device.
    """
    weights = {weight.dtype: weight}
    for old, new in zip(average, value, strict=True):
        # the averages are parameters, some of them: no graph is to be kept
        target = old.detach()
        if target.dtype not in weights:
            weights[target.dtype] = weight.to(target.dtype)
        target.lerp_(new.detach(), weights[target.dtype])


def split_batch(batch: tuple[Any, ...], parts: int) -> list[tuple[float, tuple[Any, ...]]]:
    """Split the tensors of a batch along their first dimension.

    Args:
        batch: Arguments of a loss. Tensors have one row for each sample; what is no tensor goes
            with every part.
        parts: Number of parts. There are fewer if there are fewer samples.

    Returns:
        For each part, its share of the samples and its batch.

    Raises:
        ValueError: If the tensors have different numbers of rows.

    Example:
        >>> [share for share, _ in split_batch((torch.zeros(4, 2),), 2)]
        [0.5, 0.5]
    """
    rows = {len(v) for v in batch if isinstance(v, Tensor)}
    if parts == 1 or not rows:
        return [(1.0, batch)]
    if len(rows) > 1:
        raise ValueError(f"a batch with tensors of {sorted(rows)} rows cannot be split")
    (n,) = rows
    size = -(-n // parts)
    return [
        (
            len(range(start, min(n, start + size))) / n,
            tuple(v[start : start + size] if isinstance(v, Tensor) else v for v in batch),
        )
        for start in range(0, n, size)
    ]


def ema_update(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Create the update of an exponential average, with the weights of :func:`ema_weight`.

    Args:
        decay: Decay in the long run, in [0, 1).

    Returns:
        A function of the averages, the new values and the number of updates so far.
    """

    def update(average: list[Tensor], value: list[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(average, value, ema_weight(decay, int(count)))

    return update


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the tensors under a prefix.

    Args:
        tensors: Tensors by name.
        prefix: Start of the wanted names.

    Returns:
        The selected tensors, by their names without the prefix.
    """
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Collect moments and step counts of every parameter.

    Args:
        optimizer: Optimizer whose state is wanted.
        prefix: Start of the names.

    Returns:
        The state as tensors by name.
    """
    states = optimizer.state_dict()["state"].items()
    return {f"{prefix}{index}.{k}": v for index, state in states for k, v in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load what :func:`optimizer_tensors` gave.

    Args:
        optimizer: Optimizer of the same parameters.
        tensors: The state by name, without the prefix.

    Raises:
        ValueError: If the state does not fit the parameters.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, found in state.items():  # torch takes any names and shapes
        shapes = {name: tuple(value.shape) for name, value in found.items() if name != "step"}
        if (
            number >= len(parameters)
            or "step" not in found
            or shapes != dict.fromkeys(("exp_avg", "exp_avg_sq"), tuple(parameters[number].shape))
        ):
            raise ValueError(f"the optimizer's state of parameter {number} does not fit")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # the fused AdamW walks through memory: moments need the memory layout of their parameters
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter).copy_(value)


@contextmanager
def interrupt_between_steps() -> Iterator[list[int]]:
    """Defer SIGINT and SIGTERM to step boundaries, so that a step is done as a whole or not at all.

    A cluster sends SIGTERM some seconds before it ends a job. Only the main thread may handle
    signals; in other threads the list stays empty.

    Yields:
        A list that receives the number of each signal.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {
        one: signal.signal(one, lambda number, _frame: received.append(number))
        for one in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
