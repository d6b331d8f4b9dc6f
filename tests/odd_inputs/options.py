"""Options of `scoresde restore` with values that they cannot have, and where they mean nothing."""

import functools
from pathlib import Path

import numpy as np

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import mask_is
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["NUMBERS", "RECIPES"]

NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e12", "text", "")
"""Values that hardly any option takes."""

_WHOLE = (*NUMBERS, "2.5", "1000000000000")
_WORDS = ("text", "", "0")
_DRAWS = ("--solver", "diffpir", "--samples", "2")

# problem, the options that it needs, the option that is tried, its values, and among these the ones
# that may also be taken: they are useless but clear
_Row = tuple[str, tuple[str, ...], str, tuple[str, ...], tuple[str, ...]]
_TABLE: tuple[_Row, ...] = (
    ("denoise", (), "--sigma", NUMBERS, ("1e12",)),
    ("denoise", ("--solver", "mmps", "--samples", "2"), "--photons", NUMBERS, ("1e12",)),
    ("denoise", (), "--solver", _WORDS, ()),
    ("denoise", ("--solver", "dps", "--samples", "2"), "--sampler", _WORDS, ()),
    ("denoise", (), "--steps", _WHOLE, ()),
    ("denoise", ("--solver", "diffpir"), "--samples", _WHOLE, ()),
    ("denoise", (), "--effort", _WORDS, ()),
    ("denoise", (), "--prior", ("text", "", "nothing.safetensors", "photo.png"), ()),
    ("denoise", (), "--average", _WORDS, ()),
    (
        *("denoise", (), "--seed", (*_WHOLE, str(2**63 - 1), str(2**63), str(2**64), str(10**30))),
        ("0", "1000000000000", str(2**63 - 1)),
    ),
    ("denoise", (), "--device", ("text", "", "cuda:99", "meta", "cpu:7", "mps"), ("cpu:7",)),
    ("denoise", (), "--precision", ("text", "", "fp16", "0"), ()),
    ("denoise", (), "--tile", (*_WHOLE, "63", "64"), ("64", "1000000000000")),
    ("denoise", _DRAWS, "--calibration", ("", "nothing.json", "photo.png", "."), ()),
    ("denoise", _DRAWS, "--level", (*NUMBERS, "1", "0.999999999999"), ("0.999999999999",)),
    ("denoise", (), "--out", ("photo.png", "photo.png/inside", "/proc/nowhere", "/dev/null"), ()),
    ("denoise", (), "--problem", ("text", "", "0", "nothing.json", "photo.png", "."), ()),
    ("inpaint", (), "--random", (*NUMBERS, "1", "1.5", "1e-9"), ()),
    (
        *("inpaint", (), "--box"),
        (
            *("nan,1,2,3", "1,2,3", "-1,0,4,4", "0,0,0,0", "0,0,1e12,4", "0,0,99,99", "text", ""),
            *("0,0,4,4,4", "99,99,2,2", "0,0,1000000000000,4", "0.5,0,4,4", "0,0,-3,4", "1;2;3;4"),
        ),
        (),
    ),
    ("inpaint", (), "--mask", ("", ".", "nothing.png"), ()),
    ("deblur", (), "--gaussian", NUMBERS, ("0",)),
    ("deblur", (), "--disk", NUMBERS, ("0",)),
    (
        *("deblur", ("--boundary", "circular"), "--motion"),
        (
            *("nan,30", "inf,30", "0,30", "-1,30", "1e12,30", "5", "5,30,2", "text", "", "5,nan"),
            *("5,inf", "5,", ",", "5;30", "5.7,30"),
        ),
        ("5.7,30",),
    ),
    ("deblur", ("--gaussian", "1"), "--boundary", (*_WORDS, "wrap", "REFLECT"), ()),
    ("deblur", (), "--kernel", ("", ".", "nothing.npy"), ()),
    ("super-resolve", (), "--scale", (*NUMBERS, "0.5", "1", "1e-9"), ("1",)),
    ("super-resolve", ("--scale", "2"), "--filter", (*_WORDS, "nearest"), ()),
    ("gamma-blur", _DRAWS, "--gaussian", NUMBERS, ("0",)),
)

