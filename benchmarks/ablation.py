"""What each step brought: seconds and PSNR of restorations as the settings change one by one.

    python benchmarks/ablation.py --images PATH/bsds500/val --new PRIOR.safetensors

The five problems of restoration.py on the first pictures, 160x160. A row of ROWS says which prior
and which solver; the rows take turns at each measurement, so that drifts of the machine hit all of
them. Further priors, such as those of other data or of more hours of training, are given by --with
LABEL=FILE and run with the default solver. Each finished cell is kept in ablation.json, so that an
interrupted run resumes. Writes ablation.md beside it.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from five_problems import PROBLEMS, SIDE, SIGMA, operators
from peers import skip
from rates import median_ratio
from speed import THEN, checkout
from tables import RESULTS, Cells, short_command, table, weights_id, write_page
from torch import Tensor

from problems import GaussianNoise, InverseProblem
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop
from scoresde.evaluation import psnr
from scoresde.evaluation.conformal import coverage
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.settings import DEFAULT_SOLVER
from scoresde.priors.base import Prior
from scoresde.priors.score import ScorePrior
from scoresde.training.compiling import compilation_pays
from solvers import MMPS, SAMPLERS, Guided, PointEstimator, PosteriorSampler, make_solver
from solvers.presets import RESTORATION_GRID


@dataclass(frozen=True)
class Row:
    """One setting.

    Args:
        name: What the row is called; kept cells are found by it.
        prior: "old" for the prior of the older commit, "new" for that of --new, or a file.
        solver: Makes the solver.
        precision: Precision inside the network.
        channels_last: Memory format of the network.
        compiled: Whether the denoiser is compiled.
    """

    name: str
    prior: str = "old"
    solver: Callable[[], PosteriorSampler] = field(default=lambda: mmps(3))
    precision: str = "auto"
    channels_last: bool = True
    compiled: bool = False


def mmps(iterations: int) -> PosteriorSampler:
    """MMPS as it was the default, which made 3 conjugate gradients in each of 20 steps."""
    return Guided(MMPS(iterations), SAMPLERS["ancestral"](20, RESTORATION_GRID))


def named(name: str, steps: int | None = None) -> Callable[[], PosteriorSampler]:
    return lambda: make_solver(name, steps)


ROWS = [
    Row("old network, MMPS ancestral, float32", precision="fp32", channels_last=False),
    Row("channels last", precision="fp32"),
    Row("bfloat16"),
    Row("compiled", compiled=True),
    Row("MMPS, 2 conjugate gradients", solver=lambda: mmps(2)),
    Row("MMPS, 1 conjugate gradient", solver=lambda: mmps(1)),
    Row("warm start", solver=named("warm-start")),
    Row("warm start, 6 steps", solver=named("warm-start", 6)),
    Row("new network, MMPS ancestral", "new"),
    Row("new network, warm start", "new", named("warm-start")),
    Row("new network, warm start, 6 steps", "new", named("warm-start", 6)),
    Row("new network, compiled, warm start", "new", named("warm-start"), compiled=True),
    Row("new network, HQS (no draws)", "new", named("hqs")),
]


def build(row: Row, path: str, device: torch.device, draws: int) -> tuple[PosteriorSampler, Prior]:
    """Solver and prior of a row, warmed up at the shapes of the measurements."""
    solver, prior = row.solver(), open_prior(path, device, row.precision)
    if not row.channels_last:
        prior.to(memory_format=torch.contiguous_format)
    n = 1 if isinstance(solver, PointEstimator) else draws
    x = torch.zeros(n, 3, SIDE, SIDE, device=device)
    if row.compiled:
        assert isinstance(prior, ScorePrior)
        prior = prior.compiled()
        # a batch of one, and gradients, are compiled when they first occur
        problem = InverseProblem(operators(0)[PROBLEMS[-1]], GaussianNoise(SIGMA))
        solver.sample(prior, problem, problem.measure(x[:1].cpu()).to(device), n)
    else:
        with torch.no_grad():
            prior.denoise(x, 0.5)
    return solver, prior


def measure(
    solver: PosteriorSampler,
    prior: Prior,
    problem: InverseProblem,
    y: Tensor,
    truth: Tensor,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Seconds, PSNR of the mean, and coverage of the raw 90 % intervals."""
    n = 1 if isinstance(solver, PointEstimator) else draws
    generator, start = torch.Generator().manual_seed(seed), time.perf_counter()
    posterior = solver.sample(prior, problem, y, n, generator=generator)
    mean = posterior.mean.cpu()
    seconds = time.perf_counter() - start
    truth_there = truth.to(posterior.draws.device)
    return {
        "seconds": seconds,
        "psnr": psnr(mean, truth).item(),
        "coverage": coverage(posterior, truth_there, 0.9).item() if n > 1 else None,
        "nfe": posterior.nfe,
        "vjps": posterior.vjps,
    }


