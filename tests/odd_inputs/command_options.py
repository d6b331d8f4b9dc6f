"""Options of the other commands with values that they cannot have."""

import functools
from pathlib import Path

import numpy as np

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.command_lines import (
    VERIFY_LINE,
    calibrate_line,
    compare_line,
    folder_of_photos,
    likelihood_line,
    photo_for_commands,
    sample_line,
    train_line,
)
from tests.odd_inputs.modes import levels
from tests.odd_inputs.options import NUMBERS

__all__ = ["RECIPES"]

_WHOLE = (*NUMBERS, "2.5", "1000000000000")

_Options = tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]

_TRAIN: _Options = (
    # option, values, those that may also be taken
    ("--steps", (*NUMBERS, "2.5"), ()),
    ("--batch", _WHOLE, ()),
    ("--accumulate", (*_WHOLE, "3"), ()),
    ("--crop", (*_WHOLE, "7", "5000"), ("7",)),
    ("--widths", ("", "0", "-8", "8,", "8,x", "nan", "1e12", "8.5", "1000000000000"), ()),
    ("--blocks", ("", "0", "-1", "x", "1,1", "1000000000000"), ()),
    ("--attention", ("", "x", "5", "-1", "nan"), ()),
    ("--channels", ("0", "-1", "2", "nan", "1000000000000"), ()),
    ("--fourier", ("x", "nan", "-1", "1e12", "1000000000000", "4,,5"), ("-1",)),
    ("--sigma-data", NUMBERS, ("1e12",)),
    ("--noise", ("nan,1", "0,nan", "0,-1", "0,0", "inf,1", "1", "1,2,3", "x", ""), ("0,0",)),
    (
        *("--noise-range", ("5,1", "0,80", "-1,1", "nan,1", "1,inf", "1", "1,1", "x", "")),
        (),
    ),
    ("--weighting", ("x", "", "0"), ()),
    ("--learning-rate", NUMBERS, ("1e12",)),
    ("--warmup", ("-1", "nan", "2.5", "x", ""), ()),
    ("--cooldown", ("nan", "inf", "-1", "1.5", "x", ""), ()),
    ("--ema", ("nan", "inf", "-1", "1.5", "x", ""), ()),
    ("--snapshot-every", ("0", "-1", "nan", "x"), ()),
    ("--precision", ("x", "", "fp16"), ()),
    ("--save-every", ("0", "-1", "nan", "x"), ()),
    ("--init", ("", "x", "nothing.safetensors", "data.npy"), ()),
    ("--seed", ("-1", "nan", "x", "", "2.5", str(2**63), str(2**64)), ()),
    ("--minutes", ("nan", "-1", "inf", "x", ""), ("inf",)),
    ("--device", ("x", "", "cuda:99"), ()),
    ("--recipe", ("x", ""), ()),
    ("--array", ("x",), ()),
    ("--out", ("data.npy", "data.npy/inside"), ()),
    ("--resume-from", ("x",), ()),
)

_SAMPLE: _Options = (
    ("--n", _WHOLE, ()),
    ("--size", (*_WHOLE, "1000000"), ()),
    ("--sampler", ("x", ""), ()),
    ("--steps", _WHOLE, ()),
    ("--seed", ("-1", "nan", "x", str(2**63), str(2**64)), ()),
    ("--average", ("x", ""), ()),
    ("--device", ("x", "", "cuda:99"), ()),
    ("--precision", ("x", ""), ()),
    ("--out", ("photo.png/inside.png", "out/grid.xyz", "out/grid", "."), ()),
)

_LIKELIHOOD: _Options = (
    ("--divergence", ("x", ""), ()),
    ("--probes", (*_WHOLE, "3"), ("3",)),
    ("--nodes", (*_WHOLE, "1"), ()),
    ("--k", (*NUMBERS, "2.5"), ()),
    ("--batch", _WHOLE, ("1000000000000",)),
    ("--count", _WHOLE, ()),
    ("--seed", ("-1", "nan", "x", str(2**63), str(2**64)), ()),
    ("--average", ("x", ""), ()),
    ("--array", ("x",), ()),
    ("--dataset", ("nothing.npy", "photo.png", ".", ""), ()),
)

