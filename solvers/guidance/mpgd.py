r"""Manifold preserving guided diffusion, the variant without an autoencoder (He et al. 2024).

The gradient of the residual is taken with respect to :math:`\hat x_0`, not :math:`x_t`, so no
backward pass through the network is needed:

.. math:: E[x_0|x_t, y] \approx D(u) - \zeta\,\nabla_{\hat x_0}\|y - A\hat x_0\| .

The step ends where the misfit is least along it, at
:math:`\|A^T e\|^2/\|A A^T e\|^2` times :math:`A^T e`, if :math:`\zeta/\|e\|` is larger: the norm
of the residual grows with the number of measured values, and a fixed length would otherwise
overshoot in small pictures.

The method is cheap. It makes no use of the correlations that the prior has between the directions
that A observes and those that it does not.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM
from solvers.scale import OfData

__all__ = ["MPGD"]


@dataclass(frozen=True)
class MPGD(Guidance):
    """Manifold preserving guided diffusion: a gradient step on the denoised estimate.

    Args:
        zeta: Largest length of the step in the units of x_0 (of A^T A x_0, if A is not of norm 1),
            over all entries together; positive.

    Raises:
        ValueError: If zeta is not positive.

    Example:
        The step has the length zeta, here along y - x0_hat.

        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import MPGD
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y, x_t = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> MPGD(zeta=0.2).condition(prior, problem, y).denoise(x_t, 80.0)
        tensor([[[[0.1000, 0.1000],
                  [0.1000, 0.1000]]]])
    """

    exactness: ClassVar[Exactness] = "heuristic"

    zeta: float = 1.0

    def __post_init__(self) -> None:
        if not self.zeta > 0:
            raise ValueError(f"zeta must be positive, got {self.zeta}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "mpgd": Preset(
                "gradient on the estimate, no VJPs through the network; fast, its draws are noisy",
                lambda steps: cls(zeta=OfData(80.0)),
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
        return {"mpgd": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift by a step along the gradient of the residual norm.

        The product vjp is not used.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
        """
        e = problem.residual(y, x0_hat, rounded=False)
        norm = e.flatten(1).norm(dim=1).clamp_min(torch.finfo(e.dtype).tiny)
        slope = problem.operator.vjp(x0_hat, e)
        seen = problem.operator.mask_unobserved(problem.operator.linearise(x0_hat).apply(slope))
        least = dot(slope, slope) / dot(seen, seen).clamp_min(torch.finfo(e.dtype).tiny)
        factor: Tensor = (self.zeta / norm).minimum(least)
        return expand_like(factor, x0_hat) * slope
