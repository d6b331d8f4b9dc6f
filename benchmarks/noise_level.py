"""The estimated noise level of photographs: how close it is, and what a wrong one costs.

    python benchmarks/noise_level.py --images PATH/bsds500/val

Centre crops of photographs, measured with noise of 0.02, 0.05 and 0.1, prior natural. The estimate
does not know the level. Each picture is restored twice, with the true level and with the estimated
one. Writes noise_level.json and noise_level.md.
"""

import argparse
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from tables import RESULTS, read_json, table, write_json, write_page
from torch import Tensor

from problems import (
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    SuperResolution,
    random_mask,
)
from scoresde import Prior, load_prior
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop
from scoresde.estimation import estimate_noise
from scoresde.evaluation import psnr
from solvers import make_solver

SIDE, DRAWS = 64, 4
LEVELS = (0.02, 0.05, 0.1)
PROBLEMS = {
    "denoise": Denoising(),
    "inpaint, 50 % missing": Inpainting(
        random_mask(SIDE, SIDE, 0.5, torch.Generator().manual_seed(0))
    ),
    "blur 1.5": GaussianBlur(1.5, "reflect"),
    "super-resolve ×2": SuperResolution(2),
    "super-resolve ×4": SuperResolution(4),
}
HEAD = ("problem", "sigma", "within 5 %", "off by, median", "least", "most",
        "stated standard error", "within two of it", "first guess off by", "PSNR, true level",
        "PSNR lost, median", "most", "s")  # fmt: skip


def restored(prior: Prior, problem: InverseProblem, y: Tensor, x: Tensor) -> float:
    """PSNR of the mean of some draws, by the default solver with the same random numbers."""
    solver, g = make_solver("warm-start", 6), torch.Generator().manual_seed(1)
    return float(psnr(solver.sample(prior, problem, y, DRAWS, generator=g).mean, x))


def measure(prior: Prior, name: str, sigma: float, number: int, x: Tensor) -> dict[str, Any]:
    """One estimate, and the restorations with the true and with the estimated level."""
    problem = InverseProblem(PROBLEMS[name], GaussianNoise(sigma))
    y = problem.measure(x, torch.Generator().manual_seed(number))
    cell: dict[str, Any] = {"problem": name, "sigma": sigma, "picture": number}
    start = time.perf_counter()
    try:
        found = estimate_noise(problem, y, prior)
    except ValueError as error:
        return cell | {"refused": str(error)}
    cell["seconds"] = round(time.perf_counter() - start, 1)
    return cell | {
        "estimate": found.sigma[0],
        "error": found.error[0],
        "guess": found.start,
        "source": found.source,
        "known": restored(prior, problem, y, x),
        "auto": restored(prior, found.problem, y, x),
    }


def row(group: list[dict[str, Any]]) -> list[str]:
    """The cells of one problem and level."""
    sigma, known = group[0]["sigma"], [c for c in group if "estimate" in c]
    shown = [group[0]["problem"], f"{sigma:g}"]
    if not known:
        return [*shown, f"0 of {len(group)}", *[""] * (len(HEAD) - len(shown) - 1)]
    off = [100 * (c["estimate"] / sigma - 1) for c in known]
    lost = [c["known"] - c["auto"] for c in known]
    covered = sum(abs(c["estimate"] - sigma) < 2 * c["error"] for c in known)
    return [
        *shown,
        f"{sum(abs(one) < 5 for one in off)} of {len(group)}",
        *(f"{one:+.1f} %" for one in (statistics.median(off), min(off), max(off))),
        f"{100 * statistics.median(c['error'] / c['estimate'] for c in known):.1f} %",
        f"{covered} of {len(known)}",
        f"{100 * statistics.median(c['guess'] / sigma - 1 for c in known):+.0f} %",
        f"{statistics.mean(c['known'] for c in known):.2f}",
        f"{statistics.median(lost):.2f}",
        f"{max(lost):.2f}",
        f"{statistics.median(c['seconds'] for c in known):.0f}",
    ]


def page(cells: list[dict[str, Any]], pictures: int) -> list[str]:
    """The table and what it says in words."""
    known = [c for c in cells if "estimate" in c]
    off = [abs(c["estimate"] / c["sigma"] - 1) for c in known]
    reach = [abs(c["estimate"] - c["sigma"]) / c["error"] for c in known]
    near = sum(c["known"] - c["auto"] < 0.1 for c in known)
    some = "" if pictures == 20 else f" --pictures {pictures}"
    groups = [
        [c for c in cells if c["problem"] == name and c["sigma"] == sigma]
        for name in PROBLEMS
        for sigma in LEVELS
    ]
    return [
        "Noise levels on [-1, 1], estimated by `estimate_noise` (`--sigma auto`) from centre crops "
        f"of {SIDE}×{SIDE} of the first {pictures} photographs of bsds500/val, prior natural. "
        "Noise is overestimated by the grain that a photograph has by itself, and by texture "
        "that the prior does not expect. First guess: by the finest details alone. PSNR in dB, of "
        f"the mean of {DRAWS} draws of warm-start; lost: by the estimated level in place of the "
        "true one, negative where it is better. The standard error is that of an "
        f"exact posterior: {sum(one < 2 for one in reach)} of {len(known)} are within two of it, "
        "as it does not know the bias of prior and solver. Seconds: of one estimate, one core, "
        "some of them beside other work.",
        "",
        f"`python benchmarks/noise_level.py --images bsds500/val{some}`",
        "",
        f"{sum(one < 0.05 for one in off)} of {len(cells)} estimates are within 5 %, "
        f"{sum(one < 0.1 for one in off)} within 10 %, {len(cells) - len(off)} are refused. "
        f"{near} of {len(known)} pictures lose less than 0.1 dB.",
        "",
        *table(HEAD, [row(group) for group in groups if group]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    warnings.filterwarnings("ignore")
    prior, cells = load_prior("natural"), read_json(a.out / "noise_level.json", [])
    for number, path in enumerate(list_images(a.images)[: a.pictures]):
        x = centre_crop(path, SIDE)
        for name in PROBLEMS:
            for sigma in LEVELS:
                where = {"problem": name, "sigma": sigma, "picture": number}
                if any(where.items() <= c.items() for c in cells):
                    continue  # an interrupted run goes on
                cells.append(measure(prior, name, sigma, number, x))
                print(cells[-1], flush=True)
                write_json(cells, a.out / "noise_level.json")
    write_page(a.out / "noise_level.md", page(cells, a.pictures))


if __name__ == "__main__":
    main()
