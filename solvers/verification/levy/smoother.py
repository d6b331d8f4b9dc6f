r"""Forward-backward recursion for noisy sums of increments.

The signal :math:`x_k = x_{k-1} + u_k` is a Markov chain, and :math:`z_k = x_k + s\,n_k` sees each
of its states with noise. On a lattice of step h the messages are sums, with weights of the
increments that stand for integrals:

.. math:: p_k(x) = \sum_{x'} w(x - x') L_{k-1}(x') p_{k-1}(x'), \quad
          L_k(x) = e^{-(z_k - x)^2 / (2 s^2)}, \quad
          b_k(x) = \sum_{x'} w(x' - x) L_{k+1}(x') b_{k+1}(x') ,

and :math:`p(x_k | z) \propto p_k L_k b_k`. Each sample has its own window of the lattice about
:math:`z_k`: averaged over z the law of :math:`x_k - z_k` given z is :math:`N(0, s^2)`, so that
few times s hold it. At high noise one window holds all signals. Every term is positive, so that
nothing cancels.

A tangent along v, the derivative of the mean by z in that direction, runs along by the product
rule. The Jacobian is the posterior covariance over :math:`s^2`, which is symmetric: tangents are
vector-Jacobian products, too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.verification.levy.signals import LevyProcess

__all__ = ["Smoothed", "smooth"]

F64 = torch.float64
WIDTH = 8.0
"""Half the width of a window, in units of the noise."""
ENTRIES = 4_000_000
"""Number of entries of transition matrices at once, which bounds memory to some 100 MB."""


@dataclass(frozen=True)
class Smoothed:
    """The law of signals given noisy ones.

    Args:
        mean: Posterior means, (B, n), float64.
        variance: Posterior variances, (B, n).
        log_density: Log-densities of the noisy signals in nats, (B,).
        tangent: Derivatives of the means along the directions asked for, (B, n), or None.
    """

    mean: Tensor
    variance: Tensor
    log_density: Tensor
    tangent: Tensor | None = None


@dataclass(frozen=True)
class _Windows:
    """The part of the lattice that each state of each signal may take.

    Args:
        step: Step of the lattice.
        first: Lattice number of the first point of a window, (B, n); (1, n) if all are the same.
        size: Number of points of a window.
        shared: Whether the windows of all states and signals are the same.
    """

    step: float
    first: Tensor
    size: int
    shared: bool

    @classmethod
    def around(cls, process: LevyProcess, z: Tensor, s: float) -> "_Windows":
        law, n = process.law, process.length
        # n equal samples in a row are known to s / sqrt(n), which the lattice has to resolve
        finest = s / 2 if not law.silence else min(s / 2, 1.3 * s / math.sqrt(n))
        step = min(law.resolution, finest)
        every = 8 * law.std * math.sqrt(n) + law.reach
        wide = WIDTH * s + 2 * law.slope * s**2
        half = math.ceil(min(wide, every) / step)
        if wide >= every:
            return cls(step, torch.full((1, n), -half), 2 * half + 1, shared=True)
        return cls(step, (z / step).round().long() - half, 2 * half + 1, shared=False)

    def points(self, k: int) -> Tensor:
        """Points of the window of state k, (B or 1, size)."""
        return (self.first[:, k, None] + torch.arange(self.size)).double() * self.step


class _Transitions:
    """Sums over the increments between two windows, with weights of at most one."""

    def __init__(self, process: LevyProcess, windows: _Windows) -> None:
        self._law, self._windows = process.law, windows
        self._same = self._weights(1) if windows.shared and process.length > 1 else None

    def _weights(self, k: int) -> tuple[Tensor, Tensor]:
        """Weights from window k - 1 (columns) to k (rows), and the logarithm of their scale."""
        windows = self._windows
        ahead = windows.first[:, k] - windows.first[:, k - 1]
        lags = ahead[:, None] + torch.arange(1 - windows.size, windows.size)
        masses = self._law.log_masses(lags, windows.step)
        top = masses.amax(1)
        # entry (i, j) has lag i - j, which is a window of the flipped row
        weights = (masses - top[:, None]).exp()
        return weights.unfold(1, windows.size, 1).flip(2), top

    def forward(self, k: int, message: Tensor) -> tuple[Tensor, Tensor]:
        """Carry a message (B, size, c) from window k - 1 to k; and the log of the scale."""
        weights, top = self._same or self._weights(k)
        return self._times(weights, message), top

    def backward(self, k: int, message: Tensor) -> Tensor:
        """Carry a message (B, size, c) from window k to k - 1, up to a scale."""
        weights, _ = self._same or self._weights(k)
        return self._times(weights.mT, message)

    def _times(self, weights: Tensor, message: Tensor) -> Tensor:
        if not self._windows.shared:
            return weights @ message
        B, size, c = message.shape
        return (message.mT.reshape(B * c, size) @ weights[0].T).reshape(B, c, size).mT


def smooth(process: LevyProcess, z: Tensor, s: float, v: Tensor | None = None) -> Smoothed:
    """Compute the law of signals x given z = x + s n with standard normal noise n.

    Args:
        process: Law of the signals.
        z: Noisy signals, (B, n), float64.
        s: Standard deviation of the noise, positive.
        v: Directions of the tangent, (B, n); None for no tangent.

    Returns:
        Means, variances and log-densities, and the derivatives of the means along v.

    Raises:
        ValueError: If the signals are white.

    Example:
        >>> from solvers.verification.levy import levy_process
        >>> process = levy_process("laplace", 16)
        >>> z = process.sample(2, torch.Generator().manual_seed(0))
        >>> found = smooth(process, z, 0.1)
        >>> found.mean.shape, bool((found.variance < 0.1**2).all())
        (torch.Size([2, 16]), True)
    """
    if not process.summed:
        raise ValueError("the smoother is for sums of increments; WhiteDenoiser is for white ones")
    parts = [
        _smoothed(process, rows, s, None if v is None else directions)
        for rows, directions in _chunks(process, z, s, z if v is None else v)
    ]
    tangents = [part.tangent for part in parts if part.tangent is not None]
    return Smoothed(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.variance for part in parts]),
        torch.cat([part.log_density for part in parts]),
        torch.cat(tangents) if tangents else None,
    )


def _chunks(
    process: LevyProcess, z: Tensor, s: float, v: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    windows = _Windows.around(process, z[:1], s)
    entries = process.length * windows.size if windows.shared else windows.size**2
    count = max(1, ENTRIES // entries)
    return zip(z.split(count), v.split(count), strict=True)


def _smoothed(process: LevyProcess, z: Tensor, s: float, v: Tensor | None) -> Smoothed:
    """Smooth one chunk. Messages have shape (B, size, 1), or 2 with their tangents."""
    n, windows = process.length, _Windows.around(process, z, s)
    transition = _Transitions(process, windows)
    log_density = z.new_full((len(z),), -n * math.log(s * math.sqrt(2 * math.pi)))

    def seen(k: int, message: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply a message by L_k, scaled to at most one; return the log of the scale, too."""
        x = windows.points(k)
        gap = -((z[:, k, None] - x) / s).square() / 2
        top = gap.amax(1)
        product = message * (gap - top[:, None]).exp()[..., None]
        if v is not None:
            pull = (x - z[:, k, None]) * (v[:, k, None] / s**2)
            product[..., 1] += pull * product[..., 0]
        return product, top

    lags = windows.first[:, 0, None] + torch.arange(windows.size)  # from x_0 = 0
    start = process.law.log_masses(lags, windows.step).expand(len(z), -1)
    scale = start.amax(1)
    message = torch.zeros(len(z), windows.size, 1 if v is None else 2, dtype=F64)
    message[..., 0] = (start - scale[:, None]).exp()
    before = [message]
    for k in range(1, n):
        product, top = seen(k - 1, message)
        message, peak = transition.forward(k, product)
        total = message[..., 0].sum(1)
        message = message / total[:, None, None]
        log_density += scale + top
        scale = peak + total.log()
        before.append(message)
    product, top = seen(n - 1, message)
    log_density += scale + top + product[..., 0].sum(1).log()

    mean, variance, tangent = torch.empty(3, *z.shape, dtype=F64)
    message = torch.ones(len(z), windows.size, 1 if v is None else 2, dtype=F64)
    message[..., 1:] = 0
    for k in reversed(range(n)):
        product, _ = seen(k, message)
        joint = before[k][..., 0] * product[..., 0]
        joint_total = joint.sum(1, keepdim=True)
        x = windows.points(k) - z[:, k, None]
        centre = (joint * x).sum(1) / joint_total[:, 0]
        mean[:, k] = z[:, k] + centre
        variance[:, k] = (joint * (x - centre[:, None]).square()).sum(1) / joint_total[:, 0]
        if v is not None:
            change = before[k][..., 1] * product[..., 0] + before[k][..., 0] * product[..., 1]
            # the derivative of a ratio of sums
            tangent[:, k] = (change * (x - centre[:, None])).sum(1) / joint_total[:, 0]
        if k:
            message = transition.backward(k, product)
            message = message / message[..., :1].sum(1, keepdim=True)
    return Smoothed(mean, variance, log_density, tangent if v is not None else None)
