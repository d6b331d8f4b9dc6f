"""Operators of cameras, scanners and converters against numpy, scipy, scikit-image and Pillow."""

import io
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from PIL import Image
from skimage import data
from skimage.transform import radon
from torch import Tensor

from problems import (
    JPEG,
    MRI,
    Clipping,
    CompressedSensing,
    Demosaicing,
    Denoising,
    Gamma,
    Grayscale,
    Inpainting,
    LinearMatrix,
    PhaseRetrieval,
    Quantisation,
    Tomography,
    angles_between,
    birdcage_maps,
    box_mask,
    cartesian_mask,
    random_mask,
)
from problems.operators.colour import Pattern
from problems.operators.compressed_sensing import Transform
from tests.conftest import randn, seeded


class TestMasks:
    def test_box(self) -> None:
        mask = box_mask(5, 6, 1, 2, 3, 4)
        hole = torch.zeros(5, 6, dtype=torch.bool)
        hole[1:4, 2:6] = True
        assert torch.equal(mask, ~hole)

    @pytest.mark.parametrize("missing", [0.0, 0.3, 0.5, 0.98])
    def test_random_mask_has_the_exact_number_of_holes(self, missing: float) -> None:
        mask = random_mask(10, 20, missing, seeded())
        assert mask.shape == (10, 20) and int((~mask).sum()) == round(missing * 200)
        assert torch.equal(mask, random_mask(10, 20, missing, seeded()))

    def test_random_mask_is_uniform(self) -> None:
        """Each pixel is a hole in half of 400 masks.

        The count is binomial; the worst of 64 pixels may be 5 standard errors off.
        """
        generator = seeded()
        rate = torch.stack([random_mask(8, 8, 0.5, generator) for _ in range(400)]).double().mean(0)
        assert float((rate - 0.5).abs().max()) < 5 * (0.25 / 400) ** 0.5

    def test_mask_of_zeros_and_ones_is_a_mask(self) -> None:
        operator = Inpainting(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        assert torch.equal(
            operator.apply(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])),
            torch.tensor([[[[1.0, 0.0], [0.0, 4.0]]]]),
        )

    def test_nan_in_a_hole_of_the_measurement_is_nothing(self) -> None:
        operator = Inpainting(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        y = torch.tensor([[[[1.0, float("nan")], [float("nan"), 4.0]]]])
        assert torch.equal(operator.mask_unobserved(y), torch.tensor([[[[1.0, 0.0], [0.0, 4.0]]]]))

    def test_one_mask_for_each_channel(self) -> None:
        mask = torch.rand(3, 4, 5, generator=seeded()) < 0.5
        x = randn(2, 3, 4, 5)
        np.testing.assert_array_equal(Inpainting(mask).apply(x), np.where(mask, x, 0))

    def test_mask_is_copied(self) -> None:
        mask = torch.ones(2, 2, dtype=torch.bool)
        operator = Inpainting(mask)
        mask[:] = False
        assert bool(operator.mask.all())


class TestMatrix:
    def test_product(self) -> None:
        matrix, x = randn(4, 6), randn(2, 1, 2, 3, seed=1)
        expected = np.einsum("ij,bj->bi", matrix.numpy(), x.reshape(2, 6).numpy())
        np.testing.assert_allclose(LinearMatrix(matrix, (1, 2, 3)).apply(x), expected, atol=1e-14)

    def test_flat_if_nothing_is_said(self) -> None:
        assert LinearMatrix(randn(4, 6)).input_shape((4,)) == (6,)

    def test_a_large_dense_matrix_is_refused(self) -> None:
        with pytest.raises(ValueError, match="too large"):
            Denoising().dense((3, 100, 100))


class TestColour:
    @pytest.mark.parametrize(
        "weights", [(1 / 3, 1 / 3, 1 / 3), (0.299, 0.587, 0.114), (1.0, -2.0), (0.5,)]
    )
    def test_colourisation_is_a_weighted_sum(self, weights: tuple[float, ...]) -> None:
        x = randn(2, len(weights), 5, 6)
        expected = np.average(x, axis=1, weights=weights, keepdims=True) * sum(weights)
        np.testing.assert_allclose(Grayscale(weights).apply(x), expected, atol=1e-14)

    @pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
    @pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1)])
    def test_demosaicing_reads_the_pattern_along_rows(
        self, pattern: Pattern, size: tuple[int, int]
    ) -> None:
        x = randn(2, 3, *size)
        y = Demosaicing(pattern).apply(x)
        assert y.shape == (2, 1, *size)
        for row, column in itertools.product(*map(range, size)):
            colour = "RGB".index(pattern[2 * (row % 2) + column % 2])
            assert torch.equal(y[:, 0, row, column], x[:, colour, row, column])


