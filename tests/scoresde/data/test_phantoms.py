"""Random phantoms: areas of ellipses, resolution, ranges, and the priors that learned them."""

import math

import pytest
import torch
import torch.nn.functional as F

from problems import channels_of
from scoresde import load_prior
from scoresde.data.phantoms import _Scene, body_phantoms, filaments, head_phantoms
from scoresde.priors.checkpoint import benchmark_priors, embedded_priors
from tests.conftest import randn, seeded

DRAWN = {"head": head_phantoms, "body": body_phantoms, "cells": filaments}
UNITS = {"head": channels_of, "body": lambda x: x / 1000 + 0.5, "cells": lambda x: 2 * x - 1}
each = pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)


def test_an_ellipse_covers_its_area() -> None:
    scene = _Scene(3, 64, seeded(0), 0.0)
    a, b = torch.tensor([0.5, 0.3, 0.05]), torch.tensor([0.2, 0.3, 0.04])
    turn, centre = torch.tensor([0.4, 0.0, 1.0]), torch.tensor([0.1, -0.2, 0.31])
    covered = scene.inside(centre, -centre, a, b, turn)
    area = covered.sum((1, 2)) * scene.pixel**2
    # the smallest one is 3 pixels wide: the distance to its edge is known to first order alone
    assert torch.allclose(area[:2], math.pi * (a * b)[:2], rtol=2e-3)
    assert torch.allclose(area[2], math.pi * (a * b)[2], rtol=0.05)
    rows = torch.linspace(-1, 1, 129)[:-1].unflatten(0, (64, 2)).mean(1)
    middle = (covered * rows[:, None]).sum((1, 2)) / covered.sum((1, 2))
    assert torch.allclose(middle, -centre, atol=0.01)


def test_a_texture_has_variance_one() -> None:
    texture = _Scene(200, 16, seeded(0), 0.0).waves(5)
    # a pixel of a phantom: 12 cosines of random phase; its variance over phantoms is exactly 1
    assert float(texture.square().mean()) == pytest.approx(1, abs=0.05)


@each
def test_a_generator_gives_the_same_scenes_at_any_size(draw) -> None:
    fine, coarse = draw(4, 128, seeded(3)), draw(4, 64, seeded(3))
    assert torch.equal(coarse, draw(4, 64, seeded(3)))
    if fine.is_complex():
        fine, coarse = channels_of(fine), channels_of(coarse)
    # filaments are scaled by their brightest pixel, which is dimmer where pixels are large
    error = (F.avg_pool2d(fine, 2) - coarse).square().mean().sqrt()
    assert float(error) < 0.2 * float(coarse.std())
    assert not torch.equal(draw(4, 64, seeded(4)), draw(4, 64, seeded(3)))


def test_ranges() -> None:
    heads, bodies = head_phantoms(40, generator=seeded(0)), body_phantoms(40, generator=seeded(0))
    assert heads.shape == bodies.shape == (40, 1, 64, 64)
    assert heads.dtype == torch.complex64
    assert float(heads.abs().amax((1, 2, 3)).min()) > 0.5
    assert float(heads.abs().max()) < 1.5
    # air around the trunk, soft tissue in most of the rest, bone in every slice
    assert bool((bodies[..., 0, 0] == -1000).all())
    assert bool((bodies.amax((1, 2, 3)) > 250).all())
    assert float(bodies.max()) < 1100
    # a trunk covers at least 29 % of the slice, and lungs at most 47 % of it
    soft = ((bodies > -150) & (bodies < 350)).float().mean((1, 2, 3))
    assert bool((soft > 0.12).all())
    cells = filaments(40, generator=seeded(0))
    assert bool((cells.amax((1, 2, 3)) == 1).all())
    assert float(cells.min()) >= 0


@each
def test_bad_sizes_are_refused(draw) -> None:
    for n, side in ((0, 64), (1.5, 64), (1, 0)):
        with pytest.raises(ValueError, match="phantom"):
            draw(n, side)


class TestPriors:
    def test_they_are_apart_from_the_priors_of_pictures(self) -> None:
        shipped = {name for name in benchmark_priors() if name.startswith("phantoms/")}
        assert shipped == {f"phantoms/{name}" for name in DRAWN}
        assert not shipped & set(embedded_priors())

    @pytest.mark.parametrize("name", DRAWN)
    def test_each_ships_with_a_card(self, name: str) -> None:
        path = benchmark_priors()[f"phantoms/{name}"]
        assert path.stat().st_size < 1_500_000
        card = path.with_suffix(".md").read_text()
        for word in ("seed 0", f"train_phantoms.py --kind {name}", "no use for"):
            assert word in " ".join(card.split())

    @pytest.mark.slow
    @pytest.mark.parametrize("name", DRAWN)
    def test_the_denoiser_is_better_than_a_linear_one(self, name: str) -> None:
        """At small noise. At large noise that of heads is not, as its card says."""
        prior = load_prior(f"phantoms/{name}", precision="fp32")
        x = UNITS[name](DRAWN[name](520, 64, seeded(9)))
        assert prior.sigma_data == pytest.approx(float(x.square().mean().sqrt()), rel=0.05)
        test, rest = x[:8], x[8:].flatten(1).double()
        mean = rest.mean(0)
        values, U = torch.linalg.eigh((rest - mean) @ (rest - mean).T / len(rest))
        basis = (rest - mean).T @ U / (values.clamp_min(1e-9) * len(rest)).sqrt()
        for s in (0.03, 0.1):
            noisy = test + s * randn(*test.shape, seed=10).float()
            off = (noisy.flatten(1) - mean) @ basis
            linear = mean + (off * values / (values + s**2)) @ basis.T
            least = float((linear - test.flatten(1)).square().mean())
            assert float((prior.denoise(noisy, s) - test).square().mean()) < least
