r"""The receiver coils of a scanner: their sensitivities, their noise, and one image of them all.

Sensitivities come from the fully sampled middle of k-space by ESPIRiT (Uecker et al. 2014). Every
block of :math:`p^d` neighbouring samples of all coils is a row of the calibration matrix. Its rows
span a small subspace, because the coils see the same object. With :math:`w_n` an orthonormal basis
of it and :math:`\hat w_n(q)` its inverse Fourier transform at the pixel q,

.. math::

    G(q) = \frac{1}{p^d} \sum_n \hat w_n(q)\, \hat w_n(q)^*

is a matrix of the size of the coils, whose eigenvalues are between 0 and 1. The eigenvector of
eigenvalue 1 holds the sensitivities at q; where there is no object, no eigenvalue is near 1.

Noise of a covariance :math:`\Psi = L L^*` between the coils becomes white if k-space and
sensitivities are multiplied by :math:`L^{-1}` (Pruessmann et al. 2001).

k-space is complex, (coils, H, W) for images or (coils, D, H, W) for volumes, with the zero
frequency in the middle. Where real channels are needed, as by :class:`problems.MRI`,
:func:`channels_of` puts real and imaginary parts next to each other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from problems.checks import check_number

__all__ = [
    "channels_of",
    "coil_covariance",
    "complex_of",
    "espirit_maps",
    "magnitude",
    "prewhiten",
    "root_sum_of_squares",
]

_LARGEST_REGION = 256


def channels_of(z: Tensor) -> Tensor:
    """Turn complex channels into pairs of real ones.

    Args:
        z: Complex images or k-space (B, C, ...).

    Returns:
        Real tensor (B, 2 C, ...), each real part followed by its imaginary part.

    Raises:
        ValueError: If z is not complex or has no channel axis.

    Example:
        >>> import torch
        >>> from problems import channels_of
        >>> channels_of(torch.tensor([[[1 + 2j]]]))
        tensor([[[1.],
                 [2.]]])
    """
    if not isinstance(z, Tensor) or not z.is_complex() or z.ndim < 2:
        raise ValueError(f"a complex tensor (B, C, ...) is needed, got {_kind(z)}")
    return torch.stack([z.real, z.imag], 2).flatten(1, 2)


def complex_of(x: Tensor) -> Tensor:
    """Turn pairs of real channels into complex ones; the inverse of :func:`channels_of`.

    Args:
        x: Real tensor (B, 2 C, ...), each real part followed by its imaginary part.

    Returns:
        Complex tensor (B, C, ...).

    Raises:
        ValueError: If x is not real floating-point or has an odd number of channels.

    Example:
        >>> import torch
        >>> from problems import complex_of
        >>> complex_of(torch.tensor([[[1.0], [2.0]]]))
        tensor([[[1.+2.j]]])
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or x.shape[1] % 2:
        raise ValueError(
            f"a real tensor (B, 2 C, ...) of real and imaginary parts is needed, got {_kind(x)}"
        )
    return torch.complex(*x.unflatten(1, (-1, 2)).unbind(2))


def magnitude(x: Tensor) -> Tensor:
    """Compute the magnitudes of complex images that are given as pairs of real channels.

    Args:
        x: Real tensor (B, 2 C, ...), each real part followed by its imaginary part.

    Returns:
        Magnitudes (B, C, ...).

    Raises:
        ValueError: If x is not real floating-point or has an odd number of channels.

    Example:
        >>> import torch
        >>> from problems import magnitude
        >>> magnitude(torch.tensor([[[3.0], [4.0]]]))
        tensor([[[5.]]])
    """
    return complex_of(x).abs()


def root_sum_of_squares(images: Tensor, axis: int = 0) -> Tensor:
    """Combine the images of the coils without sensitivities (Roemer et al. 1990).

    Args:
        images: Real or complex images, (coils, ...) or with the coils along another axis.
        axis: Axis of the coils.

    Returns:
        Real images, without that axis.

    Example:
        >>> import torch
        >>> from problems import root_sum_of_squares
        >>> root_sum_of_squares(torch.tensor([[3.0], [4.0j]]))
        tensor([5.])
    """
    squares = images.real**2 + images.imag**2 if images.is_complex() else images**2
    return squares.sum(axis).sqrt()


