"""Samples whose noise is not what their label says.

Solvers evaluate a network where no training sample is: between the pictures that a measurement
allows, with the artefacts of a deconvolution, with less noise than the level says. There a network
without normalisation may return numbers of any size, however small its loss: of two networks of the
same training, the one with the smaller loss diverged in plug-and-play iterations. Such samples in
the loss, with the sample before the noise as the target, keep it bounded. The loss of right samples
has its minimum where it was.

A deconvolution leaves errors that are not white: those of the frequencies that a blur weakened are
large. A network that has seen white noise alone takes them for detail and amplifies them from one
iteration to the next. So part of the noise is coloured, with a power law as its spectrum.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.linalg.broadcast import expand_like

__all__ = ["mismatched"]

MOST_NOISE = 2.0
"""Largest noise, in units of the level of the label."""

CONTRAST = (0.5, 1.5)
"""Range of the factors of the samples."""

COLOUR = 1.0
"""Largest exponent of the amplitudes of coloured noise over the frequency, of either sign."""

_STRETCH = 2.0  # octaves, of either sign, by which each axis of frequencies is stretched
_LEAST = 1 / 32  # cycles per pixel, added to the frequency: the mean of a sample stays finite
_POOLS = (1, 2, 4)  # sides of the cells that a sample is averaged over
_POOLING = {3: F.avg_pool1d, 4: F.avg_pool2d, 5: F.avg_pool3d}
_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}


def mismatched(
    x_0: Tensor,
    noise: Tensor,
    share: float,
    generator: torch.Generator,
    rows: slice = slice(None),
    of: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Change a share of the samples of a batch and their noise.

    Their noise is scaled by a factor that is uniform on [0, 2], their contrast by one that is
    uniform on [0.5, 1.5], and signals, pictures and volumes lose detail by a factor of 1, 2 or 4.
    The noise of half of these signals, pictures and volumes is coloured: its amplitudes are those
    of white noise times a power of the frequency, with an exponent uniform on [-1, 1].

    Args:
        x_0: Samples, shape (B, ...).
        noise: Standard normal numbers, shape of x_0.
        share: Probability of each sample to be changed, in [0, 1].
        generator: Source of the random numbers, on the CPU.
        rows: Rows of a larger batch that x_0 and noise are, which get what they would get in it.
        of: Size of that batch; None for B.

    Returns:
        Samples and noise, of the shapes of the arguments, which are not changed.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x_0, noise = torch.ones(2, 4, 1, 8, 8)
        >>> x_0, noise = mismatched(x_0, noise, 0.5, generator)
        >>> changed = x_0[:, 0, 0, 0] != 1
        >>> bool((x_0[~changed] == 1).all())
        True
    """
    n, (low, high) = len(x_0) if of is None else of, CONTRAST
    draws = torch.rand(5, n, generator=generator)
    coloured = ((draws[0] < share) & (draws[4] < 0.5)).nonzero().flatten()
    octaves = torch.zeros(n, max(0, x_0.ndim - 2))
    if x_0.ndim in _POOLING and len(coloured):
        u = torch.rand(len(coloured), x_0.ndim - 2, generator=generator)
        octaves[coloured] = _STRETCH * (2 * u - 1)
    draws, octaves = draws[:, rows], octaves[rows]
    chosen = draws[0] < share
    louder = torch.where(chosen, MOST_NOISE * draws[1], 1.0).to(x_0)
    contrast = torch.where(chosen, low + (high - low) * draws[2], 1.0).to(x_0)
    cells = torch.where(chosen, (len(_POOLS) * draws[3]).long(), 0)
    for index, cell in enumerate(_POOLS):
        some = (cells == index).nonzero().flatten().to(x_0.device)
        if cell > 1 and x_0.ndim in _POOLING and len(some) and min(x_0.shape[2:]) >= cell:
            x_0 = x_0.index_copy(0, some, _smoothed(x_0[some], cell))
    some = (chosen & (draws[4] < 0.5)).nonzero().flatten()
    if x_0.ndim in _POOLING and len(some):
        exponents, stretched = COLOUR * (4 * draws[4, some] - 1), octaves[some]
        some = some.to(x_0.device)
        noise = noise.index_copy(0, some, _coloured(noise[some], exponents, stretched))
    return expand_like(contrast, x_0) * x_0, expand_like(louder, noise) * noise


def _coloured(noise: Tensor, exponents: Tensor, octaves: Tensor) -> Tensor:
    """White noise (B, C, ...) with amplitudes |f|^exponent, (B,), of mean square 1.

    The frequencies of each axis are stretched by 2^octaves, (B, axes).
    """
    axes = range(2, noise.ndim)
    square = torch.zeros(len(noise), *noise.shape[2:])
    for i, axis in enumerate(axes):
        f = expand_like(2.0 ** octaves[:, i], square) * torch.fft.fftfreq(
            noise.shape[axis]
        ).reshape(-1, *[1] * (noise.ndim - 1 - axis))
        square = square + f**2
    gain = (square.sqrt() + _LEAST) ** expand_like(exponents, square)
    gain = gain / expand_like(gain.square().flatten(1).mean(1).sqrt(), gain)
    spectrum = torch.fft.fftn(noise.float(), dim=tuple(axes)) * gain[:, None].to(noise.device)
    return torch.fft.ifftn(spectrum, dim=tuple(axes)).real.to(noise.dtype)


def _smoothed(x: Tensor, cell: int) -> Tensor:
    """Averages over cells, interpolated."""
    means = _POOLING[x.ndim](x, cell, ceil_mode=True)
    return F.interpolate(means, size=x.shape[2:], mode=_MODES[x.ndim], align_corners=False)
