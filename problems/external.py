"""An adapter for the physics of deepinv, its operators and its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from problems.noise import (
    CountNoise,
    GaussianNoise,
    LaplaceNoise,
    LogPoissonNoise,
    Noise,
    RicianNoise,
    SpeckleNoise,
    UniformNoise,
)
from problems.operators.base import Operator, Shape
from problems.operators.function import LinearFunction, NonlinearFunction
from problems.problem import InverseProblem

__all__ = ["from_deepinv", "noise_from_deepinv", "problem_from_deepinv"]


def from_deepinv(physics: Any, shape: Shape) -> Operator:
    """Turn a ``deepinv.physics.Physics`` into an operator.

    For the operator and its noise, see :func:`problem_from_deepinv`.

    A physics that has ``A_adjoint`` is taken to be linear. Its ``A_adjoint`` is not used: the
    adjoint is made from its ``A`` by differentiation, so that it is exact.

    Args:
        physics: Object with a method ``A`` that maps a batch to one tensor.
        shape: Shape (C, H, W) of x, without the batch.

    Returns:
        ``LinearFunction`` if the physics has ``A_adjoint``, else ``NonlinearFunction``.

    Raises:
        ValueError: If the physics has no method ``A``, ``A`` gives anything but one tensor, or
            it has ``A_adjoint`` and ``A`` is not linear.
    """
    if not callable(getattr(physics, "A", None)):
        raise ValueError(f"a deepinv Physics has a method A; {type(physics).__name__} has none")

    def apply(x: Tensor) -> Tensor:
        y = physics.A(x)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"{type(physics).__name__}.A gives a {type(y).__name__}, not one tensor; "
                "wrap its parts one by one"
            )
        return y

    kind: Callable[..., Operator] = (
        LinearFunction if hasattr(physics, "A_adjoint") else NonlinearFunction
    )
    return kind(apply, tuple(shape))


def problem_from_deepinv(physics: Any, shape: Shape) -> InverseProblem:
    """Turn a ``deepinv.physics.Physics`` and its noise into a problem.

    x and y keep the units of the physics. Noise of photons, speckle and Rician noise count from 0
    there, so that x must be light on [0, 1] or in other units without an offset.

    Args:
        physics: Object with a method ``A`` and an attribute ``noise_model``.
        shape: Shape (C, H, W) of x, without the batch.

    Returns:
        Operator as of :func:`from_deepinv`, with the noise as of :func:`noise_from_deepinv`.

    Raises:
        ValueError: If the operator or the noise cannot be carried over.
    """
    return InverseProblem(
        from_deepinv(physics, shape), noise_from_deepinv(getattr(physics, "noise_model", None))
    )


def noise_from_deepinv(model: Any) -> Noise:
    """Turn a ``deepinv.physics.NoiseModel`` into a noise of the same law.

    Known are GaussianNoise, PoissonNoise, PoissonGaussianNoise, LogPoissonNoise, GammaNoise,
    UniformNoise, LaplaceNoise and RicianNoise, by the names of their classes. SaltPepperNoise,
    UniformGaussianNoise and FisherTippettNoise are refused with the reason.

    Args:
        model: Noise model; its settings are numbers or tensors of one number.

    Returns:
        Noise with the same settings.

    Raises:
        ValueError: If there is no noise, this noise is unknown, or it has a setting for each
            sample of a batch.
    """
    name = type(model).__name__
    if model is None or name == "ZeroNoise":
        raise ValueError(
            "this physics has no noise; state one with "
            "InverseProblem(from_deepinv(physics, shape), GaussianNoise(std))"
        )
    if name in _REFUSED:
        raise ValueError(f"the noise {name} of deepinv cannot be carried over: {_REFUSED[name]}")
    if name not in _NOISES:
        raise ValueError(
            f"the noise {name} of deepinv has no counterpart here; known: {', '.join(_NOISES)}"
        )
    return _NOISES[name](model)


def _setting(model: Any, name: str) -> float:
    """A setting that is one number."""
    value = getattr(model, name, None)
    if value is None:
        raise ValueError(f"{type(model).__name__} of deepinv has no setting {name}")
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(
                f"{type(model).__name__}.{name} has {value.numel()} values, one for each sample; "
                "a problem has one"
            )
        if value.dtype == torch.float32:  # the number that was rounded: 0.1, not 0.10000000149
            return float(f"{value.item():.7g}")
    return float(value)


def _poisson(model: Any) -> Noise:
    gain = _setting(model, "gain")
    if not bool(getattr(model, "normalize", True)) and gain != 1:
        raise ValueError(
            "PoissonNoise(normalize=False) of deepinv measures mean / gain, not the mean; divide "
            "the operator by the gain, and use CountNoise()"
        )
    return CountNoise(gain)


_NOISES: dict[str, Callable[[Any], Noise]] = {
    "GaussianNoise": lambda m: GaussianNoise(_setting(m, "sigma")),
    "PoissonNoise": _poisson,
    "PoissonGaussianNoise": lambda m: CountNoise(_setting(m, "gain"), _setting(m, "sigma")),
    "LogPoissonNoise": lambda m: LogPoissonNoise(_setting(m, "N0"), _setting(m, "mu")),
    "GammaNoise": lambda m: SpeckleNoise(_setting(m, "l"), black=0.0),
    "UniformNoise": lambda m: UniformNoise(2 * _setting(m, "a")),
    "LaplaceNoise": lambda m: LaplaceNoise(_setting(m, "b")),
    "RicianNoise": lambda m: RicianNoise(_setting(m, "sigma"), black=0.0),
}

_REFUSED = {
    "SaltPepperNoise": (
        "it sets pixels to 0 or 1 and leaves the others without noise, which has no likelihood; "
        "on [-1, 1] use SaltAndPepperNoise(amount, std)"
    ),
    "UniformGaussianNoise": (
        "it draws another level for each picture; state that of this one by GaussianNoise(std), or "
        "estimate it"
    ),
    "FisherTippettNoise": (
        "it is speckle after the logarithm; take the exponential of the measurement and "
        "SpeckleNoise(looks, black=0.0)"
    ),
}
