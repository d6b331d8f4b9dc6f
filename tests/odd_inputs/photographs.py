"""Odd ways to store an ordinary picture: depths, interlacing, orientation, alpha, frames, names."""

import functools
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.modes import levels, smooth
from tests.odd_inputs.png import chunk, png

__all__ = ["RECIPES"]


def _case(
    desk: Desk,
    path: Path,
    shown: np.ndarray,
    expect: Expectation = "right",
    tolerance: float = 1.5,
    grey: bool = False,
) -> Case:
    check = picture_is(desk.out, shown, tolerance)
    return Case(desk.restore(path, grey=grey), expect, (path.name,), check, outputs=(desk.out,))


def _png(colour: int, depth: int, interlaced: bool, desk: Desk) -> Case:
    """Samples of any depth, at full scale."""
    height, width = desk.size()
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    values, top = levels(desk, height, width, channels, top=1 << depth), (1 << depth) - 1
    palette = None
    shown = values * (255 / top)
    if colour == 3:
        palette = levels(desk, 1 << depth, 3)
        shown = palette[values[..., 0]]
    elif colour in (4, 6):
        values[..., -1] = top
        shown = shown[..., :-1]
    path = desk.folder / "photo.png"
    path.write_bytes(png(values, depth, colour, interlaced=interlaced, palette=palette))
    # 16-bit colour may be read at 8 bits, by its upper byte
    tolerance = 2.0 if depth == 16 else 1.5
    return _case(desk, path, shown[..., 0] if shown.shape[-1] == 1 else shown, "right", tolerance)


_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_COLOURS = {0: "grey", 2: "colour", 3: "palette", 4: "grey-alpha", 6: "colour-alpha"}


def _colour_key(desk: Desk) -> Case:
    """One grey level or colour is transparent; its pixels keep their colour, or it is refused."""
    colour = int(desk.pick("0", "2"))
    values = levels(desk, *desk.size(), 1 if colour == 0 else 3)
    key = values.reshape(-1, values.shape[-1])[3]
    path = desk.folder / "photo.png"
    path.write_bytes(png(values, 8, colour, transparency=key.astype(">u2").tobytes()))
    return _case(desk, path, values.squeeze(-1) if colour == 0 else values, "either")


def _soft_alpha(mode: str, desk: Desk) -> Case:
    """Transparent pixels keep their colour, or the picture is refused."""
    count = len(mode)
    values = levels(desk, *desk.size(), count).astype(np.uint8)
    path = desk.folder / "photo.png"
    Image.frombytes(mode, values.shape[1::-1], values.tobytes()).save(path)
    return _case(desk, path, values[..., 0] if mode == "LA" else values[..., :3], "either")


def _palette_alpha(desk: Desk) -> Case:
    """A palette with transparent entries: colours by the palette, or a refusal."""
    index, colours = levels(desk, *desk.size(), 1, top=16), levels(desk, 16, 3)
    path = desk.folder / "photo.png"
    alpha = bytes(int(a) for a in desk.rng.integers(0, 256, 16))
    path.write_bytes(png(index, 4, 3, palette=colours, transparency=alpha))
    return _case(desk, path, colours[index[..., 0]], "either")


