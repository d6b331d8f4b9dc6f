"""Reading and writing photographs: every common kind of file, and one clear line for bad ones."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from scoresde import InputError
from scoresde.data.datasets import ImageFolder, list_images
from scoresde.data.images import centre_crop, read_image, to_uint8, write_image
from scoresde.files import check_writable
from tests.conftest import seeded

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = COLOUR[..., 0].copy()


def tensor_of(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W) or (H, W, C) -> (C, H, W) in [-1, 1]."""
    x = torch.from_numpy(pixels.astype(np.float32)) / 255 * 2 - 1
    return x[None] if x.ndim == 2 else x.permute(2, 0, 1)


def one_line(error: pytest.ExceptionInfo, path: Path) -> bool:
    return "\n" not in str(error.value) and str(path) in str(error.value)


class TestCentreCrop:
    @pytest.mark.parametrize(("side", "top", "left"), [(5, 0, 1), (3, 1, 2), (2, 1, 2), (1, 2, 3)])
    def test_it_is_the_middle(self, tmp_path: Path, side: int, top: int, left: int) -> None:
        Image.fromarray(COLOUR).save(tmp_path / "a.png")
        crop = centre_crop(tmp_path / "a.png", side)
        expected = tensor_of(COLOUR)[None, :, top : top + side, left : left + side]
        assert crop.is_contiguous()
        torch.testing.assert_close(crop, expected)

    def test_a_picture_that_is_too_small_is_named(self, tmp_path: Path) -> None:
        Image.fromarray(GREY).save(tmp_path / "a.png")
        with pytest.raises(InputError, match=r"a\.png is 7x5, smaller than the crop 6") as error:
            centre_crop(tmp_path / "a.png", 6)
        assert one_line(error, tmp_path / "a.png")


class TestReading:
    def test_colour(self, tmp_path: Path) -> None:
        Image.fromarray(COLOUR).save(tmp_path / "a.png")
        x = read_image(tmp_path / "a.png")
        assert x.dtype == torch.float32 and x.shape == (3, 5, 7) and x.is_contiguous()
        torch.testing.assert_close(x, tensor_of(COLOUR))

    def test_black_and_white_are_the_ends_of_the_range(self, tmp_path: Path) -> None:
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").flatten().tolist() == [-1, 1]

    def test_grey_has_one_channel(self, tmp_path: Path) -> None:
        Image.fromarray(GREY).save(tmp_path / "a.png")
        torch.testing.assert_close(read_image(tmp_path / "a.png"), tensor_of(GREY))

    def test_one_bit(self, tmp_path: Path) -> None:
        Image.fromarray(GREY > 127).save(tmp_path / "a.png")
        torch.testing.assert_close(
            read_image(tmp_path / "a.png"), tensor_of(np.where(GREY > 127, 255, 0))
        )

    @pytest.mark.parametrize("pixels", [COLOUR, GREY], ids=["RGBA", "LA"])
    def test_transparent_pixels_keep_their_colour(self, tmp_path: Path, pixels: np.ndarray) -> None:
        alpha = RNG.integers(0, 256, GREY.shape, dtype=np.uint8)
        alpha[0, 0] = 0
        image = Image.fromarray(np.dstack([pixels, alpha]))
        assert image.mode == ("RGBA" if pixels.ndim == 3 else "LA")
        image.save(tmp_path / "a.png")
        torch.testing.assert_close(read_image(tmp_path / "a.png"), tensor_of(pixels))

    @pytest.mark.parametrize("transparent", [False, True])
    def test_palette(self, tmp_path: Path, transparent: bool) -> None:
        colours = np.array([[255, 0, 0], [0, 255, 10], [9, 8, 7]], np.uint8)
        index = RNG.integers(0, 3, (4, 6), dtype=np.uint8)
        image = Image.new("P", (6, 4))
        image.putdata(index.ravel().tolist())
        image.putpalette(colours.ravel().tolist())
        image.save(tmp_path / "a.png", **({"transparency": 1} if transparent else {}))
        torch.testing.assert_close(read_image(tmp_path / "a.png"), tensor_of(colours[index]))

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_sixteen_bits_keep_their_depth(self, tmp_path: Path, suffix: str) -> None:
        pixels = np.array([[0, 1, 2], [300, 32768, 65535]], np.uint16)
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        x = read_image(tmp_path / f"a.{suffix}")
        torch.testing.assert_close(
            x[0].double(), torch.from_numpy(pixels / 65535 * 2 - 1), atol=1.2e-7, rtol=0
        )
        assert len(x.unique()) == 6

    @pytest.mark.parametrize(
        ("pixels", "scale"), [([[0.0, 0.25, 1.0]], 1.0), ([[0.0, 64.0, 255.0]], 255.0)]
    )
    def test_float_files(self, tmp_path: Path, pixels: list, scale: float) -> None:
        Image.fromarray(np.array(pixels, np.float32)).save(tmp_path / "a.tif")
        np.testing.assert_allclose(
            read_image(tmp_path / "a.tif")[0], np.array(pixels) / scale * 2 - 1, atol=1e-6
        )

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright_whatever_the_camera_says(self, tmp_path: Path, orientation: int) -> None:
        """EXIF orientation k: the turn that makes the stored pixels upright (TIFF 6.0, tag 274)."""
        upright = {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1),
            6: lambda a: np.rot90(a, -1),
            7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
            8: lambda a: np.rot90(a),
        }[orientation]
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
        torch.testing.assert_close(
            read_image(tmp_path / "a.png"), tensor_of(np.ascontiguousarray(upright(COLOUR)))
        )

    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_single_pixel(self, tmp_path: Path, channels: int) -> None:
        x = torch.full((channels, 1, 1), 1 / 255)
        write_image(x, tmp_path / "a.png")
        torch.testing.assert_close(read_image(tmp_path / "a.png"), x)


