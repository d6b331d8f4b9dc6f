r"""Second-order ancestral sampling that starts from a point estimate instead of pure noise.

Once :math:`s_0` is large against the spread of p(x | y), the law of :math:`u = x + s_0 n` given y
is that of any image near its mean plus noise, and nothing is gained by sampling at higher levels.
The run starts from

.. math:: u_0 = \hat x + s_0 n

with a point estimate :math:`\hat x` that all draws share. In a direction in which the posterior is
Gaussian, :math:`N(m, v)`, the draws that follow have, exactly,

.. math:: \text{mean } m + q(\hat x - m),\qquad \text{variance } v(1 - q^2),\qquad
          q = \frac{v}{v + s_0^2} .

:math:`s_0` is chosen so that the draws lose a given fraction of the whole variance,
:math:`\sum_i v_i q_i^2 = f \sum_i v_i`. Each ``sweep``, which draws :math:`x_0 | u, y` and then
:math:`u | x_0` again at :math:`s_0`, multiplies the error and the root of the missing variance by q
once more.

The variances that count are those of smooth fields. White noise has next to nothing of the mean
level of a hole, of which thousands of pixels share the uncertainty, and it is this level that a
start too low gets wrong. The variances are measured. At a level s the covariance of
:math:`x_0 | u, y` is :math:`V - V A^T (\Sigma_y + A V A^T)^{-1} A V` with :math:`V = s^2 J`, whose
eigenvalues :math:`\lambda_i` give :math:`1/v_i = 1/\lambda_i - 1/s^2`. Sums over them come from a
few steps of Lanczos's method, started from a random smooth field (stochastic Lanczos quadrature,
Ubaru et al. 2017). The levels descend from the largest one by factors of 2, while :math:`s_0` would
be below the next level. A posterior with several modes therefore stops above the level at which
they part, and no mode is lost. An estimate that is further than two of the largest standard
deviations, in root mean square, from the mean that is seen at a level belongs to a mode that y
excludes, and is replaced by that mean.

An estimate shows less texture than an image, and u shows it too if s_0 is low: of two kinds of
image, smooth ones :math:`N(\hat x, a^2 I)` and textured ones :math:`N(\hat x, b^2 I)` in d pixels,
the start makes the textured ones less likely by the factor

.. math:: \exp\Bigl(-\frac{d}{2} \Bigl[\ln r - 1 + \frac{1}{r}\Bigr]\Bigr), \qquad
          r = \frac{s_0^2 + b^2}{s_0^2 + a^2},

on average in its logarithm, which is next to nothing once :math:`d (b^2 - a^2)^2 \ll 4 s_0^4`.
Below that level the draws are smooth and too sure of it, however small the width that was measured.
``s_least`` keeps s_0 above it. It is the number that the coverage on photographs depends on. The
texture that y leaves open is what is finer than the distance between measured numbers, and its
standard deviation grows with that distance. Beyond two pixels the level therefore grows in
proportion: it is twice ``s_least`` for super-resolution by 4. At the levels above ``s_least`` the
spectrum of J is broad, and its square root needs more products.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from problems import Denoising, InverseProblem
from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.capabilities import Exactness
from solvers.guidance import MMPS
from solvers.posterior.hqs import HQS
from solvers.posterior.point import PointEstimator
from solvers.posterior.records import Run
from solvers.posterior.second_order import SecondOrderAncestral, lanczos, linearised_denoiser
from solvers.posterior.unexplained import explain_residual
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid, time_at
from solvers.scale import OfData
from solvers.streams import fixed_normal

__all__ = ["WarmStart"]

_FACTOR = 2.0  # between the levels at which the width is measured
_FAR = 2.0  # root mean squares of an estimate that cannot be one of the posterior, in widths
_SEEN = 2.5  # noise levels of pixels that are seen themselves, which hide their texture
_NEAR = 2.0  # pixels between measured numbers up to which s_least hides what they leave open
_MORE = 4  # products for the root of J in the first quarter of a descent from above s_least
_GRID = 8  # pixels between the random numbers of a smooth probe
_LANCZOS, _CONJUGATE_GRADIENTS = 2, 4  # iterations for the width, which is measured once


@dataclass(frozen=True)
class WarmStart(SecondOrderAncestral):
    """Second-order ancestral sampling from a point estimate at a noise level that fits it.

    The cost is one network evaluation, ``lanczos`` vector-Jacobian products and at most
    ``correction.iterations`` more for each step and sweep, and once for all draws the cost of the
    estimate and of the width.

    Args:
        steps: Number of steps.
        lanczos: Vector-Jacobian products for the square root of J, at each step; 4 more in the
            first quarter of the steps where measured numbers are further apart than two pixels.
        correction: Conjugate gradients that condition each step on y.
        grid: Noise levels. The run starts at s_0 instead of s_max, which bounds it.
        estimate: Point estimate to start from.
        loss: Fraction of the posterior's variance along smooth fields (for vectors: of the whole
            variance) that a start at s_0 loses, before the sweeps.
        sweeps: Draws at s_0 that forget the estimate before the descent.
        s_least: Smallest s_0, above the level at which noise hides the texture of pictures. It
            grows with the distance between measured numbers, from two pixels on. Where each pixel
            is seen itself (denoising, JPEG, quantisation) 2.5 noise levels are enough, and a
            quarter of s_least.
        finish: What the last step returns, "draw": a draw of p(x_0 | u, y) as in every step;
            "mean": its mean, without the grain of a square root of J by few products. The draws
            then lack the variance that is left at the last noise level.
        balanced: Whether the noise of every four draws sums to zero (:mod:`solvers.balanced`).
            Where the posterior is Gaussian their mean is its mean, whatever the noise. Statistics
            that take draws for independent do not hold then: the variance over n draws is too large
            by up to a factor of n / (n - 1), and the check of the residual in
            :mod:`scoresde.evaluation.residual` must be told. ``independently()`` gives the solver
            without it.

    Raises:
        ValueError: If steps or lanczos is below 1, sweeps is negative, loss is not in (0, 1),
            s_least is not positive, or finish is unknown.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = WarmStart(5).sample(prior, problem, y, n=200, generator=g)
        >>> round(float(posterior.mean.mean()), 1)  # the exact posterior mean is 0.8
        0.8
    """

    exactness: ClassVar[Exactness] = "gaussian"

    steps: int = 4
    lanczos: int = 2
    correction: MMPS = field(default_factory=lambda: MMPS(iterations=2))
    estimate: PointEstimator = field(default_factory=HQS)
    loss: float = 0.04
    sweeps: int = 0
    s_least: float = 0.3
    finish: Literal["draw", "mean"] = "draw"
    balanced: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("finish", self.finish, ("draw", "mean"))
        if self.sweeps < 0 or not (0 < self.loss < 1 and self.s_least > 0):
            raise ValueError(
                "a warm start needs sweeps >= 0, loss in (0, 1) and s_least > 0, got "
                f"{self.sweeps}, {self.loss} and {self.s_least}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "warm-start": Preset(
                "second-order ancestral steps from a point estimate, at the noise level that its "
                "uncertainty asks for; 1 evaluation and 3 to 22 VJPs per step",
                lambda steps: cls(
                    steps,
                    correction=MMPS(iterations=16, accuracy=0.1),
                    grid=TimeGrid(s_max=OfData(4.0), s_min=OfData(0.07)),
                    estimate=HQS(s_max=OfData(0.8), s_min=OfData(0.04), std=OfData(1.0)),
                    loss=0.2,
                    s_least=OfData(2.0),
                    balanced=True,
                ),
                steps=8,
                least=6,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        correction = MMPS(iterations=4)
        return {
            "warm-start": cls(
                20, lanczos=4, correction=correction, loss=0.01, sweeps=2, s_least=0.01
            )
        }

    def _prepare(
        self, prior: Prior, problem: InverseProblem, y: Tensor
    ) -> tuple[dict[str, Tensor], int]:
        x = self.estimate.estimate(prior, problem, y)
        ends = self.grid.levels(prior.sde, 2)
        texture = min(self._texture_level(problem, y, x), ends[0])
        lowest = max(texture, ends[1])
        s, products = ends[0], 0
        s_0, going = x.new_full((len(x),), s), torch.ones(len(x), dtype=torch.bool, device=x.device)
        while s > lowest and bool(going.any()):
            variances, weights, mean, count = self._look(prior, problem, y, x, s)
            products += count
            # of a mean and an estimate that both explain y, the estimate has more detail
            distance = (mean - x).square().flatten(1).mean(1)
            far = going & (distance > _FAR**2 * variances.amax(1))
            x = torch.where(expand_like(far, x), mean, x)
            wanted = _least_level(variances, weights, self.loss, lowest, s)
            s_0 = torch.where(going, wanted, s_0)
            s /= _FACTOR
            going = going & (wanted < s)
        more = x.new_full((len(x),), _MORE if texture > self.s_least else 0)
        return {"x": x, "s_0": s_0, "more": more}, products

    def _texture_level(self, problem: InverseProblem, y: Tensor, x: Tensor) -> float:
        """The level at which noise hides the texture that y leaves open.

        It is ``s_least``, and more where measured numbers are further apart than two pixels. Where
        each pixel is seen itself, its noise bounds what is left open.
        """
        A = problem.operator
        seen_itself = isinstance(A, Denoising) or A.quantises
        if not seen_itself or "noise_covariance" not in problem.capabilities:
            return self.s_least * max(1.0, _distance(problem, y, x) / _NEAR)
        variance = problem.noise.covariance_matvec(y, torch.ones_like(y)).mean()
        enough = max(_SEEN * math.sqrt(float(variance)), self.s_least / 4)
        return min(self.s_least, enough)

    def _look(
        self,
        prior: Prior,
        problem: InverseProblem,
        y: Tensor,
        x: Tensor,
        s: float,
        iterations: int = _LANCZOS,
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Variances of p(x | y) with their weights, (B, k), and its mean, seen at level s; VJPs."""
        u = x + s * fixed_normal(x)
        at = linearised_denoiser(prior, u, time_at(prior, u.new_tensor(s)))
        iterations_cg = max(self.correction.iterations, _CONJUGATE_GRADIENTS)
        correction = replace(self.correction, iterations=iterations_cg)
        ratios, size = u.new_full((len(u),), s), s * u[0].numel() ** 0.5
        with torch.no_grad():
            mean, A = problem.operator.unrounded(at.value), problem.operator.linearise(at.value)

            def covariance(v: Tensor) -> Tensor:
                """Product with the covariance of x_0 given u and y, in units of s^2."""
                Jv = at.vjp(v)
                seen = problem.operator.mask_unobserved(A.apply(Jv))
                # the accuracy of the gain counts in noise levels: v is as large as that of u
                gain = correction.gain(size * seen, at.value, mean, at.vjp, ratios, problem)
                product: Tensor = Jv - gain / size
                return product

            T, _ = lanczos(covariance, _probe(u), iterations)
            shift = self.correction.shift(at.value, at.vjp, ratios, problem, y)
            share, vectors = torch.linalg.eigh(T)
            share = share.clamp(1e-12, 1 - 1e-6)
        return s**2 * share / (1 - share), vectors[:, 0].square(), at.value + shift, at.count

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        x, s_0, count = run.prepared["x"], run.prepared["s_0"], 0
        last, rho = self.grid.levels(run.prior.sde, 2)[1], self.grid.rho
        ramp = torch.linspace(0, 1, self.steps, dtype=s_0.dtype, device=s_0.device)[:, None]
        end = s_0.new_tensor(last).clamp_max(s_0 / 2)
        ratios = torch.lerp(s_0 ** (1 / rho), end ** (1 / rho), ramp) ** rho
        times = list(time_at(run.prior, ratios))
        levels = [expand_like(s, x) for s in (*ratios, torch.zeros_like(s_0))]

        more, first = int(run.prepared["more"].max()), self.steps // 4
        roots = [self.lanczos + (more if i < first else 0) for i in range(self.steps)]

        u = x + levels[0] * run.randn()
        for _ in range(self.sweeps):
            x, products = self._conditional_draw(run, u, times[0], levels[0], roots[0])
            u, count = x + levels[0] * run.randn(), count + products
        if self.finish == "draw":
            x, products = self._descend(run, u, times, levels, roots)
            return explain_residual(run, x, ratios[-1]), count + products
        u, products = self._descend(run, u, times[:-1], levels[:-1], roots)
        at = linearised_denoiser(run.prior, u, times[-1])
        with torch.no_grad():
            x = at.value + self.correction.shift(at.value, at.vjp, ratios[-1], run.problem, run.y)
        run.note(ratios[-1], x)
        run.progress(1.0)
        return x, count + products + at.count


