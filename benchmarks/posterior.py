r"""Draws of exactly known posteriors: our MMPS beside azula's at equal evaluations and products.

    python benchmarks/posterior.py

azula takes part if it can be imported (``pip install --no-deps azula``); otherwise the table has
our rows alone. Both sides share the mixtures, the denoiser, the problems and the scores of this
file. The prior is a mixture of 6 Gaussians with full covariances on 8x8 fields, and the measurement
is a blurred field at a few pixels:

- informative: 32 pixels, noise 0.1, a posterior of nearly one mode;
- ambiguous: 8 pixels, noise 0.5, several modes.

Everything runs in one process on one thread, and the methods take turns. For each problem and each
repetition of it:

- SW2/floor: sliced Wasserstein-2 distance between the draws and as many exact ones, divided by the
  distance between two sets of exact draws;
- mean, cov: :math:`|\hat m - m|/\sqrt{\mathrm{tr}\,C}` and :math:`|\hat C - C|_F/|C|_F`;
- modes: total variation of the weights of the components;
- NFE, products: evaluations of the denoiser, and products with its Jacobian, per draw. Both are
  counted within the denoiser, which is the same code for both sides, so that differences in time
  come from the guidance and the sampler alone.

azula's conjugate gradients spend one product on the result, so that 4 of its iterations and 5 of
ours cost the same. Writes posterior.json and posterior.md.
"""

import argparse
import importlib.metadata
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mixtures import F64, CountedDenoiser, Mixture, random_field
from peers import optional
from tables import RESULTS, table, write_json, write_page
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianMixturePrior
from scoresde.sde import EDMSDE, SDE
from solvers.guidance import MMPS
from solvers.posterior import Guided, PosteriorSampler, PredictedTwistSMC
from solvers.samplers import DDIM, Heun

SIDE, COMPONENTS, DIRECTIONS = 8, 6, 2000
REGIMES = {"informative": "32 pixels, noise 0.1", "ambiguous": "8 pixels, noise 0.5: several modes"}
SCORES = ("sw2", "mean", "cov", "modetv")


def blur_matrix() -> Tensor:
    """A Gaussian blur of 3x3 pixels with mirrored edges, (D, D)."""
    line = torch.exp(-(torch.arange(-1, 2, dtype=F64) ** 2) / (2 * 0.8**2))
    kernel = torch.outer(line, line) / line.sum() ** 2
    images = torch.eye(SIDE**2, dtype=F64).reshape(-1, 1, SIDE, SIDE)
    padded = torch.nn.functional.pad(images, [1] * 4, mode="reflect")
    return torch.nn.functional.conv2d(padded, kernel[None, None]).reshape(SIDE**2, SIDE**2).T


