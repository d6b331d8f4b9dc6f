"""Large pictures: files in the place of memory change no result, and the memory has a law."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import problems.storage
from problems import Denoising, GaussianBlur, GaussianNoise, InverseProblem
from problems.linalg import solve
from scoresde import EDMSDE, TiledPrior, load_prior
from scoresde.defaults import TILE_OVERLAP
from scoresde.evaluation.conformal import interval
from scoresde.evaluation.residual import check_residual, windows
from scoresde.evaluation.residual.windows import Windows
from scoresde.pipelines import intervals, plan
from scoresde.pipelines.cost import Shrinkage, memory_bytes
from scoresde.pipelines.intervals import Intervals
from scoresde.pipelines.posterior_file import read_posterior, write_posterior
from scoresde.pipelines.settings import RestoreOptions
from solvers import Posterior
from solvers.posterior import base
from tests.conftest import randn, seeded

SHAPE = (3, 24, 40)
PRIOR = Shrinkage(EDMSDE(), SHAPE)
PROBLEM = InverseProblem(GaussianBlur(1.0), GaussianNoise(0.1))


def measurement() -> Tensor:
    return PROBLEM.measure(0.5 * randn(1, *SHAPE), seeded(1))


@pytest.fixture
def files_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even small draws and vectors are kept in files, and statistics are made in pieces."""
    monkeypatch.setattr(plan, "LARGE_VECTOR", 1)
    monkeypatch.setattr(base, "_PIECE", 1000)
    monkeypatch.setattr(problems.storage.VectorList.__init__, "__defaults__", (1,))


@pytest.mark.parametrize("solver", ["warm-start", "mmps", "hqs"])
def test_draws_in_files_are_the_same(solver: str, request: pytest.FixtureRequest) -> None:
    options = RestoreOptions(solver=solver, steps=2, samples=2 if solver != "hqs" else 1, tile=32)

    def found() -> Posterior:
        return plan.restore_tensor(PRIOR, PROBLEM, measurement(), options)

    expected = found()
    request.getfixturevalue("files_for_all")
    ours = found()
    assert ours.draws.untyped_storage().data_ptr() in problems.storage._mapped
    assert torch.equal(ours.draws, expected.draws)
    assert torch.equal(ours.mean, expected.mean)
    torch.testing.assert_close(ours.std, expected.std, equal_nan=True, rtol=1e-6, atol=1e-7)
    for a, b in zip(ours.interval(0.8), expected.interval(0.8), strict=True):
        assert torch.equal(a, b)


def test_statistics_in_pieces_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = randn(5, 1, 3, 20, 31)
    monkeypatch.setattr(base, "_PIECE", 64)
    posterior = Posterior(draws, 1, 0, 0.0)
    torch.testing.assert_close(posterior.mean, draws.mean(0))
    torch.testing.assert_close(posterior.std, draws.std(0))
    lower, upper = posterior.interval(0.6)
    q = torch.tensor([0.2, 0.8], dtype=draws.dtype)
    assert torch.equal(torch.stack([lower, upper]), draws.quantile(q, 0))


def test_a_place_for_the_draws_must_fit() -> None:
    solver = plan.make_solver("warm-start", 1, None)
    with pytest.raises(ValueError, match=r"out has the shape \(2, 3\)"):
        solver.sample(PRIOR, PROBLEM, measurement(), 2, out=torch.zeros(2, 3))


def test_intervals_in_blocks_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = Posterior(randn(4, 1, *SHAPE), 1, 0, 0.0)
    truth = randn(1, *SHAPE, seed=3)
    whole = Intervals(0.8, None)
    expected, report = interval(posterior, 0.8), whole.report(posterior, truth)
    rows = intervals.row_blocks
    monkeypatch.setattr(intervals, "row_blocks", lambda shape: rows(shape, entries=1000))
    for ours, exact in zip(whole.ends(posterior), expected, strict=True):
        torch.testing.assert_close(ours.double(), exact.double(), rtol=1e-6, atol=1e-6)
    assert whole.report(posterior, truth) == pytest.approx(report)


