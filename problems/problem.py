r"""A measurement and its noise: :math:`y \sim p(\cdot \mid A(x))`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems.description import Described, decode, moved_to
from problems.noise import CorrelatedNoise, GaussianNoise, Noise, known_noises
from problems.operators.base import LinearOperator, Operator, known_operators
from problems.random_numbers import Generators

__all__ = ["InverseProblem", "problem_from"]


@dataclass(frozen=True, eq=False, repr=False)
class InverseProblem(Described):
    """y = A x + n, or any other noise. Frozen and independent of any prior; x and y are batches (B, ...), images in [-1, 1]."""

    kind = "problem"

    operator: Operator
    noise: Noise

    def measure(self, x: Tensor, generator: Generators = None) -> Tensor:
        """A draw of y given x. generator: one, or one per sample."""
        return self.operator.mask_unobserved(self.noise.sample(self.operator.apply(x), generator))

    def log_likelihood(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y | x) in nats, (B,), of the entries that the operator observes."""
        mean = self._mean(y, x)
        if type(self.noise).log_prob is not Noise.log_prob:
            if not bool((self.operator.mask_unobserved(torch.ones_like(mean)) == 1).all()):
                raise ValueError(
                    f"{type(self.noise).__name__} has a density of whole measurements only, and this operator leaves holes"
                )
            return self.noise.log_prob(self.operator.mask_unobserved(y), mean)
        return (
            self.operator.mask_unobserved(
                self.noise.log_density(self.operator.mask_unobserved(y), mean)
            )
            .flatten(1)
            .sum(1)
        )

    def residual(self, y: Tensor, x: Tensor) -> Tensor:
        """y - A x, zero where nothing is observed."""
        return self.operator.mask_unobserved(y) - self._mean(y, x)

    def _mean(self, y: Tensor, x: Tensor) -> Tensor:
        """A x, of the shape of y but for the batch."""
        mean = self.operator.apply(x)
        if mean.shape[1:] != y.shape[1:]:
            raise ValueError(
                f"x gives a measurement of shape {tuple(mean.shape[1:])}, y has {tuple(y.shape[1:])}"
            )
        return mean

    @property
    def capabilities(self) -> frozenset[str]:
        """What a solver may ask for, by name: the operator's, "gaussian_noise" (of one level), "normal" (any Gaussian) and
        "noise_covariance" (``noise.covariance_matvec``)."""
        names = set(self.operator.capabilities)
        if isinstance(self.noise, GaussianNoise | CorrelatedNoise):
            names.add("normal")
        if isinstance(self.noise, GaussianNoise) and not isinstance(self.noise.std, Tensor):
            names.add("gaussian_noise")
        if type(self.noise).covariance_matvec is not Noise.covariance_matvec:
            names.add("noise_covariance")
        return frozenset(names)

    @property
    def noise_variance(self) -> float:
        """sigma_y^2, for those who have asked for the capability "gaussian_noise"."""
        if not isinstance(self.noise, GaussianNoise):
            raise ValueError(f"{type(self.noise).__name__} is not Gaussian noise of one level")
        return self.noise.variance

    def noise_covariance(self, shape: tuple[int, ...]) -> Tensor:
        """Covariance (m, m) of a Gaussian noise on measurements of this shape, float64. For exact posteriors of small problems."""
        m = torch.Size(shape).numel()
        unit = torch.eye(m, dtype=torch.float64).reshape(m, *shape)
        return self.noise.covariance_matvec(torch.zeros_like(unit), unit).reshape(m, m)

    @property
    def linear_operator(self) -> LinearOperator:
        """The operator, for those who have asked for the capability "linear"."""
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"{type(self.operator).__name__} is not linear")
        return self.operator

    def input_shape(self, y: Tensor) -> tuple[int, ...]:
        """Shape of x, without batch, for the measurement y (B, ...)."""
        return self.operator.input_shape(tuple(y.shape[1:]))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> InverseProblem:
        """A copy whose tensors live there."""
        return moved_to(self, device, dtype)

    def describe(self) -> dict[str, Any]:
        """Plain values, for ``json``, from which ``problem_from`` makes the same problem again, to the bit."""
        return {"operator": self.operator.describe(), "noise": self.noise.describe()}


def problem_from(description: dict[str, Any]) -> InverseProblem:
    """The problem that ``describe`` described. Operators and kinds of noise of your own must have been imported."""
    known: dict[str, dict[str, type]] = {
        "operator": {cls.__name__: cls for cls in known_operators()},
        "noise": {cls.__name__: cls for cls in known_noises()},
    }
    if not isinstance(description, dict) or set(description) != {"operator", "noise"}:
        raise ValueError("the description of a problem has the two keys operator and noise")
    operator, noise = (decode(description[key], known) for key in ("operator", "noise"))
    if not isinstance(operator, Operator) or not isinstance(noise, Noise):
        raise ValueError(
            "the description of a problem has an operator under operator and a noise under noise"
        )
    return InverseProblem(operator, noise)
