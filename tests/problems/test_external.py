"""Masks, kernels and physics from files and from other libraries."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torch import Tensor

from problems import (
    CountNoise,
    GaussianNoise,
    InverseProblem,
    LaplaceNoise,
    LinearOperator,
    LogPoissonNoise,
    Noise,
    RicianNoise,
    SpeckleNoise,
    UniformNoise,
    from_deepinv,
    noise_from_deepinv,
    problem_from_deepinv,
    read_kernel,
    read_mask,
)
from tests.conftest import randn

OBSERVED = np.array([[1, 0, 1], [0, 1, 1]])
KERNEL = np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 2.0]])


def write(path: Path, array: np.ndarray) -> Path:
    """Write the array as a file of the kind that its name says."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, it=array)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"it": array})
    else:
        Image.fromarray(array).save(path)
    return path


class TestMask:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
    def test_in_an_array_one_is_observed(self, tmp_path: Path, suffix: str, dtype: type) -> None:
        mask = read_mask(write(tmp_path / f"mask{suffix}", OBSERVED.astype(dtype)), (2, 3))
        assert mask.dtype == torch.bool and mask.tolist() == OBSERVED.astype(bool).tolist()

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
    def test_in_a_picture_white_is_missing(self, tmp_path: Path, mode: str) -> None:
        picture = Image.fromarray((255 * (1 - OBSERVED)).astype(np.uint8)).convert(mode)
        picture.save(tmp_path / "mask.png")
        assert read_mask(tmp_path / "mask.png", (2, 3)).tolist() == OBSERVED.astype(bool).tolist()

    def test_soft_edges_are_cut_at_the_middle(self, tmp_path: Path) -> None:
        """One pixel in a hundred may be grey."""
        picture = np.zeros((20, 20), np.uint8)
        picture[:, 10:] = 255
        picture[0, 9], picture[1, 9] = 100, 160
        mask = read_mask(write(tmp_path / "mask.png", picture))
        assert bool(mask[0, 9]) and not bool(mask[1, 9])

    def test_of_one_variable_among_several(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "masks.npz", one=OBSERVED, other=1 - OBSERVED)
        assert read_mask(tmp_path / "masks.npz", key="other").tolist() == (OBSERVED == 0).tolist()
        with pytest.raises(ValueError, match=r"several arrays, one \(2, 3\), other \(2, 3\)"):
            read_mask(tmp_path / "masks.npz")

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match="is 3x2, the image is 4x2; they must be the same size"
        ):
            read_mask(write(tmp_path / "a.npy", OBSERVED), (2, 4))
        with pytest.raises(ValueError, match="not black and white: its values are 16 different"):
            read_mask(write(tmp_path / "b.png", np.arange(16, dtype=np.uint8).reshape(4, 4)))
        with pytest.raises(ValueError, match="not binary"):
            read_mask(write(tmp_path / "c.npy", OBSERVED * 0.5))
        with pytest.raises(ValueError, match="not binary"):
            read_mask(write(tmp_path / "d.mat", np.where(OBSERVED == 1, np.nan, 0)))
        with pytest.raises(ValueError, match=r"two axes, got shape \(2, 2, 3\)"):
            read_mask(write(tmp_path / "e.npy", np.stack([OBSERVED, OBSERVED])))


