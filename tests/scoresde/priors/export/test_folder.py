"""The folder of an export appears whole, and takes the place of an earlier one alone."""

from pathlib import Path

import pytest

from scoresde import InputError
from scoresde.priors.export.folder import MARK, check_folder, write_folder


def first(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "a").write_text("first")


def second(folder: Path) -> None:
    (folder / "b").write_text("second")


def test_written_and_replaced(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert write_folder(out, first, {}) == ["part/a", MARK]
    assert write_folder(out, second, {}) == ["b", MARK]
    assert sorted(path.name for path in out.iterdir()) == ["b", MARK]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", second, {})
    assert (tmp_path / "out" / "b").read_text() == "second"


def test_files_of_others_stay(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", first, {})
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"did not write \(notes.txt\)"):
        write_folder(tmp_path / "out", second, {})
    assert (tmp_path / "out" / "part" / "a").read_text() == "first"
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_text("mine")
    with pytest.raises(InputError, match=r"1.png.*name a new folder"):
        check_folder(tmp_path / "pictures")
    with pytest.raises(InputError, match="is a file"):
        check_folder(tmp_path / "pictures" / "1.png")


def test_a_failure_leaves_the_earlier_export(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", first, {})

    def fails(folder: Path) -> None:
        second(folder)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        write_folder(tmp_path / "out", fails, {})
    assert (tmp_path / "out" / "part" / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device; choose another folder"):
        write_folder(tmp_path / "out", full, {})
    assert list(tmp_path.iterdir()) == []