_CALIBRATE: _Options = (
    ("--level", (*NUMBERS, "1"), ()),
    ("--count", _WHOLE, ("1000000000000",)),
    ("--crop", (*_WHOLE, "5000"), ()),
    ("--samples", (*NUMBERS, "1"), ()),
    ("--sigma", NUMBERS, ("1e12",)),
    ("--solver", ("x", "", "hqs"), ()),
    ("--problem", ("x", "", "nothing.json"), ()),
    ("--box", ("0,0,9,9", "x"), ()),
    ("--scale", ("3",), ()),
    ("--range", ("5,1", "x"), ()),
    ("--out", ("photos", "photos/1.png/x.json"), ()),
)

_COMPARE: _Options = (
    ("--budget", ("nan", "inf", "-inf", "-1", "0", "text", ""), ()),
    ("--families", ("x", "", ",", "vae,x"), ()),
    ("--samples", _WHOLE, ()),
    ("--likelihoods", _WHOLE, ()),
    ("--pictures", _WHOLE, ()),
    ("--draws", _WHOLE, ()),
    ("--features", ("x", ""), ()),
    ("--seed", ("-1", "x", str(2**63)), ()),
    ("--device", ("x", "cuda:99"), ()),
)

_VERIFIES: _Options = (
    ("--solver", ("x", ""), ()),
    ("--problem", ("x", ""), ()),
    ("--draws", _WHOLE, ()),
    ("--seeds", ("0", "-1", "nan", "x"), ()),
    ("--jobs", ("0", "-1", "nan", "x"), ()),
)

_MEANINGS = {
    # words of the help that name an option as well
    "--families": ("unknown family",),
    "--noise-range": ("range of noise levels", "smallest noise level", "largest noise level"),
    "--noise": ("noise level",),
    "--out": (".xyz",),
}

_PATHS = ("--init", "--dataset", "--out", "--problem")

_TABLES = {
    "train": _TRAIN,
    "sample": _SAMPLE,
    "likelihood": _LIKELIHOOD,
    "calibrate": _CALIBRATE,
    "compare": _COMPARE,
    "verify": _VERIFIES,
}


def _option(command: str, option: str, value: str, also: tuple[str, ...], desk: Desk) -> Case:
    if command in ("train", "compare"):
        data = desk.folder / ("data.npy" if command == "train" else "data.npz")
        images = levels(desk, 240, 16, 16).astype(np.uint8)
        if command == "train":
            np.save(data, images)
        else:
            np.savez(data, train_images=images, test_images=images)
        line = train_line(desk, data) if command == "train" else compare_line(desk, data)
    elif command == "likelihood":
        line = likelihood_line(
            desk, *(() if option == "--dataset" else (photo_for_commands(desk),))
        )
        photo_for_commands(desk)
    elif command == "calibrate":
        line = calibrate_line(desk, folder_of_photos(desk))
    else:
        photo_for_commands(desk)
        line = sample_line(desk) if command == "sample" else VERIFY_LINE
    expect: Expectation = "either" if value in also else "refused"
    plain = option.strip("-")
    words = [option, plain, plain.replace("-", "_"), *_MEANINGS.get(option, ())]
    words += ["data.npz"] if command == "compare" else []
    words += [value, *map(str, Path(value).parents[:-1])] if option in _PATHS and value else []
    return Case((*line, f"{option}={value}"), expect, tuple(words), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"{command}{option}={value or 'empty'}": functools.partial(
            _option, command, option, value, also
        )
        for command, table in _TABLES.items()
        for option, values, also in table
        for value in values
    },
}
"""Recipes by name."""
