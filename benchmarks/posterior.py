r"""Draws of exactly known posteriors: our MMPS beside azula's at equal network evaluations and products, and what weighs its draws.

    python benchmarks/posterior.py --peer azula_bench.py

azula must be importable; --peer is the script that measures it, whose mixtures, denoiser, problems and scores both sides share here. The
prior is a mixture of 6 Gaussians of full covariance on 8x8 fields, the measurement a blurred field at a few pixels:

- informative: 32 pixels, noise 0.1, a posterior of nearly one mode;
- ambiguous: 8 pixels, noise 0.5, several modes.

Everything runs in one process on one thread, every method once before the first comes again. For each problem and each repetition of it:

- SW2/floor: sliced Wasserstein-2 between the draws and as many exact ones, over that between exact draws and exact draws;
- mean, cov: :math:`|\hat m - m|/\sqrt{\mathrm{tr}\,C}` and :math:`|\hat C - C|_F/|C|_F`; modes: total variation of the components' weights;
- NFE, products: evaluations of the denoiser, and products with its Jacobian, per draw. Both are counted within the denoiser, which is the
  same code for both sides, so that what differs in time is the guidance and the sampler alone.

azula's conjugate gradients spend one product for the answer, so that 4 iterations of theirs and 5 of ours cost the same.
Writes posterior.json and posterior.md.
"""

import argparse
import importlib.metadata
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem, LinearMatrix
from scoresde.files import write_json
from scoresde.priors.base import Prior
from scoresde.priors.mixture import GaussianMixturePrior
from scoresde.sde import EDMSDE, SDE
from solvers.guidance import MMPS
from solvers.posterior import Guided, PosteriorSampler, PredictedTwistSMC
from solvers.samplers import DDIM, Heun

RESULTS = Path(__file__).parent / "results"
F64 = torch.float64
REGIMES = {"informative": "32 pixels, noise 0.1", "ambiguous": "8 pixels, noise 0.5: several modes"}
SCORES = ("sw2", "mean", "cov", "modetv")
BASELINE = "MMPS(cg, 4), DDPM(256)"


def import_peer(path: Path) -> ModuleType:
    """azula_bench.py as a module; ends the program with one line where that cannot be."""
    spec = importlib.util.spec_from_file_location("azula_bench", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise SystemExit(f"no script {path}: --peer names azula_bench.py")
    peer = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(peer)
    except ImportError as error:
        raise SystemExit(
            f"azula is missing here ({error}): pip install --no-deps azula, into an environment outside the repository"
        ) from None
    return peer


class SharedPrior(Prior):
    """The denoiser of the peer's script under one of our SDEs: the very arithmetic that azula is given."""

    def __init__(self, denoiser: Any, sde: SDE, size: int) -> None:
        super().__init__(sde, (size,))
        self.denoiser = denoiser
        self.register_buffer("means", denoiser.mu)  # whose type is that of the draws

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t[0]).mean  # all of a batch are at one time, as there


@dataclass(frozen=True)
class Case:
    """One problem, in the forms of both sides. exact: the posterior; reference: exact draws of it; floor: scores of other exact draws."""

    seed: int
    peer: ModuleType
    mixture: Any
    A: Tensor
    y: Tensor
    std: float
    exact: Any
    reference: Tensor
    floor: dict[str, float]

    @property
    def problem(self) -> InverseProblem:
        return InverseProblem(LinearMatrix(self.A), GaussianNoise(self.std))

    def shared(self, dtype: torch.dtype) -> SharedPrior:
        sde = EDMSDE()
        return SharedPrior(
            self.peer.GMMDenoiser(self.mixture, lambda t: (sde.alpha(t), sde.sigma(t)), dtype),
            sde,
            self.A.shape[1],
        )

    def own(self) -> GaussianMixturePrior:
        return GaussianMixturePrior(self.mixture.logw.exp(), self.mixture.mu, self.mixture.cov)


@dataclass(frozen=True)
class Draws:
    """x: (N, D). seconds: processor time of all."""

    x: Tensor
    nfe: float
    products: float
    seconds: float


