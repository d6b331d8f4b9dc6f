"""Files for --calibration that are damaged, foreign, or of another procedure."""

import copy
import functools
import json
from typing import Any

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.damage import damaged, flipped
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]

_CONTENT: dict[str, Any] = {
    "format": "scoresde.calibration/1",
    "levels": [0.5, 0.9],
    "scales": [0.7, 1.8],
    "pictures": 30,
    "size": [16, 16],
    "floor": 0.004,
    "procedure": {},
}

_FIELDS: dict[str, Any] = {
    "format": ("scoresde.calibration/2", 1, None),
    "levels": ([], [0.5], [0.5, 0.5], [0, 0.9], [0.5, "x"], 0.5, None, "x", [float("nan"), 0.9]),
    "scales": ([], [1], [-1, 2], [float("nan"), 1], [float("inf"), 1], ["x", 1], None, 1, {}),
    "pictures": (0, -1, "x", None, [1]),
    "size": ([], [16], [16, 16, 3], 16, "x", None),
    "floor": (0, -1, float("nan"), "x", None),
    "procedure": (None, [], "x", 3),
}


def _case(desk: Desk, content: bytes, expect: Expectation = "refused") -> Case:
    path, photo = desk.folder / "calibration.json", desk.folder / "photo.png"
    path.write_bytes(content)
    photo.write_bytes(png(levels(desk, 12, 16, 3), 8, 2))
    more = ("--solver", "diffpir", "--samples", "2", "--calibration", path)
    names = (path.name, "calibration")
    return Case(desk.restore(photo, *more), expect, names, outputs=(desk.out,))


def _damaged(kind: str, desk: Desk) -> Case:
    return _case(desk, damaged(desk, json.dumps(_CONTENT).encode(), kind))


def _flipped(desk: Desk) -> Case:
    return _case(desk, flipped(desk, json.dumps(_CONTENT).encode()), "clean")


def _field(name: str, desk: Desk) -> Case:
    """A field with a value that it cannot have, or without any."""
    content = copy.deepcopy(_CONTENT)
    values = _FIELDS[name]
    index = int(desk.rng.integers(len(values) + 1))
    if index == len(values):
        del content[name]
    else:
        content[name] = values[index]
    # what may be left out has a default
    optional = name in ("floor", "procedure")
    return _case(desk, json.dumps(content).encode(), "clean" if optional else "refused")


def _extra(desk: Desk) -> Case:
    return _case(desk, json.dumps({**_CONTENT, "magic": 1}).encode())


def _plain(text: str, desk: Desk) -> Case:
    return _case(desk, text.encode())


def _other_procedure(desk: Desk) -> Case:
    """Intervals of another solver, noise and prior hold for these alone."""
    procedure = {"problem": "denoise", "sigma": 0.3, "solver": "dps", "samples": 8, "prior": "x"}
    content = {**_CONTENT, "procedure": procedure}
    return _case(desk, json.dumps(content).encode())


RECIPES: dict[str, Recipe] = {
    **{
        f"damaged-{kind}": functools.partial(_damaged, kind)
        for kind in ("empty", "cut", "garbage", "zeros", "text", "page")
    },
    "flipped": _flipped,
    **{f"field-{name}": functools.partial(_field, name) for name in _FIELDS},
    "extra-field": _extra,
    **{
        f"plain-{text[:8]}": functools.partial(_plain, text)
        for text in ("[]", "3", "null", "{}", '"x"', "[" * 50_000)
    },
    "other-procedure": _other_procedure,
}
"""Recipes by name."""
