r"""Manifold preserving guided diffusion, the variant without an autoencoder (He et al. 2024).

The gradient of the residual is taken with respect to :math:`\hat x_0`, not :math:`x_t`: no pass back through the network,

.. math:: E[x_0|x_t, y] \approx D(u) - \zeta\,\nabla_{\hat x_0}\|y - A\hat x_0\| .

Cheap, and blind to what the prior believes about the directions that A does not see.
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

__all__ = ["MPGD"]


@dataclass(frozen=True)
class MPGD(Guidance):
    """zeta: step size, to be tuned to the problem."""

    exactness: ClassVar[Exactness] = "heuristic"

    zeta: float = 1.0

    def __post_init__(self) -> None:
        if not self.zeta > 0:
            raise ValueError(f"zeta must be positive, got {self.zeta}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "mpgd": Preset(
                "gradient on the estimate without differentiating the network; fast, its spread says little",
                lambda steps: cls(zeta=40.0),
                steps=30,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"mpgd": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        e = problem.residual(y, x0_hat)
        norm = e.flatten(1).norm(dim=1).clamp_min(torch.finfo(e.dtype).tiny)
        return expand_like(self.zeta / norm, x0_hat) * problem.operator.vjp(x0_hat, e)
