r"""Posterior draws of an autoregressive image under any differentiable measurement.

The draws come from Langevin steps from level to level. The state stays on the grey levels, where
the model is exact. The formula of :math:`U(x) = \ln p(x) + \ln p(y \mid x)` also has a gradient
between the levels. With it, all entries move at once (discrete MALA, Zhang, Liu and Liu 2022),

.. math:: q(x' \mid x) = \prod_i q_i(x'_i),\quad
          q_i = \mathrm{softmax}_v\Bigl(\tfrac12\, \partial_i U(x)\,(v - x_i)
          - \tfrac{(v - x_i)^2}{2\alpha}\Bigr) ,

and the Metropolis test makes the posterior the stationary distribution, even if the gradient is
inaccurate. Each draw is the end of a separate chain. A warm-up adapts the alpha of each chain until
its acceptance is 0.57. The draws are exact in the limit of long chains; modes far apart mix slowly.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from problems.random_numbers import uniform
from scoresde.families.autoregressive.categorical import categorical
from scoresde.families.autoregressive.interface import PixelModel
from scoresde.families.autoregressive.logistic import to_levels

__all__ = ["langevin_draws"]

_WANTED = 0.57  # the optimum of MALA in many dimensions (Roberts and Rosenthal 1998)


def langevin_draws(
    model: PixelModel,
    problem: InverseProblem,
    y: Tensor,
    start: Tensor,
    generator: torch.Generator | None,
    *,
    steps: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Draw the end of one chain for each start and measurement.

    Args:
        model: Autoregressive model of images.
        problem: Problem with a differentiable likelihood.
        y: Measurements, shape (N, ...).
        start: Starts of the chains on [-1, 1], rounded to the nearest levels, shape (N, C, H, W).
        generator: Source of the random numbers; None for torch's global one.
        steps: Steps of the warm-up, and again after it.
        progress: Called with the finished fraction of the work, 0 to 1; None for no reports.

    Returns:
        Draws, shape (N, C, H, W), and diagnostics: mean and smallest acceptance of the chains, mean
        step size, mean log-posterior up to a constant, and network evaluations per draw ("nfe").

    Raises:
        ValueError: If the likelihood is zero or undefined at a start.
    """
    levels = model.config.levels
    grid = torch.linspace(-1, 1, levels, dtype=torch.float64, device=start.device)
    x = to_levels(start, levels)
    value, gradient = _target(model, problem, y, x)
    if not bool(torch.isfinite(value).all()):
        raise ValueError(
            "the likelihood of the measurement is zero or undefined at the start; "
            "give the problem a noise level above 0"
        )
    log_alpha = torch.full_like(value, 2 * math.log(max(2 / (levels - 1), 0.1)))
    accepted = torch.zeros_like(value)
    for k in range(2 * steps):
        alpha = log_alpha.exp()
        forth = _kernel(grid, x, gradient, alpha)
        place = categorical(forth.exp(), generator)
        proposal = grid[place].to(x)
        new_value, new_gradient = _target(model, problem, y, proposal)
        back = _kernel(grid, proposal, new_gradient, alpha)
        old_place = ((x.double() + 1) * (levels - 1) / 2).round().long()
        ratio = new_value - value + _log_q(back, old_place) - _log_q(forth, place)
        probability = ratio.clamp_max(0).exp().nan_to_num(0.0)
        yes = uniform((len(x),), generator, probability) < probability
        mask = expand_like(yes, x)
        x, gradient = torch.where(mask, proposal, x), torch.where(mask, new_gradient, gradient)
        value = torch.where(yes, new_value, value)
        if k < steps:
            log_alpha = log_alpha + (probability - _WANTED) / (1 + k / 10) ** 0.6
        else:
            accepted += probability
        if progress:
            progress((k + 1) / (2 * steps))
    diagnostics = {
        "method": "discrete Langevin",
        "exact": False,
        "acceptance": float((accepted / steps).mean()),
        "least_acceptance": float((accepted / steps).min()),
        "step_size": float(log_alpha.mul(0.5).exp().mean()),
        "log_posterior": float(value.mean()),
        "nfe": 2 * steps + 1,
    }
    return x, diagnostics


def _target(
    model: PixelModel, problem: InverseProblem, y: Tensor, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute U (N,) and its gradient, shape of x, both float64."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        value = model.entry_log_prob(x).double().flatten(1).sum(1) + problem.log_likelihood(
            y.double(), x.double()
        )
        return value.detach(), torch.autograd.grad(value.sum(), x)[0].double().nan_to_num(0.0)


def _kernel(grid: Tensor, x: Tensor, gradient: Tensor, alpha: Tensor) -> Tensor:
    """Compute ln q of every level for every entry, (*shape of x, levels)."""
    move = grid - x.double()[..., None]
    width = alpha.reshape(-1, *[1] * x.ndim)
    return torch.log_softmax(0.5 * gradient[..., None] * move - move.square() / (2 * width), -1)


def _log_q(kernel: Tensor, place: Tensor) -> Tensor:
    """Sum ln q of the chosen levels over the entries, (N,)."""
    return kernel.gather(-1, place[..., None])[..., 0].flatten(1).sum(1)
