r"""Tweedie moment projected diffusions (Boys et al. 2023).

The covariance of :math:`p(x_0|u)` is :math:`V = s^2 J`. Its projection on the diagonal is taken to
be the row sums, :math:`s^2 J \mathbf 1`, which cost one product more:

.. math:: \nabla_u \log p(y|u)
          \approx J^T A^T \bigl(\Sigma_y + A\,\mathrm{diag}(s^2 J\mathbf 1) A^T\bigr)^{-1}
          (y - A D(u)) .

Row sums are the diagonal where J is diagonal, so the method is exact for a Gaussian prior with
independent entries. Negative row sums are set to zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.guidance.projected import projected_draw, projected_shift
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM

__all__ = ["TMPD"]


@dataclass(frozen=True)
class TMPD(Guidance):
    """Tweedie moment projected diffusion: one variance of x_0 given x_t for every entry.

    It takes two vector-Jacobian products per step for every measurement; the linear system costs
    only applications of A and its adjoint.

    Args:
        iterations: Largest number of conjugate-gradient iterations for the linear system, at
            least 1.

    Raises:
        ValueError: If iterations < 1.

    Example:
        A white Gaussian prior of variance 1, seen directly with noise of variance 1. With y = 1
        everywhere and (almost) no information in x_t, the posterior mean is 0.5.

        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import TMPD
        >>> prior = GaussianPrior(torch.zeros(1, 1, 2), torch.eye(2))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y, x_t = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
        >>> guided = TMPD().condition(prior, problem, y)
        >>> guided.denoise(x_t, 80.0).round(decimals=2)
        tensor([[[[0.5000, 0.5000]]]])
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "noise_covariance"})

    iterations: int = 50

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "tmpd": Preset(
                "moment matching with a variance for each pixel; two products per step; weak on "
                "scattered holes",
                lambda steps: cls(iterations=5),
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
        return {"tmpd": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift by moment matching with the row sums as variances.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
        """
        return projected_shift(x0_hat, vjp, s, problem, y, "diagonal", self.iterations, 1e-5)

    def draw(
        self,
        x0_hat: Tensor,
        vjp: Products,
        s: Tensor,
        problem: InverseProblem,
        y: Tensor,
        z: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor | None:
        r"""Draw :math:`x_0` given u and y, with the row sums as variances.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).
            z: Standard normal numbers, shape (B, *shape).
            generators: B generators for the noise of the simulated measurements.

        Returns:
            The draws, shape (B, *shape).
        """
        return projected_draw(
            x0_hat, vjp, s, problem, y, z, generators, "diagonal", self.iterations, 1e-5
        )
