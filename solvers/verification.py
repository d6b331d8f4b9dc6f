r"""Every solver against posteriors whose exact law is known: the table behind ``scoresde verify``.

On a Gaussian mixture the posterior of a linear measurement is another mixture, so that what a solver draws can be compared with exact draws
(Bishop 2006, section 2.3.3). For N draws and as many exact ones:

- mean, cov: :math:`|\hat m - m|/\sqrt{\mathrm{tr}\,C}` and :math:`|\hat C - C|_F/|C|_F`;
- distance: sliced Wasserstein-2 between draws and exact draws, over that between exact draws and exact draws, the floor: 1 is as good as
  exact;
- modes: total variation between exact and recovered weights of the components;
- cover90: share of exact draws inside the solver's central 90 % intervals, entry by entry;
- seen, unseen: variance of the draws over the exact variance, averaged over directions that A sees and does not see.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from problems import Blur, GaussianNoise, Inpainting, InverseProblem, LinearMatrix, SuperResolution, box_mask
from scoresde.analytic import GaussianMixturePrior, GaussianPrior
from scoresde.prior import Counted
from solvers.guidance import DPS, LGDMC, MMPS, MPGD, TMPD, PiGDM
from solvers.posterior import (
    DAPS,
    DDNM,
    DDRM,
    TDS,
    DiffPIR,
    Guided,
    MCGDiff,
    PosteriorSampler,
    PredictedTwist,
    REDDiff,
    RePaint,
    SplitGibbs,
)
from solvers.samplers import DDIM, Heun

__all__ = ["EXACT_PROBLEMS", "VERIFIED", "ExactProblem", "Verdict", "sliced_wasserstein", "verify"]

F64 = torch.float64


@dataclass(frozen=True)
class ExactProblem:
    """A prior, a measurement of it, and their exact posterior."""

    prior: GaussianMixturePrior
    problem: InverseProblem
    y: Tensor
    posterior: GaussianMixturePrior


@dataclass(frozen=True)
class Verdict:
    """What ``verify`` measured, see above, averaged over seeds. seconds: processor time a draw. nfe, vjps: per draw."""

    mean: float
    cov: float
    distance: float
    modes: float
    cover90: float
    seen: float
    unseen: float
    nfe: float
    vjps: float
    seconds: float


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rbf(side: int, length: float, amplitude: float, nugget: float) -> Tensor:
    """Covariance of a smooth random field on a side x side grid."""
    place = torch.cartesian_prod(torch.arange(side, dtype=F64), torch.arange(side, dtype=F64))
    near = torch.exp(-torch.cdist(place, place).square() / (2 * length**2))
    return amplitude**2 * near + nugget**2 * torch.eye(side**2, dtype=F64)


def _field_mixture(generator: torch.Generator, components: int = 6, side: int = 8) -> GaussianMixturePrior:
    """Smooth images of several kinds: 1 x side x side."""
    smooth = torch.linalg.cholesky(_rbf(side, 2.0, 1.0, 1e-3))
    means = torch.randn(components, side**2, dtype=F64, generator=generator) @ smooth.T
    lengths = 1 + 2 * torch.rand(components, generator=generator)
    covariances = torch.stack([_rbf(side, float(length), 0.6, 0.1) for length in lengths])
    weights = (0.5 * torch.randn(components, dtype=F64, generator=generator)).exp()
    return GaussianMixturePrior(weights, means.reshape(components, 1, side, side), covariances)


def _measured(prior: GaussianMixturePrior, problem: InverseProblem, generator: torch.Generator) -> ExactProblem:
    y = problem.measure(prior.sample(1, generator), generator)
    return ExactProblem(prior, problem, y, prior.posterior(problem, y))


def _pixels(seed: int, share: float, std: float) -> ExactProblem:
    """A blurred 8 x 8 field seen at a few pixels."""
    generator = _seeded(seed)
    prior = _field_mixture(generator)
    line = torch.exp(-torch.arange(-1, 2, dtype=F64).square() / (2 * 0.8**2))
    A = Blur(torch.outer(line, line) / line.sum() ** 2, "reflect").dense((1, 8, 8))
    rows = torch.randperm(64, generator=generator)[: round(share * 64)].sort().values
    return _measured(prior, InverseProblem(LinearMatrix(A[rows], (1, 8, 8)), GaussianNoise(std)), generator)


def _image(kind: str, seed: int) -> ExactProblem:
    generator = _seeded(seed)
    prior = _field_mixture(generator)
    operators = {
        "box": lambda: Inpainting(box_mask(8, 8, 2, 2, 4, 4)),
        "blur": lambda: Blur(torch.ones(3, 3, dtype=F64) / 9, "reflect"),
        "sr": lambda: SuperResolution(2, "average"),
    }
    return _measured(prior, InverseProblem(operators[kind](), GaussianNoise(0.1)), generator)


def _gaussian(seed: int, white: bool) -> ExactProblem:
    generator = _seeded(seed)
    root = torch.randn(8, 8, dtype=F64, generator=generator)
    covariance = torch.eye(8, dtype=F64) if white else root @ root.T / 8 + 0.05 * torch.eye(8, dtype=F64)
    prior = GaussianPrior(torch.zeros(8, dtype=F64), covariance)
    rows = torch.linalg.qr(torch.randn(8, 8, dtype=F64, generator=generator)).Q[:4]
    return _measured(prior, InverseProblem(LinearMatrix(rows), GaussianNoise(0.3)), generator)


def _grid_mixture(seed: int, d: int, rows: int) -> ExactProblem:
    """25 unit Gaussians on a lattice (Cardoso et al. 2023, appendix): means (8 i, 8 j) repeated d/2 times, random weights."""
    generator = _seeded(seed)
    place = 8 * torch.cartesian_prod(torch.arange(-2, 3, dtype=F64), torch.arange(-2, 3, dtype=F64))
    weights = torch.randn(25, dtype=F64, generator=generator).square()
    prior = GaussianMixturePrior(weights, place.repeat(1, d // 2), torch.eye(d, dtype=F64).expand(25, d, d))
    U, _, Vt = torch.linalg.svd(torch.randn(rows, d, dtype=F64, generator=generator), full_matrices=False)
    s = torch.rand(rows, dtype=F64, generator=generator).sort(descending=True).values
    std = float(torch.rand((), generator=generator)) * float(s.max())
    return _measured(prior, InverseProblem(LinearMatrix(U * s @ Vt), GaussianNoise(max(std, 1e-3))), generator)


EXACT_PROBLEMS: dict[str, tuple[str, Callable[[int], ExactProblem]]] = {
    "gaussian-white": ("N(0, I) in 8 dimensions, 4 seen", lambda seed: _gaussian(seed, True)),
    "gaussian": ("a Gaussian of full covariance in 8 dimensions, 4 seen", lambda seed: _gaussian(seed, False)),
    "informative": ("6 kinds of blurred 8x8 fields, 32 pixels, noise .1", lambda seed: _pixels(seed, 0.5, 0.1)),
    "ambiguous": ("the same, 8 pixels, noise .5: several modes", lambda seed: _pixels(seed, 0.125, 0.5)),
    "box": ("the fields with a hole of 4x4, noise .1", lambda seed: _image("box", seed)),
    "blur": ("the fields blurred by 3x3, noise .1", lambda seed: _image("blur", seed)),
    "sr": ("the fields at half the size, noise .1", lambda seed: _image("sr", seed)),
    "grid-8": ("25 far modes in 8 dimensions, 2 seen", lambda seed: _grid_mixture(seed, 8, 2)),
    "grid-80": ("25 far modes in 80 dimensions, 4 seen", lambda seed: _grid_mixture(seed, 80, 4)),
}


VERIFIED: dict[str, PosteriorSampler] = {
    "predicted-twist": PredictedTwist(),
    "mmps": Guided(MMPS(iterations=4), Heun(64)),
    "tmpd": Guided(TMPD(), DDIM(128, eta=1.0)),
    "pigdm": Guided(PiGDM(), DDIM(128, eta=1.0)),
    "dps": Guided(DPS(), DDIM(256, eta=1.0)),
    "lgd-mc": Guided(LGDMC(), DDIM(128, eta=1.0)),
    "mpgd": Guided(MPGD(), DDIM(128, eta=1.0)),
    "tds": TDS(),
    "mcgdiff": MCGDiff(),
    "split-gibbs": SplitGibbs(),
    "daps": DAPS(steps=50, langevin=50),
    "daps-exact": DAPS(steps=100, inner="exact", r="unit"),
    "diffpir": DiffPIR(100),
    "ddrm": DDRM(),
    "ddnm": DDNM(),
    "repaint": RePaint(),
    "red-diff": REDDiff(),
}
"""The solvers of the table, with the settings of their papers where these have any."""


def sliced_wasserstein(x: Tensor, y: Tensor, directions: int = 1000) -> float:
    """Root mean square over random directions of the Wasserstein-2 distance of the projections; x, y: (N, D)."""
    v = F.normalize(torch.randn(x.shape[1], directions, dtype=F64, generator=_seeded(0)), dim=0)
    return float(((x @ v).sort(0).values - (y @ v).sort(0).values).square().mean().sqrt())


def verify(solver: PosteriorSampler, name: str, *, draws: int = 1000, seeds: int = 3) -> Verdict:
    """Run ``solver`` on the exact problem of that name, once for each seed. ValueError where the solver cannot do the problem."""
    if name not in EXACT_PROBLEMS:
        raise ValueError(f"unknown exact problem {name!r}; known: {', '.join(EXACT_PROBLEMS)}")
    found = [_judge(solver, EXACT_PROBLEMS[name][1](seed), draws, seed) for seed in range(seeds)]
    return Verdict(**{key: sum(row[key] for row in found) / seeds for key in found[0]})


def _judge(solver: PosteriorSampler, case: ExactProblem, draws: int, seed: int) -> dict[str, float]:
    counted, start = Counted(case.prior), time.process_time()
    result = solver.sample(counted, case.problem, case.y, draws, generator=_seeded(seed))
    seconds = (time.process_time() - start) / draws
    x = result.draws[:, 0].double().flatten(1)
    generator = _seeded(1000 + seed)
    exact, *others = (case.posterior.sample(draws, generator).flatten(1) for _ in range(5))
    floor = sum(sliced_wasserstein(other, exact) for other in others) / len(others)
    m, C = case.posterior.moments()
    cov = torch.cov(x.T)
    lower, upper = torch.quantile(x, torch.tensor([0.05, 0.95], dtype=F64), dim=0)
    weights = case.posterior.responsibilities(x.reshape(-1, *case.prior.shape)).mean(0)
    return {
        "mean": float((x.mean(0) - m).norm() / C.trace().sqrt()),
        "cov": float((cov - C).norm() / C.norm()),
        "distance": sliced_wasserstein(x, exact) / floor,
        "modes": float((weights - case.posterior.weights).abs().sum() / 2),
        "cover90": float(((exact >= lower) & (exact <= upper)).double().mean()),
        **_variance_ratios(case, cov, C),
        "nfe": float(result.nfe),
        "vjps": float(result.vjps),
        "seconds": seconds,
    }


def _variance_ratios(case: ExactProblem, cov: Tensor, C: Tensor) -> dict[str, float]:
    """Of the directions that A sees, and of those that it does not; NaN where there are none."""
    _, s, Vt = torch.linalg.svd(case.problem.linear_operator.dense(case.prior.shape), full_matrices=True)
    rank = int((s > 1e-8 * s.max()).sum())
    ratio = (Vt @ cov @ Vt.T).diagonal() / (Vt @ C @ Vt.T).diagonal()
    return {"seen": float(ratio[:rank].mean()), "unseen": float(ratio[rank:].mean()) if rank < len(ratio) else float("nan")}


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """For JSON."""
    return {key: getattr(verdict, key) for key in Verdict.__dataclass_fields__}
