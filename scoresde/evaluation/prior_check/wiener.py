r"""The best linear denoiser of stationary samples, estimated from samples.

For samples with mean m whose statistics do not depend on the place, the Wiener filter multiplies
each frequency f of u - m by :math:`S_f (S_f + s^2 I)^{-1}`, where S_f is the covariance of the
channels at f. S_f is estimated in shells of equal \|f\|, so that a few samples are enough. The
filter for one half of the samples is estimated from the other half: it never sees what it is judged
on, so its error is an upper bound, in expectation, of the error of an exact denoiser.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Wiener", "linear_denoised"]

F64 = torch.float64


@dataclass(frozen=True)
class Wiener:
    """Isotropic Wiener filter.

    Args:
        mean: Mean of each channel, shape (C,).
        spectra: Covariance of the channels in each shell of frequencies, shape (K, C, C), complex.
        shells: Shell of each frequency, shape of the axes.

    Example:
        White noise of variance 1 is scaled by 1/(1 + s^2):

        >>> import torch
        >>> x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> filtered = Wiener.fit(x)(torch.ones(1, 1, 8, 8), 1.0)
        >>> round(float(filtered.mean()), 1)
        0.5
    """

    mean: Tensor
    spectra: Tensor
    shells: Tensor

    @classmethod
    def fit(cls, x: Tensor) -> "Wiener":
        """Estimate the filter.

        Args:
            x: Samples, shape (N, C, ...).

        Returns:
            The filter.
        """
        x = x.to(F64)
        over = [0, *range(2, x.ndim)]
        mean = x.mean(over)
        X = _spectrum(x - _channels(mean, x.ndim))
        shells = _shells(tuple(x.shape[2:]))
        flat, C = shells.flatten(), x.shape[1]
        X = X.flatten(2) if x.ndim > 2 else X[..., None]
        power = torch.einsum("ncf,nef->fce", X, X.conj())
        count = torch.bincount(flat).to(F64) * len(x)
        spectra = torch.zeros(len(count), C, C, dtype=power.dtype).index_add_(0, flat, power)
        return cls(mean, spectra / count[:, None, None], shells)

    def __call__(self, u: Tensor, s: float) -> Tensor:
        """Denoise.

        Args:
            u: Noisy samples, shape (B, C, ...).
            s: Standard deviation of the noise.

        Returns:
            Filtered samples, shape of u, float64.
        """
        u = u.to(F64)
        mean, C = _channels(self.mean, u.ndim), u.shape[1]
        eye = torch.eye(C, dtype=self.spectra.dtype)
        gains = torch.linalg.solve(self.spectra + s**2 * eye, self.spectra)  # the two commute
        U = _spectrum(u - mean)
        flat = U.flatten(2) if u.ndim > 2 else U[..., None]
        filtered = torch.einsum("fce,nef->ncf", gains[self.shells.flatten()], flat)
        return mean + _inverse(filtered.reshape(U.shape))


def linear_denoised(x0: Tensor, u: Tensor, s: float) -> Tensor:
    """Denoise each half of the samples by the Wiener filter of the other half.

    Args:
        x0: Clean samples, shape (N, C, ...), N at least 2.
        u: Noisy samples, shape (N, C, ...).
        s: Standard deviation of the noise.

    Returns:
        Filtered samples, shape (N, C, ...), float64.
    """
    even, odd = slice(0, None, 2), slice(1, None, 2)
    D = torch.empty(u.shape, dtype=F64)
    D[even], D[odd] = Wiener.fit(x0[odd])(u[even], s), Wiener.fit(x0[even])(u[odd], s)
    return D


def _channels(v: Tensor, ndim: int) -> Tensor:
    return v.reshape(1, -1, *[1] * (ndim - 2))


def _spectrum(x: Tensor) -> Tensor:
    """Orthonormal Fourier transform of the axes after the channels; none for vectors."""
    if x.ndim == 2:
        return x.to(torch.complex128)
    return torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")


def _inverse(X: Tensor) -> Tensor:
    if X.ndim == 2:
        return X.real
    return torch.fft.ifftn(X, dim=tuple(range(2, X.ndim)), norm="ortho").real


def _shells(axes: tuple[int, ...]) -> Tensor:
    """Number of the shell of each frequency: 0 for the mean, then shells of one period each."""
    if not axes:
        return torch.zeros(1, dtype=torch.long)
    longest = max(axes)
    grids = torch.meshgrid(*(torch.fft.fftfreq(n) * longest for n in axes), indexing="ij")
    radius = torch.stack(grids).square().sum(0).sqrt()
    shells: Tensor = radius.ceil().long().clamp_max(math.ceil(longest / 2))
    return torch.unique(shells, return_inverse=True)[1]