class TestKernel:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    def test_sums_to_one(self, tmp_path: Path, suffix: str, dtype: type) -> None:
        kernel = read_kernel(write(tmp_path / f"kernel{suffix}", KERNEL.astype(dtype)))
        assert kernel.dtype == torch.float64
        np.testing.assert_allclose(kernel, KERNEL / 12, atol=1e-16)

    def test_of_a_picture(self, tmp_path: Path) -> None:
        """A picture is read as grey, the luma of Rec. 601, to within half a level of 255."""
        picture = np.stack([KERNEL * 20, KERNEL * 60, KERNEL * 40], 2).astype(np.uint8)
        grey = picture @ [0.299, 0.587, 0.114]
        kernel = read_kernel(write(tmp_path / "kernel.png", picture))
        np.testing.assert_allclose(
            kernel * grey.sum(), grey, atol=0.5 + 6 * 0.5 * grey.max() / grey.sum()
        )

    @pytest.mark.parametrize("suffix", [".npz", ".mat"])
    def test_of_one_variable_among_several(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"kernels{suffix}"
        save: Callable[..., None] = (
            np.savez if suffix == ".npz" else lambda path, **parts: scipy.io.savemat(path, parts)
        )
        save(path, sharp=np.ones((1, 1)), soft=KERNEL)
        np.testing.assert_allclose(read_kernel(path, key="soft"), KERNEL / 12, atol=1e-16)
        for key in (None, "hard"):
            with pytest.raises(ValueError, match=r"sharp \(1, 1\), soft \(2, 3\)"):
                read_kernel(path, key)

    @pytest.mark.parametrize(
        ("array", "found"),
        [
            (np.array([[1.0, np.nan]]), r"float64 \(1, 2\)"),
            (np.array([[1.0, np.inf]]), r"float64 \(1, 2\)"),
            (np.ones(3), r"float64 \(3,\)"),
            (np.ones((2, 3, 5)), r"float64 \(2, 3, 5\)"),
            (np.array([[1.0, -1.0]]), r"float64 \(1, 2\)"),
            (np.array([[1j]]), r"complex128 \(1, 1\)"),
        ],
    )
    def test_errors(self, tmp_path: Path, array: np.ndarray, found: str) -> None:
        with pytest.raises(
            ValueError, match=f"of finite numbers with a positive sum, or .* got {found}"
        ):
            read_kernel(write(tmp_path / "kernel.npy", array))

    @pytest.mark.parametrize("reader", [read_kernel, read_mask])
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".png"])
    def test_damaged_files(
        self, tmp_path: Path, suffix: str, reader: Callable[[Path], Tensor]
    ) -> None:
        """Files that are cut, empty, of another kind or missing.

        Overwritten bytes may be noticed or not, but raise nothing other than a ValueError.
        """
        whole = write(tmp_path / f"whole{suffix}", np.full((2, 3), 255, np.uint8)).read_bytes()
        damaged, middle = tmp_path / f"damaged{suffix}", len(whole) // 2
        for content in (b"", b"nonsense", whole[:20], whole[:middle]):
            damaged.write_bytes(content)
            with pytest.raises(ValueError, match="damaged"):
                reader(damaged)
        # scipy's reader of .mat can crash where it cannot be caught
        for start in range(0, len(whole) - 4, 5) if suffix != ".mat" else ():
            damaged.write_bytes(whole[:start] + bytes(4) + whole[start + 4 :])
            with contextlib.suppress(ValueError):
                reader(damaged)
        with pytest.raises(ValueError, match=r"there is no file .*absent"):
            reader(tmp_path / f"absent{suffix}")

    def test_an_empty_file(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "nothing.npz")
        with pytest.raises(ValueError, match="without arrays"):
            read_kernel(tmp_path / "nothing.npz")

    def test_objects_are_not_unpickled(self, tmp_path: Path) -> None:
        np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="cannot read"):
            read_kernel(tmp_path / "object.npy")


