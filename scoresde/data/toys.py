r"""Distributions on the plane whose density is known everywhere: where a model's density, draws and modes can be held against the truth.

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
    """A distribution on the plane."""

    shape = (2,)

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """(n, 2)."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x) of x (B, 2), nats, (B,); -inf outside the support."""

    @property
    def centres(self) -> Tensor | None:
        """(modes, 2) of the modes that can be told apart, None where there are no such."""
        return None

    @property
    def weights(self) -> Tensor | None:
        """(modes,), of the centres."""
        return None


@dataclass(frozen=True)
class Rings(Plane):
    r"""Circles about the origin, equally likely, blurred by Gaussian noise of standard deviation ``std``.

    .. math:: p(x) = \frac1K \sum_k \frac{1}{2\pi s^2} \exp\left(-\frac{|x|^2 + R_k^2}{2 s^2}\right) I_0\left(\frac{|x| R_k}{s^2}\right).
    """

    radii: tuple[float, ...] = (0.3, 0.8)
    std: float = 0.05

    def __post_init__(self) -> None:
        if not self.radii or not min(self.radii) > 0 or not self.std > 0:
            raise ValueError(f"rings need positive radii and a positive std, got {self}")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        radii = torch.tensor(self.radii, dtype=torch.float64)[
            torch.randint(len(self.radii), (n,), generator=generator)
        ]
        angle = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        circle = radii[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
        return circle + self.std * torch.randn(n, 2, generator=generator, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
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
    """Uniform on the black fields of a board of ``fields`` x ``fields`` that covers [-1, 1]^2."""

    fields: int = 4

    def __post_init__(self) -> None:
        if self.fields < 2 or self.fields % 2:
            raise ValueError(
                f"a board has an even number of fields a side, 2 or more, got {self.fields}"
            )

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        half, side = self.fields // 2, 2 / self.fields
        row = torch.randint(self.fields, (n,), generator=generator)
        column = 2 * torch.randint(half, (n,), generator=generator) + row % 2
        inside = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return (torch.stack((column, row), 1) + inside) * side - 1

    def log_prob(self, x: Tensor) -> Tensor:
        field = ((x.double() + 1) * self.fields / 2).floor()
        black = ((field >= 0) & (field < self.fields)).all(1) & (field.sum(1) % 2 == 0)
        inside = torch.full(
            black.shape, -math.log(2.0), dtype=torch.float64
        )  # the black fields have half of the area, which is 4
        return inside.where(black, -math.inf)


class GaussianMixture(Plane):
    """A :class:`scoresde.GaussianMixturePrior` on the plane; its components are the modes."""

    def __init__(self, prior: GaussianMixturePrior) -> None:
        if tuple(prior.shape) != (2,):
            raise ValueError(f"a mixture on the plane is of samples (2,), not {tuple(prior.shape)}")
        self.prior = prior

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.prior.sample(n, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.prior.log_prob(x.double())

    @property
    def centres(self) -> Tensor:
        return self.prior.means

    @property
    def weights(self) -> Tensor:
        return self.prior.weights


def gaussian_grid(side: int = 5, reach: float = 0.8, std: float = 0.05) -> GaussianMixture:
    """side x side equal round Gaussians on a square grid over [-reach, reach]^2."""
    if side < 2:
        raise ValueError(f"a grid has two Gaussians a side or more, got {side}")
    axis = torch.linspace(-reach, reach, side, dtype=torch.float64)
    means = torch.cartesian_prod(axis, axis)
    return GaussianMixture(
        GaussianMixturePrior(
            torch.ones(len(means)), means, std**2 * torch.eye(2).expand(len(means), 2, 2)
        )
    )


def skew_mixture() -> GaussianMixture:
    """Three Gaussians of unequal weights, lengths and directions."""
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
