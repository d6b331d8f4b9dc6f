r"""Loss-guided diffusion by Monte Carlo (Song et al. 2023, "Loss-guided diffusion models for plug-and-play controllable generation").

DPS asks how likely y is at the single point :math:`D(u)`; here at :math:`D(u) + r\varepsilon_i`, i = 1 ... n, with
:math:`r^2 = s^2/(1 + s^2)`, the doubt that a white prior of variance 1 would leave:

.. math:: \nabla_u \log p(y|u) \approx \nabla_u \log \tfrac1n \sum_i p\bigl(y \mid D(u) + r\varepsilon_i\bigr) .

As n grows this tends to PiGDM's weights for a linear Gaussian measurement; a handful of points is far from that in many dimensions. The
points are the same at every call, so that the guided prior stays a function.
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

__all__ = ["LGDMC"]


@dataclass(frozen=True)
class LGDMC(Guidance):
    """samples: n, 3 in the paper's cheapest setting. zeta: a factor on the gradient. seed: of the points."""

    exactness: ClassVar[Exactness] = "heuristic"

    samples: int = 3
    zeta: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or not self.zeta > 0:
            raise ValueError(
                f"LGDMC needs samples >= 1 and zeta > 0, got {self.samples} and {self.zeta}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "lgd-mc": Preset(
                "loss guidance averaged over perturbed estimates; any differentiable measurement, least accurate",
                lambda steps: cls(zeta=0.003),
                steps=30,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"lgd-mc": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        points = torch.randn(
            self.samples, *x0_hat.shape[1:], generator=generator, dtype=torch.float64
        ).to(x0_hat)
        r = expand_like((s**2 / (1 + s**2)).sqrt(), x0_hat)
        log_p, pulls = [], []
        for point in points:
            x = x0_hat + r * point
            log_p.append(problem.log_likelihood(y, x))
            score = problem.operator.mask_unobserved(
                problem.noise.score(y, problem.operator.apply(x))
            )
            pulls.append(problem.operator.vjp(x, score))
        weights = torch.softmax(torch.stack(log_p), 0).to(x0_hat)
        pull = sum(
            (expand_like(w, x0_hat) * p for w, p in zip(weights, pulls, strict=True)),
            torch.zeros_like(x0_hat),
        )
        return expand_like(self.zeta * s**2, x0_hat) * vjp(pull)
