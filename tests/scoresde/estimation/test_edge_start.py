"""Kernels from strong edges: a path that turns, which no spectrum tells from a line."""

import pytest
import torch
from torch import Tensor

from problems import Blur, GaussianNoise, InverseProblem
from scoresde.estimation.edge_start import edge_kernels
from scoresde.estimation.free_kernel import framed
from scoresde.estimation.spectral_start import best_starts
from scoresde.estimation.unknown_kernel import first_kernels
from tests.conftest import seeded

SIGMA = 0.02


def rectangles(side: int, seed: int = 0) -> Tensor:
    """A picture of rectangles of all sizes and greys, (1, 3, side, side)."""
    g, x = seeded(seed), torch.zeros(1, 3, side, side)
    for _ in range(60):
        i, j, h, w = (int(v) for v in torch.randint(0, side * 2 // 3, (4,), generator=g))
        x[..., i : i + h, j : j + w] = 2 * torch.rand(3, 1, 1, generator=g) - 1
    return x


def corner() -> Tensor:
    """Two strokes that meet, (11, 11)."""
    kernel = torch.zeros(11, 11, dtype=torch.float64)
    kernel[2:9, 3] = kernel[2, 3:9] = 1
    return kernel / kernel.sum()


def error(found: Tensor, true: Tensor) -> float:
    """|k - k*| / |k*| at the best whole shift."""
    found, true = (torch.nn.functional.pad(k, [4] * 4) for k in (found, true))
    shifts = [(i, j) for i in range(-4, 5) for j in range(-4, 5)]
    return min(float((torch.roll(found, s, (0, 1)) - true).norm() / true.norm()) for s in shifts)


def test_a_path_that_turns_is_found_where_spectra_find_a_line() -> None:
    true, found, lines = corner(), [], []
    problem = InverseProblem(Blur(true, "reflect"), GaussianNoise(SIGMA))
    of_spectrum = first_kernels(11)
    for seed in range(6):
        y = problem.measure(rectangles(128, seed), seeded(seed))
        line = best_starts(y, SIGMA, of_spectrum, 1)[0].taps[0].double()
        lines.append(error(framed(line, 11), true))
        chosen = best_starts(y, SIGMA, [*of_spectrum, *edge_kernels(y, 11)], 1)[0]
        found.append(error(framed(chosen.taps[0].double(), 11), true))
    assert min(lines) > 0.7
    assert sorted(found)[4] < 0.6  # one in six is misled by the spectrum


@pytest.mark.parametrize("size", [3, 5, 15])
def test_kernels_are_kernels(size: int) -> None:
    """Nowhere negative and of sum 1, also where there is no edge at all."""
    for y in (torch.zeros(1, 1, 48, 48), torch.rand(1, 3, 48, 57, generator=seeded()) - 0.5):
        for one in edge_kernels(y, size):
            taps = one.taps[0]
            assert taps.shape == (size, size)
            assert float(taps.min()) >= 0 and float(taps.sum()) == pytest.approx(1)
