"""Folders, patterns and manifests: bad pictures beside good ones, and tables that are none."""

import csv
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.odd_inputs.case import Case, Command, Desk, Expectation, Outcome, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.damage import damaged
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]

Check = Callable[[Outcome], str | None]


def _photos(desk: Desk, count: int = 2) -> tuple[Path, list[np.ndarray]]:
    """A folder of pictures named 0.png, 1.png, ..."""
    folder = desk.folder / "photos"
    folder.mkdir()
    values = [levels(desk, *desk.size(), 3) for _ in range(count)]
    for number, one in enumerate(values):
        (folder / f"{number}.png").write_bytes(png(one, 8, 2))
    return folder, values


def _summary(desk: Desk) -> list[dict[str, str]]:
    """The rows of summary.csv, in which names are the bytes that the system has."""
    path = desk.out / "summary.csv"
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def _checked(desk: Desk, values: list[np.ndarray], failed: int = 0) -> Check:
    """The good pictures are right, and the summary counts all."""

    def check(outcome: Outcome) -> str | None:
        report = json.loads((desk.out / "summary.json").read_text())
        if (report["restored"], report["failed"]) != (len(values), failed):
            return f"{report['restored']} restored and {report['failed']} failed"
        rows = _summary(desk)
        if len(rows) != len(values) + failed:
            return f"summary.csv has {len(rows)} rows"
        wrong = [picture_is(desk.out / f"{n}", one)(outcome) for n, one in enumerate(values)]
        return next((one for one in wrong if one), None)

    return check


def _beside(kind: str, desk: Desk) -> Case:
    """A bad file beside good ones: it is listed, and they are restored."""
    folder, values = _photos(desk)
    bad = folder / "bad.png"
    if kind == "link":
        bad.symlink_to("nothing.png")
    elif kind == "link-loop":
        bad.symlink_to("bad.png")
    elif kind == "folder":
        bad.mkdir()
    elif kind == "fifo":
        os.mkfifo(bad)
    elif kind == "fits":
        (folder / "bad.fits").write_bytes(b"SIMPLE  =                    T")
    elif kind == "array":
        np.save(folder / "bad.npy", np.full((3, 4), None, dtype=object), allow_pickle=True)
    elif kind == "nan":
        np.save(folder / "bad.npy", np.full((12, 13), np.nan))
    elif kind == "zarr":
        (folder / "bad.zarr").mkdir()
        (folder / "bad.zarr" / "zarr.json").write_text("{}")
    elif kind == "newline":
        (folder / "bad\nname.png").write_bytes(b"")
    elif kind == "escape":
        (folder / "bad\x1b[31m.png").write_bytes(b"")
    elif kind == "not-utf8":
        Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.png")).write_bytes(b"")
    else:
        bad.write_bytes(damaged(desk, png(values[0], 8, 2), kind))
    # what is no file is no picture
    skipped = kind in ("link", "link-loop", "folder", "fifo")
    expect: Expectation = "right" if skipped else "partly"
    check = _checked(desk, values, 0 if skipped else 1)
    return Case(desk.restore(folder), expect, ("bad",), check)


def _named(name: str, desk: Desk) -> Case:
    """A good picture of an odd name."""
    folder, values = _photos(desk, 1)
    (folder / "0.png").rename(folder / f"{name}.png")

    def check(outcome: Outcome) -> str | None:
        report = json.loads((desk.out / "summary.json").read_text())
        if report["restored"] != 1:
            return f"{report['restored']} restored"
        rows = _summary(desk)
        if [Path(row["image"]).name for row in rows] != [f"{name}.png"]:
            return f"summary.csv names {[row['image'] for row in rows]}"
        return picture_is(desk.out / name, values[0])(outcome)

    return Case(desk.restore(folder), "right", (), check)


def _tree(kind: str, desk: Desk) -> Case:
    """Folders below a folder, and links that lead around in circles."""
    folder, values = _photos(desk)
    if kind == "link-up":
        (folder / "again").symlink_to(folder, target_is_directory=True)
    elif kind == "link-to-root":
        (folder / "root").symlink_to("/", target_is_directory=True)
    elif kind == "hidden":
        (folder / ".hidden").mkdir()
        (folder / ".hidden" / "2.png").write_bytes(b"")
        (folder / ".3.png").write_bytes(b"")
    elif kind == "deep":
        deep = folder / "/".join(["a"] * 100)
        deep.mkdir(parents=True)
        (deep / "notes.txt").write_text("none")
    elif kind == "other-files":
        (folder / "notes.txt").write_text("none")
        (folder / "done.json").write_text("{")
    return Case(desk.restore(folder), "right", (), _checked(desk, values))


