"""Pictures of every mode of Pillow in every format that keeps it, and what colours they show."""

import functools
from typing import Any

import numpy as np
from PIL import Image
from skimage.color import lab2xyz, rgb2xyz, xyz2lab, xyz2rgb

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import picture_is

__all__ = ["RECIPES", "levels", "smooth"]

_D65_TO_D50 = np.array(
    [
        [1.0478112, 0.0228866, -0.0501270],
        [0.0295424, 0.9904844, -0.0170491],
        [-0.0092345, 0.0150436, 0.7521316],
    ]
)

_LOSSLESS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "png": ("PNG", "png", "1 L LA P RGB RGBA I;16", {}),
    "tiff": ("TIFF", "tif", "1 L LA P PA RGB RGBA RGBX CMYK YCbCr LAB I;16 I;16B", {}),
    "tiff-lzw": ("TIFF", "tiff", "1 L LA P RGB RGBA CMYK I;16", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", "tif", "L P RGB I;16", {"compression": "tiff_adobe_deflate"}),
    "tiff-packbits": ("TIFF", "tif", "1 L P RGB", {"compression": "packbits"}),
    "tiff-g4": ("TIFF", "tif", "1", {"compression": "group4"}),
    "bmp": ("BMP", "bmp", "1 L P RGB RGBA", {}),
    "dib": ("DIB", "dib", "1 L RGB", {}),
    "gif": ("GIF", "gif", "1 L P", {}),
    "tga": ("TGA", "tga", "1 L LA P RGB RGBA", {}),
    "pcx": ("PCX", "pcx", "1 L P RGB", {}),
    "ppm": ("PPM", "ppm", "1 L RGB I;16", {}),
    "sgi": ("SGI", "sgi", "L RGB RGBA", {}),
    "im": ("IM", "im", "1 L PA RGB RGBX CMYK YCbCr I;16 I;16B", {}),
    "webp": ("WEBP", "webp", "L RGB RGBA", {"lossless": True}),
    "jpeg2000": ("JPEG2000", "jp2", "L LA RGB RGBA I;16", {"irreversible": False}),
    "qoi": ("QOI", "qoi", "RGB RGBA", {}),
    "dds": ("DDS", "dds", "L LA RGB RGBA", {}),
    "msp": ("MSP", "msp", "1", {}),
    "xbm": ("XBM", "xbm", "1", {}),
}
"""Format and suffix of a file, the modes that it keeps, and how it is saved."""

_LOSSY: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "jpeg": ("JPEG", "jpg", "L RGB CMYK YCbCr", {"quality": 98, "subsampling": 0}),
    "jpeg-progressive": ("JPEG", "jpeg", "L RGB", {"quality": 98, "progressive": True}),
    "jpeg-420": ("JPEG", "JPG", "RGB", {"quality": 98, "subsampling": 2}),
    "mpo": ("MPO", "mpo", "L RGB", {"quality": 98, "subsampling": 0}),
    "webp-lossy": ("WEBP", "webp", "RGB", {"quality": 100}),
    "avif": ("AVIF", "avif", "RGB", {"quality": 100, "subsampling": "4:4:4"}),
}


def levels(desk: Desk, *shape: int, top: int = 256) -> np.ndarray:
    """Random whole numbers below `top`, all of the range among them."""
    values = desk.rng.integers(0, top, shape)
    values.flat[0], values.flat[-1] = 0, top - 1
    return values


