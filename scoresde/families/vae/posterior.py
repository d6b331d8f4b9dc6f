r"""The posterior of a measurement under a VAE.

A picture is :math:`x = g(z) + s\,\epsilon` under the Gaussian likelihood. For a linear problem
:math:`y = A x + \sigma_y n`, both z and the decoder's noise can be drawn exactly. x is integrated
out of the posterior of z,

.. math:: \ln p(z | y) = -\tfrac12 |z|^2 - \tfrac12 r^T (\sigma_y^2 I + s^2 A A^T)^{-1} r
          + \mathrm{const}, \qquad r = y - A g(z),

and then drawn from :math:`p(x | z, y)`, a Gaussian (``prox_sample``). These are draws of the
model's own posterior.

Otherwise (another problem, or the logistic likelihood, whose noise is not Gaussian) the prior is
taken to be "pictures are decoder means", as in CSGM (Bora et al. 2017):
:math:`p(z | y) \propto p(z)\,p(y | g(z))`, and the draws are g(z). No decoder noise is added to
them. Such noise would be independent of y and would spoil the agreement of A x with y.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from problems import InverseProblem
from scoresde.families.latent.posterior import latent_posterior
from scoresde.families.vae.likelihood import GaussianLikelihood
from solvers.posterior.records import Request

__all__ = ["restore"]


class _Config(Protocol):
    """The part of a configuration that is needed here."""

    @property
    def latent(self) -> int:
        """Number of entries of z."""


class LatentModel(Protocol):
    """The part of a VAE that is needed here: the decoder of latent vectors and the likelihood."""

    @property
    def likelihood(self) -> nn.Module:
        """Distribution of x given the decoder's output."""

    @property
    def config(self) -> _Config:
        """Configuration with the size of z."""

    def decode(self, z: Tensor) -> Tensor:
        """Compute E[x | z].

        Args:
            z: Latent vectors, shape (B, latent).

        Returns:
            Means, shape (B, *shape).
        """


@dataclass(frozen=True)
class _Marginal:
    """p(y | z) with the decoder's noise, of the given variance, integrated out.

    It has the ``log_likelihood`` of a problem, up to a constant.
    """

    problem: InverseProblem
    variance: float

    def log_likelihood(self, y: Tensor, mean: Tensor) -> Tensor:
        r = self.problem.residual(y, mean)
        # The gradient of r^T S^-1 r / 2 is that of r times v = S^-1 r, with v held constant, so the
        # solver needs no gradient.
        with torch.no_grad():
            v = self.problem.linear_operator.solve(r, self.problem.noise_variance, self.variance)
        product = (v * r).flatten(1).sum(1)
        return product.detach() / 2 - product


def restore(model: LatentModel, request: Request, **settings: Any) -> tuple[Tensor, dict[str, Any]]:
    """Draw from p(x | y) for each measurement.

    Args:
        model: VAE whose parameters do not require gradients.
        request: Problem, measurements (B, ...), number n of draws per measurement, and random
            numbers.
        **settings: Settings of :func:`latent_posterior`.

    Returns:
        Draws of x, shape (n, B, *shape), and the diagnostics of :func:`latent_posterior`.
        "decoder_noise" among them is True if the decoder's noise was drawn too.

    Raises:
        ValueError: If the noise level is 0 where the decoder's noise is drawn, or a setting is
            invalid.
    """
    problem = request.problem
    y = request.y
    n = request.n
    generator = request.generator
    exact = (
        isinstance(model.likelihood, GaussianLikelihood)
        and {"linear", "gaussian_noise"} <= problem.capabilities
    )
    variance = (
        float(model.likelihood.std.detach()) ** 2
        if isinstance(model.likelihood, GaussianLikelihood)
        else 0.0
    )
    target = _Marginal(problem, variance) if exact else problem
    if exact and problem.noise_variance == 0:
        raise ValueError(
            "the posterior of a VAE needs a noise level above 0; use a small one for clean "
            "measurements"
        )
    z, found = latent_posterior(
        model.decode,
        (model.config.latent,),
        target,
        y,
        n,
        generator,
        progress=request.progress,
        **settings,
    )
    draws = []
    with torch.no_grad():
        for one in z:
            x = model.decode(one)
            draws.append(
                problem.linear_operator.prox_sample(
                    x, y, problem.noise_variance, variance, generator
                )
                if exact
                else x
            )
    return torch.stack(draws), found | {"decoder_noise": exact}
