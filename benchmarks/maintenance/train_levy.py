"""Train the networks of the Lévy benchmark, and compare their denoisers with the exact ones.

    nice python benchmarks/maintenance/train_levy.py
    nice python benchmarks/maintenance/train_levy.py --law laplace --out /tmp/levy

Each takes a few minutes of one core. The weights and their cards go to scoresde/weights/levy.
"""

import argparse
import math
import os
import tempfile
import time
from pathlib import Path

import torch

import scoresde
from scoresde import ScorePrior, load_prior, save_prior
from scoresde.data.signals import Signals
from scoresde.files import write_atomically
from scoresde.networks import UNetConfig
from scoresde.training import NoiseLevels, TrainConfig, train
from solvers.verification.levy import LevyProcess, levy_process, smooth
from solvers.verification.levy.learned import LEARNED

SIGNALS = 200_000
"""Signals of a training set, drawn with seed 0."""
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Noise levels of the comparison with the exact denoiser."""
TESTED = 1000
"""Signals of that comparison, drawn with seed 1."""

CARD = """# levy/{law}

A score prior for signals of 64 samples, `load_prior("levy/{law}")`. They are sums of independent
increments; the law of an increment is {title}.
The prior belongs to the benchmark of solvers (`scoresde verify --learned`, `benchmarks/levy.py`),
where the exact posterior is known, and is of no other use.

| | |
|---|---|
| network | UNet for signals, {parameters:,} parameters: widths {widths}, {blocks} residual block \
per level and direction, no attention, no normalisation |
| preconditioning | EDM (Karras et al. 2022), sigma_data {sigma_data:g}, noise {low:g} to {high:g} |
| data | {signals:,} signals drawn by `solvers.verification.levy.levy_process("{law}")`, seed 0; \
RMS 0.5 |
| training | denoising score matching, ln sigma ~ N({mean:g}, {std:g}^2), AdamW, cosine learning \
rate from {rate:g}, {steps:,} steps of {batch}, average of weights {ema:g}; seed {seed} |
| command | `python benchmarks/maintenance/train_levy.py --law {law}` |
| time | {minutes:.1f} minutes of one CPU core; no GPU |
| stored | float16 safetensors, {size:.2f} MB |

## Gap to the exact denoiser

The exact denoiser E[x | x + s n] is known by message passing
(`solvers.verification.levy.MarkovDenoiser`). Gap: how far the mean squared error of the network is
above the least one, 10 log10(1 + mean |D - E|^2 / mean variance), on {tested:,} signals, as stored.

{gaps}
"""


def config(steps: int) -> TrainConfig:
    """The settings of the training, the same for all laws.

    Noise far below the increments and far above the signals teaches nothing. The largest level is
    ten times the standard deviation of a signal along its widest direction.
    """
    return TrainConfig(
        steps=steps,
        batch=128,
        learning_rate=2e-3,
        ema=0.998,
        precision="no",
        crops=(64,),
        sigma_data=0.5,
        noise=NoiseLevels(-1.8, 1.8, 0.002, 40.0),
        network=UNetConfig(
            channels=1,
            patch=1,
            widths=(24, 32, 48, 64),
            blocks=1,
            attention=(),
            embedding=64,
            dimensions=1,
        ),
    )


def gaps(prior: ScorePrior, process: LevyProcess) -> list[float]:
    """How far a denoiser is from the exact one at the levels, in dB."""
    generator, found = torch.Generator().manual_seed(1), []
    for s in LEVELS:
        x = process.sample(TESTED, generator)
        z = x + s * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        exact = smooth(process, z, s)
        D = prior.denoise(z[:, None].float(), s)[:, 0].double()
        share = float((D - exact.mean).square().mean() / exact.variance.mean())
        found.append(10 * math.log10(1 + share))
    return found


def made(law: str, steps: int, out: Path) -> None:
    """Train, store and judge the network of one law."""
    process, settings = levy_process(law), config(steps)
    data = Signals(process.sample(SIGNALS, torch.Generator().manual_seed(0)), 1)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        prior = train(
            data, folder, settings, cpu=True, compiled=False, save_every=steps, progress=False
        )
    minutes = (time.process_time() - start) / 60
    prior.card["summary"] = f"benchmark of solvers: signals of 64 samples, {law} increments"
    path = out / f"{law}.safetensors"
    save_prior(prior, path, torch.float16)
    found = gaps(load_prior(path), process)
    network, noise = settings.network, settings.noise
    assert isinstance(network, UNetConfig)
    table = [
        "| noise s | " + " | ".join(f"{s:g}" for s in LEVELS) + " |",
        "|" + "---|" * (len(LEVELS) + 1),
        "| gap in dB | " + " | ".join(f"{gap:.2f}" for gap in found) + " |",
    ]
    card = CARD.format(
        law=law,
        title=LEARNED[law],
        parameters=sum(p.numel() for p in prior.parameters()),
        widths="-".join(map(str, network.widths)),
        blocks=network.blocks,
        sigma_data=settings.sigma_data,
        low=noise.sigma_min,
        high=noise.sigma_max,
        mean=noise.mean,
        std=noise.std,
        signals=SIGNALS,
        rate=settings.learning_rate,
        steps=settings.steps,
        batch=settings.batch,
        ema=settings.ema,
        seed=settings.seed,
        minutes=minutes,
        size=path.stat().st_size / 1e6,
        tested=TESTED,
        gaps="\n".join(table),
    )
    write_atomically(path.with_suffix(".md"), lambda temporary: temporary.write_text(card))
    print(f"{law}: {minutes:.1f} minutes; gaps " + ", ".join(f"{gap:.3f}" for gap in found))


def main() -> None:
    """Train the networks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", action="append", choices=LEARNED)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or Path(os.fspath(scoresde.__file__)).parent / "weights" / "levy"
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for law in given.law or LEARNED:
        made(law, given.steps, out)


if __name__ == "__main__":
    main()
