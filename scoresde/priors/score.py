"""Neural networks as priors."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from scoresde.sde import SDE

__all__ = ["ScorePrior", "fourier_features"]


class ScorePrior(Prior):
    r"""Network with EDM preconditioning (Karras et al. 2022, table 1), under any SDE.

    With :math:`s = \sigma_t/\alpha_t` and :math:`u = x_t/\alpha_t`,

    .. math:: D(x_t, t) = c_{skip} u + c_{out} F(c_{in} u, \ln(s)/4),\quad
        c_{skip} = \frac{\sigma_d^2}{s^2+\sigma_d^2},\
        c_{out} = \frac{s\,\sigma_d}{\sqrt{s^2+\sigma_d^2}},\
        c_{in} = \frac{1}{\sqrt{s^2+\sigma_d^2}} .

    The network may also see Fourier features of the image (:func:`fourier_features`), which resolve
    the grey levels of 8-bit images. The density of dequantised images has an edge at every level,
    and the likelihood depends on these edges. The features measure the distance to an edge in units
    of the noise, so that an edge looks the same at every noise level well below the width of a grey
    level. Below the smallest noise level of the training the noise label is therefore held
    constant, while the features still follow the noise.

    Args:
        network: Maps x, shape (B, C, H, W), and a noise label, shape (B,), to the shape of x. With
            ``fourier`` its input has 2 C len(fourier) more channels.
        sde: Forward process.
        shape: Shape of one sample, (C, H, W); for a network that takes any size, that of its
            training images.
        sigma_data: Standard deviation of the data.
        autocast: Lower precision for the network alone, such as ``torch.bfloat16``; None for full
            precision. The preconditioning is always in full precision.
        card: Model card, how the network was trained, as plain JSON values; None for an empty one.
        fourier: Exponents n of the Fourier features, each of which adds 2 C input channels.

    Attributes:
        trained: Smallest and largest noise-to-signal ratio of ``sde``. The noise label is clamped
            to them, also under another SDE.

    Raises:
        ValueError: If sigma_data is not positive.

    Example:
        An untrained network is the best linear denoiser of data with standard deviation sigma_data:

        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior
        >>> from scoresde.networks import UNet, UNetConfig
        >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
        >>> prior = ScorePrior(network, EDMSDE(), (1, 8, 8), sigma_data=0.5)
        >>> x_t = torch.ones(2, 1, 8, 8)
        >>> torch.allclose(prior.denoise(x_t, 0.5), 0.5 * x_t)
        True
    """

    def __init__(
        self,
        network: nn.Module,
        sde: SDE,
        shape: tuple[int, ...],
        sigma_data: float = 0.5,
        autocast: torch.dtype | None = None,
        card: dict[str, Any] | None = None,
        fourier: Sequence[int] = (),
    ) -> None:
        super().__init__(sde, shape)
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}")
        self.network, self.sigma_data, self.autocast, self.card = (
            network,
            float(sigma_data),
            autocast,
            dict(card or {}),
        )
        self.fourier = tuple(fourier)
        ends = sde.noise_to_signal(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))
        self.trained = float(ends[0]), float(ends[1])

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        u = x_t / expand_like(self.sde.alpha(t), x_t)
        s = self.sde.noise_to_signal(t)
        c_skip, c_out = (expand_like(c, x_t) for c in self.preconditioning(s)[:2])
        return c_skip * u + c_out * self.network_output(u, s)

    def preconditioning(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the scales of the preconditioning.

        Args:
            s: Noise-to-signal ratios, any shape.

        Returns:
            c_skip, c_out and c_in, each of the shape of s.
        """
        norm = (s**2 + self.sigma_data**2).sqrt()
        return self.sigma_data**2 / norm**2, s * self.sigma_data / norm, 1 / norm

    def network_output(self, u: Tensor, s: Tensor) -> Tensor:
        """Evaluate the network, F(c_in u, ln(s)/4).

        Beyond the noise levels of the SDE that the prior was made with, the noise label is that of
        the nearest level. The Fourier features follow the noise below the smallest level too.

        Args:
            u: Noisy samples x_t / alpha_t, shape (B, C, H, W).
            s: Noise-to-signal ratios, shape (B,).

        Returns:
            Output of the network, shape and dtype of u.
        """
        scaled = expand_like(self.preconditioning(s)[2], u) * u
        lowest, highest = self.trained
        if self.fourier:
            scaled = torch.cat(
                [scaled, fourier_features(u, s.clamp(1e-12, highest), self.fourier)], dim=1
            )
        s = s.clamp(lowest, highest)
        dtype = next((p.dtype for p in self.network.parameters()), scaled.dtype)
        # with None an autocast of the caller (a training loop) stays in effect
        context = (
            nullcontext()
            if self.autocast is None
            else torch.autocast(scaled.device.type, self.autocast)
        )
        with context:
            F: Tensor = self.network(scaled.to(dtype), (s.log() / 4).to(dtype)).to(scaled.dtype)
        return F


def fourier_features(u: Tensor, s: Tensor, exponents: Sequence[int]) -> Tensor:
    """Compute the features tanh(sin(w u) / (w s)) and tanh(cos(w u) / (w s)) for w = 2^n pi.

    On [-1, 1] the 256 grey levels are 2^-7 wide, so n = 8 has their period and n = 7 twice that
    (Kingma et al. 2021, "Variational diffusion models", appendix C). Dividing by w s measures the
    distance to the edge of a level in standard deviations of the noise, and removes what the noise
    has made meaningless.

    Args:
        u: Noisy images x_t / alpha_t, shape (B, C, H, W).
        s: Noise-to-signal ratios, above 0, shape (B,).
        exponents: Exponents n.

    Returns:
        Features, shape (B, 2 C len(exponents), H, W): all sines, then all cosines.
    """
    omega = math.pi * 2.0 ** torch.tensor(list(exponents), dtype=u.dtype, device=u.device)
    omega = expand_like(omega, u)
    phase = u[:, None] * omega
    scale = expand_like(s, phase) * omega
    return torch.cat(
        [(phase.sin() / scale).tanh().flatten(1, 2), (phase.cos() / scale).tanh().flatten(1, 2)],
        dim=1,
    )
