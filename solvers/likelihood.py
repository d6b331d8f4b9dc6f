r"""Exact log-likelihood by the probability-flow ODE, with error bars.

In :math:`u = x_t/\alpha_t`, :math:`s = \sigma_t/\alpha_t` the flow of every SDE is :math:`du/d\ln s = u - D(u, s)`, and by the
instantaneous change of variables (Chen et al. 2018; Song et al. 2021, appendix D.2) :math:`d\ln p_s(u)/d\ln s = \mathrm{tr}\,J - d` with
:math:`J = dD/du` in d dimensions. Both are taken relative to a Gaussian reference :math:`N(\mu, U \Lambda U^T)`. With
:math:`q = \sqrt{\Lambda + s^2}`, :math:`z = U^T(u - \mu)/q` and the denoiser :math:`D_G` of the reference,

.. math:: \frac{dz}{d\ln s} = -\frac{U^T(D - D_G)}{q}, \qquad
          \ln p_{s_0}(u) = \ln N(z_T; 0, I) - \sum \ln q_{s_0} + \int (\mathrm{tr}\,J_G - \mathrm{tr}\,J)\, d\ln s .

For Gaussian data both right-hand sides vanish; in general they are smooth enough for a multistep method on a fixed grid of nodes, where the
network is evaluated once per node, for the value and the products together. A fixed grid also lets every node have probes of its
own, so that their errors average out, and the scatter of the nodes about a smooth curve tells how large the error of the sum is.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy import stats
from torch import Tensor

from scoresde.prior import Prior
from solvers.gaussian_reference import GaussianReference
from solvers.noise import spawn
from solvers.probes import Probes, value_and_products

__all__ = ["LogLikelihood", "log_likelihood"]

Divergence = Literal["exact", "hutchinson"]
Probing = Literal["hadamard", "rademacher"]
Basis = Literal["auto", "pixel", "eigen"]
End = Literal["data", "t_min"]
Solver = Literal["rk4", "ab4"]

_AB4 = (55 / 24, -59 / 24, 37 / 24, -9 / 24)
_GREGORY = (1 / 12, 1 / 24, 19 / 720, 3 / 160)


@dataclass(frozen=True)
class LogLikelihood:
    """What :func:`log_likelihood` returns.

    value: ln p in nats, (B,), float64. std_error: of the random probes, (B,); 0 with the exact trace; the error of the ODE is not in it.
    nfe: evaluations of the denoiser, products: of its Jacobian with a vector, both for each sample. s: (nodes,) noise-to-signal
    ratios; integrand: (nodes, B), what the method integrates over ln s. z: (B, d), where the flow ended, N(0, I) if the prior is right.
    dof: (B,), effective degrees of freedom of the standard error, infinite with the exact trace.
    """

    value: Tensor
    std_error: Tensor
    dof: Tensor
    nfe: int
    products: int
    seconds: float
    s: Tensor
    integrand: Tensor
    z: Tensor

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """(low, high), (B,): ln p as far as the probes leave it open, by Student's t."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1), got {level}")
        quantile = torch.as_tensor(stats.t.ppf((1 + level) / 2, self.dof.cpu().numpy()), device=self.value.device)
        return self.value - quantile * self.std_error, self.value + quantile * self.std_error


