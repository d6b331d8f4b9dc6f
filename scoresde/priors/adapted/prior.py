"""Any callable as a prior."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from problems.checks import check_choice, check_sizes
from problems.linalg.broadcast import expand_like
from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.padding import crop, pad_to_multiple
from scoresde.priors.base import Prior
from scoresde.priors.score import Precision
from scoresde.sde import EDMSDE, SDE

__all__ = ["AdaptedPrior"]

_HIGHEST = 2 * math.log(1e20)  # of a log-SNR: levels below 1e-20 are no noise


class AdaptedPrior(Prior):
    """Network, or any other callable, with a stated convention, as a prior under any SDE.

    Beyond the noise levels of the training the label is that of the nearest level, while the state
    and the conversion of the output follow the noise. A network with integer steps is evaluated as
    the denoiser of the nearest step.

    Args:
        network: Callable ``(z, label, **conditions) -> output``, where z has the shape (B, C, ...)
            and the label is as the convention says; ``(z, **conditions)`` for a label that is a
            channel or is not passed. It runs in the dtype of its parameters. If it is a module, its
            parameters are those of the prior.
        convention: What the network predicts, from what, and in which units.
        shape: Shape of one sample, such as (C, H, W).
        sde: Forward process of the prior; None for ``EDMSDE()``. It need not be that of the
            network.
        conditions: Keyword arguments of every evaluation, such as a class label. Tensors with a
            leading axis of 1 are expanded to the batch; other values are passed as they are.
        card: What is known about the network, as plain values; None for an empty card.

    Attributes:
        trained: Smallest and largest noise-to-signal ratio of the training, in the units of the
            prior.

    Raises:
        ValueError: If the network is not callable or the shape is none.

    Example:
        A network that predicts the noise of a DDPM, here of N(0, I) data:

        >>> import torch
        >>> from scoresde.priors.adapted import AdaptedPrior, Convention
        >>> abar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
        >>> def network(x_t, index):
        ...     return (1 - abar[index.long()]).sqrt().float()[:, None] * x_t
        >>> prior = AdaptedPrior(network, Convention("eps", abar, "step"), (2,))
        >>> s = ((1 - abar) / abar).sqrt()[500]
        >>> torch.allclose(prior.denoise(torch.ones(1, 2), s), 1 / (1 + s.float() ** 2))
        True
    """

    def __init__(
        self,
        network: Callable[..., Any],
        convention: Convention,
        shape: tuple[int, ...],
        sde: SDE | None = None,
        conditions: Mapping[str, Any] | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sde or EDMSDE(), check_sizes(shape, "shape"))
        if not callable(network):
            raise ValueError(
                f"a prior is made of a callable (a function or a module), got "
                f"{type(network).__name__}"
            )
        self.network, self.convention, self.card = network, convention, dict(card or {})
        self.precision: Precision = "fp32"
        low, high = convention.levels
        self.trained = low / convention.scale, high / convention.scale
        self._needs = convention.needs_signal
        self._conditions: dict[str, Any] = {}
        for name, value in (conditions or {}).items():
            if isinstance(value, Tensor):  # a buffer: it moves with the prior
                self.register_buffer(f"condition_{name}", value, persistent=False)
            else:
                self._conditions[name] = value

    @property
    def _needs_signal(self) -> bool:
        return self._needs

    def _tensors(self) -> Iterator[Tensor]:
        # conditions such as labels come last: the dtype is that of the network
        inner = self.network
        if isinstance(inner, nn.Module):
            return itertools.chain(inner.parameters(), inner.buffers(), self.buffers())
        return itertools.chain(self.parameters(), self.buffers())

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shape of the prior, and, unless the network has one size, for any other
            sides after the channels.
        """
        if self.convention.fixed_size or len(self.shape) == 1:
            return tuple(shape) == self.shape
        return len(shape) == len(self.shape) and shape[0] == self.shape[0] and min(shape) > 0

    def check_shape(self, shape: tuple[int, ...], what: str = "x_t") -> None:
        """Check that samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.
            what: What has the shape, as the message says it.

        Raises:
            ValueError: If the prior does not accept the shape; for a network of one size the
                message says how larger pictures are cut into tiles.
        """
        same = len(shape) == len(self.shape) and shape[0] == self.shape[0]
        if self.convention.fixed_size and same and tuple(shape) != self.shape:
            square = len(shape) == 3 and self.shape[1] == self.shape[2]
            tiles = (
                f"; cut larger pictures into tiles of this size: TiledPrior(prior, "
                f"tile={self.shape[-1]}), on the command line --tile {self.shape[-1]}"
                if square and min(shape[1:]) >= self.shape[-1]
                else ""
            )
            raise ValueError(
                f"this network takes samples of shape {self.shape} alone, {what} has "
                f"{tuple(shape)}{tiles}"
            )
        super().check_shape(shape, what)

    def in_precision(self, precision: Precision) -> Self:
        """Change the precision of the network.

        Args:
            precision: "bf16" for the automatic mixed precision of torch in bfloat16; "fp32" and
                "auto" for the precision of the weights.

        Returns:
            A prior that shares the parameters; this one is not changed.

        Raises:
            ValueError: If the precision is unknown.
        """
        check_choice("precision", precision, Precision)
        other = self._twin()
        other.precision = precision
        return other

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        convention = self.convention
        a, b = convention.scale, convention.offset
        exact = torch.float32 if x_t.device.type == "mps" else torch.float64
        time = t.to(exact)
        alpha_t, sigma_t = self.sde.alpha(time), self.sde.sigma(time)
        log_snr, level = self._level(2 * (alpha_t / (a * sigma_t)).log())

        # z = alpha (a x_t / alpha_t + b), without the division where no signal is left
        true = convention.noise.level(log_snr)
        alpha, sigma = true.alpha, true.sigma
        rescale = torch.hypot(alpha, sigma) / torch.hypot(alpha_t, a * sigma_t)
        # after rounding to a step, z is that of the step: alpha is exact and the noise nearly so
        rescale = torch.where(alpha_t > 0, alpha / alpha_t, rescale)

        def scalar(value: Tensor) -> Tensor:
            return expand_like(value.to(x_t.dtype), x_t)

        z = scalar(rescale * a) * x_t + scalar(alpha * b)
        seen = z
        if convention.target.preconditioned:
            seen = z / scalar(torch.hypot(alpha * convention.sigma_data, sigma))
        output = self._run(seen, convention.label.label(level))
        k_z, k_F = convention.target.inverse(alpha, sigma, convention.sigma_data)
        if a == 1 and b == 0:
            return scalar(k_z) * z + scalar(k_F) * output
        return scalar(k_z / a) * z + scalar(k_F / a) * output - b / a

    def _level(self, log_snr: Tensor) -> tuple[Tensor, Any]:
        """The log-SNR at which the network is used, and the level of its label."""
        convention = self.convention
        log_snr = log_snr.clamp(max=_HIGHEST)
        low, high = convention.levels
        most, least = -2 * math.log(max(low, 1e-20)), -2 * math.log(high)
        inside = log_snr.clamp(least, most)
        if convention.label.whole:
            rounded = convention.noise.rounded(inside)
            log_snr = torch.where(inside == log_snr, rounded, log_snr)
            inside = rounded
        return log_snr, convention.noise.level(inside)

    def _run(self, z: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network on z (B, C, ...) with labels (B,)."""
        convention, network = self.convention, self.network
        weights = network.parameters() if isinstance(network, nn.Module) else iter(())
        dtype = next((p.dtype for p in weights if p.is_floating_point()), z.dtype)
        if not convention.label.whole:
            label = (label * convention.time_scale).to(dtype)
        x = pad_to_multiple(z, convention.multiple).to(dtype)
        arguments: list[Tensor] = [x]
        if convention.passing == "channel":
            level = expand_like(label, x).expand(-1, 1, *x.shape[2:])
            arguments = [torch.cat([x, level], dim=1)]
        elif convention.passing == "image":
            arguments.append(expand_like(label, x))
        elif convention.passing == "vector":
            arguments.append(label)
        context: AbstractContextManager[object] = nullcontext()
        if self.precision == "bf16":
            context = torch.autocast(x.device.type, torch.bfloat16)
        with context:
            output = network(*arguments, **self._keywords(x.shape[0]))
        return crop(self._checked_output(output, x), tuple(z.shape[2:])).to(z.dtype)

    def _keywords(self, batch: int) -> dict[str, Any]:
        """Conditions of a batch."""
        found = dict(self._conditions)
        for name, value in self._buffers.items():
            if value is not None and name.startswith("condition_"):
                single = value.ndim > 0 and len(value) == 1
                found[name.removeprefix("condition_")] = (
                    value.expand(batch, *value.shape[1:]) if single else value
                )
        return found

    def _checked_output(self, output: object, x: Tensor) -> Tensor:
        """The output without its extra channels, after a check of its shape and gradient."""
        if not isinstance(output, Tensor):
            raise ValueError(
                f"the network returned {type(output).__name__}, not a tensor; wrap it in a "
                "function that returns the prediction alone"
            )
        extra, channels = int(self.convention.extra_outputs), self.shape[0]
        wanted = (x.shape[0], channels + extra, *x.shape[2:])
        if tuple(output.shape) != wanted:
            found = output.shape[1] - channels if output.ndim == x.ndim else 0
            hint = (
                f"; if its last {found} channels are a learned variance, say extra_outputs={found}"
                if found > 0 and not extra
                else ""
            )
            raise ValueError(
                f"the network returned shape {tuple(output.shape)}, expected {wanted}{hint}"
            )
        # without this a Jacobian would be wrong in silence: the state has a gradient of its own
        if x.requires_grad and torch.is_grad_enabled() and not output.requires_grad:
            raise ValueError(
                "the network returned an output without a gradient; remove torch.no_grad() or "
                ".detach() from it, since guidance and likelihoods differentiate the denoiser"
            )
        return output[:, :channels] if extra else output