@dataclass(frozen=True)
class Method:
    """always: also in the second precision."""

    side: str
    label: str
    draw: Callable[[Case, int, torch.dtype, int], Draws]
    always: bool = False


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """azula's times and schedules take torch's default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def ours(
    label: str, solver: PosteriorSampler, *, own: bool = False, always: bool = False
) -> Method:
    """own: on GaussianMixturePrior, whose arithmetic is another, rather than on the shared denoiser."""

    def draw(case: Case, n: int, dtype: torch.dtype, seed: int) -> Draws:
        prior, problem, generator = (
            case.own() if own else case.shared(dtype),
            case.problem,
            torch.Generator().manual_seed(seed),
        )
        start = time.process_time()
        result = solver.sample(prior, problem, case.y[None], n, generator=generator)
        seconds = time.process_time() - start
        if isinstance(prior, SharedPrior) and isinstance(
            solver, Guided
        ):  # all draws in one batch: the shared counts are those of a draw
            assert (result.nfe, result.vjps) == (prior.denoiser.nfe, prior.denoiser.vjp)
        return Draws(result.draws[:, 0], result.nfe, result.vjps, seconds)

    return Method("ours", label, draw, always)


def theirs(
    label: str, build: Callable[[Case, Any, torch.dtype], Any], *, always: bool = False
) -> Method:
    """build: (case, denoiser, dtype) -> a sampler of azula."""

    def draw(case: Case, n: int, dtype: torch.dtype, seed: int) -> Draws:
        with default_dtype(dtype):
            denoiser = case.peer.GMMDenoiser(case.mixture, case.peer.VPSchedule(), dtype)
            sampler = build(case, denoiser, dtype)
            torch.manual_seed(seed)
            start = time.process_time()
            x = sampler(sampler.init((n, case.A.shape[1]), dtype=dtype))
            return Draws(x, denoiser.nfe, denoiser.vjp, time.process_time() - start)

    return Method("azula", label, draw, always)


def their_mmps(
    label: str, sampler: str, steps: int, solver: str = "cg", *, always: bool = False
) -> Method:
    def build(case: Case, denoiser: Any, dtype: torch.dtype) -> Any:
        A, noise = (
            case.A.to(dtype),
            case.peer.IsotropicCovariance(torch.as_tensor(case.std**2, dtype=dtype)),
        )
        guided = case.peer.MMPSDenoiser(
            denoiser, case.y.to(dtype), lambda x: x @ A.T, noise, solver=solver, iterations=4
        )
        return getattr(case.peer, sampler)(guided, steps=steps, silent=True)

    return theirs(label, build, always=always)


def their_tds(case: Case, denoiser: Any, dtype: torch.dtype) -> Any:
    return case.peer.methods(
        denoiser, denoiser, case.A, case.y, case.std, case.mixture, 256, dtype
    )["TDS, N particles"]()


METHODS = [
    their_mmps(BASELINE, "DDPMSampler", 256, always=True),
    ours("MMPS(5), DDIM(256, eta=1)", Guided(MMPS(iterations=5), DDIM(256, eta=1.0)), always=True),
    their_mmps("MMPS(cg, 4), Heun(128)", "HeunSampler", 128, always=True),
    ours("MMPS(5), Heun(128)", Guided(MMPS(iterations=5), Heun(128)), always=True),
    ours(
        "MMPS(5), Heun(128, churn=40)",
        Guided(MMPS(iterations=5), Heun(128, churn=40.0)),
        always=True,
    ),
    their_mmps("MMPS(gmres, 4), DDPM(256)", "DDPMSampler", 256, "gmres"),
    ours("MMPS(10), Heun(64, churn=20)", Guided(MMPS(iterations=10), Heun(64, churn=20.0))),
    their_mmps("MMPS(cg, 4), DDPM(64)", "DDPMSampler", 64),
    ours("MMPS(5), DDIM(64, eta=1)", Guided(MMPS(iterations=5), DDIM(64, eta=1.0))),
    their_mmps("MMPS(cg, 4), Heun(24)", "HeunSampler", 24),
    ours("MMPS(5), Heun(24)", Guided(MMPS(iterations=5), Heun(24))),
    ours("MMPS(5), Heun(24), our mixture", Guided(MMPS(iterations=5), Heun(24)), own=True),
    theirs("TDS(256)", their_tds),
    ours("PredictedTwistSMC()", PredictedTwistSMC()),
]


def make_case(peer: ModuleType, regime: str, seed: int, n: int, floors: int = 5) -> Case:
    mixture, A, y, std, generator = peer.make_problem(seed, regime)
    exact = mixture.posterior(A, y, std)
    reference = exact.sample(n, generator)
    found = [peer.score(exact.sample(n, generator), reference, exact) for _ in range(floors)]
    floor = {key: statistics.fmean(one[key] for one in found) for key in SCORES}
    return Case(seed, peer, mixture, A, y, std, exact, reference, floor)


def measure(
    cases: list[Case], methods: list[Method], n: int, repeats: int, dtype: torch.dtype
) -> list[dict[str, Any]]:
    """One row for each method, with all its runs."""
    rows: list[dict[str, Any]] = [{"side": m.side, "method": m.label, "runs": []} for m in methods]
    for case in cases:
        for repeat in range(repeats):
            for method, row in zip(methods, rows, strict=True):
                found = method.draw(case, n, dtype, 1000 * (1 + case.seed) + repeat)
                scores = {
                    key: value
                    for key, value in case.peer.score(found.x, case.reference, case.exact).items()
                    if key in SCORES
                }
                scores["ratio"] = scores["sw2"] / case.floor["sw2"]
                cost = {"nfe": found.nfe, "products": found.products, "ms": 1e3 * found.seconds / n}
                row["runs"].append({"seed": case.seed, "repeat": repeat} | scores | cost)
        print(f"  problem {case.seed} done", flush=True)
    base = next(row["runs"] for row in rows if row["method"] == BASELINE)
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
        within = (
            [
                statistics.variance(run["ratio"] for run in runs if run["seed"] == case.seed)
                for case in cases
            ]
            if repeats > 1
            else [0.0]
        )
        row["ratio_error"] = (statistics.fmean(within) / len(runs)) ** 0.5
    return rows


def denoiser_difference(case: Case) -> float:
    """Largest difference of our mixture's denoiser from the shared one, relative to the largest entry."""
    shared, own, gap = case.shared(F64), case.own(), 0.0
    for s in (0.01, 0.3, 1.0, 10.0):
        u = case.reference + s * torch.randn(
            case.reference.shape, dtype=F64, generator=torch.Generator().manual_seed(0)
        )
        expected = own.denoise(u, s)
        gap = max(gap, float((shared.denoise(u, s) - expected).abs().max() / expected.abs().max()))
    return gap


