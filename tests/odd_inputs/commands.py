"""The other commands with right input by value, and with broken pictures, folders and runs."""

import functools
import json
import math
import shutil

import numpy as np
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Outcome, Recipe
from tests.odd_inputs.command_lines import (
    VERIFY_LINE,
    calibrate_line,
    folder_of_photos,
    likelihood_line,
    photo_for_commands,
    sample_line,
    train_line,
)
from tests.odd_inputs.damage import damaged
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _bits(levels_of_picture: np.ndarray, outcome: Outcome) -> str | None:
    """Bits per dimension under N(0, 1/4), the law of the untrained prior.

    The uniform noise of the dequantisation changes them by less than a hundredth.
    """
    values = (levels_of_picture + 0.5) / 128 - 1
    nats = 0.5 * math.log(2 * math.pi * 0.25) + (values**2).mean() / (2 * 0.25)
    right = nats / math.log(2) + math.log2(128)
    found = json.loads(outcome.stdout)["bits_per_dim"][0]
    return None if abs(found - right) < 0.05 else f"{found:.3f} bits/dim, must be {right:.3f}"


def _likelihood_right(form: str, channels: int, desk: Desk) -> Case:
    size = desk.size()
    values = levels(desk, *size, channels)
    path = desk.folder / f"photo.{form}"
    flat = (values[..., 0] if channels == 1 else values).astype(np.uint8)
    Image.fromarray(flat).save(path)
    command = likelihood_line(desk, path, grey=channels == 1)
    return Case(command, "right", (path.name,), functools.partial(_bits, values))


def _likelihood_refused(kind: str, desk: Desk) -> Case:
    """Bits per dimension are of 8-bit values of the channels of the prior."""
    path, size = desk.folder / "photo.png", (12, 16)
    grey = kind in ("colour-under-grey", "16-bit", "soft-alpha-grey")
    if kind.startswith("16-bit"):
        colour = 0 if grey else 2
        path.write_bytes(png(levels(desk, *size, 1 if grey else 3, top=65536), 16, colour))
    elif kind == "soft-alpha-grey":
        path.write_bytes(png(levels(desk, *size, 2), 8, 4))
    elif kind == "soft-alpha":
        path.write_bytes(png(levels(desk, *size, 4), 8, 6))
    elif kind == "float":
        path = desk.folder / "photo.tif"
        Image.fromarray(desk.rng.uniform(0, 1, size).astype(np.float32)).save(path)
    else:
        channels = 1 if kind == "grey-under-colour" else 3
        path.write_bytes(png(levels(desk, *size, channels), 8, 0 if channels == 1 else 2))
    return Case(likelihood_line(desk, path, grey=grey), "refused", (path.name,))


def _broken_picture(command: str, kind: str, desk: Desk) -> Case:
    content = png(levels(desk, 12, 16, 3), 8, 2)
    path = desk.folder / "photo.png"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(damaged(desk, content, kind))
    return Case(likelihood_line(desk, path), "refused", (path.name,))


def _train_right(kind: str, desk: Desk) -> Case:
    """A step of training on data that is right."""
    channels = 3 if kind.endswith("colour") else 1
    images = levels(desk, 4, 10, 12, channels).astype(np.uint8)
    if kind.startswith("folder"):
        path = desk.folder / "photos"
        path.mkdir()
        for number, one in enumerate(images):
            Image.fromarray(one if channels == 3 else one[..., 0]).save(path / f"{number}.png")
        (path / ".hidden.png").write_bytes(b"not a picture")
        (path / "._0.png").write_bytes(b"\0\5\x16\7")
        (path / "notes.txt").write_text("of the journey")
    elif kind.startswith("npz"):
        path = desk.folder / "data.npz"
        np.savez(path, images=images)
    else:
        path = desk.folder / "data.npy"
        np.save(path, images[..., 0] if channels == 1 else images)

    def check(outcome: Outcome) -> str | None:
        return None if (desk.out / "prior.safetensors").is_file() else "no prior was written"

    return Case(train_line(desk, path, channels=channels), "right", (path.name,), check)