def _stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores, so that a viewer that honours the tag shows `upright`."""
    swapped = upright.swapaxes(0, 1)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: swapped,
        6: np.rot90(upright, 1),  # shown after a quarter turn clockwise
        7: swapped[::-1, ::-1],
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(stored.get(orientation, upright))


def _turned(form: str, orientation: int, desk: Desk) -> Case:
    height, width = desk.size()
    upright = smooth(desk, height, width)
    image = Image.fromarray(_stored(upright, orientation))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = desk.folder / f"photo.{form}"
    quality: dict[str, Any] = {"quality": 98, "subsampling": 0} if form == "jpg" else {}
    if form == "webp":
        quality = {"lossless": True}
    image.save(path, exif=exif.tobytes() if form != "tif" else exif, **quality)
    # values that the standard does not know are taken as upright, or refused
    expect: Expectation = "right" if 1 <= orientation <= 8 else "either"
    return _case(desk, path, upright, expect, 8.0 if form == "jpg" else 1.5)


def _turned_deep(desk: Desk) -> Case:
    """A 16-bit grey TIFF that lies on its side."""
    deep, orientation = levels(desk, *desk.size(), top=65536), int(desk.rng.integers(2, 9))
    path = desk.folder / "photo.tif"
    stored = _stored(deep, orientation).astype(np.uint16)
    tifffile.imwrite(path, stored, extratags=[(274, "H", 1, orientation, True)])
    return _case(desk, path, deep / 257)


def _frames(form: str, desk: Desk) -> Case:
    """Several frames: the first one, or a refusal; of a TIFF the one that is selected."""
    frames = [levels(desk, 13, 17).astype(np.uint8) for _ in range(3)]
    first, *more = [Image.fromarray(one) for one in frames]
    path = desk.folder / f"photo.{form}"
    lossless: dict[str, Any] = {"lossless": True} if form == "webp" else {}
    first.save(path, save_all=True, append_images=more, **lossless)
    if form == "tif":
        check = picture_is(desk.out, frames[1])
        return Case(desk.restore(path, "--select", "page=1"), "right", (path.name,), check)
    return _case(desk, path, frames[0], "either")


def _tiff(kind: str, desk: Desk) -> Case:
    """TIFF files of microscopes and scanners, by tifffile, which writes what Pillow does not."""
    height, width = desk.size()
    deep, byte = levels(desk, height, width, top=65536), levels(desk, height, width)
    colour, deep_colour = levels(desk, height, width, 3), levels(desk, height, width, 3, top=65536)
    path = desk.folder / "photo.tif"
    u8, u16 = np.uint8, np.uint16
    writers: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
        "min-is-white-8": (byte, 255 - byte, u8, {"photometric": "miniswhite"}),
        "min-is-white-16": (deep, 255 - deep / 257, u16, {"photometric": "miniswhite"}),
        "16-big-endian": (deep, deep / 257, u16, {"byteorder": ">"}),
        "16-deflate": (deep, deep / 257, u16, {"compression": "zlib"}),
        "16-predictor": (deep, deep / 257, u16, {"compression": "zlib", "predictor": True}),
        "16-tiled": (deep, deep / 257, u16, {"tile": (16, 16)}),
        "16-bigtiff": (deep, deep / 257, u16, {"bigtiff": True}),
        "16-strips": (deep, deep / 257, u16, {"rowsperstrip": 1}),
        "16-colour": (deep_colour, deep_colour / 257, u16, {"photometric": "rgb"}),
        "16-colour-big-endian": (
            *(deep_colour, deep_colour / 257, u16),
            {"photometric": "rgb", "byteorder": ">"},
        ),
        "planar": (
            *(np.moveaxis(colour, -1, 0), colour, u8),
            {"photometric": "rgb", "planarconfig": "separate"},
        ),
        "16-planar": (
            *(np.moveaxis(deep_colour, -1, 0), deep_colour / 257, u16),
            {"photometric": "rgb", "planarconfig": "separate"},
        ),
        "bool": (byte > 100, 255 * (byte > 100), np.bool_, {"photometric": "minisblack"}),
        "bool-min-is-white": (
            *(byte > 100, 255 * (byte <= 100), np.bool_),
            {"photometric": "miniswhite"},
        ),
        "4-channels-16": (
            *(np.concatenate([deep_colour, np.full((height, width, 1), 65535)], -1),),
            *(deep_colour / 257, u16, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ),
    }
    stored, shown, dtype, options = writers[kind]
    tifffile.imwrite(path, stored.astype(dtype), **options)
    # what is rare may be refused, but not be misread
    common = ("16-big-endian", "16-deflate", "16-strips", "min-is-white-8", "bool")
    return _case(desk, path, shown, "right" if kind in common else "either", 1.5)


_TIFFS = (
    *("min-is-white-8", "min-is-white-16", "16-big-endian", "16-deflate", "16-predictor"),
    *("16-tiled", "16-bigtiff", "16-strips", "16-colour", "16-colour-big-endian", "planar"),
    *("16-planar", "bool", "bool-min-is-white", "4-channels-16"),
)


def _twelve_bits(desk: Desk) -> Case:
    """Counts of a camera up to 4095 in 16 bits: dark by the full scale, right by --range."""
    counts = levels(desk, *desk.size(), top=4096)
    path = desk.folder / "photo.tif"
    tifffile.imwrite(path, counts.astype(np.uint16))
    if desk.rng.random() < 0.5:
        return _case(desk, path, counts / 257)
    check = picture_is(desk.out, counts * 255 / 4095)
    return Case(desk.restore(path, "--range", "0,4095"), "right", (path.name,), check)


def _netpbm(kind: str, desk: Desk) -> Case:
    """Portable maps of any white, in text and in bytes."""
    height, width = desk.size()
    top = {"text-7": 7, "text-255": 255, "100": 100, "1023": 1023, "colour-65535": 65535}[kind]
    channels = 3 if kind.startswith("colour") else 1
    values = levels(desk, height, width, channels, top=top + 1)
    letter = {(1, True): "P2", (1, False): "P5", (3, False): "P6"}
    text = kind.startswith("text")
    head = f"{letter[channels, text]}\n# made by hand\n{width} {height}\n{top}\n".encode()
    if text:
        body = "\n".join(" ".join(map(str, row)) for row in values[..., 0]).encode()
    else:
        body = values.astype(">u2" if top > 255 else np.uint8).tobytes()
    path = desk.folder / ("photo.ppm" if channels == 3 else "photo.pgm")
    path.write_bytes(head + body)
    shown = values * (255 / top)
    return _case(desk, path, shown[..., 0] if channels == 1 else shown, "right", 1.5)


def _fits(bits: int, desk: Desk) -> Case:
    """Files of astronomy, which have units: numbers other than bytes are refused, bytes may be."""
    height, width = desk.size()
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height}
    text = "".join(f"{f'{k:8s}= {v!s:>20s}':80s}" for k, v in cards.items()) + f"{'END':80s}"
    byte = levels(desk, height, width)
    values = byte if bits == 8 else desk.rng.integers(-900, 2000, (height, width))
    kinds = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}
    body = values[::-1].astype(kinds[bits]).tobytes()  # the first row is the lowest
    path = desk.folder / "photo.fits"
    path.write_bytes((text.ljust(2880) + body.decode("latin1")).encode("latin1"))
    return _case(desk, path, byte, "either" if bits == 8 else "refused")


def _named(name: str, form: str, desk: Desk) -> Case:
    """The content counts, not the name."""
    colours = levels(desk, *desk.size(), 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, form)
    path = desk.folder / name
    path.write_bytes(file.getvalue())
    return _case(desk, path, colours)


def _linked(desk: Desk) -> Case:
    colours = levels(desk, *desk.size(), 3).astype(np.uint8)
    Image.fromarray(colours).save(desk.folder / "target.png")
    path = desk.folder / "link.png"
    path.symlink_to(desk.folder / "target.png")
    return _case(desk, path, colours)


def _shaped(height: int, width: int, desk: Desk) -> Case:
    values = levels(desk, height, width)
    path = desk.folder / "photo.png"
    path.write_bytes(png(values, 8, 0))
    return _case(desk, path, values)


def _other_channels(desk: Desk) -> Case:
    """Colours under a prior for grey pictures."""
    path = desk.folder / "photo.png"
    Image.fromarray(levels(desk, *desk.size(), 3).astype(np.uint8)).save(path)
    names = (path.name, "channels", "--prior")
    return Case(desk.restore(path, grey=True), "refused", names, outputs=(desk.out,))


def _grey_under_grey(desk: Desk) -> Case:
    values = levels(desk, *desk.size()).astype(np.uint8)
    path = desk.folder / "photo.png"
    Image.fromarray(values).save(path)
    return _case(desk, path, values, grey=True)


def _chunks(desk: Desk) -> Case:
    """Unknown, private and text chunks are no reason to refuse a picture, nor to warn."""
    values = levels(desk, *desk.size(), 3)
    extra = chunk(b"tEXt", b"Comment\0" + bytes(range(32, 200))) + chunk(b"prVt", b"\0\1\2")
    extra += chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"pHYs", struct.pack(">IIB", 1, 1, 1))
    path = desk.folder / "photo.png"
    path.write_bytes(png(values, 8, 2, chunks=extra))
    return _case(desk, path, values)


def _not_there(kind: str, desk: Desk) -> Case:
    path = desk.folder / ("photo.npy" if "npy" in kind else "photo.png")
    if "folder" in kind:
        path.mkdir()
    elif "link" in kind:
        path.symlink_to(desk.folder / "nothing.png")
    if kind == "null":
        path = Path("/dev/null")
    return Case(desk.restore(path), "refused", (path.name,), outputs=(desk.out,))


def _depth(desk: Desk) -> Case:
    """A deep picture under the same name as an older run: the out folder is written anew."""
    values = levels(desk, *desk.size(), top=65536)
    path = desk.folder / "photo.png"
    path.write_bytes(png(values, 16, 0))
    other = desk.folder / "other.png"
    path_of_other = png(levels(desk, 9, 11), 8, 0)
    other.write_bytes(path_of_other)
    check = picture_is(desk.out, values / 257)
    return Case(desk.restore(path), "right", (path.name,), check, (desk.restore(other),))


RECIPES: dict[str, Recipe] = {
    **{
        f"png-{_COLOURS[colour]}-{depth}{'-interlaced' if interlaced else ''}": functools.partial(
            _png, colour, depth, interlaced
        )
        for colour, depths in _DEPTHS.items()
        for depth in depths
        for interlaced in (False, True)
    },
    "png-colour-key": _colour_key,
    "png-chunks": _chunks,
    "soft-alpha-LA": functools.partial(_soft_alpha, "LA"),
    "soft-alpha-RGBA": functools.partial(_soft_alpha, "RGBA"),
    "palette-alpha": _palette_alpha,
    **{
        f"orientation-{form}-{orientation}": functools.partial(_turned, form, orientation)
        for form in ("jpg", "png", "tif", "webp")
        for orientation in (*range(1, 9), *((0, 9, 60000) if form == "jpg" else ()))
    },
    "orientation-16-bit": _turned_deep,
    **{
        f"frames-{form}": functools.partial(_frames, form) for form in ("gif", "png", "tif", "webp")
    },
    **{f"tiff-{kind}": functools.partial(_tiff, kind) for kind in _TIFFS},
    "tiff-12-in-16-bits": _twelve_bits,
    **{
        f"netpbm-{kind}": functools.partial(_netpbm, kind)
        for kind in ("text-7", "text-255", "100", "1023", "colour-65535")
    },
    **{f"fits{bits}": functools.partial(_fits, bits) for bits in (8, 16, 32, -32, -64)},
    "jpg-that-is-a-png": functools.partial(_named, "photo.jpg", "PNG"),
    "png-that-is-a-bmp": functools.partial(_named, "photo.png", "BMP"),
    "gif-that-is-a-tiff": functools.partial(_named, "photo.gif", "TIFF"),
    "no-suffix": functools.partial(_named, "photo", "PNG"),
    "capital-suffix": functools.partial(_named, "PHOTO.PNG", "PNG"),
    "name-with-blanks": functools.partial(_named, "my photo (1) ü 图.png", "PNG"),
    "name-of-dots": functools.partial(_named, "a.npy.png", "PNG"),
    "linked": _linked,
    **{
        f"shape-{height}x{width}": functools.partial(_shaped, height, width)
        for height, width in ((1, 1), (1, 1000), (1000, 1), (2, 2), (1, 2), (3, 5))
    },
    "colour-under-a-grey-prior": _other_channels,
    "grey-under-a-grey-prior": _grey_under_grey,
    "out-folder-written-anew": _depth,
    **{
        f"not-there-{kind}": functools.partial(_not_there, kind)
        for kind in ("missing", "missing-npy", "folder", "folder-npy", "dead-link", "null")
    },
}
"""Recipes by name."""
