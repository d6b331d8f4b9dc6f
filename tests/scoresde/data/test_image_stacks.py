"""Training on floats, 16 bits, complex numbers, stacks and any number of channels."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from scoresde import InputError, load_prior
from scoresde.data.datasets import AUGMENTATIONS, DeviceImages, ImageArray, ImageFolder
from scoresde.data.stacks import ImageStacks, array_type, list_own_numbers
from scoresde.files import read_header
from tests.commands import run
from tests.conftest import seeded

RNG = np.random.default_rng(0)
SMALL = (
    *("--steps", 2, "--batch", 2, "--crop", 8, "--widths", "8", "--blocks", 1),
    *("--attention", "none", "--device", "cpu", "--no-compile", "--precision", "no"),
)


def places(values: np.ndarray, crops: torch.Tensor) -> set[int]:
    """Entries of `values` at the first corner of crops; all must be distinct in it."""
    flat = values.reshape(-1)
    return {int(np.abs(flat - float(crop[0, 0, 0])).argmin()) for crop in crops}


class TestCrops:
    @pytest.mark.parametrize("cached", [True, False])
    def test_they_are_pieces_of_the_slices(self, tmp_path: Path, cached: bool) -> None:
        """Every entry is its place in the data, so a crop shows where it was cut."""
        values = np.arange(3 * 5 * 7, dtype=np.float64).reshape(3, 5, 7)
        np.save(tmp_path / "a.npy", values)
        data = ImageStacks(
            [tmp_path / "a.npy"], value_range=(0, 104), cache_bytes=1 << 20 if cached else 0
        )
        assert (len(data), data.channels) == (3, 1)
        x = (data.batch(300, 4, seeded()).double() + 1) * 52
        seen = set()
        for crop in x[:, 0].round().numpy():
            n, i, j = (int(v) for v in np.unravel_index(int(crop[0, 0]), values.shape))
            assert np.array_equal(crop, values[n, i : i + 4, j : j + 4])
            seen.add((n, i, j))
        assert len(seen) == 3 * 2 * 4

    @pytest.mark.slow
    def test_the_file_on_disk_is_not_read_whole(self, tmp_path: Path) -> None:
        """A zarr of 64 MB in memory of its chunks alone: no chunk is written but one."""
        import zarr

        store = zarr.create_array(
            str(tmp_path / "a.zarr"),
            shape=(1000, 128, 128),
            chunks=(1, 128, 128),
            dtype="f4",
            dimension_names=("z", "y", "x"),
            fill_value=2.0,
        )
        store[7] = 5.0
        data = ImageStacks([tmp_path / "a.zarr"], value_range=(0, 4), cache_bytes=1 << 20)
        assert len(data) == 1000 and not data._cache
        assert set(data.batch(50, 64, seeded()).unique().tolist()) <= {0.0, 1.5}
        assert not data._cache

    @pytest.mark.parametrize("augment", AUGMENTATIONS)
    def test_augmentations_are_what_they_say(self, tmp_path: Path, augment: str) -> None:
        picture = np.arange(16.0).reshape(1, 4, 4)
        np.save(tmp_path / "a.npy", picture)
        data = ImageStacks([tmp_path / "a.npy"], value_range=(0, 15), augment=augment)
        found = {tuple(x.flatten().tolist()) for x in data.batch(200, 4, seeded()) * 7.5 + 7.5}
        square = picture[0]
        right = {
            "none": [square],
            "mirror": [square, np.fliplr(square)],
            "flips": [square, np.fliplr(square), np.flipud(square), np.rot90(square, 2)],
            "turns": [np.rot90(s, k) for s in (square, square.T) for k in range(4)],
        }[augment]
        near = {tuple(round(v) for v in one) for one in found}
        assert near == {tuple(int(v) for v in one.flatten()) for one in right}

    def test_folders_and_devices_agree_in_each_augmentation(self, tmp_path: Path) -> None:
        Image.fromarray(RNG.integers(0, 256, (9, 11, 3), np.uint8)).save(tmp_path / "a.png")
        for augment in AUGMENTATIONS:
            folder = ImageFolder(tmp_path, augment=augment)
            there = DeviceImages(folder, torch.device("cpu"))
            assert torch.equal(folder.batch(20, 6, seeded()), there.batch(20, 6, seeded()))

    def test_eight_bits_are_as_before(self, tmp_path: Path) -> None:
        """The numbers that the first release draws from this folder and array."""
        level = np.arange(8 * 9, dtype=np.uint8).reshape(8, 9)
        Image.fromarray(level).save(tmp_path / "a.png")
        np.save(tmp_path / "a.npy", level[None])
        u = torch.rand(5, 4, generator=seeded(), dtype=torch.float64).numpy()
        folder = ImageFolder(tmp_path, 1).batch(5, 4, seeded())
        array = ImageArray(tmp_path / "a.npy").batch(5, 4, seeded())
        for i, (_, top, left, turn) in enumerate(u):
            crop = level[int(top * 5) :, int(left * 6) :][:4, :4]
            assert torch.equal(array[i, 0], torch.from_numpy(crop / 127.5 - 1).float())
            turned = np.rot90(crop, int(turn * 8) % 4)
            turned = turned[:, ::-1] if int(turn * 8) >= 4 else turned
            right = torch.from_numpy(turned.astype(np.float32)) / 127.5 - 1
            assert torch.equal(folder[i, 0], right)


class TestRanges:
    def test_sixteen_bits_have_their_full_scale(self, tmp_path: Path) -> None:
        deep = RNG.integers(0, 65536, (8, 10, 3), np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
        data = ImageStacks(list_own_numbers(tmp_path))
        assert data.value_range == {"low": [0.0] * 3, "high": [65535.0] * 3, "units": None}
        x = data.batch(1, 8, seeded())[0].permute(1, 2, 0)
        steps = (x.double() + 1) * 65535 / 2
        assert float((steps - steps.round()).abs().max()) < 0.01
        assert len(x.unique()) > 180  # of 192; 8 bits would merge more

    def test_each_channel_is_measured(self, tmp_path: Path) -> None:
        """Mean 0 and standard deviation 1/2 in each channel: the moments of all values."""
        scale = np.array([1.0, 100.0, 1e-3, 5.0, 7.0])
        values = RNG.normal(3.0, 2.0, (6, 12, 10, 5)) * scale
        np.save(tmp_path / "a.npy", values)
        data = ImageStacks([tmp_path / "a.npy"])
        mean, std = values.mean((0, 1, 2)), values.std((0, 1, 2))
        assert data.channels == 5
        np.testing.assert_allclose(data.low, mean - 2 * std, rtol=1e-9)
        np.testing.assert_allclose(data.high, mean + 2 * std, rtol=1e-9)

    def test_small_deviations_from_a_large_mean(self, tmp_path: Path) -> None:
        """The squares of 1e6 are rounded to 1e-4, as much as the variance is."""
        values = RNG.normal(1e6, 1e-2, (3, 12, 10))
        np.save(tmp_path / "a.npy", values)
        data = ImageStacks([tmp_path / "a.npy"])
        np.testing.assert_allclose(data.high - data.low, 4 * values.std(), rtol=1e-6)

    def test_channels_decide_the_axes_of_arrays(self, tmp_path: Path) -> None:
        for shape, channels, right in (
            ((3, 8, 9), None, (3, 1)),
            ((3, 8, 9), 3, (1, 3)),
            ((8, 9, 3), 3, (1, 3)),
            ((2, 8, 9, 4), None, (2, 4)),
            ((2, 4, 8, 9), 4, (2, 4)),
            ((8, 9), None, (1, 1)),
        ):
            np.save(tmp_path / "a.npy", RNG.normal(size=shape))
            data = ImageStacks([tmp_path / "a.npy"], channels=channels)
            assert (len(data), data.channels, data._sides) == (*right, [(8, 9)])

    def test_complex_numbers_keep_their_phase(self, tmp_path: Path) -> None:
        """Both parts have one scale about zero: a turn of the phase is a turn of the data."""
        values = RNG.normal(size=(4, 8, 9)) + 1j * RNG.normal(size=(4, 8, 9)) + 2
        np.save(tmp_path / "a.npy", values.astype(np.complex64))
        data = ImageStacks([tmp_path / "a.npy"])
        rms = np.sqrt((np.abs(values) ** 2).mean() / 2)
        assert data.channels == 2
        np.testing.assert_allclose(data.high, [2 * rms] * 2, rtol=1e-6)
        np.testing.assert_allclose(data.low, -data.high)
        crop = data.batch(1, 8, seeded())[0].double().numpy() * 2 * rms
        whole = crop[0] + 1j * crop[1]
        assert any(np.allclose(whole, v[:, j : j + 8], atol=1e-5) for v in values for j in range(2))

    def test_values_that_are_no_numbers_are_named_by_file(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            values = RNG.normal(size=(2, 8, 8))
            if name != "b":
                values[1, 2, 3], values[0, 0, 0] = np.nan, np.inf
            np.save(tmp_path / f"{name}.npy", values)
        with pytest.raises(InputError, match=r"infinite in .*a\.npy \(2\), .*c\.npy \(2\); fill"):
            ImageStacks(list_own_numbers(tmp_path))

    def test_files_of_different_kinds(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", RNG.normal(size=(2, 8, 8)))
        np.save(tmp_path / "b.npy", RNG.normal(size=(2, 8, 8, 4)))
        with pytest.raises(InputError, match=r"b\.npy has 4 channels in no unit"):
            ImageStacks(list_own_numbers(tmp_path))
        np.save(tmp_path / "c.npy", np.full((2, 8, 8), 0.1))  # no binary fraction
        with pytest.raises(InputError, match="one value everywhere"):
            ImageStacks([tmp_path / "c.npy"])
        with pytest.raises(InputError, match=r"a\.npy is 8x8.*--crop"):
            ImageStacks([tmp_path / "a.npy"]).check_crop(9)


def test_which_folders_are_read_in_their_own_numbers(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    np.save(tmp_path / "stray.npy", np.ones((2, 8, 8)))
    assert list_own_numbers(tmp_path) == []
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "b.png")
    assert [path.name for path in list_own_numbers(tmp_path)] == ["a.png", "b.png"]
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    assert [path.name for path in list_own_numbers(tmp_path)] == ["stray.npy"]
    assert array_type(tmp_path / "stray.npy") == "float64"


class TestCommand:
    def test_the_prior_remembers_the_range(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """Floats of two channels, not square; the card has what -1 and 1 were."""
        values = RNG.normal(50, 10, (3, 9, 12, 2)).astype(np.float32)
        np.save(tmp_path / "a.npy", values)
        line = ("train", tmp_path / "a.npy", "--out", tmp_path / "run", *SMALL)
        code, out, err = run(capsys, *line)
        assert code == 0 and "trained 2 steps on 3 images" in out, err
        card = read_header(tmp_path / "run/prior.safetensors")["card"]
        moments = values.astype(float).mean((0, 1, 2)), values.astype(float).std((0, 1, 2))
        np.testing.assert_allclose(card["data"]["low"], moments[0] - 2 * moments[1])
        assert load_prior(tmp_path / "run/prior.safetensors").shape == (2, 8, 8)
        code, _, err = run(capsys, *line, "--resume", "--range", "0,100")
        assert code == 2 and "made with other settings (data.low" in err and err.count("\n") == 1

    def test_hounsfield_units(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        from tests.problems.test_sources import write_dicom

        write_dicom(tmp_path, RNG.integers(0, 4000, (9, 12), np.uint16))
        line = ("train", tmp_path, "--out", tmp_path / "run", *SMALL, "--range=-1024,976")
        code, _, err = run(capsys, *line, "--augment", "mirror")
        assert code == 0, err
        card = read_header(tmp_path / "run/prior.safetensors")["card"]
        assert card["data"] == {"low": [-1024.0], "high": [976.0], "units": "HU"}

    def test_wrong_options(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        np.save(tmp_path / "f.npy", RNG.normal(size=(2, 9, 9)))
        np.save(tmp_path / "u.npy", RNG.integers(0, 256, (2, 9, 9), np.uint8))
        for name, more, message in (
            ("f.npy", ("--channels", 3), "have 1 channels; pass --channels 1"),
            ("f.npy", ("--augment", "spin"), "unknown augmentation 'spin'"),
            ("f.npy", ("--flips", "--augment", "none"), "exclude each other"),
            ("f.npy", ("--range", "1,0"), "black below white"),
            ("f.npy", ("--dequantise",), "single .npy, .npz or .mat file of bytes"),
            ("u.npy", ("--range", "0,1", "--channels", 1), "files that are not of 8 bits"),
        ):
            line = ("train", tmp_path / name, "--out", tmp_path / "o", *SMALL, *more)
            code, out, err = run(capsys, *line)
            assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err
