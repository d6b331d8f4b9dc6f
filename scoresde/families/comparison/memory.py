"""Memory of a training step.

It is counted over the live tensors, so it is the same on every machine.
"""

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scoresde.data.datasets import Dataset
from scoresde.families.base import GenerativeModel
from scoresde.families.training import train_model
from scoresde.training.config import LoopConfig

__all__ = ["peak_of_tensors", "training_memory"]


class _Living(TorchDispatchMode):
    """Count the bytes of live storages that operators made under this mode, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {
            t.untyped_storage()._cdata
            for t in tree_leaves((args, kwargs or {}))
            if isinstance(t, Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in inputs | self._known:
                    self._enter(storage)
        return out

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._leave, key, size)

    def _leave(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Peak:
    bytes: int = 0


@contextmanager
def peak_of_tensors() -> Iterator[_Peak]:
    """Measure the peak memory of the tensors that are made within the block.

    Scratch memory of kernels and tensors made before the block are not counted.

    Yields:
        An object whose attribute ``bytes`` is set to the peak when the block ends.
    """
    found = _Peak()
    with _Living() as living:
        yield found
    found.bytes = living.peak


def training_memory(model: GenerativeModel, data: Dataset, config: LoopConfig) -> int:
    """Measure the peak memory of training, by two steps of it.

    It covers the model, its average, gradients, moments of the optimiser, and what a step keeps for
    the backward pass or a checkpoint, whichever is larger.

    Args:
        model: Model to train.
        data: Samples of the model's shape.
        config: Settings of the training.

    Returns:
        Bytes.
    """
    # as training does, so that no tensor is copied and counted twice
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    own = sum(t.untyped_storage().nbytes() for t in model.state_dict().values())
    with tempfile.TemporaryDirectory() as folder, peak_of_tensors() as found:
        train_model(model, data, Path(folder), replace(config, steps=2, warmup=1))
    return own + found.bytes
