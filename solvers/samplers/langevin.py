r"""Annealed Langevin dynamics (Song and Ermon 2019, algorithm 1), with a Metropolis correction if wished.

At each noise level :math:`s` of the grid, in :math:`u = x_t/\alpha_t`, ``corrections`` steps of

.. math:: u' = u + \tfrac{\epsilon}{2} \nabla\log p_s(u) + \sqrt{\epsilon}\,z, \qquad \epsilon = \text{step\_size} \cdot s^2 ,

with :math:`\nabla\log p_s(u) = (D(u, s) - u)/s^2`. The defaults are the paper's: 100 steps at each level, levels a factor of 1.6
apart, :math:`\epsilon = 2\cdot10^{-5}` at :math:`\sigma = 0.01`, that is, step_size 0.2. Unadjusted steps widen a Gaussian of variance s^2
by the factor :math:`1/(1 - \text{step\_size}/4)`; MALA (Roberts and Tweedie 1996) accepts or rejects each step so that none is left. A
score is not a density, so the log-ratio of densities is the line integral of the score between u and u' (Sjöberg et al. 2023, by the
trapezoidal rule). Between modes that rule's error, of third order in the step, shifts their weights with every crossing; Simpson's rule, of
fifth order, costs one evaluation more. The last level ends in the denoiser, as in all samplers.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.samplers.base import Callback, Sampler
from solvers.samplers.grid import TimeGrid
from solvers.streams import NormalStream

__all__ = ["AnnealedLangevin"]


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """NFE = steps * corrections + 1, with mala steps * (2 corrections + 1). steps: noise levels; step_size: epsilon / s^2."""

    steps: int = 18
    grid: TimeGrid = field(default_factory=lambda: TimeGrid("log_snr", s_max=50.0, s_min=0.01))
    corrections: int = 100
    step_size: float = 0.2
    mala: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corrections < 1 or not 0 < self.step_size < 4:
            raise ValueError(
                f"corrections must be at least 1 and step_size in (0, 4), got {self.corrections} and {self.step_size}"
            )

    def _run(
        self,
        prior: Prior,
        x_t: Tensor,
        times: Tensor,
        noise: NormalStream,
        callback: Callback | None,
    ) -> Tensor:
        sde = prior.sde
        u, x0_hat = x_t / sde.alpha(times[0]), x_t
        for i, t in enumerate(times):
            alpha_t, s = sde.alpha(t), sde.noise_to_signal(t)
            epsilon = self.step_size * s**2
            x0_hat = prior.denoise(alpha_t * u, t)
            for k in range(self.corrections):
                z = noise((len(u), u[0].numel() + self.mala), u.dtype, u.device)
                z, spare = z[:, : u[0].numel()].reshape(u.shape), z[:, -1]
                score = (x0_hat - u) / s**2
                proposal = u + epsilon / 2 * score + epsilon.sqrt() * z
                if self.mala:
                    proposed_hat = prior.denoise(alpha_t * proposal, t)
                    proposed_score = (proposed_hat - proposal) / s**2
                    back = (u - proposal - epsilon / 2 * proposed_score) / epsilon.sqrt()
                    middle = (u + proposal) / 2
                    middle_score = (prior.denoise(alpha_t * middle, t) - middle) / s**2
                    gain = (
                        ((score + 4 * middle_score + proposed_score) / 6 * (proposal - u))
                        .flatten(1)
                        .sum(1)
                    )
                    log_ratio = gain + (z.square() - back.square()).flatten(1).sum(1) / 2
                    accept = expand_like(
                        torch.special.log_ndtr(spare) < log_ratio, u
                    )  # Phi of a normal number is a uniform one
                    u, x0_hat = (
                        torch.where(accept, proposal, u),
                        torch.where(accept, proposed_hat, x0_hat),
                    )
                else:
                    u = proposal
                    if k + 1 < self.corrections or i + 1 == len(times):
                        x0_hat = prior.denoise(alpha_t * u, t)
            if callback:
                callback(i + 1, len(times), t, alpha_t * u, x0_hat)
        return x0_hat
