r"""Second-order ancestral sampling that starts from a point estimate instead of pure noise.

Let v be the variance of p(x | y) in its widest direction. Once :math:`s_0^2 \gg v`, the law
of :math:`u = x + s_0 n` given y is that of any image near its mean plus noise, and nothing is
gained by sampling at higher levels. The run starts from

.. math:: u_0 = \hat x + s_0 n,\qquad s_0 = c\,\sqrt v,

with a point estimate :math:`\hat x` that all draws share. For a Gaussian posterior
:math:`N(m, v)` the draws that follow have, exactly,

.. math:: \text{mean } m + \frac{\hat x - m}{1 + c^2},\qquad
          \text{variance } v\Bigl(1 - \frac{1}{(1 + c^2)^2}\Bigr),

so that c = 2 leaves a fifth of the error of the estimate and 96 % of the variance. Each further
``sweep``, which draws :math:`x_0 | u, y` and then :math:`u | x_0` again at :math:`s_0`, divides the
error by :math:`1 + c^2` and the missing variance by its square.

v is measured. At a level s the covariance of :math:`x_0 | u, y` is :math:`V - V A^T (\Sigma_y +
A V A^T)^{-1} A V` with :math:`V = s^2 J`, and its largest eigenvalue :math:`\lambda`, from a few
steps of Lanczos's method, gives :math:`1/v = 1/\lambda - 1/s^2`. The levels descend from the
largest one by factors of 2, while :math:`s_0` would be below the next level. A posterior with
several modes therefore stops above the level at which they part, and no mode is lost. An estimate
that is further than two widths, in root mean square, from the mean that is seen at a level belongs
to a mode that y excludes, and is replaced by that mean.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.capabilities import Exactness
from solvers.guidance import MMPS
from solvers.jacobian import Linearisation
from solvers.posterior.hqs import HQS
from solvers.posterior.point import PointEstimator
from solvers.posterior.records import Run
from solvers.posterior.second_order import SecondOrderAncestral, lanczos
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["WarmStart"]

_FACTOR = 2.0  # between the levels at which the width is measured
_FAR = 2.0  # root mean squares of an estimate that cannot be one of the posterior, in widths
_LANCZOS, _CONJUGATE_GRADIENTS = 2, 4  # iterations for the width, which is measured once


@dataclass(frozen=True)
class WarmStart(SecondOrderAncestral):
    """Second-order ancestral sampling from a point estimate at a noise level that fits it.

    The cost is one network evaluation, ``lanczos`` vector-Jacobian products and at most
    ``correction.iterations`` more for each step and sweep, and once for all draws the cost of the
    estimate and of the width.

    Args:
        steps: Number of steps.
        lanczos: Vector-Jacobian products for the square root of J, at each step.
        correction: Conjugate gradients that condition each step on y.
        grid: Noise levels. The run starts at s_0 instead of s_max, which bounds it.
        estimate: Point estimate to start from.
        ratio: s_0 in units of the widest standard deviation of the posterior.
        sweeps: Draws at s_0 that forget the estimate before the descent.
        s_least: Smallest s_0.

    Raises:
        ValueError: If steps or lanczos is below 1, sweeps is negative, or ratio or s_least is not
            positive.

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
    ratio: float = 2.0
    sweeps: int = 0
    s_least: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweeps < 0 or not (self.ratio > 0 and self.s_least > 0):
            raise ValueError(
                "a warm start needs sweeps >= 0 and positive ratio and s_least, got "
                f"{self.sweeps}, {self.ratio} and {self.s_least}"
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
                "uncertainty asks for; 1 evaluation and at most 4 VJPs per step",
                lambda steps: cls(
                    steps, grid=TimeGrid(s_max=2.0, s_min=0.06), ratio=1.0, s_least=0.5
                ),
                steps=4,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        correction = MMPS(iterations=4)
        return {"warm-start": cls(20, lanczos=4, correction=correction, sweeps=2, s_least=0.01)}

    def _prepare(
        self, prior: Prior, problem: InverseProblem, y: Tensor
    ) -> tuple[dict[str, Tensor], int]:
        x = self.estimate.estimate(prior, problem, y)
        ends = self.grid.levels(prior.sde, 2)
        lowest = max(self.s_least, ends[1])
        s, products = ends[0], 0
        s_0, going = x.new_full((len(x),), s), torch.ones(len(x), dtype=torch.bool, device=x.device)
        while s > lowest and bool(going.any()):
            width, mean, count = self._look(prior, problem, y, x, s)
            products += count
            # of a mean and an estimate that both explain y, the estimate has more detail
            far = (mean - x).square().flatten(1).mean(1) > (_FAR * width) ** 2
            x = torch.where(expand_like(far, x), mean, x)
            wanted = (self.ratio * width).clamp(lowest, s)
            s_0 = torch.where(going, wanted, s_0)
            s /= _FACTOR
            going = going & (wanted < s)
        return {"x": x, "s_0": s_0}, products

    def _look(
        self,
        prior: Prior,
        problem: InverseProblem,
        y: Tensor,
        x: Tensor,
        s: float,
        iterations: int = _LANCZOS,
    ) -> tuple[Tensor, Tensor, int]:
        """Largest standard deviation (B,) and mean of p(x | y), seen at level s, and VJPs."""
        v = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x)
        u = x + s * v
        t = _time(prior, u.new_tensor(s))
        at = Linearisation(lambda u: prior.denoise(prior.sde.alpha(t) * u, t), u)
        correction = replace(self.correction, iterations=_CONJUGATE_GRADIENTS)
        ratios = u.new_full((len(u),), s)
        with torch.no_grad():
            mean, A = problem.operator.apply(at.value), problem.operator.linearise(at.value)

            def covariance(v: Tensor) -> Tensor:
                """Product with the covariance of x_0 given u and y, in units of s^2."""
                Jv = at.vjp(v)
                seen = problem.operator.mask_unobserved(A.apply(Jv))
                return Jv - correction.gain(seen, at.value, mean, at.vjp, ratios, problem)

            # the estimate may be far from the mean along a direction that chance would miss
            r = problem.operator.mask_unobserved(y) - mean
            shift = self.correction.gain(r, at.value, mean, at.vjp, ratios, problem)
            v = torch.randn(u.shape[1:], generator=torch.Generator().manual_seed(1)).to(u)
            T, _ = lanczos(covariance, _unit(at.value + shift - x) + _unit(v[None]), iterations)
            share = torch.linalg.eigvalsh(T).amax(-1).clamp(0, 1 - 1e-6)
        return s * (share / (1 - share)).sqrt(), at.value + shift, at.count

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        x, s_0, count = run.prepared["x"], run.prepared["s_0"], 0
        last, rho = self.grid.levels(run.prior.sde, 2)[1], self.grid.rho
        ramp = torch.linspace(0, 1, self.steps, dtype=s_0.dtype, device=s_0.device)[:, None]
        end = s_0.new_tensor(last).clamp_max(s_0 / 2)
        ratios = torch.lerp(s_0 ** (1 / rho), end ** (1 / rho), ramp) ** rho
        times = [_time(run.prior, s) for s in ratios]
        levels = [expand_like(s, x) for s in (*ratios, torch.zeros_like(s_0))]

        u = x + levels[0] * run.randn()
        for _ in range(self.sweeps):
            x, products = self._conditional_draw(run, u, times[0], levels[0])
            u, count = x + levels[0] * run.randn(), count + products
        u, products = self._descend(run, u, times, levels)
        return u, count + products


def _unit(v: Tensor) -> Tensor:
    norm: Tensor = v.flatten(1).norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    return v / expand_like(norm, v)


def _time(prior: Prior, s: Tensor) -> Tensor:
    t: Tensor = prior.sde.t_from_noise_to_signal(s.double()).to(prior.device, prior.dtype)
    return t
