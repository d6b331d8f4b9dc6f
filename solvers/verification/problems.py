"""Problems with a known posterior: Gaussian mixtures, measured linearly with Gaussian noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from problems import (
    Blur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    Operator,
    SuperResolution,
    box_mask,
)
from problems.checks import check_choice
from scoresde.priors.mixture import GaussianMixturePrior, GaussianPrior
from scoresde.priors.shared_mixture import SharedMixturePrior
from scoresde.sde import EDMSDE

__all__ = ["EXACT_PROBLEMS", "FULL_PROBLEMS", "ExactProblem", "exact_problem", "seeded"]

F64 = torch.float64
Mixture = GaussianMixturePrior | SharedMixturePrior


@dataclass(frozen=True)
class ExactProblem:
    """Prior, problem and measurement with an exact posterior.

    Args:
        prior: Gaussian mixture.
        problem: Linear operator with Gaussian noise.
        y: One measurement, (1, ...), float64.
    """

    prior: Mixture
    problem: InverseProblem
    y: Tensor

    @cached_property
    def posterior(self) -> Mixture:
        """Exact posterior p(x | y), another Gaussian mixture."""
        return self.prior.posterior(self.problem, self.y)

    def pairs(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw pairs of images and measurements, with the same operator and noise.

        Args:
            n: Number of pairs.
            generator: Source of the random numbers.

        Returns:
            Draws x of the prior and measurements y of them, (n, ...) each.
        """
        x = self.prior.sample(n, generator)
        return x, self.problem.measure(x, generator)

    def given(self, y: Tensor) -> "ExactProblem":
        """Replace the measurement.

        Args:
            y: Another measurement, (1, ...).

        Returns:
            The same prior and problem with that measurement.
        """
        return replace(self, y=y)


def seeded(seed: int) -> torch.Generator:
    """Make a random generator on the CPU.

    Args:
        seed: Seed of the generator.

    Returns:
        A new generator.
    """
    return torch.Generator().manual_seed(seed)


def _measured(prior: Mixture, problem: InverseProblem, generator: torch.Generator) -> ExactProblem:
    return ExactProblem(prior, problem, problem.measure(prior.sample(1, generator), generator))


def _rbf(side: int, length: float, amplitude: float, nugget: float) -> Tensor:
    """Covariance of a smooth random field on a side x side grid."""
    place = torch.cartesian_prod(torch.arange(side, dtype=F64), torch.arange(side, dtype=F64))
    near = torch.exp(-torch.cdist(place, place).square() / (2 * length**2))
    return amplitude**2 * near + nugget**2 * torch.eye(side**2, dtype=F64)


def _field_mixture(
    generator: torch.Generator, components: int = 6, side: int = 8
) -> GaussianMixturePrior:
    """Smooth images of several kinds: 1 x side x side."""
    smooth = torch.linalg.cholesky(_rbf(side, 2.0, 1.0, 1e-3))
    means = torch.randn(components, side**2, dtype=F64, generator=generator) @ smooth.T
    lengths = 1 + 2 * torch.rand(components, generator=generator)
    covariances = torch.stack([_rbf(side, float(length), 0.6, 0.1) for length in lengths])
    weights = (0.5 * torch.randn(components, dtype=F64, generator=generator)).exp()
    return GaussianMixturePrior(weights, means.reshape(components, 1, side, side), covariances)


def _pixels(seed: int, share: float, std: float) -> ExactProblem:
    """A blurred 8 x 8 field observed at a few pixels."""
    generator = seeded(seed)
    prior = _field_mixture(generator)
    line = torch.exp(-torch.arange(-1, 2, dtype=F64).square() / (2 * 0.8**2))
    A = Blur(torch.outer(line, line) / line.sum() ** 2, "reflect").dense((1, 8, 8))
    rows = torch.randperm(64, generator=generator)[: round(share * 64)].sort().values
    return _measured(
        prior, InverseProblem(LinearMatrix(A[rows], (1, 8, 8)), GaussianNoise(std)), generator
    )


def _image(kind: str, seed: int) -> ExactProblem:
    generator = seeded(seed)
    prior = _field_mixture(generator)
    operators: dict[str, Callable[[], Operator]] = {
        "box": lambda: Inpainting(box_mask(8, 8, 2, 2, 4, 4)),
        "blur": lambda: Blur(torch.ones(3, 3, dtype=F64) / 9, "reflect"),
        "sr": lambda: SuperResolution(2, "average"),
    }
    return _measured(prior, InverseProblem(operators[kind](), GaussianNoise(0.1)), generator)


def _two_modes(seed: int, side: int = 32) -> ExactProblem:
    """Smooth side x side fields of two kinds that differ in the middle, which is not seen.

    The two means agree outside of the hole up to the spread of the fields, so that y leaves both
    kinds possible. Their difference in the middle is several standard deviations.
    """
    generator = seeded(seed)
    quarter, half = side // 4, side // 2
    place = torch.arange(side, dtype=F64) - (side - 1) / 2
    bump = torch.exp(-(place[:, None] ** 2 + place**2) / (2 * (side / 10) ** 2)).flatten()
    smooth = torch.linalg.cholesky(_rbf(side, side / 4, 1.0, 1e-3))
    mean = smooth @ torch.randn(side**2, dtype=F64, generator=generator)
    covariance = _rbf(side, side / 8, 0.4, 0.1)
    weights = torch.tensor([0.4, 0.6], dtype=F64)
    prior = GaussianMixturePrior(
        weights,
        torch.stack([mean - 0.8 * bump, mean + 0.8 * bump]).reshape(2, 1, side, side),
        covariance.expand(2, -1, -1),
    )
    hole = Inpainting(box_mask(side, side, quarter, quarter, half, half))
    return _measured(prior, InverseProblem(hole, GaussianNoise(0.1)), generator)


