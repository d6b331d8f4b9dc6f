"""Neural networks as priors."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from problems.checks import check_choice, check_number
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from scoresde.priors.compiled import CompiledNetwork
from scoresde.priors.frozen import FrozenCopies
from scoresde.priors.hardware import fast_bf16
from scoresde.sde import SDE

__all__ = ["Precision", "ScorePrior", "fourier_features"]

Precision = Literal["auto", "bf16", "fp32"]
"""Precision of the convolutions: bfloat16, that of the weights, or "auto" for bfloat16 where the
hardware is fast at it."""


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

    In a lower precision the network alone computes in it. If its weights are frozen, a UNet or a
    DiT runs as a copy with converted weights, whose noise features stay in the precision of the
    weights. For weights that are trained, and for other networks, it is ``torch.autocast``.

    Samples may be signals (C, L), pictures (C, H, W) or volumes (C, D, H, W), or vectors. A network
    with an attribute ``dimensions``, such as a UNet or a DiT, takes any length of its axes; without
    it, pictures alone may have any size.

    Args:
        network: Maps x, shape (B, C, ...), and a noise label, shape (B,), to the shape of x. With
            ``fourier`` its input has 2 C len(fourier) more channels.
        sde: Forward process.
        shape: Shape of one sample, such as (C, H, W); for a network that takes any size, that of
            its training samples.
        sigma_data: Standard deviation of the data.
        autocast: Lower precision for the network alone, such as ``torch.bfloat16``; None for full
            precision, in which :meth:`in_precision` can choose another one.
        card: Model card, how the network was trained, as plain JSON values; None for an empty one.
        fourier: Exponents n of the Fourier features, each of which adds 2 C input channels.

    Attributes:
        trained: Smallest and largest noise-to-signal ratio of ``sde``. The noise label is clamped
            to them, also under another SDE.
        precision: "auto", "bf16" or "fp32", see :meth:`in_precision`. It counts if ``autocast`` is
            None.

    Raises:
        ValueError: If sigma_data is not positive, or the shape has another number of axes than the
            network takes.

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
        axes = getattr(network, "dimensions", None)
        if axes is not None and len(self.shape) != axes + 1:
            raise ValueError(
                f"a {type(network).__name__} with dimensions={axes} takes samples of "
                f"{axes + 1} axes, channels first, got the shape {self.shape}"
            )
        self.network, self.sigma_data, self.autocast, self.card = (
            network,
            check_number(sigma_data, "sigma_data", above=0),
            autocast,
            dict(card or {}),
        )
        self.fourier = tuple(fourier)
        self.precision: Precision = "fp32"
        self._copies = FrozenCopies()
        self._compiled: CompiledNetwork | None = None
        ends = sde.noise_to_signal(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))
        self.trained = float(ends[0]), float(ends[1])

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shape of the prior; for a network that takes any size also with any other
            sides after the channels.
        """
        if getattr(self.network, "dimensions", None) is None:
            return super().accepts(shape)
        same = len(shape) == len(self.shape) and shape[0] == self.shape[0]
        return same and min(shape) > 0

    def in_precision(self, precision: Precision) -> Self:
        """Change the precision of the network.

        Args:
            precision: "bf16" for bfloat16; "fp32" for that of the weights; "auto" for bfloat16
                where the hardware is fast at it, for a UNet or a DiT with frozen weights in
                float32.
                Likelihoods are computed in that of the weights with "auto", see :meth:`precise`.

        Returns:
            A prior that shares the parameters; this one is not changed.

        Raises:
            ValueError: If the precision is unknown.

        Example:
            >>> import torch
            >>> from scoresde import EDMSDE, ScorePrior
            >>> from scoresde.networks import UNet, UNetConfig
            >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
            >>> _ = torch.nn.init.normal_(network.head.weight)
            >>> prior = ScorePrior(network, EDMSDE(), (1, 8, 8)).requires_grad_(False)
            >>> x_t = torch.randn(2, 1, 8, 8)
            >>> rounded = prior.in_precision("bf16").denoise(x_t, 0.5)
            >>> 0 < float((rounded - prior.denoise(x_t, 0.5)).abs().max()) < 0.1
            True
        """
        check_choice("precision", precision, Precision)
        other = self._twin()
        other.autocast, other.precision = None, precision
        return other

    def precise(self) -> "ScorePrior":
        """Compute in the precision of the weights if a lower one was an automatic choice.

        Returns:
            This prior in the precision "fp32" and without compilation if its precision is "auto";
            else this one.
        """
        if self.autocast is not None or self.precision != "auto":
            return self
        other = self.in_precision("fp32")
        other._compiled = None
        return other

    def compiled(self) -> Self:
        """Compile the network when it is first evaluated, for pictures of all sizes.

        It pays for many evaluations: on a CPU a compilation takes up to a minute and saves a tenth
        of the time. A compiled network has first derivatives with respect to its input, no second
        ones. Where it cannot be compiled, it runs as it is, with one warning.

        Returns:
            A prior that shares the parameters; this one is not changed.
        """
        other = self._twin()
        other._compiled = CompiledNetwork()
        return other

    @property
    def _needs_signal(self) -> bool:
        return True

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
            u: Noisy samples x_t / alpha_t, shape (B, C, ...).
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
        network = self.network
        context: AbstractContextManager[object] = nullcontext()
        if (lower := self._lower(dtype, scaled.device)) is not None:
            frozen = self._copies.of(self.network, lower)
            if frozen is not None:
                network = frozen
            elif self.autocast is not None or self.precision == "bf16":
                context = torch.autocast(scaled.device.type, lower)
        # without a lower precision an autocast of the caller (a training loop) stays in effect
        x, label = scaled.to(dtype), (s.log() / 4).to(dtype)
        with context:
            F: Tensor = self._compiled(network, x, label) if self._compiled else network(x, label)
        return F.to(scaled.dtype)

    def _lower(self, dtype: torch.dtype, device: torch.device) -> torch.dtype | None:
        """The lower precision of a network with weights of a dtype; None for full."""
        if self.autocast is not None or self.precision == "fp32":
            return self.autocast
        if self.precision == "auto" and not (dtype == torch.float32 and fast_bf16(device)):
            return None
        return torch.bfloat16


def fourier_features(u: Tensor, s: Tensor, exponents: Sequence[int]) -> Tensor:
    """Compute the features tanh(sin(w u) / (w s)) and tanh(cos(w u) / (w s)) for w = 2^n pi.

    On [-1, 1] the 256 grey levels are 2^-7 wide, so n = 8 has their period and n = 7 twice that
    (Kingma et al. 2021, "Variational diffusion models", appendix C). Dividing by w s measures the
    distance to the edge of a level in standard deviations of the noise, and removes what the noise
    has made meaningless.

    Args:
        u: Noisy samples x_t / alpha_t, shape (B, C, ...).
        s: Noise-to-signal ratios, above 0, shape (B,).
        exponents: Exponents n.

    Returns:
        Features, shape (B, 2 C len(exponents), ...): all sines, then all cosines.
    """
    omega = math.pi * 2.0 ** torch.tensor(list(exponents), dtype=u.dtype, device=u.device)
    omega = expand_like(omega, u)
    phase = u[:, None] * omega
    scale = expand_like(s, phase) * omega
    return torch.cat(
        [(phase.sin() / scale).tanh().flatten(1, 2), (phase.cos() / scale).tanh().flatten(1, 2)],
        dim=1,
    )
