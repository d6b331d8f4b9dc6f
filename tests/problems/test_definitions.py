"""Each measurement is what it says it is: compared with scipy, with torch, and with the definition."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from problems import (
    Blur,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Grey,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    MotionBlur,
    SuperResolution,
    box_mask,
    random_mask,
)
from problems.super_resolution import resize_matrix

BOUNDARIES = ["circular", "reflect", "replicate", "zero", "valid"]
# our name of a boundary -> scipy.ndimage's; the pad of torch called "reflect" does not repeat the edge pixel, which ndimage calls "mirror"
NDIMAGE = {"circular": "wrap", "reflect": "mirror", "replicate": "nearest", "zero": "constant"}
NUMPY = {"circular": "wrap", "reflect": "reflect", "replicate": "edge", "zero": "constant"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


class TestBlur:
    @pytest.mark.parametrize("boundary", NDIMAGE)
    @pytest.mark.parametrize("size", [(3, 3), (5, 3), (1, 7), (7, 1)])
    def test_agrees_with_ndimage(self, boundary: str, size: tuple[int, int]) -> None:
        x, kernel = randn(1, 2, 9, 12), randn(*size, seed=1)
        y = Blur(kernel, boundary).apply(x)  # type: ignore[arg-type]
        for channel in range(2):
            expected = scipy.ndimage.convolve(x[0, channel].numpy(), kernel.numpy(), mode=NDIMAGE[boundary], cval=0.0)
            np.testing.assert_allclose(y[0, channel].numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("boundary", NUMPY)
    @pytest.mark.parametrize("size", [(2, 2), (4, 3), (3, 6), (6, 4)])
    def test_even_kernels_agree_with_a_padded_convolution(self, boundary: str, size: tuple[int, int]) -> None:
        """y[i] = sum_j k[j] x[i + c - j] with c = (size - 1) // 2, x continued by the rule of the boundary."""
        x, kernel = randn(1, 1, 9, 12), randn(*size, seed=1)
        before, after = zip(*((n - 1 - (n - 1) // 2, (n - 1) // 2) for n in size), strict=True)
        padded = np.pad(x[0, 0].numpy(), list(zip(before, after, strict=True)), mode=NUMPY[boundary])  # type: ignore[call-overload]
        expected = scipy.signal.convolve2d(padded, kernel.numpy(), mode="valid")
        np.testing.assert_allclose(Blur(kernel, boundary).apply(x)[0, 0].numpy(), expected, atol=1e-12)  # type: ignore[arg-type]

    @pytest.mark.parametrize("size", [(3, 3), (4, 2), (5, 6), (9, 12)])
    def test_valid_keeps_whole_neighbourhoods(self, size: tuple[int, int]) -> None:
        x, kernel = randn(1, 1, 9, 12), randn(*size, seed=1)
        expected = scipy.signal.convolve2d(x[0, 0].numpy(), kernel.numpy(), mode="valid")
        y = Blur(kernel, "valid").apply(x)
        assert y.shape[-2:] == expected.shape
        np.testing.assert_allclose(y[0, 0].numpy(), expected, atol=1e-12)

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    @pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (2, 5), (7, 6)])
    def test_a_point_becomes_the_whole_kernel(self, boundary: str, size: tuple[int, int]) -> None:
        """The image of a point is the kernel with its middle on the point, no tap lost, and nothing else."""
        height, width = 21, 20
        kernel = torch.rand(size, generator=seeded(), dtype=torch.float64) + 0.1
        x = torch.zeros(1, 1, height, width, dtype=torch.float64)
        x[..., 10, 9] = 1
        y = Blur(kernel, boundary).apply(x)[0, 0]  # type: ignore[arg-type]
        top, left = (p - (n - 1) // 2 for p, n in zip((10, 9), size, strict=True))
        if boundary == "valid":  # the first row of y sees the rows 0 ... size - 1 of x
            top, left = (t - (n - 1 - (n - 1) // 2) for t, n in zip((top, left), size, strict=True))
        expected = torch.zeros_like(y)
        expected[top : top + size[0], left : left + size[1]] = kernel
        torch.testing.assert_close(y, expected, atol=1e-14, rtol=0)

    @pytest.mark.parametrize("boundary", ["circular", "reflect", "replicate", "valid"])
    @pytest.mark.parametrize("blur", ["gaussian", "motion"])
    def test_a_flat_image_stays_flat(self, boundary: str, blur: str) -> None:
        operator = GaussianBlur(1.3, boundary) if blur == "gaussian" else MotionBlur(7, 20.0, boundary)  # type: ignore[arg-type]
        y = operator.apply(torch.full((1, 3, 15, 13), 0.7, dtype=torch.float64))
        torch.testing.assert_close(y, torch.full_like(y, 0.7), atol=1e-14, rtol=0)

    @pytest.mark.parametrize("std", [0.5, 1.0, 2.3])
    def test_gaussian_kernel(self, std: float) -> None:
        kernel = GaussianBlur(std).kernel
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-14)
        half = kernel.shape[0] // 2
        line = np.exp(-0.5 * (np.arange(-half, half + 1) / std) ** 2)
        assert half >= 4 * std
        np.testing.assert_allclose(kernel.numpy(), np.outer(line, line) / line.sum() ** 2, atol=1e-14)

    @pytest.mark.parametrize("angle", [0.0, 30.0, 45.0, 90.0, -60.0, 135.0])
    def test_motion_kernel(self, angle: float) -> None:
        """A stroke through the middle, anticlockwise from the horizontal as one sees it: with rows counted downwards."""
        kernel = MotionBlur(9, angle).kernel
        assert kernel.shape == (9, 9)
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
        assert bool((kernel >= -1e-15).all())
        torch.testing.assert_close(kernel, kernel.flip(0, 1), atol=1e-6, rtol=0)
        up, right = torch.meshgrid(-torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
        xx, xy, yy = ((kernel * a * b).sum().item() for a, b in ((right, right), (right, up), (up, up)))
        principal = np.degrees(0.5 * np.arctan2(2 * xy, xx - yy))
        difference = (principal - angle + 90) % 180 - 90
        assert abs(difference) < 3  # bilinear interpolation on a grid of 9 x 9

    def test_motion_along_the_axes(self) -> None:
        expected = torch.zeros(5, 5, dtype=torch.float64)
        expected[2] = 0.2
        torch.testing.assert_close(MotionBlur(5, 0.0).kernel, expected, atol=1e-7, rtol=0)
        torch.testing.assert_close(MotionBlur(5, 90.0).kernel, expected.T, atol=1e-7, rtol=0)

    @pytest.mark.parametrize("boundary", BOUNDARIES)
    def test_kernel_as_large_as_the_image(self, boundary: str) -> None:
        x, kernel = randn(1, 1, 4, 7), randn(4, 7, seed=1)
        Blur(kernel, boundary).apply(x)  # type: ignore[arg-type]

    def test_long_kernel_on_a_flat_image(self) -> None:
        """A row of nine taps fits on an image of 4 x 16 whatever the boundary: only its own axis matters."""
        x, kernel = randn(1, 1, 4, 16), randn(1, 9, seed=1)
        expected = scipy.ndimage.convolve(x[0, 0].numpy(), kernel.numpy(), mode="mirror")
        np.testing.assert_allclose(Blur(kernel, "reflect").apply(x)[0, 0].numpy(), expected, atol=1e-12)


class TestSuperResolution:
    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_bicubic_agrees_with_torch_inside(self, factor: int) -> None:
        """Two rows from the border every tap lies inside the image; closer, torch drops the outer taps and we mirror."""
        x = randn(1, 2, 48, 36)
        y = SuperResolution(factor).apply(x)
        expected = F.interpolate(x, size=y.shape[-2:], mode="bicubic", antialias=True)
        torch.testing.assert_close(y[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-13, rtol=0)

    @pytest.mark.parametrize("factor", [2, 3, 2.5])
    def test_bicubic_mirrors_the_border(self, factor: float) -> None:
        """A mirrored image is mirrored by the down-sampling as well: the borders of both see the same."""
        size = 30
        x = randn(1, 1, size, size)
        there = SuperResolution(factor).apply(x)
        twice = torch.cat([x, x.flip(-1)], -1)
        torch.testing.assert_close(SuperResolution(factor).apply(twice)[..., : there.shape[-1]], there, atol=1e-13, rtol=0)

    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_average_agrees_with_pooling(self, factor: int) -> None:
        x = randn(2, 3, 24, 12)
        torch.testing.assert_close(SuperResolution(factor, "average").apply(x), F.avg_pool2d(x, factor), atol=1e-14, rtol=0)

    def test_average_over_fractions_of_pixels(self) -> None:
        """Five pixels by a factor of 2.5: the third is shared half and half."""
        matrix = resize_matrix(5, 2, "average", 2.5)
        expected = torch.tensor([[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]], dtype=torch.float64) / 2.5
        torch.testing.assert_close(matrix, expected, atol=1e-15, rtol=0)

    @pytest.mark.parametrize("kind", ["bicubic", "average"])
    @pytest.mark.parametrize("factor", [1.5, 2, 2.5, 3, 4, 7])
    @pytest.mark.parametrize("size", [1, 2, 5, 16, 31])
    def test_rows_sum_to_one(self, kind: str, factor: float, size: int) -> None:
        out = SuperResolution(factor).output_shape((1, size, size))[-1]
        assert out == -(-size // factor)
        sums = resize_matrix(size, out, kind, float(factor)).sum(1)  # type: ignore[arg-type]
        torch.testing.assert_close(sums, torch.ones(out, dtype=torch.float64), atol=1e-14, rtol=0)

    @pytest.mark.parametrize("factor", [1.5, 2, 2.5, 3, 3.3])
    @pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7])
    def test_a_size_can_always_be_guessed(self, factor: float, rows: int) -> None:
        """Without ``shape`` the operator finds some image that shrinks to the measurement, of any number of rows."""
        operator = SuperResolution(factor)
        shape = operator.input_shape((1, rows, rows))
        assert operator.output_shape(shape) == (1, rows, rows)
        assert shape[-1] == pytest.approx(rows * factor, abs=1)


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
        """Each pixel is a hole in half of 400 masks, a binomial count: 5 standard errors for the worst of 64 pixels."""
        generator = seeded()
        rate = torch.stack([random_mask(8, 8, 0.5, generator) for _ in range(400)]).double().mean(0)
        assert float((rate - 0.5).abs().max()) < 5 * (0.25 / 400) ** 0.5

    def test_mask_of_zeros_and_ones_is_a_mask(self) -> None:
        mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        x = torch.tensor([[[[1.0, float("nan")], [3.0, 4.0]]]])
        assert torch.equal(Inpainting(mask).apply(x), torch.tensor([[[[1.0, 0.0], [0.0, 4.0]]]]))

    def test_mask_is_copied(self) -> None:
        mask = torch.ones(2, 2, dtype=torch.bool)
        operator = Inpainting(mask)
        mask[:] = False
        assert bool(operator.mask.all())


class TestOtherOperators:
    def test_matrix(self) -> None:
        matrix, x = randn(4, 6), randn(2, 1, 2, 3, seed=1)
        expected = np.einsum("ij,bj->bi", matrix.numpy(), x.reshape(2, 6).numpy())
        np.testing.assert_allclose(LinearMatrix(matrix, (1, 2, 3)).apply(x).numpy(), expected, atol=1e-14)

    def test_grey_is_the_mean_of_the_colours(self) -> None:
        x = randn(2, 3, 8, 8)
        blur = GaussianBlur(0.5)
        torch.testing.assert_close(Grey(blur).apply(x), blur.apply(x).mean(1, keepdim=True), atol=1e-14, rtol=0)

    def test_a_large_dense_matrix_is_refused(self) -> None:
        with pytest.raises(ValueError, match="too large"):
            Denoising().dense((3, 100, 100))


class TestNoise:
    @pytest.mark.parametrize("std", [0.05, 1.0, 7.0])
    def test_log_prob_agrees_with_scipy(self, std: float) -> None:
        y, mean = randn(3, 2, 4, 5), randn(3, 2, 4, 5, seed=1)
        expected = scipy.stats.norm(mean.numpy(), std).logpdf(y.numpy()).sum((1, 2, 3))
        np.testing.assert_allclose(GaussianNoise(std).log_prob(y, mean).numpy(), expected, rtol=1e-12)

    def test_sample_moments(self) -> None:
        """Mean within 5 standard errors, std/sqrt(n); standard deviation within 5 of its own, std/sqrt(2n)."""
        n, std = 100_000, 0.3
        mean = torch.full((1, 1, 1, n), 0.25, dtype=torch.float64)
        noise = GaussianNoise(std).sample(mean, seeded()) - mean
        assert abs(float(noise.mean())) < 5 * std / n**0.5
        assert abs(float(noise.std()) - std) < 5 * std / (2 * n) ** 0.5
        assert scipy.stats.kstest(noise.flatten().numpy() / std, "norm").pvalue > 1e-6

    def test_the_seed_decides(self) -> None:
        mean = torch.zeros(2, 1, 3, 3)
        noise = GaussianNoise(1.0)
        first, again = noise.sample(mean, seeded(0)), noise.sample(mean, seeded(0))
        assert torch.equal(first, again)
        assert not torch.equal(first, noise.sample(mean, seeded(1)))
        assert not torch.equal(first[0], first[1])
        assert first.dtype == torch.float32 and noise.sample(mean.double(), seeded()).dtype == torch.float64

    def test_variance(self) -> None:
        assert GaussianNoise(0.3).variance == pytest.approx(0.09)


class TestInverseProblem:
    def test_measurement_is_operator_plus_noise(self) -> None:
        x = randn(2, 3, 8, 8)
        problem = InverseProblem(SuperResolution(2), GaussianNoise(0.1))
        expected = GaussianNoise(0.1).sample(SuperResolution(2).apply(x), seeded(5))
        assert torch.equal(problem.measure(x, seeded(5)), expected)
        assert problem.input_shape(expected) == (3, 8, 8)

    def test_holes_stay_empty(self) -> None:
        mask = random_mask(8, 8, 0.5, seeded())
        problem = InverseProblem(Inpainting(mask), GaussianNoise(0.5))
        y = problem.measure(randn(2, 3, 8, 8), seeded(1))
        assert bool((y[..., ~mask] == 0).all())
        assert bool((y[..., mask] != 0).all())

    def test_holes_say_nothing(self) -> None:
        """What stands in the holes of y or x changes neither the residual nor the likelihood."""
        mask = random_mask(8, 8, 0.5, seeded())
        problem = InverseProblem(Inpainting(mask), GaussianNoise(0.5))
        x, y = randn(2, 3, 8, 8), randn(2, 3, 8, 8, seed=1)
        other_x, other_y = torch.where(mask, x, 100 + x), torch.where(mask, y, torch.full_like(y, float("nan")))
        assert torch.equal(problem.residual(y, x), problem.residual(other_y, other_x))
        assert torch.equal(problem.log_likelihood(y, x), problem.log_likelihood(other_y, other_x))
        ratio = problem.log_likelihood(y, x) - problem.log_likelihood(y, 0 * x)
        seen = scipy.stats.norm(x[..., mask], 0.5).logpdf(y[..., mask]) - scipy.stats.norm(0, 0.5).logpdf(y[..., mask])
        np.testing.assert_allclose(ratio.numpy(), seen.sum((1, 2)), rtol=1e-10)

    def test_log_likelihood_is_the_noise_around_the_forward_model(self) -> None:
        x = randn(2, 1, 8, 8)
        problem = InverseProblem(GaussianBlur(0.6), GaussianNoise(0.2))
        y = problem.measure(x, seeded(1))
        expected = scipy.stats.norm(GaussianBlur(0.6).apply(x).numpy(), 0.2).logpdf(y.numpy()).sum((1, 2, 3))
        np.testing.assert_allclose(problem.log_likelihood(y, x).numpy(), expected, rtol=1e-12)

    def test_capabilities(self) -> None:
        assert {"linear", "adjoint", "solve", "closed_form", "gaussian_noise"} <= InverseProblem(
            Denoising(), GaussianNoise(1.0)
        ).capabilities
        assert "closed_form" not in InverseProblem(Blur(torch.ones(3, 3), "reflect"), GaussianNoise(1.0)).capabilities

    def test_frozen(self) -> None:
        problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        with pytest.raises(dataclasses.FrozenInstanceError):
            problem.noise = GaussianNoise(2.0)  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            problem.noise.std = 2.0  # type: ignore[misc]


BAD_INPUT = {
    "noise negative": (lambda: GaussianNoise(-0.1), "-0.1"),
    "noise NaN": (lambda: GaussianNoise(float("nan")), "nan"),
    "noise infinite": (lambda: GaussianNoise(float("inf")), "inf"),
    "likelihood without noise": (lambda: GaussianNoise(0.0).log_prob(torch.zeros(1, 2), torch.zeros(1, 2)), "above 0"),
    "mask not binary": (lambda: Inpainting(torch.tensor([[0.0, 0.5]])), "binary"),
    "mask NaN": (lambda: Inpainting(torch.tensor([[1.0, float("nan")]])), "binary"),
    "mask all missing": (lambda: Inpainting(torch.zeros(3, 3)), "no pixel"),
    "mask with a batch": (lambda: Inpainting(torch.ones(1, 1, 3, 3)), r"\(1, 1, 3, 3\)"),
    "mask of other size": (lambda: Inpainting(torch.ones(3, 4)).apply(torch.zeros(1, 1, 4, 4)), r"\(3, 4\).*\(4, 4\)"),
    "mask of other channels": (lambda: Inpainting(torch.ones(3, 4, 4)).apply(torch.zeros(1, 1, 4, 4)), "3.*1"),
    "grey of other channels": (lambda: Grey(Denoising(), 3).apply(torch.zeros(1, 4, 4, 4)), "3.*4"),
    "box outside": (lambda: box_mask(4, 4, 3, 0, 2, 2), "inside"),
    "box left of the image": (lambda: box_mask(4, 4, 0, -1, 2, 2), "inside"),
    "box empty": (lambda: box_mask(4, 4, 0, 0, 0, 2), "0"),
    "missing fraction 1": (lambda: random_mask(4, 4, 1.0), "1.0"),
    "missing fraction negative": (lambda: random_mask(4, 4, -0.1), "-0.1"),
    "kernel of one axis": (lambda: Blur(torch.ones(3)), r"\(h, w\)"),
    "kernel empty": (lambda: Blur(torch.ones(0, 3)), r"\(0, 3\)"),
    "kernel zero": (lambda: Blur(torch.zeros(3, 3)), "zero"),
    "kernel NaN": (lambda: Blur(torch.tensor([[1.0, float("nan")]])), "finite"),
    "kernel too large": (lambda: Blur(torch.ones(5, 3), "zero").apply(torch.zeros(1, 1, 4, 9)), "3x5.*9x4"),
    "kernel too large, valid": (lambda: Blur(torch.ones(5, 3), "valid").apply(torch.zeros(1, 1, 4, 9)), "3x5.*9x4"),
    "kernel too large for the adjoint": (lambda: Blur(torch.ones(5, 3)).adjoint(torch.zeros(1, 1, 4, 9)), "3x5.*9x4"),
    "kernel too large for the solve": (lambda: Blur(torch.ones(5, 3)).solve(torch.zeros(1, 1, 4, 9), 1.0, 1.0), "3x5.*9x4"),
    "boundary unknown": (lambda: Blur(torch.ones(3, 3), "mirror"), "circular"),  # type: ignore[arg-type]
    "gaussian of width 0": (lambda: GaussianBlur(0.0), "positive"),
    "gaussian of width NaN": (lambda: GaussianBlur(float("nan")), "nan"),
    "motion of even length": (lambda: MotionBlur(4), "odd"),
    "motion too short": (lambda: MotionBlur(1), "at least 3"),
    "motion at no angle": (lambda: MotionBlur(5, float("nan")), "finite"),
    "factor 1": (lambda: SuperResolution(1), "above 1"),
    "factor 0.5": (lambda: SuperResolution(0.5), "0.5"),
    "factor NaN": (lambda: SuperResolution(float("nan")), "nan"),
    "filter unknown": (lambda: SuperResolution(2, "lanczos"), "bicubic, average"),  # type: ignore[arg-type]
    "image of other size": (lambda: SuperResolution(2, shape=(8, 8)).apply(torch.zeros(1, 1, 8, 9)), r"\(8, 8\).*\(8, 9\)"),
    "measurement of other size": (lambda: SuperResolution(2, shape=(8, 8)).adjoint(torch.zeros(1, 1, 4, 5)), r"\(8, 8\).*\(4, 5\)"),
    "matrix of three axes": (lambda: LinearMatrix(torch.ones(1, 2, 3)), r"\(1, 2, 3\)"),
    "matrix of other width": (lambda: LinearMatrix(torch.ones(2, 3), (2, 2)), r"\(2, 2\).*3"),
    "matrix NaN": (lambda: LinearMatrix(torch.tensor([[1.0, float("nan")]])), "finite"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_named(name: str) -> None:
    attempt, message = BAD_INPUT[name]
    with pytest.raises(ValueError, match=message):
        attempt()