def make_problem(seed: int, regime: str) -> tuple[Mixture, Tensor, Tensor, float, torch.Generator]:
    """Prior, matrix, measurement, noise level, and the generator for what follows."""
    g, D = torch.Generator().manual_seed(seed), SIDE**2
    smooth = torch.linalg.cholesky(random_field(SIDE, 2.0, 1.0, 1e-3))
    mu = torch.randn(COMPONENTS, D, dtype=F64, generator=g) @ smooth.T
    lengths = [1.0 + 2.0 * torch.rand((), generator=g).item() for _ in range(COMPONENTS)]
    cov = torch.stack([random_field(SIDE, length, 0.6, 0.1) for length in lengths])
    prior = Mixture(0.5 * torch.randn(COMPONENTS, dtype=F64, generator=g), mu, cov)
    keep, std = {"informative": (D // 2, 0.1), "ambiguous": (D // 8, 0.5)}[regime]
    A = blur_matrix()[torch.randperm(D, generator=g)[:keep].sort().values]
    x = prior.sample(1, g)[0]
    y = A @ x + std * torch.randn(keep, dtype=F64, generator=g)
    return prior, A, y, std, g


def sliced_distance(x: Tensor, y: Tensor) -> float:
    """Sliced Wasserstein-2 distance of two sets of the same size."""
    g = torch.Generator().manual_seed(0)
    v = torch.randn(x.shape[1], DIRECTIONS, dtype=F64, generator=g)
    v = torch.nn.functional.normalize(v, dim=0)
    return ((x @ v).sort(0).values - (y @ v).sort(0).values).square().mean().sqrt().item()


def score(x: Tensor, reference: Tensor, exact: Mixture) -> dict[str, float]:
    """The scores of draws x (N, D), given exact draws and the exact posterior."""
    x = x.double()
    if not torch.isfinite(x).all():
        return dict.fromkeys(SCORES, math.nan)
    m, C = exact.moments()
    weights = exact.responsibilities(x).mean(0)
    return {
        "sw2": sliced_distance(x, reference),
        "mean": ((x.mean(0) - m).norm() / C.trace().sqrt()).item(),
        "cov": ((torch.cov(x.T) - C).norm() / C.norm()).item(),
        "modetv": 0.5 * (weights - exact.logw.exp()).abs().sum().item(),
    }


class SharedPrior(Prior):
    """The shared denoiser under one of our SDEs: the same arithmetic as azula runs."""

    def __init__(self, denoiser: CountedDenoiser, sde: SDE) -> None:
        super().__init__(sde, (denoiser.mu.shape[1],))
        self.denoiser = denoiser
        self.register_buffer("means", denoiser.mu)  # its dtype is that of the draws

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        time = t[0]  # all of a batch are at one time, as in azula
        return self.denoiser(x_t, self.sde.alpha(time), self.sde.sigma(time))


@dataclass(frozen=True)
class Case:
    """One problem in the forms of both sides.

    Args:
        seed: Seed of the problem.
        mixture: Prior.
        A: Matrix of the measurement, (M, D).
        y: Measurement, (M,).
        std: Standard deviation of the noise.
        exact: Posterior.
        reference: Exact draws of it, (N, D).
        floor: Scores of other exact draws.
    """

    seed: int
    mixture: Mixture
    A: Tensor
    y: Tensor
    std: float
    exact: Mixture
    reference: Tensor
    floor: dict[str, float]

    @property
    def problem(self) -> InverseProblem:
        return InverseProblem(LinearMatrix(self.A), GaussianNoise(self.std))

    def shared(self, dtype: torch.dtype) -> SharedPrior:
        return SharedPrior(CountedDenoiser(self.mixture, dtype), EDMSDE())

    def own(self) -> GaussianMixturePrior:
        return GaussianMixturePrior(self.mixture.logw.exp(), self.mixture.mu, self.mixture.cov)


@dataclass(frozen=True)
class Draws:
    """Draws x (N, D), evaluations and products per draw, and the processor time of all."""

    x: Tensor
    nfe: float
    products: float
    seconds: float


@dataclass(frozen=True)
class Method:
    """A row of the table; ``always``: also in the second precision."""

    side: str
    label: str
    draw: Callable[[Case, int, torch.dtype, int], Draws]
    always: bool = False


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype, which azula takes for its times and schedules."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def ours(
    label: str, solver: PosteriorSampler, *, own: bool = False, always: bool = False
) -> Method:
    """One of our solvers; ``own``: on ``GaussianMixturePrior`` instead of the shared denoiser."""

    def draw(case: Case, n: int, dtype: torch.dtype, seed: int) -> Draws:
        prior = case.own() if own else case.shared(dtype)
        problem, generator = case.problem, torch.Generator().manual_seed(seed)
        start = time.process_time()
        result = solver.sample(prior, problem, case.y[None], n, generator=generator)
        seconds = time.process_time() - start
        if isinstance(prior, SharedPrior) and isinstance(solver, Guided):
            # all draws are in one batch, so the counts of the denoiser are those of a draw
            counted = (prior.denoiser.nfe, prior.denoiser.products)
            assert (result.nfe, result.vjps) == counted, (result.nfe, result.vjps, counted)
        return Draws(result.draws[:, 0], result.nfe, result.vjps, seconds)

    return Method("ours", label, draw, always)


class Azula:
    """The samplers of azula on the shared denoiser.

    Args:
        guidance: The module ``azula.guidance``, which could be imported.
    """

    def __init__(self, guidance: ModuleType) -> None:
        import azula.denoise
        import azula.linalg.covariance
        import azula.noise
        import azula.sample

        class Denoiser(azula.denoise.Denoiser):
            def __init__(self, shared: CountedDenoiser) -> None:
                super().__init__()
                self.shared, self.schedule = shared, azula.noise.VPSchedule()

            def forward(self, x_t: Tensor, t: Tensor, **_: object) -> Any:
                alpha, sigma = self.schedule(t)
                return azula.denoise.DiracPosterior(mean=self.shared(x_t, alpha, sigma))

        self.guidance, self.samplers, self.denoiser = guidance, azula.sample, Denoiser
        self.isotropic = azula.linalg.covariance.IsotropicCovariance

    def method(
        self, label: str, build: Callable[[Case, Any, torch.dtype], Any], *, always: bool = False
    ) -> Method:
        """A row; ``build`` makes a sampler of azula from (case, denoiser, dtype)."""

        def draw(case: Case, n: int, dtype: torch.dtype, seed: int) -> Draws:
            with default_dtype(dtype):
                shared = CountedDenoiser(case.mixture, dtype)
                sampler = build(case, self.denoiser(shared), dtype)
                torch.manual_seed(seed)
                start = time.process_time()
                x = sampler(sampler.init((n, case.A.shape[1]), dtype=dtype))
                return Draws(x, shared.nfe, shared.products, time.process_time() - start)

        return Method("azula", label, draw, always)

    def mmps(
        self, label: str, sampler: str, steps: int, solver: str = "cg", *, always: bool = False
    ) -> Method:
        def build(case: Case, denoiser: Any, dtype: torch.dtype) -> Any:
            A = case.A.to(dtype)
            noise = self.isotropic(torch.as_tensor(case.std**2, dtype=dtype))
            guided = self.guidance.MMPSDenoiser(
                denoiser, case.y.to(dtype), lambda x: x @ A.T, noise, solver=solver, iterations=4
            )
            return getattr(self.samplers, sampler)(guided, steps=steps, silent=True)

        return self.method(label, build, always=always)

    def tds(self, label: str, steps: int) -> Method:
        """TDS with the twist N(y | A x_hat, std^2 I + r^2 A A^T), r^2 = rho^2 / (1 + rho^2)."""

        def build(case: Case, denoiser: Any, dtype: torch.dtype) -> Any:
            A, y = case.A.to(dtype), case.y.to(dtype)
            lam, U = torch.linalg.eigh(A @ A.T)

            def twist(x_hat: Tensor, rho: Tensor) -> Tensor:
                v = case.std**2 + rho**2 / (1 + rho**2) * lam
                return -0.5 * (((y - x_hat @ A.T) @ U) ** 2 / v + v.log()).sum(-1)

            return self.guidance.TDSSampler(denoiser, twist, steps=steps, silent=True)

        return self.method(label, build)


def methods() -> list[Method]:
    """The rows of the table in turn, the unit of time first; azula's only if it is installed."""
    guidance = optional("azula.guidance", "pip install --no-deps azula")
    azula = Azula(guidance) if guidance is not None else None
    mmps5, mmps10 = MMPS(iterations=5), MMPS(iterations=10)
    found = [
        azula and azula.mmps("MMPS(cg, 4), DDPM(256)", "DDPMSampler", 256, always=True),
        ours("MMPS(5), DDIM(256, eta=1)", Guided(mmps5, DDIM(256, eta=1.0)), always=True),
        azula and azula.mmps("MMPS(cg, 4), Heun(128)", "HeunSampler", 128, always=True),
        ours("MMPS(5), Heun(128)", Guided(mmps5, Heun(128)), always=True),
        ours("MMPS(5), Heun(128, churn=40)", Guided(mmps5, Heun(128, churn=40.0)), always=True),
        azula and azula.mmps("MMPS(gmres, 4), DDPM(256)", "DDPMSampler", 256, "gmres"),
        ours("MMPS(10), Heun(64, churn=20)", Guided(mmps10, Heun(64, churn=20.0))),
        azula and azula.mmps("MMPS(cg, 4), DDPM(64)", "DDPMSampler", 64),
        ours("MMPS(5), DDIM(64, eta=1)", Guided(mmps5, DDIM(64, eta=1.0))),
        azula and azula.mmps("MMPS(cg, 4), Heun(24)", "HeunSampler", 24),
        ours("MMPS(5), Heun(24)", Guided(mmps5, Heun(24))),
        ours("MMPS(5), Heun(24), our mixture", Guided(mmps5, Heun(24)), own=True),
        azula and azula.tds("TDS(256)", 256),
        ours("PredictedTwistSMC()", PredictedTwistSMC()),
    ]
    return [method for method in found if isinstance(method, Method)]


def make_case(regime: str, seed: int, n: int, floors: int = 5) -> Case:
    mixture, A, y, std, generator = make_problem(seed, regime)
    exact = mixture.posterior(A, y, std)
    reference = exact.sample(n, generator)
    found = [score(exact.sample(n, generator), reference, exact) for _ in range(floors)]
    floor = {key: statistics.fmean(one[key] for one in found) for key in SCORES}
    return Case(seed, mixture, A, y, std, exact, reference, floor)


def measure(
    cases: list[Case], rows_of: list[Method], n: int, repeats: int, dtype: torch.dtype
) -> list[dict[str, Any]]:
    """One row for each method, with all its runs; the first method is the unit of time."""
    rows: list[dict[str, Any]] = [{"side": m.side, "method": m.label, "runs": []} for m in rows_of]
    for case in cases:
        for repeat in range(repeats):
            for method, row in zip(rows_of, rows, strict=True):
                found = method.draw(case, n, dtype, 1000 * (1 + case.seed) + repeat)
                scores = score(found.x, case.reference, case.exact)
                scores["ratio"] = scores["sw2"] / case.floor["sw2"]
                cost = {"nfe": found.nfe, "products": found.products, "ms": 1e3 * found.seconds / n}
                row["runs"].append({"seed": case.seed, "repeat": repeat} | scores | cost)
        print(f"  problem {case.seed} done", flush=True)
    base = rows[0]["runs"]
    for row in rows:
        runs = row["runs"]
        row |= {
            key: statistics.fmean(run[key] for run in runs)
            for key in (*SCORES, "ratio", "nfe", "products")
        }
        row["ms"] = statistics.median(run["ms"] for run in runs)
        row["time"] = statistics.median(
            run["ms"] / other["ms"] for run, other in zip(runs, base, strict=True)
        )
        within = [0.0]
        if repeats > 1:
            within = [
                statistics.variance(run["ratio"] for run in runs if run["seed"] == case.seed)
                for case in cases
            ]
        row["ratio_error"] = (statistics.fmean(within) / len(runs)) ** 0.5
    return rows


def denoiser_difference(case: Case) -> float:
    """Largest difference of our mixture's denoiser from the shared one, over the largest entry."""
    shared, own, gap = case.shared(F64), case.own(), 0.0
    for s in (0.01, 0.3, 1.0, 10.0):
        u = case.reference + s * torch.randn(
            case.reference.shape, dtype=F64, generator=torch.Generator().manual_seed(0)
        )
        expected = own.denoise(u, s)
        gap = max(gap, float((shared.denoise(u, s) - expected).abs().max() / expected.abs().max()))
    return gap


def unit_of_time(rows: list[dict[str, Any]]) -> str:
    return "azula's DDPM" if rows[0]["side"] == "azula" else "our DDIM"


def lines_of(rows: list[dict[str, Any]], floor: dict[str, float]) -> list[str]:
    head = ("side", "method", "SW2/floor", "mean", "cov", "modes", "NFE", "products", "ms / draw")
    exact = [f"{floor[key]:.3f}" for key in ("mean", "cov", "modetv")]
    cells: list[list[str]] = [["", "exact draws: the floor", "1", *exact, "", "", "", ""]]
    for row in rows:
        error = f" ± {row['ratio_error']:.2f}" if row["ratio_error"] else ""
        scores = [f"{row[key]:.3f}" for key in ("mean", "cov", "modetv")]
        cost = [f"{row['nfe']:.0f}", f"{row['products']:.0f}"]
        times = [f"{row['ms']:.2f}", f"{row['time']:.2f}"]
        cells.append(
            [row["side"], row["method"], f"{row['ratio']:.2f}{error}", *scores, *cost, *times]
        )
    return table((*head, f"time, {unit_of_time(rows)} = 1"), cells)


def page(results: dict[str, Any]) -> list[str]:
    facts = results["facts"]
    unit = unit_of_time(results["parts"][0]["rows"])
    versions = f"torch {facts['torch']}" + (f", azula {facts['azula']}" if facts["azula"] else "")
    lines = [
        f"{facts['draws']} draws of each of {facts['problems']} problems (seeds 0 to "
        f"{facts['problems'] - 1}), repetitions of each: {facts['repeats']}, the methods in turns; "
        f"{versions}, processor time on {facts['threads']} thread of a busy CPU. Errors are "
        "averages of all runs, with the standard error over repetitions if there are several. "
        "Times are medians of all runs, and the last column is the median of the ratios to "
        f"{unit} of the same turn. SW2/floor: 1 is as good as exact draws.",
        "",
        "Both sides call the same denoiser, the exact one of benchmarks/mixtures.py, in the same "
        "floating type, and are counted within it. Only “our mixture” runs on "
        "`GaussianMixturePrior`, in float64, which differs from it by at most "
        f"{facts['denoiser_difference']:.0e} of the largest entry. Each side keeps its own times: "
        "azula a linear VP schedule, ours the default grid. azula's CG spends a product on the "
        "result, so MMPS(cg, 4) and our MMPS(5) both spend at most 5 per evaluation; ours spends "
        "fewer where all draws have converged.",
        "",
        f"`{results['command']}`",
    ]
    for part in results["parts"]:
        lines += ["", f"**{part['regime']}**, {part['dtype']}: {REGIMES[part['regime']]}", ""]
        lines += lines_of(part["rows"], part["floor"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--problems", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--dtypes",
        nargs="+",
        default=["float32"],
        choices=["float64", "float32"],
        help="all methods in the first",
    )
    parser.add_argument(
        "--only", nargs="+", help="methods whose name contains one of these, and the baseline"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    torch.set_num_threads(1)
    found = methods()
    chosen = [
        m
        for m in found
        if not a.only or m is found[0] or any(word in f"{m.side} {m.label}" for word in a.only)
    ]
    with_azula = any(m.side == "azula" for m in found)
    cases = {
        regime: [make_case(regime, seed, a.draws) for seed in range(a.problems)]
        for regime in REGIMES
    }
    warm_up = cases["informative"][0]
    for method in chosen:
        method.draw(warm_up, 2, F64, 0)
    facts = {
        "torch": torch.__version__,
        "azula": importlib.metadata.version("azula") if with_azula else None,
        "threads": torch.get_num_threads(),
        "draws": a.draws,
        "problems": a.problems,
        "repeats": a.repeats,
        "denoiser_difference": max(
            denoiser_difference(case) for of_regime in cases.values() for case in of_regime
        ),
    }
    command = (
        f"python benchmarks/posterior.py --draws {a.draws} --problems {a.problems} "
        f"--repeats {a.repeats} --dtypes {' '.join(a.dtypes)}"
    )
    results: dict[str, Any] = {"facts": facts, "command": command, "parts": []}
    a.out.mkdir(parents=True, exist_ok=True)
    for dtype in a.dtypes:
        for regime, of_regime in cases.items():
            print(f"{regime}, {dtype}", flush=True)
            rows_of = [m for m in chosen if m.always or dtype == a.dtypes[0]]
            rows = measure(of_regime, rows_of, a.draws, a.repeats, getattr(torch, dtype))
            floor = {key: statistics.fmean(case.floor[key] for case in of_regime) for key in SCORES}
            results["parts"].append(
                {"regime": regime, "dtype": dtype, "floor": floor, "rows": rows}
            )
            print("\n".join(lines_of(rows, floor)), flush=True)
            write_json(results, a.out / "posterior.json")
            write_page(a.out / "posterior.md", page(results))


if __name__ == "__main__":
    main()
