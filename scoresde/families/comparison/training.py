"""Every family trained at the same cost: the same data, about as many parameters, the same time."""

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from scoresde.data.datasets import Dataset, ImageArray
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.clock import clock_for
from scoresde.families.comparison.families import FAMILIES, build
from scoresde.families.store import load_model
from scoresde.families.training import train_model
from scoresde.files import write_json
from scoresde.training.config import LoopConfig

__all__ = ["steps_within", "train_family"]


def steps_within(
    seconds: float,
    model: GenerativeModel,
    data: Dataset,
    config: LoopConfig,
    folder: Path,
    trial: int = 12,
) -> int:
    """How many steps of this training fit into that time, by a short ``trial`` in ``folder``.

    Time as :func:`clock_for` has it, so that other work on the machine does not shorten the training.
    """
    clock = clock_for(model.device)
    warm, timed = replace(config, steps=2, warmup=1), replace(config, steps=trial, warmup=1)
    train_model(model, data, folder / "warm", warm)
    start = clock()
    train_model(model, data, folder / "trial", timed)
    return max(1, math.floor(seconds * trial / (clock() - start)))


def train_family(
    name: str,
    path: Path,
    key: str,
    out: Path,
    minutes: float,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> GenerativeModel:
    """The trained model of a family for the pictures ``key`` of an array file; goes on with what ``out`` holds of the same run."""
    data = ImageArray(path, key)
    shape = (data.channels, *data.images.shape[1:3])
    model = build(name, shape, seed).to(device)
    data.dequantise = model.continuous
    config, plan = replace(FAMILIES[name].fit, seed=seed), out / "plan.json"
    made_for = {
        "family": name,
        "minutes": minutes,
        "seed": seed,
        "data": f"{path.name}/{key}",
        "device": str(torch.device(device)),
    }
    known = json.loads(plan.read_text()) if plan.is_file() else {}
    if {k: known.get(k) for k in made_for} != made_for:
        with tempfile.TemporaryDirectory() as folder:
            known = made_for | {
                "steps": steps_within(
                    60 * minutes, build(name, shape, seed).to(device), data, config, Path(folder)
                )
            }
        out.mkdir(parents=True, exist_ok=True)
        write_json(known, plan)
    config = replace(config, steps=int(known["steps"]))
    finished, state = out / "model.safetensors", out / "state.safetensors"
    if not (finished.is_file() and load_model(finished).card.get("step") == config.steps):
        train_model(model, data, out, config, resume=state.is_file(), save_every=500, progress=progress)
    return load_model(finished, device)
