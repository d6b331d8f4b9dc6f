"""Gaussian noise: white, with one level or a level for each entry, or of any covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise, check_level
from problems.operators.base import LinearOperator
from problems.random_numbers import Generators, randn_like

__all__ = ["CorrelatedNoise", "GaussianNoise", "broadcasts"]


def broadcasts(shape: torch.Size, target: torch.Size) -> bool:
    """Say whether a tensor of one shape spreads over a tensor of another.

    Args:
        shape: Shape of the tensor.
        target: Shape of what it must fit.

    Returns:
        True if it does without changing the target.

    Example:
        >>> broadcasts(torch.Size([1, 4]), torch.Size([3, 2, 4]))
        True
    """
    missing = len(target) - len(shape)
    return missing >= 0 and all(n in (1, m) for n, m in zip(shape, target[missing:], strict=True))


@dataclass(frozen=True, eq=False, repr=False)
class GaussianNoise(Noise):
    """White Gaussian noise, y = mean + std * N(0, I).

    Args:
        std: Standard deviation in units of the measurement ([-1, 1] for images). A number, or a
            tensor of the shape of one measurement or one that broadcasts to it. 0 is allowed, but
            then there is no likelihood.

    Raises:
        ValueError: If a standard deviation is negative or not finite.

    Example:
        >>> import torch
        >>> from problems import GaussianNoise
        >>> noise = GaussianNoise(0.5)
        >>> noise.sample(torch.zeros(2, 3), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
        >>> noise.log_prob(torch.zeros(1, 4), torch.zeros(1, 4))
        tensor([-0.9032])
    """

    std: float | Tensor

    def __post_init__(self) -> None:
        if isinstance(self.std, Tensor):
            if self.std.is_complex() or not bool(
                (torch.isfinite(self.std) & (self.std >= 0)).all()
            ):
                raise ValueError("the noise levels must be finite numbers >= 0")
            object.__setattr__(self, "std", self.std.detach().clone())
        else:
            check_level(self.std)

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    @property
    def variance(self) -> float:
        """Variance std^2 if the noise has one level; else ValueError."""
        if isinstance(self.std, Tensor):
            raise ValueError("this noise has a level for each entry, not one variance")
        return float(self.std) ** 2

    def _std(self, like: Tensor) -> Tensor | float:
        if not isinstance(self.std, Tensor):
            return self.std
        std = self.std.to(like)
        if not broadcasts(std.shape, like.shape[1:]):
            raise ValueError(
                f"noise levels of shape {tuple(std.shape)} do not fit a measurement "
                f"of shape {tuple(like.shape[1:])}"
            )
        return std

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If a tensor of levels does not fit the shape, or the number of generators is
                not B.
        """
        return mean + self._std(mean) * randn_like(mean, generator)

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y.

        Raises:
            ValueError: If a noise level is 0.
        """
        std = self._std(mean)
        if not (bool((std > 0).all()) if isinstance(std, Tensor) else std > 0):
            raise ValueError("a likelihood needs a noise level above 0")
        log_std = std.log() if isinstance(std, Tensor) else math.log(std)
        return -0.5 * ((y - mean) / std).square() - log_std - 0.5 * math.log(2 * math.pi)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance std^2 I.

        Args:
            mean: Noiseless measurements A x (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products std^2 v, of the shape of v.
        """
        return self._std(mean) ** 2 * v


@dataclass(frozen=True, eq=False, repr=False)
class CorrelatedNoise(Noise):
    """Gaussian noise of covariance L L^T, y = mean + L n with white n.

    It models stripes, grain or a filtered sensor. The density needs L L^T to be invertible.

    Args:
        root: Linear operator L with an SVD.

    Raises:
        ValueError: If the operator has no SVD.

    Example:
        >>> import torch
        >>> from problems import CorrelatedNoise, GaussianBlur
        >>> noise = CorrelatedNoise(GaussianBlur(0.5, "circular", 2.0))
        >>> y = noise.sample(torch.zeros(2, 1, 16, 16), torch.Generator().manual_seed(0))
        >>> noise.log_prob(y, torch.zeros_like(y)).shape
        torch.Size([2])
    """

    root: LinearOperator

    def __post_init__(self) -> None:
        if not isinstance(self.root, LinearOperator) or "svd" not in self.root.capabilities:
            raise ValueError(
                "CorrelatedNoise needs an operator with an SVD, "
                f"and this {type(self.root).__name__} has none"
            )

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance", "joint_density"})

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If L does not give this shape, or the number of generators is not B.
        """
        shape = self.root.input_shape(tuple(mean.shape[1:]))
        white = randn_like(mean.new_empty(len(mean), *shape), generator)
        return mean + self.root.apply(white)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance L L^T.

        Args:
            mean: Noiseless measurements A x (B, ...); not used.
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products L L^T v, of the shape of v.
        """
        return self.root.apply(self.root.adjoint(v))

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Refuse: correlated noise has a density of whole measurements only, ``log_prob``.

        Args:
            y: Not used.
            mean: Not used.

        Returns:
            Nothing; it always raises.

        Raises:
            ValueError: Always.
        """
        raise ValueError("correlated noise has no density of single entries; use log_prob")

    def log_prob(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y | mean) of each sample.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, shape (B,).

        Raises:
            ValueError: If the covariance is singular.
        """
        svd = self.root.svd(self.root.input_shape(tuple(mean.shape[1:])), mean)
        if not svd.complete_u or bool(
            (svd.s <= svd.s.max() * svd.s.numel() * torch.finfo(svd.s.dtype).eps).any()
        ):
            raise ValueError("the covariance of the noise is singular: it has no density")
        w = svd.Ut(y - mean) / svd.s
        log_det = (
            svd.s.log().sum().expand(())
            if w[0].numel() == svd.s.numel()
            else svd.s.expand(w.shape[1:]).log().sum()
        )
        return (
            -0.5 * w.flatten(1).square().sum(1)
            - log_det
            - 0.5 * w[0].numel() * math.log(2 * math.pi)
        )
