"""Writing: as a whole or not at all, also when it is interrupted, and by many at once."""

import errno
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from scoresde.errors import InputError
from scoresde.files import check_writable, read_tensors, write_atomically, write_tensors


def refused(folder: Path, times: int) -> int:
    """How often a folder that can be written is refused."""
    count = 0
    for _ in range(times):
        try:
            check_writable(folder)
        except InputError:
            count += 1
    return count


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
@pytest.mark.slow
def test_runs_at_the_same_time_do_not_meet(tmp_path: Path, pool) -> None:  # type: ignore[no-untyped-def]
    """Also in a folder that none of them has made yet."""
    folder = tmp_path / "a" / "b"
    with pool(8) as workers:
        assert sum(workers.map(refused, [folder] * 8, [500] * 8)) == 0
    assert os.listdir(folder) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"cannot write into .*; choose another folder"):
            check_writable(place)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), SystemExit(3)])
def test_an_interruption_leaves_the_old_file_and_no_other(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        assert len(os.listdir(tmp_path)) == 2
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert os.listdir(tmp_path) == ["a.txt"] and path.read_text() == "old"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"a\.txt: No space left on device; choose another") as e:
        write_atomically(tmp_path / "a.txt", write)
    assert "\n" not in str(e.value) and os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_as_safetensors_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoresde.files.save_file", lambda t, p, metadata: _to_full(t, metadata))
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(100_000)}, {})
    assert os.listdir(tmp_path) == []


def _to_full(tensors: dict, metadata: dict) -> None:
    from safetensors.torch import save

    with open("/dev/full", "wb") as file:
        file.write(save(tensors, metadata))


def test_names_at_the_limit_of_the_system(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / ("x" * 250)
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert path.read_text() == "whole" and path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(InputError, match="too long"):
        write_atomically(folder / ("x" * 300), lambda temporary: temporary.write_text("no"))
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(folder, lambda temporary: temporary.write_text("no"))
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(folder) == [path.name]


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").touch()
    for path, message in (
        (tmp_path, "is a folder, not a checkpoint"),
        (tmp_path / "none.safetensors", "there is no checkpoint"),
        (tmp_path / "empty.safetensors", "is not a whole safetensors file"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(InputError, match=message):
            read_tensors(path)