def coil_covariance(noise: Tensor) -> Tensor:
    r"""Estimate the covariance of the coils from a scan of noise alone.

    Args:
        noise: Complex samples (coils, ...) of a scan without excitation, more samples than coils.

    Returns:
        Covariance :math:`\Psi = E[n n^*]` of shape (coils, coils), complex, in squared units of the
        noise. It is that of the complex numbers: real and imaginary part have half of it each.

    Raises:
        ValueError: If the samples are not complex, not finite, or no more than the coils.

    Example:
        >>> import torch
        >>> from problems import coil_covariance
        >>> coil_covariance(torch.tensor([[1.0, 1j, 1.0, 1j], [2.0, 2j, -2.0, -2j]])).real
        tensor([[1., 0.],
                [0., 4.]])
    """
    _check_coils(noise, "a noise scan")
    samples = noise.flatten(1)
    if samples.shape[1] <= len(samples):
        raise ValueError(
            f"the covariance of {len(samples)} coils needs more samples than coils, "
            f"got {samples.shape[1]}"
        )
    return samples @ samples.mH / samples.shape[1]


def prewhiten(z: Tensor, covariance: Tensor) -> Tensor:
    r"""Multiply by :math:`L^{-1}`, where :math:`\Psi = L L^*` is the covariance of the coils.

    Apply it to k-space and to the sensitivities alike. The noise of each sample is then white, of
    variance 1 for the complex number: ``GaussianNoise(0.5**0.5)`` for its two parts.

    Args:
        z: k-space or sensitivities, complex, (coils, ...).
        covariance: Covariance of the coils (coils, coils), as of :func:`coil_covariance`.

    Returns:
        Tensor of the shape and dtype of z.

    Raises:
        ValueError: If z is not complex, or the covariance has another size or is not positive
            definite.

    Example:
        >>> import torch
        >>> from problems import prewhiten
        >>> prewhiten(torch.tensor([[2.0 + 0j], [3.0]]), torch.diag(torch.tensor([4.0, 9.0])))
        tensor([[1.+0.j],
                [1.+0.j]])
    """
    _check_coils(z, "k-space")
    size = (len(z), len(z))
    if not isinstance(covariance, Tensor) or tuple(covariance.shape) != size:
        raise ValueError(
            f"{len(z)} coils have a covariance of shape {size}, got {_kind(covariance)}"
        )
    root, failed = torch.linalg.cholesky_ex(covariance.to(z.device, torch.complex128))
    if bool(failed):
        raise ValueError(
            "the covariance of the coils is not positive definite; take a longer noise scan, and "
            "leave out coils that are not connected"
        )
    white: Tensor = torch.linalg.solve_triangular(root, z.flatten(1).to(root.dtype), upper=False)
    return white.reshape(z.shape).to(z.dtype)


