"""Scalar functions of a sample and a measurement, whose ranks an audit looks at."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like

__all__ = ["TestFunctions", "residual_squares"]

F64 = torch.float64


@dataclass(frozen=True)
class TestFunctions:
    """Functions f(x, y).

    Three random projections, two entries, the mean, the energy, and the size of the residual. The
    last one depends on y: without such a function a solver that ignores y and draws from the prior
    would pass (Modrák et al. 2023).

    Args:
        problem: Operator and noise.
        directions: Unit vectors, shape (D, 3), float64.
        entries: Indices of two entries of a flattened sample.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> f = TestFunctions.make(problem, (2, 3), torch.Generator().manual_seed(0))
        >>> values = f(torch.ones(4, 2, 3), torch.zeros(4, 2, 3))
        >>> values.shape, values[0, f.names.index("energy")]
        (torch.Size([4, 8]), tensor(1., dtype=torch.float64))
    """

    __test__ = False  # no test of pytest

    problem: InverseProblem
    directions: Tensor
    entries: Tensor

    names = (
        "projection 1",
        "projection 2",
        "projection 3",
        "entry 1",
        "entry 2",
        "mean",
        "energy",
        "residual",
    )

    @classmethod
    def make(
        cls, problem: InverseProblem, shape: tuple[int, ...], generator: torch.Generator
    ) -> "TestFunctions":
        """Draw the directions and the entries.

        Args:
            problem: Operator and noise.
            shape: Shape of one sample.
            generator: Source of the random numbers, on the CPU.

        Returns:
            The functions.
        """
        size = torch.Size(shape).numel()
        directions = torch.randn(size, 3, dtype=F64, generator=generator)
        entries = torch.randint(size, (2,), generator=generator)
        return cls(problem, F.normalize(directions, dim=0), entries)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Evaluate the functions.

        Args:
            x: Samples, shape (B, ...), on the CPU.
            y: Measurements, shape (B, ...), on the CPU.

        Returns:
            Values, shape (B, 8), float64.
        """
        flat = x.flatten(1).to(F64)
        one_each = [flat.mean(1), flat.square().mean(1), residual_squares(self.problem, y, x)]
        return torch.cat(
            [flat @ self.directions, flat[:, self.entries], torch.stack(one_each, 1)], dim=1
        )


def residual_squares(problem: InverseProblem, y: Tensor, x: Tensor) -> Tensor:
    """Compute the squared norm of each residual y - A x.

    Args:
        problem: Operator and noise.
        y: Measurements, shape (B, ...).
        x: Samples, shape (B, ...).

    Returns:
        Shape (B,), float64; for white Gaussian noise in units of its variance.
    """
    residual = problem.operator.mask_unobserved(problem.residual(y, x)).to(F64)
    if "gaussian_noise" in problem.capabilities:
        variance = torch.as_tensor(problem.noise_variance, dtype=F64)
        residual = residual / expand_like(variance, residual).sqrt()
    return residual.flatten(1).square().sum(1)
