r"""A measurement and its noise: :math:`y \sim p(\cdot \mid A(x))`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems.description import Described, decode, moved_to
from problems.linalg.precision import widened
from problems.noise import CorrelatedNoise, GaussianNoise, Noise, known_noises
from problems.operators.base import LinearOperator, Operator, known_operators
from problems.random_numbers import Generators

__all__ = ["InverseProblem", "problem_from"]

_FORMAT = "scoresde.problem/1"


@dataclass(frozen=True, eq=False, repr=False)
class InverseProblem(Described):
    """Operator and noise of a measurement: y = A x + n, or any other noise.

    It is frozen and independent of any prior. x and y are batches (B, ...); images are on [-1, 1].

    Args:
        operator: Forward operator A.
        noise: Distribution of y given A x.

    Example:
        >>> import torch
        >>> from problems import GaussianNoise, InverseProblem, SuperResolution
        >>> problem = InverseProblem(SuperResolution(4), GaussianNoise(0.05))
        >>> x = torch.zeros(2, 3, 32, 32)
        >>> y = problem.measure(x, torch.Generator().manual_seed(0))
        >>> y.shape
        torch.Size([2, 3, 8, 8])
        >>> problem.log_likelihood(y, x).shape
        torch.Size([2])
        >>> {"linear", "svd", "gaussian_noise"} <= problem.capabilities
        True
    """

    kind = "problem"

    operator: Operator
    noise: Noise

    def measure(self, x: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given x.

        Args:
            x: Images (B, C, H, W) on [-1, 1].
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Measurements (B, ...), zero where the operator observes nothing.
        """
        return self.operator.mask_unobserved(self.noise.sample(self.operator.apply(x), generator))

    def log_likelihood(self, y: Tensor, x: Tensor) -> Tensor:
        """Compute ln p(y | x) over the entries that the operator observes.

        Args:
            y: Measurements (B, ...), or (1, ...) for one measurement of all x.
            x: Images (B, C, H, W) on [-1, 1].

        Returns:
            Log-likelihoods in nats, shape (B,), float32 at least.

        Raises:
            ValueError: If the shapes do not fit, or if the noise has only a joint density and the
                operator leaves entries of y unobserved.
        """
        y, x = widened(y), widened(x)
        mean = self._mean(y, x)
        if "joint_density" in self.noise.capabilities:
            if not bool(self.operator.observed(mean).all()):
                raise ValueError(
                    f"{type(self.noise).__name__} has a density of whole measurements only, "
                    "and this operator leaves some entries unobserved"
                )
            return self.noise.log_prob(self.operator.mask_unobserved(y), mean)
        return (
            self.operator.mask_unobserved(
                self.noise.log_density(self.operator.mask_unobserved(y), mean)
            )
            .flatten(1)
            .sum(1)
        )

    def residual(self, y: Tensor, x: Tensor, rounded: bool = True) -> Tensor:
        """Compute y - A x, zero where nothing is observed.

        Args:
            y: Measurements (B, ...), or (1, ...) for one measurement of all x.
            x: Images (B, C, H, W) on [-1, 1].
            rounded: Whether an operator that quantises does so; False to count its rounding as
                noise, as solvers do that follow the gradient.

        Returns:
            Residuals, of the shape of A x.

        Raises:
            ValueError: If the shapes of y and A x differ other than in the batch.
        """
        return self.operator.mask_unobserved(y) - self._mean(y, x, rounded)

    def _mean(self, y: Tensor, x: Tensor, rounded: bool = True) -> Tensor:
        """Compute A x and check that its shape is that of y, except for the batch."""
        mean = self.operator.apply(x) if rounded else self.operator.unrounded(x)
        if mean.shape[1:] != y.shape[1:]:
            raise ValueError(
                f"x gives a measurement of shape {tuple(mean.shape[1:])}, "
                f"y has {tuple(y.shape[1:])}"
            )
        return mean

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the capabilities on which a solver can rely.

        They are those of the operator and, for the noise, "gaussian_noise" (Gaussian, white, of one
        level), "normal" (any Gaussian) and "noise_covariance" (``noise.covariance_matvec`` works).
        """
        names = set(self.operator.capabilities)
        if isinstance(self.noise, GaussianNoise | CorrelatedNoise):
            names.add("normal")
        if isinstance(self.noise, GaussianNoise) and not isinstance(self.noise.std, Tensor):
            names.add("gaussian_noise")
        if "covariance" in self.noise.capabilities:
            names.add("noise_covariance")
        return frozenset(names)

    @property
    def noise_variance(self) -> float:
        """Variance sigma_y^2 of problems with the capability "gaussian_noise"; else ValueError."""
        if not isinstance(self.noise, GaussianNoise):
            raise ValueError(f"{type(self.noise).__name__} is not Gaussian noise of one level")
        return self.noise.variance

    def noise_covariance(self, shape: tuple[int, ...]) -> Tensor:
        """Compute the covariance matrix of a Gaussian noise.

        It serves exact posteriors of small problems.

        Args:
            shape: Shape of one measurement, without the batch, of m numbers in all.

        Returns:
            Covariance (m, m), float64.

        Raises:
            ValueError: If the noise has no Gaussian approximation.
        """
        m = torch.Size(shape).numel()
        unit = torch.eye(m, dtype=torch.float64).reshape(m, *shape)
        return self.noise.covariance_matvec(torch.zeros_like(unit), unit).reshape(m, m)

    @property
    def linear_operator(self) -> LinearOperator:
        """Operator of problems with the capability "linear"; else ValueError."""
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"{type(self.operator).__name__} is not linear")
        return self.operator

    def input_shape(self, y: Tensor) -> tuple[int, ...]:
        """Compute the shape of x from a measurement.

        Args:
            y: Measurements (B, ...).

        Returns:
            Shape of x, without the batch.

        Raises:
            ValueError: If the operator gives no measurements of this shape.
        """
        return self.operator.input_shape(tuple(y.shape[1:]))

    def check_measurement(self, y: Tensor) -> tuple[int, ...]:
        """Check that y can be a batch of measurements of this problem.

        Args:
            y: Measurements (B, ...).

        Returns:
            Shape of x, without the batch.

        Raises:
            ValueError: If y is not a real floating-point batch of at least one measurement, the
                operator gives no measurements of its shape, or an observed entry is NaN or
                infinite.
        """
        if not isinstance(y, Tensor) or not y.is_floating_point():
            found = y.dtype if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(
                f"a measurement is a real floating-point tensor, got {found}; convert pictures to "
                "floating point on [-1, 1]"
            )
        if y.ndim < 2 or not y.numel():
            raise ValueError(
                f"measurements (B, ...) are needed, at least one, got shape {tuple(y.shape)}; "
                "add a batch axis with y[None]"
            )
        shape = self.input_shape(y)
        if not bool(torch.isfinite(self.operator.mask_unobserved(y)).all()):
            raise ValueError("the measurement has NaN or infinite entries; mask them out")
        return shape

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> InverseProblem:
        """Copy the problem with its tensors on another device or in another precision.

        Args:
            device: Device of the copy; None to keep it.
            dtype: Precision of the floating-point tensors of the copy; None to keep it.

        Returns:
            Copy of the problem.
        """
        copy: InverseProblem = moved_to(self, device, dtype)
        return copy

    def describe(self) -> dict[str, Any]:
        """Describe the problem by plain values that ``json`` can write.

        Returns:
            Dictionary from which ``problem_from`` makes the same problem again, to the bit.

        Raises:
            ValueError: If a setting cannot be written as JSON, such as a Python function.
        """
        return {
            "format": _FORMAT,
            "operator": self.operator.describe(),
            "noise": self.noise.describe(),
        }


def problem_from(description: dict[str, Any]) -> InverseProblem:
    """Make the problem that ``InverseProblem.describe`` described.

    User-defined operators and noises are found by their class names, after the modules that define
    them have been imported.

    Args:
        description: Dictionary with the keys "operator" and "noise", and the "format", which older
            descriptions lack.

    Returns:
        Problem equal to the described one, to the bit.

    Raises:
        ValueError: If the description is malformed, names an unknown class, or has settings that
            the class does not accept.

    Example:
        >>> import json
        >>> from problems import GaussianNoise, InverseProblem, SuperResolution, problem_from
        >>> problem = InverseProblem(SuperResolution(2), GaussianNoise(0.1))
        >>> problem_from(json.loads(json.dumps(problem.describe()))).noise
        GaussianNoise(std=0.1)
    """
    known: dict[str, dict[str, type]] = {
        "operator": {cls.__name__: cls for cls in known_operators()},
        "noise": {cls.__name__: cls for cls in known_noises()},
    }
    if isinstance(description, dict) and description.get("format", _FORMAT) != _FORMAT:
        raise ValueError(
            f"the description has the format {description['format']!r:.80}, this version reads "
            f"{_FORMAT!r}"
        )
    if not isinstance(description, dict) or set(description) - {"format"} != {"operator", "noise"}:
        raise ValueError("the description of a problem has the two keys operator and noise")
    operator, noise = (decode(description[key], known) for key in ("operator", "noise"))
    if not isinstance(operator, Operator) or not isinstance(noise, Noise):
        raise ValueError(
            "the description of a problem has an operator under operator and a noise under noise"
        )
    return InverseProblem(operator, noise)
