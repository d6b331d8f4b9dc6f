"""Calibrated intervals on photographs that the calibration has not seen: coverage promised, coverage held, before and after.

    python benchmarks/calibration.py --images PATH/bsds500/val

Centre crops of 96x96 of the 100 pictures, noise sigma = 0.05 on [-1, 1], circular blur, MMPS as it comes, 8 draws. The sorted scores
of each picture are kept under --cache, one file for each problem and picture, so that an interrupted run goes on where it stopped, and
several processes may share the work by --problems. Then 100 random halves calibrate and the other halves judge. Writes calibration.json,
the results alone, and calibration.md beside it.
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

from problems import GaussianNoise
from scoresde.data.datasets import list_images
from scoresde.evaluation.conformal import LEVELS, ScoreTable, pictures_needed
from scoresde.files import write_atomically, write_json
from scoresde.pipelines.calibrate import PictureScores, centre_crop, score_picture
from scoresde.pipelines.named_problems import ImageContext, ProblemOptions, build_operator
from scoresde.pipelines.restore import RestoreOptions, choose_device, make_measurement, open_prior
from scoresde.priors.base import Prior

SIDE, SIGMA, SPLITS = 96, 0.05, 100

PROBLEMS = {
    "random": ("random 70 %", ProblemOptions("inpaint", random=0.7)),
    "blur": ("Gaussian blur 1.6", ProblemOptions("deblur", gaussian=1.6, boundary="circular")),
    "super-resolution": ("×4 bicubic", ProblemOptions("super-resolve", scale=4.0)),
}


def run(path: Path, damage: ProblemOptions, prior: Prior, options: RestoreOptions) -> PictureScores:
    """One picture, measured and restored as ``scoresde calibrate`` does it."""
    truth, generator = centre_crop(path, SIDE), torch.Generator().manual_seed(options.seed)
    operator, _ = build_operator(damage, ImageContext(path, SIDE, SIDE, True, generator))
    measurement = make_measurement(
        operator, GaussianNoise(SIGMA), truth, True, prior, options.prior, generator
    )
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
    """For each level: coverage and mean width on the halves held out, raw and calibrated, with their standard deviations over splits."""
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
    """Coverage of mean ± z std over n draws of an exact Gaussian posterior: (x - mean) / std is sqrt(1 + 1/n) times Student's t, n - 1."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    return 2 * float(student.cdf(z / math.sqrt(1 + 1 / draws), draws - 1)) - 1


def table(results: dict[str, Any]) -> str:
    lines = [
        "| problem | level | raw coverage | calibrated | scale q | raw width | calibrated width |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        for row in rows:
            raw, calibrated = (
                f"{row[kind]:.1%} ± {row[f'{kind}_std']:.1%}" for kind in ("raw", "calibrated")
            )
            widths = f"{row['raw_width']:.3f} | {row['calibrated_width']:.3f}"
            lines.append(
                f"| {name} | {row['level']:.0%} | {raw} | **{calibrated}** | {row['scale']:.2f} ± {row['scale_std']:.2f} | {widths} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument(
        "--steps", type=int, default=None, help="of MMPS; its own default otherwise"
    )
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
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    prior = open_prior(a.prior, choose_device(a.device), "auto")
    paths = list_images(a.images)[: a.count]
    results: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for key, (title, damage) in PROBLEMS.items():
        options = RestoreOptions(
            solver="mmps", steps=a.steps, samples=a.draws, prior=a.prior, device=a.device
        )
        facts = options.procedure(damage, GaussianNoise(SIGMA))
        weights = facts["prior_file"].removeprefix("sha256:")
        folder = a.cache / f"{key}-{weights}-{facts['steps']}-steps-{a.draws}-draws"
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
    some = "" if len(done) == len(PROBLEMS) else f" --problems {' '.join(done)}"
    half = len(paths) // 2
    ideal = ", ".join(f"{ideal_raw(level, a.draws):.1%}" for level in LEVELS)
    text = (
        f"{len(paths)} pictures, centre crops of {SIDE}×{SIDE}, noise σ = {SIGMA} on [−1, 1]; MMPS, {facts['steps']} steps, "
        f"{a.draws} draws. {half} pictures drawn at random calibrate, the other {len(paths) - half} judge: mean share of the pixels (all "
        f"channels) whose interval holds the truth, mean ± standard deviation over {SPLITS} such splits. Raw: the posterior mean ± "
        "Φ⁻¹((1 + level)/2) standard deviations of the draws. Calibrated: conformal risk control, mean ± q √(std² + (1/255)²). Widths "
        f"are means, on [−1, 1]. Few draws alone make raw intervals too narrow: {a.draws} draws of an exact Gaussian posterior would "
        f"cover {ideal}.\n\n`python benchmarks/calibration.py --images bsds500/val{some}`\n\n"
    )
    (a.out / "calibration.md").write_text(text + table(results))


if __name__ == "__main__":
    main()