def _gaussian(seed: int, white: bool) -> ExactProblem:
    generator = seeded(seed)
    root = torch.randn(8, 8, dtype=F64, generator=generator)
    covariance = (
        torch.eye(8, dtype=F64) if white else root @ root.T / 8 + 0.05 * torch.eye(8, dtype=F64)
    )
    prior = GaussianPrior(torch.zeros(8, dtype=F64), covariance)
    rows = torch.linalg.qr(torch.randn(8, 8, dtype=F64, generator=generator)).Q[:4]
    return _measured(prior, InverseProblem(LinearMatrix(rows), GaussianNoise(0.3)), generator)


def _grid(seed: int, d: int, rows: int, dense: bool = False) -> ExactProblem:
    """25 unit Gaussians on a lattice with random weights (Cardoso et al. 2023, appendix).

    The means are (8 i, 8 j) repeated d/2 times. The lattice has a standard deviation of 8 sqrt(d)
    along its axes, and the SDE ends at ten times that, where noise hides it. dense: whether to use
    full covariances, which give the same distribution more slowly.
    """
    generator = seeded(seed)
    place = 8 * torch.cartesian_prod(torch.arange(-2, 3, dtype=F64), torch.arange(-2, 3, dtype=F64))
    weights, means = (
        torch.randn(25, dtype=F64, generator=generator).square(),
        place.repeat(1, d // 2),
    )
    sde = EDMSDE(sigma_max=80 * math.sqrt(d))
    prior: Mixture = SharedMixturePrior(weights, means, 1.0, sde=sde)
    if dense:
        prior = GaussianMixturePrior(weights, means, torch.eye(d, dtype=F64).expand(25, d, d), sde)
    U, _, Vt = torch.linalg.svd(
        torch.randn(rows, d, dtype=F64, generator=generator), full_matrices=False
    )
    s = torch.rand(rows, dtype=F64, generator=generator).sort(descending=True).values
    std = float(torch.rand((), generator=generator)) * float(s.max())
    return _measured(
        prior, InverseProblem(LinearMatrix(U * s @ Vt), GaussianNoise(max(std, 1e-3))), generator
    )


EXACT_PROBLEMS: dict[str, tuple[str, Callable[[int], ExactProblem]]] = {
    "gaussian-white": ("N(0, I) in 8 dimensions, 4 seen", lambda seed: _gaussian(seed, True)),
    "gaussian": (
        "a Gaussian of full covariance in 8 dimensions, 4 seen",
        lambda seed: _gaussian(seed, False),
    ),
    "informative": (
        "6 kinds of blurred 8x8 fields, 32 pixels, noise .1",
        lambda seed: _pixels(seed, 0.5, 0.1),
    ),
    "ambiguous": (
        "the same, 8 pixels, noise .5: several modes",
        lambda seed: _pixels(seed, 0.125, 0.5),
    ),
    "box": ("the fields with a hole of 4x4, noise .1", lambda seed: _image("box", seed)),
    "blur": ("the fields blurred by 3x3, noise .1", lambda seed: _image("blur", seed)),
    "sr": ("the fields at half the size, noise .1", lambda seed: _image("sr", seed)),
    "grid-8": ("25 far modes in 8 dimensions, 2 seen", lambda seed: _grid(seed, 8, 2, dense=True)),
    "grid-80": (
        "25 far modes in 80 dimensions, 4 seen",
        lambda seed: _grid(seed, 80, 4, dense=True),
    ),
}
"""Name -> summary and builder (seed -> problem), for the short table."""

FULL_PROBLEMS: dict[str, tuple[str, Callable[[int], ExactProblem]]] = {
    f"grid-{d}-{rows}": (
        f"25 far modes in {d} dimensions, {rows} seen",
        partial(_grid, d=d, rows=rows),
    )
    for d in (8, 80, 800)
    for rows in (1, 2, 4)
} | {
    "box-32": (
        "32x32 fields of two kinds that differ in a hole of 16x16, noise .1: two modes",
        _two_modes,
    ),
}
"""Name -> summary and builder, for the long table: the benchmark of MCGDiff's paper, and a box."""


def exact_problem(name: str, seed: int) -> ExactProblem:
    """Build an exact problem by name.

    Args:
        name: Name of `EXACT_PROBLEMS` or `FULL_PROBLEMS`.
        seed: Seed from which the prior, the operator and the measurement are drawn.

    Returns:
        The problem with one measurement.

    Raises:
        ValueError: If the name is unknown; the message lists the known ones.

    Example:
        >>> case = exact_problem("gaussian", seed=0)
        >>> case.y.shape
        torch.Size([1, 4])
        >>> mean, covariance = case.posterior.moments()
        >>> mean.shape, covariance.shape
        (torch.Size([8]), torch.Size([8, 8]))
    """
    known = EXACT_PROBLEMS | FULL_PROBLEMS
    check_choice("exact problem", name, known)
    return known[name][1](seed)
