"""The estimated number of photons of photographs: how close it is, and how far its error reaches.

    python benchmarks/photons.py

Crops of 64x64 of photographs of scikit-image with counting noise and read noise of 0.02, prior
natural. The estimate knows neither, or the read noise alone. Writes photons.json and photons.md.
"""

import argparse
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
    Inpainting,
    InverseProblem,
    PoissonGaussianNoise,
    random_mask,
)
from scoresde import load_prior
from scoresde.estimation import estimate_photons

SIDE, READ = 64, 0.02
HOLES = Inpainting(random_mask(SIDE, SIDE, 0.5, torch.Generator().manual_seed(0)))
BLUR = GaussianBlur(1.5, "reflect")
CASES = (
    *[("denoise", Denoising(), peak, False) for peak in (5, 20, 50, 200, 1000)],
    *[("denoise", Denoising(), peak, True) for peak in (5, 20, 50, 200, 1000)],
    ("inpaint, 50 % missing", HOLES, 50, False),
    *[("blur 1.5", BLUR, peak, False) for peak in (20, 200)],
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    warnings.filterwarnings("ignore")
    prior, cells, rows = load_prior("natural"), [], []
    for name, operator, peak, both in CASES:
        group = []
        for number, x in enumerate(crops(a.pictures, SIDE)):
            problem = InverseProblem(operator, PoissonGaussianNoise(peak, READ))
            y = problem.measure(x, torch.Generator().manual_seed(number))
            start, cell = time.perf_counter(), {"problem": name, "photons": peak, "both": both}
            try:
                found = estimate_photons(problem, y, prior, read_noise=both)
                cell["estimate"] = found.report()
            except ValueError as error:
                cell["refused"] = str(error)
            cell["seconds"] = round(time.perf_counter() - start, 1)
            group.append(cell)
            print(cell, flush=True)
        known = [cell["estimate"] for cell in group if "estimate" in cell]
        cells += group
        rows.append([
            name, str(peak), "estimated" if both else "known",
            " / ".join(f"{one['photons']:.4g} ± {one['standard_error']:.2g}" for one in known),
            " / ".join(f"{100 * (one['photons'] / peak - 1):+.1f} %" for one in known),
            " / ".join(f"{100 * (one['first_guess'] / peak - 1):+.0f} %" for one in known),
            " / ".join(
                f"{one['read_noise']:.3f} ± {one['read_noise_error']:.2g}" for one in known
            ) if both else "",
            f"{sum(cell['seconds'] for cell in group) / len(group):.0f}",
        ])  # fmt: skip
    head = ["problem", "photons", "read noise is", "estimates", "off by", "first guess off by",
            "read noise", "seconds"]  # fmt: skip
    found = [cell for cell in cells if "estimate" in cell]
    off = [abs(cell["estimate"]["photons"] / cell["photons"] - 1) for cell in found]
    write_json(cells, a.out / "photons.json")
    write_page(
        a.out / "photons.md",
        [
            "Photons of a white pixel, estimated by `estimate_photons` (`--photons auto`) from "
            f"crops of {SIDE}×{SIDE} of photographs of scikit-image, {a.pictures} each, prior "
            f"natural, read noise {READ:g}. First guess: by the line of variance against "
            "brightness in the finest details. Read noise that is not seen has the error up to "
            "which it could hide. Seconds: of one core.",
            "",
            "`python benchmarks/photons.py`",
            "",
            f"{sum(one < 0.05 for one in off)} of {len(cells)} estimates are within 5 %, "
            f"{sum(one < 0.1 for one in off)} within 10 %, {len(cells) - len(found)} are refused.",
            "",
            *table(head, rows),
        ],
    )


if __name__ == "__main__":
    main()