def _distance(problem: InverseProblem, y: Tensor, x: Tensor) -> float:
    """Mean distance between measured numbers, in pixels of an image (B, C, H, W); 1 of a signal."""
    if x.ndim != 4:
        return 1.0
    numbers = float(problem.operator.observed(y).sum()) / len(y)
    return math.sqrt(x[0].numel() / max(numbers, 1.0))


def _probe(u: Tensor) -> Tensor:
    """The same random vector for each sample, a smooth field for images (C, H, W)."""
    generator = torch.Generator().manual_seed(1)
    if u.ndim != 4:
        return torch.randn(u.shape[1:], generator=generator).to(u).expand_as(u)
    channels, height, width = u.shape[1:]
    coarse = torch.randn(1, channels, height // _GRID + 2, width // _GRID + 2, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return smooth.to(u).expand_as(u)


def _least_level(
    variances: Tensor, weights: Tensor, loss: float, lowest: float, highest: float
) -> Tensor:
    """Least s_0 in [lowest, highest] at which at most a fraction of the variance is lost, (B,)."""
    low, high = (variances.new_full((len(variances),), math.log(s)) for s in (lowest, highest))
    total = (weights * variances).sum(1)
    for _ in range(40):  # the loss falls with s_0: bisection
        middle = (low + high) / 2
        q = variances / (variances + (2 * middle).exp()[:, None])
        enough = (weights * variances * q**2).sum(1) <= loss * total
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high.exp()