def espirit_maps(
    kspace: Tensor,
    calibration: int = 24,
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.95,
) -> Tensor:
    """Estimate the sensitivities of the coils from the middle of k-space by ESPIRiT.

    Args:
        kspace: Measured k-space (coils, H, W) or (coils, D, H, W), complex, with the zero frequency
            in the middle; its middle must be sampled completely, the rest may be zero.
        calibration: Side of the middle region in samples; a shorter axis is used whole.
        kernel: Side p of the blocks in samples, at most the side of the region.
        threshold: Singular values of the calibration matrix below this part of the largest are
            noise.
        crop: Pixels whose eigenvalue is not above this number are no object; their sensitivities
            are 0.

    Returns:
        Sensitivities of the shape and dtype of k-space. Their squared magnitudes sum to 1 at every
        pixel of the object. Their common phase, which k-space does not determine, is that in which
        the strongest combination of the coils is real.

    Raises:
        ValueError: If k-space is not complex or has another number of axes, a setting is out of its
            range, or a part of the region was not sampled.

    Example:
        >>> import torch
        >>> from problems import MRI, birdcage_maps, complex_of, espirit_maps
        >>> image = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
        >>> image[..., 6:26, 8:24] = 1
        >>> y = MRI(torch.ones(32, 32), birdcage_maps(4, 32, 32)).apply(image)
        >>> maps = espirit_maps(complex_of(y)[0], calibration=16)
        >>> maps.shape
        torch.Size([4, 32, 32])
    """
    _check_coils(kspace, "k-space")
    axes = kspace.ndim - 1
    if axes not in (2, 3):
        raise ValueError(
            f"k-space (coils, H, W) or (coils, D, H, W) is needed, got {tuple(kspace.shape)}"
        )
    side = check_number(
        calibration, "the calibration region", least=2, most=_LARGEST_REGION, whole=True
    )
    region = _middle(kspace, int(side)).to(torch.complex128)
    p = int(check_number(kernel, "the kernel", least=1, most=min(region.shape[1:]), whole=True))
    check_number(threshold, "the threshold of singular values", least=0, below=1)
    check_number(crop, "the threshold of eigenvalues", least=0, below=1)
    if not bool((region != 0).any(0).all()):
        raise ValueError(
            f"the middle {' x '.join(map(str, region.shape[1:]))} samples of k-space must all be "
            "measured; give a smaller calibration region"
        )

    blocks = region
    for axis in range(1, axes + 1):
        blocks = blocks.unfold(axis, p, 1)
    rows = blocks.movedim(0, axes).flatten(0, axes - 1).flatten(1)  # (blocks, coils p^d)
    _, s, Vh = torch.linalg.svd(rows, full_matrices=False)
    kernels = Vh[s > threshold * s[0]].reshape(-1, len(kspace), *[p] * axes)

    gram = _correlations(kernels) / p**axes
    waves = [_waves(n, p).to(gram.device) for n in kspace.shape[1:]]
    for wave in reversed(waves[1:]):  # the last axis first; the first axis row by row, for memory
        gram = torch.tensordot(gram, wave, dims=([2 + axes - 1], [1])).movedim(-1, 3)
    common = torch.linalg.svd(region.flatten(1), full_matrices=False)[0][:, 0]
    maps = torch.empty_like(kspace)
    for row, wave in enumerate(waves[0]):
        G = torch.tensordot(gram, wave, dims=([2], [0])).movedim((0, 1), (-2, -1))
        values, vectors = torch.linalg.eigh(G)
        value, vector = values[..., -1:], vectors[..., -1]
        virtual = (vector @ common.conj())[..., None]
        size = virtual.abs()
        phase = torch.where(size > 0, virtual / torch.where(size > 0, size, 1), 1)
        found = torch.where(value > crop, vector * phase.conj(), 0)
        maps[:, row] = found.movedim(-1, 0).to(maps.dtype)
    return maps


def _correlations(kernels: Tensor) -> Tensor:
    """Compute sum_n sum_j w_n[a, j + l] conj(w_n[b, j]) for every shift l.

    The kernels are (n, coils, p, ...), the result is (coils, coils, 2 p - 1, ...) with the shift 0
    in the middle.
    """
    axes = tuple(range(2, kernels.ndim))
    sides = [2 * n - 1 for n in kernels.shape[2:]]
    spectra = torch.fft.fftn(kernels, s=sides, dim=axes)
    power = torch.einsum("na...,nb...->ab...", spectra, spectra.conj())
    shifted: Tensor = torch.fft.fftshift(torch.fft.ifftn(power, dim=axes), dim=axes)
    return shifted


def _waves(n: int, p: int) -> Tensor:
    """Compute e^(2 pi i q l / n) for the pixels q, 0 in the middle, and the shifts |l| < p."""
    q = torch.arange(n, dtype=torch.float64) - n // 2
    shift = torch.arange(1 - p, p, dtype=torch.float64)
    angle = 2 * math.pi * torch.outer(q, shift) / n
    return torch.polar(torch.ones_like(angle), angle)


def _middle(kspace: Tensor, side: int) -> Tensor:
    """Take the middle of every axis but the first."""
    for axis in range(1, kspace.ndim):
        n = kspace.shape[axis]
        part = min(side, n)
        kspace = kspace.narrow(axis, n // 2 - part // 2, part)
    return kspace


def _check_coils(z: Tensor, what: str) -> None:
    if not isinstance(z, Tensor) or not z.is_complex() or z.ndim < 2 or not z.numel():
        raise ValueError(f"{what} must be complex of shape (coils, ...), got {_kind(z)}")
    if not bool(torch.isfinite(torch.view_as_real(z)).all()):
        raise ValueError(f"{what} must be finite")


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)}"
    return type(value).__name__
