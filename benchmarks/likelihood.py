"""The log-likelihood beside score_sde's method: error, cost and memory, on a mixture whose density is known and on the `mnist` network.

    python benchmarks/likelihood.py --peer PATH/likelihood_bench.py --mnist PATH/mnist.npz

The peer script holds the mixture (64 dimensions, 6 components, batch 64, VP-SDE) and score_sde's algorithm: SciPy's RK45 on the whole batch
at rtol = atol = 1e-5 from t = 1e-5, one Rademacher probe for the whole solve, or the exact trace. Both sides evaluate the same model, in
float32, in this process, in turns; times are medians. A cost is the number of evaluations and of products for each sample. An error "at
equal cost" is that of the peer divided by the square root of how many of its solves our cost would pay for. Writes likelihood.json and .md.
"""

import argparse
import importlib.util
import json
import math
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from scoresde import VPSDE, GaussianMixturePrior, Prior, load_prior
from scoresde.files import write_json
from solvers import GaussianReference, log_likelihood

F64 = torch.float64
RESULTS = Path(__file__).parent / "results"


class PeerMixture(Prior):
    """The peer's own mixture model as a prior, so that both sides pay the same for an evaluation."""

    def __init__(self, gmm: object, side: int) -> None:
        super().__init__(VPSDE(eps=1e-5), (1, side, side))
        self.gmm = gmm

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        score = self.gmm.score(x_t.flatten(1), alpha, sigma)  # type: ignore[attr-defined]
        return ((x_t.flatten(1) + sigma[:, None] ** 2 * score) / alpha[:, None]).reshape(x_t.shape)


class NoisePrediction(nn.Module):
    """A prior as score_sde's model: (x, 999 t) -> -sigma times the score."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior, self.calls = prior, 0

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        t = labels.reshape(-1) / 999
        shape = (-1, *[1] * (x.ndim - 1))
        alpha, sigma = (
            self.prior.sde.alpha(t).reshape(shape),
            self.prior.sde.sigma(t).reshape(shape),
        )
        return (x - alpha * self.prior._denoise(x, t)) / sigma


def peak_memory(work: Callable[[], object]) -> float:
    """MB by which the resident memory of a forked process grows at its peak while it works."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writer, str(peak - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 64) or b"0") / 1e6


