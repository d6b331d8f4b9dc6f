r"""Annealed Langevin dynamics (Song and Ermon 2019, algorithm 1), with an optional Metropolis test.

At each noise level :math:`s` of the grid, in :math:`u = x_t/\alpha_t`, it takes ``corrections``
steps of

.. math:: u' = u + \tfrac{\epsilon}{2} \nabla\log p_s(u) + \sqrt{\epsilon}\,z,
          \qquad \epsilon = \text{step\_size} \cdot s^2 ,

with :math:`\nabla\log p_s(u) = (D(u, s) - u)/s^2`. The defaults are the paper's: 100 steps at each
level, levels a factor of 1.6 apart, :math:`\epsilon = 2\cdot10^{-5}` at :math:`\sigma = 0.01`, that
is, step_size 0.2.

Unadjusted steps increase the variance of a Gaussian of variance :math:`s^2` by the factor
:math:`1/(1 - \text{step\_size}/4)`; MALA (Roberts and Tweedie 1996) accepts or rejects each step
so that this bias vanishes. A score is not a density, so the log-ratio of densities is the line
integral of the score between u and u' (Sjöberg et al. 2023, by the trapezoidal rule). Between modes
the error of that rule, of third order in the step, shifts their weights with every crossing.
Simpson's rule, with an error of fifth order, is used instead; it costs one evaluation more. The
last level ends in the denoiser, as in all samplers.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from problems.checks import check_number
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.samplers.base import Callback, Sampler
from solvers.samplers.grid import MOST_STEPS, TimeGrid
from solvers.streams import NormalStream

__all__ = ["AnnealedLangevin"]


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics, with or without a Metropolis test.

    NFE = steps * corrections + 1 without the test, and steps * (2 corrections + 1) with it.

    Args:
        steps: Number of noise levels, at least 1.
        grid: Time grid, which gives the noise levels.
        start: Law of the first state, "noise" or "mean", see :class:`Sampler`.
        corrections: Number of Langevin steps at each noise level, at least 1.
        step_size: Step in units of the noise variance, epsilon / s^2, in (0, 4).
        mala: Accept or reject each step by a Metropolis test.

    Raises:
        ValueError: If steps or corrections is below 1, the start is unknown, or step_size is not
            in (0, 4).

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import AnnealedLangevin, TimeGrid
        >>> prior = GaussianPrior(torch.full((1,), 3.0), 0.01 * torch.eye(1))
        >>> grid = TimeGrid("log_snr", s_max=10.0, s_min=0.01)
        >>> sampler = AnnealedLangevin(steps=12, grid=grid, corrections=50)
        >>> path = sampler.trajectory(prior, 500, generator=torch.manual_seed(0))
        >>> path.nfe, round(float(path.draws.mean()), 1), round(float(path.draws.std()), 1)
        (601, 3.0, 0.1)
    """

    steps: int = 18
    grid: TimeGrid = field(default_factory=lambda: TimeGrid("log_snr", s_max=50.0, s_min=0.01))
    corrections: int = 100
    step_size: float = 0.2
    mala: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            check_number(self.corrections, "corrections", least=1, most=MOST_STEPS, whole=True)
            check_number(self.step_size, "step_size", above=0, below=4)
        except ValueError:
            raise ValueError(
                "corrections must be at least 1 and step_size in (0, 4), "
                f"got {self.corrections!s:.40} and {self.step_size!s:.40}"
            ) from None

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
                    # Phi(spare) is uniform on [0, 1], because spare is standard normal
                    accept = expand_like(torch.special.log_ndtr(spare) < log_ratio, u)
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
