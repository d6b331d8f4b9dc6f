"""Samplers on a prior whose law is known, under every SDE.

    python benchmarks/samplers.py

Distance from exact draws against evaluations of the denoiser. The prior is a Gaussian mixture on
8x8 pictures: 6 components, means and covariances from squared-exponential kernels. The distance is
the sliced 2-Wasserstein distance (SW2) to exact draws, divided by its floor, the mean SW2 between
two exact sets of the same size: 1 is perfect. Each finished cell is kept in samplers.json, so that
an interrupted run resumes. Writes samplers.md beside it.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tables import RESULTS, read_json, table, write_json, write_page
from torch import Tensor

from scoresde import (
    EDMSDE,
    SDE,
    VESDE,
    VPSDE,
    CosineVPSDE,
    CountingPrior,
    FlowMatchingSDE,
    GaussianMixturePrior,
    SubVPSDE,
)
from solvers import (
    DDIM,
    AnnealedLangevin,
    DPMSolver,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TimeGrid,
)
from solvers.registry import FAST_GRID

F64 = torch.float64
SIDE, COMPONENTS, DIRECTIONS, REFERENCES = 8, 6, 200, 10
BUDGETS = (5, 8, 12, 20, 40, 100, 1000)
EXPENSIVE = 500  # runs of more evaluations than this are made on the first prior only
S_MAX = 80.0
SDES: list[SDE] = [VPSDE(), SubVPSDE(), CosineVPSDE(), VESDE(), EDMSDE(), FlowMatchingSDE()]
KARRAS, LOG_SNR, UNIFORM = (
    TimeGrid(spacing, s_max=S_MAX) for spacing in ("karras", "log_snr", "uniform")
)
LEVELS = AnnealedLangevin().steps

WITHIN: dict[str, Callable[[int], Sampler | None]] = {
    "Heun": lambda nfe: Heun((nfe + 1) // 2, KARRAS),
    "Heun, churn 10": lambda nfe: Heun((nfe + 1) // 2, KARRAS, churn=10.0),
    "DDIM": lambda nfe: DDIM(nfe, KARRAS),
    "ancestral": lambda nfe: DDIM(nfe, KARRAS, eta=1.0),
    "DPM-Solver++": lambda nfe: DPMSolver(nfe, LOG_SNR),
    "DPM-Solver++ SDE": lambda nfe: DPMSolver(nfe, LOG_SNR, stochastic=True),
    "DPM-Solver++ from the mean": lambda nfe: DPMSolver(nfe - 1, FAST_GRID, start="mean"),
    "ODE, RK4": lambda nfe: ProbabilityFlowODE((nfe - 1) // 4 + 1, KARRAS, method="rk4"),
    "predictor-corrector": lambda nfe: PredictorCorrector((nfe + 1) // 2, UNIFORM),
    "Langevin": lambda nfe: (
        AnnealedLangevin(LEVELS, LOG_SNR, corrections=(nfe - 1) // LEVELS) if nfe > LEVELS else None
    ),
}
"""The best sampler for at most this many evaluations; None if they are too few."""

PUBLISHED: dict[str, tuple[str, Sampler]] = {
    "Heun": ("18 steps, Karras, ρ = 7", Heun(18)),
    "Heun, churn 10": (
        "256 steps, churn 40 on [0.05, 50], noise 1.003",
        Heun(256, churn=40.0, churn_min=0.05, churn_max=50.0, churn_noise=1.003),
    ),
    "DDIM": ("50 steps, uniform", DDIM(50, TimeGrid("uniform"))),
    "ancestral": ("100 steps, uniform", DDIM(100, TimeGrid("uniform"), eta=1.0)),
    "DPM-Solver++": ("20 steps, log-SNR", DPMSolver(20)),
    "DPM-Solver++ SDE": ("20 steps, log-SNR", DPMSolver(20, stochastic=True)),
    "DPM-Solver++ from the mean": (
        "20 steps, log-SNR, s from 20 to 0.02",
        DPMSolver(20, FAST_GRID, start="mean"),
    ),
    "ODE, RK4": ("adaptive, rtol = atol = 1e-5", ProbabilityFlowODE(rtol=1e-5, atol=1e-5)),
    "predictor-corrector": ("1000 steps, uniform, 1 correction, snr 0.16", PredictorCorrector()),
    "Langevin": ("18 levels of 100 steps, s from 50 to 0.01, step size 0.2", AnnealedLangevin()),
}


def kernel(length: float, amplitude: float, nugget: float) -> Tensor:
    """Covariance amplitude exp(-|p - q|^2 / (2 length^2)) + nugget between pixels p and q."""
    line = torch.arange(SIDE, dtype=F64)
    pixels = torch.cartesian_prod(line, line)
    return amplitude * (
        -torch.cdist(pixels, pixels).square() / (2 * length**2)
    ).exp() + nugget * torch.eye(len(pixels), dtype=F64)


def mixture(seed: int) -> GaussianMixturePrior:
    g = torch.Generator().manual_seed(seed)
    means = (
        torch.randn(COMPONENTS, SIDE**2, dtype=F64, generator=g)
        @ torch.linalg.cholesky(kernel(2.0, 1.0, 1e-3)).T
    )
    lengths = 1 + 2 * torch.rand(COMPONENTS, dtype=F64, generator=g)
    covariances = torch.stack([kernel(length, 0.6, 0.1) for length in lengths.tolist()])
    weights = (0.5 * torch.randn(COMPONENTS, dtype=F64, generator=g)).softmax(0)
    return GaussianMixturePrior(weights, means.reshape(COMPONENTS, 1, SIDE, SIDE), covariances)


class Judge:
    """SW2 to exact draws, in units of the SW2 between exact draws."""

    def __init__(self, prior: GaussianMixturePrior, n: int) -> None:
        g = torch.Generator().manual_seed(1000)
        directions = torch.randn(SIDE**2, DIRECTIONS, dtype=F64, generator=g)
        self.directions = directions / directions.norm(dim=0)
        self.exact = [self.profile(prior.sample(n, g)) for _ in range(REFERENCES)]
        self.floor = statistics.fmean(
            self.distance(a, b) for a, b in itertools.combinations(self.exact, 2)
        )
        self.scatter = statistics.stdev(
            self.ratio(prior.sample(n, g)) for _ in range(3 * REFERENCES)
        )

    def profile(self, x: Tensor) -> Tensor:
        """The sorted projections, whose root mean square difference is SW2."""
        return (x.flatten(1) @ self.directions).sort(0).values

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> float:
        return float((a - b).square().mean().sqrt())

    def ratio(self, x: Tensor) -> float:
        profile = self.profile(x)
        return statistics.fmean(self.distance(profile, other) for other in self.exact) / self.floor


def runs(sampler: str) -> dict[str, Sampler]:
    """The sampler of each column."""
    within = {str(nfe): WITHIN[sampler](nfe) for nfe in BUDGETS}
    return {column: made for column, made in within.items() if made} | {
        "published": PUBLISHED[sampler][1]
    }


def number(value: float | None) -> str:
    """Three significant digits; ∞ for a run that became infinite or NaN."""
    if value is None:
        return "∞"
    return (
        f"{value:.2f}"
        if value < 10
        else f"{value:.1f}"
        if value < 100
        else f"{value:.0f}"
        if value < 1e4
        else f"{value:.0e}"
    )


def page(cells: dict[str, dict], floors: dict[str, float], scatter: float, n: int) -> list[str]:
    """A table per SDE with a row per sampler, then the published settings."""

    def cell(sampler: str, sde: SDE, column: str) -> list[dict]:
        where = [f"{sampler}/{type(sde).__name__}/{column}/{seed}" for seed in floors]
        return [cells[key] for key in where if key in cells]

    def mean(found: list[dict]) -> str:
        if not found:
            return "–"
        values = [one["ratio"] for one in found]
        return number(None if None in values else statistics.fmean(values))

    floor = ", ".join(f"{value:.4f}" for value in floors.values())
    lines = [
        f"Mixture of {COMPONENTS} Gaussians in {SIDE**2} dimensions, {n} draws, means over "
        f"{len(floors)} priors (seeds {', '.join(floors)}; only the first above {EXPENSIVE} "
        f"evaluations). SW2 over {DIRECTIONS} directions to {REFERENCES} exact sets of {n}, "
        f"divided by the floor, the mean SW2 between these ({floor}); one exact set scatters about "
        f"1 by {scatter:.2f}. Columns: evaluations of the denoiser, at most. Grids: from s = σ/α "
        f"= {S_MAX:g} (VESDE: its 50; from the mean: 20) to each SDE's smallest (from the mean: "
        "0.02); Karras, ρ = 7, for Heun, DDIM, ancestral and RK4, log-SNR for DPM-Solver++ and "
        f"Langevin, uniform in time for predictor-corrector. Langevin always has {LEVELS} levels. "
        "–: not possible with so few evaluations; ∞: infinite or NaN.",
        "",
        "`python benchmarks/samplers.py`",
    ]
    for sde in SDES:
        head = (type(sde).__name__, *map(str, BUDGETS))
        rows = ([name, *(mean(cell(name, sde, str(b))) for b in BUDGETS)] for name in WITHIN)
        lines += ["", *table(head, rows)]
    lines += ["", "## Published settings, on each SDE's whole range of times", ""]
    published = []
    for name, (setting, _) in PUBLISHED.items():
        nfes = [one["nfe"] for sde in SDES for one in cell(name, sde, "published")]
        spread = (
            "–" if not nfes else str(nfes[0]) if len(set(nfes)) == 1 else f"{min(nfes)}–{max(nfes)}"
        )
        label = {"Heun, churn 10": "Heun, churn", "ODE, RK4": "ODE"}.get(name, name)
        values = [mean(cell(name, sde, "published")) for sde in SDES]
        published.append([label, setting, spread, *values])
    head = ("sampler", "setting", "NFE", *(type(sde).__name__ for sde in SDES))
    return [*lines, *table(head, published)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, help="number of priors")
    parser.add_argument("--samplers", nargs="+", default=list(WITHIN), choices=list(WITHIN))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    path = a.out / "samplers.json"
    kept = read_json(path, {"draws": a.draws, "floors": {}, "cells": {}})
    if kept["draws"] != a.draws:
        raise SystemExit(
            f"{path} holds runs of {kept['draws']} draws, not of {a.draws}; move it away first"
        )
    for seed in range(a.seeds):
        prior = mixture(seed)
        judge = Judge(prior, a.draws)
        kept["floors"][str(seed)] = judge.floor
        for name, sde in itertools.product(a.samplers, SDES):
            start = time.perf_counter()
            for column, sampler in runs(name).items():
                key = f"{name}/{type(sde).__name__}/{column}/{seed}"
                first = kept["cells"].get(f"{name}/{type(sde).__name__}/{column}/0")
                if key in kept["cells"] or (first and first["nfe"] > EXPENSIVE):
                    continue
                counted = CountingPrior(prior.with_sde(sde))
                x = sampler.sample(counted, a.draws, generator=torch.Generator().manual_seed(seed))
                if column != "published" and counted.nfe > int(column):
                    raise RuntimeError(f"{name} took {counted.nfe} evaluations, more than {column}")
                kept["cells"][key] = {"nfe": counted.nfe, "ratio": judge.ratio(x)}
                write_json(kept, path)
            print(
                f"prior {seed}: {name}, {type(sde).__name__}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            lines = page(kept["cells"], kept["floors"], judge.scatter, a.draws)
            write_page(a.out / "samplers.md", lines)


if __name__ == "__main__":
    main()
