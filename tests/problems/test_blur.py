"""Convolutions and decimations against scipy, and kernels against the curves they are named for."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from torch import Tensor

from problems import Blur, Decimation, DiskBlur, GaussianBlur, MotionBlur
from problems.operators.convolution import BOUNDARIES, Boundary
from tests.conftest import randn, seeded

# Our name of a boundary -> scipy.ndimage's. The padding that torch calls "reflect" does not repeat
# the edge pixel; ndimage calls it "mirror".
NDIMAGE: dict[Boundary, str] = {
    "circular": "wrap",
    "reflect": "mirror",
    "replicate": "nearest",
    "zero": "constant",
}
NUMPY: dict[Boundary, str] = {
    "circular": "wrap",
    "reflect": "reflect",
    "replicate": "edge",
    "zero": "constant",
}


def ndimage(x: Tensor, kernel: Tensor, boundary: Boundary) -> np.ndarray:
    return scipy.ndimage.convolve(x.numpy(), kernel.numpy(), mode=NDIMAGE[boundary], cval=0.0)


class TestBlur:
    @pytest.mark.parametrize("boundary", NDIMAGE)
    @pytest.mark.parametrize("size", [(3, 3), (5, 3), (1, 7), (7, 1), (9, 11)])
    def test_agrees_with_ndimage(self, boundary: Boundary, size: tuple[int, int]) -> None:
        x, kernel = randn(2, 2, 9, 12), randn(*size, seed=1)
        y = Blur(kernel, boundary).apply(x)
        for sample in range(2):
            for channel in range(2):
                np.testing.assert_allclose(
                    y[sample, channel], ndimage(x[sample, channel], kernel, boundary), atol=1e-12
                )

    @pytest.mark.parametrize("boundary", NDIMAGE)
    def test_one_kernel_for_each_channel(self, boundary: Boundary) -> None:
        x, kernels = randn(1, 3, 9, 12), randn(3, 3, 5, seed=1)
        y = Blur(kernels, boundary).apply(x)
        for channel in range(3):
            np.testing.assert_allclose(
                y[0, channel], ndimage(x[0, channel], kernels[channel], boundary), atol=1e-12
            )

    def test_one_kernel_for_each_channel_valid(self) -> None:
        x, kernels = randn(1, 2, 9, 12), randn(2, 4, 3, seed=1)
        y = Blur(kernels, "valid").apply(x)
        for channel in range(2):
            expected = scipy.signal.convolve2d(
                x[0, channel].numpy(), kernels[channel].numpy(), mode="valid"
            )
            np.testing.assert_allclose(y[0, channel], expected, atol=1e-12)

    @pytest.mark.parametrize("boundary", NUMPY)
    @pytest.mark.parametrize("size", [(2, 2), (4, 3), (3, 6), (6, 4)])
    def test_even_kernels_agree_with_a_padded_convolution(
        self, boundary: Boundary, size: tuple[int, int]
    ) -> None:
        """Compare with y[i] = sum_j k[j] x[i + c - j], where c = (size - 1) // 2.

        x is continued by the rule of the boundary.
        """
        x, kernel = randn(1, 1, 9, 12), randn(*size, seed=1)
        margins = [(n - 1 - (n - 1) // 2, (n - 1) // 2) for n in size]
        padded = np.pad(x[0, 0].numpy(), margins, mode=NUMPY[boundary])
        expected = scipy.signal.convolve2d(padded, kernel.numpy(), mode="valid")
        np.testing.assert_allclose(Blur(kernel, boundary).apply(x)[0, 0], expected, atol=1e-12)

    @pytest.mark.parametrize("boundary", NDIMAGE)
    @pytest.mark.parametrize("size", [(2, 2), (4, 3), (3, 6)])
    def test_even_kernels_agree_with_ndimage(
        self, boundary: Boundary, size: tuple[int, int]
    ) -> None:
        """ndimage puts the middle of an even kernel one pixel further; ``origin`` undoes that."""
        x, kernel = randn(1, 1, 9, 12), randn(*size, seed=1)
        origin = [-1 if n % 2 == 0 else 0 for n in size]
        expected = scipy.ndimage.convolve(
            x[0, 0].numpy(), kernel.numpy(), mode=NDIMAGE[boundary], cval=0.0, origin=origin
        )
        np.testing.assert_allclose(Blur(kernel, boundary).apply(x)[0, 0], expected, atol=1e-12)

    @pytest.mark.parametrize("size", [(3, 3), (4, 2), (5, 6), (9, 12)])
    def test_valid_keeps_whole_neighbourhoods(self, size: tuple[int, int]) -> None:
        x, kernel = randn(1, 1, 9, 12), randn(*size, seed=1)
        expected = scipy.signal.convolve2d(x[0, 0].numpy(), kernel.numpy(), mode="valid")
        y = Blur(kernel, "valid").apply(x)
        assert y.shape[-2:] == expected.shape
        np.testing.assert_allclose(y[0, 0], expected, atol=1e-12)

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    @pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (2, 5), (7, 6)])
    def test_a_point_becomes_the_whole_kernel(
        self, boundary: Boundary, size: tuple[int, int]
    ) -> None:
        """The image of a point is the whole kernel with its middle on the point."""
        height, width = 21, 20
        kernel = torch.rand(size, generator=seeded(), dtype=torch.float64) + 0.1
        x = torch.zeros(1, 1, height, width, dtype=torch.float64)
        x[..., 10, 9] = 1
        y = Blur(kernel, boundary).apply(x)[0, 0]
        top, left = (p - (n - 1) // 2 for p, n in zip((10, 9), size, strict=True))
        if boundary == "valid":  # the first row of y sees the rows 0 ... size - 1 of x
            top, left = (t - (n - 1 - (n - 1) // 2) for t, n in zip((top, left), size, strict=True))
        expected = torch.zeros_like(y)
        expected[top : top + size[0], left : left + size[1]] = kernel
        torch.testing.assert_close(y, expected, atol=1e-14, rtol=0)

    @pytest.mark.parametrize("boundary", ["circular", "reflect", "replicate", "valid"])
    @pytest.mark.parametrize("blur", ["gaussian", "motion", "disk"])
    def test_a_flat_image_stays_flat(self, boundary: Boundary, blur: str) -> None:
        operator = {
            "gaussian": GaussianBlur(1.3, boundary),
            "motion": MotionBlur(7, 20.0, boundary),
            "disk": DiskBlur(2.4, boundary),
        }[blur]
        y = operator.apply(torch.full((1, 3, 15, 13), 0.7, dtype=torch.float64))
        torch.testing.assert_close(y, torch.full_like(y, 0.7), atol=1e-14, rtol=0)

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_kernel_as_large_as_the_image(self, boundary: Boundary) -> None:
        """A kernel as large as the image: "valid" leaves one pixel.

        That pixel is the sum of x times the kernel turned by 180 degrees. The other boundaries have
        the same value in the middle.
        """
        x, kernel = randn(1, 1, 5, 7), randn(5, 7, seed=1)
        y = Blur(kernel, boundary).apply(x)[0, 0]
        middle = y[0, 0] if boundary == "valid" else y[2, 3]
        torch.testing.assert_close(middle, (x[0, 0] * kernel.flip(0, 1)).sum(), atol=1e-13, rtol=0)

    def test_long_kernel_on_a_flat_image(self) -> None:
        """A row of nine taps fits on a 4 x 16 image: only its own axis matters."""
        x, kernel = randn(1, 1, 4, 16), randn(1, 9, seed=1)
        np.testing.assert_allclose(
            Blur(kernel, "reflect").apply(x)[0, 0], ndimage(x[0, 0], kernel, "reflect"), atol=1e-12
        )

    def test_the_kernel_is_copied(self) -> None:
        kernel = torch.ones(3, 3)
        operator = Blur(kernel)
        kernel[:] = 7
        assert bool((operator.kernel == 1).all())


class TestKernels:
    @pytest.mark.parametrize("std", [0.5, 1.0, 2.3])
    def test_gaussian(self, std: float) -> None:
        kernel = GaussianBlur(std).kernel
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-14)
        half = kernel.shape[0] // 2
        line = np.exp(-0.5 * (np.arange(-half, half + 1) / std) ** 2)
        assert half >= 4 * std
        np.testing.assert_allclose(kernel, np.outer(line, line) / line.sum() ** 2, atol=1e-14)

    def test_gaussian_agrees_with_ndimage(self) -> None:
        """ndimage cuts at round(truncate std), we at the next whole pixel: the same for std = 2."""
        x = randn(1, 1, 24, 25)
        expected = scipy.ndimage.gaussian_filter(x[0, 0].numpy(), 2.0, mode="mirror", truncate=3.0)
        np.testing.assert_allclose(
            GaussianBlur(2.0, "reflect", truncate=3.0).apply(x)[0, 0], expected, atol=1e-13
        )

    @pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, -60.0, 135.0])
    def test_motion(self, angle: float) -> None:
        """A stroke through the middle, anticlockwise from the horizontal, with rows downwards."""
        kernel = MotionBlur(9, angle).kernel
        assert kernel.shape == (9, 9)
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
        assert bool((kernel >= -1e-15).all())
        torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-6, rtol=0)
        up, right = torch.meshgrid(-torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
        xx, xy, yy = (
            (kernel * a * b).sum().item() for a, b in ((right, right), (right, up), (up, up))
        )
        principal = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy))
        difference = (principal - angle + 90) % 180 - 90
        assert abs(difference) < 3  # bilinear interpolation on a grid of 9 x 9

    def test_motion_along_the_axes(self) -> None:
        expected = torch.zeros(5, 5, dtype=torch.float64)
        expected[2] = 0.2
        torch.testing.assert_close(MotionBlur(5, 0.0).kernel, expected, atol=1e-7, rtol=0)
        torch.testing.assert_close(MotionBlur(5, 90.0).kernel, expected.T, atol=1e-7, rtol=0)


class TestDisk:
    """The sampled disk kernel against areas.

    The kernel counts 33 x 33 points per pixel. Points stand for cells, which differ from the disk
    of radius R = 33 r (in cells) only where the circle passes: within sqrt(1/2) of it, which is at
    most pi ((R + sqrt(1/2))^2 - R^2) = pi (sqrt(2) R + 1/2) cells.
    """

    @staticmethod
    def sampling(radius: float) -> float:
        """The largest error of sampling, as a share of the area of the disk."""
        R = 33 * radius
        return (np.sqrt(2) * R + 0.5) / R**2

    @pytest.mark.parametrize("radius", [1.0, 1.7, 2.5, 4.3])
    def test_a_whole_pixel_has_its_share_of_the_area(self, radius: float) -> None:
        kernel = DiskBlur(radius).kernel
        middle = kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-14)
        assert float(kernel.max()) == float(middle)
        assert float(1 / middle) == pytest.approx(np.pi * radius**2, rel=self.sampling(radius))

    @pytest.mark.parametrize("radius", [0.3, 0.7, 1.0, 1.7, 2.5, 4.3])
    def test_symmetric(self, radius: float) -> None:
        kernel = DiskBlur(radius).kernel
        assert kernel.shape[0] == kernel.shape[1] == 2 * np.ceil(radius - 0.5) + 1
        for other in (kernel.flip(0), kernel.flip(1), kernel.T):
            assert torch.equal(kernel, other)

    @pytest.mark.parametrize("radius", [0.3, 0.7, 1.0, 1.7, 2.5, 4.3])
    def test_taps_are_areas(self, radius: float) -> None:
        """Compare each tap with the area of the disk in its pixel.

        The area is the chord of each line, cut to the pixel, integrated over 2000 lines per pixel.
        The kernel has 33 lines and counts a chord to within 1/33: half a point at each end. A
        function that rises from 0 to 1 and falls again has a mean over 33 lines that is right to
        within 2/33.
        """
        kernel = DiskBlur(radius).kernel.numpy()
        edges = np.arange(len(kernel) + 1) - len(kernel) / 2
        y = edges[:-1, None] + (np.arange(2000) + 0.5) / 2000
        chord = np.sqrt(np.clip(radius**2 - y**2, 0, None))[:, None]
        areas = np.diff(np.clip(edges[:, None], -chord, chord), axis=1).mean(2)
        np.testing.assert_allclose(
            kernel * np.pi * radius**2, areas, atol=3 / 33 + self.sampling(radius)
        )
        assert np.all(kernel[areas == 0] == 0)

    @pytest.mark.parametrize("radius", [0.7, 1.0, 1.7, 2.5, 4.3])
    def test_column_sums_are_the_integral_of_the_chord(self, radius: float) -> None:
        kernel = DiskBlur(radius).kernel.numpy()
        x = np.clip(np.arange(len(kernel) + 1) - len(kernel) / 2, -radius, radius)
        integral = (x * np.sqrt(radius**2 - x**2) + radius**2 * np.arcsin(x / radius)) / (
            np.pi * radius**2
        )
        np.testing.assert_allclose(kernel.sum(0), np.diff(integral), atol=2 * self.sampling(radius))

    @pytest.mark.parametrize("radius", [2.5, 4.3, 10.0])
    def test_second_moment(self, radius: float) -> None:
        """A disk has the variance r^2 / 4 on each axis.

        Its density on an axis is p = 2 sqrt(r^2 - x^2) / (pi r^2). Where x = i + e lies in column
        i, E x^2 - E i^2 = E e^2 + sum_i 2 i E_i e. The first term is at most 1/4. Since e has mean
        zero where p is constant, each column adds at most 2 |i| osc_i(p) / 8, and their sum is at
        most (r + 1/2) / 4 times the variation 4 / (pi r) of p. The sampling adds its own error,
        twice because of the normalisation.
        """
        kernel = DiskBlur(radius).kernel.numpy()
        place = np.arange(len(kernel)) - len(kernel) // 2
        moment = (kernel.sum(0) * place**2).sum()
        bound = 1 / 4 + (1 + 0.5 / radius) / np.pi + 2 * self.sampling(radius) * (radius + 0.5) ** 2
        assert bound < radius**2 / 8 + 0.2
        assert abs(moment - radius**2 / 4) < bound


class TestSolves:
    """Solves (0.3 I + 1.7 A A^T)^{-1} v against dense matrices.

    Kernels sum to one, so A A^T has a norm of about one and the condition number is below 10.
    Conjugate gradients stop at a relative residual of 1e-12 and so leave a relative error of at
    most 1e-11.
    """

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    @pytest.mark.parametrize("shape", [(2, 12, 17), (1, 13, 13)])
    def test_gaussian_in_closed_form_agrees_with_conjugate_gradients(
        self, boundary: Boundary, shape: tuple[int, int, int]
    ) -> None:
        gaussian = GaussianBlur(0.8, boundary)
        plain = Blur(gaussian.kernel, boundary)
        v = randn(2, *gaussian.output_shape(shape), seed=2)
        expected = plain._iterate(v, 0.3, 1.7, shape)
        for solution in (gaussian.solve(v, 0.3, 1.7), plain.solve(v, 0.3, 1.7)):
            assert float((solution - expected).norm() / expected.norm()) < 1e-11

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_a_large_image_is_solved_without_decompositions(
        self, boundary: Boundary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        v = randn(2, 1, 12, 17, seed=2)
        expected = GaussianBlur(0.8, boundary).solve(v, 0.3, 1.7)
        monkeypatch.setattr(GaussianBlur, "_LARGEST", 4)
        monkeypatch.setattr(GaussianBlur, "_axis", lambda *_: pytest.fail("an axis was decomposed"))
        solution = GaussianBlur(0.8, boundary).solve(v, 0.3, 1.7)
        assert float((solution - expected).norm() / expected.norm()) < 1e-11

    @pytest.mark.parametrize("factor", [2, 3])
    @pytest.mark.parametrize("boundary", NDIMAGE)
    def test_decimation_against_its_matrix(self, factor: int, boundary: Boundary) -> None:
        shape = (1, 12, 6)
        operator = Decimation(randn(3, 4, seed=1) / 4, factor, boundary)
        A = operator.dense(shape)
        v = randn(2, *operator.output_shape(shape), seed=2)
        gram = 0.3 * torch.eye(len(A), dtype=torch.float64) + 1.7 * A @ A.T
        expected = torch.linalg.solve(gram, v.flatten(1).T).T.reshape(v.shape)
        condition = float(torch.linalg.cond(gram))
        assert (
            float((operator.solve(v, 0.3, 1.7) - expected).norm() / expected.norm())
            < 1e-12 * condition
        )


class TestDecimation:
    @pytest.mark.parametrize("boundary", NDIMAGE)
    @pytest.mark.parametrize("factor", [2, 3])
    def test_is_a_convolution_thinned_out(self, boundary: Boundary, factor: int) -> None:
        x, kernel = randn(1, 2, 12, 18), randn(5, 3, seed=1)
        y = Decimation(kernel, factor, boundary).apply(x)
        assert y.shape == (1, 2, 12 // factor, 18 // factor)
        for channel in range(2):
            expected = ndimage(x[0, channel], kernel, boundary)[::factor, ::factor]
            np.testing.assert_allclose(y[0, channel], expected, atol=1e-12)

    def test_one_kernel_for_each_channel(self) -> None:
        x, kernels = randn(1, 2, 8, 8), randn(2, 3, 3, seed=1)
        y = Decimation(kernels, 2).apply(x)
        for channel in range(2):
            np.testing.assert_allclose(
                y[0, channel],
                ndimage(x[0, channel], kernels[channel], "circular")[::2, ::2],
                atol=1e-12,
            )
