r"""Settings in units of the data: lengths that a solver turns into numbers when it meets a prior.

A noise level of 0.03 is fine for photographs on [-1, 1], whose standard deviation is 0.5, and
coarser than the data themselves for signals of size 0.01. A setting that is a length can therefore
be given as :class:`OfData`, in standard deviations of the data. ``PosteriorSampler.sample`` and
``Sampler.sample`` replace it by its value for the prior at hand, so that data, noise and prior
scaled by c give draws scaled by c.

The standard deviation of the data is ``sigma_data`` of a network, or follows from the moments of a
mixture in closed form. Another prior counts as one of photographs, 0.5, unless it has an attribute
``sigma_data``.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import Prior

__all__ = ["PHOTOGRAPHS", "OfData", "Scale", "fitted"]

PHOTOGRAPHS = 0.5
"""Standard deviation of photographs on [-1, 1], for priors that do not know theirs."""

_ITERATIONS = 8  # of the power method, for the norm of the operator

Value = TypeVar("Value")


class OfData(float):
    r"""A number times a power of the standard deviation of the data.

    As a float it is the number itself, so that settings can be compared before the data are known.

    Args:
        value: The number.
        power: Power of the standard deviation; 1 for lengths, 2 for variances.

    Example:
        >>> OfData(10.0), OfData(4.0, power=2)
        (OfData(10.0), OfData(4.0, power=2))
        >>> OfData(4.0, power=2).times(0.5)
        1.0
    """

    power: int

    def __new__(cls, value: float, power: int = 1) -> OfData:
        """Make the number."""
        number = super().__new__(cls, value)
        number.power = power
        return number

    def times(self, std: float) -> float:
        """Compute the value for data.

        Args:
            std: Standard deviation of the data.

        Returns:
            The number times the power of std.
        """
        return float(self) * float(std**self.power)

    def __repr__(self) -> str:
        """Show the number, and the power unless it is 1."""
        power = "" if self.power == 1 else f", power={self.power}"
        return f"OfData({float(self)!r}{power})"

    def __reduce__(self) -> tuple[type[OfData], tuple[float, int]]:
        """Keep the power in copies."""
        return OfData, (float(self), self.power)


class Scale:
    r"""Lengths of a prior and of a measurement, each computed when it is first asked for.

    Args:
        prior: Prior of x.
        problem: Operator and noise of a measurement; None without one.
        y: Measurements, shape (B, ...); None without a problem.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 1, 2), torch.diag(torch.tensor([1.0, 7.0])))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.1))
        >>> scale = Scale(prior, problem, torch.zeros(1, 1, 1, 2))
        >>> scale.data, round(scale.widest, 2), round(scale.measured, 6)
        (2.0, 2.65, 0.1)
    """

    def __init__(
        self, prior: Prior, problem: InverseProblem | None = None, y: Tensor | None = None
    ) -> None:
        self.prior, self.problem, self.y = prior, problem, y

    @cached_property
    def data(self) -> float:
        """Standard deviation of the entries of the data, root mean square over the entries."""
        known = self._known("sigma_data")
        if known is not None:
            return float(known)
        if self._covariance is None:
            return PHOTOGRAPHS
        return math.sqrt(float(self._covariance.diagonal().mean())) or PHOTOGRAPHS

    @cached_property
    def widest(self) -> float:
        """Standard deviation of the data along the direction in which they vary most.

        It is known for mixtures in closed form. For other priors it is ``data``.
        """
        if self._covariance is None:
            return self.data
        return math.sqrt(float(torch.linalg.eigvalsh(self._covariance)[-1].clamp_min(0)))

    @cached_property
    def trained(self) -> tuple[float, float]:
        """Smallest and largest noise-to-signal ratio that a network was trained on."""
        return self._known("trained") or (0.0, math.inf)

    @cached_property
    def measured(self) -> float:
        r"""Width :math:`\sigma_y/\|A\|` of the likelihood in the direction that y determines best.

        It is infinite without a measurement, for noise that is not white and Gaussian, and for
        operators without derivatives. A nonlinear operator is linearised at white noise of the
        size of the data.
        """
        if self.problem is None or self.y is None:
            return math.inf
        if not {"gaussian_noise", "vjp"} <= self.problem.capabilities:
            return math.inf
        shape = self.problem.input_shape(self.y)
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        v = v.to(dtype=self.prior.dtype, device=self.prior.device)
        with torch.no_grad():
            J, norm = self.problem.operator.linearise(self.data * v), 0.0
            for _ in range(_ITERATIONS):
                v = v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
                v = J.adjoint(J.apply(v))
                norm = float(v.norm())
        if not (norm > 0 and math.isfinite(norm)):
            return math.inf
        return math.sqrt(self.problem.noise_variance / norm)

    @cached_property
    def _covariance(self) -> Tensor | None:
        moments = self._known("moments")
        return None if moments is None else moments()[1].double()

    def _known(self, name: str) -> Any:
        """Attribute of the innermost prior that has it, or None."""
        for prior in reversed(self.prior.nesting()):
            if hasattr(prior, name):
                return getattr(prior, name)
        return None


def fitted(settings: Value, scale: Scale) -> Value:
    """Replace every :class:`OfData` in a frozen dataclass by its value, in nested ones too.

    Args:
        settings: Solver, guidance, sampler or grid. What has a method ``fitted`` does it itself.
        scale: Lengths of the prior and of the measurement.

    Returns:
        The same object if it has no such setting, else a copy.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import DDIM, TimeGrid
        >>> prior = GaussianPrior(torch.zeros(2), 4 * torch.eye(2))
        >>> grid = TimeGrid(s_max=OfData(10.0), s_min=OfData(0.1))
        >>> fitted(DDIM(5, grid), Scale(prior)).grid
        TimeGrid(spacing='karras', rho=7.0, s_max=20.0, s_min=0.2, finest=None)
    """
    if not is_dataclass(settings) or isinstance(settings, type):
        return settings
    changed: dict[str, Any] = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, OfData):
            changed[one.name] = value.times(scale.data)
        elif hasattr(value, "fitted"):
            changed[one.name] = value.fitted(scale)
        elif is_dataclass(value) and not isinstance(value, type):
            changed[one.name] = fitted(value, scale)
        if one.name in changed and changed[one.name] is value:
            del changed[one.name]
    return replace(settings, **changed) if changed else settings
