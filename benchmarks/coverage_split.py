"""How much of the coverage that is missing is due to the solver, and how much to the prior.

    python benchmarks/coverage_split.py --images PATH/bsds500/val

Raw 90 % intervals of crops of photographs, and of pictures that were drawn from the prior itself.
For the second kind the prior is the law of the truth, up to the error of the sampler that drew
them, so that what their intervals lack is due to the solver. What those of photographs lack beside
is due to the prior. Each solver also runs with four times its steps. Cells are kept in
coverage_split.json, so that an interrupted run resumes. Writes coverage_split.md beside it.
"""

import argparse
import math
import statistics
from pathlib import Path

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from scipy import stats
from tables import RESULTS, Cells, table, weights_id, write_page
from torch import Tensor

from problems import (
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearOperator,
    SuperResolution,
    random_mask,
)
from scoresde import load_prior
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop
from scoresde.evaluation import psnr
from scoresde.evaluation.conformal import coverage
from scoresde.priors.base import Prior
from solvers import Heun, make_solver

SIDE, SIGMA, LEVEL = 64, 0.05, 0.9
COUNT = 10  # pictures
SOLVERS = {"warm-start": 8, "second-order": 20, "mmps": 20}
"""Named solvers and their steps."""

KINDS = {"photographs": "photographs", "drawn": "drawn from the prior"}


def problems() -> dict[str, LinearOperator]:
    mask = random_mask(SIDE, SIDE, 0.7, torch.Generator().manual_seed(1))
    return {
        "random 70 %": Inpainting(mask),
        "Gaussian blur 1.6": GaussianBlur(1.6),
        "×4 bicubic": SuperResolution(4),
    }


def expected(draws: int) -> float:
    """Coverage of so many draws of the exact posterior, if that is Gaussian."""
    z = stats.norm.ppf((1 + LEVEL) / 2)
    return 2 * float(stats.t.cdf(z / math.sqrt(1 + 1 / draws), draws - 1)) - 1


def truths(kind: str, prior: Prior, images: Path, count: int) -> Tensor:
    if kind == "photographs":
        paths = list_images(images)
        chosen = paths[:: max(1, len(paths) // count)][:count]
        return torch.cat([centre_crop(path, SIDE) for path in chosen])
    drawn = Heun(64).sample(prior, count, generator=torch.Generator().manual_seed(0))
    return drawn.clamp(-1, 1)


def page(cells: Cells, count: int, draws: int, weights: str) -> list[str]:
    measures = [f"{title}: {what}" for title in KINDS.values() for what in ("cover", "PSNR")]
    rows = []
    for problem in problems():
        for solver, steps in SOLVERS.items():
            for factor in (1, 4):
                row: list[object] = [problem, solver, steps * factor]
                for kind in KINDS:
                    found = cells.under(f"{weights}/{kind}/{problem}/{solver}/{factor}/")
                    if len(found) < count:
                        row += ["", ""]
                        continue
                    shares = [100 * one["coverage"] for one in found]
                    error = statistics.stdev(shares) / math.sqrt(count)
                    row.append(f"{statistics.fmean(shares):.0f} ± {error:.0f}")
                    row.append(f"{statistics.fmean(one['psnr'] for one in found):.2f}")
                if any(row[3:]):
                    rows.append(row)
    some = "" if count == COUNT else f" --count {count}"
    if all(row[2] == SOLVERS[str(row[1])] for row in rows):
        some += " --factor 1"
    return [
        "# Coverage: the solver's part and the prior's",
        "",
        f"Share of the pixels, in per cent, inside raw {LEVEL:.0%} intervals of {draws} draws; "
        f"mean and standard error over {count} pictures of {SIDE}×{SIDE}, noise σ = {SIGMA} on "
        "[−1, 1], "
        f"prior `natural` ({weights}). So many independent draws of an exact Gaussian posterior "
        f"cover {100 * expected(draws):.0f} %. Photographs are crops of BSDS500's validation part. "
        "Pictures drawn from the prior follow its law, so that what they lack is due to the "
        "solver; what photographs lack beside is due to the prior.",
        "",
        f"`python benchmarks/coverage_split.py --images bsds500/val{some}`",
        "",
        *table(("problem", "solver", "steps", *measures), rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--factor", type=int, nargs="+", default=[1, 4], choices=[1, 4])
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    prior, weights = load_prior("natural"), weights_id("natural")
    cells = Cells(a.out / "coverage_split.json")
    pictures = {kind: truths(kind, prior, a.images, a.count) for kind in KINDS}
    for factor in a.factor:
        for solver, steps in SOLVERS.items():
            sampler = make_solver(solver, steps=steps * factor)
            for problem, operator in problems().items():
                measurement = InverseProblem(operator, GaussianNoise(SIGMA))
                for kind, x in pictures.items():
                    for number, truth in enumerate(x.split(1)):
                        key = f"{weights}/{kind}/{problem}/{solver}/{factor}/{number}"
                        if key in cells:
                            continue
                        y = measurement.measure(truth, torch.Generator().manual_seed(number))
                        generator = torch.Generator().manual_seed(number)
                        found = sampler.sample(prior, measurement, y, a.draws, generator=generator)
                        cells.put(
                            key,
                            {
                                "coverage": float(coverage(found, truth, LEVEL)),
                                "psnr": float(psnr(found.mean, truth)),
                            },
                        )
                print(f"{solver}, {steps * factor} steps, {problem}", flush=True)
                lines = page(cells, a.count, a.draws, weights)
                write_page(a.out / "coverage_split.md", lines)


if __name__ == "__main__":
    main()
