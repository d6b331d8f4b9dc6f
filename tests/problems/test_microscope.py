"""The model of Gibson and Lanni: what it reduces to, and against adaptive quadrature."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch

from problems import (
    DiffractionBlur,
    GaussianNoise,
    InverseProblem,
    MicroscopeBlur,
    problem_from,
)
from tests.conftest import F64, randn

OIL: dict[str, Any] = {"wavelength": 0.52, "aperture": 1.2, "pixel": 0.1, "index": 1.515}


def by_quadrature(blur: MicroscopeBlur, r: float) -> float:
    """Intensity at the distance r: the Hankel integral over the radius of the pupil."""
    layers = (
        (blur.working_distance + blur.defocus, blur.index),
        (-blur.working_distance, blur.design_index or blur.index),
        (blur.depth, blur.sample_index),
        (blur.cover, blur.cover_index),
        (-blur.design_cover, blur.design_cover_index),
    )

    def field(rho: float, part: Any) -> float:
        path = sum(t * (math.sqrt(n**2 - (blur.aperture * rho) ** 2) - n) for t, n in layers)
        bessel = scipy.special.j0(2 * math.pi * blur.aperture * r * rho / blur.wavelength)
        return float(2 * rho * bessel * part(2 * math.pi * path / blur.wavelength))

    parts = [scipy.integrate.quad(field, 0, 1, (f,), limit=500)[0] for f in (math.cos, math.sin)]
    return parts[0] ** 2 + parts[1] ** 2


def intensity(blur: DiffractionBlur, radii: list[float]) -> np.ndarray:
    values: np.ndarray = blur.intensity(torch.tensor(radii, dtype=F64), torch.zeros(1)).numpy()[0]
    return values


def test_in_focus_it_is_the_pattern_of_airy() -> None:
    radii = [0.05, 0.1, 0.2, 0.35, 0.5]
    v = 2 * np.pi * 1.2 * np.array(radii) / 0.52
    expected = (2 * scipy.special.j1(v) / v) ** 2
    np.testing.assert_allclose(intensity(MicroscopeBlur(**OIL), radii), expected, atol=1e-13)


@pytest.mark.slow
def test_as_designed_it_is_a_defocus() -> None:
    for z in (0.0, 1.0, -2.0):
        found = MicroscopeBlur(**OIL, defocus=z, aberrations=((7, 0.1),), size=31)
        right = DiffractionBlur(**OIL, defocus=z, aberrations=((7, 0.1),), size=31)
        torch.testing.assert_close(found.kernel, right.kernel, rtol=1e-10, atol=1e-14)
    assert MicroscopeBlur(**OIL, defocus=1.0)._side == DiffractionBlur(**OIL, defocus=1.0)._side


def test_layers_of_one_index_add_up() -> None:
    """Without a jump of the index, depth and glass are defocus and nothing else."""
    deep = MicroscopeBlur(**OIL, depth=3.0, sample_index=1.515, defocus=-1.0, size=41)
    right = DiffractionBlur(**OIL, defocus=2.0, size=41)
    torch.testing.assert_close(deep.kernel, right.kernel, rtol=1e-9, atol=1e-13)
    assert deep.focus == pytest.approx(-3.0)
    thick = MicroscopeBlur(**OIL, cover=172.0, cover_index=1.515, design_cover_index=1.515, size=41)
    torch.testing.assert_close(thick.kernel, right.kernel, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 10.0, "defocus": -11.4},
        {"depth": 5.0, "sample_index": 1.4, "defocus": 1.0},
        {"cover": 190.0, "defocus": -20.0},
        {"design_index": 1.52, "defocus": -0.5},
    ],
    ids=lambda one: next(iter(one)),
)
def test_it_is_the_integral(settings: dict[str, float]) -> None:
    blur = MicroscopeBlur(**OIL, **settings)
    radii = [0.0, 0.13, 0.4, 1.0]
    expected = [by_quadrature(blur, r) for r in radii]
    np.testing.assert_allclose(intensity(blur, radii), expected, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("defocus", [-23.0, -20.0])
def test_light_is_conserved(defocus: float) -> None:
    """Aberrations move light and lose none: the kernel holds all but the rings far outside.

    Of a sharp disk of rays the light beyond the radius R is at most 2 / (pi v) as for Airy's
    pattern, with v = 2 pi NA (R - ray error) / wavelength.
    """
    low = OIL | {"aperture": 0.7, "pixel": 0.3}
    blur = MicroscopeBlur(**low, depth=20.0, defocus=defocus)
    radius = blur._side / 2 * blur.pixel
    v = 2 * math.pi * blur.aperture * (radius - blur._ray_error) / blur.wavelength
    inside = float(blur.light.sum())
    assert 1 - 2 / (math.pi * v) < inside < 1 + 1e-12
    wider = replace(blur, size=2 * int(blur._side) + 1)
    assert inside < float(wider.light.sum()) < 1 + 1e-12
    assert float(blur.kernel.sum()) == pytest.approx(1, abs=1e-12)


def test_the_paraxial_focus() -> None:
    """At a low aperture it is sharp there: what is left is of the fourth order in NA."""
    low = OIL | {"aperture": 0.2}
    blur = MicroscopeBlur(**low, depth=10.0, cover=180.0, design_index=1.518)
    assert abs(blur.focus) > 10
    assert replace(blur, defocus=7.0).focus == pytest.approx(blur.focus)
    sharp, away = replace(blur, defocus=blur.focus), replace(blur, defocus=blur.focus + 10)
    assert intensity(sharp, [0.0])[0] > 0.9999 > 0.9 > intensity(away, [0.0])[0]


def test_a_description_gives_the_same_operator() -> None:
    blur = MicroscopeBlur(**OIL, depth=4.0, size=9, boundary="reflect")
    text = json.dumps(InverseProblem(blur, GaussianNoise(0.1)).describe())
    again, x = problem_from(json.loads(text)).operator, randn(1, 1, 12, 12)
    assert isinstance(again, MicroscopeBlur) and again.depth == 4.0
    assert torch.equal(again.apply(x), blur.apply(x))


def test_refusals() -> None:
    for settings, message in (
        ({"aperture": 1.4}, "1.4 must be below the refractive index of the specimen, 1.33"),
        ({"depth": -1.0}, "the depth must be at least 0"),
        ({"cover_index": 1.1}, "of the cover glass, 1.1: rays beyond it do not pass"),
        ({"cover": math.nan}, "the thickness of the cover glass"),
        ({"depth": 1e5}, "has a kernel of .* pixels a side"),
    ):
        with pytest.raises(ValueError, match=message):
            MicroscopeBlur(**(OIL | settings))
