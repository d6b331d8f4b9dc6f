r"""The noise of a picture by the denoiser, where y is a picture with noise.

At the noise level s the posterior of x given z = x + s n has the mean D(z) and the covariance
:math:`s^2\, \partial D / \partial z` (Tweedie's formulas). Whatever the picture, the ratio

.. math:: q(s) = \frac{|z - D|^2 + s^2 \operatorname{div} D}{m s^2}

is therefore 1 on average if z has noise of level s, as the posterior mean of :math:`|z - x|^2` is
that of the noise. With less noise than s it is below 1: D removes what it takes for noise, of which
there is less. It is 1 or slightly more with more noise than s, where a denoiser that is told too
little keeps the rest as texture. One level alone does not show that. Two do: the stated one, and
one and a half times as much. Of a grey picture the denoiser has a third of the numbers, and takes
more of its texture for noise: there the second level is 1.7 times the first.

Besides denoising and inpainting, where y = x + n in the observed pixels, that is a picture at lower
resolution: y is then looked at as it is. Photographs look alike at all scales (Field 1987), so that
the prior knows it well enough to see that noise is half or twice as large. It does not know it well
enough to estimate the level within a few per cent. The mean of the colours is a grey picture. A
mosaic of them is no picture: what lies between the pixels of a colour looks like noise.

Draws do not show that the stated noise is too small. They keep the rest of the noise as texture,
too, and their residual is that of the stated noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import (
    Decimation,
    Denoising,
    GaussianNoise,
    Grayscale,
    Inpainting,
    InverseProblem,
    SuperResolution,
)
from scoresde.evaluation.prior_check.denoiser import Denoiser
from scoresde.priors.base import Prior
from scoresde.priors.grey import GreyPrior

__all__ = ["SeenNoise", "noise_ratio", "seen_noise"]

LOUDER = 1.5
"""Factor of the second level. Right photographs have q of at most 0.93 there, at noise of 0.01 on
[-1, 1], which their own grain is not far from, and at most 0.82 from 0.02 on."""

MORE = 0.97
"""q at one and a half times the stated level, from which on there is at least about so much."""

LOUDER_GREY = 1.7
"""The same for pictures of one channel. Right ones (50 photographs, noise of 0.01 to 0.1) have q of
at most 1.001 there, at noise of 0.01, and 0.988 from 0.02 on; with twice the stated noise they have
at least 1.002."""

MORE_GREY = 0.985
"""q at that level, from which on there is at least about so much noise, and chance beyond."""

LESS = 0.85
"""q at the stated level below which there is less noise. Right photographs have 0.98 to 1.03, and
with two thirds of the stated noise at most 0.93, 0.82 from 0.02 on."""

_FEWEST = 512  # observed entries
_SIDE = 256  # pixels of the part that is looked at
_PROBES = 2  # of the divergence
_CHANCE = 3.0  # standard deviations of q


@dataclass(frozen=True)
class SeenNoise:
    """The ratio q at two levels.

    Args:
        stated: q at the stated level; 1 is expected.
        louder: q at a higher level, which is below 1 if the stated level is right.
        factor: The higher level over the stated one.
        entries: Number m of observed entries that were looked at.
    """

    stated: float
    louder: float
    factor: float
    entries: int

    @property
    def scatter(self) -> float:
        """Standard deviation of q by chance, at most: of the noise, and of the divergence."""
        return math.sqrt((2 + 2 / _PROBES) / self.entries)

    @property
    def more(self) -> bool:
        """Whether there is clearly more noise than stated."""
        limit = MORE if self.factor == LOUDER else MORE_GREY
        return self.louder > limit + _CHANCE * self.scatter

    @property
    def less(self) -> bool:
        """Whether there is clearly less noise than stated."""
        return self.stated < LESS - _CHANCE * self.scatter


def seen_noise(problem: InverseProblem, y: Tensor, x: Tensor, prior: Prior) -> SeenNoise | None:
    """Compare the noise of a picture with the stated level.

    The denoiser is evaluated twice, with two products with its Jacobian each, on a part of 256x256
    pixels.

    Args:
        problem: Operator and noise as they are stated.
        y: Measurement (1, C, H, W), zero where nothing is observed.
        x: A posterior draw (1, C, H, W), which fills the unobserved pixels. An estimate has no
            texture there, which the denoiser takes into account wrongly.
        prior: Prior of the picture, with as many channels as the picture.

    Returns:
        The ratios. None where the noise is not seen directly: for operators other than denoising,
        inpainting, sampling at lower resolution and the mean of the colours, noise that is not
        white and Gaussian, fewer than 512 observed entries, pictures that the prior does not take,
        or a denoiser without gradient.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 32, 32), 0.02 * torch.eye(1024))
        >>> g = torch.Generator().manual_seed(0)
        >>> x = prior.sample(1, g)
        >>> y = x + 0.3 * torch.randn(x.shape, generator=g)
        >>> right, wrong = (InverseProblem(Denoising(), GaussianNoise(std)) for std in (0.3, 0.1))
        >>> seen_noise(right, y, x, prior).more, seen_noise(wrong, y, x, prior).more
        (False, True)
    """
    noise = problem.noise
    if y.ndim != 4:
        return None
    if isinstance(problem.operator, SuperResolution | Decimation):
        x = y  # all of its pixels are observed
    elif isinstance(problem.operator, Grayscale) and _is_mean(problem.operator):
        x, prior = y, GreyPrior(prior)
    elif not isinstance(problem.operator, Denoising | Inpainting):
        return None
    if not isinstance(noise, GaussianNoise) or isinstance(noise.std, Tensor):
        return None
    s, denoiser = float(noise.std), Denoiser(prior)
    factor = LOUDER_GREY if y.shape[1] == 1 else LOUDER
    if x.shape != y.shape or not (denoiser.ends()[0] <= s and denoiser.knows(factor * s)):
        return None
    seen = problem.operator.observed(y).expand_as(y)
    height, width = _part(seen)
    y, x, seen = (one[..., height, width] for one in (y, x.to(y), seen))
    # where values are clipped there is no noise
    inside = seen & (y > y[seen].min()) & (y < y[seen].max()) if bool(seen.any()) else seen
    entries = int(inside.sum())
    if entries < _FEWEST or not prior.accepts(tuple(y.shape[1:])):
        return None
    g = torch.Generator().manual_seed(0)
    rest = torch.randn(y.shape, generator=g).to(y)
    signs = [torch.randint(0, 2, y.shape, generator=g).to(y) * 2 - 1 for _ in range(_PROBES)]
    found = []
    for level in (s, factor * s):
        ratio = noise_ratio(prior, torch.where(seen, y, x + level * rest), level, inside, signs)
        if ratio is None:
            return None
        found.append(ratio)
    stated, louder = found
    return SeenNoise(stated, louder, factor, entries)


def _is_mean(operator: Grayscale) -> bool:
    """Whether the grey value is a mean of the colours, and so on their scale."""
    return min(operator.weights) >= 0 and math.isclose(sum(operator.weights), 1, abs_tol=1e-3)


def _part(inside: Tensor) -> tuple[slice, slice]:
    """The square with the most entries that count, of those that half overlap."""
    sizes = inside.shape[-2:]
    starts = [sorted({*range(0, max(n - _SIDE, 0), _SIDE // 2), max(n - _SIDE, 0)}) for n in sizes]
    squares = [(slice(i, i + _SIDE), slice(j, j + _SIDE)) for i, j in itertools.product(*starts)]
    counts = [int(inside[..., rows, columns].sum()) for rows, columns in squares]
    most = [square for square, count in zip(squares, counts, strict=True) if count == max(counts)]
    return most[len(most) // 2]


def noise_ratio(
    prior: Prior, z: Tensor, s: float, inside: Tensor, signs: Sequence[Tensor]
) -> float | None:
    """Compute the ratio q at a noise level.

    Args:
        prior: Prior of the pictures.
        z: Noisy pictures (B, C, H, W).
        s: Noise level.
        inside: Entries that count, bool, of a shape that broadcasts to that of z.
        signs: Random signs for the divergence, each of the shape of z.

    Returns:
        q, with :math:`E|z - x|^2` over :math:`m s^2`; None if the denoiser has no gradient.
    """
    z = z.detach().to(dtype=prior.dtype, device=prior.device).requires_grad_()
    inside = inside.to(prior.device).expand_as(z)
    with torch.enable_grad():
        D = Denoiser(prior)(z, s)
    if not D.requires_grad:
        return None
    divergence = 0.0
    for number, one in enumerate(signs, 1):
        v = torch.where(inside, one.to(z), 0)
        (product,) = torch.autograd.grad(D, z, v, retain_graph=number < len(signs))
        divergence += float((v * product).sum(dtype=torch.float64)) / len(signs)
    off = torch.where(inside, z - D, 0).detach().double()
    return (float(off.square().sum()) / s**2 + divergence) / int(inside.sum())
