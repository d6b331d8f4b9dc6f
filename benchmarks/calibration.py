"""Coverage of calibrated intervals on photographs that the calibration has not seen.

    python benchmarks/calibration.py --images PATH/bsds500/val

Centre crops of 96x96 of the 100 pictures, noise sigma = 0.05 on [-1, 1], circular blur, the default
solver, 8 draws. The sorted scores of each picture are kept under --cache, one file
for each problem and picture, so that an interrupted run resumes, and several processes may share
the work by --problems. Then 100 random halves calibrate and the other halves judge. Writes
calibration.json, the results alone, and calibration.md beside it.
"""

import argparse
import math
from dataclasses import asdict, replace
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from tables import RESULTS, table, write_json, write_page

from problems import GaussianNoise
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop
from scoresde.evaluation.conformal import LEVELS, ScoreTable, pictures_needed
from scoresde.files import write_atomically
from scoresde.pipelines.calibrate import PictureScores, score_picture
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.plan import make_plan
from scoresde.pipelines.protocol import protocol
from scoresde.pipelines.settings import DEFAULT_SOLVER, ProblemOptions, RestoreOptions
from scoresde.priors.base import Prior
from solvers import SOLVERS

SIDE, SIGMA, SPLITS = 96, 0.05, 100
COUNT = 100  # pictures

PROBLEMS = {
    "random": ("random 70 %", ProblemOptions("inpaint", random=0.7)),
    "blur": ("Gaussian blur 1.6", ProblemOptions("deblur", gaussian=1.6, boundary="circular")),
    "super-resolution": ("×4 bicubic", ProblemOptions("super-resolve", scale=4.0)),
}


def run(path: Path, damage: ProblemOptions, prior: Prior, options: RestoreOptions) -> PictureScores:
    """One picture, measured and restored as ``scoresde calibrate`` does it."""
    truth, size = centre_crop(path, SIDE), (SIDE, SIDE)
    options = replace(options, sigma=SIGMA)
    plan = make_plan(damage, options, size=size, simulate=True, seed=options.seed)
    measurement = plan.measure(truth, prior, options.prior)
    return score_picture(measurement, truth, prior, options, LEVELS)


def store(judged: PictureScores, path: Path) -> None:
    arrays = asdict(judged) | {"scores": judged.scores.float().numpy()}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would append a suffix to the name
            np.savez_compressed(file, **arrays)

    write_atomically(path, write)


def fetch(path: Path) -> PictureScores:
    with np.load(path) as file:
        scores = torch.from_numpy(file["scores"])
        return PictureScores(
            scores,
            tuple(file["raw_coverage"].tolist()),
            tuple(file["raw_width"].tolist()),
            float(file["spread"]),
        )


def held_out(judged: list[PictureScores], splits: int = SPLITS) -> list[dict[str, Any]]:
    """For each level: coverage and mean width on the held-out halves, raw and calibrated.

    With their standard deviations over splits.
    """
    table, n = ScoreTable(tuple(one.scores for one in judged)), len(judged) // 2
    rows = []
    for j, level in enumerate(LEVELS):
        if n < pictures_needed(level):
            continue
        generator, scales, found = torch.Generator().manual_seed(0), [], []
        for _ in range(splits):
            order = torch.randperm(len(judged), generator=generator).tolist()
            seen, unseen = order[:n], order[n:]
            q = table.scale(level, seen)
            scales.append(q)
            raw = (
                fmean(judged[i].raw_coverage[j] for i in unseen),
                fmean(judged[i].raw_width[j] for i in unseen),
            )
            found.append(
                (*raw, table.coverage(q, unseen), 2 * q * fmean(judged[i].spread for i in unseen))
            )
        columns = zip(
            ("raw", "raw_width", "calibrated", "calibrated_width"),
            zip(*found, strict=True),
            strict=True,
        )
        row: dict[str, Any] = {"level": level, "scale": fmean(scales), "scale_std": stdev(scales)}
        for name, values in columns:
            row |= {name: fmean(values), f"{name}_std": stdev(values)}
        rows.append(row)
    return rows


