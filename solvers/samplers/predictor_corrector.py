r"""Predictor-corrector sampling (Song et al. 2021, algorithms 1 to 3).

With the forward kernel :math:`x_t | x_s \sim N(a x_s, b^2 I)` of the step, the predictors are

.. math:: \text{reverse diffusion:}\quad & x_s = (2 - a)\,x_t + b^2 \nabla\log p_t(x_t) + b\,z \\
          \text{ancestral:}\quad & x_s = \left(x_t + b^2 \nabla\log p_t(x_t)\right)/a
          + \tfrac{b\,\sigma_s}{\sigma_t}\,z \\
          \text{Euler-Maruyama:}\quad & x_s = x_t - (f x_t - g^2 \nabla\log p_t(x_t))\,\Delta t
          + g\sqrt{\Delta t}\,z ,

of which the first two are the paper's discretisations of VP (:math:`a = \sqrt{1-\beta_i}`) and VE
(:math:`a = 1`), written for every SDE. After each, the corrector takes ``corrections`` Langevin
steps :math:`x + \epsilon \nabla\log p_s + \sqrt{2\epsilon}\,z` of size
:math:`\epsilon = 2 a^2 (r \sqrt D / \|\nabla\log p_s\|)^2`. The norm of the score is taken for each
sample separately, and :math:`\sqrt D` replaces the paper's :math:`\|z\|`, because a step whose
length depends on its own noise would increase the variance of that noise by the factor (D + 2)/D. A
step that depends on the state still favours large scores: its stationary density is
:math:`p_s \|\nabla\log p_s\|^2`, which matters where D is small.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from problems.checks import check_choice, check_number
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from scoresde.sde import SDE
from solvers.samplers.base import Callback, Sampler
from solvers.samplers.grid import MOST_STEPS, TimeGrid
from solvers.streams import NormalStream

__all__ = ["PredictorCorrector"]

_LARGEST_SNR = 1e6

Predictor = Literal["reverse_diffusion", "ancestral", "euler_maruyama", "none"]


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """Predictor-corrector sampling; NFE = steps (1 + corrections) - corrections.

    The defaults are the published setting: 1000 steps uniform in time, one correction, snr 0.16.

    Args:
        steps: Number of points of the time grid, at least 1.
        grid: Time grid.
        start: Law of the first state, "noise" or "mean", see :class:`Sampler`.
        predictor: "reverse_diffusion", "ancestral", "euler_maruyama", or "none", which leaves the
            path through the noise levels to the corrector and saves steps - 1 evaluations.
        corrections: Number of Langevin steps after each prediction, not negative.
        snr: Signal-to-noise ratio r of the Langevin steps, positive.

    Raises:
        ValueError: If steps < 1, the start or the predictor is unknown, corrections is negative,
            snr is not positive, or there is neither a predictor nor a correction.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import PredictorCorrector
        >>> prior = GaussianPrior(torch.full((1, 4, 4), 3.0), 0.04 * torch.eye(16))
        >>> sampler = PredictorCorrector(steps=200)
        >>> path = sampler.trajectory(prior, 100, generator=torch.manual_seed(0))
        >>> path.nfe, round(float(path.draws.mean()), 1)
        (399, 3.0)
    """

    steps: int = 1000
    grid: TimeGrid = field(default_factory=lambda: TimeGrid("uniform"))
    predictor: Predictor = "reverse_diffusion"
    corrections: int = 1
    snr: float = 0.16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("predictor", self.predictor, Predictor)
        try:
            check_number(self.corrections, "corrections", least=0, most=MOST_STEPS, whole=True)
            check_number(self.snr, "snr", above=0, most=_LARGEST_SNR)
        except ValueError:
            raise ValueError(
                "corrections must not be negative and snr must be positive, "
                f"got {self.corrections!s:.40} and {self.snr!s:.40}"
            ) from None
        if self.predictor == "none" and self.corrections == 0:
            raise ValueError(
                "a sampler with neither predictor nor corrections does nothing; "
                "got predictor 'none' and corrections 0"
            )

    def _run(
        self,
        prior: Prior,
        x_t: Tensor,
        times: Tensor,
        noise: NormalStream,
        callback: Callback | None,
    ) -> Tensor:
        sde, x0_hat = prior.sde, x_t
        for i, t in enumerate(times):
            s = times[min(i + 1, len(times) - 1)]
            # without a predictor the state is taken to be at the next level as it is
            now = s if self.predictor == "none" else t
            x0_hat = prior.denoise(x_t, now)
            if callback:
                callback(i + 1, len(times), now, x_t, x0_hat)
            if i + 1 == len(times):
                break
            score = (sde.alpha(now) * x0_hat - x_t) / sde.sigma(now) ** 2
            if self.predictor != "none":
                x_t = self._predict(sde, x_t, score, t, s, noise)
            for k in range(self.corrections):
                if k > 0 or self.predictor != "none":
                    score = prior.score(x_t, s)
                x_t = self._correct(x_t, score, sde.transition(s, t)[0], noise)
        return x0_hat

    def _predict(
        self, sde: SDE, x_t: Tensor, score: Tensor, t: Tensor, s: Tensor, noise: NormalStream
    ) -> Tensor:
        z = noise(tuple(x_t.shape), x_t.dtype, x_t.device)
        a, b = sde.transition(s, t)
        if self.predictor == "reverse_diffusion":
            return (2 - a) * x_t + b**2 * score + b * z
        if self.predictor == "ancestral":
            return (x_t + b**2 * score) / a + b * sde.sigma(s) / sde.sigma(t) * z
        f, g, dt = sde.drift(t), sde.diffusion(t), t - s
        return x_t - (f * x_t - g**2 * score) * dt + g * dt.sqrt() * z

    def _correct(self, x_s: Tensor, score: Tensor, a: Tensor, noise: NormalStream) -> Tensor:
        z = noise(tuple(x_s.shape), x_s.dtype, x_s.device)
        ratio: Tensor = math.sqrt(z[0].numel()) / score.flatten(1).norm(dim=1).clamp_min(1e-30)
        epsilon = expand_like(2 * (a * self.snr * ratio) ** 2, x_s)
        return x_s + epsilon * score + (2 * epsilon).sqrt() * z
