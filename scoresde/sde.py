r"""Forward diffusions: how noise is added to data.

Every SDE here is linear with a scalar drift,

.. math:: dx_t = f(t)\, x_t\, dt + g(t)\, dw_t
          \quad\Longleftrightarrow\quad
          x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon,\ \varepsilon \sim N(0, I),

where :math:`f = d\ln\alpha/dt` and :math:`g^2 = d\sigma^2/dt - 2 f \sigma^2`. Up to the scale
:math:`\alpha` all of them are the same process in a different time variable. They share the log
signal-to-noise ratio :math:`\lambda = \ln(\alpha^2/\sigma^2)` as a common time variable (Kingma et
al. 2021); ``t_from_log_snr`` inverts it.

Times are tensors of any shape, between ``t_min`` (data) and ``t_max`` (noise). Sigma is in the
units of the data. The formulas are evaluated at any time; outside of ``domain`` they mean nothing,
and :meth:`SDE.check_time`, which priors and samplers call, refuses such times.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from problems.checks import check_number, unknown

__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "CosineVPSDE",
    "FlowMatchingSDE",
    "SubVPSDE",
    "sde_from",
]


@dataclass(frozen=True)
class SDE(ABC):
    """Base class of linear forward SDEs.

    A subclass defines alpha, sigma, the coefficients f and g, and the inverse of the log-SNR. Times
    may be tensors of any shape; results have the shape and dtype of the times.

    Example:
        >>> import torch
        >>> from scoresde import SDE, VPSDE
        >>> sde: SDE = VPSDE()
        >>> t = torch.tensor([0.01, 0.1, 0.5, 1.0], dtype=torch.float64)
        >>> torch.allclose(sde.t_from_log_snr(sde.log_snr(t)), t)
        True
        >>> a, b = sde.transition(t[1], t[2])  # x at time t[2], given x at time t[1]
        >>> torch.allclose(a, sde.alpha(t[2]) / sde.alpha(t[1]))
        True
    """

    @property
    @abstractmethod
    def t_min(self) -> float:
        """Smallest time of the process, where sampling stops."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """Largest time of the process, where x_t is (nearly) pure noise."""

    @property
    def domain(self) -> tuple[float, float]:
        """First and last time at which the process is defined.

        The data have no noise at the first time of most processes, and no signal is left at the
        last time of some. ``t_min`` and ``t_max`` keep away from both.
        """
        return min(0.0, self.t_min), self.t_max

    def check_time(
        self,
        t: Tensor | float,
        *,
        signal: bool = False,
        noise: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        """Check that a time lies where the process is defined.

        Tensors on a GPU are not looked at, because that would wait for it, and neither are those
        within torch.func or torch.compile, which have no value yet.

        Args:
            t: Times: a number, or a tensor of any shape.
            signal: Whether alpha(t) must be above 0, as for anything that divides by it.
            noise: Whether sigma(t) must be above 0, as for a score.
            dtype: Precision in which alpha and sigma are computed.

        Raises:
            ValueError: If a time is no number, is outside of ``domain``, or there is no signal or
                noise at it where there must be.

        Example:
            >>> from scoresde import VPSDE
            >>> VPSDE().check_time(0.5, noise=True)
            >>> VPSDE().check_time(0.0, noise=True)
            Traceback (most recent call last):
            ValueError: VPSDE adds no noise at t = 0, take a time of at least t_min = 0.001
            >>> VPSDE().check_time(500.0)
            Traceback (most recent call last):
            ValueError: the times of VPSDE run from 0 to 1, got t = 500
        """
        if isinstance(t, Tensor):
            if t.device.type != "cpu" or not t.numel() or _traced():
                return
            low, high = (float(end) for end in t.detach().aminmax())
        else:
            low = high = check_number(t, "the time")
        if self.t_min <= low and high <= self.t_max:
            return
        kind, (first, last) = type(self).__name__, self.domain
        slack = 4 * torch.finfo(dtype).eps * abs(last) if math.isfinite(last) else 0.0
        if not (first <= low and high <= last + slack and math.isfinite(high)):
            wrong = high if not (high <= last + slack and math.isfinite(high)) else low
            raise ValueError(
                f"the times of {kind} run from {first:g} to {last:g}, got t = {wrong:g}"
            )
        ends = torch.tensor([low, high], dtype=dtype)
        if noise and not float(self.sigma(ends)[0]) > 0:
            raise ValueError(
                f"{kind} adds no noise at t = {low:g}, take a time of at least t_min = "
                f"{self.t_min:g}"
            )
        if signal and not float(self.alpha(ends)[1]) > 0:
            raise ValueError(
                f"{kind} leaves no signal at t = {high:g}, take a time of at most t_max = "
                f"{self.t_max:g}"
            )

    def _check_levels(self, settings: str) -> None:
        """Check that single precision can tell data from noise at both ends."""
        s = self.noise_to_signal(torch.tensor([self.t_min, self.t_max]))
        if not (bool(torch.isfinite(s).all()) and 0 < float(s[0]) < float(s[1])):
            raise ValueError(
                f"with {settings} the noise levels of {type(self).__name__} run from "
                f"{float(s[0]):.3g} to {float(s[1]):.3g} in single precision, which must be "
                "finite, positive and increasing; take less extreme settings"
            )

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Compute the scale of the data at time t.

        Args:
            t: Times, any shape.

        Returns:
            alpha(t), shape of t.
        """

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise at time t.

        Args:
            t: Times, any shape.

        Returns:
            sigma(t) in the units of the data, shape of t.
        """

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """Compute the drift coefficient f(t) = d ln alpha / dt; the drift of the SDE is f(t) x.

        Args:
            t: Times, any shape.

        Returns:
            f(t), shape of t.
        """

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t), the factor of the Wiener increment.

        Args:
            t: Times, any shape.

        Returns:
            g(t), shape of t.
        """

    @abstractmethod
    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times at which the ratio has these values, shape of log_snr.
        """

    def log_snr(self, t: Tensor) -> Tensor:
        """Compute the log signal-to-noise ratio.

        Args:
            t: Times, any shape.

        Returns:
            ln(alpha^2 / sigma^2), shape of t.
        """
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def noise_to_signal(self, t: Tensor) -> Tensor:
        """Compute the noise-to-signal ratio, the noise level of x_t / alpha_t.

        Args:
            t: Times, any shape.

        Returns:
            sigma / alpha, shape of t: the time variable of the EDM (Karras et al. 2022).
        """
        return self.sigma(t) / self.alpha(t)

    def t_from_noise_to_signal(self, ratio: Tensor) -> Tensor:
        """Invert the noise-to-signal ratio.

        Args:
            ratio: Values of sigma / alpha, above 0, any shape.

        Returns:
            Times at which the ratio has these values, shape of ratio.
        """
        return self.t_from_log_snr(-2 * ratio.log())

    def terminal_std(self) -> float:
        """Compute the standard deviation of the Gaussian from which sampling starts.

        Returns:
            sigma(t_max); sampling starts from N(0, sigma(t_max)^2 I).
        """
        return float(self.sigma(torch.tensor(self.t_max, dtype=torch.float64)))

    def terminal_log_prob(self, x: Tensor) -> Tensor:
        """Compute the log-density of the Gaussian from which sampling starts.

        Args:
            x: Samples at t_max, shape (B, ...).

        Returns:
            ln N(x; 0, sigma(t_max)^2 I) in nats, shape (B,), float64.
        """
        z = x.double().flatten(1) / self.terminal_std()
        return -0.5 * z.square().sum(1) - z.shape[1] * (
            0.5 * math.log(2 * math.pi) + math.log(self.terminal_std())
        )

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""Compute the forward kernel :math:`x_t | x_s \sim N(a\,x_s, b^2 I)`.

        Args:
            s: Earlier times, any shape.
            t: Later times, above s, a shape that broadcasts with s.

        Returns:
            The factor a and the standard deviation b.
        """
        a = self.alpha(t) / self.alpha(s)
        return a, (self.sigma(t) ** 2 - (a * self.sigma(s)) ** 2).clamp_min(0).sqrt()

    def describe(self) -> dict[str, Any]:
        """Describe the SDE by plain values.

        Returns:
            Class name (``"kind"``) and settings; :func:`sde_from` builds the same SDE from them.
        """
        return {"kind": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class VPSDE(SDE):
    r"""Variance-preserving SDE.

    .. math:: dx = -\tfrac12\beta x\,dt + \sqrt{\beta}\,dw,\quad
              \beta = \beta_0 + t(\beta_1-\beta_0),\quad t \in [0, 1],

    so that :math:`\ln\alpha = -\tfrac14 t^2(\beta_1-\beta_0) - \tfrac12 t\beta_0` and
    :math:`\sigma^2 = 1 - \alpha^2` (Song et al. 2021, eq. 33).

    Args:
        beta_min: Noise rate :math:`\beta_0` at t = 0.
        beta_max: Noise rate :math:`\beta_1` at t = 1.
        eps: Time at which sampling stops, in (0, 1).

    Raises:
        ValueError: If 0 < beta_min < beta_max or 0 < eps < 1 does not hold.

    Example:
        >>> import torch
        >>> from scoresde import VPSDE
        >>> sde = VPSDE()
        >>> t = torch.tensor([0.1, 0.5, 1.0])
        >>> torch.allclose(sde.alpha(t) ** 2 + sde.sigma(t) ** 2, torch.ones(3))
        True
        >>> sde.t_min, sde.t_max
        (0.001, 1.0)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        check_number(self.beta_min, "beta_min")
        check_number(self.beta_max, "beta_max")
        check_number(self.eps, "eps")
        if not 0 < self.beta_min < self.beta_max:
            raise ValueError(
                f"VPSDE needs 0 < beta_min < beta_max, got {self.beta_min} and {self.beta_max}"
            )
        if not 0 < self.eps < 1:
            raise ValueError(f"VPSDE needs 0 < eps < 1, got {self.eps}")
        self._check_levels(f"beta_min {self.beta_min}, beta_max {self.beta_max}, eps {self.eps}")

    @property
    def t_min(self) -> float:
        """Smallest time, eps."""
        return self.eps

    @property
    def t_max(self) -> float:
        """Largest time, 1."""
        return 1.0

    def _beta_integral(self, t: Tensor) -> Tensor:
        return t * self.beta_min + t**2 * (self.beta_max - self.beta_min) / 2

    def alpha(self, t: Tensor) -> Tensor:
        """Compute the scale of the data.

        Args:
            t: Times, any shape.

        Returns:
            exp(-B(t) / 2), where B is the integral of beta, shape of t.
        """
        return (-self._beta_integral(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise.

        Args:
            t: Times, any shape.

        Returns:
            sqrt(1 - exp(-B(t))), where B is the integral of beta, shape of t.
        """
        return (-torch.expm1(-self._beta_integral(t))).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        """Compute the drift coefficient f(t).

        Args:
            t: Times, any shape.

        Returns:
            -beta(t) / 2, shape of t.
        """
        return -(self.beta_min + t * (self.beta_max - self.beta_min)) / 2

    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t).

        Args:
            t: Times, any shape.

        Returns:
            sqrt(beta(t)), shape of t.
        """
        return (self.beta_min + t * (self.beta_max - self.beta_min)).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times, shape of log_snr.
        """
        # alpha^2 = sigmoid(log_snr) = exp(-integral)
        return self._t_from_beta_integral(torch.nn.functional.softplus(-log_snr))

    def _t_from_beta_integral(self, integral: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())


