"""Restoration of photographs: the mean of 8 draws and a single draw of every solver.

    python benchmarks/restoration.py --images PATH/bsds500/val

Point estimators have one estimate instead of draws. Against classical methods. The first 20
pictures by name, centre crops of 160x160, noise sigma = 0.05 on [-1, 1] (0.025 on [0, 1]), circular
blur. LPIPS is computed if its package and weights are available (``pip install lpips``). Each
finished cell is kept in restoration.json, so that an interrupted run resumes. Writes restoration.md
beside it. The particle methods take minutes for each problem: run them with --first.
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from classical import CLASSICAL
from five_problems import SIDE, SIGMA, operators
from peers import optional
from tables import RESULTS, read_json, table, write_json, write_page
from torch import Tensor

from problems import GaussianNoise, Inpainting, InverseProblem, LinearOperator
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop
from scoresde.evaluation import lpips, psnr, ssim
from scoresde.evaluation.conformal import coverage
from scoresde.pipelines.devices import choose_device, open_prior
from solvers import PointEstimator, Posterior, PosteriorSampler, make_solver

NAMES = {
    "DiffPIR": "diffpir",
    "MMPS": "mmps",
    "PiGDM": "pigdm",
    "DPS": "dps",
    "SecondOrderAncestral": "second-order",
    "warm start": "warm-start",
    "DDRM": "ddrm",
    "DDNM+": "ddnm",
    "split Gibbs": "split-gibbs",
    "split Gibbs, MALA": "split-gibbs-mala",
    "annealed Gauss-Newton": "annealed-gauss-newton",
    "annealed Gauss-Newton from noise": "annealed-gauss-newton-noise",
    "TMPD": "tmpd",
    "LGD-MC": "lgd-mc",
    "MPGD": "mpgd",
    "DAPS": "daps",
    "RED-diff": "red-diff",
    "SITCOM": "sitcom",
    "RePaint": "repaint",
    "HQS": "hqs",
    "PnP-ADMM": "pnp-admm",
    "TDS": "tds",
    "MCGDiff": "mcgdiff",
}
TOO_LARGE = {
    "predicted-twist": "takes measurements of at most 1024 numbers, and the smallest here has 4800"
}
"""Named solvers that cannot run on these pictures, and why."""

SOLVERS: dict[str, PosteriorSampler] = {title: make_solver(name) for title, name in NAMES.items()}

INPAINTING_ONLY = {"RePaint"}
LEVEL = 0.9  # of the intervals
COUNT = 20  # pictures


def score(x: Tensor, truth: Tensor) -> dict[str, float | None]:
    perceptual = lpips(x, truth)
    return {
        "psnr": psnr(x, truth).item(),
        "ssim": ssim(x, truth).item(),
        "lpips": None if perceptual is None else perceptual.item(),
    }


def judge(posterior: Posterior, truth: Tensor) -> dict[str, Any]:
    """Scores of the mean; of one draw and of the raw Gaussian intervals, if there are several."""
    posterior = replace(posterior, draws=posterior.draws.cpu())
    cell: dict[str, Any] = {"mean": score(posterior.mean, truth)}
    if len(posterior.draws) > 1:
        cell["draw"] = score(posterior.draws[0], truth)
        cell["coverage"] = coverage(posterior, truth, LEVEL).item()
    return cell


class Results:
    """Cells by (problem, method, picture), stored in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, dict] = read_json(path, {})

    def get(self, *key: str) -> dict | None:
        return self.cells.get("/".join(key))

    def put(self, cell: dict, *key: str) -> None:
        self.cells["/".join(key)] = cell
        write_json(self.cells, self.path)


def classical(
    results: Results, problem: str, operator: LinearOperator, y: Tensor, truth: Tensor, picture: str
) -> None:
    for name, (method, parameters) in CLASSICAL[problem].items():
        for parameter in parameters:
            key = (problem, f"{name}@{parameter:g}", picture)
            if results.get(*key) is None:
                start = time.perf_counter()
                x = method(operator, y, parameter)
                seconds = time.perf_counter() - start
                results.put({"estimate": score(x, truth), "seconds": seconds}, *key)


