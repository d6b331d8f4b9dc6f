"""What `restore` reads: pictures and measurements, in which range, by which rule."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from problems import MRI, PhaseRetrieval, Tomography, angles_between, channels_of
from problems.reading.ranges import ValueRange
from scoresde import InputError
from scoresde.pipelines.inputs import on_unit_range, read_input
from scoresde.pipelines.run_folder import remove_former_run
from scoresde.pipelines.settings import ProblemOptions
from tests.commands import run
from tests.conftest import seeded

RNG = np.random.default_rng(0)
SCENE = np.kron(RNG.uniform(0, 1, (3, 4, 5)), np.ones((1, 3, 3)))  # (3, 12, 15) on [0, 1]
TRUE = torch.from_numpy(2 * SCENE - 1).float()[None]
DENOISE = ProblemOptions("denoise")


def read(path: Path, problem: ProblemOptions = DENOISE, *, simulate: bool = False) -> Tensor:
    return read_input(path, problem, simulate=simulate, sigma=0.1).x


class TestFloatPictures:
    def test_a_pixel_does_not_change_the_range(self, tmp_path: Path) -> None:
        """A float TIFF on [0, 1] with noise and a hundredth of its pixels above 1."""
        values = SCENE.transpose(1, 2, 0) + RNG.normal(0, 0.05, (12, 15, 3))
        values[0, 0] = 1.5
        tifffile.imwrite(tmp_path / "a.tif", values.astype(np.float32), photometric="rgb")
        x = read(tmp_path / "a.tif")
        np.testing.assert_allclose(x[0], 2 * values.transpose(2, 0, 1) - 1, atol=1e-6)

    @pytest.mark.parametrize(
        ("dtype", "low", "high"),
        [("int16", -1000, 2000), ("int32", 0, 10**6), ("float32", -3.0, 9.0), ("float64", 0, 1e-5)],
    )
    def test_other_units_need_a_range(
        self, tmp_path: Path, dtype: str, low: float, high: float
    ) -> None:
        values = (low + (high - low) * SCENE).transpose(1, 2, 0).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
        with pytest.raises(InputError, match=r"--range LOW,HIGH"):
            read(tmp_path / "a.tif")
        given = ProblemOptions("denoise", range=f"{low},{high}")
        step = 1 / (high - low) if dtype.startswith("int") else 1e-6
        torch.testing.assert_close(read(tmp_path / "a.tif", given), TRUE, atol=3 * step, rtol=0)

    @pytest.mark.parametrize("text", ["1", "1,0", "0,nan", "0,inf", "a,b", "0,1,2", ""])
    def test_a_bad_range_is_named(self, tmp_path: Path, text: str) -> None:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"range"):
            read(tmp_path / "a.png", ProblemOptions("denoise", range=text))


class TestArrays:
    @pytest.mark.parametrize("order", ["CHW", "HWC", "1CHW", "fortran"])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", ">f4", "float16"])
    @pytest.mark.parametrize("suffix", [".npy", ".NPY", ".npz"])
    def test_axes_and_types(self, tmp_path: Path, order: str, dtype: str, suffix: str) -> None:
        kind = np.dtype(dtype)
        top = np.iinfo(kind).max if kind.kind == "u" else None
        values = (np.rint(SCENE * top) if top else 2 * SCENE - 1).astype(kind)
        ordered = {
            "CHW": values,
            "HWC": values.transpose(1, 2, 0),
            "1CHW": values[None],
            "fortran": np.asfortranarray(values),
        }[order]
        path = tmp_path / f"a{suffix}"
        with path.open("wb") as file:
            (np.savez if suffix == ".npz" else np.save)(file, ordered)
        step = 1 / top if top else 1e-3 if dtype == "float16" else 1e-6
        torch.testing.assert_close(read(path), TRUE, atol=1.01 * step, rtol=0)

    def test_grey(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", 2 * SCENE[0] - 1)
        torch.testing.assert_close(read(tmp_path / "a.npy"), TRUE[:, :1])

    def test_units_that_cannot_be_told(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", SCENE)
        with pytest.raises(InputError, match=r"--range 0,1 or --range -1,1"):
            read(tmp_path / "a.npy")
        unit = ProblemOptions("denoise", range="0,1")
        torch.testing.assert_close(read(tmp_path / "a.npy", unit), TRUE)

    def test_a_described_measurement_is_in_the_units_of_its_description(
        self, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "a.npy", SCENE)
        x = read(tmp_path / "a.npy", ProblemOptions("problem.json"))
        torch.testing.assert_close(x[0], torch.from_numpy(SCENE).float())

    def test_an_array_of_pixels_can_be_measured(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.rint(SCENE * 255).astype(np.uint8))
        x = read(tmp_path / "a.npy", simulate=True)
        torch.testing.assert_close(x, TRUE, atol=1.01 / 255, rtol=0)

    @pytest.mark.parametrize(
        "shape", [(2, 3, 4, 4), (5, 4, 4), (4,), (), (4, 4, 2), (1, 1, 3, 4, 4)]
    )
    def test_what_is_no_picture(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        np.save(tmp_path / "a.npy", RNG.uniform(-1, 1, shape))
        with pytest.raises(InputError, match="must hold one picture"):
            read(tmp_path / "a.npy")

    def test_measurements_without_black_and_white(self, tmp_path: Path) -> None:
        """k-space and sinograms are taken as they are; whole numbers have no units there."""
        k_space = 40 * RNG.standard_normal((2, 8, 8))
        np.save(tmp_path / "k.npy", k_space)
        np.save(tmp_path / "i.npy", k_space.astype(np.int32))
        mri = ProblemOptions("mri")
        np.testing.assert_allclose(read(tmp_path / "k.npy", mri)[0], k_space, rtol=1e-6)
        with pytest.raises(InputError, match="must be floating-point numbers"):
            read(tmp_path / "i.npy", mri)
        for named in ("file", "1%,99%"):
            with pytest.raises(InputError, match="has no black and white; --range LOW,HIGH says"):
                read(tmp_path / "k.npy", ProblemOptions("mri", range=named))
        np.save(tmp_path / "k.npy", 1e-30 * k_space)
        ranged = ProblemOptions("mri", range="0,1e-30")
        found = read_input(tmp_path / "k.npy", ranged, simulate=False)
        np.testing.assert_allclose(found.x[0], 1e-30 * k_space, rtol=1e-6)  # the operator scales it
        assert found.of_picture and (found.range.low, found.range.high) == (0, 1e-30)

    def test_complex_numbers(self, tmp_path: Path) -> None:
        """Real and imaginary parts are channels, in the order of `problems.channels_of`."""
        values = (2 * SCENE - 1) * np.exp(1j)
        np.save(tmp_path / "a.npy", values)
        parts = channels_of(torch.from_numpy(values)[None]).float()
        assert parts.shape == (1, 6, 12, 15)
        given = ProblemOptions("denoise", range="-1,1")
        torch.testing.assert_close(read(tmp_path / "a.npy", given), parts)
        torch.testing.assert_close(read(tmp_path / "a.npy", ProblemOptions("mri")), parts)


def test_values_that_are_no_numbers_stay_marked(tmp_path: Path) -> None:
    """The operator decides whether they are missing; a truth must be whole."""
    values = SCENE[0].astype(np.float32)
    values[2, 3], values[4, 5] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", values)
    x = read(tmp_path / "a.tif")
    assert x.isnan().nonzero().tolist() == [[0, 0, 2, 3], [0, 0, 4, 5]]
    with pytest.raises(InputError, match="2 values that are NaN or infinite"):
        read(tmp_path / "a.tif", simulate=True)


class TestRunFolder:
    def test_files_of_an_earlier_run_go_and_others_stay(self, tmp_path: Path) -> None:
        for name in ("draw_1.png", "draw_9.png", "mean.png", "std.png", "mine.png", "draw_x.png"):
            (tmp_path / name).touch()
        (tmp_path / "report.json").write_text(
            '{"files": ["mean.png", "draw_1.png", "std.png", "report.json", "../outside.png"]}'
        )
        outside = tmp_path.parent / "outside.png"
        outside.touch()
        remove_former_run(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["draw_x.png", "mine.png"]
        assert outside.exists()

    def test_what_the_new_run_reads_stays(self, tmp_path: Path) -> None:
        """It may repeat the earlier one from its measurement."""
        names = ["report.json", "measurement.npy", "draw_1.png"]
        for name in names:
            (tmp_path / name).touch()
        (tmp_path / "report.json").write_text(json.dumps({"files": names}))
        remove_former_run(tmp_path, [tmp_path / "a" / ".." / "measurement.npy", None])
        assert [path.name for path in tmp_path.iterdir()] == ["measurement.npy"]

    @pytest.mark.parametrize("report", ["", "[]", '{"files": 3}', '{"files": ["draw_1.png"]}'])
    def test_a_foreign_report_removes_nothing(self, tmp_path: Path, report: str) -> None:
        (tmp_path / "report.json").write_text(report)
        (tmp_path / "draw_1.png").touch()
        remove_former_run(tmp_path)
        assert len(list(tmp_path.iterdir())) == 2


# ---- measurements that are no pictures


def test_a_measurement_in_the_units_of_its_picture() -> None:
    """That of a picture in any range is that of the same picture on [-1, 1]."""
    x = 2 * torch.rand(1, 1, 12, 16, generator=seeded()) - 1
    low, high = -1000.0, 2000.0
    hounsfield = low + (x + 1) / 2 * (high - low)
    for operator in (Tomography(angles_between(5), (12, 16)), MRI(torch.ones(12, 16))):
        y, expected = operator.apply(hounsfield), operator.apply(x)
        found = on_unit_range(operator, y, ValueRange(low, high, "HU"))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="PhaseRetrieval has no units"):
        on_unit_range(PhaseRetrieval(), y, ValueRange(low, high, "HU"))


@pytest.mark.slow
def test_a_sinogram_of_scikit_image(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of a picture on [0, 1], with lengths in pixels."""
    from skimage import data
    from skimage.transform import radon

    from scoresde.pipelines.posterior_file import read_posterior

    image = data.astronaut()[60:188:4, 180:308:4].mean(-1) / 255
    rays = radon(image, np.arange(40) * 4.5, circle=False).astype(np.float32)
    np.save(tmp_path / "rays.npy", rays.T[None])
    np.save(tmp_path / "turned.npy", rays[None])
    how = ("--problem", "tomography", "--set", "angles=40", "--set", "size=32,32", "--samples", 2)
    how += ("--set", "spacing=1", "--range", "0,1", "--sigma", 0.05, "--out", tmp_path / "out")
    code, out, err = run(capsys, "restore", tmp_path / "rays.npy", *how)
    assert code == 0, err
    assert "0 to 1 (of the picture, as --range says)" in out
    mean = read_posterior(tmp_path / "out/posterior.npz", "file")[0]["mean"][0]
    assert 10 * np.log10(1 / np.mean((mean - image) ** 2)) > 27
    code, _, err = run(capsys, "restore", tmp_path / "turned.npy", *how)
    assert code == 2 and "transpose it" in err
