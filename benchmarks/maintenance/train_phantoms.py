"""Train the networks of benchmarks/science.py on random phantoms.

    nice python benchmarks/maintenance/train_phantoms.py
    nice python benchmarks/maintenance/train_phantoms.py --kind head --out /tmp/phantoms

Each takes about eleven minutes of one core. The weights and their cards go to
scoresde/weights/phantoms.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import scoresde

# isort: split
import torch
from torch import Tensor

from problems import channels_of
from scoresde import load_prior, save_prior
from scoresde.data.phantoms import body_phantoms, filaments, head_phantoms
from scoresde.data.signals import Signals
from scoresde.files import write_atomically
from scoresde.networks import UNetConfig
from scoresde.priors.base import Prior
from scoresde.training import NoiseLevels, TrainConfig, train

STEPS = 8000
PICTURES = 8000
"""Phantoms of a training set, drawn with seed 0."""
TESTED = 64
"""Phantoms of the table of errors, drawn with seed 1."""
OTHERS = 512
"""Phantoms from which its linear filter learns, drawn with seed 3."""
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Noise levels of that table, in units of the data."""


def _heads(n: int, generator: torch.Generator) -> Tensor:
    gain = 0.8 + 0.4 * torch.rand(n, 1, 1, 1, generator=generator)
    return gain * channels_of(head_phantoms(n, generator=generator))


def _bodies(n: int, generator: torch.Generator) -> Tensor:
    return body_phantoms(n, generator=generator) / 1000 + 0.5


def _cells(n: int, generator: torch.Generator) -> Tensor:
    return 2 * filaments(n, generator=generator) - 1


@dataclass(frozen=True)
class Kind:
    """What one of the networks learns.

    Args:
        draw: Draws samples in the units of the prior.
        title: What the samples are.
        units: The units of the prior.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    title: str
    units: str


KINDS = {
    "head": Kind(
        _heads,
        "complex slices of a head, real and imaginary part as two channels, drawn by\n"
        "`scoresde.data.phantoms.head_phantoms` and multiplied by 0.8 to 1.2",
        "magnitudes up to about 1; divide by the brightest magnitude",
    ),
    "body": Kind(
        _bodies,
        "slices of a trunk drawn by `scoresde.data.phantoms.body_phantoms`",
        "HU / 1000 + 0.5: air -0.5, water 0.5",
    ),
    "cells": Kind(
        _cells,
        "cells with filaments drawn by `scoresde.data.phantoms.filaments`",
        "-1 for no light, 1 for the brightest pixel of a picture",
    ),
}

CARD = """# phantoms/{name}

A score prior for pictures of 64x64 pixels, `load_prior("phantoms/{name}")`. They are random
phantoms:
{title}.
The prior belongs to the worked examples (`benchmarks/science.py`,
`notebooks/medical_and_microscopy.ipynb`). It knows ellipses, not anatomy: it is of no use for
patients or specimens.

| | |
|---|---|
| units | {units} |
| network | UNet, {parameters:,} parameters: widths {widths}, {blocks} residual block per level \
and direction, no attention, no normalisation |
| preconditioning | EDM (Karras et al. 2022), sigma_data {sigma_data:.3f}, noise {low:.2g} to \
{high:.2g} |
| data | {pictures:,} phantoms, seed 0; RMS {sigma_data:.3f} |
| training | denoising score matching, ln sigma ~ N({mean:.2f}, {std:g}^2), AdamW, cosine learning \
rate from {rate:g}, {steps:,} steps of {batch}, average of weights {ema:g}; seed {seed} |
| command | `python benchmarks/maintenance/train_phantoms.py --kind {name}` |
| time | {minutes:.1f} minutes of one CPU core; no GPU |
| stored | float16 safetensors, {size:.2f} MB |

## Errors of the denoiser

RMS error on {tested} phantoms that were not trained on, as stored, in the units of the prior. The
linear filter has the mean and the covariance of {others} other phantoms. Where it is better, the
network has not learned enough, and posteriors that depend on those levels may be too sure.

