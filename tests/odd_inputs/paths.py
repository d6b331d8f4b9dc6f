"""Paths that are no ordinary files: links, pipes, devices, and names that change the terminal."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.odd_inputs.case import Case, Command, Desk, Outcome, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.command_lines import (
    calibrate_line,
    compare_line,
    folder_of_photos,
    likelihood_line,
    photo_for_commands,
    sample_line,
    train_line,
)
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _odd_path(desk: Desk, kind: str, suffix: str) -> Path:
    """A path at which there is no file with an end."""
    path = desk.folder / f"odd{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link-to-device":
        path.symlink_to("/dev/zero")
    elif kind == "link-loop":
        path.symlink_to(path.name)
    elif kind == "link-to-nothing":
        path.symlink_to("nothing")
    elif kind == "link-to-folder":
        path.symlink_to(desk.folder)
    elif kind == "device":
        return Path("/dev/zero")
    elif kind == "terminal":
        return Path("/dev/null")
    elif kind == "long":
        return desk.folder / ("a" * 300 + suffix)
    elif kind == "below-a-file":
        (desk.folder / "file").write_text("no folder")
        return desk.folder / "file" / f"odd{suffix}"
    return path


_KINDS = (
    *("pipe", "device", "link-to-device", "link-loop", "link-to-nothing", "link-to-folder"),
    *("terminal", "long", "below-a-file"),
)


def _places(desk: Desk, odd: Path, place: str) -> Command:
    """A command that reads the path in some place."""
    if place in ("photo", "array", "volume"):
        return desk.restore(odd, "--range=0,1")
    if place == "likelihood":
        return likelihood_line(desk, odd)
    if place == "dataset":
        return (*likelihood_line(desk), "--dataset", str(odd))
    if place == "train":
        return train_line(desk, odd)
    if place == "compare":
        return compare_line(desk, odd)
    if place == "calibrate":
        return calibrate_line(desk, odd)
    photo = photo_for_commands(desk)
    if place == "prior":
        return (*sample_line(desk), "--prior", str(odd))
    if place == "check-prior":
        return ("check-prior", str(odd), "--device", "cpu")
    if place == "kernel":
        return desk.restore(photo, "--kernel", odd, problem="deblur")
    if place == "problem":
        return desk.restore(photo, problem=odd)
    if place == "calibration":
        draws = ("--solver", "diffpir", "--samples", "2")
        return desk.restore(photo, *draws, "--calibration", odd)
    return desk.restore(photo, "--mask", odd, problem="inpaint")


_PLACES = {
    "photo": ".png",
    "array": ".npy",
    "volume": ".nii",
    "likelihood": ".png",
    "dataset": ".npz",
    "train": ".npy",
    "compare": ".npz",
    "calibrate": "",
    "prior": ".safetensors",
    "check-prior": ".safetensors",
    "kernel": ".png",
    "mask": ".png",
    "problem": ".json",
    "calibration": ".json",
}


def _read(place: str, kind: str, desk: Desk) -> Case:
    odd = _odd_path(desk, kind, _PLACES[place])
    command = _places(desk, odd, place)
    names = (odd.name, f"--{place}", "folder", "problem")
    return Case(command, "refused", names, outputs=(desk.out,))


def _written(place: str, kind: str, desk: Desk) -> Case:
    """Results cannot be written there, or go where a link points."""
    odd = _odd_path(desk, kind, {"restore": "", "sample": ".png", "calibrate": ".json"}[place])
    if place == "restore":
        command = (*desk.restore(photo_for_commands(desk)), "--out", str(odd))
    elif place == "sample":
        command = (*sample_line(desk), "--out", str(odd))
    else:
        command = (*calibrate_line(desk, folder_of_photos(desk)), "--out", str(odd))
    return Case(command, "clean", (odd.name, "--out", "/dev"))


_NAMES = (
    *("new\nline", "car\rriage", "tab\t", "quote\"'", "-dash", "--help", "a[1]", "\x1b[2J"),
    *("\u00e4\u4e2d\U0001f600", "a" * 230, " blank ", "$(touch executed)", "`touch executed`"),
    *("a;touch executed", "%s%n%x", "\u202eright", "{0}", "<script>alert(1)</script>", "\udcff"),
    *("&amp;", "a\\b", "*", "?", "C:", "..png", "file:x", "https:x"),
)


def _named(name: str, bad: bool, desk: Desk) -> Case:
    """A picture of an odd name; a damaged one is refused in one line."""
    if "<script>" in name:
        name = name.replace("/", "\u2215")
    path = Path(os.fsdecode(os.fsencode(desk.folder / f"{name}.png")))
    values = levels(desk, *desk.size(), 3)
    path.write_bytes(b"no picture" if bad else png(values, 8, 2))
    command = desk.restore(path)
    if bad:
        return Case(command, "refused", (".png",), outputs=(desk.out,))
    check = picture_is(desk.out, values)

    def and_escaped(outcome: Outcome) -> str | None:
        page = (desk.out / "report.html").read_text(errors="surrogateescape")
        if "<script>alert" in page:
            return "the page runs what is in the name"
        return check(outcome)

    return Case(command, "right", (), and_escaped, outputs=(desk.out,))


def _linked(kind: str, desk: Desk) -> Case:
    """A link to a good picture is the picture."""
    values = levels(desk, *desk.size(), 3)
    path, link = desk.folder / "photo.png", desk.folder / "link.png"
    path.write_bytes(png(values, 8, 2))
    target: Callable[[], object] = {
        "soft": lambda: link.symlink_to(path),
        "relative": lambda: link.symlink_to("photo.png"),
        "hard": lambda: link.hardlink_to(path),
        "chain": lambda: [
            (desk.folder / "middle").symlink_to(path),
            link.symlink_to(desk.folder / "middle"),
        ],
    }[kind]
    target()
    return Case(desk.restore(link), "right", (), picture_is(desk.out, values))


def _sparse(desk: Desk) -> Case:
    """A file of 1 TB of which nothing is on the disk."""
    path = desk.folder / f"photo{desk.pick('.png', '.npy', '.nii', '.h5', '.tif', '.fits')}"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return Case(desk.restore(path, "--range=0,1"), "refused", (path.name,), outputs=(desk.out,))


def _sparse_prior(desk: Desk) -> Case:
    path = desk.folder / "prior.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    command = (*sample_line(desk), "--prior", str(path))
    names = (path.name, "memory")  # that is bounded here, and the file is mapped
    return Case(command, "refused", names, outputs=(desk.out,))


def _sparse_problem(desk: Desk) -> Case:
    """A description of zeros, 8 GB long."""
    path = desk.folder / "problem.json"
    with path.open("wb") as file:
        file.truncate(8 << 30)
    command = desk.restore(photo_for_commands(desk), problem=path)
    return Case(command, "refused", (path.name, "--problem", "problem"), outputs=(desk.out,))


def _honest_sparse(desk: Desk) -> Case:
    """An array of 400 GB of zeros, with a head that says so."""
    path = desk.folder / "measured.npy"
    values = np.zeros((3, 4))
    np.save(path, values)
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 100000, 150000), }"
    head = b"\x93NUMPY\x01\x00" + len(text + b"\n").to_bytes(2, "little") + text + b"\n"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 8 * 3 * 100_000 * 150_000)
    return Case(desk.restore(path), "refused", (path.name, "memory"), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"{place}-{kind}": functools.partial(_read, place, kind)
        for place in _PLACES
        for kind in _KINDS
        if not (place == "calibrate" and kind in ("link-to-folder",))
    },
    **{
        f"out-{place}-{kind}": functools.partial(_written, place, kind)
        for place in ("restore", "sample", "calibrate")
        for kind in ("pipe", "link-to-device", "link-loop", "link-to-nothing", "long")
    },
    **{
        f"name-{number}{'-bad' if bad else ''}": functools.partial(_named, name, bad)
        for number, name in enumerate(_NAMES)
        for bad in (False, True)
    },
    **{
        f"link-{kind}": functools.partial(_linked, kind)
        for kind in ("soft", "relative", "hard", "chain")
    },
    "sparse": _sparse,
    "sparse-prior": _sparse_prior,
    "sparse-problem": _sparse_problem,
    "sparse-array": _honest_sparse,
}
"""Recipes by name."""
