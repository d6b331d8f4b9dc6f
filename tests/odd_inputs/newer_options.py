"""Options of stacks and files of instruments, of audit, check-prior and export, and of workers."""

import functools
import json
import zipfile
from pathlib import Path
from typing import Any

from tests.odd_inputs.case import Case, Command, Desk, Expectation, Recipe
from tests.odd_inputs.command_lines import (
    VERIFY_LINE,
    calibrate_line,
    folder_of_photos,
    likelihood_line,
    photo_for_commands,
)
from tests.odd_inputs.damage import damaged
from tests.odd_inputs.instrument_files import WRITERS, counts
from tests.odd_inputs.options import NUMBERS

__all__ = ["RECIPES"]

_STACK: dict[str, tuple[str, ...]] = {
    "--select": (
        *("", "z", "z=", "z=4", "z=-5", "z=1:1", "z=3:1", "z=0:9", "z=x", "=1", "q=1", "9=0"),
        *("z=1.5", "z=1:2:3", "z=nan", "z==1", "z=99999999999999999999", "z 1", "-1=0", "z=1,2"),
    ),
    "--array": ("x", "", "/", "0", "..", "\x1b"),
    "--range": ("x", "1", "1,1", "5,1", "nan,1", "0,inf", "", "0%,0%", "-1%,50%", "0%,101%", "1%"),
    "--sigma-units": ("x", "", "counts"),
    "--sigma": ("auto5", "Auto", "auto,1", "0x1", "1e400", "--"),
}


def _stack(suffix: str, option: str, value: str, desk: Desk) -> Case:
    path = WRITERS[suffix](desk.folder / f"scan.{suffix}", counts(desk, 4, *desk.size()))
    command = desk.restore(path, "--range=0,4000", f"{option}={value}")
    expect: Expectation = "clean" if option == "--array" and value in ("", "0") else "refused"
    names = (option, path.name, "percent", "unit of sigma")
    return Case(command, expect, names, outputs=(desk.out,))


def _twice(desk: Desk) -> Case:
    """One axis selected twice, by name and by number."""
    path = WRITERS["fits"](desk.folder / "scan.fits", counts(desk, 4, *desk.size()))
    more = ("--range=0,4000", "--select", "z=1", "--select", "0=1:2")
    return Case(desk.restore(path, *more), "refused", ("--select",), outputs=(desk.out,))


def _audit_line(desk: Desk) -> Command:
    return (
        *("audit", "--problem", "denoise", "--sigma", "0.5", "--solver", "diffpir"),
        *("--steps", "2", "--runs", "20", "--draws", "3", "--prior", str(desk.grey)),
        *("--device", "cpu", "--out", str(desk.out / "audit.json")),
    )


_COMMANDS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "audit": (
        ("--runs", (*NUMBERS, "19", "2.5")),
        ("--draws", (*NUMBERS, "2", "2.5")),
        ("--solver", ("x", "", "hqs")),
        ("--problem", ("x", "", "nothing.json", "photo.png")),
        ("--sigma", ("nan", "inf", "-1", "0", "x", "", "auto")),
        ("--seed", ("-1", "nan", "x", str(2**63))),
        ("--prior", ("x", "", "nothing.safetensors", "photo.png")),
        ("--tile", ("0", "-1", "x")),
        ("--workers", ("0", "-1", "x", "")),
        ("--report", ("photo.png", "x.txt", "photo.png/x.html")),
    ),
    "check-prior": (
        ("--images", ("nothing", "photo.png", "")),
        ("--seed", ("-1", "nan", "x", str(2**63))),
        ("--device", ("x", "", "cuda:99")),
        ("--precision", ("x", "")),
        ("--average", ("x", "")),
        ("--out", ("photo.png/x.json",)),
    ),
    "export": (
        ("--to", ("x", "", "onnx,torch-export", "ONNX")),
        ("--average", ("x", "")),
    ),
    "calibrate": (("--workers", ("0", "-1", "x", "")), ("--scheduler", ("tcp:/no", "x"))),
    "likelihood": (("--workers", ("0", "-1", "x", "")), ("--scheduler", ("tcp:/no", "x"))),
    "verify": (("--workers", ("0", "-1", "x", "2")), ("--scheduler", ("tcp:/no",))),
    "restore": (("--workers", ("0", "-1", "x", "2")), ("--scheduler", ("tcp:/no",))),
}


