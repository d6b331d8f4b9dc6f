"""problem.json: repeating a run, and files that are damaged, foreign or changed by hand."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from problems import (
    JPEG,
    MRI,
    Blur,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    PoissonGaussianNoise,
    Quantisation,
    SuperResolution,
    Tomography,
    angles_between,
    box_mask,
)
from tests.odd_inputs.case import Case, Desk, Outcome, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.damage import damaged, flipped
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]

_SIZE = (13, 16)


def _described(name: str) -> dict[str, Any]:
    """The description of a problem of pictures of _SIZE."""
    import torch

    operators = {
        "denoise": Denoising(),
        "inpaint": Inpainting(box_mask(*_SIZE, 2, 3, 4, 5)),
        "blur": Blur(torch.tensor([[1.0, 2, 0], [0, 1, 3]]), "circular"),
        "gaussian": GaussianBlur(1.2, "reflect"),
        "super-resolve": SuperResolution(2, "bicubic", None),
        "mri": MRI(box_mask(*_SIZE, 2, 3, 4, 5)),
        "tomography": Tomography(angles_between(6), _SIZE),
        "jpeg": JPEG(30),
        "quantise": Quantisation(8),
    }
    noise = PoissonGaussianNoise(50.0, 0.01) if name == "blur" else GaussianNoise(0.01)
    return InverseProblem(operators[name], noise).describe()


_NAMES = (
    *("denoise", "inpaint", "blur", "gaussian", "super-resolve", "mri", "tomography", "jpeg"),
    "quantise",
)


def _photo(desk: Desk, values: np.ndarray | None = None) -> Path:
    path = desk.folder / "photo.png"
    path.write_bytes(png(levels(desk, *_SIZE, 3) if values is None else values, 8, 2))
    return path


def _bad(desk: Desk, content: bytes | None, name: str = "problem.json") -> Case:
    path = desk.folder / name
    if content is not None:
        path.write_bytes(content)
    command = desk.restore(_photo(desk), problem=path)
    return Case(command, "refused", (path.name,), outputs=(desk.out,))


def _damaged(kind: str, desk: Desk) -> Case:
    whole = json.dumps(_described("inpaint")).encode()
    return _bad(desk, damaged(desk, whole, kind))


_CONTENTS: dict[str, bytes] = {
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "true": b"true",
    "string": b'"Denoising"',
    "empty-object": b"{}",
    "no-operator": b'{"noise": {"noise": "GaussianNoise", "std": 0.1}}',
    "no-noise": b'{"operator": {"operator": "Denoising"}}',
    "unknown-operator": (
        b'{"operator": {"operator": "Magic"}, "noise": {"noise": "GaussianNoise", "std": 0.1}}'
    ),
    "unknown-noise": (
        b'{"operator": {"operator": "Denoising"}, "noise": {"noise": "Magic", "std": 0.1}}'
    ),
    "operator-is-text": b'{"operator": "Denoising", "noise": {"noise": "GaussianNoise", "std": 1}}',
    "operator-is-list": b'{"operator": [], "noise": []}',
    "name-is-number": b'{"operator": {"operator": 3}, "noise": {"noise": 4}}',
    "name-is-list": b'{"operator": {"operator": []}, "noise": {"noise": {}}}',
    "unknown-field": (
        b'{"operator": {"operator": "Denoising", "x": 1}, '
        b'"noise": {"noise": "GaussianNoise", "std": 0.1}}'
    ),
    "package": b'{"name": "left-pad", "version": "1.3.0", "scripts": {"test": "node test"}}',
    "report": b'{"image": "photo.png", "problem": "denoise", "operator": "Denoising()"}',
    "deep": b"[" * 100_000,
    "deep-object": b'{"operator":' * 20_000 + b"1" + b"}" * 20_000,
    "not-utf-8": b'{"operator": "\xff\xfe"}',
    "null-bytes": b"\0" * 64,
    "no-value": b'{"operator": ',
    "huge-number": (
        b'{"operator": {"operator": "Denoising"}, "noise": {"noise": "GaussianNoise", "std": 1'
        + b"0" * 5000
        + b"}}"
    ),
    "std-nan": (
        b'{"operator": {"operator": "Denoising"}, "noise": {"noise": "GaussianNoise", "std": NaN}}'
    ),
    "std-infinity": (
        b'{"operator": {"operator": "Denoising"}, '
        b'"noise": {"noise": "GaussianNoise", "std": Infinity}}'
    ),
    "std-text": (
        b'{"operator": {"operator": "Denoising"}, '
        b'"noise": {"noise": "GaussianNoise", "std": "0.1"}}'
    ),
    "motion-bomb": (
        b'{"operator": {"operator": "MotionBlur", "length": 1000000000, "angle": 3.0, '
        b'"boundary": "reflect"}, "noise": {"noise": "GaussianNoise", "std": 0.1}}'
    ),
    "tensor-bomb": (
        b'{"operator": {"operator": "Inpainting", "mask": {"tensor": "eNpjAAAAAQAB", '
        b'"dtype": "bool", "shape": [1, 1000000, 1000000]}}, '
        b'"noise": {"noise": "GaussianNoise", "std": 0.1}}'
    ),
}


def _content(kind: str, desk: Desk) -> Case:
    return _bad(desk, _CONTENTS[kind])


def _other_size(desk: Desk) -> Case:
    """The mask of a picture of another size."""
    path = desk.folder / "problem.json"
    path.write_text(json.dumps(_described("inpaint")))
    photo = _photo(desk, levels(desk, 14, 15, 3))
    command = desk.restore(photo, problem=path)
    names = (path.name, photo.name, "mask", "size")
    return Case(command, "refused", names, outputs=(desk.out,))


def _unused(option: tuple[str, ...], desk: Desk) -> Case:
    """A description says all: options of problems contradict it."""
    path = desk.folder / "problem.json"
    path.write_text(json.dumps(_described("denoise")))
    command = desk.restore(_photo(desk), *option, problem=path)
    return Case(command, "refused", (option[0],), outputs=(desk.out,))


def _fields(value: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of nested values."""
    found: list[tuple[Any, Any]] = []
    keys: Any = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += _fields(value[key])
    return found


_VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 3, 1.5, float("nan"), float("inf"), 1e308, 10**30, "", "x", [], {}, True),
    *([1, 2], [[1]], {"tensor": ""}, "reflect", [0, 0], [-1, 4], "float32"),
)


def _changed(name: str, desk: Desk) -> Case:
    """Random fields are replaced or removed: refused, or run, but no traceback."""
    content = copy.deepcopy(_described(name))
    for _ in range(int(desk.rng.integers(1, 3))):
        container, key = (lambda all: all[int(desk.rng.integers(len(all)))])(_fields(content))
        if desk.rng.random() < 0.25:
            del container[key]
        else:
            container[key] = copy.deepcopy(_VALUES[int(desk.rng.integers(len(_VALUES)))])
        if not content:
            break
    path = desk.folder / "problem.json"
    path.write_text(json.dumps(content))
    image = _photo(desk)
    if name in ("mri", "tomography"):
        image = desk.folder / "measured.npy"
        np.save(image, desk.rng.uniform(-1, 1, (3, *_SIZE)))
    names = (path.name, image.name, "measurement", "--solver", "hqs", "prior")
    return Case(desk.restore(image, problem=path), "clean", names, outputs=(desk.out,))


def _flipped(desk: Desk) -> Case:
    name = desk.pick(*_NAMES)
    path = desk.folder / "problem.json"
    path.write_bytes(flipped(desk, json.dumps(_described(name)).encode()))
    names = (path.name, "photo.png", "hqs", "prior", "measurement")
    return Case(desk.restore(_photo(desk), problem=path), "clean", names, outputs=(desk.out,))


def _right(desk: Desk) -> Case:
    """A description by its path, in any case of the suffix, with a mark of the byte order."""
    values = levels(desk, *_SIZE, 3)
    path = desk.folder / desk.pick("problem.json", "my problem.json", "PROBLEM.JSON")
    path.write_text(json.dumps(_described("denoise"), indent=desk.pick("", "\t", "    ")))
    check = picture_is(desk.out, values)
    return Case(desk.restore(_photo(desk, values), problem=path), "right", (path.name,), check)


_REPEATED: dict[str, tuple[str, ...]] = {
    "denoise": (),
    "inpaint": ("--box", "1,1,4,4"),
    "deblur": ("--gaussian", "1"),
    "super-resolve": ("--scale", "2"),
    "colourise": (),
    "demosaic": (),
    "compressed-sensing": ("--set", "transform=dct"),
    "mri": (),
    "tomography": ("--set", "angles=8"),
    "phase-retrieval": (),
    "hdr": (),
    "jpeg": ("--set", "quality=40"),
    "quantise": (),
    "gamma-blur": ("--gaussian", "1"),
}


def _repeated(problem: str, grey: bool, desk: Desk) -> Case:
    """problem.json and measurement.npy of a simulated run repeat its mean to the bit."""
    image = desk.folder / "photo.png"
    values = levels(desk, 12, 16, 1 if grey else 3)
    image.write_bytes(png(values, 8, 0 if grey else 2))
    first = desk.folder / "first"
    draws: tuple[str, ...] = ("--solver", "mmps", "--samples", "2")
    if problem == "phase-retrieval":  # its default is of the name, which a problem.json has not
        draws += ("--starts", "1")
    before = desk.restore(image, *_REPEATED[problem], "--simulate", *draws, problem=problem)
    before = (*before, "--out", str(first))
    again = desk.restore(first / "measurement.npy", *draws, problem=first / "problem.json")

    def check(outcome: Outcome) -> str | None:
        one, two = (np.asarray(Image.open(run / "mean.png")) for run in (first, desk.out))
        if one.shape != two.shape:
            return f"mean.png has shape {two.shape}, the first run {one.shape}"
        error = int(np.abs(one.astype(int) - two.astype(int)).max())
        return f"mean.png differs from the first run by {error} grey levels" if error else None

    return Case(again, "right", ("measurement.npy", "problem.json"), check, (before,))


RECIPES: dict[str, Recipe] = {
    **{
        f"damaged-{kind}": functools.partial(_damaged, kind)
        for kind in ("empty", "cut", "garbage", "zeros", "text", "page")
    },
    **{f"content-{kind}": functools.partial(_content, kind) for kind in _CONTENTS},
    "missing": lambda desk: _bad(desk, None),
    "other-size": _other_size,
    **{
        f"unused{option[0]}": functools.partial(_unused, option)
        for option in (("--box", "1,1,4,4"), ("--gaussian", "1"), ("--scale", "3"))
    },
    "unused--set": functools.partial(_unused, ("--set", "quality=3")),
    **{f"changed-{name}": functools.partial(_changed, name) for name in _NAMES},
    "flipped": _flipped,
    "right": _right,
    **{
        f"repeated-{problem}{'-grey' if grey else ''}": functools.partial(_repeated, problem, grey)
        for problem in _REPEATED
        for grey in (False, True)
        if not (grey and problem in ("colourise", "demosaic"))
    },
}
"""Recipes by name."""
