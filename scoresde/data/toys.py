"""Distributions on the plane with a known density, to test densities, draws and modes of models.

All of them lie within about [-1, 1]^2. Samples and densities are float64.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.priors.mixture import GaussianMixturePrior

__all__ = [
    "TOYS",
    "Checkerboard",
    "GaussianMixture",
    "Plane",
    "Rings",
    "gaussian_grid",
    "skew_mixture",
]


class Plane(ABC):
    """Base class of distributions on the plane.

    Attributes:
        shape: Shape of one sample, (2,).
    """

    shape = (2,)

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, 2), float64.
        """

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            x: Points, shape (B, 2).

        Returns:
            ln p(x) in nats, shape (B,), float64; -inf outside the support.
        """

    @property
    def centres(self) -> Tensor | None:
        """Centres of the modes, shape (modes, 2); None if the modes are not separate."""
        return None

    @property
    def weights(self) -> Tensor | None:
        """Probabilities of the modes, shape (modes,); None if the modes are not separate."""
        return None


@dataclass(frozen=True)
class Rings(Plane):
    r"""Circles about the origin, equally likely, blurred by Gaussian noise.

    .. math:: p(x) = \frac1K \sum_k \frac{1}{2\pi s^2}
              \exp\left(-\frac{|x|^2 + R_k^2}{2 s^2}\right) I_0\left(\frac{|x| R_k}{s^2}\right).

    Args:
        radii: Radii :math:`R_k` of the circles, above 0.
        std: Standard deviation s of the noise.

    Raises:
        ValueError: If there are no radii, or a radius or the standard deviation is not positive.
    """

    radii: tuple[float, ...] = (0.3, 0.8)
    std: float = 0.05

    def __post_init__(self) -> None:
        if not self.radii or not min(self.radii) > 0 or not self.std > 0:
            raise ValueError(f"rings need positive radii and a positive std, got {self}")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, 2), float64.
        """
        radii = torch.tensor(self.radii, dtype=torch.float64)[
            torch.randint(len(self.radii), (n,), generator=generator)
        ]
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        circle = radii[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
        return circle + self.std * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            x: Points, shape (B, 2).

        Returns:
            ln p(x) in nats, shape (B,), float64.
        """
        r, radii, variance = (
            x.double().norm(dim=1, keepdim=True),
            torch.tensor(self.radii, dtype=torch.float64),
            self.std**2,
        )
        # ln I0(z) = z + ln i0e(z), and z - (r^2 + R^2) / 2 s^2 = -(r - R)^2 / 2 s^2
        of_each = torch.special.i0e(r * radii / variance).log() - (r - radii).square() / (
            2 * variance
        )
        return of_each.logsumexp(1) - math.log(len(radii)) - math.log(2 * math.pi * variance)


@dataclass(frozen=True)
class Checkerboard(Plane):
    """Uniform distribution on the black fields of a checkerboard that covers [-1, 1]^2.

    Args:
        fields: Number of fields per side, even and at least 2.

    Raises:
        ValueError: If the number of fields is odd or below 2.
    """

    fields: int = 4

    def __post_init__(self) -> None:
        if self.fields < 2 or self.fields % 2:
            raise ValueError(
                f"a board needs an even number of fields per side, at least 2, got {self.fields}"
            )

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, 2), float64.
        """
        half, side = self.fields // 2, 2 / self.fields
        row = torch.randint(self.fields, (n,), generator=generator)
        column = 2 * torch.randint(half, (n,), generator=generator) + row % 2
        inside = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return (torch.stack((column, row), 1) + inside) * side - 1

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            x: Points, shape (B, 2).

        Returns:
            ln p(x) in nats, shape (B,), float64; -inf outside the black fields.
        """
        field = ((x.double() + 1) * self.fields / 2).floor()
        black = ((field >= 0) & (field < self.fields)).all(1) & (field.sum(1) % 2 == 0)
        # the black fields have half of the area of the square, which is 4
        inside = torch.full(black.shape, -math.log(2.0), dtype=torch.float64)
        return inside.where(black, -math.inf)


class GaussianMixture(Plane):
    """Gaussian mixture on the plane, whose components are the modes.

    Args:
        prior: Mixture of samples of shape (2,).

    Raises:
        ValueError: If the samples of the prior have another shape.
    """

    def __init__(self, prior: GaussianMixturePrior) -> None:
        if tuple(prior.shape) != (2,):
            raise ValueError(
                f"a mixture on the plane needs samples of shape (2,), got {tuple(prior.shape)}"
            )
        self.prior = prior

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, 2), in the dtype of the prior.
        """
        return self.prior.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Compute the log-density.

        Args:
            x: Points, shape (B, 2).

        Returns:
            ln p(x) in nats, shape (B,), float64.
        """
        return self.prior.log_prob(x.double())

    @property
    def centres(self) -> Tensor:
        """Means of the components, shape (modes, 2)."""
        return self.prior.means

    @property
    def weights(self) -> Tensor:
        """Weights of the components, shape (modes,)."""
        return self.prior.weights


def gaussian_grid(side: int = 5, reach: float = 0.8, std: float = 0.05) -> GaussianMixture:
    """Build a mixture of equal round Gaussians on a square grid.

    Args:
        side: Number of Gaussians per side, at least 2.
        reach: The grid covers [-reach, reach]^2.
        std: Standard deviation of each Gaussian.

    Returns:
        The mixture of side^2 Gaussians.

    Raises:
        ValueError: If there are fewer than two Gaussians per side.
    """
    if side < 2:
        raise ValueError(f"a grid needs at least two Gaussians per side, got {side}")
    axis = torch.linspace(-reach, reach, side, dtype=torch.float64)
    means = torch.cartesian_prod(axis, axis)
    return GaussianMixture(
        GaussianMixturePrior(
            torch.ones(len(means)), means, std**2 * torch.eye(2).expand(len(means), 2, 2)
        )
    )


def skew_mixture() -> GaussianMixture:
    """Build a mixture of three Gaussians with unequal weights, lengths and directions.

    Returns:
        The mixture.
    """
    means = torch.tensor([[-0.4, 0.3], [0.5, 0.5], [0.3, -0.1]])
    covariances = torch.tensor(
        [
            [[0.02, 0.015], [0.015, 0.03]],
            [[0.03, -0.02], [-0.02, 0.02]],
            [[0.08, 0.0], [0.0, 0.004]],
        ]
    )
    return GaussianMixture(GaussianMixturePrior(torch.tensor([0.5, 0.2, 0.3]), means, covariances))


TOYS: dict[str, Callable[[], Plane]] = {
    "rings": Rings,
    "checkerboard": Checkerboard,
    "25 Gaussians": gaussian_grid,
    "Gaussian mixture": skew_mixture,
}