class TestUnreadable:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as error:
            read_image(tmp_path / "no.png")
        assert one_line(error, tmp_path / "no.png")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as error:
            read_image(tmp_path)
        assert one_line(error, tmp_path)

    @pytest.mark.parametrize(
        "content",
        [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"],
        ids=["empty", "text", "png", "jpeg"],
    )
    def test_not_an_image(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(InputError) as error:
            read_image(tmp_path / "a.png")
        assert one_line(error, tmp_path / "a.png")

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "ppm"])
    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
    def test_truncated(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
        with pytest.raises(InputError) as error:
            read_image(path)
        assert one_line(error, path)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_pixels_that_are_no_numbers(self, tmp_path: Path, value: float) -> None:
        Image.fromarray(np.array([[0.5, value]], np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match="NaN or infinite") as error:
            read_image(tmp_path / "a.tif")
        assert one_line(error, tmp_path / "a.tif")


class TestWriting:
    @pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)])
    @pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "PNG"])
    def test_all_values_come_back(
        self, tmp_path: Path, shape: tuple[int, ...], suffix: str
    ) -> None:
        """Each of the 256 values survives file -> tensor -> file, bit by bit."""
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        x = tensor_of(values).expand(shape)
        write_image(x, tmp_path / f"a.{suffix}")
        back = read_image(tmp_path / f"a.{suffix}")
        assert torch.equal(back, x)
        assert np.array_equal(
            np.asarray(Image.open(tmp_path / f"a.{suffix}")).reshape(16, 16, -1)[..., -1], values
        )
        assert np.array_equal(to_uint8(back).reshape(16, 16, -1)[..., 0], values)

    def test_rounds_and_clips(self) -> None:
        x = torch.tensor([[[-3.0, -1.0, -1 + 0.9 / 255, -1 + 1.1 / 255, 0.0, 1.0, 2.0]]])
        assert to_uint8(x).tolist() == [[0, 0, 0, 1, 128, 255, 255]]

    def test_leaves_one_file_that_others_may_read(self, tmp_path: Path) -> None:
        write_image(torch.zeros(3, 4, 4), tmp_path / "a.png")
        write_image(torch.ones(3, 4, 4), tmp_path / "a.png")
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
        assert float(read_image(tmp_path / "a.png").min()) == 1
        assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644

    @pytest.mark.parametrize("name", ["a.xyz", "a", "a.psd", "a.fits"])
    def test_formats_that_cannot_be_written(self, tmp_path: Path, name: str) -> None:
        """Pillow does not know the first two and can only read the others."""
        with pytest.raises(InputError) as error:
            write_image(torch.zeros(3, 4, 4), tmp_path / name)
        assert "\n" not in str(error.value)
        assert not list(tmp_path.iterdir())

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as error:
            write_image(torch.zeros(3, 4, 4), tmp_path / "no" / "a.png")
        assert one_line(error, tmp_path / "no" / "a.png")

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(InputError) as error:
            write_image(torch.zeros(3, 4, 4), tmp_path / "file" / "a.png")
        assert one_line(error, tmp_path / "file" / "a.png")
        with pytest.raises(InputError) as error:
            check_writable(tmp_path / "file")
        assert one_line(error, tmp_path / "file")

    def test_a_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()
        with pytest.raises(InputError) as error:
            write_image(torch.zeros(3, 4, 4), tmp_path / "a.png")
        assert one_line(error, tmp_path / "a.png")
        assert [p.name for p in tmp_path.iterdir()] == ["a.png"]

    def test_folder_without_permission(self, tmp_path: Path) -> None:
        locked = tmp_path / "locked"
        locked.mkdir()
        locked.chmod(0o500)
        if os.access(locked, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(InputError) as error:
            write_image(torch.zeros(3, 4, 4), locked / "a.png")
        assert one_line(error, locked / "a.png")
        with pytest.raises(InputError) as error:
            check_writable(locked)
        assert one_line(error, locked)


class TestImageFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Two images whose pixels encode image, row and column."""
        (tmp_path / "sub").mkdir()
        rows, columns = np.mgrid[:20, :30].astype(np.uint8)
        Image.fromarray(np.dstack([rows, columns, 0 * rows])).save(tmp_path / "b.png")
        Image.fromarray(np.dstack([rows, columns, 0 * rows + 1])).save(tmp_path / "sub" / "a.PNG")
        (tmp_path / "notes.txt").write_text("no image")
        return tmp_path

    def test_lists_images_in_order(self, folder: Path) -> None:
        assert [p.relative_to(folder).as_posix() for p in list_images(folder)] == [
            "b.png",
            "sub/a.PNG",
        ]

    @pytest.mark.parametrize("cache_bytes", [1 << 20, 0])
    def test_crops_are_pieces_of_the_images(self, folder: Path, cache_bytes: int) -> None:
        """Each crop is one of the eight turns of a window.

        Among many crops every image, corner and turn occurs.
        """
        data = ImageFolder(folder, cache_bytes=cache_bytes)
        crops = data.batch(400, 8, seeded(0))
        assert crops.shape == (400, 3, 8, 8) and crops.dtype == torch.float32
        pixels = np.rint((crops.numpy() + 1) * 127.5).astype(int)
        kinds, tops, lefts, turns = set(), set(), set(), set()
        for row, column, image in pixels:
            assert len(np.unique(image)) == 1
            steps = (
                row[1, 0] - row[0, 0],
                row[0, 1] - row[0, 0],
                column[1, 0] - column[0, 0],
                column[0, 1] - column[0, 0],
            )
            turns.add(steps)
            kinds.add(image[0, 0])
            tops.add(row.min())
            lefts.add(column.min())
            window = {
                (r, c)
                for r in range(row.min(), row.min() + 8)
                for c in range(column.min(), column.min() + 8)
            }
            assert set(zip(row.ravel(), column.ravel(), strict=True)) == window
        assert (
            kinds == {0, 1}
            and tops == set(range(13))
            and lefts == set(range(23))
            and len(turns) == 8
        )

    def test_the_seed_decides(self, folder: Path) -> None:
        data, again = ImageFolder(folder), ImageFolder(folder, cache_bytes=0)
        first, second = (d.batch(5, 8, seeded(1)) for d in (data, again))
        assert torch.equal(first, second)

    def test_channels_are_made_to_fit(self, folder: Path) -> None:
        grey = ImageFolder(folder, channels=1).batch(3, 8, seeded(0))
        colour = ImageFolder(folder).batch(3, 8, seeded(0))
        assert grey.shape == (3, 1, 8, 8)
        torch.testing.assert_close(grey, colour.mean(1, keepdim=True), atol=1 / 255 + 1e-6, rtol=0)

    def test_grey_images_become_colour(self, tmp_path: Path) -> None:
        Image.fromarray(GREY).save(tmp_path / "a.png")
        crops = ImageFolder(tmp_path).batch(2, 4, seeded(0))
        assert crops.shape == (2, 3, 4, 4) and torch.equal(crops[:, 0], crops[:, 2])

    def test_bad_folders(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not a folder"):
            ImageFolder(tmp_path / "no")
        with pytest.raises(InputError, match="not a folder"):
            ImageFolder(folder / "b.png")
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="no images"):
            ImageFolder(tmp_path / "empty")
        with pytest.raises(InputError, match=r"30x20.*21"):
            ImageFolder(folder).batch(1, 21, torch.Generator())
