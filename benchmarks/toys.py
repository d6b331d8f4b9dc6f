"""Five families on distributions of the plane whose density is known everywhere.

    python benchmarks/toys.py

Each is trained for the same processor time. Writes benchmarks/results/comparison/toys.md and .png.
"""

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from tables import RESULTS, line, table, write_page
from torch import Tensor

from scoresde.data.datasets import TensorData
from scoresde.data.toys import TOYS, Plane
from scoresde.evaluation.collapse import ModeReport, SpreadReport, collapse_report
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.plane import PLANE_FAMILIES, evidence, lattice
from scoresde.families.comparison.training import steps_within
from scoresde.families.store import load_model
from scoresde.families.training import train_model
from scoresde.families.vae.model import VAE
from scoresde.files import write_atomically

REACH, SPACING = 1.5, 1 / 64
HELD = 10_000


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(family: str, toy: Plane, seconds: float, folder: Path) -> GenerativeModel:
    """Load the model from ``folder``, or train it there."""
    finished = folder / "run" / "model.safetensors"
    if not finished.is_file():
        data, entry = TensorData(toy.sample(100_000, seeded(0)).float()), PLANE_FAMILIES[family]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as trial, torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            steps = steps_within(
                seconds, entry.build((2,)), data, entry.fit, Path(trial), trial=200
            )
            torch.manual_seed(0)
            train_model(
                entry.build((2,)), data, Path(trial) / "run", replace(entry.fit, steps=steps)
            )
            (Path(trial) / "run").rename(folder / "run")
    return load_model(finished)


def gap(toy: Plane, held: Tensor, log_q: Tensor) -> str:
    """KL(p || q) in nats, from held-out samples."""
    each = toy.log_prob(held) - log_q
    return f"{float(each.mean()):.3f} ± {float(each.std()) / math.sqrt(len(each)):.3f}"


def judged(model: GenerativeModel, toy: Plane) -> tuple[list[tuple[str, str]], Tensor | None]:
    """Names and values of the measures of a model, and its density on the lattice."""
    held, (points, area) = toy.sample(HELD, seeded(1)), lattice(REACH, SPACING)
    if model.density == "exact":
        q = model.log_prob(points.float(), k=2).value.double().exp()
        p = toy.log_prob(points).exp()
        return [
            ("KL(p‖q)", gap(toy, held, model.log_prob(held.float(), k=2).value)),
            ("∫q", f"{float(q.sum()) * area:.4f}"),
            ("total variation", f"{float((p - q).abs().sum()) * area / 2:.3f}"),
        ], q
    if isinstance(model, VAE):
        held, points = held[:2000], lattice(REACH, 2 * SPACING)[0]
        bounds = [
            (
                f"IWAE-{k}",
                gap(toy, held, model.log_prob(held.float(), k=k, generator=seeded(k)).value),
            )
            for k in (8, 64)
        ]
        return [
            ("KL(p‖q)", gap(toy, held, evidence(model, held.float()))),
            (
                "by the ELBO",
                gap(toy, held, model.log_prob(held.float(), generator=seeded(2)).value),
            ),
            *((f"by {name}", value) for name, value in bounds),
        ], evidence(model, points.float()).exp()
    draws = model.sample(2000, seeded(3))
    spread = collapse_report(draws, reference=held[:2000])
    assert isinstance(spread, SpreadReport)
    said = [
        ("effective members", f"{spread.vendi:.1f} (data {spread.vendi_data:.1f})"),
        ("recall", f"{spread.recall:.2f}"),
    ]
    if toy.centres is not None:
        modes = collapse_report(draws, centres=toy.centres, weights=toy.weights)
        assert isinstance(modes, ModeReport)
        said.append(("modes", f"{modes.found} of {modes.modes}"))
    return said, None


def draw(found: dict[str, dict[str, tuple[GenerativeModel, Tensor | None]]], path: Path) -> None:
    """A row for each distribution: the truth, then each family's density or draws."""
    figure, rows = plt.subplots(
        len(found),
        1 + len(PLANE_FAMILIES),
        figsize=(13, 2.2 * len(found)),
        layout="constrained",
        squeeze=False,
    )
    extent = (-REACH, REACH, -REACH, REACH)
    for panels, (name, models) in zip(rows, found.items(), strict=True):
        truth = TOYS[name]().log_prob(lattice(REACH, SPACING)[0]).exp()
        top = float(truth.quantile(0.995))
        shades = {
            "truth": truth,
            **{PLANE_FAMILIES[family].title: q for family, (_, q) in models.items()},
        }
        for panel, (title, q), model in zip(
            panels, shades.items(), [None, *(m for m, _ in models.values())], strict=True
        ):
            if q is not None:
                side = math.isqrt(len(q))
                panel.imshow(
                    q.reshape(side, side).T.sqrt(),
                    origin="lower",
                    extent=extent,
                    cmap="Blues",
                    vmin=0,
                    vmax=top**0.5,
                )
            elif model is not None:
                panel.plot(*model.sample(4000, seeded(4)).T, ".", color="C0", ms=1)
            panel.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")
            if name == next(iter(found)):
                panel.set_title({"VAE": "VAE, its evidence", "GAN": "GAN, draws"}.get(title, title))
        panels[0].set_ylabel(name)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="processor time for training each model",
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/toys"), help="folder for the trained models"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "comparison", help="folder for the results"
    )
    a = parser.parse_args()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    rows: list[list[str]] = []
    found: dict[str, dict[str, tuple[GenerativeModel, Tensor | None]]] = {}
    for name, make in TOYS.items():
        toy = make()
        for family, entry in PLANE_FAMILIES.items():
            model = trained(family, toy, a.seconds, a.work / f"{a.seconds:g}" / name / family)
            said, q = judged(model, toy)
            found.setdefault(name, {})[family] = model, q
            text = ", ".join(f"{what} {value}" for what, value in said)
            size, steps = f"{model.parameter_count:,}", f"{model.card['step']:,}"
            rows.append([name, entry.title, size, steps, text])
            print(line(rows[-1]), flush=True)
    page = f"""# Five families on the plane

Made by `python benchmarks/toys.py --seconds {a.seconds:g}`: the distributions of
`scoresde.data.toys`, whose density is known everywhere; {a.seconds:g} seconds of one processor for
each model (small perceptrons inside all of them).

![densities, and draws where there is no density](toys.png)

KL(p‖q): nats, of the truth p and the model q, from {HELD:,} held-out samples
(2,000 for the VAE). ∫q: over [-{REACH}, {REACH}]², 1 for a density.
The VAE's evidence is summed over its two latent entries. By its bounds KL is larger, and less so
with more draws. The diffusion's density is that of its probability-flow ODE.
"""
    draw(found, a.out / "toys.png")
    head = ("data", "family", "parameters", "steps", "results")
    write_page(a.out / "toys.md", [page, *table(head, rows)])


if __name__ == "__main__":
    main()
