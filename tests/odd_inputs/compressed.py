"""JPEG files as measurements: their own tables are the problem, and other files have none."""

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Outcome, Recipe
from tests.odd_inputs.modes import levels, smooth
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]

Check = Callable[[Outcome], str | None]

_DRAWS = ("--solver", "mmps", "--samples", "2")


def _tables(desk: Desk, top: int = 120) -> list[list[int]]:
    """Two tables, row by row, in no symmetry."""
    return [[int(q) for q in desk.rng.integers(1, top, 64)] for _ in range(2)]


def _uses(desk: Desk, tables: list[list[int]], subsampling: Any) -> Check:
    return functools.partial(_check, desk, tables, subsampling)


def _check(desk: Desk, tables: list[list[int]], subsampling: Any, outcome: Outcome) -> str | None:
    """The operator in problem.json has the tables of the file."""
    operator = json.loads((desk.out / "problem.json").read_text())["operator"]
    while "outer" in operator:  # grey pictures are seen through the mean of the colours
        operator = operator["outer"]
    if operator["tables"] != tables:
        return f"the tables are {str(operator['tables'])[:60]}..., must be {str(tables)[:60]}..."
    if subsampling is not None and operator["subsampling"] not in subsampling:
        return f"the subsampling is {operator['subsampling']}, must be {subsampling[0]}"
    return None


_SUBSAMPLINGS = {0: (False, "4:4:4"), 1: ("4:2:2",), 2: (True, "4:2:0")}


def _own(subsampling: int, progressive: bool, desk: Desk) -> Case:
    tables = _tables(desk)
    path = desk.folder / desk.pick("photo.jpg", "photo.JPEG", "photo")
    height, width = desk.size()
    Image.fromarray(smooth(desk, height, width)).save(
        path, "JPEG", qtables=tables, subsampling=subsampling, progressive=progressive
    )
    command = desk.restore(path, *_DRAWS, problem="jpeg")
    check = _uses(desk, tables, _SUBSAMPLINGS[subsampling])
    return Case(command, "right", (path.name,), check, outputs=(desk.out,))


def _grey(desk: Desk) -> Case:
    tables = _tables(desk)[:1]
    path = desk.folder / "photo.jpg"
    height, width = desk.size()
    Image.fromarray(smooth(desk, height, width, 1)[..., 0]).save(path, "JPEG", qtables=tables)
    command = desk.restore(path, *_DRAWS, problem="jpeg")
    return Case(command, "right", (path.name,), _uses(desk, tables, None), outputs=(desk.out,))


def _turned(desk: Desk) -> Case:
    """The blocks of a picture that lies on its side: its tables turn with it, or it is refused."""
    tables = _tables(desk)
    exif = Image.Exif()
    exif[0x0112] = int(desk.rng.integers(2, 9))
    path = desk.folder / "photo.jpg"
    Image.fromarray(smooth(desk, 16, 24)).save(path, "JPEG", qtables=tables, exif=exif.tobytes())
    command = desk.restore(path, *_DRAWS, problem="jpeg")
    return Case(command, "clean", (path.name, "turned", "orientation"), outputs=(desk.out,))


def _cmyk(desk: Desk) -> Case:
    path = desk.folder / "photo.jpg"
    Image.fromarray(smooth(desk, 16, 24, 4), "CMYK").save(path, "JPEG", quality=60)
    command = desk.restore(path, *_DRAWS, problem="jpeg")
    return Case(command, "refused", (path.name, "CMYK", "channels"), outputs=(desk.out,))


def _no_tables(form: str, given: bool, desk: Desk) -> Case:
    """Files without tables: the quality must be said."""
    path = desk.folder / f"photo.{form}"
    values = levels(desk, 12, 16, 3)
    if form == "npy":
        np.save(path, values.astype(np.uint8))
    elif form == "webp":
        Image.fromarray(values.astype(np.uint8)).save(path)
    else:
        path.write_bytes(png(values, 8, 2))
    more = ("--set", "quality=37") if given else ()
    command = desk.restore(path, *_DRAWS, *more, problem="jpeg")
    if not given:
        return Case(command, "refused", ("quality",), outputs=(desk.out,))

    def check(outcome: Outcome) -> str | None:
        operator = json.loads((desk.out / "problem.json").read_text())["operator"]
        found = operator["quality"]
        return None if found == 37 else f"the quality is {found}, must be 37"

    return Case(command, "right", (path.name,), check)


RECIPES: dict[str, Recipe] = {
    **{
        f"own-{subsampling}{'-progressive' if progressive else ''}": functools.partial(
            _own, subsampling, progressive
        )
        for subsampling in (0, 1, 2)
        for progressive in (False, True)
    },
    "own-grey": _grey,
    "turned": _turned,
    "cmyk": _cmyk,
    **{
        f"no-tables-{form}{'-given' if given else ''}": functools.partial(_no_tables, form, given)
        for form in ("png", "npy", "webp")
        for given in (False, True)
    },
}
"""Recipes by name."""
