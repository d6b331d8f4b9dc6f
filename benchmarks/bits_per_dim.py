"""Bits per dimension of MNIST's test set under the `mnist` prior.

    python benchmarks/bits_per_dim.py --mnist mnist.npz

Measured as for published models, and with tighter bounds. The rows are: the network as it is, with
one uniform dequantisation sample, followed to a noise at which the edges of grey levels are sharp;
followed only to the smallest noise of its training; averaged over shifts by a pixel
(``EquivariantPrior``); and the bound of 16 dequantisation samples together. All but the last use
the same noise for the same image. Differences are taken image by image and are therefore known much
better than the values. The images are the first of a random order, because the first half of the
test set is known to be easier.

Every finished chunk is kept in bits_per_dim.json, so that an interrupted run resumes if weights,
images and settings are the same. Writes bits_per_dim.md beside it.
"""

import argparse
import hashlib
import math
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import RESULTS, read_json, table, write_json, write_page

from scoresde import EquivariantPrior, load_prior
from scoresde.priors.checkpoint import embedded_priors
from solvers import bits_per_dim

PUBLISHED = {
    "Real NVP (Dinh et al. 2017)": 1.06,
    "Glow (Kingma and Dhariwal 2018)": 1.05,
    "FFJORD (Grathwohl et al. 2019)": 0.99,
    "Residual Flow (Chen et al. 2019)": 0.97,
}

LEVEL = 1e-4 / 128  # a noise that does not blur the edges of a level, which is 1/128 wide


@dataclass(frozen=True)
class Row:
    """Settings of a row, and the number of test images, which are measured in chunks."""

    name: str
    images: int
    chunk: int = 25
    average: str | None = None
    k: int = 1
    probes: int = 2
    nodes: int = 64
    end: str | float = LEVEL
    solver: str = "rk4"


ROWS = {
    "plain": Row("as it is", 500),
    "blurred": Row("as it is, density at noise 1e-4", 100, end="t_min"),
    "shifts": Row("averaged over 4 shifts", 150, average="shifts"),
    "importance": Row(
        "as it is, 16 dequantisation samples, importance-weighted", 10, chunk=2, k=16, probes=16
    ),
}


def test_images(path: Path) -> torch.Tensor:
    """The test set in random order, (10000, 1, 28, 28), uint8."""
    images = torch.from_numpy(np.load(path)["test_images"])[:, None]
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


def measure(name: str, path: Path, weights: str, start: int) -> dict[str, Any]:
    """Measure one chunk of a row on one thread."""
    torch.set_num_threads(1)
    row = ROWS[name]
    prior = load_prior(weights)
    model = EquivariantPrior(prior, row.average) if row.average else prior
    # the noise of an image depends on its place alone
    generators = [
        torch.Generator().manual_seed(1_000_000 + i) for i in range(start, start + row.chunk)
    ]
    result = bits_per_dim(
        model,
        test_images(path)[start : start + row.chunk],
        k=row.k,
        importance=row.k > 1,
        generator=generators,
        divergence="hutchinson",
        probes=row.probes,
        nodes=row.nodes,
        end=row.end,
        solver=row.solver,
    )
    return {
        "bits": result.value.tolist(),
        "error": result.std_error.tolist(),
        "seconds": result.seconds,
        "nfe": result.nfe,
        "products": result.vjps,
    }


def mean(values: list[float]) -> tuple[float, float]:
    """Mean and standard error."""
    x = np.array(values)
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


def page(done: dict[str, dict[str, Any]]) -> list[str]:
    bits = {
        name: {
            int(start) + i: v for start, part in parts.items() for i, v in enumerate(part["bits"])
        }
        for name, parts in done.items()
    }
    cells = []
    for name, row in ROWS.items():
        parts = done.get(name, {})
        if len(bits.get(name, {})) < 2:
            continue
        value, error = mean(list(bits[name].values()))
        pairs = [v - bits["plain"][i] for i, v in bits[name].items() if i in bits.get("plain", {})]
        gain = "{:+.4f} ± {:.4f}".format(*mean(pairs)) if name != "plain" and len(pairs) > 1 else ""
        first = next(iter(parts.values()))
        seconds = sum(p["seconds"] for p in parts.values()) / len(bits[name])
        cells.append(
            [
                row.name,
                len(bits[name]),
                f"{value:.3f} ± {error:.3f}",
                gain,
                f"{row.probes} × {row.nodes}",
                f"{first['nfe']} + {first['products']}",
                f"{seconds:.1f}",
            ]
        )
    head = ("", "images", "bits/dim", "difference from the first row", "probes × nodes")
    return [
        "# Bits per dimension of MNIST's test set under `mnist`",
        "",
        "`python benchmarks/bits_per_dim.py --mnist mnist.npz`, uint8 on [-1, 1], structured",
        "probes, Runge-Kutta. The density is taken at a noise of 1e-4 of the width of a level,",
        "where the network resolves its edges, or at 1e-4, the smallest noise of its training.",
        "The first images of a random order; ± is the standard error of their mean; differences",
        "are taken image by image.",
        "",
        *table((*head, "evaluations + products per image", "s per image"), cells),
        "",
        "One uniform dequantisation sample each, all 10,000 test images, as quoted in the Residual",
        "Flow paper:",
        "",
        *table(("", "bits/dim"), [(name, f"{value:.2f}") for name, value in PUBLISHED.items()]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="mnist.npz with test_images")
    parser.add_argument("--prior", default="mnist")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "bits_per_dim.json")
    a = parser.parse_args()
    weights = embedded_priors().get(a.prior, Path(a.prior))
    facts = {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest()[:16],
        "images": hashlib.sha256(test_images(a.mnist).numpy().tobytes()).hexdigest()[:16],
    }
    settings = {
        name: {k: v for k, v in asdict(row).items() if k not in ("name", "images")}
        for name, row in ROWS.items()
    }
    kept = read_json(a.out, {})
    same = kept.get("facts") == facts
    done: dict[str, dict[str, Any]] = {
        name: parts
        for name, parts in kept.get("rows", {}).items()
        if same and kept["settings"].get(name) == settings[name]
    }
    kept = {"facts": facts, "settings": settings, "rows": done}
    # the rows grow side by side, so that an interrupted run has a part of each
    work = sorted(
        (start / ROWS[name].images, name, start)
        for name in a.rows
        for start in range(0, ROWS[name].images, ROWS[name].chunk)
        if str(start) not in done.get(name, {})
    )
    with ProcessPoolExecutor(a.jobs, get_context("spawn")) as pool:
        running = {
            pool.submit(measure, name, a.mnist, str(weights), start): (name, start)
            for _, name, start in work
        }
        for future in as_completed(running):
            name, start = running[future]
            done.setdefault(name, {})[str(start)] = future.result()
            write_json(kept, a.out)
            print(name, start, *mean(done[name][str(start)]["bits"]), flush=True)
            write_page(a.out.with_suffix(".md"), page(done))
    write_page(a.out.with_suffix(".md"), page(done))


if __name__ == "__main__":
    main()