def lines_of(results: Results, pictures: list[str], draws: int) -> list[str]:
    """A table for each problem, with a row per method: averages over the pictures."""
    lines: list[str] = []

    def mean(cells: list[dict], kind: str, measure: str) -> float:
        return statistics.fmean(cell[kind][measure] for cell in cells)

    for problem in CLASSICAL:
        names: dict[str, list[dict]] = {}
        for key, cell in results.cells.items():
            where, method, picture = key.split("/")
            if where == problem and picture in pictures:
                names.setdefault(method, []).append(cell)
        complete = {name: cells for name, cells in names.items() if len(cells) == len(pictures)}
        best: dict[str, tuple[float, str]] = {}
        for name, cells in complete.items():
            if "@" in name:
                base = name.split("@")[0]
                value = mean(cells, "estimate", "psnr")
                best[base] = max(best.get(base, (-1.0, "")), (value, name))
        rows: list[list[str]] = []
        for base, (value, name) in best.items():
            cells = complete[name]
            parameter = name.split("@")[1]
            label = base if parameter == "0" else f"{base} ({parameter})"
            seconds = statistics.median(cell["seconds"] for cell in cells)
            ssims = f"{mean(cells, 'estimate', 'ssim'):.3f}"
            rows.append([label, f"{value:.2f}", ssims, "", "", "", f"{seconds:.2f}", ""])
        for name, cells in complete.items():
            if "@" not in name:
                timed = [cell["seconds"] for cell in cells if cell["seconds"] is not None]
                scores = [
                    f"{mean(cells, kind, measure):{form}}" if kind in cells[0] else ""
                    for kind in ("mean", "draw")
                    for measure, form in (("psnr", ".2f"), ("ssim", ".3f"))
                ]
                shares = [cell.get("coverage") for cell in cells]
                known = [share for share in shares if share is not None]
                scores.append(f"{statistics.fmean(known):.1%}" if known == shares else "")
                seconds = f"{statistics.median(timed):.1f}" if timed else ""
                cost = f"{cells[0]['nfe']} + {cells[0]['vjps']}"
                rows.append([f"**{name}**", *scores, seconds, cost])
        head = (problem, f"PSNR, mean of {draws}", "SSIM", "PSNR, one draw", "SSIM")
        head = (*head, f"raw {LEVEL:.0%} coverage", "s / picture", "NFE + products / draw")
        lines += [*table(head, rows), ""]
    return lines


def page(results: Results, pictures: list[str], draws: int, facts: str) -> list[str]:
    """All pictures, for methods that have finished them; then those that every method has done."""
    done: dict[str, set[str]] = {}
    for key in results.cells:
        problem, method, picture = key.split("/")
        done.setdefault(f"{problem}/{method}", set()).add(picture)
    common = [p for p in pictures if all(p in those for those in done.values())]
    threads = sorted(
        {cell["threads"] for cell in results.cells.values() if cell.get("threads")}
        or {torch.get_num_threads()}
    )
    lines = [facts.format(threads=" or ".join(map(str, threads))), ""]
    lines += lines_of(results, pictures, draws)
    lines += [f"{name} is missing: it {reason}." for name, reason in TOO_LARGE.items()] + [""]
    if common and len(common) < len(pictures):
        lines += [f"## All methods, on the first {len(common)} of these pictures", ""]
        lines += lines_of(results, common, draws)
    if all(
        cell[kind]["lpips"] is None
        for cell in results.cells.values()
        for kind in ("estimate", "mean", "draw")
        if kind in cell
    ):
        lines.append("LPIPS is left out: its weights were not available for this table.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument(
        "--first",
        type=int,
        default=None,
        help="run only on the first pictures, this many; slow methods get a separate table",
    )
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument(
        "--untimed",
        action="store_true",
        help="do not record seconds, because the machine is busy with other work",
    )
    parser.add_argument(
        "--methods", nargs="+", default=["classical", *SOLVERS], choices=["classical", *SOLVERS]
    )
    parser.add_argument("--prior", default="natural")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    optional("lpips", "pip install lpips, which downloads AlexNet's weights")
    device = choose_device(a.device)
    prior = open_prior(a.prior, device, "auto") if set(a.methods) & set(SOLVERS) else None
    results, paths = Results(a.out / "restoration.json"), list_images(a.images)[: a.count]
    some = "" if a.count == COUNT else f" --count {a.count}"
    facts = (
        f"{len(paths)} pictures, centre crops of {SIDE}×{SIDE}, noise σ = {SIGMA} on [−1, 1] "
        f"(that is {SIGMA / 2} on [0, 1]); averages of PSNR (dB) and SSIM, median seconds for "
        f"{a.draws} draws on {{threads}} threads of {device.type}. HQS and PnP-ADMM give one "
        f"estimate and no draws. Coverage: the share of the pixels whose raw {LEVEL:.0%} Gaussian "
        "interval, from the standard deviation of the draws, holds the truth. Classical parameters "
        "(in brackets) are the best on these same pictures.\n\n"
        f"`python benchmarks/restoration.py --images bsds500/val{some}`"
    )
    for method in a.methods:
        for index, path in enumerate(paths[: a.first]):
            truth = centre_crop(path, SIDE)
            for problem, operator in operators(index).items():
                measurement = InverseProblem(operator, GaussianNoise(SIGMA))
                y = measurement.measure(truth, torch.Generator().manual_seed(index))
                if method == "classical":
                    classical(results, problem, operator, y, truth, path.stem)
                elif method in INPAINTING_ONLY and not isinstance(operator, Inpainting):
                    continue
                elif prior is not None and results.get(problem, method, path.stem) is None:
                    solver = SOLVERS[method]
                    posterior = solver.sample(
                        prior,
                        measurement,
                        y.to(device),
                        1 if isinstance(solver, PointEstimator) else a.draws,
                        generator=torch.Generator().manual_seed(index),
                    )
                    cell = judge(posterior, truth)
                    cell |= {
                        "nfe": posterior.nfe,
                        "vjps": posterior.vjps,
                        "seconds": None if a.untimed else posterior.seconds,
                    }
                    cell["threads"] = None if a.untimed else torch.get_num_threads()
                    results.put(cell, problem, method, path.stem)
            print(f"{method}: {index + 1}/{len(paths)} {path.stem}", flush=True)
        lines = page(results, [p.stem for p in paths], a.draws, facts)
        write_page(a.out / "restoration.md", lines)


if __name__ == "__main__":
    main()
