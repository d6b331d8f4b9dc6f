r"""Loss-guided diffusion by Monte Carlo (Song et al. 2023).

"Loss-guided diffusion models for plug-and-play controllable generation". DPS evaluates the
likelihood of y at the single point :math:`D(u)`. LGD-MC evaluates it at
:math:`D(u) + r\varepsilon_i`, i = 1 ... n, with :math:`r^2 = s^2 v/(s^2 + v)`, the variance of
:math:`x_0` given u under a white prior of variance v:

.. math:: \nabla_u \log p(y|u)
          \approx \nabla_u \log \tfrac1n \sum_i p\bigl(y \mid D(u) + r\varepsilon_i\bigr) .

As n grows this tends to PiGDM's weights for a linear Gaussian measurement; a few points are far
from that limit in many dimensions. The points are the same at every call, so that the guided prior
remains a function.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM
from solvers.scale import OfData

__all__ = ["LGDMC"]


@dataclass(frozen=True)
class LGDMC(Guidance):
    """Loss-guided diffusion: the likelihood averaged over perturbed denoised estimates.

    Args:
        samples: Number n of perturbed points, at least 1; 3 in the paper's cheapest setting.
        zeta: Factor on the gradient, positive, without unit.
        seed: Seed of the perturbations, which are the same at every call.
        prior_variance: Variance v of the white prior, positive, in squared units of x; 1 in the
            paper, which is four times that of photographs on [-1, 1].

    Raises:
        ValueError: If samples < 1, or zeta or prior_variance is not positive.

    Example:
        A white Gaussian prior of variance 1, seen directly with noise of variance 1. With y = 1
        everywhere and (almost) no information in x_t, the posterior mean is 0.5.

        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import LGDMC
        >>> prior = GaussianPrior(torch.zeros(1, 1, 2), torch.eye(2))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y, x_t = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
        >>> guided = LGDMC(samples=300).condition(prior, problem, y)
        >>> guided.denoise(x_t, 80.0).mean().round(decimals=1)
        tensor(0.5000)
    """

    exactness: ClassVar[Exactness] = "heuristic"

    samples: int = 3
    zeta: float = 1.0
    seed: int = 0
    prior_variance: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 1 or not (self.zeta > 0 and self.prior_variance > 0):
            raise ValueError(
                "LGDMC needs samples >= 1, zeta > 0 and prior_variance > 0, got "
                f"{self.samples}, {self.zeta} and {self.prior_variance}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "lgd-mc": Preset(
                "loss guidance averaged over perturbed estimates; any differentiable measurement, "
                "least accurate",
                lambda steps: cls(zeta=0.003, prior_variance=OfData(4.0, power=2)),
                steps=30,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Declare the settings of the verification table.

        Returns:
            Pairs of a guidance and the sampler that runs it, by name.
        """
        return {"lgd-mc": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift by the likelihood averaged over the perturbed points.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
        """
        generator = torch.Generator().manual_seed(self.seed)
        points = torch.randn(
            self.samples, *x0_hat.shape[1:], generator=generator, dtype=torch.float64
        ).to(x0_hat)
        v = self.prior_variance
        r = expand_like((s**2 * v / (s**2 + v)).sqrt(), x0_hat)
        log_p, pulls = [], []
        for point in points:
            x = x0_hat + r * point
            log_p.append(problem.log_likelihood(y, x))
            score = problem.operator.mask_unobserved(
                problem.noise.score(y, problem.operator.unrounded(x))
            )
            pulls.append(problem.operator.vjp(x, score))
        weights = torch.softmax(torch.stack(log_p), 0).to(x0_hat)
        pull = sum(
            (expand_like(w, x0_hat) * p for w, p in zip(weights, pulls, strict=True)),
            torch.zeros_like(x0_hat),
        )
        return expand_like(self.zeta * s**2, x0_hat) * vjp(pull)