class TestPictures:
    """Pictures read as kernels: the values of the picture, divided by their sum."""

    def test_of_sixteen_bits(self, tmp_path: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 65536, (4, 5), dtype=np.uint16)
        np.testing.assert_allclose(
            read_kernel(write(tmp_path / "a.png", picture)), picture / picture.sum(), rtol=1e-13
        )

    @pytest.mark.parametrize("brightest", [1e-3, 1.0, 200.0])
    def test_of_floats(self, tmp_path: Path, brightest: float) -> None:
        picture = brightest * np.random.default_rng(0).random((4, 5), dtype=np.float32)
        expected = picture / picture.sum(dtype=np.float64)
        np.testing.assert_allclose(
            read_kernel(write(tmp_path / "a.tiff", picture)), expected, rtol=1e-13
        )

    def test_is_turned_upright(self, tmp_path: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (4, 5), dtype=np.uint8)
        image = Image.fromarray(picture)
        exif = image.getexif()
        exif[0x0112] = 6  # orientation: turn by a quarter clockwise
        image.save(tmp_path / "a.png", exif=exif)
        np.testing.assert_allclose(
            read_kernel(tmp_path / "a.png"), np.rot90(picture, -1) / picture.sum(), rtol=1e-13
        )

    def test_transparent_pixels_keep_their_colours(self, tmp_path: Path) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
        picture[..., 1:3] = picture[..., :1]
        picture[..., 3] = 0
        expected = picture[..., 0] / picture[..., 0].sum()
        np.testing.assert_allclose(
            read_kernel(write(tmp_path / "a.png", picture)), expected, rtol=1e-13
        )

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"there is no file .*absent.png"):
            read_kernel(tmp_path / "absent.png")
        (tmp_path / "text.png").write_text("not a picture")
        with pytest.raises(ValueError, match=r"cannot read .*text.png as an image"):
            read_kernel(tmp_path / "text.png")
        with pytest.raises(ValueError, match="finite numbers"):
            read_kernel(write(tmp_path / "nan.tiff", np.array([[0.5, np.nan]], dtype=np.float32)))


class Blurred:
    """An object with the interface of deepinv's linear physics."""

    def A(self, x: Tensor, **_: object) -> Tensor:
        return (x + x.roll(1, -1)) / 2

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        return 7 * y  # wrong on purpose: it must not be called


class Saturated:
    def A(self, x: Tensor) -> Tensor:
        return torch.tanh(3 * x)


class TestDeepinv:
    def test_linear(self) -> None:
        x, y = randn(2, 1, 4, 5), randn(2, 1, 4, 5, seed=1)
        operator = from_deepinv(Blurred(), (1, 4, 5))
        assert isinstance(operator, LinearOperator)
        torch.testing.assert_close(operator.apply(x), (x + x.roll(1, -1)) / 2, atol=0, rtol=0)
        torch.testing.assert_close(
            operator.adjoint(y), (y + y.roll(-1, -1)) / 2, atol=1e-15, rtol=0
        )
        assert "gaussian_noise" in InverseProblem(operator, GaussianNoise(0.1)).capabilities

    def test_nonlinear(self) -> None:
        x = randn(2, 1, 4, 5)
        operator = from_deepinv(Saturated(), (1, 4, 5))
        assert not isinstance(operator, LinearOperator)
        torch.testing.assert_close(operator.apply(x), torch.tanh(3 * x), atol=0, rtol=0)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="a method A; object has none"):
            from_deepinv(object(), (1, 4, 5))

        class Many(Saturated):
            def A(self, x: Tensor) -> Tensor:
                return [x, x]  # type: ignore[return-value]

        with pytest.raises(ValueError, match=r"Many\.A gives a list, not one tensor"):
            from_deepinv(Many(), (1, 4, 5))

        class Liar(Saturated):
            A_adjoint = Saturated.A

        with pytest.raises(ValueError, match="not linear"):
            from_deepinv(Liar(), (1, 4, 5))

    def test_the_real_one(self) -> None:
        deepinv = pytest.importorskip("deepinv")
        x = randn(2, 3, 16, 16).float()
        kernel = torch.rand(1, 1, 3, 3)
        for physics in (
            deepinv.physics.Denoising(),
            deepinv.physics.Inpainting((3, 16, 16), mask=0.5),
            deepinv.physics.Blur(filter=kernel, padding="circular"),
            deepinv.physics.Downsampling(img_size=(3, 16, 16), factor=2, filter="gaussian"),
        ):
            operator = from_deepinv(physics, (3, 16, 16))
            assert isinstance(operator, LinearOperator)
            y = physics.A(x)
            torch.testing.assert_close(operator.apply(x), y)
            torch.testing.assert_close(
                operator.adjoint(y), physics.A_adjoint(y), atol=1e-4, rtol=1e-4
            )


