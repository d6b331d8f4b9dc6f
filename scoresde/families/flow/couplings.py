"""Couplings: some channels choose, by a network, the invertible function of one variable that the others go through."""

import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from scoresde.families.flow.layers import Bijection

__all__ = ["Coupling", "SplineCoupling", "Split"]


class Coupling(Bijection):
    r"""Affine coupling (Real NVP, Dinh et al. 2017): the first channels stay, the others become :math:`(x_b + t)\,e^{s}`.

    t and s come from a network of the first. :math:`s = c \tanh(\cdot/c)` keeps within the bound c, so that no layer magnifies by more
    than e^c.
    """

    def __init__(self, channels: int, hidden: int, kernel: int, bound: float) -> None:
        super().__init__()
        self.kept, self.bound = channels // 2, bound
        self.net = conditioner(self.kept, 2 * (channels - self.kept), hidden, kernel)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        t, s = self.net(_seen(kept)).to(kept.dtype).chunk(2, dim=1)
        return t, self.bound * torch.tanh(s / self.bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        t, s = self._affine(kept)
        return torch.cat((kept, (moved + t) * s.exp()), 1), s.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        kept, moved = z[:, : self.kept], z[:, self.kept :]
        t, s = self._affine(kept)
        return torch.cat((kept, moved * (-s).exp() - t), 1)


class SplineCoupling(Bijection):
    """The others go through monotonic rational-quadratic splines on [-5, 5], the identity outside (Durkan et al. 2019). Their
    knots come from a network of the first."""

    def __init__(self, channels: int, hidden: int, kernel: int, bins: int) -> None:
        super().__init__()
        self.kept, self.bins = channels // 2, bins
        self.net = conditioner(self.kept, (channels - self.kept) * (3 * bins - 1), hidden, kernel)

    def _spline(self, kept: Tensor) -> MonotonicRQSTransform:
        raw = (
            self.net(_seen(kept))
            .to(kept.dtype)
            .unflatten(1, (-1, 3 * self.bins - 1))
            .movedim(2, -1)
        )
        return MonotonicRQSTransform(*raw.split((self.bins, self.bins, self.bins - 1), dim=-1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        z, log_det = self._spline(kept).call_and_ladj(moved)
        return torch.cat((kept, z), 1), log_det.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        kept, moved = z[:, : self.kept], z[:, self.kept :]
        return torch.cat((kept, self._spline(kept).inv(moved)), 1)


class Split(nn.Module):
    r"""Half of the channels leave, as :math:`z = (x_b - m)\,e^{-s}` with m, s predicted from those that stay: N(0, I) if predicted well."""

    def __init__(self, channels: int, hidden: int, bound: float) -> None:
        super().__init__()
        self.kept, self.bound = channels // 2, bound
        self.net = conditioner(self.kept, 2 * (channels - self.kept), hidden, 3)

    def _affine(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        m, s = self.net(_seen(kept)).to(kept.dtype).chunk(2, dim=1)
        return m, self.bound * torch.tanh(s / self.bound)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept, gone = x[:, : self.kept], x[:, self.kept :]
        m, s = self._affine(kept)
        return kept, (gone - m) * (-s).exp(), -s.flatten(1).sum(1)

    def inverse(self, kept: Tensor, z: Tensor) -> Tensor:
        m, s = self._affine(kept)
        return torch.cat((kept, z * s.exp() + m), 1)


def _seen(kept: Tensor) -> Tensor:
    """What the networks see: the channels within about 5 of zero, where the data is. Otherwise a picture unlike the others would grow from
    layer to layer, each answering the excess of the one before with more (1e10 after 32 layers, and a gradient that is no number)."""
    return 5 * torch.tanh(kept / 5)


def conditioner(inputs: int, outputs: int, hidden: int, kernel: int) -> nn.Sequential:
    """kernel x kernel, 1x1, kernel x kernel convolutions, the last zero: the layer it is for starts as the identity."""
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