def load_peer(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("likelihood_peer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def summary(
    errors: Tensor, seconds: list[float], forwards: float, products: float
) -> dict[str, float]:
    """errors: (repeats, B)."""
    return {
        "mae": float(errors.abs().mean()), "rmse": float(errors.square().mean().sqrt()), "max": float(errors.abs().max()),
        "bias": float(errors.mean()), "seconds": statistics.median(seconds), "forwards": forwards, "products": products,
    }  # fmt: skip


def in_turns(
    methods: dict[str, Callable[[int], tuple[Tensor, float, float]]],
    reference: Tensor,
    repeats: int,
) -> dict[str, dict]:
    """Each method with each seed, one after the other; a method gives (ln p, evaluations, products)."""
    errors: dict[str, list[Tensor]] = {name: [] for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    cost: dict[str, tuple[float, float]] = {}
    for seed in range(repeats):
        for name, method in methods.items():
            start = time.perf_counter()
            value, *counts = method(seed)
            seconds[name].append(time.perf_counter() - start)
            errors[name].append(value.double() - reference)
            cost[name] = (counts[0], counts[1])
        print(f"repeat {seed + 1}/{repeats}", flush=True)
    return {
        name: summary(torch.stack(errors[name]), seconds[name], *cost[name]) for name in methods
    }


def peer_method(
    peer: ModuleType, model: NoisePrediction, x: Tensor, kind: str
) -> Callable[[int], tuple[Tensor, float, float]]:
    def run(seed: int) -> tuple[Tensor, float, float]:
        torch.manual_seed(seed)
        model.calls = 0
        value, nfe = peer.inline(model, x, kind, 1e-5, 1e-5, 1e-5)
        return value, model.calls, nfe * (x[0].numel() if kind == "exact" else 1)

    return run


def our_method(
    prior: Prior, x: Tensor, **settings: object
) -> Callable[[int], tuple[Tensor, float, float]]:
    def run(seed: int) -> tuple[Tensor, float, float]:
        got = log_likelihood(
            prior, x, batch=len(x), generator=torch.Generator().manual_seed(seed), **settings
        )  # type: ignore[arg-type]
        return got.value, got.nfe, got.vjps

    return run


def at_equal_cost(rows: dict[str, dict], peer_name: str) -> None:
    """Adds to each stochastic row of ours the peer's error at its cost, and the ratio."""
    peer_row = rows[peer_name]
    for name, row in rows.items():
        if "probe" in name and name != peer_name:
            solves = (row["forwards"] + row["products"]) / (
                peer_row["forwards"] + peer_row["products"]
            )
            row["peer_rmse_at_equal_cost"] = peer_row["rmse"] / math.sqrt(max(solves, 1.0))
            row["gain"] = row["peer_rmse_at_equal_cost"] / row["rmse"]


def coverage(
    prior: Prior, x: Tensor, truth: Tensor, repeats: int, **settings: object
) -> dict[str, float]:
    """How often the 68 and 95 % intervals hold the truth, over repeats x B runs; by Student's t, and by the plain normal quantile."""
    inside: dict[str, list[Tensor]] = {}
    for seed in range(repeats):
        got = log_likelihood(  # type: ignore[arg-type]
            prior,
            x,
            divergence="hutchinson",
            batch=len(x),
            generator=torch.Generator().manual_seed(1000 + seed),
            **settings,
        )
        for level, quantile in ((0.68, 0.99446), (0.95, 1.95996)):
            low, high = got.interval(level)
            inside.setdefault(f"t {level:.0%}", []).append((low <= truth) & (truth <= high))
            inside.setdefault(f"normal {level:.0%}", []).append(
                (got.value - truth).abs() <= quantile * got.std_error
            )
    runs = repeats * len(x)
    return {"runs": runs} | {
        name: float(torch.cat(hits).double().mean()) for name, hits in inside.items()
    }


def mixture_part(peer: ModuleType, repeats: int) -> dict:
    gmm = peer.GMM(64, 6, 0)
    x = gmm.sample(64).float().reshape(-1, 1, 8, 8)
    reference = gmm.log_prob(x.double().reshape(64, 64))
    prior = PeerMixture(gmm, 8)
    covariances = (gmm.Q * gmm.lam[:, None]) @ gmm.Q.mT
    gaussian = GaussianReference.of(
        GaussianMixturePrior(gmm.logw.exp(), gmm.mu.reshape(6, 1, 8, 8), covariances), (1, 8, 8)
    )
    model = NoisePrediction(prior)
    exact = in_turns(
        {"score_sde, exact trace": peer_method(peer, model, x, "exact")}
        | {f"ours, exact trace, {n} nodes": our_method(prior, x, nodes=n, reference=gaussian) for n in (16, 20, 24, 32)},
        reference, 3,
    )  # fmt: skip
    stochastic = in_turns(
        {"score_sde, 1 probe": peer_method(peer, model, x, "Rademacher")}
        | {
            f"ours, {k} probes, {n} nodes": our_method(prior, x, divergence="hutchinson", probes=k, nodes=n, reference=gaussian)
            for k, n in ((1, 72), (2, 72), (4, 72), (16, 72), (32, 72))
        },
        reference, repeats,
    )  # fmt: skip
    at_equal_cost(stochastic, "score_sde, 1 probe")
    memory = {
        "score_sde, exact trace": peak_memory(lambda: peer_method(peer, model, x, "exact")(0)),
        "ours, exact trace, 20 nodes": peak_memory(
            lambda: our_method(prior, x, nodes=20, reference=gaussian)(0)
        ),
        "score_sde, 1 probe": peak_memory(lambda: peer_method(peer, model, x, "Rademacher")(0)),
        "ours, 16 probes, 72 nodes": peak_memory(
            lambda: our_method(
                prior, x, divergence="hutchinson", probes=16, nodes=72, reference=gaussian
            )(0)
        ),
    }
    cover = {
        f"{k} probes, {n} nodes": coverage(
            prior, x, reference, 8, probes=k, nodes=n, reference=gaussian
        )
        for k, n in ((2, 72), (16, 72))
    }
    return {"exact": exact, "stochastic": stochastic, "peak MB": memory, "coverage": cover}


def mnist_part(peer: ModuleType, path: Path, images: int, repeats: int, runs: int) -> dict:
    """No density is known here; the truth is the same flow on the same nodes with the exact trace. How far it moves when half of the nodes
    are left out tells what the nodes leave open."""
    prior = load_prior("mnist").with_sde(VPSDE(eps=1e-5))
    q = torch.from_numpy(np.load(path)["test_images"][:images]).double()[:, None]
    x = (
        (q + torch.rand(q.shape, dtype=F64, generator=torch.Generator().manual_seed(0))) / 128 - 1
    ).float()
    start = time.perf_counter()
    truth = log_likelihood(prior, x, nodes=96, end="t_min", batch=images)
    seconds = time.perf_counter() - start
    moved = (
        log_likelihood(prior, x, nodes=48, end="t_min", batch=images).value - truth.value
    ).abs()
    print(
        f"exact trace in {seconds:.0f} s; moves by {moved.tolist()} nats with half of the nodes",
        flush=True,
    )
    model = NoisePrediction(prior)
    rows = in_turns(
        {"score_sde, 1 probe": peer_method(peer, model, x, "Rademacher")}
        | {
            f"ours, {k} probes, {n} nodes": our_method(prior, x, divergence="hutchinson", probes=k, nodes=n, end="t_min")
            for k, n in ((4, 96), (16, 96))
        },
        truth.value, repeats,
    )  # fmt: skip
    at_equal_cost(rows, "score_sde, 1 probe")
    rows = {
        "reference: exact trace, 96 nodes": {
            "seconds": seconds,
            "forwards": truth.nfe,
            "products": truth.vjps,
        }
    } | rows
    cover = {
        "4 probes, 96 nodes": coverage(
            prior, x, truth.value, math.ceil(runs / images), probes=4, nodes=96, end="t_min"
        )
    }
    memory = {
        "score_sde, 1 probe": peak_memory(lambda: peer_method(peer, model, x, "Rademacher")(0)),
        "ours, 16 probes, 96 nodes": peak_memory(
            lambda: our_method(prior, x, divergence="hutchinson", probes=16, nodes=96, end="t_min")(
                0
            )
        ),
    }
    return {
        "images": images,
        "moved": moved.tolist(),
        "stochastic": rows,
        "peak MB": memory,
        "coverage": cover,
    }


def rows_of(rows: dict[str, dict], memory: dict[str, float]) -> list[str]:
    lines = [
        "| method | MAE, nats | RMSE | largest | evaluations + products | s | peak MB | score_sde's RMSE at this cost | gain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        errors = " | ".join(
            f"{row[key]:.4f}" if key in row else "" for key in ("mae", "rmse", "max")
        )
        peak = f"{memory[name]:.0f}" if name in memory else ""
        gain = (
            f"{row['peer_rmse_at_equal_cost']:.2f} | **{row['gain']:.0f}×**"
            if "gain" in row
            else " | "
        )
        lines.append(
            f"| {name} | {errors} | {row['forwards']:.0f} + {row['products']:.0f} | {row['seconds']:.2f} | {peak} | {gain} |"
        )
    return [*lines, ""]


def coverage_of(cover: dict[str, dict]) -> list[str]:
    lines = [
        "| intervals | runs | 68 % (t) | 95 % (t) | 68 % (normal) | 95 % (normal) |",
        "|---|---|---|---|---|---|",
    ]
    for name, c in cover.items():
        values = " | ".join(
            f"{c[key]:.1%}" for key in ("t 68%", "t 95%", "normal 68%", "normal 95%")
        )
        lines.append(f"| {name} | {c['runs']} | {values} |")
    return [*lines, ""]


def write_tables(results: dict, path: Path) -> None:
    lines = ["`python benchmarks/likelihood.py --peer likelihood_bench.py --mnist mnist.npz`", ""]
    if part := results.get("mixture"):
        ratio = (
            part["exact"]["score_sde, exact trace"]["seconds"]
            / part["exact"]["ours, exact trace, 20 nodes"]["seconds"]
        )
        lines += [
            "## A mixture of 6 full Gaussians in 64 dimensions, 64 points, VP-SDE from t = 1e-5", "",
            "Errors against the density in closed form; evaluations and products for each point.", "",
            *rows_of(part["exact"], part["peak MB"]), f"With 20 nodes it is {ratio:.1f} times faster than score_sde's exact trace.", "",
            *rows_of(part["stochastic"], part["peak MB"]), *coverage_of(part["coverage"]),
        ]  # fmt: skip
    if part := results.get("mnist"):
        lines += [
            f"## The `mnist` network, {part['images']} dequantised test images, VP-SDE from t = 1e-5", "",
            "Errors against the same flow with the exact trace.", "",
            *rows_of(part["stochastic"], part["peak MB"]), *coverage_of(part["coverage"]),
            "What the nodes leave open: with half of them the exact trace moves by "
            f"{', '.join(f'{v:.1f}' for v in part['moved'])} nats.", "",
        ]  # fmt: skip
    path.write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="likelihood_bench.py")
    parser.add_argument("--mnist", type=Path, help="mnist.npz; without it, the mixture alone")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--runs", type=int, default=512, help="of the intervals on the network")
    parser.add_argument(
        "--parts", nargs="+", default=["mixture", "mnist"], choices=["mixture", "mnist"]
    )
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    peer = load_peer(a.peer)
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / "likelihood.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    if "mixture" in a.parts:
        results["mixture"] = mixture_part(peer, a.repeats)
        write_json(results, kept)
    if "mnist" in a.parts and a.mnist:
        results["mnist"] = mnist_part(peer, a.mnist, a.images, a.repeats, a.runs)
        write_json(results, kept)
    write_tables(results, RESULTS / "likelihood.md")


if __name__ == "__main__":
    main()
