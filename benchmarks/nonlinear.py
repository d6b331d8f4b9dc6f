"""Strongly nonlinear problems: phase retrieval, blur of linear light, and clipped highlights.

    python benchmarks/nonlinear.py --digits mnist.npz

Phase retrieval (oversampling 2) of digits of 28 x 28 by the prior `mnist`, and of 64 x 64 crops of
the photographs of scikit-image by the prior `natural`; gamma-blur and hdr of the same crops; noise
0.05 on [-1, 1]. Without --digits the digits are drawn from the prior. Each finished cell is kept in
nonlinear.json, so that an interrupted run resumes. Writes nonlinear.md beside it.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import numpy as np
import torch
from tables import RESULTS, Cells, table, write_page
from torch import Tensor

from problems import (
    Clipping,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    Operator,
    PhaseRetrieval,
)
from scoresde import Prior, load_prior
from scoresde.evaluation import psnr
from solvers import DAPS, TimeGrid, make_solver
from solvers.posterior import AnnealedGaussNewton, PosteriorSampler
from solvers.posterior.trust import residual_sizes
from solvers.scale import OfData

PICTURES = ("astronaut", "coffee", "chelsea")
SIZE, SIGMA, RUNS, GOOD = 64, 0.05, 4, 25.0

Solvers = dict[str, Callable[[], PosteriorSampler]]


def named(*names: str) -> Solvers:
    return {name: (lambda name=name: make_solver(name)) for name in names}  # type: ignore[misc]


def from_noise() -> PosteriorSampler:
    grid = TimeGrid(s_max=OfData(10.0), s_min=OfData(0.1))
    return AnnealedGaussNewton(80, start="noise", grid=grid)


PHASE = named("mmps", "dps", "daps") | {
    "daps, 100 steps": lambda: make_solver("daps", 100),
    **named("split-gibbs-mala", "annealed-gauss-newton"),
    "annealed-gauss-newton, from noise": from_noise,
}
"""The first three are what there was before: their settings have not changed."""
DIGITS = PHASE | {"daps, as published": DAPS.published}
POINTWISE = named(
    "warm-start", "mmps", "dps", "daps", "split-gibbs-mala", "annealed-gauss-newton", "hqs"
)


def digits(path: Path | None, prior: Prior, count: int) -> Tensor:
    """Test digits of a file, or draws of the prior, (count, 1, 28, 28) on [-1, 1]."""
    if path is None:
        from solvers import DDIM

        generator = torch.Generator().manual_seed(0)
        return DDIM(50).sample(prior, count, generator=generator).clamp(-1, 1)
    images = np.load(path)["test_images"][:count].reshape(count, 1, 28, 28)
    return torch.from_numpy(images).float() / 127.5 - 1


def crops() -> Tensor:
    """The middle of the photographs, scaled down, (n, 3, 64, 64) on [-1, 1]."""
    import skimage.data  # slow to import
    from skimage.transform import resize

    found = []
    for name in PICTURES:
        picture = getattr(skimage.data, name)()
        side = min(picture.shape[:2])
        top, left = ((n - side) // 2 for n in picture.shape[:2])
        square = picture[top : top + side, left : left + side]
        small = resize(square, (2 * SIZE, 2 * SIZE), anti_aliasing=True)
        found.append(small[SIZE // 2 : -SIZE // 2, SIZE // 2 : -SIZE // 2])
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() * 2 - 1


def measure(
    solver: PosteriorSampler, prior: Prior, operator: Operator, x: Tensor, runs: int
) -> dict[str, Any]:
    """Restore each picture some times, and compare with the truth up to what y leaves open."""
    problem = InverseProblem(operator, GaussianNoise(SIGMA))
    y = problem.measure(x, torch.Generator().manual_seed(0))
    start = time.process_time()
    posterior = solver.sample(prior, problem, y, runs, generator=torch.Generator().manual_seed(1))
    seconds = time.process_time() - start
    draws, found = posterior.draws.clamp(-1, 1), {}
    turned = aligned = draws
    if isinstance(operator, PhaseRetrieval):
        aligned = operator.align(draws, x)
        four = operator.symmetries(draws)
        best = (four - x).square().sum((-2, -1)).argmin(0)[None, ..., None, None]
        turned = four.gather(0, best.expand(1, *draws.shape))[0]
    for name, images in (("turned", turned), ("aligned", aligned)):
        found[name] = [
            [float(psnr(one[None], truth[None])) for one, truth in zip(row, x, strict=True)]
            for row in images
        ]
    mean = aligned.mean(0)
    return found | {
        "mean": [float(psnr(one[None], truth[None])) for one, truth in zip(mean, x, strict=True)],
        "residuals": residual_sizes(problem, y, draws).tolist(),
        "truth": residual_sizes(problem, y, x[None])[0].tolist(),
        "nfe": posterior.nfe,
        "vjps": posterior.vjps,
        "seconds": seconds / (len(x) * runs),
    }


def phase_row(name: str, cell: dict[str, Any]) -> list[str]:
    turned, aligned, residuals = (
        torch.tensor(cell[key]) for key in ("turned", "aligned", "residuals")
    )
    best = aligned.gather(0, residuals.argmin(0)[None])[0]
    excess = (residuals - torch.tensor(cell["truth"])).amin(0).mean()
    return [
        name,
        f"{turned.mean():.1f}",
        f"{aligned.mean():.1f}",
        f"{(aligned > GOOD).float().mean():.0%}",
        f"{best.mean():.1f}",
        f"{(best > GOOD).float().mean():.0%}",
        f"{excess:+.3f}",
        f"{cell['nfe']}",
        f"{cell['vjps']}",
        f"{cell['seconds']:.1f}",
    ]


def pointwise_row(name: str, cell: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{torch.tensor(cell['aligned']).mean():.2f}",
        f"{torch.tensor(cell['mean']).mean():.2f}",
        f"{torch.tensor(cell['residuals']).mean():.2f}",
        f"{cell['nfe']}",
        f"{cell['vjps']}",
        f"{cell['seconds']:.1f}",
    ]


PHASE_HEAD = ["solver", "turned", "aligned", "share > 25 dB", "best of 4", "of these > 25 dB",
              "excess", "NFE", "VJP", "s"]  # fmt: skip
POINTWISE_HEAD = ["solver", "draw", "mean of 4", "residual", "NFE", "VJP", "s"]

CASES: dict[str, tuple[str, Callable[[], Operator], Solvers]] = {
    "phase retrieval of digits": ("mnist", PhaseRetrieval, DIGITS),
    "phase retrieval of photographs": ("natural", PhaseRetrieval, PHASE),
    "gamma-blur": (
        "natural",
        lambda: Gamma(1 / 2.2) @ GaussianBlur(1.6) @ Gamma(2.2),
        POINTWISE,
    ),
    "hdr": ("natural", lambda: Clipping(2.0), POINTWISE),
}


def page(cells: Cells) -> list[str]:
    """The tables of what is finished."""
    lines = [
        "# Strongly nonlinear problems",
        "",
        "Made by `python benchmarks/nonlinear.py`, noise 0.05 on [-1, 1], 4 runs of each picture. "
        "PSNR in dB. Phase retrieval at oversampling 2: *turned* takes the best of the picture and "
        "its three equivalents (half a turn, the sign), *aligned* shifts it as well, as far as its "
        "margin is dark; *best of 4* is the run with the smallest residual, which needs no truth, "
        "and *excess* is how much larger than that of the truth this residual is, in units of the "
        "noise. `s` are seconds of one core for each run.",
    ]
    for case, (prior, _, solvers) in CASES.items():
        phase = case.startswith("phase")
        done = {name: cells.get(f"{case}/{name}") for name in solvers}
        rows = [
            (phase_row if phase else pointwise_row)(name, cell)
            for name, cell in done.items()
            if cell
        ]
        if rows:
            lines += ["", f"## {case[:1].upper()}{case[1:]}, prior `{prior}`", ""]
            lines += table(PHASE_HEAD if phase else POINTWISE_HEAD, rows)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", type=Path, help="mnist.npz; without it, draws of the prior")
    parser.add_argument("--count", type=int, default=6, help="digits")
    parser.add_argument("--only", help="the case whose name begins so")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.out / "nonlinear.json")
    for case, (name, operator, solvers) in CASES.items():
        if arguments.only and not case.startswith(arguments.only):
            continue
        prior = load_prior(name)
        x = digits(arguments.digits, prior, arguments.count) if name == "mnist" else crops()
        for label, build in solvers.items():
            if (key := f"{case}/{label}") not in cells:
                runs = 1 if label == "hqs" else RUNS
                cells.put(key, measure(build(), prior, operator(), x, runs))
                print(key, f"{cells.get(key)['seconds']:.1f} s a run", flush=True)
                write_page(arguments.out / "nonlinear.md", page(cells))
    write_page(arguments.out / "nonlinear.md", page(cells))


if __name__ == "__main__":
    main()
