r"""Where solvers of nonlinear problems start: an estimate from y, in a place that the prior knows.

Phase retrieval starts from the best of several runs of the hybrid input-output algorithm (Fienup
1982). It treats channels one by one, so that some come out turned; they are turned like the one
that explains its data best. Where the picture lies in its frame, and which way up, y does not say.
The prior does: the picture is shifted to where it is nearest to the mean of the prior, as far as
its margin is dark, and of this image and the turned one the one with the least

.. math:: \sum_s \frac{|x - D(x + s n)|^2}{s^2}

is taken, a part of the variational bound of :math:`-\ln p(x)`. Every other problem starts from the
smoothest image that explains y.
"""

import torch
from torch import Tensor

from problems import PhaseRetrieval, hybrid_input_output
from problems.linalg.broadcast import expand_like
from solvers.posterior.records import Run
from solvers.posterior.smooth import smooth_estimate
from solvers.samplers.grid import time_at
from solvers.scale import Scale
from solvers.streams import fixed_normal

__all__ = ["first_estimate", "likely_placement"]

_DARK = 0.005  # share of the energy that a shift may push out of the frame
_LEVELS = (0.7, 1.0, 1.4, 2.0, 2.8)  # of the comparison, in standard deviations of the data
_FAR = 40.0  # noise level, in standard deviations, at which the denoised image is the prior's mean


def first_estimate(run: Run, tries: int) -> Tensor:
    """Estimate x from y alone, up to what the prior says about its place.

    Args:
        run: Prior, problem, measurements and random streams.
        tries: Random starts of the hybrid input-output algorithm, for phase retrieval.

    Returns:
        Images, shape (B, *shape).
    """
    operator, y = run.problem.operator, run.y
    if not isinstance(operator, PhaseRetrieval):
        return smooth_estimate(run.problem, y, run.shape[1:], std=Scale(run.prior).data)
    best, least = y.new_zeros(run.shape), y.new_full(y.shape[:2], torch.inf)
    for _ in range(tries):
        x = hybrid_input_output(operator, y, run.randn_like(y))
        misfit = (operator.apply(x) - y).square().sum((-2, -1))
        best = torch.where((misfit < least)[..., None, None], x, best)
        least = torch.minimum(misfit, least)
    surest = least.argmin(1)[:, None, None, None].expand(-1, 1, *run.shape[-2:])
    return likely_placement(run, operator.align(best, best.gather(1, surest)))


def likely_placement(run: Run, x: Tensor) -> Tensor:
    """Shift and turn images that were found up to that, to where the prior expects them.

    Args:
        run: Prior and problem.
        x: Images, shape (B, *shape).

    Returns:
        Equivalent images, shape (B, *shape); x itself for other problems than phase retrieval.
    """
    operator, prior = run.problem.operator, run.prior
    if not isinstance(operator, PhaseRetrieval):
        return x
    data = Scale(prior).data
    highest = float(prior.sde.noise_to_signal(torch.tensor(prior.sde.t_max)))
    t = time_at(prior, x.new_tensor(min(_FAR * data, highest)))
    mean = prior.denoise(torch.zeros_like(x[:1]), t)[0]
    upright, turned = operator.placements(x, mean, 1, _DARK)
    noise, excess = fixed_normal(x), x.new_zeros(len(x))
    for level in _LEVELS:
        t = time_at(prior, x.new_tensor(level * data))
        alpha = expand_like(prior.sde.alpha(t), x)
        # the noise is turned, too: what it adds by chance is then the same for both
        for sign, image, n in ((1, upright, noise), (-1, turned, noise.flip(-2, -1))):
            x0_hat = prior.denoise(alpha * (image + level * data * n), t)
            error = (x0_hat - image).square().flatten(1).sum(1)
            excess = excess + sign * error / (level * data) ** 2
    return torch.where(expand_like(excess > 0, x), turned, upright)
