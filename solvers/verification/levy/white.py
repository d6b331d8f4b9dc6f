r"""Denoiser of signals whose samples are independent Laplace or Bernoulli-Laplace numbers.

Given :math:`u = x_0 + s n`, a sample of Laplace law with scale b is one of two truncated normals,
one for each sign: :math:`N(u \mp s^2/b, s^2)` on the positive or the negative numbers. A sample of
zero has the likelihood :math:`N(u; 0, s^2)`.
"""

import math

import torch
from torch import Tensor

from scoresde.sde import EDMSDE, SDE
from solvers.verification.levy.denoiser import SignalDenoiser
from solvers.verification.levy.increments import LaplaceIncrements

__all__ = ["WhiteDenoiser"]


class WhiteDenoiser(SignalDenoiser):
    """Prior of white signals of a Laplace or Bernoulli-Laplace law, in closed form.

    It computes in float64 and has all derivatives.

    Args:
        law: Law of one sample.
        length: Number of samples of a signal.
        sde: Forward process; None for ``EDMSDE()``.

    Example:
        >>> import torch
        >>> from solvers.verification.levy import BernoulliLaplaceIncrements
        >>> prior = WhiteDenoiser(BernoulliLaplaceIncrements(0.5, rate=0.1), 3)
        >>> x_t = torch.tensor([[0.1, 0.4, 2.0]], dtype=torch.float64)
        >>> [round(v, 2) for v in prior.denoise(x_t, 0.2)[0].tolist()]
        [0.0, 0.04, 1.96]
    """

    def __init__(self, law: LaplaceIncrements, length: int, sde: SDE | None = None) -> None:
        super().__init__(sde or EDMSDE(), (length,))
        self.law = law

    def _mean(self, u: Tensor, s: float) -> Tensor:
        b, silence = self.law.scale, self.law.silence
        log_mass, hazard = _tail(torch.stack([u, -u]) / s - s / b)  # jumps up and jumps down
        jump = log_mass + math.log(s * (1 - silence) / (2 * b) * math.sqrt(2 * math.pi))
        rest = torch.full_like(u, math.log(silence) if silence else -math.inf)
        weights = torch.stack([*jump, rest]).softmax(0)
        up, down = s * hazard
        mean: Tensor = weights[0] * up - weights[1] * down
        return mean


def _tail(e: Tensor) -> tuple[Tensor, Tensor]:
    r"""Compute :math:`e^2/2 + \ln\Phi(e)` and :math:`e + \phi(e)/\Phi(e)`.

    Far below zero their terms cancel, so that the scaled error function stands for them there.
    """
    low, high = e.clamp_max(5), e.clamp_min(5)
    scaled = torch.special.erfcx(-low / math.sqrt(2))
    log_cdf = torch.special.log_ndtr(high)
    log_mass = torch.where(e < 5, (scaled / 2).log(), high.square() / 2 + log_cdf)
    ratio = torch.where(
        e < 5,
        math.sqrt(2 / math.pi) / scaled,
        (-high.square() / 2 - log_cdf).exp() / math.sqrt(2 * math.pi),
    )
    return log_mass, e + ratio
