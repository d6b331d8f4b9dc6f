"""The log-likelihood beside score_sde's method: error, cost and memory.

    python benchmarks/likelihood.py --mnist PATH/mnist.npz

On a mixture whose density is known (64 dimensions, 6 components, batch 64, VP-SDE) and on the
`mnist` network. score_sde (Song et al. 2021) integrates with SciPy's RK45 on the whole batch at
rtol = atol = 1e-5 from t = 1e-5, with one Rademacher probe for the whole solve, or with the exact
trace; :func:`score_sde` is that algorithm, so its repository is not needed. Both sides evaluate the
same model, in float32, in this process, in turns; times are medians. A cost is the number of
evaluations and of products for each sample. An error "at equal cost" is that of score_sde divided
by the square root of the number of its solves that our cost would pay for. Writes likelihood.json
and likelihood.md.
"""

import argparse
import math
import os
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mixtures import F64, Mixture, random_field
from scipy.integrate import solve_ivp
from tables import RESULTS, read_json, table, write_json, write_page
from torch import Tensor, nn

from scoresde import VPSDE, GaussianMixturePrior, Prior, load_prior
from solvers import GaussianReference, log_likelihood

SIDE, COMPONENTS, POINTS = 8, 6, 64
EPS, TOLERANCE = 1e-5, 1e-5  # score_sde's first time, and its rtol and atol
BETA_MIN, BETA_MAX = 0.1, 20.0
PEER, PEER_EXACT = "score_sde, 1 probe", "score_sde, exact trace"


class SharedMixture(Prior):
    """The mixture as a prior, so that both sides pay the same for an evaluation."""

    def __init__(self, mixture: Mixture) -> None:
        super().__init__(VPSDE(eps=EPS), (1, SIDE, SIDE))
        self.mixture = mixture

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        score = self.mixture.score(x_t.flatten(1), alpha, sigma)
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
        alpha = self.prior.sde.alpha(t).reshape(shape)
        sigma = self.prior.sde.sigma(t).reshape(shape)
        return (x - alpha * self.prior._denoise(x, t)) / sigma


def score_sde(model: NoisePrediction, data: Tensor, exact: bool) -> tuple[Tensor, int]:
    """ln p of a batch (n, C, H, W) by the algorithm of score_sde's likelihood.py, and its steps.

    The probability-flow ODE of the VP-SDE, with the divergence by the full trace or by a
    Rademacher probe that is fixed for the solve, through NumPy.
    """
    shape, n = data.shape, len(data)
    probe = None if exact else torch.randint_like(data, 0, 2) * 2 - 1

    def drift(x: Tensor, t: Tensor) -> Tensor:
        log_mean = -0.25 * t**2 * (BETA_MAX - BETA_MIN) - 0.5 * t * BETA_MIN
        std = torch.sqrt(1 - torch.exp(2 * log_mean))[:, None, None, None]
        beta = (BETA_MIN + t * (BETA_MAX - BETA_MIN))[:, None, None, None]
        return -0.5 * beta * x - 0.5 * beta * (-model(x, 999 * t) / std)

    def right_side(t: float, state: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(state[:-n].reshape(shape)).float()
        times = torch.full((n,), float(t))
        f = drift(x, times)
        with torch.enable_grad():
            x.requires_grad_(True)
            g = drift(x, times)
            if probe is None:
                rows = torch.eye(g[0].numel())[:, None].expand(-1, n, -1)
                J = torch.autograd.grad(g.reshape(n, -1), x, rows, is_grads_batched=True)[0]
                trace = J.reshape(J.shape[0], n, -1).diagonal(dim1=0, dim2=2).sum(-1)
            else:
                trace = (torch.autograd.grad((g * probe).sum(), x)[0] * probe).sum((1, 2, 3))
        return np.concatenate([f.detach().numpy().reshape(-1), trace.detach().numpy()])

    with torch.no_grad():
        start = np.concatenate([data.numpy().reshape(-1), np.zeros(n)])
        solution = solve_ivp(right_side, (EPS, 1.0), start, rtol=TOLERANCE, atol=TOLERANCE)
    end = torch.from_numpy(solution.y[:, -1])
    z, change = end[:-n].reshape(n, -1).float(), end[-n:].float()
    latent = -0.5 * (z * z).sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)
    return latent + change, solution.nfev


def make_mixture() -> tuple[Mixture, Tensor]:
    """A mixture of smooth fields on 8x8 pixels, and draws of it, (POINTS, 64)."""
    g, D = torch.Generator().manual_seed(0), SIDE**2
    logw = 0.5 * torch.randn(COMPONENTS, dtype=F64, generator=g)
    smooth = torch.linalg.cholesky(random_field(SIDE, 2.0, 1.0, 1e-3))
    mu = 0.5 * torch.randn(COMPONENTS, D, dtype=F64, generator=g) @ smooth.T
    lengths = [1 + 2 * torch.rand((), generator=g).item() for _ in range(COMPONENTS)]
    cov = torch.stack([random_field(SIDE, length, 0.3, 0.05) for length in lengths])
    mixture = Mixture(logw, mu, cov)
    return mixture, mixture.sample(POINTS, g)