def _folder(kind: str, desk: Desk) -> Case:
    """Folders that calibrate cannot use."""
    folder = desk.folder / "photos"
    names: tuple[str, ...] = (folder.name,)
    if kind == "file":
        folder = photo_for_commands(desk)
        names = (folder.name,)
    elif kind != "missing":
        folder.mkdir()
    if kind in ("small", "broken", "grey-and-colour"):
        for number in range(4):
            (folder / f"{number}.png").write_bytes(png(levels(desk, 10, 12, 3), 8, 2))
        bad = png(levels(desk, 4, 4, 3), 8, 2)
        if kind == "broken":
            bad = damaged(desk, bad, "garbage")
        (folder / "1.png").write_bytes(bad)
        names += ("1.png",)
    return Case(calibrate_line(desk, folder), "refused", names, outputs=(desk.out,))


def _average(kind: str, desk: Desk) -> Case:
    """Folders without snapshots of a run, and averages that none can give."""
    folder = desk.folder / "run"
    command = ("average", str(folder), "--out", str(desk.out / "prior.safetensors"))
    if kind == "file":
        folder.write_text("no run")
    elif kind != "missing":
        folder.mkdir()
    if kind == "foreign":
        for name in ("snapshot.safetensors", "state.safetensors", "prior.safetensors"):
            shutil.copy(desk.colour, folder / name)
        (folder / "snapshots").mkdir()
        shutil.copy(desk.colour, folder / "snapshots" / "1.safetensors")
    return Case(command, "refused", (folder.name,), outputs=(desk.out,))


def _resumed(kind: str, desk: Desk) -> Case:
    """The state of a run is damaged, and the run is resumed."""
    data = desk.folder / "data.npy"
    np.save(data, levels(desk, 4, 8, 9).astype(np.uint8))
    desk.out.mkdir()
    state = desk.out / "state.safetensors"
    content = desk.colour.read_bytes()
    state.write_bytes(content if kind == "foreign" else damaged(desk, content, kind))
    return Case((*train_line(desk, data), "--resume"), "refused", (state.name, desk.out.name))


def _verify_right(desk: Desk) -> Case:
    return Case((*VERIFY_LINE, "--json"), "right")


def _calibrate_right(desk: Desk) -> Case:
    def check(outcome: Outcome) -> str | None:
        content = json.loads((desk.out / "calibration.json").read_text())
        return None if content["pictures"] == 4 else f"{content['pictures']} pictures, must be 4"

    return Case(calibrate_line(desk, folder_of_photos(desk)), "right", (), check)


def _sample_right(desk: Desk) -> Case:
    """Draws of the untrained prior are white noise of std 1/2, here 16 pictures of 16x16."""
    command = (*sample_line(desk), "--n", "16", "--size", "16", "--steps", "20")

    def check(outcome: Outcome) -> str | None:
        with Image.open(desk.out / "grid.png") as file:
            grid = np.asarray(file).astype(float) / 127.5 - 1
        # clipped to [-1, 1], which is 2 std: the std becomes 0.46; frames between the draws differ
        found = float(grid.std())
        return None if 0.35 < found < 0.65 else f"the draws have std {found:.2f}, must have 0.46"

    return Case(command, "right", (), check)


RECIPES: dict[str, Recipe] = {
    **{
        f"likelihood-{form}-{channels}": functools.partial(_likelihood_right, form, channels)
        for form in ("png", "bmp", "tif")
        for channels in (1, 3)
    },
    **{
        f"likelihood-{kind}": functools.partial(_likelihood_refused, kind)
        for kind in (
            *("16-bit", "16-bit-colour", "colour-under-grey", "grey-under-colour", "soft-alpha"),
            *("soft-alpha-grey", "float"),
        )
    },
    **{
        f"likelihood-picture-{kind}": functools.partial(_broken_picture, "likelihood", kind)
        for kind in ("empty", "cut", "garbage", "page", "folder", "missing")
    },
    **{
        f"train-{kind}": functools.partial(_train_right, kind)
        for kind in ("npy-grey", "npy-colour", "npz-grey", "folder-grey", "folder-colour")
    },
    **{
        f"calibrate-folder-{kind}": functools.partial(_folder, kind)
        for kind in ("missing", "empty", "file", "small", "broken")
    },
    **{
        f"average-{kind}": functools.partial(_average, kind)
        for kind in ("missing", "empty", "file", "foreign")
    },
    **{
        f"resumed-{kind}": functools.partial(_resumed, kind)
        for kind in ("empty", "cut", "garbage", "zeros", "foreign")
    },
    "verify": _verify_right,
    "calibrate": _calibrate_right,
    "sample": _sample_right,
}
"""Recipes by name."""
