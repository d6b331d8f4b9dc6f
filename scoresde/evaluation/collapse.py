r"""Whether a generator has forgotten part of the data, by what its draws look like.

Where the modes are known (toys): which of them are found, how the draws are shared among them, and how far from it the truth is. Where they
are not (images): distances. Draws of a collapsed generator lie closer to each other than samples of the data do, have near-duplicates in
small batches (the birthday test, Arora and Zhang 2018) and fewer effective members (the Vendi score, Friedman and Dieng 2023).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ModeReport", "SpreadReport", "collapse_report"]


@dataclass(frozen=True)
class ModeReport:
    """found: modes with at least a tenth of their true share of the draws. modes: how many there are. shares: (modes,), of the draws near
    any mode. outside: share of draws near none. kl: KL(shares || weights), nats; ln(modes) if equal modes have shrunk to one, 0 if none is
    missed."""

    found: int
    modes: int
    shares: Tensor
    outside: float
    kl: float

    @property
    def collapsed(self) -> bool:
        return self.found < self.modes


@dataclass(frozen=True)
class SpreadReport:
    """Of a batch of n draws against as many samples of the data, by Euclidean distances.

    nearest: median distance of a draw to the nearest other draw, over the same for the data; 1 for a perfect generator, 0 for duplicates.
    to_data: median distance of a draw to the nearest sample, over the data's own median; far above 1 where draws are no data.
    recall: share of samples with a draw within the distance of their k-th neighbour (Kynkaanniemi et al. 2019), k = 3.
    vendi, vendi_data: effective numbers of different members, 1 to n, of the draws and of the samples.
    duplicates: pairs of draws closer than all but a thousandth of the pairs of samples.
    support: the size of a discrete uniform support with that many duplicates among the draws, n (n - 1) / (2 duplicates); inf if there are
    none.
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
        """Half the spread or half the variety of the data."""
        return self.nearest < 0.5 or self.vendi < 0.5 * self.vendi_data


def collapse_report(
    samples: Tensor,
    *,
    centres: Tensor | None = None,
    weights: Tensor | None = None,
    radius: float | None = None,
    reference: Tensor | None = None,
) -> ModeReport | SpreadReport:
    """Judge draws (n, ...) by the known modes of their data, or by samples of it.

    centres: (modes, ...). weights: (modes,), equal if None. radius: how far from a centre a draw still belongs to it, a third of the least
    distance between two centres if None. reference: (m, ...) with m >= n, of which the first n are used.
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
            f"the reference needs at least {len(samples)} samples of shape {tuple(samples.shape[1:])}, got {tuple(reference.shape)}"
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
    """(n, n) of the pairs' distances, infinite on the diagonal."""
    full = torch.full((n, n), torch.inf, dtype=distances.dtype)
    i, j = torch.triu_indices(n, n, 1)
    full[i, j] = full[j, i] = distances
    return full


def _vendi(distances: Tensor, scale: float) -> float:
    """exp of the entropy of the eigenvalues of K / n, K_ij = exp(-(4 d_ij / scale)^2 / 2): the median pair counts as wholly different."""
    n = len(distances)
    kernel = torch.exp(-0.5 * (4 * distances / scale).square())
    kernel.fill_diagonal_(1.0)
    eigenvalues = torch.linalg.eigvalsh(kernel / n).clamp_min(0)
    return float(torch.exp(-torch.xlogy(eigenvalues, eigenvalues).sum()))