def ideal_raw(level: float, draws: int) -> float:
    """Coverage of mean ± z std over n draws of an exact Gaussian posterior.

    (x - mean) / std is sqrt(1 + 1/n) times Student's t with n - 1 degrees of freedom.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    return 2 * float(student.cdf(z / math.sqrt(1 + 1 / draws), draws - 1)) - 1


def lines_of(results: dict[str, Any]) -> list[str]:
    cells = []
    for name, rows in results.items():
        for row in rows:
            raw, calibrated = (
                f"{row[kind]:.1%} ± {row[f'{kind}_std']:.1%}" for kind in ("raw", "calibrated")
            )
            scale = f"{row['scale']:.2f} ± {row['scale_std']:.2f}"
            widths = [f"{row[key]:.3f}" for key in ("raw_width", "calibrated_width")]
            cells.append([name, f"{row['level']:.0%}", raw, f"**{calibrated}**", scale, *widths])
    head = ("problem", "level", "raw coverage", "calibrated", "scale q", "raw width")
    return table((*head, "calibrated width"), cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--solver", default=DEFAULT_SOLVER, choices=sorted(SOLVERS))
    parser.add_argument("--steps", type=int, default=None, help="of the solver; its own otherwise")
    parser.add_argument(
        "--problems",
        nargs="+",
        default=list(PROBLEMS),
        choices=list(PROBLEMS),
        help="run these only",
    )
    parser.add_argument("--prior", default="natural")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("out/calibration"),
        help="folder for the scores of each picture",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    prior = open_prior(a.prior, choose_device(a.device), "auto")
    paths = list_images(a.images)[: a.count]
    results: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for key, (title, damage) in PROBLEMS.items():
        options = RestoreOptions(
            solver=a.solver, steps=a.steps, samples=a.draws, prior=a.prior, device=a.device
        )
        facts = protocol(damage, GaussianNoise(SIGMA), options)
        weights = facts["prior_file"].removeprefix("sha256:")
        folder = a.cache / f"{key}-{weights}-{a.solver}-{facts['steps']}-steps-{a.draws}-draws"
        folder.mkdir(parents=True, exist_ok=True)
        for index, path in enumerate(paths):
            cell = folder / f"{path.stem}.npz"
            if key in a.problems and not cell.exists():
                store(run(path, damage, prior, replace(options, seed=index)), cell)
                print(f"{title}: {index + 1}/{len(paths)} {path.stem}", flush=True)
        cells = [folder / f"{path.stem}.npz" for path in paths]
        if all(cell.exists() for cell in cells):
            results[title] = held_out([fetch(cell) for cell in cells])
    write_json(results, a.out / "calibration.json")
    done = [key for key, (title, _) in PROBLEMS.items() if title in results]
    count = "" if a.count == COUNT else f" --count {a.count}"
    some = count if len(done) == len(PROBLEMS) else f"{count} --problems {' '.join(done)}"
    half = len(paths) // 2
    ideal = ", ".join(f"{ideal_raw(level, a.draws):.1%}" for level in LEVELS)
    text = (
        f"{len(paths)} pictures, centre crops of {SIDE}×{SIDE}, noise σ = {SIGMA} on [−1, 1]; "
        f"{a.solver}, {facts['steps']} steps, {a.draws} draws. {half} pictures drawn at random "
        f"calibrate, the other {len(paths) - half} judge: mean share of the pixels (all channels) "
        f"whose interval holds the truth, mean ± standard deviation over {SPLITS} such splits. "
        "Raw: the posterior mean ± Φ⁻¹((1 + level)/2) standard deviations of the draws. "
        "Calibrated: conformal risk control, mean ± q √(std² + (1/255)²). Widths are means, on "
        "[−1, 1]. Few draws alone make raw intervals too narrow: "
        f"{a.draws} independent draws of an exact Gaussian posterior would cover {ideal}. With n "
        "pictures the calibration allows a mean loss of (1 - level) - level / n on them, so that "
        "the guarantee holds; the fewer they are, the more it covers."
    )
    command = f"`python benchmarks/calibration.py --images bsds500/val{some}`"
    write_page(a.out / "calibration.md", [text, "", command, "", *lines_of(results)])


if __name__ == "__main__":
    main()
