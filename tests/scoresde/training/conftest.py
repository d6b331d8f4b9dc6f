"""A small run, and what tests of training ask of it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from scoresde.data.datasets import ImageFolder
from scoresde.files import read_tensors
from scoresde.networks import UNetConfig
from scoresde.training import TrainConfig

__all__ = ["CONFIG", "FEW_LAYERS", "assert_same_state", "scalars", "state_of"]

CONFIG = TrainConfig(
    steps=8,
    batch=4,
    crops=(8, 16),
    warmup=2,
    ema=0.9,
    precision="no",
    network=UNetConfig(channels=1, patch=2, widths=(8, 16), blocks=1, attention=(1,), embedding=16),
)

FEW_LAYERS = dataclasses.replace(
    CONFIG,
    network=dataclasses.replace(CONFIG.network, widths=(8,), attention=()),
)
"""For a compiler, whose work grows with the layers and not with the pixels."""


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Forget accelerate's device and precision, which it keeps for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def data(tmp_path: Path) -> ImageFolder:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 24), dtype=np.uint8)).save(
            tmp_path / "images" / f"{i}.png"
        )
    return ImageFolder(tmp_path / "images", channels=1)


def state_of(folder: Path) -> tuple[dict[str, Tensor], int]:
    tensors, header = read_tensors(folder / "state.safetensors")
    return tensors, header["step"]


def scalars(folder: Path, name: str) -> list:
    """The (step, value) events of one curve in the TensorBoard log of a run."""
    (events,) = (folder / "log").rglob("events.out.tfevents.*")
    return EventAccumulator(str(events.parent)).Reload().Scalars(name)


def assert_same_state(left: Path, right: Path) -> None:
    """Weights, their average and the optimizer's state agree bit by bit."""
    (a, step_a), (b, step_b) = state_of(left), state_of(right)
    assert step_a == step_b and a.keys() == b.keys()
    assert {key.split(".")[0] for key in a} == {"network", "average", "optimizer"}
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different