def log_likelihood(
    prior: Prior,
    x: Tensor,
    *,
    divergence: Divergence = "exact",
    probes: int = 16,
    nodes: int | None = None,
    probing: Probing = "hadamard",
    basis: Basis = "auto",
    end: End = "data",
    solver: Solver | None = None,
    reference: GaussianReference | None = None,
    s_max: float | None = None,
    clock: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    batch: int = 64,
    chunk: int | None = None,
) -> LogLikelihood:
    r"""ln p(x) in nats for samples x (B, *shape), in [-1, 1] for images, of any :class:`Prior`, guided or not.

    divergence: "exact" computes all d entries of the trace, ``chunk`` of them at a time; "hutchinson" estimates it at each node with
    ``probes`` fresh vectors, all of which share one evaluation. probing: "hadamard" (structured; ``probes`` a power of 2) or
    "rademacher" (independent). basis: of the probes: "eigen" for the coordinates of the reference, "pixel" for those of x; "auto" takes
    eigen where the reference has a basis. nodes: of the grid; by default 32 with the exact trace and 72 without. solver: "rk4" takes four
    evaluations a node, "ab4" one, and more nodes; by default rk4 with the exact trace, which costs much more than they, and else ab4.

    end: "data" is p_0, continued below t_min by its leading order in s^2, for data that is smooth at t_min; "t_min" is the density of
    x_t at t_min, evaluated at x, which is defined for every prior. reference: by default what the prior says of itself
    (:meth:`GaussianReference.of`). s_max: where to stop, if before the SDE does. clock: (a, c): nodes are uniform in ln s for a < s < c and
    rarer outside; by default about the smallest and the largest standard deviation of the reference. batch: samples at a time; no value
    depends on it, for each sample has random numbers of its own.

    ValueError: for x of a shape that is not the prior's, NaN, or settings that contradict each other.
    """
    started = time.perf_counter()
    _check(prior, x, divergence, probing, basis, end, solver, probes, nodes)
    shape = tuple(x.shape[1:])
    reference = (reference or GaussianReference.of(prior, shape)).to(prior.device)
    if len(reference.mean) != x[0].numel():
        raise ValueError(f"the reference has {len(reference.mean)} dimensions, a sample {shape} has {x[0].numel()}")
    nodes = nodes or (32 if divergence == "exact" else 72)
    solver = solver or ("rk4" if divergence == "exact" else "ab4")
    eigen = reference.basis is not None if basis == "auto" else basis == "eigen"
    drawer = None if divergence == "exact" else Probes(shape, probes, reference, eigen, probing == "hadamard")
    generators = spawn(generator, len(x)) if drawer else []
    flow = _Flow(prior, shape, reference, _levels(prior, reference, nodes, s_max, clock), end, solver, drawer, chunk)
    parts = [flow.run(x[i : i + batch].to(prior.device), generators[i : i + batch]) for i in range(0, len(x), batch)]
    value, error, dof, integrand, z = (torch.cat(p, dim=0) for p in zip(*parts, strict=True))
    products = nodes * (x[0].numel() if drawer is None else probes)
    return LogLikelihood(value, error, dof, flow.nfe, products, time.perf_counter() - started, flow.s, integrand.T, z)


def _check(
    prior: Prior, x: Tensor, divergence: str, probing: str, basis: str, end: str, solver: str | None, probes: int, nodes: int | None
) -> None:
    for name, value, known in (
        ("divergence", divergence, Divergence), ("probing", probing, Probing), ("basis", basis, Basis), ("end", end, End),
        ("solver", solver or "rk4", Solver),
    ):  # fmt: skip
        if value not in get_args(known):
            raise ValueError(f"unknown {name} {value!r}; known: {', '.join(get_args(known))}")
    if nodes is not None and nodes < 8:
        raise ValueError(f"the grid needs at least 8 nodes, got {nodes}")
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}")
    if x.ndim != len(prior.shape) + 1 or (len(prior.shape) == 3 and x.shape[1] != prior.shape[0]) or not len(x):
        raise ValueError(f"x must be a batch (B, {', '.join(map(str, prior.shape))}) of the prior's samples, got {tuple(x.shape)}")
    if len(prior.shape) != 3 and tuple(x.shape[1:]) != tuple(prior.shape):
        raise ValueError(f"x must be a batch (B, {', '.join(map(str, prior.shape))}) of the prior's samples, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, got {x.dtype}; for 8-bit images there is bits_per_dim")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("x holds NaN or infinite values")


@dataclass(frozen=True)
class _Levels:
    """Nodes uniform in a clock w with dw/ds = c/((s + a)(s + c)): ln s between a and c, standing still far outside."""

    w: Tensor
    a: float
    c: float

    def s(self, w: Tensor) -> Tensor:
        ratio = (w * (self.c - self.a) / self.c).exp()  # (s + a)/(s + c)
        return (self.c * ratio - self.a) / (1 - ratio)

    def rate(self, s: Tensor) -> Tensor:
        """d ln s / dw."""
        return (s + self.a) * (s + self.c) / (s * self.c)


def _levels(prior: Prior, reference: GaussianReference, nodes: int, s_max: float | None, clock: tuple[float, float] | None) -> _Levels:
    ends = prior.sde.noise_to_signal(torch.tensor([prior.sde.t_min, prior.sde.t_max], dtype=torch.float64))
    first, last = float(ends[0]), min(float(ends[1]), s_max or math.inf)
    if not first < last:
        raise ValueError(f"s_max must lie above the smallest noise of the prior, {first:g}; got {last:g}")
    smallest, largest = (math.sqrt(max(float(v), 1e-12)) for v in (reference.variances.min(), reference.variances.max()))
    a, c = clock or (0.0 if reference.basis is None else 0.3 * smallest, 2 * largest)
    low, high = (c / (c - a) * math.log((s + a) / (s + c)) for s in (first, last))
    return _Levels(torch.linspace(low, high, nodes, dtype=torch.float64), a, c)