# problem, setting, values, and those that may also be taken
_SETTINGS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("jpeg", "quality", (*NUMBERS, "101", "10.5", "1000000000000"), ()),
    ("jpeg", "subsampling", (*_WORDS, "2"), ("0",)),
    ("demosaic", "pattern", (*_WORDS, "RRRR", "RGB", "rggb"), ("rggb",)),
    ("colourise", "weights", _WORDS, ()),
    ("compressed-sensing", "fraction", (*NUMBERS, "1.5", "1e-9"), ("1e-9",)),
    ("compressed-sensing", "transform", _WORDS, ()),
    ("compressed-sensing", "seed", (*_WHOLE, str(2**64)), ("0", "1000000000000")),
    ("mri", "acceleration", (*NUMBERS, "0.5"), ("1e12",)),
    ("mri", "centre", (*NUMBERS, "2"), ("0",)),
    ("mri", "coils", _WHOLE, ()),
    ("tomography", "angles", _WHOLE, ()),
    ("phase-retrieval", "oversampling", (*NUMBERS, "0.5"), ()),
    ("hdr", "gain", NUMBERS, ("1e12",)),
    ("quantise", "levels", (*_WHOLE, "1"), ("1000000000000",)),
    ("gamma-blur", "gamma", NUMBERS, ("1e12",)),
)

_FILES = ("--mask", "--kernel", "--prior", "--calibration", "--out", "--problem", "--device")

_FORMS = ("x", "=", "quality", "=10", "nothere=1", "quality=10=10", "", "--", "QUALITY=10")

# options that a problem does not use, each with a value that it has elsewhere
_UNUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    # option: value, problems that use it
    "--mask": ("nothing.png", ("inpaint", "mri")),
    "--box": ("0,0,4,4", ("inpaint",)),
    "--random": ("0.5", ("inpaint",)),
    "--kernel": ("nothing.png", ("deblur", "super-resolve", "gamma-blur")),
    "--gaussian": ("1.5", ("deblur", "gamma-blur")),
    "--motion": ("5,30", ("deblur", "gamma-blur")),
    "--disk": ("2", ("deblur", "gamma-blur")),
    "--boundary": ("wrap", ("deblur", "gamma-blur")),
    "--scale": ("3", ("super-resolve",)),
    "--filter": ("lanczos3", ("super-resolve",)),
    "--mask-value": ("1", ("inpaint", "mri")),
    "--invert-mask": ("", ("inpaint", "mri")),
    "--set": ("nothere=1", ()),
}
_NEEDED: dict[str, tuple[str, ...]] = {
    "denoise": (),
    "inpaint": ("--box", "1,1,4,4"),
    "deblur": ("--gaussian", "1"),
    "super-resolve": ("--scale", "2"),
    "colourise": ("--simulate",),
    "demosaic": (),
    "compressed-sensing": ("--simulate",),
    "mri": ("--simulate",),
    "tomography": ("--simulate",),
    "phase-retrieval": ("--simulate",),
    "hdr": (),
    "jpeg": ("--set", "quality=30"),
    "quantise": (),
    "gamma-blur": ("--gaussian", "1"),
}


def _photo(desk: Desk) -> Path:
    path = desk.folder / "photo.png"
    path.write_bytes(png(levels(desk, 13, 16, 3), 8, 2))
    return path


def _refused(
    desk: Desk, option: str, *more: str, problem: str = "denoise", expect: Expectation = "refused"
) -> Case:
    command = desk.restore(_photo(desk), *more, problem=problem)
    # a sentence such as "the radius of a disk must be positive" names the option well enough
    words = (option, option.strip("-"))
    return Case(command, expect, words, outputs=(desk.out,))


def _value(row: _Row, value: str, desk: Desk) -> Case:
    problem, needed, option, _, also = row
    case = _refused(
        desk,
        option,
        *needed,
        f"{option}={value}",
        problem=problem,
        expect="either" if value in also else "refused",
    )
    # a file may be named in place of its option, and a mask that --random makes in place of this
    words = [*case.names, *([value] if value and option in _FILES else [])]
    words += ["mask"] if option in ("--random", "--box") else []
    return Case(case.command, case.expect, tuple(words), outputs=case.outputs)


def _setting(problem: str, name: str, value: str, also: tuple[str, ...], desk: Desk) -> Case:
    more = ["--simulate", "--solver", "mmps", "--samples", "2", "--set", f"{name}={value}"]
    if problem == "gamma-blur":
        more += ["--gaussian", "1"]
    expect: Expectation = "either" if value in also else "refused"
    case = _refused(desk, name, *more, problem=problem, expect=expect)
    return Case(case.command, expect, (*case.names, "--set"), outputs=case.outputs)


def _size(problem: str, value: str, desk: Desk) -> Case:
    """The size of the picture behind a measurement that does not show it."""
    path = desk.folder / "measured.npy"
    np.save(path, desk.rng.normal(0, 1, (1, 3, 8)))
    command = desk.restore(path, "--set", f"size={value}", problem=problem)
    names = ("size", path.name, "measurement")
    return Case(command, "refused", names, outputs=(desk.out,))


