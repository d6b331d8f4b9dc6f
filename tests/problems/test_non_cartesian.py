"""MRI along any curves: against the direct sum, the FFT, FINUFFT and sigpy."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import (
    MRI,
    GaussianNoise,
    InverseProblem,
    NonCartesianMRI,
    birdcage_maps,
    problem_from,
    radial_trajectory,
)
from tests.conftest import F64, randn, seeded

SIZES = [(9,), (8, 11), (4, 5, 6)]


def points(size: tuple[int, ...], number: int = 12) -> Tensor:
    unit = torch.rand(number, len(size), generator=seeded(3), dtype=F64) - 0.5
    return unit * torch.tensor(size)


def direct(z: Tensor, k: Tensor) -> Tensor:
    """The sum of the definition, sample by sample, for one image."""
    axes = [torch.arange(n, dtype=F64) - n // 2 for n in z.shape]
    grid = torch.meshgrid(*axes, indexing="ij")
    found = []
    for point in k:
        turn = sum(kk * q / n for kk, q, n in zip(point, grid, z.shape, strict=True))
        found.append((z * torch.exp(-2j * math.pi * turn)).sum() / math.sqrt(z.numel()))
    return torch.stack(found)


@pytest.fixture(params=["sums", "nufft"])
def method(request: pytest.FixtureRequest) -> str:
    if request.param == "nufft":
        pytest.importorskip("finufft", reason='finufft is missing: pip install "scoresde[nufft]"')
    return str(request.param)


@pytest.mark.parametrize("size", SIZES, ids=len)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_is_the_direct_sum(size: tuple[int, ...], dtype: torch.dtype, method: str) -> None:
    k, x = points(size), randn(1, 2, *size).to(dtype)
    operator = NonCartesianMRI(k, size, complex_image=True, method=method)  # type: ignore[arg-type]
    y = operator.apply(x)
    right = direct(torch.complex(x[0, 0], x[0, 1]).to(torch.complex128), k)
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    found = torch.complex(y[0, 0], y[0, 1])
    assert float((found - right).abs().max() / right.abs().max()) < tolerance


@pytest.mark.parametrize("size", SIZES, ids=len)
def test_the_adjoint_is_exact(size: tuple[int, ...], method: str) -> None:
    """<A x, y> = <x, A^T y>, and the derivative of apply is the adjoint."""
    maps = torch.complex(randn(3, *size, seed=4), randn(3, *size, seed=5))
    operator = NonCartesianMRI(points(size), size, maps, True, method)  # type: ignore[arg-type]
    x, y = randn(2, 4, *size).requires_grad_(), randn(2, 12, 12, seed=6)
    product = (operator.apply(x) * y).sum()
    back = operator.adjoint(y)
    torch.testing.assert_close(product, (x * back).sum(), rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(torch.autograd.grad(product, x)[0], back, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("size", [(8, 8), (7, 10)])
def test_points_on_the_grid_are_the_fft(size: tuple[int, int], method: str) -> None:
    height, width = size
    rows, columns = (torch.arange(n, dtype=F64) - n // 2 for n in size)
    k = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
    maps, x = birdcage_maps(2, height, width), randn(2, 1, *size)
    operator = NonCartesianMRI(k, size, maps, method=method)  # type: ignore[arg-type]
    torch.testing.assert_close(operator.apply(x), MRI(torch.ones(size), maps).apply(x))
    torch.testing.assert_close(operator.density, torch.ones(size, dtype=F64))


@pytest.mark.slow
def test_the_convention_is_that_of_sigpy() -> None:
    import sigpy

    k, x = radial_trajectory(7, 32), randn(1, 2, 32, 32)
    y = NonCartesianMRI(k, (32, 32), complex_image=True).apply(x)
    image = torch.complex(x[0, 0], x[0, 1]).numpy()
    right = sigpy.nufft(image, k.numpy(), oversamp=2, width=8)
    found = torch.complex(y[0, 0], y[0, 1]).numpy()
    assert abs(found - right).max() / abs(right).max() < 1e-4  # the accuracy of sigpy


@pytest.mark.slow
def test_many_samples_in_parts(method: str) -> None:
    """More than fit at once, and the choice of a method by their number."""
    size = (96, 96)
    k, x = points(size, 90_000), randn(1, 1, *size)
    chosen = NonCartesianMRI(k, size, method=method)  # type: ignore[arg-type]
    y = chosen.apply(x)
    right = direct(x[0, 0].to(torch.complex128), k[-3:])
    torch.testing.assert_close(torch.complex(y[0, 0], y[0, 1])[-3:], right, rtol=1e-9, atol=1e-9)
    back = chosen.adjoint(y)
    torch.testing.assert_close((y * y).sum(), (x * back).sum(), rtol=1e-10, atol=0)
    other = NonCartesianMRI(k, size).apply(x)
    torch.testing.assert_close(y, other, rtol=1e-9, atol=1e-9)


def test_the_start_has_the_size_of_the_image() -> None:
    """Of a full radial scan it is as near to the image as with the weights that theory gives.

    They are the radius: a ring of samples stands for an area that grows with it.
    """
    size = (32, 32)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]  # type: ignore[misc]
    image = torch.from_numpy(np.exp(-8 * (x**2 + 0.5 * y**2)))[None, None]
    operator = NonCartesianMRI(radial_trajectory(80, 32), size, birdcage_maps(3, *size))
    seen = operator.apply(image)

    def error(weights: Tensor | float) -> float:
        x = operator.adjoint(seen * weights)
        x = x * (x * image).sum() / x.square().sum()
        return float((x - image).norm() / image.norm())

    radius = operator.trajectory.norm(dim=-1)
    ramp = error(radius.clamp_min(0.25))
    assert ramp < 0.05 < 0.4 < error(1.0)
    found = float((operator.gridded(seen) - image).norm() / image.norm())
    assert found < 1.1 * ramp
    ring = operator.density[(radius - 8).abs() < 0.1].mean()
    far = operator.density[(radius - 12).abs() < 0.1].mean()
    assert float(far / ring) == pytest.approx(12 / 8, rel=0.1)
    assert operator.preview(seen).shape == (1, 1, 32, 32)


def test_a_description_gives_the_same_operator() -> None:
    maps = birdcage_maps(2, 8, 8)
    operator = NonCartesianMRI(radial_trajectory(3, 8), (8, 8), maps, True)
    text = json.dumps(InverseProblem(operator, GaussianNoise(0.1)).describe())
    again, x = problem_from(json.loads(text)).operator, randn(1, 2, 8, 8)
    assert torch.equal(again.apply(x), operator.apply(x))


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    k = points((8, 8))
    for settings, message in (
        ({"trajectory": k[:, :1]}, r"of shape \(\.\.\., 2\), got torch.float64 \(12, 1\)"),
        ({"trajectory": 2 * math.pi * k}, "in cycles per field of view, at most"),
        ({"trajectory": k * torch.nan}, "real, finite"),
        ({"size": (8, 8, 8, 8)}, "one to three sides"),
        ({"sensitivities": birdcage_maps(2, 8, 9)}, r"\(coils, 8, 8\), got torch.complex128"),
        ({"method": "fast"}, "unknown method 'fast'"),
    ):
        with pytest.raises(ValueError, match=message):
            NonCartesianMRI(**({"trajectory": k, "size": (8, 8)} | settings))  # type: ignore[arg-type]
    operator = NonCartesianMRI(k, (8, 8))
    with pytest.raises(ValueError, match=r"the axes \(12,\) of the trajectory"):
        operator.adjoint(torch.zeros(1, 2, 11))
    with pytest.raises(ValueError, match="must have the size"):
        operator.apply(torch.zeros(1, 1, 8, 9))
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(ValueError, match=r'pip install "scoresde\[nufft\]"'):
        NonCartesianMRI(k, (8, 8), method="nufft")
