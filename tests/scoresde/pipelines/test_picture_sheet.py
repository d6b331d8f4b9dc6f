"""Pictures of every format, depth and oddity are read and written back with the same values.

Each file is made by the library of its format, or by an encoder of the specification in the tests.
The measurement is the picture itself, so that what is written must be what was in the file.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from problems import Denoising
from problems.reading.pictures import read_picture
from scoresde.pipelines.inputs import Input, read_input
from scoresde.pipelines.picture_format import choose_format
from scoresde.pipelines.settings import ProblemOptions
from tests.odd_inputs.png import chunk, png
from tests.profiles import ADOBE_RGB, GREY

HEIGHT, WIDTH = 6, 9
RNG = np.random.default_rng(0)
U16 = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
U8 = (U16 >> 8).astype(np.uint8)
UNIT = (U16 / 65535).astype(np.float32)
HALF = UNIT.astype(np.float16)
OPACITY = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


@dataclass(frozen=True)
class Sheet:
    """A file, and what must come back.

    Args:
        make: Writes the file.
        values: What is written back, (H, W) or (H, W, 3), in the values of the new file.
        form: Format that is like the file.
        range: Option --range.
        alpha: Opacity (H, W) on [0, 1] of what is written back.
        profile: Profile of what is written back.
        dpi: Pixels per inch of what is written back.
        note: Part of a note.
        tolerance: Largest difference of values.
    """

    make: Callable[[Path], object]
    values: np.ndarray
    form: str
    range: str | None = None
    alpha: np.ndarray | None = None
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    note: str = ""
    tolerance: float = 0.0


def pillow(pixels: np.ndarray, **options: Any) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(pixels).save(path, **options)


def tiff(pixels: np.ndarray, **options: Any) -> Callable[[Path], object]:
    options = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | options
    return lambda path: tifffile.imwrite(path, pixels, **options)


def by_hand(samples: np.ndarray, depth: int, colour: int, **more: Any) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(png(samples, depth, colour, **more))


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    opacity = OPACITY.astype(pixels.dtype) * (257 if pixels.dtype == np.uint16 else 1)
    cubic = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.concatenate([cubic, opacity[..., None]], -1)


def palette(indices: np.ndarray, colours: np.ndarray) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        image = Image.fromarray(indices, mode="P")
        image.putpalette(colours.astype(np.uint8).tobytes())
        image.save(path)

    return make


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


def frames(path: Path) -> None:
    first, second = Image.fromarray(U8[..., 0]), Image.fromarray(U8[..., 1])
    first.save(path, save_all=True, append_images=[second])


INDICES = RNG.integers(0, 8, (HEIGHT, WIDTH), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (8, 3), dtype=np.uint8)
BITS = U8[..., 0] > 120
OPAQUE = OPACITY / np.float32(255)
HU = (U16[..., 0] / 20).astype(np.int16) - 1000
CAMERA = U16 >> 4
ICC = chunk(b"iCCP", b"x\0\0" + zlib.compress(ADOBE_RGB))
INCHES = chunk(b"pHYs", np.array([11811, 11811], ">u4").tobytes() + b"\1")
CMYK = RNG.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
# Pillow's own formula for CMYK without a profile
FROM_CMYK = np.rint((255 - CMYK[..., :3].astype(float)) * (255 - CMYK[..., 3:].astype(float)) / 255)
SIDE = np.rot90(U16)  # stored so that the right side of the scene comes first
DPI = {"resolution": (300, 200), "resolutionunit": "INCH"}

SHEETS = {
    # 8 bits
    "grey.png": Sheet(pillow(U8[..., 0]), U8[..., 0], "png"),
    "colour.png": Sheet(pillow(U8), U8, "png"),
    "one bit.png": Sheet(pillow(BITS), BITS * np.uint8(255), "png"),
    "two bits.png": Sheet(by_hand(INDICES[..., None] % 4, 2, 0), INDICES % 4 * np.uint8(85), "png"),
    "palette.png": Sheet(palette(INDICES, COLOURS), COLOURS[INDICES], "png"),
    "grey palette.png": Sheet(
        palette(INDICES, COLOURS[:, [0, 0, 0]]), COLOURS[INDICES][..., 0], "png"
    ),
    "grey alpha.png": Sheet(pillow(with_alpha(U8[..., 0])), U8[..., 0], "png", alpha=OPAQUE),
    "alpha.png": Sheet(pillow(with_alpha(U8)), U8, "png", alpha=OPAQUE),
    "profile.png": Sheet(
        pillow(U8, icc_profile=ADOBE_RGB), U8, "png", profile=ADOBE_RGB, note="Adobe RGB"
    ),
    "grey profile.png": Sheet(
        pillow(U8[..., 0], icc_profile=GREY), U8[..., 0], "png", profile=GREY
    ),
    "resolution.png": Sheet(pillow(U8, dpi=(300, 200)), U8, "png", dpi=(300, 200)),
    "turned.png": Sheet(
        pillow(U8, exif=exif(6), dpi=(300, 200)), np.rot90(U8, -1), "png", dpi=(200, 300)
    ),
    "own range.png": Sheet(pillow(U8 // 4), U8 // 4, "png", range="0,63"),
    "percentiles.png": Sheet(pillow(U8), U8, "png", range="1%,99%"),
    # 16 bits
    "grey16.png": Sheet(pillow(U16[..., 0]), U16[..., 0], "png16"),
    "colour16.png": Sheet(by_hand(U16, 16, 2), U16, "png16"),
    "interlaced16.png": Sheet(by_hand(U16, 16, 2, interlaced=True), U16, "png16"),
    "grey alpha16.png": Sheet(
        by_hand(with_alpha(U16[..., 0]), 16, 4), U16[..., 0], "png16", alpha=OPAQUE
    ),
    "alpha16.png": Sheet(by_hand(with_alpha(U16), 16, 6), U16, "png16", alpha=OPAQUE),
    "profile16.png": Sheet(by_hand(U16, 16, 2, chunks=ICC), U16, "png16", profile=ADOBE_RGB),
    "resolution16.png": Sheet(by_hand(U16, 16, 2, chunks=INCHES), U16, "png16", dpi=(300, 300)),
    "camera.png": Sheet(
        pillow(CAMERA[..., 0]), CAMERA[..., 0], "png16", note="say so, such as --range 0,4095"
    ),
    "camera with range.png": Sheet(pillow(CAMERA[..., 0]), CAMERA[..., 0], "png16", range="0,4095"),
    # TIFF
    "grey.tif": Sheet(tiff(U8[..., 0]), U8[..., 0], "tiff"),
    "colour.tif": Sheet(tiff(U8, **DPI), U8, "tiff", dpi=(300, 200)),
    "planar.tif": Sheet(tiff(np.moveaxis(U8, -1, 0), planarconfig="separate"), U8, "tiff"),
    "lzw.tif": Sheet(pillow(U8, compression="tiff_lzw"), U8, "tiff"),
    "one bit.tif": Sheet(pillow(BITS), BITS * np.uint8(255), "tiff"),
    "alpha.tif": Sheet(tiff(with_alpha(U8), extrasamples=["unassalpha"]), U8, "tiff", alpha=OPAQUE),
    "profile.tif": Sheet(tiff(U8, iccprofile=ADOBE_RGB), U8, "tiff", profile=ADOBE_RGB),
    "grey16.tif": Sheet(tiff(U16[..., 0], byteorder=">"), U16[..., 0], "tiff16"),
    "colour16.tif": Sheet(tiff(U16, **DPI), U16, "tiff16", dpi=(300, 200)),
    "tiles16.tif": Sheet(tiff(U16, tile=(16, 16)), U16, "tiff16"),
    "zip16.tif": Sheet(tiff(U16, compression="zlib", predictor=True), U16, "tiff16"),
    "lzw16.tif": Sheet(pillow(U16[..., 0], compression="tiff_lzw"), U16[..., 0], "tiff16"),
    "planar16.tif": Sheet(tiff(np.moveaxis(U16, -1, 0), planarconfig="separate"), U16, "tiff16"),
    "alpha16.tif": Sheet(
        tiff(with_alpha(U16), extrasamples=["unassalpha"]), U16, "tiff16", alpha=OPAQUE
    ),
    "profile16.tif": Sheet(
        tiff(U16, iccprofile=ADOBE_RGB), U16, "tiff16", profile=ADOBE_RGB, note="Adobe RGB"
    ),
    "turned16.tif": Sheet(
        tiff(SIDE, extratags=[(274, 3, 1, 6, True)], **DPI), U16, "tiff16", dpi=(200, 300)
    ),
    "white is zero16.tif": Sheet(
        tiff(65535 - U16[..., 0], photometric="miniswhite"), U16[..., 0], "tiff16"
    ),
    "camera.tif": Sheet(tiff(CAMERA), CAMERA, "tiff16", note="--range 0,4095"),
    "camera with range.tif": Sheet(tiff(CAMERA), CAMERA, "tiff16", range="0,4095"),
    "camera with percentiles.tif": Sheet(tiff(CAMERA), CAMERA, "tiff16", range="0.1%,99.9%"),
    "pages16.tif": Sheet(
        tiff(np.moveaxis(U16, -1, 0), photometric="minisblack"), U16[..., 0], "tiff16"
    ),
    "float.tif": Sheet(tiff(UNIT), UNIT, "tiff32", tolerance=1e-7),
    "float grey.tif": Sheet(tiff(UNIT[..., 0]), UNIT[..., 0], "tiff32", tolerance=1e-7),
    "float 255.tif": Sheet(tiff(UNIT * 255), UNIT * 255, "tiff32", tolerance=2e-5),
    "double.tif": Sheet(tiff(UNIT.astype(float)), UNIT, "tiff32", tolerance=1e-7),
    "half.tif": Sheet(tiff(HALF), HALF, "tiff32", tolerance=1e-7),
    "beyond.tif": Sheet(tiff(UNIT * 3 - 1), UNIT * 3 - 1, "tiff32", range="0,1", tolerance=3e-7),
    "ct.tif": Sheet(tiff(HU), HU, "tiff32", range="-1000,2277", tolerance=2e-4),
    "stated ct.tif": Sheet(
        tiff(HU, extratags=[(340, 8, 1, -1024, True), (341, 8, 1, 3071, True)]),
        HU, "tiff32", range="file", tolerance=3e-4,
    ),
    "counts.tif": Sheet(
        tiff(U16[..., 0].astype(np.int32) * 15), U16[..., 0] * 15.0, "tiff32", range="0%,100%",
        tolerance=0.1,
    ),
    # others
    "colour.bmp": Sheet(pillow(U8), U8, "png"),
    "colour.webp": Sheet(pillow(U8, lossless=True), U8, "png"),
    "grey.gif": Sheet(pillow(U8[..., 0]), U8[..., 0], "png"),
    "frames.gif": Sheet(frames, U8[..., 0], "png", note="first of its 2 frames"),
    "grey16.pgm": Sheet(pillow(U16[..., 0]), U16[..., 0], "png16"),
    "colour16.ppm": Sheet(
        lambda path: path.write_bytes(b"P6 9 6 65535\n" + U16.astype(">u2").tobytes()), U16, "png16"
    ),
    "few bits.ppm": Sheet(  # its white is the white of the PNG
        lambda path: path.write_bytes(b"P6 9 6 1023\n" + (U16 >> 6).astype(">u2").tobytes()),
        np.rint((U16 >> 6) * (65535 / 1023)), "png16",
    ),
    "cmyk.tif": Sheet(
        lambda path: Image.frombytes("CMYK", (WIDTH, HEIGHT), CMYK.tobytes()).save(path),
        FROM_CMYK, "tiff", note="CMYK has no usable profile", tolerance=1.0,
    ),
}  # fmt: skip


def restored(given: Input, folder: Path, name: str | None = None) -> Path:
    """What a restoration writes that finds the measurement to be the picture."""
    form = choose_format(name, given, Denoising(), given.size, None)
    path = folder / f"mean{form.suffix}"
    form.write(given.x[0], path)
    return path


@pytest.mark.parametrize("name", SHEETS)
def test_what_is_written_is_what_was_read(tmp_path: Path, name: str) -> None:
    sheet = SHEETS[name]
    sheet.make(tmp_path / name)
    problem = ProblemOptions("denoise", range=sheet.range)
    given = read_input(tmp_path / name, problem, simulate=False)
    form = choose_format(None, given, Denoising(), given.size, None)
    assert form.name == sheet.form
    found = read_picture(restored(given, tmp_path), "file")
    assert str(found.values.dtype) == {"6": "uint16", "2": "float32"}.get(form.name[-1], "uint8")
    assert found.values.shape == sheet.values.shape
    error = np.abs(found.values.astype(float) - np.asarray(sheet.values, float)).max()
    assert error <= sheet.tolerance
    if sheet.alpha is None:
        assert found.alpha is None
    else:
        np.testing.assert_allclose(found.alpha, sheet.alpha, atol=1e-6)
    assert found.profile == sheet.profile
    if sheet.dpi is not None:
        assert found.resolution == pytest.approx(sheet.dpi, rel=1e-4)
    assert not sheet.note or any(re.search(sheet.note, note) for note in given.notes)
    if not sheet.note and sheet.profile is None:
        assert given.notes == ()


@pytest.mark.parametrize("name", ["camera.tif", "ct.tif", "float 255.tif", "percentiles.png"])
@pytest.mark.parametrize("form", ["png", "png16", "tiff", "tiff16", "tiff32"])
def test_another_format_has_black_and_white_at_its_ends(
    tmp_path: Path, name: str, form: str
) -> None:
    """Whole numbers of another type than in the file; floating-point numbers are the file's own."""
    sheet = SHEETS[name]
    sheet.make(tmp_path / name)
    given = read_input(
        tmp_path / name, ProblemOptions("denoise", range=sheet.range), simulate=False
    )
    found = read_picture(restored(given, tmp_path, form), "file").values
    values = np.asarray(sheet.values, float)
    low, high = given.range.low, given.range.high
    assert given.file is not None
    if form == "tiff32" or found.dtype == given.file.values.dtype:
        np.testing.assert_allclose(found, values, atol=(high - low) * 2**-24)  # of float32
    else:
        top = np.iinfo(found.dtype).max
        right = np.clip((values - low) / (high - low) * top, 0, top)
        np.testing.assert_allclose(found, right, atol=0.51)


def test_a_float_tiff_that_is_written_is_read_by_itself(tmp_path: Path) -> None:
    """Its tags state black and white, which no rule could find for CT numbers."""
    SHEETS["ct.tif"].make(tmp_path / "ct.tif")
    given = read_input(
        tmp_path / "ct.tif", ProblemOptions("denoise", range="-1000,2277"), simulate=False
    )
    again = read_input(restored(given, tmp_path), ProblemOptions("denoise"), simulate=False)
    np.testing.assert_allclose(again.x, given.x, atol=1e-6)
    assert again.range.rule == "stated in the file"
