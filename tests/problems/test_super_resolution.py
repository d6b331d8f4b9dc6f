"""Down-sampling against MATLAB's imresize, rewritten here from its definition, and torch."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from problems import SuperResolution
from problems.operators.super_resolution import FILTERS, Filter, resize_matrix
from tests.conftest import randn


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def triangle(x: float) -> float:
    return 1 - abs(x) if abs(x) <= 1 else 0.0


def lanczos3(x: float) -> float:
    if abs(x) >= 3:
        return 0.0
    return (
        1.0
        if x == 0
        else math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi**2 * x**2 / 3)
    )


MATLAB: dict[Filter, tuple[Callable[[float], float], float]] = {
    "bicubic": (cubic, 4.0),
    "bilinear": (triangle, 2.0),
    "lanczos3": (lanczos3, 6.0),
}


def imresize_matrix(
    size: int, out: int, scale: float, kernel: Callable[[float], float], width: float
) -> np.ndarray:
    """``contributions`` of MATLAB's imresize.m with antialiasing, for scale < 1.

    Weights and mirrored positions of each output, one at a time.
    """
    width /= scale
    mirror = [*range(1, size + 1), *range(size, 0, -1)]
    matrix = np.zeros((out, size))
    for i in range(1, out + 1):
        u = i / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        places = [left + j for j in range(math.ceil(width) + 2)]
        weights = [scale * kernel(scale * (u - place)) for place in places]
        for place, weight in zip(places, weights, strict=True):
            matrix[i - 1, mirror[(place - 1) % len(mirror)] - 1] += weight / sum(weights)
    return matrix


class TestImresize:
    @pytest.mark.parametrize("kind", MATLAB)
    @pytest.mark.parametrize("factor", [1.25, 1.5, 2, 2.5, 3, 3.3, 4, 8])
    def test_agrees_with_the_definition(self, kind: Filter, factor: float) -> None:
        x = randn(1, 2, 24, 19)
        y = SuperResolution(factor, kind).apply(x)
        sizes = [math.ceil(n / factor - 1e-9) for n in (24, 19)]
        rows, columns = (
            imresize_matrix(n, out, 1 / factor, *MATLAB[kind])
            for n, out in zip((24, 19), sizes, strict=True)
        )
        assert list(y.shape[-2:]) == sizes
        np.testing.assert_allclose(y, rows @ x.numpy() @ columns.T, atol=1e-12)

    @pytest.mark.parametrize("kind", MATLAB)
    @pytest.mark.parametrize("size", [1, 2, 3, 5])
    def test_images_smaller_than_the_filter(self, kind: Filter, size: int) -> None:
        """The index is mirrored several times."""
        out = math.ceil(size / 4)
        np.testing.assert_allclose(
            resize_matrix(size, out, kind, 4.0),
            imresize_matrix(size, out, 0.25, *MATLAB[kind]),
            atol=1e-12,
        )

    def test_bicubic_weights_by_half(self) -> None:
        """Every tap is at an odd multiple of a quarter.

        There the cubic has the values -3, -9, 29 and 111 / 128, which sum to 1 / 2.
        """
        expected = [
            -0.01171875,
            -0.03515625,
            0.11328125,
            0.43359375,
            0.43359375,
            0.11328125,
            -0.03515625,
            -0.01171875,
        ]
        matrix = resize_matrix(16, 8, "bicubic", 2.0)
        np.testing.assert_allclose(matrix[3, 3:11], expected, atol=1e-15)
        assert float(matrix[3].abs().sum()) == pytest.approx(np.abs(expected).sum(), abs=1e-15)

    def test_bilinear_weights_by_half(self) -> None:
        """The triangle at 1/4 and 3/4."""
        np.testing.assert_allclose(
            resize_matrix(8, 4, "bilinear", 2.0)[1],
            np.array([0, 1, 3, 3, 1, 0, 0, 0]) / 8,
            atol=1e-15,
        )

    def test_bilinear_weights_by_a_third(self) -> None:
        """The triangle at 0, 1/3 and 2/3."""
        np.testing.assert_allclose(
            resize_matrix(9, 3, "bilinear", 3.0)[1],
            np.array([0, 0, 1, 2, 3, 2, 1, 0, 0]) / 9,
            atol=1e-15,
        )

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("bicubic", [1.44921875, 3.48828125, 5.51171875, 7.55078125]),
            ("bilinear", [1.625, 3.5, 5.5, 7.375]),
            ("average", [1.5, 3.5, 5.5, 7.5]),
        ],
    )
    def test_imresize_of_one_to_eight(self, kind: Filter, expected: list[float]) -> None:
        """imresize(1:8, 0.5, kind) by hand.

        Symmetric weights preserve a ramp, 2 i - 1/2. Mirrored taps add the difference to the ramp.
        """
        ramp = torch.arange(1.0, 9.0, dtype=torch.float64).reshape(1, 1, 1, 8)
        np.testing.assert_allclose(
            SuperResolution(2, kind).apply(ramp)[0, 0, 0], expected, atol=1e-14
        )


class TestOtherDefinitions:
    @pytest.mark.parametrize("factor", [2, 3, 4])
    @pytest.mark.parametrize("kind", ["bicubic", "bilinear"])
    def test_agrees_with_torch_inside(self, factor: int, kind: Filter) -> None:
        """Two rows from the border every tap lies inside the image.

        Closer to it torch drops the outer taps, and we mirror.
        """
        x = randn(1, 2, 48, 36)
        y = SuperResolution(factor, kind).apply(x)
        expected = F.interpolate(x, size=y.shape[-2:], mode=kind, antialias=True)
        torch.testing.assert_close(
            y[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-13, rtol=0
        )

    @pytest.mark.parametrize("factor", [2, 3, 2.5])
    @pytest.mark.parametrize("kind", FILTERS)
    def test_the_border_is_mirrored(self, factor: float, kind: Filter) -> None:
        """Down-sampling a mirrored image mirrors the result: both borders are treated alike."""
        size = 30
        x = randn(1, 1, size, size)
        there = SuperResolution(factor, kind).apply(x)
        twice = torch.cat([x, x.flip(-1)], -1)
        torch.testing.assert_close(
            SuperResolution(factor, kind).apply(twice)[..., : there.shape[-1]],
            there,
            atol=1e-13,
            rtol=0,
        )

    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_average_agrees_with_pooling(self, factor: int) -> None:
        x = randn(2, 3, 24, 12)
        torch.testing.assert_close(
            SuperResolution(factor, "average").apply(x), F.avg_pool2d(x, factor), atol=1e-14, rtol=0
        )

    def test_average_over_fractions_of_pixels(self) -> None:
        """Five pixels by a factor of 2.5: half of the third goes to each output."""
        matrix = resize_matrix(5, 2, "average", 2.5)
        expected = torch.tensor([[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]], dtype=torch.float64) / 2.5
        torch.testing.assert_close(matrix, expected, atol=1e-15, rtol=0)


class TestSizes:
    @pytest.mark.parametrize("kind", FILTERS)
    @pytest.mark.parametrize("factor", [1.5, 2, 2.5, 3, 4, 7])
    @pytest.mark.parametrize("size", [1, 2, 5, 16, 31])
    def test_rows_sum_to_one(self, kind: Filter, factor: float, size: int) -> None:
        out = SuperResolution(factor).output_shape((1, size, size))[-1]
        assert out == -(-size // factor)
        sums = resize_matrix(size, out, kind, float(factor)).sum(1)
        torch.testing.assert_close(sums, torch.ones(out, dtype=torch.float64), atol=1e-14, rtol=0)

    @pytest.mark.parametrize("factor", [1.5, 2, 2.5, 3, 3.3])
    @pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7])
    def test_a_size_can_always_be_guessed(self, factor: float, rows: int) -> None:
        """Without ``shape`` the operator finds an image size for any number of rows.

        That image shrinks to the measurement.
        """
        operator = SuperResolution(factor)
        shape = operator.input_shape((1, rows, rows))
        assert operator.output_shape(shape) == (1, rows, rows)
        assert shape[-1] == pytest.approx(rows * factor, abs=1)

    def test_a_size_that_is_given_is_kept(self) -> None:
        operator = SuperResolution(2.5, shape=(7, 9))
        assert operator.output_shape((3, 7, 9)) == (3, 3, 4)
        assert operator.input_shape((3, 3, 4)) == (3, 7, 9)
