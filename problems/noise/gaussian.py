"""Gaussian noise: white, with its own level for each entry, or of any covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise
from problems.operators.base import LinearOperator
from problems.random_numbers import Generators, randn_like

__all__ = ["CorrelatedNoise", "GaussianNoise"]


@dataclass(frozen=True, eq=False, repr=False)
class GaussianNoise(Noise):
    """y = mean + std * N(0, I). std: a number, or a tensor of the shape of one measurement (or one that broadcasts to it).

    In units of the measurement ([-1, 1] for images); 0 only where no likelihood is asked for.
    """

    std: float | Tensor

    def __post_init__(self) -> None:
        if isinstance(self.std, Tensor):
            if self.std.is_complex() or not bool(
                (torch.isfinite(self.std) & (self.std >= 0)).all()
            ):
                raise ValueError("the noise levels must be finite numbers >= 0")
            object.__setattr__(self, "std", self.std.detach().clone())
        elif not (math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"the noise level must be a finite number >= 0, got {self.std}")

    @property
    def variance(self) -> float:
        """std^2, where it is one number."""
        if isinstance(self.std, Tensor):
            raise ValueError("this noise has a level for each entry, not one variance")
        return float(self.std) ** 2

    def _std(self, like: Tensor) -> Tensor | float:
        if not isinstance(self.std, Tensor):
            return self.std
        std = self.std.to(like)
        if torch.broadcast_shapes(std.shape, like.shape[1:]) != like.shape[1:]:
            raise ValueError(
                f"noise levels of shape {tuple(std.shape)} do not fit a measurement of shape {tuple(like.shape[1:])}"
            )
        return std

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        return mean + self._std(mean) * randn_like(mean, generator)

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        std = self._std(mean)
        if not (bool((std > 0).all()) if isinstance(std, Tensor) else std > 0):
            raise ValueError("a likelihood needs a noise level above 0")
        log_std = std.log() if isinstance(std, Tensor) else math.log(std)
        return -0.5 * ((y - mean) / std).square() - log_std - 0.5 * math.log(2 * math.pi)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        return self._std(mean) ** 2 * v


@dataclass(frozen=True, eq=False, repr=False)
class CorrelatedNoise(Noise):
    """y = mean + L n, n white: covariance L L^T by an operator L with an SVD (stripes, grain, a filtered sensor).

    The density needs L L^T to be invertible.
    """

    root: LinearOperator

    def __post_init__(self) -> None:
        if "svd" not in self.root.capabilities:
            raise ValueError(
                f"the root of a covariance needs an svd, which {type(self.root).__name__} here has not"
            )

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        shape = self.root.input_shape(tuple(mean.shape[1:]))
        white = randn_like(mean.new_empty(len(mean), *shape), generator)
        return mean + self.root.apply(white)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        return self.root.apply(self.root.adjoint(v))

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        raise ValueError("correlated noise has no density of single entries; use log_prob")

    def log_prob(self, y: Tensor, mean: Tensor) -> Tensor:
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
