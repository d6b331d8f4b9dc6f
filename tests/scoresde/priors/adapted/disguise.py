"""An exact prior that is disguised as a network of any convention.

The disguise knows what a network knows: the state z and the label. It finds the noise level from
the label, lets the mixture denoise z, and returns the prediction by its definition.
"""

import math

import torch
from torch import Tensor, nn

from problems.linalg.broadcast import expand_like
from scoresde import EDMSDE, GaussianMixturePrior
from scoresde.priors.adapted import (
    Convention,
    DiscreteSchedule,
    FunctionSchedule,
    Level,
    Schedule,
    SDESchedule,
)
from scoresde.sde import _KINDS, SDE
from tests.conftest import F64, seeded

__all__ = ["SCHEDULES", "Disguise", "ddpm", "mixture", "network_of"]


def ddpm(steps: int = 1000) -> Tensor:
    """The alphas_cumprod of a linear schedule with the noise of the thousand steps of DDPM."""
    rates = torch.linspace(1e-4, 0.02, steps, dtype=F64) * 1000 / steps
    return torch.cumprod(1 - rates, 0)


def cosine(steps: int = 1000) -> Tensor:
    """The alphas_cumprod of Nichol and Dhariwal, with their offset and largest rate."""
    t = torch.arange(steps + 1, dtype=F64) / steps
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod(1 - (1 - f[1:] / f[:-1]).clamp(max=0.999), 0)


def without_signal(abar: Tensor) -> Tensor:
    """The schedule shifted and scaled so that its last step has no signal (Lin et al. 2024)."""
    root = abar.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


SCHEDULES: dict[str, Schedule] = {
    # every SDE of the package
    **{name: SDESchedule(kind()) for name, kind in _KINDS.items()},
    "flow-to-data": FunctionSchedule(lambda t: t, lambda t: 1 - t, 0.0, 1.0),
    "odd-scales": FunctionSchedule(lambda t: 3 * torch.exp(-t), lambda t: 0.02 + t**2, 0.0, 4.0),
    "ddpm-1000": DiscreteSchedule.from_alphas_cumprod(ddpm()),
    "ddpm-50": DiscreteSchedule.from_alphas_cumprod(ddpm(50)),
    "cosine-1000": DiscreteSchedule.from_alphas_cumprod(cosine()),
    "no-signal": DiscreteSchedule.from_alphas_cumprod(without_signal(ddpm())),
    "smld": DiscreteSchedule(tuple(torch.logspace(-2, 1.7, 232, dtype=F64).tolist()), False),
}


def mixture() -> GaussianMixturePrior:
    """Three components with different full covariances in three dimensions."""
    g = seeded(0)
    roots = torch.randn(3, 3, 3, dtype=F64, generator=g)
    covariances = 0.1 * roots @ roots.mT + 0.003 * torch.eye(3, dtype=F64)
    means = 0.7 * torch.randn(3, 3, dtype=F64, generator=g)
    return GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2]), means, covariances, EDMSDE())


class Disguise(nn.Module):
    """Mixture that takes and returns what a network of a convention does.

    Args:
        exact: The mixture, on the prior's values, under the EDM SDE.
        convention: What it pretends to be.
    """

    def __init__(self, exact: GaussianMixturePrior, convention: Convention) -> None:
        super().__init__()
        self.exact, self.convention = exact, convention

    def log_snr_of(self, label: Tensor) -> Tensor:
        """The log-SNR whose label this is, by a search in which the label rises or falls."""
        c = self.convention
        if c.label.whole:
            assert isinstance(c.noise, DiscreteSchedule)
            return -2 * torch.tensor(c.noise.ratios, dtype=F64)[label].log()

        # the variable of the search: the time itself, or the log-SNR between numbered steps
        if isinstance(c.noise, SDESchedule | FunctionSchedule):
            sde = c.noise.sde if isinstance(c.noise, SDESchedule) else c.noise
            ends = (
                (sde.t_min, sde.t_max)
                if isinstance(sde, SDE)
                else (sde.first + 1e-9, sde.last - 1e-9)
            )

            def level_at(t: Tensor) -> Level:
                return Level(t, sde.alpha(t), sde.sigma(t))

        else:
            low_s, high_s = c.noise.ends
            ends = (-2 * math.log(min(high_s, 1e6)), -2 * math.log(low_s))
            level_at = c.noise.level

        label, back = label.unique(return_inverse=True)  # a batch has few levels
        low, high = (torch.full(label.shape, end, dtype=F64) for end in ends)
        rises = c.label.label(level_at(high)) > c.label.label(level_at(low))
        # 60 halvings, four at a time: a small tensor costs as much as a number
        parts = torch.arange(17, dtype=F64) / 16
        for _ in range(15):
            edges = torch.lerp(low[..., None], high[..., None], parts)
            inside = edges[..., 1:-1]
            value = c.label.label(level_at(inside.flatten())).reshape(inside.shape) * c.time_scale
            below = torch.where(
                rises[..., None], value < label[..., None], value > label[..., None]
            ).sum(-1, keepdim=True)
            low, high = (edges.gather(-1, below + i).squeeze(-1) for i in (0, 1))
        level = level_at((low + high) / 2)
        return 2 * (level.alpha / level.sigma).log()[back]

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network."""
        c = self.convention
        log_snr = self.log_snr_of(label.double() if not c.label.whole else label)
        level = c.noise.level(log_snr)
        alpha, sigma = expand_like(level.alpha, z), expand_like(level.sigma, z)
        state = z.double()
        if c.target.preconditioned:
            state = state * torch.hypot(alpha * c.sigma_data, sigma)
        m = state / alpha
        t = (level.sigma / level.alpha) / c.scale
        x0 = self.exact.denoise((m - c.offset) / c.scale, t) * c.scale + c.offset
        n = (state - alpha * x0) / sigma
        p, q = c.target.coefficients(alpha, sigma, c.sigma_data)
        return (p * x0 + q * n).to(z.dtype)


def network_of(convention: Convention) -> Disguise:
    """The mixture as a network of a convention."""
    return Disguise(mixture(), convention)
