"""Coupling layers.

Some channels determine, by a network, an invertible function of one variable, which is applied to
each entry of the other channels.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scoresde.errors import require
from scoresde.families.flow.layers import Bijection

if TYPE_CHECKING:
    from zuko.transforms import MonotonicRQSTransform

__all__ = ["Coupling", "SplineCoupling", "Split"]


class Coupling(Bijection):
    r"""Affine coupling (Real NVP, Dinh et al. 2017).

    The first half of the channels stays, the others become :math:`(x_b + t)\,e^{s}`. t and s come
    from a network of the first half. :math:`s = c \tanh(\cdot/c)` stays within the bound c, so that
    no layer magnifies by more than e^c.

    Args:
        channels: Number C of channels.
        hidden: Width of the network.
        kernel: Size of its first and last convolution.
        bound: The bound c on the log-scale.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, bound: float) -> None:
        super().__init__()
        self.kept, self.bound = channels // 2, bound
        self.net = conditioner(self.kept, 2 * (channels - self.kept), hidden, kernel)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        t, s = self.net(_seen(kept)).to(kept.dtype).chunk(2, dim=1)
        return t, self.bound * torch.tanh(s / self.bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, C, H, W), and ln|det dz/dx|, shape (B,).
        """
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        t, s = self._affine(kept)
        return torch.cat((kept, (moved + t) * s.exp()), 1), s.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, C, H, W).

        Returns:
            x, shape (B, C, H, W).
        """
        kept, moved = z[:, : self.kept], z[:, self.kept :]
        t, s = self._affine(kept)
        return torch.cat((kept, moved * (-s).exp() - t), 1)


class SplineCoupling(Bijection):
    """Spline coupling (Durkan et al. 2019).

    The second half of the channels goes through monotonic rational-quadratic splines on [-5, 5],
    which are the identity outside. The knots come from a network of the first half.

    Args:
        channels: Number C of channels.
        hidden: Width of the network.
        kernel: Size of its first and last convolution.
        bins: Bins of each spline.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, bins: int) -> None:
        super().__init__()
        require("train", "a flow with splines", "zuko")
        self.kept, self.bins = channels // 2, bins
        self.net = conditioner(self.kept, (channels - self.kept) * (3 * bins - 1), hidden, kernel)

    def _spline(self, kept: Tensor) -> "MonotonicRQSTransform":
        from zuko.transforms import MonotonicRQSTransform  # an extra

        raw = (
            self.net(_seen(kept))
            .to(kept.dtype)
            .unflatten(1, (-1, 3 * self.bins - 1))
            .movedim(2, -1)
        )
        return MonotonicRQSTransform(*raw.split((self.bins, self.bins, self.bins - 1), dim=-1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, C, H, W), and ln|det dz/dx|, shape (B,).
        """
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        z, log_det = self._spline(kept).call_and_ladj(moved)
        return torch.cat((kept, z), 1), log_det.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, C, H, W).

        Returns:
            x, shape (B, C, H, W).
        """
        kept, moved = z[:, : self.kept], z[:, self.kept :]
        return torch.cat((kept, self._spline(kept).inv(moved)), 1)


class Split(nn.Module):
    r"""Split that removes half of the channels from the flow.

    They leave as :math:`z = (x_b - m)\,e^{-s}`, with m and s predicted from the channels that stay.
    z is N(0, I) if the prediction is right.

    Args:
        channels: Number C of channels.
        hidden: Width of the network.
        bound: Bound on the log-scale s.
    """

    def __init__(self, channels: int, hidden: int, bound: float) -> None:
        super().__init__()
        self.kept, self.bound = channels // 2, bound
        self.net = conditioner(self.kept, 2 * (channels - self.kept), hidden, 3)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        m, s = self.net(_seen(kept)).to(kept.dtype).chunk(2, dim=1)
        return m, self.bound * torch.tanh(s / self.bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split the channels.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            The channels that stay, the standardised channels that leave, and the log-determinant of
            the Jacobian, shape (B,).
        """
        kept, gone = x[:, : self.kept], x[:, self.kept :]
        m, s = self._affine(kept)
        return kept, (gone - m) * (-s).exp(), -s.flatten(1).sum(1)

    def inverse(self, kept: Tensor, z: Tensor) -> Tensor:
        """Join the channels again.

        Args:
            kept: Channels that stayed, shape (B, C // 2, H, W).
            z: Standardised channels that left, shape (B, C - C // 2, H, W).

        Returns:
            Features, shape (B, C, H, W).
        """
        m, s = self._affine(kept)
        return torch.cat((kept, z * s.exp() + m), 1)


def _seen(kept: Tensor) -> Tensor:
    """Limit the channels that the networks see to about 5, where the data is.

    Otherwise the values of an unusual picture would grow from layer to layer, because each layer
    amplifies the excess of the one before (1e10 after 32 layers, and a gradient of NaN).
    """
    return 5 * torch.tanh(kept / 5)


def conditioner(inputs: int, outputs: int, hidden: int, kernel: int) -> nn.Sequential:
    """Build the network of a coupling.

    It has convolutions of kernel x kernel, 1 x 1 and kernel x kernel. The last one starts at zero,
    so that the coupling starts as the identity.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        hidden: Channels of the hidden layers.
        kernel: Size of the first and last convolution.

    Returns:
        The network.
    """
    last = nn.Conv2d(hidden, outputs, kernel, padding=kernel // 2)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, kernel, padding=kernel // 2),
        nn.SiLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.SiLU(),
        last,
    )
