"""JPEG with the tables of a file, and with chroma at half the width, against Pillow's bytes."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from problems import JPEG, GaussianNoise, InverseProblem, problem_from
from tests.problems.test_imaging import PICTURES

CAMERA = (
    [2, 1, 1, 2, 3, 6, 8, 10]
    + [1, 1, 2, 3, 4, 8, 9, 8]
    + [2, 2, 2, 3, 6, 8, 10, 8] * 2
    + [3, 3, 8, 11, 10, 16, 15, 11] * 2
    + [7, 10, 11, 12, 15, 17, 17, 14] * 2,
    [1, 2, 2, 5, 11, 12, 12, 12] + [2, 3, 4, 8, 12, 12, 12, 12] + [2, 4, 9] + [12] * 45,
)
RAMP = ([n + 1 for n in range(64)], [2 * n + 3 for n in range(64)])  # no symmetry hides a transpose
COARSE = ([300 + 5 * n for n in range(64)], [700 - 9 * n for n in range(64)])  # above one byte
TABLES = {"camera": CAMERA, "ramp": RAMP, "coarse": COARSE}


def saved(pixels: np.ndarray, **settings: object) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **settings)  # type: ignore[arg-type]
    image = Image.open(file)
    image.load()
    return image


def ours(pixels: np.ndarray, operator: JPEG) -> np.ndarray:
    x = torch.from_numpy(pixels.copy()).double().reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
    y = (operator.apply(x[None] / 127.5 - 1)[0].permute(1, 2, 0) + 1) * 127.5
    return y.round().numpy().astype(np.uint8).reshape(pixels.shape)


def tables_of(image: Image.Image) -> Sequence[Sequence[int]]:
    """The tables, as a caller takes them from a photograph."""
    return list(image.quantization.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("tables", TABLES)
@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0", "grey"])
def test_given_tables_agree_with_pillow(picture: str, tables: str, mode: str) -> None:
    pixels = PICTURES[picture]()
    pixels = np.ascontiguousarray(pixels[..., 1] if mode == "grey" else pixels)
    settings = {} if mode == "grey" else {"subsampling": mode}
    qtables = TABLES[tables][:1] if mode == "grey" else TABLES[tables]
    image = saved(pixels, qtables=[list(table) for table in qtables], **settings)
    assert [list(t) for t in tables_of(image)] == list(qtables)
    found = ours(pixels, JPEG(tables=tables_of(image), **settings))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, np.asarray(image))


@pytest.mark.parametrize("quality", [5, 50, 92])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_tables_of_a_quality_are_that_quality(quality: int, subsampling: str) -> None:
    pixels = np.ascontiguousarray(PICTURES["chelsea-83x61"]())
    image = saved(pixels, quality=quality, subsampling=subsampling)
    by_tables = JPEG(subsampling=subsampling, tables=tables_of(image))  # type: ignore[arg-type]
    by_quality = JPEG(quality, subsampling)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours(pixels, by_tables), np.asarray(image))
    np.testing.assert_array_equal(ours(pixels, by_quality), np.asarray(image))


@pytest.mark.parametrize("height", [1, 2, 7, 8, 9, 17])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 15, 16, 17])
def test_half_width_chroma_of_odd_sizes(height: int, width: int) -> None:
    pixels = np.random.default_rng(height * 20 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    expected = np.asarray(saved(pixels, quality=80, subsampling="4:2:2"))
    np.testing.assert_array_equal(ours(pixels, JPEG(80, "4:2:2")), expected)


def test_three_tables_are_those_of_the_three_planes() -> None:
    """With equal chroma tables three are two; another Cr table moves only what Cr moves."""
    luma, chroma = RAMP
    pixels = np.ascontiguousarray(PICTURES["noise-33x17"]())
    two, three = JPEG(tables=(luma, chroma)), JPEG(tables=(luma, chroma, chroma))  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours(pixels, two), ours(pixels, three))
    # Cr does not enter blue (JFIF: B = Y + 1.772 Cb)
    other = ours(pixels, JPEG(tables=(luma, chroma, luma)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(other[..., 2], ours(pixels, two)[..., 2])
    assert (other[..., 0] != ours(pixels, two)[..., 0]).any()


def test_tables_survive_json() -> None:
    operator = JPEG(subsampling="4:2:2", tables=CAMERA)  # type: ignore[arg-type]
    text = json.dumps(InverseProblem(operator, GaussianNoise(0.1)).describe())
    again = problem_from(json.loads(text)).operator
    assert isinstance(again, JPEG)
    assert (again.quality, again.subsampling, again.tables) == (None, "4:2:2", operator.tables)
    assert len(repr(operator)) < 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either a quality or tables, got neither"),
        ({"quality": 50, "tables": CAMERA}, "either a quality or tables, got both"),
        ({"quality": "high"}, "1 to 100, got high"),
        ({"tables": ()}, "one to three lists of 64 numbers, got 0 lists"),
        ({"tables": CAMERA * 2}, "got 4 lists"),
        ({"tables": 5}, "got int"),
        ({"tables": [5, 5]}, "64 whole numbers from 1 to 65535, got 5"),
        ({"tables": [[1] * 63]}, "got 63 numbers"),
        ({"tables": [[1] * 63 + [0]]}, "got 0 in it"),
        ({"tables": [[1] * 63 + [65536]]}, "got 65536 in it"),
        ({"tables": [[1] * 63 + [1.5]]}, "got 1.5 in it"),
        ({"tables": [[1] * 63 + [float("nan")]]}, "got nan in it"),
        ({"quality": 50, "subsampling": "4:1:1"}, "unknown subsampling '4:1:1'; did you mean"),
        ({"quality": 50, "subsampling": 2}, "unknown subsampling 2"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JPEG(**settings)  # type: ignore[arg-type]