class TestCompressedSensing:
    @staticmethod
    def picked(coefficients: np.ndarray, operator: CompressedSensing) -> np.ndarray:
        places, _ = operator._places(torch.empty(0, dtype=torch.float64))
        return coefficients.reshape(*coefficients.shape[:-2], -1)[..., places.numpy()]

    @pytest.mark.parametrize("shape", [(8, 8), (7, 9), (1, 5), (6, 1)])
    def test_dct(self, shape: tuple[int, int]) -> None:
        x, operator = randn(2, 3, *shape), CompressedSensing(0.5, shape, "dct")
        expected = scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho")
        np.testing.assert_allclose(operator.apply(x), self.picked(expected, operator), atol=1e-13)

    @pytest.mark.parametrize("shape", [(8, 8), (4, 16), (2, 1), (1, 1), (16, 2)])
    def test_hadamard(self, shape: tuple[int, int]) -> None:
        x, operator, n = (
            randn(2, 3, *shape),
            CompressedSensing(0.5, shape, "hadamard"),
            shape[0] * shape[1],
        )
        expected = x.flatten(-2).numpy() @ scipy.linalg.hadamard(n) / np.sqrt(n)
        np.testing.assert_allclose(
            operator.apply(x), self.picked(expected.reshape(x.shape), operator), atol=1e-13
        )

    def test_random_is_a_dct_after_signs(self) -> None:
        x, operator = randn(2, 3, 7, 9), CompressedSensing(0.5, (7, 9), "random", seed=3)
        _, signs = operator._places(x)
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        expected = scipy.fft.dctn((x * signs).numpy(), axes=(-2, -1), norm="ortho")
        np.testing.assert_allclose(operator.apply(x), self.picked(expected, operator), atol=1e-13)

    @pytest.mark.parametrize("transform", ["dct", "hadamard"])
    @pytest.mark.parametrize("fraction", [0.001, 0.3])
    def test_the_mean_is_always_kept(self, transform: Transform, fraction: float) -> None:
        x = randn(2, 3, 8, 8)
        first = CompressedSensing(fraction, (8, 8), transform).apply(x)[..., 0]
        torch.testing.assert_close(first, 8 * x.mean((-2, -1)), atol=1e-13, rtol=0)

    @pytest.mark.parametrize("transform", ["dct", "hadamard", "random"])
    def test_the_number_of_coefficients(self, transform: Transform) -> None:
        """All coefficients differ: together they are the transform, which preserves the norm."""
        assert CompressedSensing(0.3, (8, 8), transform).apply(randn(1, 2, 8, 8)).shape == (
            1,
            2,
            19,
        )
        x = randn(1, 2, 8, 8)
        torch.testing.assert_close(
            CompressedSensing(1.0, (8, 8), transform).apply(x).norm(), x.norm(), atol=1e-12, rtol=0
        )

    @pytest.mark.parametrize("transform", ["dct", "hadamard", "random"])
    def test_the_seed_decides(self, transform: Transform) -> None:
        x = randn(1, 1, 8, 8)
        first, again, other = (
            CompressedSensing(0.3, (8, 8), transform, seed).apply(x) for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def centred_fft(z: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(z, axes=(-2, -1)), norm="ortho"), axes=(-2, -1)
    )


