r"""Metropolis-adjusted Langevin steps for :math:`p(y|x)\,N(x; z, v I)` (Roberts and Tweedie 1996).

A step of size :math:`\eta` proposes :math:`x' = x + \eta\,g(x) + \sqrt{2\eta}\,n`, with g the
gradient of the log-density, and takes it with the probability of Metropolis and Hastings, so that
the density stays invariant whatever the step. Without that test (``adjust=False``) it is the
unadjusted algorithm, whose law is wrong by an amount of order :math:`\eta`.
"""

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from solvers.posterior.levenberg import log_likelihood_gradient, unrounded_log_likelihood
from solvers.posterior.proximal import data_curvature
from solvers.posterior.records import Run

__all__ = ["langevin_steps"]


def langevin_steps(
    run: Run,
    x: Tensor,
    z: Tensor,
    variance: float,
    steps: int,
    tau: float,
    adjust: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""Run Langevin steps from x with the law of x_0 given a white Gaussian guess and y.

    Args:
        run: Problem, measurements and random streams.
        x: Starts, shape (B, *shape).
        z: Means of the Gaussian, shape (B, *shape).
        variance: Its variance v.
        steps: Number of steps.
        tau: Size of the steps in units of the inverse curvature at z, in (0, 2). A chain that is
            started anew needs many steps where tau is small.
        adjust: Whether a step is taken with the probability of Metropolis and Hastings.

    Returns:
        The last points, shape (B, *shape), and the share of the steps that were taken, shape (B,).
    """
    problem, y = run.problem, run.y
    curvature = data_curvature(problem, z, run.randn_like(z))
    eta = expand_like(tau / (1 / variance + curvature), z)

    def slope(x: Tensor) -> Tensor:
        return log_likelihood_gradient(problem, y, x) + (z - x) / variance

    def log_density(x: Tensor) -> Tensor:
        anchor = (x - z).square().flatten(1).sum(1) / (2 * variance)
        return unrounded_log_likelihood(problem, y, x) - anchor

    def log_transition(to: Tensor, at: Tensor, slope: Tensor) -> Tensor:
        return -((to - at - eta * slope).square() / (4 * eta)).flatten(1).sum(1)

    g, taken = slope(x), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    value = log_density(x) if adjust else taken
    for _ in range(steps):
        tried = x + eta * g + (2 * eta) ** 0.5 * run.randn_like(x)
        g_tried = slope(tried)
        if not adjust:
            x, g, taken = tried, g_tried, taken + 1
            continue
        value_tried = log_density(tried)
        ratio = value_tried - value
        ratio = ratio + log_transition(x, tried, g_tried) - log_transition(tried, x, g)
        # a uniform number from a normal one, so that each draw has one stream
        uniform = torch.special.ndtr(run.noise((len(x), 1), x.dtype, x.device))[:, 0]
        accept = uniform.log() < ratio  # False for NaN
        x, g = (
            torch.where(expand_like(accept, x), new, old) for new, old in ((tried, x), (g_tried, g))
        )
        value, taken = torch.where(accept, value_tried, value), taken + accept
    return x, taken / max(1, steps)
