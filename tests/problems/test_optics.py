"""Diffraction against closed forms, and blurs that vary over the field."""

import math

import numpy as np
import pytest
import scipy.special
import torch

from problems import Blur, DiffractionBlur, VaryingBlur, bilinear_weights, zernike
from problems.operators.convolution import BOUNDARIES, Boundary, example_kernel
from tests.conftest import F64, randn


def lens(**settings: object) -> DiffractionBlur:
    defaults: dict[str, object] = {"wavelength": 0.52, "aperture": 0.75, "pixel": 0.1}
    return DiffractionBlur(**(defaults | settings))  # type: ignore[arg-type]


class TestDiffraction:
    def test_airy(self) -> None:
        """(2 J1(v) / v)^2 with v = 2 pi NA r / wavelength; both rules converge to rounding."""
        x, y = torch.linspace(-3, 3, 41, dtype=F64), torch.linspace(0.01, 2, 11, dtype=F64)
        v = 2 * np.pi * 0.75 / 0.52 * np.hypot(x.numpy(), y.numpy()[:, None])
        expected = (2 * scipy.special.j1(v) / v) ** 2
        np.testing.assert_allclose(lens().intensity(x, y), expected, atol=1e-13)

    def test_first_dark_ring(self) -> None:
        blur = lens()
        assert blur.airy_radius == pytest.approx(0.6098 * 0.52 / 0.75, rel=1e-4)
        dark = blur.intensity(torch.tensor([blur.airy_radius], dtype=F64), torch.zeros(1))
        assert float(dark) < 1e-25

    @pytest.mark.parametrize("size", [11, 41, 161])
    def test_light_inside(self, size: int) -> None:
        """Between the light of the inner and of the outer circle, 1 - J0(v)^2 - J1(v)^2 (Rayleigh).

        All of it, as the square grows, is 1.
        """
        inside = float(lens(size=size).light.sum())

        def circle(radius: float) -> float:
            v = 2 * np.pi * 0.75 / 0.52 * radius
            return float(1 - scipy.special.j0(v) ** 2 - scipy.special.j1(v) ** 2)

        side = size * 0.1 / 2
        assert circle(side) < inside < circle(side * math.sqrt(2))
        if size == 161:
            assert inside > 0.99

    def test_kernel_sums_to_one_and_is_symmetric(self) -> None:
        kernel = lens().kernel
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
        for other in (kernel.T, kernel.flip(0), kernel.flip(1)):
            torch.testing.assert_close(kernel, other, atol=1e-15, rtol=0)

    def test_pixels_are_averages(self) -> None:
        """A pixel of three times the side holds the light of nine."""
        fine, coarse = lens(size=33).light, lens(size=11, pixel=0.3).light
        nine = fine.unflatten(0, (11, 3)).unflatten(-1, (11, 3)).sum((1, 3))
        torch.testing.assert_close(coarse, nine, atol=1e-10, rtol=0)

    @pytest.mark.parametrize("defocus", [50.0, 150.0, 400.0])
    def test_intensity_along_the_axis(self, defocus: float) -> None:
        """(sin(u/4) / (u/4))^2 with u = 2 pi NA^2 z / wavelength (Born and Wolf).

        It is paraxial: sqrt(1 - NA^2) differs from 1 - NA^2 / 2 by NA^4 / 8, which is a phase of
        2 pi z NA^4 / (8 wavelength) at the edge.
        """
        blur = DiffractionBlur(0.5, 0.05, 1.0, defocus=defocus)
        u = 2 * np.pi * 0.05**2 * defocus / 0.5
        phase = 2 * np.pi * defocus * 0.05**4 / 8 / 0.5
        found = float(blur.intensity(torch.zeros(1, dtype=F64), torch.zeros(1, dtype=F64)))
        assert abs(found - np.sinc(u / 4 / np.pi) ** 2) < 1.01 * phase

    def test_small_aberrations_lower_the_peak(self) -> None:
        """Marechal: the Strehl ratio is 1 - (2 pi rms)^2 to second order.

        The next order is at most (2 pi rms)^3 times the third moment, below 3 for these terms.
        """
        rms = 0.01
        for index in (4, 5, 7, 11):
            blur = lens(aberrations=((index, rms),), size=5)
            strehl = float(blur.intensity(torch.zeros(1), torch.zeros(1)))
            assert abs(strehl - (1 - (2 * np.pi * rms) ** 2)) < 3 * (2 * np.pi * rms) ** 3

    @pytest.mark.parametrize(("index", "axis"), [(2, 1), (3, 0)])
    def test_a_tilt_is_a_shift(self, index: int, axis: int) -> None:
        """A tilt of a waves has the slope 2 a; it moves the image by -2 a wavelength / NA.

        Here that is three pixels, to the left and down.
        """
        waves = 3 * 0.1 * 0.75 / 0.52 / 2
        moved = lens(size=31, aberrations=((index, waves),)).light
        shift = -3 if axis == 1 else 3
        still = lens(size=31).light.roll(shift, axis)
        inner = slice(4, -4)
        torch.testing.assert_close(moved[inner, inner], still[inner, inner], atol=1e-12, rtol=0)

    def test_zernike_polynomials_are_orthonormal(self) -> None:
        """Noll's polynomials on a rule that is exact for their products."""
        r, w = np.polynomial.legendre.leggauss(20)
        rho, weight = torch.from_numpy((r + 1) / 2), torch.from_numpy(w * (r + 1) / 2)
        theta = torch.arange(24, dtype=F64) * (2 * math.pi / 24)
        R, T = torch.meshgrid(rho, theta, indexing="ij")
        Z = torch.stack([zernike(j, R, T) for j in range(1, 29)])
        gram = torch.einsum("irt,jrt,r->ij", Z, Z, weight) / 24
        torch.testing.assert_close(gram, torch.eye(28, dtype=F64), atol=1e-12, rtol=0)

    @pytest.mark.parametrize(
        ("index", "formula"),
        [
            (1, lambda x, y: 1 + 0 * x),
            (2, lambda x, y: 2 * x),
            (3, lambda x, y: 2 * y),
            (4, lambda x, y: 3**0.5 * (2 * (x**2 + y**2) - 1)),
            (5, lambda x, y: 6**0.5 * 2 * x * y),
            (6, lambda x, y: 6**0.5 * (x**2 - y**2)),
            (7, lambda x, y: 8**0.5 * (3 * (x**2 + y**2) - 2) * y),
            (8, lambda x, y: 8**0.5 * (3 * (x**2 + y**2) - 2) * x),
            (9, lambda x, y: 8**0.5 * (3 * x**2 * y - y**3)),
            (10, lambda x, y: 8**0.5 * (x**3 - 3 * x * y**2)),
            (11, lambda x, y: 5**0.5 * (6 * (x**2 + y**2) ** 2 - 6 * (x**2 + y**2) + 1)),
        ],
    )
    def test_order_of_noll(self, index: int, formula: object) -> None:
        """Table 1 of Noll (1976), in Cartesian coordinates."""
        x, y = 0.5 * randn(20), 0.5 * randn(20, seed=1)
        found = zernike(index, torch.hypot(x, y), torch.atan2(y, x))
        torch.testing.assert_close(found, formula(x, y))  # type: ignore[operator]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"wavelength": 0.0}, "the wavelength must be positive"),
            ({"aperture": 1.0}, "the numerical aperture must be below 1"),
            ({"pixel": -1.0}, "the side of a pixel must be positive"),
            ({"size": 4}, "must be odd, got 4"),
            ({"aberrations": (4, 0.1)}, "pairs"),
            ({"aberrations": ((0, 0.1),)}, "a Zernike index must be a whole number"),
            ({"pixel": 1e-4}, "at most 4096"),
            ({"boundary": "magic"}, "unknown boundary"),
        ],
    )
    def test_errors(self, settings: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            lens(**settings)


class TestVaryingBlur:
    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_equal_kernels_are_an_ordinary_blur(self, boundary: Boundary) -> None:
        """By linearity, up to the rounding of sums of six parts."""
        kernel, x = example_kernel(3, 5), randn(2, 3, 12, 14)
        weights = bilinear_weights((2, 3), (12, 14))
        found = VaryingBlur(kernel.expand(6, 3, 5), weights, boundary).apply(x)
        torch.testing.assert_close(found, Blur(kernel, boundary).apply(x), atol=1e-13, rtol=0)

    def test_a_point_is_spread_by_the_interpolated_kernel(self) -> None:
        kernels = torch.stack([example_kernel(3, 3, 4)[i] for i in range(4)])
        weights = bilinear_weights((2, 2), (10, 12))
        blur = VaryingBlur(kernels, weights)
        for row, column in ((2, 3), (5, 6), (8, 9)):
            x = torch.zeros(1, 1, 10, 12, dtype=F64)
            x[..., row, column] = 1
            expected = torch.einsum("k,kij->ij", weights[:, row, column], kernels)
            found = blur.apply(x)[0, 0, row - 1 : row + 2, column - 1 : column + 2]
            torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)

    def test_light_is_kept(self) -> None:
        kernels = torch.rand(4, 3, 3, dtype=F64)
        kernels /= kernels.sum((1, 2), keepdim=True)
        x = torch.rand(1, 2, 8, 9, dtype=F64)
        y = VaryingBlur(kernels, bilinear_weights((2, 2), (8, 9))).apply(x)
        torch.testing.assert_close(y.sum((2, 3)), x.sum((2, 3)))

    @pytest.mark.parametrize("grid", [(1, 1), (2, 3), (4, 1), (9, 7)])
    def test_weights_are_a_partition_of_one(self, grid: tuple[int, int]) -> None:
        weights = bilinear_weights(grid, (9, 7))
        assert weights.shape == (grid[0] * grid[1], 9, 7) and bool((weights >= 0).all())
        torch.testing.assert_close(weights.sum(0), torch.ones(9, 7, dtype=F64))

    @pytest.mark.parametrize(
        ("kernels", "weights", "message"),
        [
            (torch.ones(3, 3), torch.ones(1, 8, 8), r"kernels \(K, h, w\)"),
            (torch.ones(2, 3, 3), torch.ones(1, 8, 8), r"need weights \(2, H, W\)"),
            (torch.ones(2, 3, 3), torch.ones(2, 8, 8), "sum to 1 at every pixel, they miss it by"),
            (torch.ones(1, 3, 3), -torch.ones(1, 8, 8), "at least 0"),
            (torch.ones(1, 9, 3), torch.ones(1, 8, 8), "too large"),
            (torch.zeros(1, 3, 3), torch.ones(1, 8, 8), "not all zero"),
        ],
    )
    def test_errors(self, kernels: torch.Tensor, weights: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            VaryingBlur(kernels, weights)
