r"""The invertible layers of a flow, apart from the couplings.

They act on images (B, C, H, W); vectors are images of one pixel. Each layer has ``forward(x) -> (z,
log_det)`` with :math:`\ln|\det \partial z/\partial x|` of shape (B,), and ``inverse(z) -> x``.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ActNorm", "Bijection", "Logit", "Mixing", "Squeeze"]


class Bijection(nn.Module, ABC):
    """Base class of invertible layers between x and z, both (B, C, H, W)."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, C, H, W), and ln|det dz/dx|, shape (B,).
        """

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, C, H, W).

        Returns:
            x, shape (B, C, H, W).
        """


class ActNorm(Bijection):
    """z = (x - shift) / scale for each channel (Glow).

    Shift and scale are set so that z has mean 0 and variance 1 over the first batch in training.

    Args:
        channels: Number C of channels.

    Attributes:
        initialised: True once shift and scale are set, a boolean scalar tensor.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set shift and scale to the mean and the standard deviation of a batch.

        Args:
            x: Features, shape (B, C, H, W).
        """
        x = x.float()
        self.shift.copy_(x.mean((0, 2, 3))[:, None, None])
        self.log_scale.copy_(x.std((0, 2, 3), correction=0).clamp_min(1e-2).log()[:, None, None])
        self.initialised.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, C, H, W), and ln|det dz/dx|, shape (B,).
        """
        z = (x - self.shift) * torch.exp(-self.log_scale)
        return z, (-self.log_scale.sum() * _pixels(x)).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, C, H, W).

        Returns:
            x, shape (B, C, H, W).
        """
        return z * torch.exp(self.log_scale) + self.shift


class Mixing(Bijection):
    r"""The invertible 1x1 convolution of Glow: z = W x at each pixel, W = P L (U + diag(s)).

    P is a fixed permutation, L and U are unit-lower and strictly upper triangular, so that
    :math:`\ln|\det W| = \sum \ln|s|`. W starts as a random rotation.

    Args:
        channels: Number C of channels.

    Attributes:
        fixed: The inverse of W in a copy whose parameters do not change; None otherwise.
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
        self.fixed: Tensor | None = None

    def factors(self) -> tuple[Tensor, Tensor]:
        """Compute the triangular factors of W = P L (U + diag(s)).

        Returns:
            L and U + diag(s), each (C, C).
        """
        eye = torch.eye(len(self.log_s), dtype=self.L.dtype, device=self.L.device)
        return self.L.tril(-1) + eye, self.U.triu(1) + torch.diag(self.sign * self.log_s.exp())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, C, H, W), and ln|det dz/dx|, shape (B,).
        """
        # In half precision z and the log-determinant would be inaccurate.
        with torch.autocast(x.device.type, enabled=False):
            L, U = self.factors()
            return _mix(self.P @ L @ U, x), (self.log_s.sum() * _pixels(x)).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, C, H, W).

        Returns:
            x, shape (B, C, H, W).
        """
        with torch.autocast(z.device.type, enabled=False):
            return _mix(self.inverse_matrix() if self.fixed is None else self.fixed, z)

    def inverse_matrix(self) -> Tensor:
        """Compute the inverse of W.

        Returns:
            The inverse, shape (C, C).
        """
        L, U = self.factors()
        inner = torch.linalg.solve_triangular(L, self.P.T, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(U, inner, upper=True)


class Squeeze(Bijection):
    """Fold 2x2 pixels into channels: (B, C, H, W) -> (B, 4 C, H/2, W/2)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, 4 C, H/2, W/2), and ln|det dz/dx| = 0, shape (B,).
        """
        return F.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, 4 C, H/2, W/2).

        Returns:
            x, shape (B, C, H, W).
        """
        return F.pixel_shuffle(z, 2)


class Logit(Bijection):
    r"""Map [-1, 1] to the real line (Dinh et al. 2017).

    :math:`z = \mathrm{logit}(u)`, :math:`u = \alpha + (1 - 2\alpha)(x + 1)/2`. The flow then lives
    on :math:`|x| < 1/(1 - 2\alpha)`. The density is 0 elsewhere: log_det is minus infinity there,
    and z has no meaning.

    Args:
        alpha: Margin, in [0, 0.5).
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Features, shape (B, C, H, W).

        Returns:
            z, shape (B, C, H, W), and ln|det dz/dx|, shape (B,).
        """
        u = self.alpha + (1 - 2 * self.alpha) * (x + 1) / 2
        inside = (u > 0) & (u < 1)
        u = torch.where(inside, u, 0.5)
        log_det = (
            -(torch.log(u) + torch.log1p(-u)).flatten(1).sum(1)
            + math.log((1 - 2 * self.alpha) / 2) * x[0].numel()
        )
        return torch.logit(u), torch.where(inside.flatten(1).all(1), log_det, -math.inf)

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Features, shape (B, C, H, W).

        Returns:
            x, shape (B, C, H, W).
        """
        return 2 * (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha) - 1


def _mix(W: Tensor, x: Tensor) -> Tensor:
    return F.conv2d(x, W.to(x.dtype)[:, :, None, None])


def _pixels(x: Tensor) -> int:
    return x.shape[-2] * x.shape[-1]
