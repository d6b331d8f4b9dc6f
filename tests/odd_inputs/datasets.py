"""Data sets of train, likelihood and compare: array files and folders that are none."""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Recipe
from tests.odd_inputs.command_lines import compare_line, likelihood_line, train_line
from tests.odd_inputs.damage import damaged
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _dataset_command(command: str, desk: Desk, path: Path) -> Case:
    commands = {
        "train": train_line(desk, path),
        "likelihood": likelihood_line(desk, "--dataset", path, grey=True),
        "compare": compare_line(desk, path),
    }
    return Case(commands[command], "refused", (path.name,), outputs=(desk.out,))


def _dataset(command: str, kind: str, desk: Desk) -> Case:
    """Array files that are no data set."""
    images = levels(desk, 6, 8, 9).astype(np.uint8)
    suffix, _, what = kind.partition("-")
    path, file = desk.folder / f"data.{suffix}", io.BytesIO()
    odd = {
        "object": images.astype(object),
        "text": images.astype(str),
        "complex": images.astype(complex),
        "floats": images / 255,
        "beyond": images.astype(np.int64) + 300,
        "one-axis": images.ravel(),
        "five-axes": images[None, None],
        "no-images": images[:0],
        "no-pixels": images[:, :0],
        "seven-channels": np.stack([images] * 7, -1),
    }.get(what, images)
    if suffix == "npy":
        np.save(file, odd, allow_pickle=True)
    elif what == "several":
        np.savez(file, first=images, second=images)
    elif what == "none":
        np.savez(file)
    else:
        np.savez(file, images=odd)
    content = file.getvalue()
    if what in ("empty", "cut", "garbage", "zeros", "page"):
        content = damaged(desk, content, what)
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(content)
    if command == "train" and what in ("floats", "beyond"):  # numbers of their own are learned
        prior = desk.out / "prior.safetensors"
        return Case(
            train_line(desk, path),
            "right",
            (path.name,),
            lambda _: None if prior.is_file() else "no prior was written",
        )
    return _dataset_command(command, desk, path)


_DATASETS = (
    *("npy-object", "npy-text", "npy-complex", "npy-beyond", "npy-one-axis"),
    *("npy-five-axes", "npy-no-images", "npy-no-pixels", "npy-seven-channels", "npy-empty"),
    *("npy-cut", "npy-garbage", "npy-zeros", "npy-page", "npy-folder", "npy-missing", "npz-object"),
    *("npz-several", "npz-none", "npz-empty", "npz-cut", "npz-garbage", "npz-page", "npz-folder"),
    *("npz-missing", "npz-floats", "npy-floats"),
)


def _train_folder(kind: str, desk: Desk) -> Case:
    """A folder with a picture that cannot be used: said before the first step."""
    path = desk.folder / "photos"
    path.mkdir()
    names: tuple[str, ...] = (path.name,)
    if kind not in ("no-pictures", "missing"):
        for number in range(3):
            one = levels(desk, 10, 12).astype(np.uint8)
            Image.fromarray(one).save(path / f"{number}.png")
    bad = path / "bad.png"
    content = png(levels(desk, 10, 12), 8, 0)
    if kind == "small":
        bad.write_bytes(png(levels(desk, 5, 12), 8, 0))
    elif kind in ("empty", "garbage", "page"):
        bad.write_bytes(damaged(desk, content, kind))
    elif kind == "missing":
        path.rmdir()
    names += (bad.name,)
    return Case(train_line(desk, path), "refused", names, outputs=(desk.out,))


def _small(desk: Desk) -> Case:
    """Pictures smaller than the blurs that compare restores them from."""
    path = desk.folder / "data.npz"
    images = levels(desk, 240, 6, 6).astype(np.uint8)
    np.savez(path, train_images=images, test_images=images)
    command = (*compare_line(desk, path), "--families", "vae")
    return Case(command, "refused", (path.name,), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    "compare-small-pictures": _small,
    **{
        f"{command}-data-{kind}": functools.partial(_dataset, command, kind)
        for command in ("train", "likelihood", "compare")
        for kind in _DATASETS
    },
    **{
        f"train-folder-{kind}": functools.partial(_train_folder, kind)
        for kind in ("small", "empty", "garbage", "page", "no-pictures", "missing")
    },
}
"""Recipes by name."""