@dataclass(frozen=True)
class VESDE(SDE):
    r"""Variance-exploding SDE: :math:`\alpha = 1`, geometric noise levels.

    .. math:: \sigma = \sigma_{min}(\sigma_{max}/\sigma_{min})^t,\quad t \in [0, 1]

    (Song et al. 2021, eq. 30; the defaults are theirs for CIFAR-10).

    Args:
        sigma_min: Noise level at t = 0, in the units of the data.
        sigma_max: Noise level at t = 1, in the units of the data.

    Raises:
        ValueError: If 0 < sigma_min < sigma_max does not hold.

    Example:
        >>> import torch
        >>> from scoresde import VESDE
        >>> sde = VESDE(sigma_min=0.01, sigma_max=100.0)
        >>> [round(v, 4) for v in sde.sigma(torch.tensor([0.0, 0.5, 1.0])).tolist()]
        [0.01, 1.0, 100.0]
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        check_number(self.sigma_min, "sigma_min")
        check_number(self.sigma_max, "sigma_max")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"VESDE needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )
        self._check_levels(f"sigma_min {self.sigma_min}, sigma_max {self.sigma_max}")

    @property
    def t_min(self) -> float:
        """Smallest time, 0."""
        return 0.0

    @property
    def t_max(self) -> float:
        """Largest time, 1."""
        return 1.0

    @property
    def domain(self) -> tuple[float, float]:
        """All times up to 1: below 0 the noise is lower than sigma_min, as likelihoods need it."""
        return -math.inf, 1.0

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Compute the scale of the data.

        Args:
            t: Times, any shape.

        Returns:
            1, shape of t.
        """
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise.

        Args:
            t: Times, any shape.

        Returns:
            sigma_min (sigma_max / sigma_min)^t, shape of t.
        """
        return self.sigma_min * (self._rate * t).exp()

    def drift(self, t: Tensor) -> Tensor:
        """Compute the drift coefficient f(t).

        Args:
            t: Times, any shape.

        Returns:
            0, shape of t.
        """
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t).

        Args:
            t: Times, any shape.

        Returns:
            sigma(t) sqrt(2 ln(sigma_max / sigma_min)), shape of t.
        """
        return self.sigma(t) * math.sqrt(2 * self._rate)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times, shape of log_snr.
        """
        return (-log_snr / 2 - math.log(self.sigma_min)) / self._rate


@dataclass(frozen=True)
class EDMSDE(SDE):
    r"""SDE whose time is the noise level: :math:`\alpha = 1`, :math:`\sigma = t`.

    Its diffusion coefficient is :math:`g = \sqrt{2t}` (Karras et al. 2022, table 1).

    Args:
        sigma_min: Smallest noise level, in the units of the data.
        sigma_max: Largest noise level, in the units of the data.

    Raises:
        ValueError: If 0 < sigma_min < sigma_max does not hold.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE
        >>> sde = EDMSDE(0.01, 20.0)
        >>> t = torch.tensor([0.5, 2.0])
        >>> torch.equal(sde.sigma(t), t)
        True
        >>> sde.terminal_std()
        20.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        check_number(self.sigma_min, "sigma_min")
        check_number(self.sigma_max, "sigma_max")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"EDMSDE needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )
        self._check_levels(f"sigma_min {self.sigma_min}, sigma_max {self.sigma_max}")

    @property
    def t_min(self) -> float:
        """Smallest time, sigma_min."""
        return self.sigma_min

    @property
    def t_max(self) -> float:
        """Largest time, sigma_max."""
        return self.sigma_max

    @property
    def domain(self) -> tuple[float, float]:
        """All times from 0: the noise level may be above sigma_max."""
        return 0.0, math.inf

    def alpha(self, t: Tensor) -> Tensor:
        """Compute the scale of the data.

        Args:
            t: Times, any shape.

        Returns:
            1, shape of t.
        """
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise.

        Args:
            t: Times, any shape.

        Returns:
            t, shape of t.
        """
        return t

    def drift(self, t: Tensor) -> Tensor:
        """Compute the drift coefficient f(t).

        Args:
            t: Times, any shape.

        Returns:
            0, shape of t.
        """
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t).

        Args:
            t: Times, any shape.

        Returns:
            sqrt(2 t), shape of t.
        """
        return (2 * t).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times, shape of log_snr.
        """
        return (-log_snr / 2).exp()


@dataclass(frozen=True)
class SubVPSDE(VPSDE):
    r"""Sub-VP SDE: the drift of the VP SDE with less noise.

    The diffusion is :math:`g^2 = \beta (1 - e^{-2\int\beta})`, so that
    :math:`\sigma = 1 - \alpha^2` (Song et al. 2021, eq. 38; the SDE of their best likelihoods).

    Args:
        beta_min: Noise rate at t = 0.
        beta_max: Noise rate at t = 1.
        eps: Time at which sampling stops, in (0, 1).

    Raises:
        ValueError: If 0 < beta_min < beta_max or 0 < eps < 1 does not hold.

    Example:
        >>> import torch
        >>> from scoresde import SubVPSDE
        >>> sde, t = SubVPSDE(), torch.tensor([0.1, 0.5, 1.0])
        >>> torch.allclose(sde.sigma(t), 1 - sde.alpha(t) ** 2)
        True
    """

    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise.

        Args:
            t: Times, any shape.

        Returns:
            1 - alpha(t)^2, shape of t.
        """
        return -torch.expm1(-self._beta_integral(t))

    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t).

        Args:
            t: Times, any shape.

        Returns:
            sqrt(beta(t) (1 - exp(-2 B(t)))), where B is the integral of beta, shape of t.
        """
        return super().diffusion(t) * (-torch.expm1(-2 * self._beta_integral(t))).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times, shape of log_snr.
        """
        # alpha / (1 - alpha^2) = 1 / (2 sinh(-ln alpha)), and the integral of beta is -2 ln alpha
        return self._t_from_beta_integral(2 * torch.asinh((-log_snr / 2).exp() / 2))


