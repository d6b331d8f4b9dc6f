"""Sizes of pictures without decoding them, and folders that are checked before training."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.data.datasets import ImageArray, ImageFolder, list_images
from scoresde.data.headers import check_crop, picture_size
from scoresde.errors import InputError
from scoresde.training import train
from tests.scoresde.training.conftest import CONFIG


def png(path: Path, width: int, height: int, depth: int = 1, colour: int = 0) -> Path:
    """A PNG file by its specification, black, with as many pixels as its head states."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    samples = {0: 1, 2: 3}[colour]
    row = b"\0" + bytes(-(-width * depth * samples // 8))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(row * height if width * height < 10**6 else row)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def photo(path: Path, height: int = 20, width: int = 24) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)).save(path)
    return path


class TestSize:
    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.pgm"])
    def test_of_every_format(self, tmp_path: Path, name: str) -> None:
        assert picture_size(photo(tmp_path / name)) == (24, 20)

    def test_of_samples_that_pillow_does_not_know(self, tmp_path: Path) -> None:
        import tifffile

        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 7, 3), np.float64), photometric="rgb")
        assert picture_size(tmp_path / "a.tif") == (7, 5)

    @pytest.mark.filterwarnings("error")
    def test_of_large_pictures(self, tmp_path: Path) -> None:
        """Without a warning of Pillow, and without its limit."""
        assert picture_size(png(tmp_path / "a.png", 9600, 9600)) == (9600, 9600)
        with pytest.raises(InputError, match="has 400 megapixels, more than the 268"):
            picture_size(png(tmp_path / "b.png", 20_000, 20_000))
        assert Image.MAX_IMAGE_PIXELS is not None

    def test_of_what_is_no_picture(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("not a picture")
        (tmp_path / "b.tif").write_bytes(b"II*\0 and no more")
        (tmp_path / "c.png").touch()
        for name in ("a.png", "b.tif", "c.png"):
            with pytest.raises(InputError, match=f"{name} is not a picture"):
                picture_size(tmp_path / name)
        with pytest.raises(InputError, match="there is no file"):
            picture_size(tmp_path / "none.png")


class TestFolders:
    def test_hidden_files_do_not_count(self, tmp_path: Path) -> None:
        """Notes of macOS and others; but a data set may lie below a hidden folder."""
        home = tmp_path / ".cache" / "photos"
        (home / ".thumbnails").mkdir(parents=True)
        (home / "folder.png").mkdir()
        (home / "._a.png").write_bytes(b"\0\5\x16\7")
        photo(home / ".thumbnails" / "a.png")
        with pytest.raises(InputError, match="no images under"):
            list_images(home)
        photo(home / "a.png")
        assert [path.name for path in list_images(home)] == ["a.png"]

    def test_bad_files_are_counted_and_the_first_are_named(self, tmp_path: Path) -> None:
        for name in "abcd":
            (tmp_path / f"{name}.png").write_text("not a picture")
        photo(tmp_path / "e.png", 20, 7)
        photo(tmp_path / "f.png")
        paths = list_images(tmp_path)
        with pytest.raises(InputError) as error:
            check_crop(paths, 8)
        message = str(error.value)
        assert message.startswith("5 of 6 pictures cannot be used: ")
        assert all(f"{name}.png is not a picture" in message for name in "abc")
        assert "d.png" not in message and "; and 2 more; remove them" in message
        with pytest.raises(InputError, match=r"1 of 2 .*e\.png is 7x20, smaller than the crop 8"):
            check_crop(paths[-2:], 8)
        check_crop(paths[-2:], 7)

    def test_a_training_finds_them_before_its_first_step(self, tmp_path: Path) -> None:
        """The second picture would be drawn at some step; nothing is written before."""
        folder, out = tmp_path / "photos", tmp_path / "out"
        folder.mkdir()
        photo(folder / "a.png")
        photo(folder / "b.png", 15, 15)
        with pytest.raises(InputError, match=r"b\.png is 15x15, smaller than the crop 16"):
            train(ImageFolder(folder, 1), out, CONFIG, cpu=True)
        np.save(tmp_path / "a.npy", np.zeros((2, 15, 15), np.uint8))
        with pytest.raises(InputError, match="are 15x15, smaller than the crop 16"):
            train(ImageArray(tmp_path / "a.npy"), out, CONFIG, cpu=True)
        assert not out.exists()

    def test_a_damaged_head_does_not_hinder_the_choice_of_a_device(self, tmp_path: Path) -> None:
        """It is no picture of 0 pixels: the fault is named."""
        (tmp_path / "a.png").write_text("not a picture")
        with pytest.raises(InputError, match=r"a\.png is not a picture"):
            ImageFolder(tmp_path).on_device(torch.device("cpu"), 10**9)

    def test_channels(self, tmp_path: Path) -> None:
        photo(tmp_path / "a.png")
        with pytest.raises(InputError, match="1 or 3 channels, got 2"):
            ImageFolder(tmp_path, channels=2)