def rows_of(cells: Cells, keys: dict[str, str], measurements: list[str]) -> list[list[str]]:
    """A row of the table for each setting that has done all measurements."""
    done: list[tuple[str, list[dict[str, Any]]]] = []
    for name, key in keys.items():
        some = [cells.get(f"{key}/{one}") for one in measurements]
        if all(some):
            done.append((name, some))
    lines = []
    for name, some in done:
        seconds, first = ([one["seconds"] for one in side] for side in (some, done[0][1]))
        quality = statistics.fmean(one["psnr"] for one in some)
        shares = [one["coverage"] for one in some if one["coverage"] is not None]
        lines.append(
            [
                name,
                key_weights(keys[name]),
                f"{statistics.median(seconds):.2f}",
                f"{median_ratio(first, seconds):.2f}",
                f"{quality:.2f}",
                f"{quality - statistics.fmean(one['psnr'] for one in done[0][1]):+.2f}",
                f"{statistics.fmean(shares):.1%}" if shares else "",
                f"{some[0]['nfe']} + {some[0]['vjps']}",
            ]
        )
    return lines


def key_weights(key: str) -> str:
    """The weights that a key names."""
    return key.split("/")[1]


def page(
    cells: Cells, keys: dict[str, str], measurements: list[str], facts: str, command: str
) -> list[str]:
    head = ("setting", "weights", "s / picture", "first / this", "PSNR", "gain")
    head = (*head, "raw 90 % coverage", "NFE + products / draw")
    return [facts, "", f"`{command}`", "", *table(head, rows_of(cells, keys, measurements))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=5, help="the first by name")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--new", default="natural", help="the new prior, a name or a file")
    parser.add_argument("--old", default=None, help="file of the old prior, if not from --commit")
    parser.add_argument("--commit", default=THEN, help="commit whose prior is the old one")
    parser.add_argument(
        "--with", nargs="+", default=[], dest="others", metavar="LABEL=FILE", help="more priors"
    )
    parser.add_argument("--rows", nargs="+", type=int, default=None, help="these only, from 1")
    parser.add_argument("--problems", nargs="+", type=int, default=None, help="these, from 1")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(a.threads)
    device, cells = choose_device(a.device), Cells(a.out / "ablation.json")
    rows = list(ROWS)
    for given in a.others:
        label, equals, file = given.rpartition("=")
        if not (label and equals):
            parser.error(f"--with takes LABEL=FILE, got {given!r}")
        rows.append(Row(label, file, named(DEFAULT_SOLVER)))
    rows = rows if a.rows is None else [rows[i - 1] for i in a.rows]
    problems = PROBLEMS if a.problems is None else [PROBLEMS[i - 1] for i in a.problems]
    paths = list_images(a.images)[: a.pictures]
    measurements = [f"{problem}/{path.stem}" for path in paths for problem in problems]
    with ExitStack() as stack:
        old = a.old
        if old is None:
            folder = stack.enter_context(checkout(a.commit))
            old = str(folder / "scoresde" / "weights" / "natural.safetensors")
        files = {"old": old, "new": a.new}
        keys, made = {}, {}
        for row in rows:
            path = files.get(row.prior, row.prior)
            key = f"{row.name}/{weights_id(path)}/{device.type}-{a.threads}-{a.draws}"
            if not all(f"{key}/{one}" in cells for one in measurements):
                if row.compiled and not compilation_pays(device, 10**9):
                    skip(row.name, "there is no compiler", "install g++, or Triton on a GPU")
                    continue
                made[row.name] = build(row, path, device, a.draws)
                print(f"prepared: {row.name}", flush=True)
            keys[row.name] = key
    command = short_command("ablation.py", sys.argv[1:])
    facts = (
        f"{len(problems)} problem{'s' if len(problems) > 1 else ''} on {len(paths)} picture"
        f"{'s' if len(paths) > 1 else ''}, centre crops of {SIDE}×{SIDE}, noise σ = {SIGMA} on "
        f"[−1, 1], {a.draws} draws on {a.threads} thread{'s' if a.threads > 1 else ''} of "
        f"{device.type}. Seconds are medians; first / this is the median of the ratios, measured "
        "in turns; PSNR is that of the mean of the draws in dB, the gain that over the first row. "
        "Each row of MMPS up to the warm start differs from the one in bfloat16 by what it names. "
        "Weights: the beginning of their SHA-256."
    )
    for index, path in enumerate(paths):
        truth = centre_crop(path, SIDE)
        for name, operator in operators(index).items():
            if name not in problems:
                continue
            problem = InverseProblem(operator, GaussianNoise(SIGMA))
            y = problem.measure(truth, torch.Generator().manual_seed(index)).to(device)
            for row, (solver, prior) in made.items():
                key = f"{keys[row]}/{name}/{path.stem}"
                if key not in cells:
                    cells.put(key, measure(solver, prior, problem, y, truth, a.draws, index))
            print(f"{index + 1}/{len(paths)} {path.stem}, {name}", flush=True)
    write_page(a.out / "ablation.md", page(cells, keys, measurements, facts, command))


if __name__ == "__main__":
    main()
