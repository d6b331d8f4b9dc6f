"""Every bit of 16-bit PNG, PPM and compressed TIFF files, by encoders of the specifications."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from problems.reading.picture import split_alpha
from problems.reading.pictures import _hidden_bits, read_picture
from problems.reading.png_samples import read_deep_png
from tests.odd_inputs.png import chunk, header, png
from tests.profiles import ADOBE_RGB, DISPLAY_P3, GREY

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)


def filtered(samples: np.ndarray, filters: list[int]) -> bytes:
    """Rows of 16-bit samples (H, W, n) by the formulas of the PNG specification, section 9.2."""
    height, width, count = samples.shape
    step, raw = 2 * count, samples.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)

    def byte(row: int, place: int) -> int:
        return int(raw[row, place]) if row >= 0 and place >= 0 else 0

    def paeth(a: int, b: int, c: int) -> int:
        p = a + b - c
        return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]

    rows = b""
    for r in range(height):
        rows += bytes([filters[r]])
        for i in range(step * width):
            a, b, c = byte(r, i - step), byte(r - 1, i), byte(r - 1, i - step)
            predicted = (0, a, b, (a + b) // 2, paeth(a, b, c))[filters[r]]
            rows += bytes([(byte(r, i) - predicted) % 256])
    return rows


@pytest.mark.parametrize("size", [(6, 7), (1, 9), (9, 1), (1, 1), (3, 20)])
@pytest.mark.parametrize(("colour", "count"), [(2, 3), (4, 2), (6, 4)])
def test_all_filters_of_png(tmp_path: Path, colour: int, count: int, size: tuple[int, int]) -> None:
    """Upper bytes agree with Pillow, which decodes by itself; all bytes with what was encoded."""
    height, width = size
    samples = RNG.integers(0, 65536, (height, width, count), dtype=np.uint16)
    filters = [(i + height) % 5 for i in range(height)]
    path = tmp_path / "a.png"
    rows = zlib.compress(filtered(samples, filters))
    content = (
        header(width, height, 16, colour) + chunk(b"IDAT", rows[:9]) + chunk(b"IDAT", rows[9:])
    )
    path.write_bytes(content + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_deep_png(path), samples)
    by_pillow = np.asarray(Image.open(path).convert({3: "RGB", 2: "LA", 4: "RGBA"}[count]))
    np.testing.assert_array_equal(by_pillow, samples >> 8)
    picture = read_picture(path)
    np.testing.assert_array_equal(
        picture.values, samples[..., 0] if count == 2 else samples[..., :3]
    )
    if count in (2, 4):
        assert picture.alpha is not None
        np.testing.assert_array_equal(np.rint(picture.alpha * 65535), samples[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (9, 17)])
def test_interlaced(tmp_path: Path, size: tuple[int, int]) -> None:
    samples = RNG.integers(0, 65536, (*size, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(samples, 16, 2, interlaced=True))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png").values, samples)


def test_a_png_of_sixteen_bits_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # row 0 is the right side of the scene
    (tmp_path / "a.png").write_bytes(png(COLOUR, 16, 2, chunks=chunk(b"eXIf", exif.tobytes()[6:])))
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.values, np.rot90(COLOUR, -1))


def test_damage(tmp_path: Path) -> None:
    bad = bytearray(filtered(COLOUR, [0] * 5))
    bad[0] = 7
    path = tmp_path / "a.png"
    for rows, message in ((bytes(bad), "filter 7"), (b"\0" * 20, "end too early")):
        parts = header(7, 5, 16, 2) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        path.write_bytes(parts)
        with pytest.raises(ValueError, match=rf"a\.png as an image: its pixels .*{message}"):
            read_picture(path)
    path.write_bytes(header(7, 5, 16, 2) + chunk(b"IDAT", b"nonsense") + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="its pixels are damaged"):
        read_picture(path)


def test_a_transparent_colour(tmp_path: Path) -> None:
    key = struct.pack(">HHH", *(int(one) for one in COLOUR[1, 2]))
    (tmp_path / "a.png").write_bytes(png(COLOUR, 16, 2, chunks=chunk(b"tRNS", key)))
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None and np.argwhere(alpha == 0).tolist() == [[1, 2]]
    assert int((alpha == 1).sum()) == alpha.size - 1


def test_the_first_header_counts(tmp_path: Path) -> None:
    """A second one could claim any size, after the first was checked."""
    parts = header(7, 5, 16, 2), header(9, 9, 16, 2)[8:]
    rows = chunk(b"IDAT", zlib.compress(filtered(COLOUR, [0] * 5)))
    (tmp_path / "a.png").write_bytes(b"".join([*parts, rows, chunk(b"IEND", b"")]))
    np.testing.assert_array_equal(read_deep_png(tmp_path / "a.png"), COLOUR)


@pytest.mark.parametrize("white", [1023, 65535])
def test_a_ppm_keeps_its_bits(tmp_path: Path, white: int) -> None:
    values = RNG.integers(0, white + 1, (4, 6, 3))
    head = f"P6\n# by hand\n6 4\n{white}\n".encode()
    (tmp_path / "a.ppm").write_bytes(head + values.astype(">u2").tobytes())
    picture = read_picture(tmp_path / "a.ppm")
    np.testing.assert_array_equal(picture.values, values)
    assert picture.full_scale == white
    (tmp_path / "a.ppm").write_bytes(head + values.astype(">u2").tobytes()[:-1])
    with pytest.raises(ValueError, match="end too early"):
        read_picture(tmp_path / "a.ppm")


def lzw(data: bytes, width: int) -> bytes:
    """Bytes in rows of a width, compressed by libtiff as a grey picture."""
    buffer = io.BytesIO()
    image = Image.frombytes("L", (width, len(data) // width), data)
    image.save(buffer, format="TIFF", compression="tiff_lzw", tiffinfo={278: len(data) // width})
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as file:
        page = file.pages[0]
        (offset,), (count,) = page.dataoffsets, page.databytecounts
        file.filehandle.seek(offset)
        found: bytes = file.filehandle.read(count)
    return found


def predicted(rows: np.ndarray, predictor: int, order: str) -> bytes:
    """Samples (H, W, n) after a predictor: TIFF 6.0, section 14; Adobe's technical note 3."""
    height, _, count = rows.shape
    if predictor == 1:
        return rows.astype(rows.dtype.newbyteorder(order)).tobytes()
    if predictor == 2:
        first = np.zeros_like(rows[:, :1])
        differences = np.diff(rows, axis=1, prepend=first)
        return differences.astype(rows.dtype.newbyteorder(order)).tobytes()
    size = rows.dtype.itemsize
    weights = rows.astype(rows.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1, size)
    planes = weights.transpose(0, 2, 1).reshape(height, -1, count)
    return np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).tobytes()