def peak_memory(work: Callable[[], object]) -> float:
    """MB by which the resident memory of a forked process grows at its peak."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writer, str(peak - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 64) or b"0") / 1e6


def summary(
    errors: Tensor, seconds: list[float], forwards: float, products: float
) -> dict[str, float]:
    """The entries of a row, from errors (repeats, B)."""
    return {
        "mae": float(errors.abs().mean()),
        "rmse": float(errors.square().mean().sqrt()),
        "max": float(errors.abs().max()),
        "bias": float(errors.mean()),
        "seconds": statistics.median(seconds),
        "forwards": forwards,
        "products": products,
    }


def in_turns(
    methods: dict[str, Callable[[int], tuple[Tensor, float, float]]],
    reference: Tensor,
    repeats: int,
) -> dict[str, dict]:
    """Each method with each seed in turn; a method returns (ln p, evaluations, products)."""
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
    model: NoisePrediction, x: Tensor, *, exact: bool = False
) -> Callable[[int], tuple[Tensor, float, float]]:
    def run(seed: int) -> tuple[Tensor, float, float]:
        torch.manual_seed(seed)
        model.calls = 0
        value, steps = score_sde(model, x, exact)
        return value, model.calls, steps * (x[0].numel() if exact else 1)

    return run


def our_method(
    prior: Prior, x: Tensor, **settings: Any
) -> Callable[[int], tuple[Tensor, float, float]]:
    def run(seed: int) -> tuple[Tensor, float, float]:
        got = log_likelihood(
            prior, x, batch=len(x), generator=torch.Generator().manual_seed(seed), **settings
        )
        return got.value, got.nfe, got.vjps

    return run


def at_equal_cost(rows: dict[str, dict]) -> None:
    """Add to each stochastic row of ours the peer's error at its cost, and the ratio."""
    peer_row = rows[PEER]
    for name, row in rows.items():
        if "probe" in name and name != PEER:
            solves = (row["forwards"] + row["products"]) / (
                peer_row["forwards"] + peer_row["products"]
            )
            row["peer_rmse_at_equal_cost"] = peer_row["rmse"] / math.sqrt(max(solves, 1.0))
            row["gain"] = row["peer_rmse_at_equal_cost"] / row["rmse"]


def coverage(
    prior: Prior, x: Tensor, truth: Tensor, repeats: int, **settings: Any
) -> dict[str, float]:
    """Share of the 68 and 95 % intervals that hold the truth, over repeats x B runs.

    By Student's t, and by the plain normal quantile.
    """
    inside: dict[str, list[Tensor]] = {}
    for seed in range(repeats):
        got = log_likelihood(
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


def mixture_part(repeats: int) -> dict:
    mixture, draws = make_mixture()
    x = draws.float().reshape(-1, 1, SIDE, SIDE)
    reference = mixture.log_prob(x.double().flatten(1))
    prior = SharedMixture(mixture)
    means = mixture.mu.reshape(COMPONENTS, *prior.shape)
    own = GaussianMixturePrior(mixture.logw.exp(), means, mixture.cov)
    gaussian = GaussianReference.of(own, prior.shape)

    def flow(n: int) -> Callable[[int], tuple[Tensor, float, float]]:
        return our_method(prior, x, nodes=n, reference=gaussian)

    def probed(k: int, n: int) -> Callable[[int], tuple[Tensor, float, float]]:
        return our_method(prior, x, divergence="hutchinson", probes=k, nodes=n, reference=gaussian)

    model = NoisePrediction(prior)
    exact = in_turns(
        {PEER_EXACT: peer_method(model, x, exact=True)}
        | {f"ours, exact trace, {n} nodes": flow(n) for n in (16, 20, 24, 32)},
        reference,
        3,
    )
    stochastic = in_turns(
        {PEER: peer_method(model, x)}
        | {f"ours, {k} probes, 72 nodes": probed(k, 72) for k in (1, 2, 4, 16, 32)},
        reference,
        repeats,
    )
    at_equal_cost(stochastic)
    memory = {
        PEER_EXACT: peak_memory(lambda: peer_method(model, x, exact=True)(0)),
        "ours, exact trace, 20 nodes": peak_memory(lambda: flow(20)(0)),
        PEER: peak_memory(lambda: peer_method(model, x)(0)),
        "ours, 16 probes, 72 nodes": peak_memory(lambda: probed(16, 72)(0)),
    }
    cover = {
        f"{k} probes, {n} nodes": coverage(
            prior, x, reference, 8, probes=k, nodes=n, reference=gaussian
        )
        for k, n in ((2, 72), (16, 72))
    }
    return {"exact": exact, "stochastic": stochastic, "peak MB": memory, "coverage": cover}


def mnist_part(path: Path, images: int, repeats: int, runs: int) -> dict:
    """The network, whose density is not known.

    The truth is the same flow on the same nodes with the exact trace. Its change with half of the
    nodes shows the error that the nodes leave.
    """
    prior = load_prior("mnist").with_sde(VPSDE(eps=EPS))
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
        f"exact trace in {seconds:.0f} s; changes by {moved.tolist()} nats with half of the nodes",
        flush=True,
    )
    model = NoisePrediction(prior)

    def probed(k: int) -> Callable[[int], tuple[Tensor, float, float]]:
        return our_method(prior, x, divergence="hutchinson", probes=k, nodes=96, end="t_min")

    rows = in_turns(
        {PEER: peer_method(model, x)} | {f"ours, {k} probes, 96 nodes": probed(k) for k in (4, 16)},
        truth.value,
        repeats,
    )
    at_equal_cost(rows)
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
        PEER: peak_memory(lambda: peer_method(model, x)(0)),
        "ours, 16 probes, 96 nodes": peak_memory(lambda: probed(16)(0)),
    }
    return {
        "images": images,
        "moved": moved.tolist(),
        "stochastic": rows,
        "peak MB": memory,
        "coverage": cover,
    }