@dataclass(frozen=True)
class _OpenEnds(SDE):
    """Times from eps to 1 - eps: the signal-to-noise ratio is infinite at 0 and zero at 1."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        check_number(self.eps, "eps")
        if not 0 < self.eps < 0.5:
            raise ValueError(f"{type(self).__name__} needs 0 < eps < 0.5, got {self.eps}")
        self._check_levels(f"eps {self.eps}")

    @property
    def t_min(self) -> float:
        """Smallest time, eps."""
        return self.eps

    @property
    def t_max(self) -> float:
        """Largest time, 1 - eps."""
        return 1 - self.eps

    @property
    def domain(self) -> tuple[float, float]:
        """Times from 0, where there is no noise, to 1, where no signal is left."""
        return 0.0, 1.0


@dataclass(frozen=True)
class CosineVPSDE(_OpenEnds):
    r"""Variance-preserving SDE with the cosine schedule.

    .. math:: \alpha = \cos(\pi t/2),\quad \sigma = \sin(\pi t/2),\quad
              \log\mathrm{SNR} = -2\ln\tan(\pi t/2)

    (Nichol and Dhariwal 2021, without their offset; Kingma and Gao 2023, table 1). Times run from
    eps to 1 - eps, since the signal-to-noise ratio is infinite at 0 and zero at 1.

    Args:
        eps: Distance of the smallest time from 0 and of the largest from 1, in (0, 0.5).

    Raises:
        ValueError: If 0 < eps < 0.5 does not hold.

    Example:
        >>> import torch
        >>> from scoresde import CosineVPSDE
        >>> sde, t = CosineVPSDE(), torch.tensor([0.25, 0.5, 0.75])
        >>> torch.allclose(sde.alpha(t) ** 2 + sde.sigma(t) ** 2, torch.ones(3))
        True
        >>> round(float(sde.noise_to_signal(torch.tensor(0.5))), 6)
        1.0
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Compute the scale of the data.

        Args:
            t: Times, any shape.

        Returns:
            cos(pi t / 2), shape of t.
        """
        # the cosine of pi t / 2 would lose digits to cancellation near t = 1
        return (math.pi / 2 * (1 - t)).sin()

    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise.

        Args:
            t: Times, any shape.

        Returns:
            sin(pi t / 2), shape of t.
        """
        return (math.pi / 2 * t).sin()

    def drift(self, t: Tensor) -> Tensor:
        """Compute the drift coefficient f(t).

        Args:
            t: Times, any shape.

        Returns:
            -(pi / 2) tan(pi t / 2), shape of t.
        """
        return -math.pi / 2 * (math.pi / 2 * t).tan()

    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t).

        Args:
            t: Times, any shape.

        Returns:
            sqrt(pi tan(pi t / 2)), shape of t.
        """
        return (math.pi * (math.pi / 2 * t).tan()).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times, shape of log_snr.
        """
        return 2 / math.pi * (-log_snr / 2).exp().atan()


