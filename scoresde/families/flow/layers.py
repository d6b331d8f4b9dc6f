r"""The invertible layers of a flow but for the couplings, on images (B, C, H, W); vectors are images of one pixel.

Each has ``forward(x) -> (z, log_det)`` with :math:`\ln|\det \partial z/\partial x|` of shape (B,), and ``inverse(z) -> x``.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ActNorm", "Bijection", "Logit", "Mixing", "Squeeze"]


class Bijection(nn.Module, ABC):
    """x <-> z, both (B, C, H, W)."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, and ln|det dz/dx| (B,)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """x of z."""


class ActNorm(Bijection):
    """z = (x - shift) / scale for each channel, set so that z has mean 0 and variance 1 over the first batch seen in training (Glow)."""

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        x = x.float()
        self.shift.copy_(x.mean((0, 2, 3))[:, None, None])
        self.log_scale.copy_(x.std((0, 2, 3), correction=0).clamp_min(1e-2).log()[:, None, None])
        self.initialised.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.shift) * torch.exp(-self.log_scale)
        return z, (-self.log_scale.sum() * _pixels(x)).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z * torch.exp(self.log_scale) + self.shift


class Mixing(Bijection):
    r"""The invertible 1x1 convolution of Glow: z = W x at each pixel, W = P L (U + diag(s)).

    P is a fixed permutation, L and U are unit-lower and strictly upper triangular, so that :math:`\ln|\det W| = \sum \ln|s|`. Starts as a
    random rotation.
    """

    P: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        P, L, U = torch.linalg.lu(rotation)
        diagonal = U.diagonal()
        self.register_buffer("P", P)
        self.register_buffer("sign", diagonal.sign())
        self.L, self.U = nn.Parameter(L.tril(-1)), nn.Parameter(U.triu(1))
        self.log_s = nn.Parameter(diagonal.abs().log())
        self.fixed: Tensor | None = (
            None  # the inverse matrix, in a copy whose parameters change no more
        )

    def factors(self) -> tuple[Tensor, Tensor]:
        """P's partners: L and U + diag(s)."""
        eye = torch.eye(len(self.log_s), dtype=self.L.dtype, device=self.L.device)
        return self.L.tril(-1) + eye, self.U.triu(1) + torch.diag(self.sign * self.log_s.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(
            x.device.type, enabled=False
        ):  # half precision would cost the density its digits
            L, U = self.factors()
            return _mix(self.P @ L @ U, x), (self.log_s.sum() * _pixels(x)).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return _mix(self.inverse_matrix() if self.fixed is None else self.fixed, z)

    def inverse_matrix(self) -> Tensor:
        L, U = self.factors()
        inner = torch.linalg.solve_triangular(L, self.P.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(U, inner, upper=True)


class Squeeze(Bijection):
    """2x2 pixels become channels: (B, C, H, W) -> (B, 4 C, H/2, W/2)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)


class Logit(Bijection):
    r"""[-1, 1] -> the line: :math:`z = \mathrm{logit}(u)`, :math:`u = \alpha + (1 - 2\alpha)(x + 1)/2` (Dinh et al. 2017).

    The flow then lives on :math:`|x| < 1/(1 - 2\alpha)`. Outside of that the density is 0: log_det is minus infinity there, and z without
    meaning.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u = self.alpha + (1 - 2 * self.alpha) * (x + 1) / 2
        inside = (u > 0) & (u < 1)
        u = torch.where(inside, u, 0.5)
        log_det = (
            -(torch.log(u) + torch.log1p(-u)).flatten(1).sum(1)
            + math.log((1 - 2 * self.alpha) / 2) * x[0].numel()
        )
        return torch.logit(u), torch.where(inside.flatten(1).all(1), log_det, -math.inf)

    def inverse(self, z: Tensor) -> Tensor:
        return 2 * (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha) - 1


def _mix(W: Tensor, x: Tensor) -> Tensor:
    return F.conv2d(x, W.to(x.dtype)[:, :, None, None])


def _pixels(x: Tensor) -> int:
    return x.shape[-2] * x.shape[-1]
