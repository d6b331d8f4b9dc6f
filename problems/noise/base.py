"""Base class of all noises: draws, and the density of a measurement."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from problems.checks import check_number
from problems.description import Described, concrete
from problems.linalg.precision import HALVES, widened
from problems.random_numbers import Generators

__all__ = ["Noise", "check_level", "check_positive", "known_noises"]

_LARGEST = 1e15  # setting of a noise: its square must be finite in float32


# the methods that take measurements, and whether their results are of the kind of measurements
_METHODS = {
    "sample": True,
    "log_density": False,
    "log_prob": False,
    "score": True,
    "covariance_matvec": True,
}


def _checked(method: Callable[..., Any], rounded: bool) -> Callable[..., Any]:
    """The method with a check of its tensors, computed in float32 where they are of less."""

    @functools.wraps(method)
    def call(self: Noise, *args: Any, **kwargs: Any) -> Any:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        for value in tensors:
            if not value.is_floating_point():
                raise ValueError(
                    f"a noise works on real floating-point tensors, got {value.dtype}; "
                    "convert it to floating point on [-1, 1]"
                )
        if len({value.shape[1:] for value in tensors}) > 1:
            shapes = " and ".join(str(tuple(value.shape)) for value in tensors)
            raise ValueError(f"y and its mean must have one shape (B, ...), got {shapes}")
        if not any(value.dtype in HALVES for value in tensors):
            return method(self, *args, **kwargs)

        def wide(value: Any) -> Any:
            return widened(value) if isinstance(value, Tensor) else value

        result = method(self, *map(wide, args), **{k: wide(v) for k, v in kwargs.items()})
        dtype = functools.reduce(torch.promote_types, (value.dtype for value in tensors))
        return result.to(dtype) if rounded else result

    return call


class Noise(Described, ABC):
    """Distribution p(y | mean) of a measurement about its mean A x.

    A noise is a frozen dataclass with ``sample`` and ``log_density``. A noise with further
    ``capabilities`` declares them by name.

    The methods of every subclass check that y and mean are real floating-point tensors of one
    shape, and compute half precision in float32. Densities are then float32, since a sum over an
    image does not fit into half precision; draws, scores and products have the dtype of the mean.
    """

    kind = "noise"

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name, rounded in _METHODS.items():
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name], rounded))

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities of this noise.

        "covariance": ``covariance_matvec`` works, so that a Gaussian can approximate this noise.
        "joint_density": ``log_prob`` is defined for whole measurements only, and ``log_density``
        raises. A noise declares here which of them it has.
        """
        return frozenset()

    @abstractmethod
    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the settings do not fit the shape, or the number of generators is not B.
        """

    @abstractmethod
    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y, float32 at least.

        Raises:
            ValueError: If the noise has no density of single entries.
        """

    def log_prob(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y | mean) of each sample.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, shape (B,), float32 at least.

        Raises:
            ValueError: If the noise has no density.
        """
        return self.log_density(y, mean).flatten(1).sum(1)

    def score(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute the gradient of ``log_prob`` with respect to the mean.

        It can be differentiated again where y or the mean requires a gradient.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Gradient, of the shape of y.

        Raises:
            ValueError: If the noise has no density.
        """
        outer = torch.is_grad_enabled() and (mean.requires_grad or y.requires_grad)
        with torch.enable_grad():
            m = mean if outer and mean.requires_grad else mean.detach().requires_grad_()
            return torch.autograd.grad(
                self.log_prob(y, m).sum(), m, create_graph=outer, materialize_grads=True
            )[0]

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance Cov[y | mean], for a Gaussian approximation of this noise.

        Args:
            mean: Noiseless measurements A x (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products Cov[y | mean] v, of the shape of v.

        Raises:
            ValueError: If the noise has no capability "covariance".
        """
        raise ValueError(
            f"{type(self).__name__} has no Gaussian approximation; "
            "use a solver that needs only the score of the noise"
        )


for _name in ("log_prob", "score", "covariance_matvec"):
    setattr(Noise, _name, _checked(Noise.__dict__[_name], _METHODS[_name]))


def known_noises() -> list[type[Noise]]:
    """List every concrete class of noise, including those of users.

    Returns:
        Classes in the order of their definition.
    """
    return concrete(Noise)  # type: ignore[type-abstract]


def check_positive(value: float, name: str) -> None:
    """Check that a setting is positive and finite.

    Args:
        value: Value of the setting.
        name: Name of the setting in the message.

    Raises:
        ValueError: If the value is not a finite number above 0.
    """
    check_number(value, name, above=0, most=_LARGEST)


def check_level(std: float) -> None:
    """Check a standard deviation, which may be 0.

    Args:
        std: Standard deviation of a noise.

    Raises:
        ValueError: If it is negative, not finite, or its square would not be.
    """
    try:
        check_number(std, "the noise level", least=0, most=_LARGEST)
    except ValueError:
        raise ValueError(f"the noise level must be a finite number >= 0, got {std!s:.80}") from None