@dataclass(frozen=True)
class FlowMatchingSDE(_OpenEnds):
    r"""SDE of flow matching, with straight lines from data to noise.

    .. math:: \alpha = 1 - t,\quad \sigma = t,\quad f = -1/(1-t),\quad g^2 = 2t/(1-t)

    The probability-flow ODE is that of flow matching and rectified flow (Lipman et al. 2023; Liu et
    al. 2023), with velocity :math:`E[\varepsilon - x_0 | x_t]`. Times run from eps to 1 - eps,
    since the signal-to-noise ratio is infinite at 0 and zero at 1.

    Args:
        eps: Distance of the smallest time from 0 and of the largest from 1, in (0, 0.5).

    Raises:
        ValueError: If 0 < eps < 0.5 does not hold.

    Example:
        >>> import torch
        >>> from scoresde import FlowMatchingSDE
        >>> sde, t = FlowMatchingSDE(), torch.tensor([0.25, 0.5, 0.75])
        >>> torch.equal(sde.alpha(t), 1 - t) and torch.equal(sde.sigma(t), t)
        True
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Compute the scale of the data.

        Args:
            t: Times, any shape.

        Returns:
            1 - t, shape of t.
        """
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Compute the standard deviation of the noise.

        Args:
            t: Times, any shape.

        Returns:
            t, shape of t.
        """
        return t

    def drift(self, t: Tensor) -> Tensor:
        """Compute the drift coefficient f(t).

        Args:
            t: Times, any shape.

        Returns:
            -1 / (1 - t), shape of t.
        """
        return -1 / (1 - t)

    def diffusion(self, t: Tensor) -> Tensor:
        """Compute the diffusion coefficient g(t).

        Args:
            t: Times, any shape.

        Returns:
            sqrt(2 t / (1 - t)), shape of t.
        """
        return (2 * t / (1 - t)).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """Invert the log signal-to-noise ratio.

        Args:
            log_snr: Values of ln(alpha^2 / sigma^2), any shape.

        Returns:
            Times, shape of log_snr.
        """
        return torch.sigmoid(-log_snr / 2)


def _traced() -> bool:
    """Whether torch.func or torch.compile is at work."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


_KINDS: dict[str, type[SDE]] = {
    kind.__name__: kind for kind in (VPSDE, SubVPSDE, CosineVPSDE, VESDE, EDMSDE, FlowMatchingSDE)
}


def sde_from(description: dict[str, Any]) -> SDE:
    """Build an SDE from its description.

    Args:
        description: Class name (``"kind"``) and settings, as :meth:`SDE.describe` returns them.

    Returns:
        The SDE with these settings.

    Raises:
        ValueError: If the kind is unknown or a setting is unknown or invalid.

    Example:
        >>> from scoresde import EDMSDE, sde_from
        >>> EDMSDE(0.01, 20.0).describe()
        {'kind': 'EDMSDE', 'sigma_min': 0.01, 'sigma_max': 20.0}
        >>> sde_from(EDMSDE(0.01, 20.0).describe()) == EDMSDE(0.01, 20.0)
        True
    """
    if not isinstance(description, dict):
        raise ValueError(f"an SDE is described by a dictionary, got {description!r:.80}")
    settings = dict(description)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(unknown("SDE", kind, _KINDS))
    try:
        return _KINDS[kind](**settings)
    except TypeError as error:
        raise ValueError(f"bad settings for {kind}: {error}") from None