def quadrature_weights(n: int) -> Tensor:
    """Weights of Gregory's rule of order 6 on n nodes at unit distance: 1 inside, which also makes the noise of the nodes least."""
    weights = torch.ones(n, dtype=torch.float64)
    weights[[0, -1]] = 0.5
    for j, c in enumerate(_GREGORY, start=1):
        for m in range(j + 1):
            difference = c * (-1) ** m * math.comb(j, m)  # backward differences at the end, mirrored at the start
            weights[-1 - m] -= difference
            weights[m] -= difference
    return weights


class _Flow:
    """The flow of one prior through one grid of noise levels."""

    def __init__(
        self, prior: Prior, shape: tuple[int, ...], reference: GaussianReference, levels: _Levels, end: End, solver: Solver,
        drawer: Probes | None, chunk: int | None,
    ) -> None:  # fmt: skip
        self.prior, self.shape, self.reference, self.levels, self.end = prior, shape, reference, levels, end
        self.solver, self.drawer = solver, drawer
        self.w = levels.w.to(prior.device)
        self.s = levels.s(self.w)
        self.chunk, self.nfe = chunk, 0
        self.second = max(1, int((self.s < 1.6 * self.s[0]).sum()))

    def run(self, x: Tensor, generators: list[torch.Generator]) -> tuple[Tensor, ...]:
        """ln p (B,), its standard error and degrees of freedom (B,), integrand (B, nodes), final z (B, d)."""
        self.nfe = 0
        n, h = len(self.w), float(self.w[1] - self.w[0])
        lam, mean = self.reference.variances, self.reference.mean
        d = len(mean)
        alpha = self.prior.sde.alpha(torch.tensor(self.prior.sde.t_min, dtype=torch.float64))
        u = x.double().flatten(1) / (1.0 if self.end == "data" else alpha)
        centred = self.reference.coordinates(u - mean)
        if self.end == "data":
            # z does not move to leading order below t_min: dz/d ln s grows as s^2, so that it goes half of its value there
            q_end = lam.clamp_min(1e-300).sqrt()
            z = centred / q_end
            z = self._continued(z)
        else:
            q_end = (lam + self.s[0] ** 2).sqrt()
            z = centred / q_end
        slopes: list[Tensor] = []
        integrand: list[Tensor] = []
        for i in range(n):
            slope, g = self._node(z, self.s[i], generators)
            integrand.append(g)
            rate = self.levels.rate(self.s[i])
            slopes.append(rate * slope)
            if i + 1 == n:
                break
            if i < 3 or self.solver == "rk4":
                z = self._runge_kutta(z, i, h, slopes[-1])
            else:
                for c, k in zip(_AB4, reversed(slopes[-4:]), strict=True):
                    z = z + h * c * k
        values = torch.stack(integrand, 1)
        weights = h * self.levels.rate(self.s) * quadrature_weights(n).to(values.device)
        if self.end == "data":  # a s^2 + b s^4 through the first two nodes, integrated from 0
            first, second = self._below()
            weights[[0, self.second]] += torch.tensor([first, second], dtype=torch.float64, device=values.device)
        log_normal = -0.5 * z.square().sum(1) - 0.5 * d * math.log(2 * math.pi)
        value = log_normal - q_end.log().sum() + values @ weights
        if self.end == "t_min":
            value = value - d * alpha.log()
        return value, *self._error(values, weights), values, z

    def _below(self) -> tuple[float, float]:
        """Weights of f at the first node and at the one called second in the integral of f = a s^2 + b s^4 over ln s below the first."""
        p, r = float(self.s[0]) ** 2, float(self.s[self.second]) ** 2
        return (2 * r - p) / (4 * (r - p)), -(p**2) / (4 * r * (r - p))

    def _continued(self, z_0: Tensor) -> Tensor:
        """z at the first node from z at s = 0: dz/d ln s = a s^2 + b s^4, by fixed-point iteration."""
        p, r = float(self.s[0]) ** 2, float(self.s[self.second]) ** 2
        f = g = torch.zeros_like(z_0)
        for _ in range(3):
            a, b = (f * r / p - g * p / r) / (r - p), (g / r - f / p) / (r - p)
            f = self._slope(z_0 + a * p / 2 + b * p**2 / 4, self.s[0])
            g = self._slope(z_0 + a * r / 2 + b * r**2 / 4, self.s[self.second])
        first, second = self._below()
        return z_0 + first * f + second * g

    def _denoised(self, u: Tensor, s: Tensor) -> Tensor:
        """D(u, s) for u (B, *shape) in the prior's precision."""
        t = self.prior.sde.t_from_noise_to_signal(s).clamp(self.prior.sde.t_min, self.prior.sde.t_max)
        return self.prior.denoise((self.prior.sde.alpha(t) * u).to(self.prior.dtype), t.to(self.prior.dtype))

    def _point(self, z: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, *shape) at z, and q."""
        q = (self.reference.variances + s**2).sqrt()
        return (self.reference.mean + self.reference.from_coordinates(q * z)).reshape(len(z), *self.shape), q

    def _difference(self, D: Tensor, z: Tensor, q: Tensor) -> Tensor:
        """dz/d ln s = -U^T (D - D_G) / q."""
        return self.reference.variances / q**2 * z - self.reference.coordinates(D.double().flatten(1) - self.reference.mean) / q

    def _slope(self, z: Tensor, s: Tensor) -> Tensor:
        self.nfe += 1
        u, q = self._point(z, s)
        with torch.no_grad():
            return self._difference(self._denoised(u.to(self.prior.dtype), s), z, q)

    def _runge_kutta(self, z: Tensor, i: int, h: float, k1: Tensor) -> Tensor:
        """A step of order 4 that needs no past."""
        middle, end = self.levels.s(self.w[i] + h / 2), self.s[i + 1]
        k2 = self.levels.rate(middle) * self._slope(z + h / 2 * k1, middle)
        k3 = self.levels.rate(middle) * self._slope(z + h / 2 * k2, middle)
        k4 = self.levels.rate(end) * self._slope(z + h * k3, end)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def _node(self, z: Tensor, s: Tensor, generators: list[torch.Generator]) -> tuple[Tensor, Tensor]:
        """dz/d ln s (B, d) and tr J_G - tr J (B,), from one evaluation."""
        self.nfe += 1
        u, q = self._point(z, s)
        D, products = value_and_products(lambda v: self._denoised(v, s), u.to(self.prior.dtype))
        trace_G = (self.reference.variances / q**2).sum()
        total = torch.zeros(len(z), dtype=torch.float64, device=z.device)
        for v, scale in self._vectors(len(z), generators):
            total += scale * (v * products(v)).flatten(2).double().sum((0, 2))
        return self._difference(D, z, q), trace_G - total

    def _vectors(self, B: int, generators: list[torch.Generator]) -> Iterator[tuple[Tensor, float]]:
        """Vectors (k, B, *shape) and the factor of their quadratic forms in the trace."""
        dtype, device, d = self.prior.dtype, self.prior.device, len(self.reference.mean)
        if self.drawer is not None:
            yield self.drawer.draw(generators, dtype, device), 1 / self.drawer.k
            return
        step = self.chunk or max(1, min(d, 2**20 // (B * d)))
        for first in range(0, d, step):
            rows = torch.eye(d, dtype=dtype, device=device)[first : first + step]
            yield rows[:, None].expand(-1, B, -1).reshape(-1, B, *self.shape), 1.0

    def _error(self, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Standard error of the weighted sum of the nodes, and its degrees of freedom, each (B,).

        Third differences, (1, -3, 3, -1) with the sum of squares 20, are nearly free of a smooth integrand and estimate the variance of
        their middle (von Neumann 1941; Gasser, Sroka and Jennen-Steinmetz 1986). The degrees of freedom are Satterthwaite's (1946),
        with the correlations -15/20, 6/20 and -1/20 of neighbouring differences.
        """
        if self.drawer is None:
            zero = torch.zeros(len(values), dtype=torch.float64, device=values.device)
            return zero, zero + math.inf
        e = values[:, :-3] - 3 * values[:, 1:-2] + 3 * values[:, 2:-1] - values[:, 3:]
        parts = torch.nn.functional.pad((e.square() / 20)[:, None], (1, 2), mode="replicate")[:, 0] * weights.square()
        variance = parts.sum(1)
        overlap = 1 + 2 * (15**2 + 6**2 + 1) / 20**2
        # each part has been squared once, and E[e^4] = 3 E[e^2]^2
        dof = 3 * variance**2 / (overlap * parts.square().sum(1)).clamp_min(1e-300)
        return variance.sqrt(), dof.clamp(1, values.shape[1] / overlap)