def table(rows: list[dict[str, Any]], floor: dict[str, float] | None) -> list[str]:
    lines = [
        "| side | method | SW2/floor | mean | cov | modes | NFE | products | ms / draw | time, azula's DDPM = 1 |",
        "|" + "---|" * 10,
    ]
    if floor:
        lines.append(
            f"| | exact draws: the floor | 1 | {floor['mean']:.3f} | {floor['cov']:.3f} | {floor['modetv']:.3f} | | | | |"
        )
    for row in rows:
        error = f" ± {row['ratio_error']:.2f}" if row["ratio_error"] else ""
        scores = f"{row['ratio']:.2f}{error} | {row['mean']:.3f} | {row['cov']:.3f} | {row['modetv']:.3f}"
        cost = f"{row['nfe']:.0f} | {row['products']:.0f} | {row['ms']:.2f} | {row['time']:.2f}"
        lines.append(f"| {row['side']} | {row['method']} | {scores} | {cost} |")
    return lines


def write_page(results: dict[str, Any], path: Path) -> None:
    facts = results["facts"]
    lines = [
        f"{facts['draws']} draws of each of {facts['problems']} problems (the seeds 0 to {facts['problems'] - 1} of azula_bench.py), "
        f"repetitions of each: {facts['repeats']}, the methods in turns; torch {facts['torch']}, azula {facts['azula']}, processor time on "
        f"{facts['threads']} thread of a busy CPU. Errors are averages of all runs, with the standard error over repetitions where there "
        "are several; times are medians of all runs, and the last column is the median of the ratios to azula's DDPM of the same turn. "
        "SW2/floor: 1 is as good as exact draws.",
        "",
        "Both sides call the same denoiser, the exact one of azula_bench.py, in the same floating type, and are counted within it; only "
        "“our mixture” runs on `GaussianMixturePrior`, in float64, which differs from it by at most "
        f"{facts['denoiser_difference']:.0e} of the largest entry. Each side keeps its own times: azula a linear VP schedule, ours the "
        "default grid. azula's CG spends a product on the answer, so MMPS(cg, 4) and our MMPS(5) both spend at most 5 an evaluation; ours "
        "spends fewer where all draws have converged.",
        "",
        f"`{results['command']}`",
    ]
    for part in results["parts"]:
        lines += [
            "",
            f"**{part['regime']}**, {part['dtype']}: {REGIMES[part['regime']]}",
            "",
            *table(part["rows"], part["floor"]),
        ]
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="azula_bench.py")
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
        "--only", nargs="+", help="methods whose name holds one of these, and the baseline"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    peer = import_peer(a.peer)
    torch.set_num_threads(1)
    chosen = [
        m
        for m in METHODS
        if not a.only
        or m.label == BASELINE
        or any(word in f"{m.side} {m.label}" for word in a.only)
    ]
    cases = {
        regime: [make_case(peer, regime, seed, a.draws) for seed in range(a.problems)]
        for regime in REGIMES
    }
    warm_up = cases["informative"][0]
    for method in chosen:
        method.draw(warm_up, 2, F64, 0)
    facts = {
        "torch": torch.__version__, "azula": importlib.metadata.version("azula"), "threads": torch.get_num_threads(), "draws": a.draws,
        "problems": a.problems, "repeats": a.repeats,
        "denoiser_difference": max(denoiser_difference(case) for of_regime in cases.values() for case in of_regime),
    }  # fmt: skip
    command = f"python benchmarks/posterior.py --peer {a.peer.name} --draws {a.draws} --problems {a.problems} --repeats {a.repeats}"
    results: dict[str, Any] = {
        "facts": facts,
        "command": command + f" --dtypes {' '.join(a.dtypes)}",
        "parts": [],
    }
    a.out.mkdir(parents=True, exist_ok=True)
    for dtype in a.dtypes:
        for regime, of_regime in cases.items():
            print(f"{regime}, {dtype}", flush=True)
            methods = [m for m in chosen if m.always or dtype == a.dtypes[0]]
            rows = measure(of_regime, methods, a.draws, a.repeats, getattr(torch, dtype))
            floor = {key: statistics.fmean(case.floor[key] for case in of_regime) for key in SCORES}
            results["parts"].append(
                {"regime": regime, "dtype": dtype, "floor": floor, "rows": rows}
            )
            print("\n".join(table(rows, floor)), flush=True)
            write_json(results, a.out / "posterior.json")
            write_page(results, a.out / "posterior.md")


if __name__ == "__main__":
    main()
