"""The estimated noise level of photographs: how close it is, and how far its error bar reaches.

    python benchmarks/noise_level.py

Crops of 64x64 of photographs of scikit-image, measured with noise of 0.02, 0.05 and 0.1, prior
natural. The estimate does not know the level. Writes noise_level.json and noise_level.md.
"""

import argparse
import math
import time
import warnings
from pathlib import Path

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from model_check import crops
from tables import RESULTS, table, write_json, write_page

from problems import (
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    SuperResolution,
    random_mask,
)
from scoresde import load_prior
from scoresde.estimation import estimate_noise

SIDE = 64
LEVELS = (0.02, 0.05, 0.1)
PROBLEMS = {
    "denoise": Denoising(),
    "inpaint, 50 % missing": Inpainting(
        random_mask(SIDE, SIDE, 0.5, torch.Generator().manual_seed(0))
    ),
    "blur 1.5": GaussianBlur(1.5, "reflect"),
    "super-resolve ×2": SuperResolution(2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    warnings.filterwarnings("ignore")
    prior, cells = load_prior("natural"), []
    for name, operator in PROBLEMS.items():
        for sigma in LEVELS:
            for number, x in enumerate(crops(a.pictures, SIDE)):
                problem = InverseProblem(operator, GaussianNoise(sigma))
                y = problem.measure(x, torch.Generator().manual_seed(number))
                start, cell = time.perf_counter(), {"problem": name, "sigma": sigma}
                try:
                    found = estimate_noise(problem, y, prior)
                    cell |= {"estimate": found.sigma[0], "error": found.error[0],
                             "guess": found.start, "source": found.source}  # fmt: skip
                except ValueError as error:
                    cell["refused"] = str(error)
                cell["seconds"] = round(time.perf_counter() - start, 1)
                cells.append(cell)
                print(cell, flush=True)
    rows = []
    for name in PROBLEMS:
        for sigma in LEVELS:
            group = [c for c in cells if c["problem"] == name and c["sigma"] == sigma]
            known = [c for c in group if "estimate" in c]
            rows.append([
                name, f"{sigma:g}",
                " / ".join(f"{c['estimate']:.4f}" if "estimate" in c else "refused" for c in group),
                " / ".join(f"{100 * (c['estimate'] / sigma - 1):+.1f} %" for c in known),
                f"{100 * max((c['error'] / c['estimate'] for c in known), default=math.nan):.1f} %",
                " / ".join(f"{100 * (c['guess'] / sigma - 1):+.0f} %" for c in known),
                f"{sum(c['seconds'] for c in group) / len(group):.0f}",
            ])  # fmt: skip
    head = ["problem", "sigma", "estimates", "off by", "stated standard error (largest)",
            "first guess off by", "seconds"]  # fmt: skip
    off = [abs(c["estimate"] / c["sigma"] - 1) for c in cells if "estimate" in c]
    write_json(cells, a.out / "noise_level.json")
    write_page(
        a.out / "noise_level.md",
        [
            "Noise levels on [-1, 1], estimated by `estimate_noise` (`--sigma auto`) from crops "
            f"of {SIDE}×{SIDE} of photographs of scikit-image, {a.pictures} each, prior natural. "
            "Noise is overestimated by the grain that a photograph has by itself, and by texture "
            "that the prior does not expect. First guess: by the finest details alone. Seconds: "
            "of one core.",
            "",
            "`python benchmarks/noise_level.py`",
            "",
            f"{sum(one < 0.05 for one in off)} of {len(cells)} estimates are within 5 %, "
            f"{sum(one < 0.1 for one in off)} within 10 %, {len(cells) - len(off)} are refused.",
            "",
            *table(head, rows),
        ],
    )


if __name__ == "__main__":
    main()