def test_posterior_files_are_read_in_part(tmp_path: Path) -> None:
    path, posterior = tmp_path / "posterior.npz", Posterior(randn(3, 1, *SHAPE), 1, 0, 0.0)
    ends = posterior.interval(0.9)
    write_posterior(path, posterior, ends, {"black": 0.0, "white": 255.0})
    whole, header = read_posterior(path)
    lazily, same = read_posterior(path, lazily=True)
    assert header == same and whole.keys() == lazily.keys()
    for name, values in whole.items():
        assert isinstance(lazily[name], np.memmap)
        assert np.array_equal(lazily[name], values)
    assert np.array_equal(np.load(path)["draws"], posterior.draws[:, 0].float().numpy())
    with pytest.raises(ValueError, match="lazily"):
        read_posterior(path, "file", lazily=True)


@pytest.mark.slow
def test_windows_tell_what_the_whole_picture_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of the exact posterior of white pictures, and too small a noise."""
    g = seeded(4)
    truth = 0.5 * torch.randn(1, 1, 256, 320, generator=g).float()
    right = InverseProblem(Denoising(), GaussianNoise(0.2))
    y = right.measure(truth, g)
    std = (0.25 * 0.04 / 0.29) ** 0.5
    draws = y * 0.25 / 0.29 + std * torch.randn(6, 1, 1, 256, 320, generator=g)
    wrong = InverseProblem(Denoising(), GaussianNoise(0.1))
    whole = [check_residual(p, y, draws, exact=True) for p in (right, wrong)]
    monkeypatch.setattr(windows, "LARGE", 1000)
    monkeypatch.setattr(windows, "ENTRIES", 1 << 14)
    part = [check_residual(p, y, draws, exact=True) for p in (right, wrong)]
    for ours, expected in zip(part, whole, strict=True):
        assert ours.entries == Windows.of(y)(y).numel() < 1 << 15
        assert ours.ratio == pytest.approx(expected.ratio, abs=5 * ours.scatter * expected.ratio)
        assert bool(ours.findings) == bool(expected.findings)


def test_a_lost_value_outside_of_the_windows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "LARGE", 100)
    monkeypatch.setattr(windows, "ENTRIES", 256)
    problem, y = InverseProblem(Denoising(), GaussianNoise(0.2)), 0.2 * randn(1, 1, 48, 48)
    draws = y + 0.2 * randn(5, 1, 1, 48, 48, seed=1)
    index = Windows.of(y)
    assert index.rows is not None
    row = next(i for i in range(48) if i not in index.rows.tolist())
    draws[2, 0, 0, row, 0] = torch.nan
    assert np.isinf(check_residual(problem, y, draws).distances[2])


def test_products_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = randn(2, 3, 50), randn(2, 3, 50, seed=1)
    expected = solve.dot(a, b)
    monkeypatch.setattr(solve, "_LARGE", 1)
    monkeypatch.setattr(solve, "_PIECE", 7)
    torch.testing.assert_close(solve.dot(a, b), expected)


def test_the_memory_of_large_pictures() -> None:
    """24 megapixels in less than 6 GB whatever the draws, and linear in the pixels."""
    assert memory_bytes((4000, 6000), 3, 8) < 6e9
    assert memory_bytes((4000, 6000), 3, 16) == memory_bytes((4000, 6000), 3, 8)
    a, b, c = (memory_bytes((1000 * k, 4000), 3, 8) for k in (4, 6, 8))
    assert c - b == pytest.approx(b - a)


@pytest.mark.slow
def test_the_overlap_is_wider_than_what_an_edge_disturbs() -> None:
    """Beyond the overlap next to nothing is left, and tiles make no seams: 0.001 at noise 0.3."""
    from skimage import data

    prior, s = load_prior("natural").precise(), 0.3
    x = torch.from_numpy(data.chelsea()[:96, :256].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    x_t = x + s * randn(*x.shape).to(x)
    with torch.no_grad():
        error = prior.denoise(x_t[..., :160], s) - prior.denoise(x_t, s)[..., :160]
    rms = error.square().mean((0, 1, 2)).sqrt().flip(0)  # by the distance from the edge
    assert rms[TILE_OVERLAP:].max() < rms[:2].mean() / 100
    with torch.no_grad():
        seams = TiledPrior(prior, 160, TILE_OVERLAP).denoise(x_t, s) - prior.denoise(x_t, s)
    assert 0 < float(seams.square().mean().sqrt()) < 1e-3