def _whole(kind: str, desk: Desk) -> Case:
    """Folders and patterns that cannot be restored, or not there."""
    folder, _ = _photos(desk)
    command, names = desk.restore(folder), [folder.name]
    if kind == "empty":
        for one in folder.iterdir():
            one.unlink()
    elif kind == "missing-pattern":
        command = desk.restore(desk.folder / "nothing" / "*.png")
        names = ["nothing"]
    elif kind == "bad-pattern":
        command = desk.restore(desk.folder / "[.png")
        names = ["[.png"]
    elif kind == "into-itself":
        command = (*command, "--out", str(folder))
        names = ["--out"]
    elif kind == "out-is-a-file":
        command = (*command, "--out", str(folder / "0.png"))
        names = ["0.png"]
    elif kind == "watch-and-json":
        command = (*command, "--watch", "--json")
        names = ["--watch"]
    elif kind == "watch-and-dry-run":
        command = (*command, "--watch", "--dry-run")
        names = ["--watch"]
    elif kind == "mask-is-the-folder":
        command = (*desk.restore(folder, problem="inpaint"), "--mask", str(folder))
    return Case(command, "refused", tuple(names), outputs=(desk.out,))


def _again(kind: str, desk: Desk) -> Case:
    """Results of an earlier run that are damaged are made again."""
    folder, values = _photos(desk)
    path = desk.out / "0" / "done.json"
    first = desk.restore(folder)

    def check(outcome: Outcome) -> str | None:
        report = json.loads((desk.out / "summary.json").read_text())
        if report["restored"] + report["kept"] != 2 or report["restored"] != 2:
            return f"{report['restored']} restored, {report['kept']} kept"
        return picture_is(desk.out / "0", values[0])(outcome)

    for number in range(2):  # as a run that was killed, or a hand, would leave them
        (desk.out / f"{number}").mkdir(parents=True)
        done = path.parent.parent / f"{number}" / "done.json"
        content = json.dumps({"format": "scoresde.done/1", "key": "x", "files": {"a": 1}}).encode()
        done.write_bytes(damaged(desk, content, kind) if kind != "other" else content)
    (desk.out / "summary.json").write_text("{")
    return Case(first, "right", (), check)


def _manifest(desk: Desk, content: bytes) -> tuple[Path, list[np.ndarray], Command]:
    folder, values = _photos(desk)
    path = folder / "list.csv"
    path.write_bytes(content)
    return path, values, desk.restore(path)


_GOOD_TABLES: dict[str, bytes] = {
    "plain": b"image\n0.png\n1.png\n",
    "mark": b"\xef\xbb\xbfimage\n0.png\n1.png\n",
    "carriage-returns": b"image\r\n0.png\r\n1.png\r\n",
    "quotes": b'"image"\n"0.png"\n"1.png"\n',
    "empty-cells": b"image,sigma,seed\n0.png,,\n1.png,,3\n",
    "no-last-line-end": b"image\n0.png\n1.png",
    "blank-lines": b"image\n\n0.png\n\n1.png\n\n",
    "other-directory": b"image\n./0.png\n../photos/1.png\n",
}


def _good_table(kind: str, desk: Desk) -> Case:
    path, values, command = _manifest(desk, _GOOD_TABLES[kind])
    return Case(command, "right", (path.name,), _checked(desk, values))


_BAD_TABLES: dict[str, bytes] = {
    "empty": b"",
    "headings-alone": b"image\n",
    "no-image": b"picture\n0.png\n",
    "blanks": b" image \n0.png\n",
    "twice": b"image,image\n0.png,1.png\n",
    "unknown": b"image,magic\n0.png,1\n",
    "of-all": b"image,prior\n0.png,natural\n",
    "more-cells": b"image\n0.png,1,2\n",
    "empty-name": b"image,sigma\n,0.1\n",
    "same-picture": b"image\n0.png\n0.png\n",
    "not-utf8": b"image\n\xff\xfe.png\n",
    "utf16": "image\n0.png\n".encode("utf-16"),
    "zeros": bytes(300),
    "null-in-name": b"image\n0\0.png\n",
    "huge-cell": b"image\n" + b"a" * 200_000 + b"\n",
    "semicolons": b"image;sigma\n0.png;0.1\n",
    "tabs": b"image\tsigma\n0.png\t0.1\n",
    "page": b"<!DOCTYPE html><html>404</html>\n",
    "sigma-text": b"image,sigma\n0.png,much\n",
    "seed-fraction": b"image,seed\n0.png,2.5\n",
    "steps-text": b"image,steps\n0.png,x\n",
    "flag-text": b"image,invert_mask\n0.png,maybe\n",
    "units": b"image,sigma_units\n0.png,magic\n",
    "the-folder": b"image\n.\n",
    "seed-empty-word": b"image,seed\n0.png,None\n",
}