class TestMRI:
    @pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 5)])
    @pytest.mark.parametrize("complex_image", [False, True])
    @pytest.mark.parametrize("coils", [0, 1, 3])
    def test_agrees_with_numpy(
        self, size: tuple[int, int], complex_image: bool, coils: int
    ) -> None:
        """k-space (image, coil, part), zero where nothing is sampled."""
        mask = torch.rand(size, generator=seeded(1)) < 0.5
        maps = (
            torch.complex(randn(coils, *size, seed=2), randn(coils, *size, seed=3))
            if coils
            else None
        )
        x = randn(2, 4, *size)
        image = x.numpy()[:, ::2] + 1j * x.numpy()[:, 1::2] if complex_image else x.numpy()
        seen = image[:, :, None] * (maps.numpy() if maps is not None else 1)
        k = np.where(mask, centred_fft(seen), 0)
        expected = np.stack([k.real, k.imag], 3).reshape(2, -1, *size)
        np.testing.assert_allclose(MRI(mask, maps, complex_image).apply(x), expected, atol=1e-13)

    def test_the_middle_of_k_space_is_the_mean(self) -> None:
        x, mask = randn(1, 1, 6, 7), torch.zeros(6, 7)
        mask[3, 3] = 1
        y = MRI(mask).apply(x)
        assert float(y[0, 0, 3, 3]) == pytest.approx(float(x.sum()) / 42**0.5, abs=1e-14)
        y[0, 0, 3, 3] = 0
        assert float(y.abs().max()) < 1e-14

    @pytest.mark.parametrize("coils", [1, 2, 8])
    @pytest.mark.parametrize("size", [(8, 8), (5, 12)])
    def test_birdcage_squares_sum_to_one(self, coils: int, size: tuple[int, int]) -> None:
        maps = birdcage_maps(coils, *size)
        assert maps.shape == (coils, *size) and maps.dtype == torch.complex128
        torch.testing.assert_close(
            maps.abs().square().sum(0), torch.ones(size, dtype=torch.float64), atol=1e-14, rtol=0
        )

    def test_each_coil_is_strongest_on_its_side(self) -> None:
        right, bottom, left, top = birdcage_maps(4, 9, 9).abs()
        assert right.argmax() % 9 == 8 and left.argmax() % 9 == 0
        assert bottom.argmax() // 9 == 8 and top.argmax() // 9 == 0

    @pytest.mark.parametrize("acceleration", [1.0, 2.0, 3.7, 4.0])
    @pytest.mark.parametrize("width", [16, 33, 100])
    def test_cartesian_mask_has_the_exact_number_of_columns(
        self, acceleration: float, width: int
    ) -> None:
        mask = cartesian_mask(5, width, acceleration, generator=seeded())
        columns = mask[0]
        assert mask.shape == (5, width) and bool((mask == columns).all())
        assert int(columns.sum()) == round(width / acceleration)
        low = max(1, round(0.08 * width))
        assert bool(columns[width // 2 - low // 2 :][:low].all())
        assert torch.equal(mask, cartesian_mask(5, width, acceleration, generator=seeded()))

    @pytest.mark.parametrize("centre", [0.0, 0.05, 0.3, 0.5])
    @pytest.mark.parametrize("width", [7, 8, 16])
    def test_cartesian_mask_always_samples_the_centre(self, centre: float, width: int) -> None:
        """A centre larger than the acceleration allows is sampled whole, and nothing else."""
        columns = cartesian_mask(4, width, 8.0, centre, seeded())[0]
        assert bool(columns[width // 2])
        assert int(columns.sum()) == max(1, round(centre * width), round(width / 8))


class TestTomography:
    """Projections against scikit-image.

    It turns the image by the same bilinear interpolation in float64 and sums, so only rounding
    remains: n interpolated values of size 3, each at a coordinate of size n that is rounded by n
    eps: at most 3 n^2 eps = 1.4e-12 here. Measured: 4e-15 to 1.2e-13.
    """

    ANGLES = (0.0, 10.0, 31.0, 45.0, 90.0, 117.0, 135.0, 170.0, 180.0, -20.0)

    @pytest.mark.parametrize(
        "size", [(16, 16), (15, 15), (17, 24), (24, 17), (9, 30), (1, 5), (32, 31)]
    )
    def test_agrees_with_scikit_image(self, size: tuple[int, int]) -> None:
        x = randn(2, 2, *size)
        y = Tomography(self.ANGLES, size, spacing=1.0).apply(x)
        for sample, channel in itertools.product(range(2), range(2)):
            expected = radon(x[sample, channel].numpy(), theta=self.ANGLES, circle=False).T
            np.testing.assert_allclose(y[sample, channel], expected, atol=1.4e-12)

    def test_lengths_are_in_units_of_the_image(self) -> None:
        x = randn(1, 1, 9, 12)
        there = Tomography(self.ANGLES, (9, 12), spacing=1.0).apply(x)
        torch.testing.assert_close(
            Tomography(self.ANGLES, (9, 12)).apply(x), there / 12, atol=1e-14, rtol=0
        )
        torch.testing.assert_close(
            Tomography(self.ANGLES, (9, 12), spacing=0.5).apply(x), there / 2, atol=1e-14, rtol=0
        )

    def test_right_angles_are_sums_of_columns_and_rows(self) -> None:
        """At 0 degrees rays run along columns, at 90 along rows, the lowest first.

        pi / 2 is rounded, by 1e-16 of the size.
        """
        x = randn(1, 1, 9, 12)
        operator = Tomography((0.0, 90.0), (9, 12), spacing=1.0)
        columns, rows = operator.apply(x)[0, 0]
        middle = operator.detectors // 2
        torch.testing.assert_close(
            columns[middle - 6 : middle + 6], x[0, 0].sum(0), atol=1e-12, rtol=0
        )
        torch.testing.assert_close(
            rows[middle - 4 : middle + 5].flip(0), x[0, 0].sum(1), atol=1e-12, rtol=0
        )

    @staticmethod
    def weight(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Bilinear interpolation weight of a pixel at the distance (x, y)."""
        return np.clip(1 - np.abs(x), 0, None) * np.clip(1 - np.abs(y), 0, None)

    def test_mass_is_conserved_within_the_interpolation(self) -> None:
        """The weights of a pixel on the turned grid sum to nearly 1.

        By Poisson's formula the weight of a pixel p, summed over the turned grid R g, is sum_k w^(R
        k) e^(2 pi i R k . p), where w^ = sinc^2 sinc^2 >= 0 is the transform of the bilinear weight
        and w^(0) = 1. So it differs from 1 by at most as much as it does at p = 0.
        """
        x = torch.rand(1, 1, 12, 15, generator=seeded(), dtype=torch.float64)
        angles = angles_between(36)
        masses = Tomography(angles, (12, 15), spacing=1.0).apply(x).sum(-1)[0, 0].numpy()
        i, j = np.meshgrid(np.arange(-2, 3), np.arange(-2, 3))
        for angle, mass in zip(np.radians(angles), masses, strict=True):
            c, s = np.cos(angle), np.sin(angle)
            excess = self.weight(c * i + s * j, c * j - s * i).sum() - 1
            assert abs(mass - float(x.sum())) <= (excess + 1e-12) * float(x.sum())
        assert masses.mean() == pytest.approx(float(x.sum()), rel=0.01)  # measured: 0.001

    def test_mass_of_a_smooth_picture(self) -> None:
        """A smooth picture loses less mass: the same formula with the transform of the picture.

        The picture is a Gaussian, whose transform is a Gaussian around every whole frequency, where
        w^ has its zeros. Beyond 20 frequencies the sum is at most that of w^ there: the whole of
        it, the excess + 1, minus the part that was summed.
        """
        size, width, K = 33, 2.0, 20
        place = np.arange(size) - size // 2
        line = np.exp(-0.5 * (place / width) ** 2)
        angles = angles_between(24)
        masses = (
            Tomography(angles, (size, size), spacing=1.0)
            .apply(torch.from_numpy(np.outer(line, line))[None, None])
            .sum(-1)[0, 0]
        )
        k, m = np.meshgrid(np.arange(-K, K + 1), np.arange(-K, K + 1))
        for angle, mass in zip(np.radians(angles), masses.tolist(), strict=True):
            c, s = np.cos(angle), np.sin(angle)
            u, v = c * k + s * m, c * m - s * k
            transform = np.sinc(u) ** 2 * np.sinc(v) ** 2
            picture = np.prod(
                [np.cos(2 * np.pi * f[..., None] * place) @ line for f in (u, v)], axis=0
            )
            rest = self.weight(u, v).sum() - transform.sum()
            assert abs(mass - (transform * picture).sum()) <= (rest + 1e-12) * line.sum() ** 2
            assert mass == pytest.approx(line.sum() ** 2, rel=0.003)

    @pytest.mark.parametrize("angles", [10, 40])
    def test_solve_against_its_matrix(self, angles: int) -> None:
        """Conjugate gradients stop at a relative residual of 1e-12.

        The error may be larger than that by the condition number.
        """
        operator = Tomography(angles_between(angles), (12, 10))
        A = operator.dense((1, 12, 10))
        v = randn(2, 1, angles, operator.detectors)
        gram = 0.01 * torch.eye(len(A), dtype=torch.float64) + A @ A.T
        expected = torch.linalg.solve(gram, v.flatten(1).T).T.reshape(v.shape)
        assert float(
            (operator.solve(v, 0.01, 1.0) - expected).norm() / expected.norm()
        ) < 1e-12 * float(torch.linalg.cond(gram))

    @pytest.mark.slow
    def test_solve_takes_no_more_steps_than_the_theory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Conjugate gradients converge as fast as their bound.

        In exact arithmetic k steps reduce the error by 2 ((sqrt(K) - 1) / (sqrt(K) + 1))^k in the
        norm of the matrix, where K is its condition number, and the residual by sqrt(K) more. A
        filter of the projections as preconditioner doubled the number of steps: it cannot separate
        the readings that no picture has, which A A^T sends to zero, from the others.
        """
        operator = Tomography(angles_between(40), (32, 32))
        project, count = Tomography._project, itertools.count()
        rows, columns = (
            operator.apply(torch.ones(1, 1, 32, 32)),
            operator.adjoint(torch.ones(1, 1, 40, operator.detectors)),
        )
        # |A|_2^2 <= |A|_inf |A|_1, and no entry is negative
        largest = float(rows.max() * columns.max())
        monkeypatch.setattr(
            Tomography, "_project", lambda self, x: (next(count), project(self, x))[1]
        )
        operator.solve(randn(1, 1, 40, operator.detectors), 1e-3, 1.0)
        root = (1 + largest / 1e-3) ** 0.5
        assert next(count) <= np.log(2 * root / 1e-12) / np.log((root + 1) / (root - 1))

    def test_angles_between(self) -> None:
        np.testing.assert_allclose(
            angles_between(5, 10, 90), np.linspace(10, 90, 5, endpoint=False), atol=1e-13
        )


class TestPhaseRetrieval:
    @pytest.mark.parametrize("oversampling", [1.0, 1.5, 2.0, 2.2])
    @pytest.mark.parametrize("squared", [False, True])
    def test_agrees_with_numpy(self, oversampling: float, squared: bool) -> None:
        x = randn(2, 3, 7, 10)
        size = [int(np.ceil(n * oversampling)) for n in (7, 10)]
        expected = np.abs(np.fft.fft2((x.numpy() + 1) / 2, s=size, axes=(-2, -1), norm="ortho"))
        y = PhaseRetrieval(oversampling, squared).apply(x)
        np.testing.assert_allclose(y, expected**2 if squared else expected, atol=1e-13)

    def test_shifts_and_turns_of_the_light_are_not_seen(self) -> None:
        light = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
        light[..., 2:6, 3:7] = torch.rand(4, 4, generator=seeded(), dtype=torch.float64)
        measure = PhaseRetrieval(2.0)
        y = measure.apply(2 * light - 1)
        for other in (light.roll((1, -2), (-2, -1)), light.flip(-2, -1)):
            torch.testing.assert_close(measure.apply(2 * other - 1), y, atol=1e-14, rtol=0)

    @pytest.mark.parametrize("squared", [False, True])
    def test_symmetries_have_the_same_measurement(self, squared: bool) -> None:
        x, measure = randn(2, 3, 7, 8), PhaseRetrieval(2.0, squared)
        y = measure.apply(x)
        found = measure.symmetries(x)
        assert torch.equal(found[0], x) and len({float(one.sum()) for one in found}) == 4
        for one in found:
            torch.testing.assert_close(measure.apply(one), y, atol=1e-13, rtol=0)

    def test_draws_are_aligned_channel_by_channel(self) -> None:
        """Draws near the truth, each channel turned or negated at random, are near it again.

        Their mean is then as good as that of draws that never turned. Without it, it is grey.
        """
        x, measure = 0.5 * randn(2, 3, 8, 9), PhaseRetrieval()
        near = x + 0.1 * randn(20, 2, 3, 8, 9, seed=1)
        which = torch.randint(4, (20, 2, 3, 1, 1), generator=seeded(2))
        choices = measure.symmetries(near)
        draws = choices.gather(0, which.expand(near.shape)[None])[0]
        assert float((draws.mean(0) - x).square().mean()) > 0.3
        torch.testing.assert_close(measure.align(draws, x), near, atol=1e-15, rtol=0)
        first = measure.align(draws, draws[0])  # without a truth: all as the first draw
        torch.testing.assert_close(measure.align(first, x).mean(0), near.mean(0))
        assert float(first.std(0).max()) < 0.3
        with pytest.raises(ValueError, match="does not fit images"):
            measure.align(draws, x[:, :2])


class TestPointwise:
    def test_clipping(self) -> None:
        x = randn(2, 3, 4, 5)
        np.testing.assert_array_equal(
            Clipping(3.0, -0.5, 0.8).apply(x), np.clip(3 * x.numpy(), -0.5, 0.8)
        )

    @pytest.mark.parametrize("exponent", [2.2, 1 / 2.2, 0.7, 1.0])
    def test_gamma(self, exponent: float) -> None:
        """Values above the darkest one that gamma resolves, 1e-4 of the light."""
        x = torch.linspace(-0.999, 1.5, 101, dtype=torch.float64)[None]
        np.testing.assert_allclose(
            Gamma(exponent).apply(x), 2 * ((x.numpy() + 1) / 2) ** exponent - 1, atol=1e-14
        )
        assert Gamma(exponent).apply(torch.tensor([[-3.0]])).item() == pytest.approx(
            2 * 1e-4**exponent - 1, abs=1e-6
        )

    @pytest.mark.parametrize("exponent", [2.2, 1 / 2.2, 3.0])
    def test_gamma_undoes_its_inverse(self, exponent: float) -> None:
        """Gamma inverts its inverse on [-0.9, 1], up to magnified rounding.

        The light is at least 0.05 there, and 0.05^3 is still above the darkest value, 1e-4. A root
        magnifies rounding by 1 / 0.05^3.
        """
        x = torch.linspace(-0.9, 1, 1001, dtype=torch.float64)[None]
        torch.testing.assert_close(
            Gamma(1 / exponent).apply(Gamma(exponent).apply(x)), x, atol=1e-12, rtol=0
        )

    @pytest.mark.parametrize("levels", [2, 3, 8, 256])
    def test_quantisation(self, levels: int) -> None:
        """Every level is reached and kept, and no value moves by more than half a step."""
        grid = np.linspace(-1, 1, levels)
        x = torch.linspace(-1, 1, 5003, dtype=torch.float64)[None]
        y = Quantisation(levels).apply(x)
        assert np.abs(y.numpy()[0, :, None] - grid).min(1).max() < 1e-15
        assert len(y.unique()) == levels
        assert float((y - x).abs().max()) <= 1 / (levels - 1) + 1e-15
        np.testing.assert_allclose(
            Quantisation(levels).apply(torch.from_numpy(grid)[None])[0], grid, atol=1e-15
        )
        assert Quantisation(levels).apply(torch.tensor([[-7.0, 7.0]])).tolist() == [[-1.0, 1.0]]


PICTURES: dict[str, Callable[[], np.ndarray]] = {
    "astronaut-61x83": lambda: data.astronaut()[40:101, 180:263],
    "astronaut-all": lambda: data.astronaut()[:203, :301],
    "chelsea-83x61": lambda: data.chelsea()[80:163, 100:161],
    "chelsea-58x74": lambda: data.chelsea()[30:88, 200:274],
    "chelsea-8x3": lambda: data.chelsea()[30:38, 200:203],
    "noise-33x17": lambda: np.random.default_rng(0).integers(0, 256, (33, 17, 3), dtype=np.uint8),
    "flat-20x20": lambda: np.full((20, 20, 3), [200, 100, 37], dtype=np.uint8),
}


class TestJPEG:
    """JPEG against Pillow, byte by byte.

    Every rounding of libjpeg's integer arithmetic is reproduced. Double precision holds its 32-bit
    integers exactly, so no pixel differs. Pillow writes and reads the files with whichever libjpeg
    it has: the slow integer DCT and the filters of the chroma have been the same since version 6b
    (1998).
    """

    @staticmethod
    def through_pillow(picture: np.ndarray, quality: int, subsampling: bool) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(
            file, "JPEG", quality=quality, subsampling=2 if subsampling else 0
        )
        return np.asarray(Image.open(file))

    @staticmethod
    def through_ours(
        picture: np.ndarray, quality: int, subsampling: bool, dtype: torch.dtype = torch.float64
    ) -> np.ndarray:
        x = (
            torch.from_numpy(picture.copy())
            .to(dtype)
            .reshape(*picture.shape[:2], -1)
            .permute(2, 0, 1)[None]
            / 127.5
            - 1
        )
        y: Tensor = (JPEG(quality, subsampling).apply(x)[0].permute(1, 2, 0).double() + 1) * 127.5
        assert float((y - y.round()).abs().max()) < 256 * torch.finfo(dtype).eps
        return y.round().numpy().astype(np.uint8).reshape(picture.shape)

    @pytest.mark.parametrize("picture", PICTURES)
    @pytest.mark.parametrize("quality", [1, 10, 30, 50, 75, 95, 100])
    @pytest.mark.parametrize("mode", ["4:4:4", "4:2:0", "grey"])
    def test_agrees_with_pillow(self, picture: str, quality: int, mode: str) -> None:
        pixels = PICTURES[picture]()
        pixels = np.ascontiguousarray(pixels[..., 1] if mode == "grey" else pixels)
        expected = self.through_pillow(pixels, quality, mode == "4:2:0")
        np.testing.assert_array_equal(self.through_ours(pixels, quality, mode == "4:2:0"), expected)

    @pytest.mark.parametrize("height", [1, 2, 7, 8, 9, 15, 16, 17])
    @pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 15, 16, 17])
    def test_sides_are_filled_as_pillow_does(self, height: int, width: int) -> None:
        """Pictures that do not fill blocks of 16, and pictures too narrow for a chroma filter."""
        pixels = np.random.default_rng(height * 20 + width).integers(
            0, 256, (height, width, 3), dtype=np.uint8
        )
        np.testing.assert_array_equal(
            self.through_ours(pixels, 80, True), self.through_pillow(pixels, 80, True)
        )

    @pytest.mark.parametrize("quality", [10, 50, 95])
    def test_in_single_precision(self, quality: int) -> None:
        """In float32 few coefficients round the other way.

        Sums of 26 bits are rounded to 24. A coefficient within 2^-2 of 2^13 units of a half may be
        rounded the other way; that is 3e-5 of all coefficients, and each affects 64 pixels or
        fewer.
        """
        pixels = PICTURES["astronaut-all"]()
        ours = self.through_ours(pixels, quality, True, torch.float32)
        assert (ours != self.through_pillow(pixels, quality, True)).mean() < 64 * 3e-5

    def test_what_is_no_byte_is_rounded_and_cut(self) -> None:
        x = torch.tensor([-1.7, -0.3, 0.3001, 1.4], dtype=torch.float64).repeat(2, 2)[None, None]
        pixels = ((x.clamp(-1, 1) + 1) * 127.5).round()
        torch.testing.assert_close(
            JPEG(90).apply(x), JPEG(90).apply(pixels / 127.5 - 1), atol=0, rtol=0
        )


@pytest.mark.parametrize("sigma", [1e-2, 1e-3, 1e-4])
def test_the_prox_of_accurate_k_space_is_the_image(sigma: float) -> None:
    """Of a real image, whose k-space has twice as many numbers: none of their rounding is seen."""
    x = 2 * torch.rand(1, 1, 12, 16, generator=seeded()) - 1
    operator = MRI(torch.ones(12, 16))
    found = operator.prox(torch.zeros_like(x), operator.apply(x), sigma**2, 1.0)
    torch.testing.assert_close(found, x / (1 + sigma**2), rtol=0, atol=2e-6)
