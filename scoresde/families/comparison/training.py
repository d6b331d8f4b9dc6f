"""Training of every family at the same cost.

The data and the time are the same, the numbers of parameters about equal.
"""

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
    """Find the number of training steps that fit into a time, by a short trial.

    Time is that of ``clock_for``, so that on a CPU other load of the machine does not shorten the
    training.

    Args:
        seconds: Time of the training, in seconds.
        model: Model to train. The trial changes its weights.
        data: Samples of the model's shape.
        config: Settings of the training.
        folder: Folder for the files of the trial.
        trial: Steps of the trial.

    Returns:
        Number of steps, at least 1.
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
    """Train a family for a given time, or continue the same run in its folder.

    The number of steps is found once by a trial and kept in ``plan.json``. A finished run is read
    from the folder.

    Args:
        name: Name of the family, a key of ``FAMILIES``.
        path: Array file of the pictures.
        key: Name of the array in that file.
        out: Folder of the run.
        minutes: Time of the training, in minutes.
        seed: Seed of the weights and of the training.
        device: Device that trains and that holds the result.
        progress: Show a progress bar on standard error.

    Returns:
        The trained model.

    Raises:
        ValueError: If the family is unknown.
        InputError: If the file or the folder does not fit the run.
        TrainingError: If a loss or a gradient is not finite.
    """
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
        train_model(
            model, data, out, config, resume=state.is_file(), save_every=500, progress=progress
        )
    return load_model(finished, device)
