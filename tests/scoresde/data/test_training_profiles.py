"""Pictures with colour profiles: training reads the values that restorations work in."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from scoresde.data.datasets import ImageFolder
from scoresde.data.headers import colour_profiles, profile_note
from scoresde.data.picture_files import write_pixels
from scoresde.data.stacks import ImageStacks, list_own_numbers
from scoresde.files import read_header
from scoresde.pipelines.inputs import read_input
from scoresde.pipelines.settings import ProblemOptions
from tests.commands import run
from tests.conftest import seeded
from tests.profiles import ADOBE_RGB, DISPLAY_P3, GREY

SIDE = 12
RNG = np.random.default_rng(0)


def save(path: Path, depth: int, profile: bytes | None) -> np.ndarray:
    """A picture of this depth; its values (3, H, W) on [-1, 1]."""
    kind = np.uint8 if depth == 8 else np.uint16
    values = RNG.integers(0, 2**depth, (SIDE, SIDE, 3)).astype(kind)
    if path.suffix == ".tif":
        extra = {} if profile is None else {"iccprofile": profile}
        tifffile.imwrite(path, values, photometric="rgb", **extra)
    elif depth == 8:
        Image.fromarray(values).save(path, icc_profile=profile)
    else:
        write_pixels(values, path, profile=profile)
    return values.transpose(2, 0, 1) / (2**depth - 1) * 2 - 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", [8, 16])
def test_the_same_values_as_restore(tmp_path: Path, depth: int, suffix: str) -> None:
    """A batch holds the numbers of the file, to single precision, as a restoration reads them."""
    path = tmp_path / f"a{suffix}"
    values = save(path, depth, DISPLAY_P3)
    deep = list_own_numbers(tmp_path)
    assert bool(deep) == (depth == 16)
    data = ImageStacks(deep) if deep else ImageFolder(tmp_path, augment="none")
    batch = data.batch(1, SIDE, seeded())[0]
    restored = read_input(path, ProblemOptions(problem="denoise"), simulate=False).x[0]
    assert float(np.abs(batch.numpy() - values).max()) < 1e-6
    torch.testing.assert_close(batch, restored, atol=1e-6, rtol=0)
    assert data.profiles() == {"Display P3": 1}


def test_several_profiles_are_told(tmp_path: Path) -> None:
    for index, profile in enumerate((None, None, ADOBE_RGB, DISPLAY_P3, DISPLAY_P3, DISPLAY_P3)):
        save(tmp_path / f"{index}.{'tif' if index % 2 else 'png'}", 16 if index else 8, profile)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    found = colour_profiles(sorted(tmp_path.iterdir()))
    assert list(found.items()) == [("Display P3", 3), ("sRGB", 2), ("Adobe RGB (1998)", 1)]
    note = profile_note(found)
    assert note is not None and "Display P3 (3), sRGB (2), Adobe RGB (1998) (1)" in note
    assert profile_note({"sRGB": 3}) is None and profile_note({}) is None


def test_grey_pictures_have_no_colours(tmp_path: Path) -> None:
    grey = RNG.integers(0, 2**16, (SIDE, SIDE)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack", iccprofile=GREY)
    data = ImageStacks([tmp_path / "a.tif"])
    assert data.profiles() == {} and "profiles" not in data.value_range


@pytest.mark.slow
def test_the_prior_remembers_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(2):
        save(folder / f"{index}.png", 16, DISPLAY_P3)
    small = "--steps 1 --batch 2 --crop 8 --widths 8 --blocks 1 --attention none --device cpu"
    arguments = ("train", folder, "--out", tmp_path / "run", *small.split(), "--no-compile")
    status, _, err = run(capsys, *arguments)
    assert status == 0
    assert "note: the prior learns values of the colour profile 'Display P3'" in err
    card = read_header(tmp_path / "run" / "prior.safetensors")["card"]
    assert card["data"]["profiles"] == {"Display P3": 2}