def lzw_tiff(values: np.ndarray, predictor: int, order: str, strips: int, planar: bool) -> bytes:
    """A TIFF of LZW strips (H, W, n)."""
    height, width, count = values.shape
    planes = [values[..., i : i + 1] for i in range(count)] if planar else [values]
    tall = -(-height // strips)
    parts = [
        lzw(predicted(plane[top : top + tall], predictor, order), plane[0].nbytes)
        for plane in planes
        for top in range(0, height, tall)
    ]
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    bits, n = 8 * values.dtype.itemsize, len(parts)
    entries: list[tuple[int, str, list[int]]] = [
        *((256, "I", [width]), (257, "I", [height]), (258, "H", [bits] * count), (259, "H", [5])),
        *((262, "H", [2 if count == 3 else 1]), (273, "I", [0] * n), (277, "H", [count])),
        *((278, "I", [tall]), (279, "I", [len(one) for one in parts])),
        *((284, "H", [2 if planar else 1]), (317, "H", [predictor]), (339, "H", [kind] * count)),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    extra = sum(
        len(v) * struct.calcsize(f) for _, f, v in entries if len(v) * struct.calcsize(f) > 4
    )
    offsets = list(np.cumsum([start + extra, *map(len, parts)])[:-1])
    table, more = b"", b""
    for tag, form, numbers in entries:
        numbers = [int(one) for one in offsets] if tag == 273 else numbers
        data = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(data) > 4:
            place = struct.pack(f"{order}I", start + len(more))
            more += data
        else:
            place = data.ljust(4, b"\0")
        table += struct.pack(f"{order}HHI", tag, 3 if form == "H" else 4, len(numbers)) + place
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    return head + table + bytes(4) + more + b"".join(parts)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("strips", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("kind", "predictor"),
    [("uint16", 1), ("uint16", 2), ("int32", 2), ("float32", 1), ("float32", 3), ("float16", 3)],
)
def test_compressed_tiffs(
    tmp_path: Path, kind: str, predictor: int, order: str, strips: int, planar: bool
) -> None:
    """Scanners write 16-bit colour as LZW with differences, which Pillow cuts to 8 bits."""
    values = RNG.uniform(0, 60000, (7, 5, 3)).astype(kind)
    (tmp_path / "a.tif").write_bytes(lzw_tiff(values, predictor, order, strips, planar))
    picture = read_picture(tmp_path / "a.tif")
    assert picture.values.dtype == np.dtype(kind) and not picture.rounded
    np.testing.assert_array_equal(picture.values, values)


def test_the_limit_of_pillow_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strip has more bytes than the picture has pixels; twice the limit Pillow refuses."""
    (tmp_path / "a.tif").write_bytes(lzw_tiff(COLOUR, 2, "<", 1, False))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.values, COLOUR)
    assert picture.notes == () and Image.MAX_IMAGE_PIXELS == 10


def test_opacity_of_few_bits() -> None:
    _, alpha = split_alpha(np.array([[[7, 4095], [7, 0]]], np.uint16), 4095)
    assert alpha is not None and alpha.tolist() == [[1.0, 0.0]]


def test_a_compressed_grey_tiff_of_another_writer(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (33, 20), dtype=np.uint16)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
        np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").values, values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [10, 12, 14])
def test_few_bits_have_their_own_white(tmp_path: Path, count: int, order: str) -> None:
    """Samples of 12 bits, two in three bytes, whose rows end at whole bytes: white is 4095."""
    values = RNG.integers(0, 1 << count, (3, 5))
    bits = ((values[..., None] >> np.arange(count - 1, -1, -1)) & 1).astype(np.uint8)
    data = np.packbits(bits.reshape(3, -1), axis=1).tobytes()
    entries = [(256, 5), (257, 3), (258, count), (259, 1), (262, 1), (273, 122), (277, 1), (278, 3)]
    entries.append((279, len(data)))
    table = b"".join(struct.pack(f"{order}HHIHxx", tag, 3, 1, value) for tag, value in entries)
    marks = b"II" if order == "<" else b"MM"
    content = struct.pack(f"{order}2sHIH", marks, 42, 8, len(entries)) + table
    (tmp_path / "a.tif").write_bytes(content.ljust(122, b"\0") + data)
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.values, values)
    assert picture.full_scale == (1 << count) - 1 and picture.kind == f"TIFF, {count}-bit grey"


@pytest.mark.parametrize(
    ("profile", "name"), [(ADOBE_RGB, "Adobe RGB"), (DISPLAY_P3, "Display P3")]
)
@pytest.mark.parametrize("depth", [8, 16])
def test_two_ways_with_a_profile(tmp_path: Path, depth: int, profile: bytes, name: str) -> None:
    """Green of sRGB is (144, 255, 60) in Adobe RGB and (116, 251, 77) in Display P3."""
    values = np.array([[[144, 255, 60] if name[0] == "A" else [116, 251, 77]]])
    values = np.repeat(values * (257 if depth == 16 else 1), 3, 1)
    content = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    (tmp_path / "a.png").write_bytes(png(values, depth, 2, chunks=content))
    kept = read_picture(tmp_path / "a.png", "file")
    np.testing.assert_array_equal(kept.values, values)
    assert kept.profile == profile and name in kept.notes[0] and "carry" in kept.notes[0]
    seen = read_picture(tmp_path / "a.png")
    assert np.abs(seen.values.astype(int) - [0, 255, 0]).max() <= 2
    assert seen.profile is None and "to sRGB" in seen.notes[0]
    assert seen.rounded == (depth == 16)


def test_a_profile_of_other_colours_is_left_out(tmp_path: Path) -> None:
    grey, colour = COLOUR[..., 0] >> 8, (COLOUR >> 8).astype(np.uint8)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "grey.png", icc_profile=GREY)
    assert read_picture(tmp_path / "grey.png", "file").profile == GREY
    Image.fromarray(colour).save(tmp_path / "a.png", icc_profile=GREY)
    picture = read_picture(tmp_path / "a.png", "file")
    assert picture.profile is None and "cannot be used" in picture.notes[0]
    np.testing.assert_array_equal(picture.values, colour)


def test_raw_files_of_cameras_are_refused(tmp_path: Path) -> None:
    """Their first page is a thumbnail."""
    tag = (50706, 1, 4, (1, 4, 0, 0), True)  # DNGVersion
    small = np.zeros((4, 6, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", small, photometric="rgb", extratags=[tag])
    tifffile.imwrite(tmp_path / "a.nef", small, photometric="rgb")
    for name in ("a.tif", "a.nef"):
        with pytest.raises(ValueError, match="raw file of a camera; develop it"):
            read_picture(tmp_path / name)


def test_deep_colours_that_are_not_rgb(tmp_path: Path) -> None:
    for photometric, words in (("separated", "CMYK"), ("cielab", "CIELAB")):
        count = 4 if photometric == "separated" else 3
        values = np.zeros((4, 6, count), np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
        with pytest.raises(ValueError, match=f"it has {words} in 16 bits, .*convert it to RGB"):
            read_picture(tmp_path / "a.tif")


def test_bits_that_are_left_out_are_told(tmp_path: Path) -> None:
    """A JPEG 2000 whose header says 12 bits; Pillow reads 8 of them."""
    Image.fromarray((COLOUR >> 8).astype(np.uint8)).save(tmp_path / "a.j2k")
    content = bytearray((tmp_path / "a.j2k").read_bytes())
    assert read_picture(tmp_path / "a.j2k").notes == ()
    for i in range(3):
        content[42 + 3 * i] = 11
    (tmp_path / "a.j2k").write_bytes(content)
    picture = read_picture(tmp_path / "a.j2k")
    assert picture.rounded and "its colours have 12 bits, of which 8 are read" in picture.notes


@pytest.mark.parametrize(("flags", "bits"), [(0x0C, 8), (0x4C, 10), (0x6C, 12)])
def test_bits_of_avif(tmp_path: Path, flags: int, bits: int) -> None:
    """By the flags of its configuration: high bit depth, and twelve bits."""
    path = tmp_path / "a.avif"
    Image.fromarray(np.kron(COLOUR >> 8, np.ones((8, 8, 1))).astype(np.uint8)).save(path)
    with Image.open(path) as image:
        content = bytearray(path.read_bytes())
        content[content.find(b"av1C") + 6] = flags
        path.write_bytes(content)
        assert _hidden_bits(path, image) == bits


def test_tiles_that_claim_too_much(tmp_path: Path) -> None:
    """A small file of compressed tiles whose sides are far beyond the picture."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOUR, photometric="rgb", tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[0].tags
        tags["Compression"].overwrite(5)
        for name in ("TileWidth", "TileLength"):
            tags[name].overwrite(60000)
    with pytest.raises(ValueError, match=r"a\.tif as an image: \w"):
        read_picture(path)


def test_a_palette_of_greys_is_grey(tmp_path: Path) -> None:
    indices = RNG.integers(0, 4, (4, 6), dtype=np.uint8)
    for colours, grey in (([0, 90, 180, 255], True), ([0, 90, 180], False)):
        image = Image.fromarray(indices, mode="P")
        flat = [level for one in colours for level in (one, one, one)]
        image.putpalette(flat + ([] if grey else [255, 0, 0]))
        image.save(tmp_path / "a.png")
        picture = read_picture(tmp_path / "a.png")
        assert picture.values.ndim == (2 if grey else 3)
        if grey:
            np.testing.assert_array_equal(picture.values, np.array(colours)[indices])