def smooth(desk: Desk, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Grey levels (H, W, C) of a slow wave, which lossy formats keep within a few levels."""
    rows, columns = np.mgrid[:height, :width]
    rates, phases = desk.rng.uniform(0.05, 0.2, (2, channels)), desk.rng.uniform(0, 6, channels)
    wave = np.cos(rows[..., None] * rates[0] + columns[..., None] * rates[1] + phases)
    return np.round(128 + 90 * wave).astype(np.uint8)


def _from_ycbcr(values: np.ndarray) -> np.ndarray:
    """JFIF 1.02, page 3."""
    y, cb, cr = np.moveaxis(values.astype(float), -1, 0)
    red, blue = y + 1.402 * (cr - 128), y + 1.772 * (cb - 128)
    green = y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)
    return np.stack([red, green, blue], -1)


def _from_cmyk(values: np.ndarray) -> np.ndarray:
    return (255.0 - values[..., :3]) * (255.0 - values[..., 3:]) / 255


def _lab(colours: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Colours of sRGB as L* in 255 steps and a*, b* as signed bytes.

    White is D50, as in profiles, to which the D65 of sRGB is adapted by Bradford's matrix.
    """
    adapted = rgb2xyz(colours) @ _D65_TO_D50.T
    lab = np.round(xyz2lab(adapted, illuminant="D50") * (2.55, 1, 1))
    data = np.stack([lab[..., 0], lab[..., 1] % 256, lab[..., 2] % 256], -1).astype(np.uint8)
    rounded = lab2xyz(lab / (2.55, 1, 1), illuminant="D50") @ np.linalg.inv(_D65_TO_D50).T
    return Image.frombytes("LAB", data.shape[1::-1], data.tobytes()), 255 * xyz2rgb(rounded)


def _picture(desk: Desk, mode: str, lossy: bool) -> tuple[Image.Image, np.ndarray]:
    """A picture, and the grey levels or colours that it shows."""
    size = desk.size()
    if mode == "1":
        bits = levels(desk, *size, top=2).astype(np.uint8)
        return Image.fromarray(255 * bits).convert("1", dither=Image.Dither.NONE), 255 * bits
    if mode in ("P", "PA"):
        index, colours = levels(desk, *size).astype(np.uint8), levels(desk, 256, 3)
        image = Image.fromarray(index).copy()
        image.putpalette(colours.astype(np.uint8).tobytes())
        if mode == "PA":
            image = image.convert("PA")
        return image, colours[index]
    if mode.startswith("I;16"):
        deep = levels(desk, *size, top=65536)
        order = ">u2" if mode.endswith("B") else "<u2"
        data = deep.astype(order).tobytes()
        return Image.frombytes(mode, size[::-1], data), deep / 257
    if mode == "LAB":  # no strong colours, which the tables of colour engines interpolate roughly
        return _lab((128 + (smooth(desk, *size).astype(int) - 128) // 2).astype(np.uint8))
    count = Image.getmodebands(mode)
    shape = (*size, count)
    values = (smooth(desk, *shape) if lossy else levels(desk, *shape)).astype(np.uint8)
    if mode in ("LA", "RGBA"):
        values[..., -1] = 255
    flat = np.ascontiguousarray(values[..., 0] if count == 1 else values)
    image = Image.frombytes(mode, size[::-1], flat.tobytes())
    shown: dict[str, np.ndarray] = {"L": values[..., 0], "LA": values[..., 0]}
    if mode == "CMYK":
        return image, _from_cmyk(values)
    if mode == "YCbCr":
        return image, _from_ycbcr(values)
    return image, shown.get(mode, values[..., :3])


def _saved(name: str, mode: str, desk: Desk) -> Case:
    lossy = name in _LOSSY
    form, suffix, _, options = (_LOSSY if lossy else _LOSSLESS)[name]
    image, shown = _picture(desk, mode, lossy)
    path = desk.folder / f"photo.{suffix}"
    image.save(path, form, **options)
    tolerance = 8.0 if lossy else 4.0 if mode in ("CMYK", "YCbCr", "LAB") else 1.5
    if name in ("jpeg-420", "jpeg-progressive", "webp-lossy"):
        tolerance = 24.0  # colours at half the resolution
    check = picture_is(desk.out, shown, tolerance)
    # CIE colours need a profile to be shown: to refuse them is right, too. So it is to refuse
    # YCbCr without compression, which Pillow 12 writes and does not read
    refusable = mode == "LAB" or (name, mode) == ("tiff", "YCbCr")
    expect: Expectation = "either" if refusable else "right"
    return Case(desk.restore(path), expect, (path.name,), check)


RECIPES: dict[str, Recipe] = {
    f"{name}-{mode.replace(';', '-')}": functools.partial(_saved, name, mode)
    for name, entry in (_LOSSLESS | _LOSSY).items()
    for mode in entry[2].split()
}
"""A recipe for each pair of format and mode."""
