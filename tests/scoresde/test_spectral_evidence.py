"""The evidence of kernels in the spectrum, and the part of a picture that it is taken of."""

import pytest
import torch

from problems import GaussianBlur
from scoresde.spectral_evidence import SpectralEvidence, most_detailed, periodogram
from tests.conftest import F64, seeded
from tests.fields import power_law_field


def test_the_periodogram_of_white_noise_is_its_variance() -> None:
    """On average, at every frequency but the mean, which is taken out, and those beside it."""
    x = 2.0 * torch.randn(4000, 12, 16, generator=seeded(), dtype=F64)
    found = periodogram(x).mean(0)
    apart = torch.ones(12, 16, dtype=torch.bool)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            apart[i, j] = False
    assert float((found[apart] / 4 - 1).abs().max()) < 5 / 4000**0.5  # exponential: std = mean
    assert float(found[0, 0]) < 1e-20


def test_the_width_of_largest_evidence_is_the_true_one() -> None:
    y = GaussianBlur(1.0).apply(power_law_field(0, 64))
    y = y + 0.01 * torch.randn(1, 3, 64, 64, generator=seeded(1))
    evidence = SpectralEvidence(y, 0.01)
    values = [evidence(GaussianBlur(std)) for std in (0.5, 0.7, 1.0, 1.4, 2.0)]
    assert values.index(max(values)) == 2


def test_the_most_detailed_square_is_cut_out() -> None:
    y = 0.01 * torch.randn(1, 3, 60, 80, generator=seeded())
    y[..., 20:40, 50:70] += torch.randn(20, 20, generator=seeded(1))
    found = most_detailed(y, 24)
    assert found.shape == (1, 3, 24, 24)
    # every such square that holds the whole patch has its energy
    assert float(found.square().sum()) == pytest.approx(float(y.square().sum()), rel=0.05)
    assert most_detailed(y, 100) is y