def _option(command: str, option: str, value: str, desk: Desk) -> Case:
    photo = photo_for_commands(desk)
    line = {
        "audit": lambda: _audit_line(desk),
        "check-prior": lambda: ("check-prior", str(desk.grey), "--device", "cpu"),
        "export": lambda: ("export", str(desk.grey), str(desk.out), "--to", "torch-export"),
        "calibrate": lambda: calibrate_line(desk, folder_of_photos(desk)),
        "likelihood": lambda: likelihood_line(desk, photo),
        "verify": lambda: VERIFY_LINE,
        "restore": lambda: desk.restore(photo),
    }[command]()
    plain = option.strip("-")
    names = (
        option,
        plain,
        value or option,
        "scheduler",
        "--workers",
        Path(value).parts[0] if value else plain,
    )
    return Case((*line, f"{option}={value}"), "refused", names, outputs=(desk.out,))


_ADAPTED = ("diffusers", "torch-export", "onnx")


def _adapted(prefix: str, kind: str, desk: Desk) -> Case:
    """Priors of other projects that are none."""
    path = desk.folder / {"torch-export": "net.pt2", "onnx": "net.onnx"}.get(prefix, "net")
    whole = desk.colour.read_bytes()
    if kind == "folder" or (prefix == "diffusers" and kind != "missing"):
        path.mkdir()
        name = "model_index.json"
        content: dict[str, Any] = {
            "folder": {},
            "class": {"_class_name": "Evil", "unet": ["os", "system"], "scheduler": [1]},
            "deep": {},
        }
        if kind in content:
            text = "[" * 50_000 if kind == "deep" else json.dumps(content[kind])
            (path / name).write_text(text)
        else:
            (path / name).write_bytes(damaged(desk, json.dumps({"a": 1}).encode(), kind))
    elif kind == "class":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("net/extra/scoresde.json", '{"format": "scoresde.exported/1"}')
    elif kind == "deep":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("net/extra/scoresde.json", "[" * 50_000)
    elif kind != "missing":
        path.write_bytes(damaged(desk, whole, kind))
    command = ("check-prior", f"{prefix}:{path}", "--device", "cpu")
    names = (path.name, prefix)
    return Case(command, "refused", names, outputs=(desk.out,))


def _pickled(desk: Desk) -> Case:
    """An exported program with a pickle in it, which would create a file."""
    import pickle

    from tests.odd_inputs.instrument_heads import Payload

    path = desk.folder / "net.pt2"
    place = desk.pick("data/weights/w.pt", "data/constants/c.pt", "data/sample_inputs/s.pt")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/extra/scoresde.json", '{"format": "scoresde.exported/1"}')
        file.writestr(f"net/{place}", pickle.dumps(Payload(desk.folder)))
    command = ("check-prior", f"torch-export:{path}", "--device", "cpu")
    return Case(command, "refused", (path.name,), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"{suffix}{option}={value or 'empty'}": functools.partial(_stack, suffix, option, value)
        for suffix in ("fits", "h5")
        for option, values in _STACK.items()
        for value in values
    },
    "one-axis-twice": _twice,
    **{
        f"{command}{option}={value or 'empty'}": functools.partial(_option, command, option, value)
        for command, table in _COMMANDS.items()
        for option, values in table
        for value in values
    },
    **{
        f"{prefix}-{kind}": functools.partial(_adapted, prefix, kind)
        for prefix in _ADAPTED
        for kind in (
            *("missing", "folder", "empty", "cut", "garbage", "zeros", "text", "page", "class"),
            "deep",
        )
    },
    "torch-export-pickle": _pickled,
}
"""Recipes by name."""
