"""Judgement of one entrant of the comparison: draws, density, restorations.

Results are kept on disk, so that nothing is computed twice.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from scoresde.data.datasets import TensorData
from scoresde.data.images import to_bytes
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.density import judge_density
from scoresde.families.comparison.families import FAMILIES, build
from scoresde.families.comparison.memory import training_memory
from scoresde.families.comparison.quality import RealData, draw, judge_draws
from scoresde.families.comparison.restoration import SIGMA, judge_restoration, problems_for
from scoresde.files import write_atomically, write_json

__all__ = ["SHOWN", "Entrant", "JudgeConfig", "Judged", "judge"]

SHOWN = 100
"""Number of draws that are kept for display."""


MOST = 1_000_000
"""Draws and pictures that no comparison needs more of."""


@dataclass(frozen=True)
class JudgeConfig:
    """Sizes of the comparison.

    Args:
        samples: Draws of each model, at least 100.
        likelihoods: Test pictures for the density, at least 2.
        pictures: Restored test pictures of each problem, at least 2.
        draws: Posterior draws of each restored picture, at least 3.
        seed: Seed of all random numbers.

    Raises:
        ValueError: If a size is too small or absurdly large.
    """

    samples: int = 1000
    likelihoods: int = 200
    pictures: int = 10
    draws: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 100 or min(self.likelihoods, self.pictures) < 2 or self.draws < 3:
            raise ValueError(
                "a comparison needs at least 100 samples, 2 likelihoods, 2 pictures and 3 draws, "
                f"got {self}"
            )
        for name in ("samples", "likelihoods", "pictures", "draws"):
            if getattr(self, name) > MOST:
                raise ValueError(f"{name} must be at most {MOST}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Entrant:
    """A model that takes part in the comparison.

    Args:
        name: Name in file names.
        title: Name in tables and figures.
        model: The trained model.
        whole: True to judge draws, density and restorations; False to judge the draws alone.
    """

    name: str
    title: str
    model: GenerativeModel
    whole: bool = True


@dataclass(frozen=True)
class Judged:
    """Results of one entrant.

    Args:
        name: Name in file names.
        title: Name in tables and figures.
        scores: Scores as plain values.
        pictures: Images, uint8: "draws", shape (100, C, H, W), and for each problem its posterior
            draws, shape (n, B, C, H, W).
    """

    name: str
    title: str
    scores: dict[str, Any]
    pictures: dict[str, Tensor]


def judge(
    entrant: Entrant,
    reference: RealData,
    config: JudgeConfig,
    cache: Path,
    progress: Callable[[str], None] | None = None,
) -> Judged:
    """Judge an entrant, or read the results of an earlier run from the cache.

    An earlier result is used if model, data and settings are the same.

    Args:
        entrant: Model to judge.
        reference: Training and test pictures.
        config: Sizes of the comparison.
        cache: Folder of the results, made if it does not exist.
        progress: Called with the name of each stage as it begins; None for no reports.

    Returns:
        The results.
    """
    say = progress or (lambda _: None)
    key = fingerprint(entrant, reference, config)
    numbers, images = cache / f"{entrant.name}.json", cache / f"{entrant.name}.safetensors"
    if numbers.is_file() and images.is_file():
        kept = json.loads(numbers.read_text())
        if kept["fingerprint"] == key:
            say("read from the cache")
            return Judged(entrant.name, entrant.title, kept["scores"], load_file(images))

    model, seed = entrant.model, config.seed
    say("drawing")
    draws, seconds = draw(model, config.samples, torch.Generator().manual_seed(seed))
    scores: dict[str, Any] = {
        "density_kind": model.density,
        "parameters": model.parameter_count,
        "nfe_per_sample": model.nfe_per_sample,
        "seconds_per_sample": seconds,
        "training": model.card,
        "quality": judge_draws(draws, reference),
    }
    if entrant.name in FAMILIES:
        fresh, fit = build(entrant.name, tuple(model.shape)), FAMILIES[entrant.name].fit
        scores["training_memory"] = training_memory(
            fresh, TensorData(reference.train[: fit.batch]), fit
        )
    pictures = {"draws": to_bytes(draws[:SHOWN])}
    if entrant.whole:
        say("likelihood")
        levels = to_bytes(reference.test[: config.likelihoods])
        scores["bits_per_dim"] = judge_density(model, levels, torch.Generator().manual_seed(seed))
        scores["restoration"] = {}
        truth = chosen(reference, config)
        for name, problem in problems_for(tuple(model.shape)).items():
            say(name)
            y = measurement(reference, config, name)
            found = judge_restoration(model, problem, truth, y, config.draws, seed)
            scores["restoration"][name] = found.scores
            pictures[name] = to_bytes(found.draws)
    cache.mkdir(parents=True, exist_ok=True)
    write_atomically(
        images, lambda path: save_file({name: x.contiguous() for name, x in pictures.items()}, path)
    )
    write_json({"fingerprint": key, "scores": scores}, numbers)
    return Judged(entrant.name, entrant.title, scores, pictures)


def chosen(reference: RealData, config: JudgeConfig) -> Tensor:
    """Choose the test pictures that are restored: the last ones.

    They are taken from the other end than those of the likelihood.

    Args:
        reference: Training and test pictures.
        config: Sizes of the comparison.

    Returns:
        Pictures on [-1, 1], shape (config.pictures, C, H, W).
    """
    return reference.test[-config.pictures :]


def measurement(reference: RealData, config: JudgeConfig, name: str) -> Tensor:
    """Measure the chosen pictures; the measurements are the same for all entrants.

    Args:
        reference: Training and test pictures.
        config: Sizes of the comparison.
        name: Name of the problem, a key of ``problems_for``.

    Returns:
        Measurements, shape (config.pictures, ...).
    """
    truth = chosen(reference, config)
    problem = problems_for(tuple(truth.shape[1:]))[name]
    return problem.measure(truth, torch.Generator().manual_seed(config.seed))


def fingerprint(entrant: Entrant, reference: RealData, config: JudgeConfig) -> str:
    """Hash everything that decides the result, except the code and the training pictures.

    Args:
        entrant: Model to judge.
        reference: Training and test pictures.
        config: Sizes of the comparison.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(
        json.dumps(
            [
                asdict(config),
                SIGMA,
                entrant.whole,
                reference.features.name,
                repr(entrant.model.config),
            ]
        ).encode()
    )
    for tensor in (*entrant.model.state_dict().values(), reference.test):
        digest.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()[:16]