{errors}
"""


def config(name: str, steps: int, sigma_data: float) -> TrainConfig:
    """The settings of the training, in units of the data."""
    return TrainConfig(
        steps=steps,
        batch=16,
        learning_rate=2e-3,
        ema=0.998,
        precision="no",
        crops=(64,),
        sigma_data=sigma_data,
        noise=NoiseLevels(-2.0, 1.5).scaled(sigma_data / 0.5),
        network=UNetConfig(
            channels=2 if name == "head" else 1,
            patch=2,
            widths=(32, 48, 64),
            blocks=1,
            attention=(),
            embedding=64,
        ),
    )


def errors(prior: Prior, samples: Tensor) -> list[float]:
    """RMS errors of the denoiser at the levels."""
    generator = torch.Generator().manual_seed(2)
    found = []
    for s in LEVELS:
        noisy = samples + s * torch.randn(samples.shape, generator=generator)
        found.append(float((prior.denoise(noisy, s) - samples).square().mean().sqrt()))
    return found


def linear_errors(samples: Tensor, others: Tensor) -> list[float]:
    """RMS errors of a linear filter with the mean and the covariance of other phantoms."""
    generator = torch.Generator().manual_seed(2)
    rest = others.flatten(1).double()
    mean = rest.mean(0)
    values, U = torch.linalg.eigh((rest - mean) @ (rest - mean).T / len(rest))
    basis = (rest - mean).T @ U / (values.clamp_min(1e-9) * len(rest)).sqrt()
    found = []
    for s in LEVELS:
        noisy = samples + s * torch.randn(samples.shape, generator=generator)
        weight = values / (values + s**2)
        linear = mean + ((noisy.flatten(1) - mean) @ basis * weight) @ basis.T
        found.append(float((linear - samples.flatten(1)).square().mean().sqrt()))
    return found


def table_of(prior: Prior, kind: Kind) -> str:
    """The table of errors of a card."""
    samples = kind.draw(TESTED, torch.Generator().manual_seed(1))
    linear = linear_errors(samples, kind.draw(OTHERS, torch.Generator().manual_seed(3)))
    rows = {"network": errors(prior, samples), "linear filter": linear}
    lines = ["| noise s | " + " | ".join(f"{s:g}" for s in LEVELS) + " |"]
    lines.append("|" + "---|" * (len(LEVELS) + 1))
    for title, row in rows.items():
        lines.append(f"| {title} | " + " | ".join(f"{error:.4f}" for error in row) + " |")
    return "\n".join(lines)


def made(name: str, steps: int, out: Path) -> None:
    """Train, store and judge one network."""
    kind = KINDS[name]
    data = Signals(kind.draw(PICTURES, torch.Generator().manual_seed(0)), 2)
    settings = config(name, steps, data.sigma_data)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        prior = train(data, folder, settings, cpu=True, compiled=False, save_every=steps)
    minutes = (time.process_time() - start) / 60
    prior.card["summary"] = f"worked examples: random phantoms, {name}"
    path = out / f"{name}.safetensors"
    save_prior(prior, path, torch.float16)
    network, noise = settings.network, settings.noise
    assert isinstance(network, UNetConfig)
    card = CARD.format(
        name=name,
        title=kind.title,
        units=kind.units,
        parameters=sum(p.numel() for p in prior.parameters()),
        widths="-".join(map(str, network.widths)),
        blocks=network.blocks,
        sigma_data=settings.sigma_data,
        low=noise.sigma_min,
        high=noise.sigma_max,
        pictures=PICTURES,
        mean=noise.mean,
        std=noise.std,
        rate=settings.learning_rate,
        steps=settings.steps,
        batch=settings.batch,
        ema=settings.ema,
        seed=settings.seed,
        minutes=minutes,
        size=path.stat().st_size / 1e6,
        tested=TESTED,
        others=OTHERS,
        errors=table_of(load_prior(path), kind),
    )
    write_atomically(path.with_suffix(".md"), lambda temporary: temporary.write_text(card))
    print(f"{name}: {minutes:.1f} minutes")


def main() -> None:
    """Train the networks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or Path(os.fspath(scoresde.__file__)).parent / "weights" / "phantoms"
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in given.kind or KINDS:
        made(name, given.steps, out)


if __name__ == "__main__":
    main()