def model(name: str, **settings: object) -> object:
    """An object of a class of this name with these settings, as deepinv's noise models."""
    return type(name, (), settings)()


class TestNoiseOfDeepinv:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (model("GaussianNoise", sigma=torch.tensor(0.1)), GaussianNoise(0.1)),
            (model("GaussianNoise", sigma=torch.tensor([0.1])), GaussianNoise(0.1)),
            (model("GaussianNoise", sigma=0.1), GaussianNoise(0.1)),
            (model("PoissonNoise", gain=torch.tensor(0.05)), CountNoise(0.05)),
            (
                model("PoissonNoise", gain=torch.tensor(1.0), normalize=torch.tensor(False)),
                CountNoise(),
            ),
            (
                model("PoissonGaussianNoise", gain=torch.tensor(0.05), sigma=torch.tensor(0.2)),
                CountNoise(0.05, 0.2),
            ),
            (
                model("LogPoissonNoise", N0=torch.tensor(1024.0), mu=torch.tensor(0.02)),
                LogPoissonNoise(1024.0, 0.02),
            ),
            (model("GammaNoise", l=torch.tensor(3.0)), SpeckleNoise(3.0, 0.0)),
            (model("UniformNoise", a=torch.tensor(0.1)), UniformNoise(0.2)),
            (model("LaplaceNoise", b=torch.tensor(0.1)), LaplaceNoise(0.1)),
            (model("RicianNoise", sigma=torch.tensor(0.1)), RicianNoise(0.1, 0.0)),
        ],
        ids=lambda value: repr(value) if isinstance(value, Noise) else type(value).__name__,
    )
    def test_settings(self, given: object, expected: Noise) -> None:
        assert repr(noise_from_deepinv(given)) == repr(expected)

    def test_problem(self) -> None:
        physics = Blurred()
        physics.noise_model = model("RicianNoise", sigma=0.2)  # type: ignore[attr-defined]
        problem = problem_from_deepinv(physics, (1, 4, 5))
        assert "linear" in problem.capabilities and repr(problem.noise) == repr(
            RicianNoise(0.2, 0.0)
        )

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (None, "this physics has no noise; state one"),
            (model("ZeroNoise"), "this physics has no noise; state one"),
            (model("SaltPepperNoise", p=0.1, s=0.1), "without noise, which has no likelihood"),
            (model("UniformGaussianNoise", sigma_max=0.1), "another level for each picture"),
            (model("FisherTippettNoise", l=1.0), "it is speckle after the logarithm"),
            (model("StrangeNoise"), "StrangeNoise of deepinv has no counterpart"),
            (model("GaussianNoise", sigma=torch.ones(3)), "sigma has 3 values"),
            (model("GaussianNoise"), "no setting sigma"),
            (model("PoissonNoise", gain=0.1, normalize=False), "measures mean / gain"),
        ],
    )
    def test_errors(self, given: object, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            noise_from_deepinv(given)

    def test_the_real_ones(self) -> None:
        """Mean and variance of the draws of both, within 6 standard errors of each other."""
        deepinv = pytest.importorskip("deepinv")
        n, mean = 40_000, 0.6
        x = torch.full((1, 1, 1, n), mean)
        for name in (
            "GaussianNoise",
            "PoissonNoise",
            "PoissonGaussianNoise",
            "LogPoissonNoise",
            "GammaNoise",
            "UniformNoise",
            "LaplaceNoise",
            "RicianNoise",
        ):
            theirs = getattr(deepinv.physics, name)()
            ours = noise_from_deepinv(theirs).sample(x, torch.Generator().manual_seed(0))
            a, b = theirs(x), ours
            for moment in (lambda y: y, lambda y: (y - mean) ** 2):
                p, q = moment(a), moment(b)
                error = ((p.var() + q.var()) / n).sqrt()
                assert abs(float(p.mean() - q.mean())) < 6 * float(error), name