def _bad_table(kind: str, desk: Desk) -> Case:
    path, _, command = _manifest(desk, _BAD_TABLES[kind])
    return Case(command, "refused", (path.name, "0.png", "folder"), outputs=(desk.out,))


_ROWS: dict[str, str] = {
    # what one row of a table says, the other row being right
    "nan": "sigma\n0.png,nan",
    "negative": "sigma\n0.png,-1",
    "zero-steps": "steps\n0.png,0",
    "huge-seed": "seed\n0.png,99999999999999999999999",
    "negative-seed": "seed\n0.png,-1",
    "no-mask": "mask\n0.png,nothing.png",
    "no-file": "sigma\nnothing.png,0.1",
    "up": "sigma\n../../../../../../etc/passwd,0.1",
    "device": "sigma\n/dev/zero,0.1",
    "mask-device": "mask\n0.png,/dev/zero",
    "folder": "sigma\n../photos/below,0.1",
    "open-quote": 'sigma\n"0.png\n1.png,0.1"',
    "solver": "solver\n0.png,magic",
    "problem": "problem\n0.png,magic",
    "range": "range\n0.png,x",
    "samples": "samples\n0.png,-4",
    "select": "select\n0.png,z=3",
    "array": "array\n0.png,x",
}


def _row(kind: str, desk: Desk) -> Case:
    """A wrong cell is found in the table, or makes this picture fail."""
    column, _, row = _ROWS[kind].partition("\n")
    content = f"image,{column}\n{row}\n1.png,\n".encode()
    path, _, command = _manifest(desk, content)
    (path.parent / "below").mkdir()
    name = row.split(",")[0]
    names = (path.name, Path(name).name, name.strip('"').split("\n")[0], column)
    names += (f"--{column.replace('_', '-')}",)
    return Case(command, "partly", names)


def _option(option: str, value: str, desk: Desk) -> Case:
    folder, _ = _photos(desk)
    expect: Expectation = "refused"
    return Case(desk.restore(folder, f"{option}={value}"), expect, (option, value or option))


def _on_one(option: tuple[str, ...], desk: Desk) -> Case:
    """Options of folders with a single picture."""
    folder, _ = _photos(desk)
    command = desk.restore(folder / "0.png", *option)
    return Case(command, "refused", (option[0],), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"beside-{kind}": functools.partial(_beside, kind)
        for kind in (
            *("empty", "cut", "garbage", "zeros", "text", "page", "link", "link-loop", "folder"),
            *("fifo", "fits", "array", "nan", "zarr", "newline", "escape", "not-utf8"),
        )
    },
    **{
        f"name-{number}": functools.partial(_named, name)
        for number, name in enumerate(
            (
                *("new\nline", "tab\t", "quote\"'", "comma,", "-dash", "--help", "*star*", "[a]"),
                *("\u00e4\u4e2d\U0001f600", "a" * 200, " blank ", "$HOME", "a;b", "%s%n"),
                *("\u202eright-to-left", "null", "summary", "con", "~"),
            )
        )
    },
    **{
        f"tree-{kind}": functools.partial(_tree, kind)
        for kind in ("link-up", "hidden", "deep", "other-files")
    },
    **{
        f"whole-{kind}": functools.partial(_whole, kind)
        for kind in (
            *("empty", "missing-pattern", "bad-pattern", "into-itself", "out-is-a-file"),
            *("watch-and-json", "watch-and-dry-run"),
        )
    },
    **{
        f"done-{kind}": functools.partial(_again, kind)
        for kind in ("empty", "cut", "garbage", "zeros", "text", "other")
    },
    **{f"table-{kind}": functools.partial(_good_table, kind) for kind in _GOOD_TABLES},
    **{f"bad-table-{kind}": functools.partial(_bad_table, kind) for kind in _BAD_TABLES},
    **{f"row-{kind}": functools.partial(_row, kind) for kind in _ROWS},
    **{
        f"workers={value or 'empty'}": functools.partial(_option, "--workers", value)
        for value in ("0", "-1", "nan", "x", "", "2.5")
    },
    **{
        f"one-picture-{'-'.join(option).strip('-')}": functools.partial(_on_one, option)
        for option in (("--dry-run",), ("--watch",))
    },
}
"""Recipes by name."""