def _unused(problem: str, option: str, desk: Desk) -> Case:
    value = _UNUSED[option][0]
    given = (option, value) if value else (option,)
    return _refused(desk, option, *_NEEDED[problem], *given, problem=problem)


_CONTRADICTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # problem, the option that the line names, options
    "two-holes": ("inpaint", "--box", ("--box", "1,1,4,4", "--random", "0.5")),
    "two-kernels": ("deblur", "--gaussian", ("--gaussian", "1", "--disk", "2")),
    "three-kernels": (
        "deblur",
        "--gaussian",
        ("--gaussian", "1", "--disk", "2", "--motion", "5,3"),
    ),
    "no-hole": ("inpaint", "--mask", ()),
    "no-kernel": ("deblur", "--kernel", ()),
    "estimate-with-draws": ("denoise", "hqs", ("--samples", "3")),
    "sampler-for-a-loop": ("denoise", "--sampler", ("--sampler", "heun")),
    "jpeg-of-a-png": ("jpeg", "quality", ()),
    "whole-image-missing": ("inpaint", "mask", ("--box", "0,0,13,16")),
    "misspelt": ("denoise", "--sigam", ("--sigam", "0.1")),
    "unknown": ("denoise", "--no-such", ("--no-such",)),
    "unknown-letter": ("denoise", "-z", ("-z",)),
    "another-argument": ("denoise", "another.png", ("another.png",)),
    "value-missing": ("denoise", "--steps", ("--steps",)),
    "kernel-and-filter": (
        *("super-resolve", "--filter"),
        ("--kernel", "photo.png", "--filter", "lanczos3", "--scale", "2"),
    ),
    "kernel-and-fraction": (
        "super-resolve",
        "--scale",
        ("--kernel", "photo.png", "--scale", "2.5"),
    ),
    "larger-than-memory": (
        *("super-resolve", "--scale"),
        ("--scale", "100000"),
    ),
}


def _contradiction(name: str, desk: Desk) -> Case:
    problem, option, more = _CONTRADICTIONS[name]
    return _refused(desk, option, *more, problem=problem)


def _used(problem: str, desk: Desk) -> Case:
    """The problems run with the options that they need: they are refused for what is added."""
    more = (*_NEEDED[problem], "--solver", "mmps", "--samples", "2", "--simulate")
    return _refused(desk, problem, *more, problem=problem, expect="right")


def _set_form(text: str, desk: Desk) -> Case:
    return _refused(desk, "--set", "--set", text, "--simulate", problem="jpeg")


def _box(desk: Desk) -> Case:
    """A box that is right: rows first."""
    missing = np.zeros((13, 16), bool)
    top, left = int(desk.rng.integers(0, 8)), int(desk.rng.integers(0, 10))
    missing[top : top + 5, left : left + 3] = True
    command = desk.restore(_photo(desk), "--box", f"{top},{left},5,3", problem="inpaint")
    return Case(command, "right", ("--box",), mask_is(desk.out, missing))


def _empty_out(desk: Desk) -> Case:
    """No folder at all: refused, or the current one."""
    return _refused(desk, "--out", "--out", "", expect="either")


def _no_image(desk: Desk) -> Case:
    return Case(("restore", "--problem", "denoise"), "refused", ("image",), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"{row[0]}{row[2]}={value or 'empty'}": functools.partial(_value, row, value)
        for row in _TABLE
        for value in row[3]
    },
    **{
        f"{problem}--set-{name}={value or 'empty'}": functools.partial(
            _setting, problem, name, value, also
        )
        for problem, name, values, also in _SETTINGS
        for value in values
    },
    **{
        f"{problem}-size-{value or 'empty'}": functools.partial(_size, problem, value)
        for problem in ("tomography", "compressed-sensing")
        for value in ("0,0", "-1,4", "nan,4", "1e12,4", "text", "", "4", "1000000,1000000")
    },
    **{
        f"unused-{problem}{option}": functools.partial(_unused, problem, option)
        for problem in _NEEDED
        for option, (_, users) in _UNUSED.items()
        if problem not in users
        # decided elsewhere: a mask is what mri makes of no option, --boundary goes with a kernel
        and (problem, option) not in {("mri", "--mask"), ("inpaint", "--mask-value")}
    },
    **{f"used-{problem}": functools.partial(_used, problem) for problem in _NEEDED},
    **{name: functools.partial(_contradiction, name) for name in _CONTRADICTIONS},
    **{f"set-form-{text or 'empty'}": functools.partial(_set_form, text) for text in _FORMS},
    "box": _box,
    "empty-out": _empty_out,
    "no-image": _no_image,
}
"""Recipes by name."""
