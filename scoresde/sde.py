r"""Forward diffusions: how noise is added to data.

Every SDE here is linear with a scalar drift,

.. math:: dx_t = f(t)\, x_t\, dt + g(t)\, dw_t
          \quad\Longleftrightarrow\quad x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon,\ \varepsilon \sim N(0, I),

where :math:`f = d\ln\alpha/dt` and :math:`g^2 = d\sigma^2/dt - 2 f \sigma^2`. Up to the scale :math:`\alpha` all of them
are the same process, run by a different clock; the log signal-to-noise ratio :math:`\lambda = \ln(\alpha^2/\sigma^2)` is
the clock they share (Kingma et al. 2021), and ``t_from_log_snr`` reads it backwards.

Times are tensors of any shape, between ``t_min`` (data) and ``t_max`` (noise); sigma is in units of the data.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

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
    """A forward SDE. Subclasses give alpha, sigma, their derivatives and the inverse of the log-SNR."""

    @property
    @abstractmethod
    def t_min(self) -> float:
        """The smallest time at which the process is defined well enough to be sampled."""

    @property
    @abstractmethod
    def t_max(self) -> float:
        """The time at which the process is (nearly) pure noise."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the data at time t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise at time t."""

    @abstractmethod
    def drift(self, t: Tensor) -> Tensor:
        """f(t) = d ln alpha / dt; the drift of the SDE is f(t) x."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t), the factor of the Wiener increment."""

    @abstractmethod
    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        """The time at which ln(alpha^2 / sigma^2) has the given value."""

    def log_snr(self, t: Tensor) -> Tensor:
        """ln(alpha^2 / sigma^2)."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def noise_to_signal(self, t: Tensor) -> Tensor:
        """sigma / alpha: the noise level of x_t / alpha_t, the time variable of the EDM."""
        return self.sigma(t) / self.alpha(t)

    def t_from_noise_to_signal(self, ratio: Tensor) -> Tensor:
        """The time at which sigma / alpha has the given value."""
        return self.t_from_log_snr(-2 * ratio.log())

    def terminal_std(self) -> float:
        """Standard deviation of the Gaussian from which sampling starts: N(0, sigma(t_max)^2 I)."""
        return float(self.sigma(torch.tensor(self.t_max, dtype=torch.float64)))

    def terminal_log_prob(self, x: Tensor) -> Tensor:
        """Its log-density in nats, (B,), for x (B, ...)."""
        z = x.double().flatten(1) / self.terminal_std()
        return -0.5 * z.square().sum(1) - z.shape[1] * (
            0.5 * math.log(2 * math.pi) + math.log(self.terminal_std())
        )

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""(a, b) of the forward kernel :math:`x_t | x_s \sim N(a\,x_s, b^2 I)`, s < t."""
        a = self.alpha(t) / self.alpha(s)
        return a, (self.sigma(t) ** 2 - (a * self.sigma(s)) ** 2).clamp_min(0).sqrt()

    def describe(self) -> dict[str, Any]:
        """A description that :func:`sde_from` turns back into the same SDE."""
        return {"kind": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class VPSDE(SDE):
    r"""Variance preserving: :math:`dx = -\tfrac12\beta x\,dt + \sqrt{\beta}\,dw`, :math:`\beta = \beta_0 + t(\beta_1-\beta_0)`.

    :math:`\ln\alpha = -\tfrac14 t^2(\beta_1-\beta_0) - \tfrac12 t\beta_0`, :math:`\sigma^2 = 1 - \alpha^2`
    (Song et al. 2021, eq. 33). ``eps`` is the time at which sampling stops.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max:
            raise ValueError(
                f"VPSDE needs 0 < beta_min < beta_max, got {self.beta_min} and {self.beta_max}"
            )
        if not 0 < self.eps < 1:
            raise ValueError(f"VPSDE needs 0 < eps < 1, got {self.eps}")

    @property
    def t_min(self) -> float:
        return self.eps

    @property
    def t_max(self) -> float:
        return 1.0

    def _beta_integral(self, t: Tensor) -> Tensor:
        return t * self.beta_min + t**2 * (self.beta_max - self.beta_min) / 2

    def alpha(self, t: Tensor) -> Tensor:
        return (-self._beta_integral(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._beta_integral(t))).sqrt()

    def drift(self, t: Tensor) -> Tensor:
        return -(self.beta_min + t * (self.beta_max - self.beta_min)) / 2

    def diffusion(self, t: Tensor) -> Tensor:
        return (self.beta_min + t * (self.beta_max - self.beta_min)).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return self._t_from_beta_integral(
            torch.nn.functional.softplus(-log_snr)
        )  # alpha^2 = sigmoid(log_snr) = exp(-integral)

    def _t_from_beta_integral(self, integral: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + (self.beta_min**2 + 2 * slope * integral).sqrt())


@dataclass(frozen=True)
class VESDE(SDE):
    r"""Variance exploding: :math:`\alpha = 1`, :math:`\sigma = \sigma_{min}(\sigma_{max}/\sigma_{min})^t`, :math:`t \in [0, 1]`.

    Song et al. 2021, eq. 30; the defaults are theirs for CIFAR-10.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"VESDE needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self._rate * t).exp()

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.sigma(t) * math.sqrt(2 * self._rate)

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2 - math.log(self.sigma_min)) / self._rate


