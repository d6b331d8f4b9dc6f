"""Mode collapse: tests whether the draws of a generator miss part of the data.

Where the modes are known (toys), the report has the modes that are found, the shares of the draws
among them, and the divergence of these shares from the true ones. Where they are not (images), it
has distances. Draws of a collapsed generator lie closer to each other than samples of the data do,
have near-duplicates in small batches (the birthday test, Arora, Risteski and Zhang 2018) and fewer
effective members (the Vendi score, Friedman and Dieng 2023).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ModeReport", "SpreadReport", "collapse_report"]


@dataclass(frozen=True)
class ModeReport:
    """Shares of the draws among known modes.

    Args:
        found: Number of modes that have more than a tenth of their true share of the draws.
        modes: Number of modes.
        shares: Shares of the modes among the draws near any mode, shape (modes,).
        outside: Share of the draws that are near no mode.
        kl: KL(shares || weights) in nats: 0 if the shares are right, ln(modes) if only one of
            several equal modes is left.
    """

    found: int
    modes: int
    shares: Tensor
    outside: float
    kl: float

    @property
    def collapsed(self) -> bool:
        """True if a mode is missing."""
        return self.found < self.modes


@dataclass(frozen=True)
class SpreadReport:
    """Spread of n draws against that of n samples of the data, by Euclidean distances.

    Args:
        nearest: Median distance of a draw to the nearest other draw, divided by the same for the
            data: 1 for a perfect generator, 0 for duplicates.
        to_data: Median distance of a draw to the nearest sample, divided by the data's own median:
            far above 1 where draws are unlike the data.
        recall: Share of the samples with a draw within the distance of their k-th neighbour, k = 3
            (Kynkäänniemi et al. 2019).
        vendi: Effective number of different draws (Vendi score), 1 to n.
        vendi_data: Effective number of different samples, 1 to n.
        duplicates: Number of pairs of draws closer than all but a thousandth of the pairs of
            samples.
        support: Size of a discrete uniform support with that many duplicates among the draws,
            n (n - 1) / (2 duplicates); infinite if there are none.
    """

    nearest: float
    to_data: float
    recall: float
    vendi: float
    vendi_data: float
    duplicates: int
    support: float

    @property
    def collapsed(self) -> bool:
        """True if the draws have less than half the spread or half the variety of the data."""
        return self.nearest < 0.5 or self.vendi < 0.5 * self.vendi_data


def collapse_report(
    samples: Tensor,
    *,
    centres: Tensor | None = None,
    weights: Tensor | None = None,
    radius: float | None = None,
    reference: Tensor | None = None,
) -> ModeReport | SpreadReport:
    """Judge draws by the known modes of their data, or by samples of it.

    Give either ``centres`` or ``reference``.

    Args:
        samples: Draws, shape (n, ...), at least 2.
        centres: Centres of the modes, shape (modes, ...).
        weights: Probabilities of the modes, shape (modes,), positive; None for equal ones.
        radius: Largest distance of a draw from the centre of its mode; None for a third of the
            smallest distance between two centres.
        reference: Samples of the data, shape (m, ...) with m >= n, of which the first n are used.

    Returns:
        A :class:`ModeReport` for ``centres``, a :class:`SpreadReport` for ``reference``.

    Raises:
        ValueError: If both or neither of ``centres`` and ``reference`` are given, the draws are not
            finite or fewer than two, or shapes do not fit.

    Example:
        >>> import torch
        >>> from scoresde.evaluation.collapse import collapse_report
        >>> centres = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        >>> report = collapse_report(centres[:1].expand(50, 2), centres=centres)
        >>> report.found, report.collapsed, round(report.kl, 4)
        (1, True, 0.6931)
    """
    if (centres is None) == (reference is None):
        raise ValueError("give either the centres of the modes or a reference of samples")
    if len(samples) < 2 or not bool(torch.isfinite(samples).all()):
        raise ValueError("a report needs at least two draws, all of them finite")
    x = samples.detach().double().flatten(1).cpu()
    if centres is not None:
        return _modes(x, centres.detach().double().flatten(1).cpu(), weights, radius)
    assert reference is not None
    if len(reference) < len(samples) or reference.shape[1:] != samples.shape[1:]:
        raise ValueError(
            f"the reference needs at least {len(samples)} samples of shape "
            f"{tuple(samples.shape[1:])}, got {tuple(reference.shape)}"
        )
    return _spread(x, reference[: len(samples)].detach().double().flatten(1).cpu())


def _modes(x: Tensor, centres: Tensor, weights: Tensor | None, radius: float | None) -> ModeReport:
    if centres.shape[1] != x.shape[1]:
        raise ValueError(f"centres have {centres.shape[1]} entries, draws {x.shape[1]}")
    k = len(centres)
    p = (
        torch.full((k,), 1 / k, dtype=torch.float64)
        if weights is None
        else weights.double().cpu() / weights.double().sum().cpu()
    )
    if p.shape != (k,) or not bool((p > 0).all()):
        raise ValueError(f"{k} centres need as many positive weights")
    if radius is None:
        radius = float(torch.pdist(centres).min()) / 3 if k > 1 else math.inf
    distance, nearest = torch.cdist(x, centres).min(1)
    inside = nearest[distance <= radius]
    shares = torch.bincount(inside, minlength=k).double() / max(1, len(inside))
    kl = float(torch.xlogy(shares, shares / p).sum()) if len(inside) else math.inf
    return ModeReport(int((shares > 0.1 * p).sum()), k, shares, 1 - len(inside) / len(x), kl)


def _spread(x: Tensor, data: Tensor, k: int = 3) -> SpreadReport:
    n = len(x)
    among, within = torch.pdist(x), torch.pdist(data)
    draws, samples = _square(among, n), _square(within, n)
    own, between = float(samples.min(1).values.median()), torch.cdist(x, data)
    reach = samples.sort(1).values[:, min(k, n - 1) - 1]
    duplicates = int((among < torch.quantile(within[: 1 << 24], 0.001)).sum())
    scale = float(within.median())
    return SpreadReport(
        nearest=float(draws.min(1).values.median()) / own if own > 0 else math.nan,
        to_data=float(between.min(1).values.median()) / own if own > 0 else math.nan,
        recall=float((between.min(0).values <= reach).double().mean()),
        vendi=_vendi(draws, scale),
        vendi_data=_vendi(samples, scale),
        duplicates=duplicates,
        support=n * (n - 1) / 2 / duplicates if duplicates else math.inf,
    )


def _square(distances: Tensor, n: int) -> Tensor:
    """Arrange the distances of the pairs as a matrix (n, n), infinite on the diagonal."""
    full = torch.full((n, n), torch.inf, dtype=distances.dtype)
    i, j = torch.triu_indices(n, n, 1)
    full[i, j] = full[j, i] = distances
    return full


def _vendi(distances: Tensor, scale: float) -> float:
    """Exponential of the entropy of the eigenvalues of K / n.

    With the kernel K_ij = exp(-(4 d_ij / scale)^2 / 2) the median pair counts as entirely
    different.
    """
    n = len(distances)
    kernel = torch.exp(-0.5 * (4 * distances / scale).square())
    kernel.fill_diagonal_(1.0)
    eigenvalues = torch.linalg.eigvalsh(kernel / n).clamp_min(0)
    return float(torch.exp(-torch.xlogy(eigenvalues, eigenvalues).sum()))
