"""Files in parts: they come back as they were, and a damaged part is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.maintenance.shards import LARGEST, join, split
from scoresde import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "state.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    return path


@pytest.mark.parametrize(("largest", "count"), [(1, 1000), (300, 4), (500, 2), (1000, 1)])
def test_split_and_joined(file: Path, tmp_path: Path, largest: int, count: int) -> None:
    manifest = json.loads(split(file, tmp_path / "parts", largest).read_text())
    parts = [tmp_path / "parts" / part["name"] for part in manifest["parts"]]
    assert len(parts) == count and max(part.stat().st_size for part in parts) <= largest
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {
        "manifest.json",
        *(part.name for part in parts),
    }
    joined = join(tmp_path / "parts", tmp_path / "there")
    assert joined.name == file.name and joined.read_bytes() == file.read_bytes()


def test_an_empty_file_and_the_default_size(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    split(tmp_path / "empty", tmp_path / "parts")
    assert join(tmp_path / "parts", tmp_path / "there").read_bytes() == b""
    assert LARGEST == 16_000_000


@pytest.mark.parametrize("damage", ["missing", "changed", "cut"])
def test_a_damaged_part_is_named(file: Path, tmp_path: Path, damage: str) -> None:
    split(file, tmp_path / "parts", 300)
    part = tmp_path / "parts" / "state.safetensors.0002"
    content = part.read_bytes()
    if damage == "missing":
        part.unlink()
    else:
        part.write_bytes(content[:-1] if damage == "cut" else content[:-1] + b"?")
    with pytest.raises(InputError, match=r"state\.safetensors\.0002 is missing or damaged"):
        join(tmp_path / "parts", tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())


def test_what_is_no_manifest(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json"):
        join(tmp_path, tmp_path / "there")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="is not one of"):
        join(tmp_path, tmp_path / "there")
    manifest = split(file, tmp_path / "parts")
    manifest.write_text(manifest.read_text().replace('"state.', '"../state.'))
    with pytest.raises(InputError, match="other folders"):
        join(tmp_path / "parts", tmp_path / "there")
    with pytest.raises(InputError, match="there is no file"):
        split(tmp_path / "nothing", tmp_path / "parts")