def rows_of(rows: dict[str, dict], memory: dict[str, float]) -> list[str]:
    cells = []
    for name, row in rows.items():
        errors = [f"{row[key]:.4f}" if key in row else "" for key in ("mae", "rmse", "max")]
        cost = f"{row['forwards']:.0f} + {row['products']:.0f}"
        peak = f"{memory[name]:.0f}" if name in memory else ""
        gain = ["", ""]
        if "gain" in row:
            gain = [f"{row['peer_rmse_at_equal_cost']:.2f}", f"**{row['gain']:.0f}×**"]
        cells.append([name, *errors, cost, f"{row['seconds']:.2f}", peak, *gain])
    head = ("method", "MAE, nats", "RMSE", "largest", "evaluations + products", "s", "peak MB")
    return [*table((*head, "score_sde's RMSE at this cost", "gain"), cells), ""]


def coverage_of(cover: dict[str, dict]) -> list[str]:
    keys = ("t 68%", "t 95%", "normal 68%", "normal 95%")
    head = ("intervals", "runs", "68 % (t)", "95 % (t)", "68 % (normal)", "95 % (normal)")
    cells = [[name, c["runs"], *(f"{c[key]:.1%}" for key in keys)] for name, c in cover.items()]
    return [*table(head, cells), ""]


def page(results: dict) -> list[str]:
    lines = ["`python benchmarks/likelihood.py --mnist mnist.npz`", ""]
    if part := results.get("mixture"):
        ratio = (
            part["exact"][PEER_EXACT]["seconds"]
            / part["exact"]["ours, exact trace, 20 nodes"]["seconds"]
        )
        lines += [
            "## A mixture of 6 full Gaussians in 64 dimensions, 64 points, VP-SDE from t = 1e-5",
            "",
            "Errors against the density in closed form; evaluations and products for each point.",
            "",
            *rows_of(part["exact"], part["peak MB"]),
            f"With 20 nodes it is {ratio:.1f} times faster than score_sde's exact trace.",
            "",
            *rows_of(part["stochastic"], part["peak MB"]),
            *coverage_of(part["coverage"]),
        ]
    if part := results.get("mnist"):
        changes = ", ".join(f"{v:.1f}" for v in part["moved"])
        lines += [
            f"## The `mnist` network, {part['images']} dequantised test images, "
            "VP-SDE from t = 1e-5",
            "",
            "Errors against the same flow with the exact trace.",
            "",
            *rows_of(part["stochastic"], part["peak MB"]),
            *coverage_of(part["coverage"]),
            f"With half of the nodes the exact trace changes by {changes} nats.",
        ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="mnist.npz; without it, the mixture alone")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--runs", type=int, default=512, help="for the intervals on the network")
    parser.add_argument(
        "--parts", nargs="+", default=["mixture", "mnist"], choices=["mixture", "mnist"]
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    kept = a.out / "likelihood.json"
    results = read_json(kept, {})
    if "mixture" in a.parts:
        results["mixture"] = mixture_part(a.repeats)
        write_json(results, kept)
    if "mnist" in a.parts and a.mnist:
        results["mnist"] = mnist_part(a.mnist, a.images, a.repeats, a.runs)
        write_json(results, kept)
    write_page(a.out / "likelihood.md", page(results))


if __name__ == "__main__":
    main()
