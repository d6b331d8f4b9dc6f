r"""DDIM (Song, Meng and Ermon 2021, eq. 12), for any SDE.

.. math:: x_s = \alpha_s \hat x_0 + \sqrt{\sigma_s^2 - \eta^2 v}\;\hat\varepsilon + \eta\sqrt{v}\;z,
          \quad v = \sigma_s^2\left(1 - \frac{\alpha_t^2 \sigma_s^2}{\alpha_s^2 \sigma_t^2}\right)

with :math:`\hat\varepsilon = (x_t - \alpha_t\hat x_0)/\sigma_t`. :math:`\eta = 0` is the
probability-flow ODE by exponential Euler; :math:`\eta = 1` is the ancestral sampler, whose v is the
variance of :math:`x_s` given :math:`x_t` and :math:`x_0`. The last step returns :math:`\hat x_0`.
"""

from dataclasses import dataclass

from torch import Tensor

from problems.checks import check_number
from scoresde.priors.base import Prior
from solvers.samplers.base import Callback, Sampler
from solvers.streams import NormalStream

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM(Sampler):
    """DDIM, deterministic or with noise; NFE = steps.

    Args:
        steps: Number of points of the time grid, at least 1.
        grid: Time grid.
        start: Law of the first state, "noise" or "mean", see :class:`Sampler`.
        eta: Amount of fresh noise, in [0, 1]. 0: deterministic given the start; 1: ancestral.

    Raises:
        ValueError: If steps < 1, the start is unknown, or eta is not in [0, 1].

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import DDIM
        >>> prior = GaussianPrior(torch.full((1,), 3.0), 0.01 * torch.eye(1))
        >>> x = DDIM(steps=100, eta=1.0).sample(prior, 500, generator=torch.manual_seed(0))
        >>> round(float(x.mean()), 1), round(float(x.std()), 1)
        (3.0, 0.1)
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            check_number(self.eta, "eta", least=0, most=1)
        except ValueError:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta!s:.80}") from None

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
            x0_hat = prior.denoise(x_t, t)
            if callback:
                callback(i + 1, len(times), t, x_t, x0_hat)
            if i + 1 < len(times):
                s = times[i + 1]
                alpha_t, sigma_t, alpha_s, sigma_s = (
                    sde.alpha(t),
                    sde.sigma(t),
                    sde.alpha(s),
                    sde.sigma(s),
                )
                eps_hat = (x_t - alpha_t * x0_hat) / sigma_t
                v = sigma_s**2 * (1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2)
                x_t = (
                    alpha_s * x0_hat + (sigma_s**2 - self.eta**2 * v).clamp_min(0).sqrt() * eps_hat
                )
                if self.eta > 0:
                    x_t = x_t + self.eta * v.sqrt() * noise(tuple(x_t.shape), x_t.dtype, x_t.device)
        return x0_hat
