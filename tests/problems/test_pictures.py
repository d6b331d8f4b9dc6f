"""Pictures as files hold them: sample types, orientation, alpha, profiles, coding."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from problems.reading.pictures import MAX_PIXELS, read_picture

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
ADAM7.append((0, 1, 1, 2))
DEEP_TYPES = ["uint16", "int16", "int32", "uint32", "float16", "float32", "float64", "int8"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def sixteen_bit_png(pixels: np.ndarray) -> bytes:
    """A colour PNG of 16 bits (PNG specification, section 5), which Pillow cannot write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


class TestTiff:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("kind", DEEP_TYPES)
    def test_samples_of_any_type_come_back(
        self, tmp_path: Path, kind: str, channels: int, order: str
    ) -> None:
        values = RNG.uniform(-100, 100, (4, 6, channels)[: 2 + (channels > 1)]).astype(kind)
        colours = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", values, byteorder=order, photometric=colours)
        picture = read_picture(tmp_path / "a.tif")
        assert picture.values.dtype == np.dtype(kind)
        np.testing.assert_array_equal(picture.values, values)

    def test_separate_planes(self, tmp_path: Path) -> None:
        values = RNG.integers(0, 65536, (3, 4, 6), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate")
        picture = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.values, values.transpose(1, 2, 0))

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_white_may_be_zero(self, tmp_path: Path, dtype: type) -> None:
        values = RNG.integers(0, 256, (4, 6)).astype(dtype)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
        np.testing.assert_array_equal(
            read_picture(tmp_path / "a.tif").values, np.iinfo(dtype).max - values
        )

    def test_alpha_is_apart(self, tmp_path: Path) -> None:
        values = RNG.integers(0, 65536, (4, 6, 4), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
        picture = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.values, values[..., :3])
        assert picture.alpha is not None
        np.testing.assert_allclose(picture.alpha, values[..., 3] / 65535, atol=1e-6)

    def test_the_first_of_several_pages(self, tmp_path: Path) -> None:
        stack = RNG.integers(0, 65536, (3, 4, 6), dtype=np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        picture = read_picture(tmp_path / "a.tif")
        np.testing.assert_array_equal(picture.values, stack[0])
        assert picture.notes == ("the first of its 3 pages is read",)

    def test_the_range_that_tags_state(self, tmp_path: Path) -> None:
        values = RNG.integers(-1000, 2000, (4, 6), dtype=np.int16)
        tags = [(340, 8, 1, -1024, True), (341, 8, 1, 3071, True)]  # SHORT: signed 16 bits
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", extratags=tags)
        assert read_picture(tmp_path / "a.tif").stated_range == (-1024, 3071)

    @pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "float32"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_upright(self, tmp_path: Path, kind: str, orientation: int) -> None:
        """Tag 274 says at which side of the scene row 0 and column 0 of the file lie (TIFF 6.0)."""
        stored = COLOUR[..., 0].astype(kind)
        tag = (274, 3, 1, orientation, True)
        tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", extratags=[tag])
        row_0_is, column_0_is = [
            ("top", "left"),
            ("top", "right"),
            ("bottom", "right"),
            ("bottom", "left"),
            ("left", "top"),
            ("right", "top"),
            ("right", "bottom"),
            ("left", "bottom"),
        ][orientation - 1]
        scene = read_picture(tmp_path / "a.tif").values
        sides = {"top": scene[0], "bottom": scene[-1], "left": scene[:, 0], "right": scene[:, -1]}
        backwards = {"right": -1, "bottom": -1}
        np.testing.assert_array_equal(sides[row_0_is], stored[0][:: backwards.get(column_0_is, 1)])
        np.testing.assert_array_equal(
            sides[column_0_is], stored[:, 0][:: backwards.get(row_0_is, 1)]
        )


class TestPillow:
    @pytest.mark.parametrize("suffix", ["png", "pgm"])
    def test_sixteen_bit_grey(self, tmp_path: Path, suffix: str) -> None:
        values = RNG.integers(0, 65536, (4, 6), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        picture = read_picture(tmp_path / f"a.{suffix}")
        assert picture.values.dtype == np.uint16
        np.testing.assert_array_equal(picture.values, values)

    def test_sixteen_bit_colour_keeps_its_bits(self, tmp_path: Path) -> None:
        values = RNG.integers(0, 65536, (4, 6, 3), dtype=np.uint16)
        (tmp_path / "a.png").write_bytes(sixteen_bit_png(values))
        picture = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.values, values)
        assert picture.notes == () and not picture.rounded

    def test_palette(self, tmp_path: Path) -> None:
        indices = RNG.integers(0, 3, (4, 6), dtype=np.uint8)
        image = Image.fromarray(indices, mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(tmp_path / "a.png")
        picture = read_picture(tmp_path / "a.png")
        assert picture.indices is not None
        np.testing.assert_array_equal(picture.indices, indices)
        colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]])
        np.testing.assert_array_equal(picture.values, colours[indices])

    def test_the_first_of_several_frames(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(np.full((4, 6), level, np.uint8)) for level in (10, 200, 90)]
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
        picture = read_picture(tmp_path / "a.gif")
        assert (picture.values == 10).all()
        assert picture.notes == ("the first of its 3 frames is read",)

    def test_a_profile_becomes_srgb(self, tmp_path: Path) -> None:
        """LAB values have one meaning: a CIE L*a*b* file is read as the sRGB that looks the same.

        L* = 50 without colour is the linear light 0.1842, which sRGB encodes as 119 of 255.
        """
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[..., 0] = 128  # L* = 100 * 128 / 255
        Image.frombytes("LAB", (6, 4), pixels.tobytes()).save(tmp_path / "a.tif", icc_profile=lab)
        picture = read_picture(tmp_path / "a.tif")
        assert abs(picture.values.astype(int) - 119).max() <= 2
        assert "converted from the profile" in picture.notes[0]

    @pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 200])
    def test_a_broken_profile_is_told(self, tmp_path: Path, profile: bytes) -> None:
        Image.fromarray(COLOUR).save(tmp_path / "a.png", icc_profile=profile)
        picture = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.values, COLOUR)
        assert picture.notes == ("its colour profile cannot be used: its colours are read as sRGB",)

    def test_srgb_stays_to_the_bit(self, tmp_path: Path) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(COLOUR).save(tmp_path / "a.png", icc_profile=profile)
        picture = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.values, COLOUR)
        assert not picture.notes

    @pytest.mark.parametrize(("subsampling", "sampling"), [(0, (1, 1)), (1, (2, 1)), (2, (2, 2))])
    @pytest.mark.parametrize("quality", [10, 90])
    def test_the_coding_of_a_jpeg(
        self, tmp_path: Path, quality: int, subsampling: int, sampling: tuple[int, int]
    ) -> None:
        """The first entries of the standard tables, scaled by the rule of libjpeg."""
        big = np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))
        Image.fromarray(big).save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling)
        coding = read_picture(tmp_path / "a.jpg").jpeg
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality

        def scaled(steps: list[int]) -> tuple[int, ...]:
            return tuple(min(max((step * scale + 50) // 100, 1), 255) for step in steps)

        assert coding is not None and coding.sampling == sampling and coding.chroma is not None
        assert coding.luma[:9] == scaled([16, 11, 10, 16, 24, 40, 51, 61, 12])
        assert coding.chroma[:9] == scaled([17, 18, 24, 47, 99, 99, 99, 99, 18])

    def test_a_grey_jpeg_has_one_table(self, tmp_path: Path) -> None:
        Image.fromarray(COLOUR[..., 0]).save(tmp_path / "a.jpg")
        coding = read_picture(tmp_path / "a.jpg").jpeg
        assert coding is not None and coding.chroma is None

    def test_a_png_tells_no_coding(self, tmp_path: Path) -> None:
        Image.fromarray(COLOUR).save(tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").jpeg is None


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def scrambled(content: bytes) -> bytes:
    return content[:16] + bytes(255 - byte for byte in content[16:])


class TestRefused:
    @pytest.mark.parametrize("damage", [truncated, scrambled])
    @pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
    def test_damaged_tiffs(
        self, tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]
    ) -> None:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, RNG.uniform(0, 255, (40, 40)).astype(kind))
        (tmp_path / "a.tif").write_bytes(damage(buffer.getvalue()))
        with pytest.raises(ValueError, match=r"cannot read .*a\.tif as an image: \w") as error:
            read_picture(tmp_path / "a.tif")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
    def test_pngs_whose_pixels_end_early(self, tmp_path: Path, mode: str, interlaced: bool) -> None:
        """All chunks are whole, but the last row is missing: decoders make it black."""
        head, rows = b"", b""
        channels = {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
        bits = {"1": 1, "I;16": 16}.get(mode, 8)
        colours = {"RGB": 2, "P": 3, "LA": 4, "RGBA": 6}.get(mode, 0)
        width, height = 9, 5
        head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, interlaced)
        steps = [
            (range(top, height, down), len(range(left, width, across)))
            for left, top, across, down in (ADAM7 if interlaced else [(0, 0, 1, 1)])
        ]
        for rows_of_pass, columns in steps:
            if columns:
                size = -(-columns * channels * bits // 8)
                rows += b"".join(b"\0" + b"\xff" * size for _ in rows_of_pass)
        lookup = [(b"PLTE", bytes(range(256)) * 3)] if mode == "P" else []
        for kept, whole in ((rows, True), (rows[:-3], False)):
            parts = [(b"IHDR", head), *lookup, (b"IDAT", zlib.compress(kept)), (b"IEND", b"")]
            content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
            (tmp_path / "a.png").write_bytes(content)
            if whole:
                assert read_picture(tmp_path / "a.png").size == (height, width)
            else:
                with pytest.raises(ValueError, match=r"a\.png as an image: its pixels end too ear"):
                    read_picture(tmp_path / "a.png")

    def test_unknown_pixel_formats(self, tmp_path: Path) -> None:
        """Pillow raises NotImplementedError for a DDS file that it does not know."""
        head = struct.pack("<4s7I", b"DDS ", 124, 0x1007, 4, 4, 0, 0, 0) + bytes(44)
        pixel_format = struct.pack("<2I4s5I", 32, 4, b"ZZZZ", 0, 0, 0, 0, 0)
        (tmp_path / "a.dds").write_bytes(head + pixel_format + bytes(20) + bytes(64))
        with pytest.raises(ValueError, match=r"cannot read .*a\.dds as an image"):
            read_picture(tmp_path / "a.dds")

    def test_sizes_that_only_a_header_has(self, tmp_path: Path) -> None:
        """Four kilobytes of PNG and TIFF that claim 10^10 pixels are not decoded."""
        Image.new("1", (8, 8)).save(tmp_path / "a.png")
        content = bytearray((tmp_path / "a.png").read_bytes())
        content[16:24] = struct.pack(">II", 100_000, 100_000)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        (tmp_path / "a.png").write_bytes(bytes(content))
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.float32))
        with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
            for name in ("ImageWidth", "ImageLength"):
                file.pages[0].tags[name].overwrite(int(MAX_PIXELS**0.5) + 1)
        for name in ("a.png", "a.tif"):
            with pytest.raises(ValueError, match=r"megapixels, more than the 268 that are read"):
                read_picture(tmp_path / name)

    def test_folders_and_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="is a folder, not a picture"):
            read_picture(tmp_path)
        with pytest.raises(ValueError, match="there is no file"):
            read_picture(tmp_path / "a.png")

    def test_samples_that_are_no_colours(self, tmp_path: Path) -> None:
        tifffile.imwrite(
            tmp_path / "a.tif",
            np.ones((4, 6, 5), np.uint16),
            photometric="minisblack",
            planarconfig="contig",
        )
        with pytest.raises(ValueError, match="samples a pixel; 1 or 3 are needed"):
            read_picture(tmp_path / "a.tif")


def test_what_libraries_warn_of_becomes_a_note(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]
) -> None:
    """A TIFF whose EXIF is cut off: Pillow warns, and reads the pixels."""
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01")
    picture = read_picture(tmp_path / "a.jpg")
    assert not recwarn.list and capfd.readouterr().err == ""
    assert picture.size == (5, 7)