@dataclass(frozen=True)
class EDMSDE(SDE):
    r"""Time is the noise level: :math:`\alpha = 1`, :math:`\sigma = t`, :math:`g = \sqrt{2t}` (Karras et al. 2022, table 1)."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"EDMSDE needs 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def diffusion(self, t: Tensor) -> Tensor:
        return (2 * t).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return (-log_snr / 2).exp()


@dataclass(frozen=True)
class SubVPSDE(VPSDE):
    r"""Sub-VP: the drift of the VP SDE with less noise, :math:`g^2 = \beta (1 - e^{-2\int\beta})`, so that :math:`\sigma = 1 - \alpha^2`.

    Song et al. 2021, eq. 38: the process of their best likelihoods.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self._beta_integral(t))

    def diffusion(self, t: Tensor) -> Tensor:
        return super().diffusion(t) * (-torch.expm1(-2 * self._beta_integral(t))).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        # alpha / (1 - alpha^2) = 1 / (2 sinh(-ln alpha)), and the integral of beta is -2 ln alpha
        return self._t_from_beta_integral(2 * torch.asinh((-log_snr / 2).exp() / 2))


@dataclass(frozen=True)
class _OpenEnds(SDE):
    """Times from eps to 1 - eps: at 0 and 1 themselves the ratio of signal to noise is infinite and zero."""

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.eps < 0.5:
            raise ValueError(f"{type(self).__name__} needs 0 < eps < 0.5, got {self.eps}")

    @property
    def t_min(self) -> float:
        return self.eps

    @property
    def t_max(self) -> float:
        return 1 - self.eps


@dataclass(frozen=True)
class CosineVPSDE(_OpenEnds):
    r"""Variance preserving along a quarter circle: :math:`\alpha = \cos(\pi t/2)`, :math:`\sigma = \sin(\pi t/2)`.

    :math:`\log\mathrm{SNR} = -2\ln\tan(\pi t/2)` (Nichol and Dhariwal 2021, without their offset; Kingma and Gao 2023, table 1).
    Times run from eps to 1 - eps, for at 0 and 1 the ratio of signal to noise is infinite and zero.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return (math.pi / 2 * (1 - t)).sin()  # the cosine loses its last digits near 1

    def sigma(self, t: Tensor) -> Tensor:
        return (math.pi / 2 * t).sin()

    def drift(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * (math.pi / 2 * t).tan()

    def diffusion(self, t: Tensor) -> Tensor:
        return (math.pi * (math.pi / 2 * t).tan()).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return 2 / math.pi * (-log_snr / 2).exp().atan()


@dataclass(frozen=True)
class FlowMatchingSDE(_OpenEnds):
    r"""Straight lines from data to noise: :math:`\alpha = 1 - t`, :math:`\sigma = t`.

    The probability-flow ODE is the one of flow matching and rectified flow (Lipman et al. 2023; Liu et al. 2023), with velocity
    :math:`E[\varepsilon - x_0 | x_t]`; the SDE with the same marginals has :math:`f = -1/(1-t)`, :math:`g^2 = 2t/(1-t)`. Times run from
    eps to 1 - eps.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def drift(self, t: Tensor) -> Tensor:
        return -1 / (1 - t)

    def diffusion(self, t: Tensor) -> Tensor:
        return (2 * t / (1 - t)).sqrt()

    def t_from_log_snr(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)


_KINDS: dict[str, type[SDE]] = {
    kind.__name__: kind for kind in (VPSDE, SubVPSDE, CosineVPSDE, VESDE, EDMSDE, FlowMatchingSDE)
}


def sde_from(description: dict[str, Any]) -> SDE:
    """The SDE that ``describe()`` described."""
    settings = dict(description)
    kind = settings.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"unknown SDE {kind!r}; known: {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**settings)
    except TypeError as error:
        raise ValueError(f"bad settings for {kind}: {error}") from None
