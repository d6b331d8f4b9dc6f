"""Files of priors that are damaged, foreign, or that claim what cannot be built."""

import copy
import functools
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.odd_inputs.case import Case, Desk, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.damage import damaged, flipped
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _parts(desk: Desk) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and header of the small prior."""
    with safe_open(desk.colour, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["scoresde"])


def _write(desk: Desk, tensors: dict[str, torch.Tensor], header: Any) -> Path:
    path = desk.folder / "prior.safetensors"
    save_file(tensors, path, metadata={"scoresde": json.dumps(header)})
    return path


def _commands(desk: Desk, prior: Path) -> dict[str, tuple[str, ...]]:
    """The commands that read a prior."""
    photo = desk.folder / "photo.png"
    photo.write_bytes(png(levels(desk, 14, 16, 3), 8, 2))
    cpu = ("--device", "cpu", "--prior", str(prior))
    pictures = desk.folder / "pictures.npy"
    np.save(pictures, levels(desk, 4, 8, 8, 3).astype(np.uint8))
    steps = ("--steps", "1", "--batch", "1", "--crop", "8", "--device", "cpu", "--no-compile")
    sizes = ("--widths", "8", "--blocks", "1", "--attention", "none", "--precision", "no")
    return {
        "restore": (*desk.restore(photo)[:-2], "--prior", str(prior)),
        "sample": ("sample", "--n", "2", "--steps", "2", "--out", str(desk.out / "s.png"), *cpu),
        "likelihood": ("likelihood", str(photo), "--nodes", "8", "--probes", "1", *cpu),
        "train": (
            *("train", str(pictures), "--out", str(desk.out), *steps, *sizes),
            *("--init", str(prior)),
        ),
    }


def _case(desk: Desk, prior: Path, expect: Any = "refused") -> Case:
    command = _commands(desk, prior)[desk.pick("restore", "sample", "likelihood", "train")]
    names = (prior.name, "--prior", "--init", "the prior to start from")
    return Case(command, expect, names, outputs=(desk.out,))


def _file(kind: str, desk: Desk) -> Case:
    """Content that is no checkpoint."""
    path = desk.folder / ("prior" if kind == "no-suffix" else "prior.safetensors")
    content = desk.colour.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("weights.txt", "none")
    elif kind == "torch":
        torch.save({"weight": torch.zeros(3)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": [1, 2, 3]}))
    elif kind == "array":
        with path.open("wb") as array:
            np.save(array, np.zeros(3))
    elif kind == "trailing":
        path.write_bytes(content + b"more")
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "header-length":
        path.write_bytes((2**60).to_bytes(8, "little") + content[8:])
    elif kind == "header-deep":
        head = b"[" * 50_000
        path.write_bytes(len(head).to_bytes(8, "little") + head)
    elif kind not in ("missing", "no-suffix"):
        path.write_bytes(damaged(desk, content, kind))
    return _case(desk, path)


def _flipped(desk: Desk) -> Case:
    """Bits of weights may be anything that is finite."""
    path = desk.folder / "prior.safetensors"
    path.write_bytes(flipped(desk, desk.colour.read_bytes()))
    return _case(desk, path, "clean")


def _foreign(kind: str, desk: Desk) -> Case:
    path = desk.folder / "prior.safetensors"
    tensors = {"model.weight": torch.zeros(4, 4)}
    metadata = {
        "none": None,
        "others": {"format": "pt"},
        "not-json": {"scoresde": "{"},
        "list": {"scoresde": "[]"},
        "deep": {"scoresde": "[" * 50_000},
        "other-format": {"scoresde": '{"format": "scoresde.model/1"}'},
        "next-format": {"scoresde": '{"format": "scoresde.prior/99"}'},
        "format-only": {"scoresde": '{"format": "scoresde.prior/1"}'},
    }[kind]
    save_file(tensors, path, metadata=metadata)
    return _case(desk, path)


_WEIGHTS = ("nan", "inf", "minus-inf", "renamed", "missing", "extra", "shape", "integer", "none")


def _weights(kind: str, desk: Desk) -> Case:
    tensors, header = _parts(desk)
    floats = [name for name, value in tensors.items() if value.is_floating_point()]
    name = desk.pick(*sorted(floats))
    value = tensors[name].clone()
    if kind in ("nan", "inf", "minus-inf"):
        index = int(desk.rng.integers(value.numel()))
        value.view(-1)[index] = float(kind.replace("minus-", "-"))
        tensors[name] = value
    elif kind == "renamed":
        tensors[f"{name}x"] = tensors.pop(name)
    elif kind == "missing":
        del tensors[name]
    elif kind == "extra":
        tensors["extra"] = torch.zeros(3)
    elif kind == "shape":
        tensors[name] = torch.zeros((*value.shape, 2))
    elif kind == "integer":
        tensors[name] = torch.zeros(1, dtype=torch.int64)
    else:
        tensors = {}
    return _case(desk, _write(desk, tensors, header))


_HEADERS: dict[str, tuple[tuple[str, ...], Any]] = {
    # field, value; a field of None is removed
    "no-network": (("network",), None),
    "no-sde": (("sde",), None),
    "no-shape": (("shape",), None),
    "no-sigma-data": (("sigma_data",), None),
    "no-kind": (("network", "kind"), None),
    "network-text": (("network",), "UNet"),
    "kind-unknown": (("network", "kind"), "Magic"),
    "kind-list": (("network", "kind"), []),
    "unknown-field": (("network", "magic"), 1),
    "widths-huge": (("network", "widths"), [10**7, 10**7]),
    "widths-many": (("network", "widths"), [8] * 100_000),
    "widths-text": (("network", "widths"), "8"),
    "widths-floats": (("network", "widths"), [8.5]),
    "widths-empty": (("network", "widths"), []),
    "widths-zero": (("network", "widths"), [0]),
    "blocks-huge": (("network", "blocks"), 10**9),
    "channels-other": (("network", "channels"), 5),
    "channels-huge": (("network", "channels"), 10**9),
    "patch-zero": (("network", "patch"), 0),
    "embedding-huge": (("network", "embedding"), 10**12),
    "attention-far": (("network", "attention"), [7]),
    "sde-unknown": (("sde", "sde"), "Magic"),
    "sde-text": (("sde",), "EDMSDE"),
    "sde-list": (("sde",), []),
    "shape-text": (("shape",), "3,16,16"),
    "shape-empty": (("shape",), []),
    "shape-negative": (("shape",), [3, -16, 16]),
    "shape-floats": (("shape",), [3, 16.5, 16]),
    "shape-other": (("shape",), [1, 16, 16]),
    "shape-huge": (("shape",), [3, 10**9, 10**9]),
    "sigma-data-zero": (("sigma_data",), 0),
    "sigma-data-negative": (("sigma_data",), -0.5),
    "sigma-data-nan": (("sigma_data",), float("nan")),
    "sigma-data-text": (("sigma_data",), "0.5"),
    "sigma-data-list": (("sigma_data",), [0.5]),
    "fourier-number": (("fourier",), 4),
    "fourier-text": (("fourier",), "45"),
    "fourier-texts": (("fourier",), ["4"]),
    "fourier-more": (("fourier",), [4, 5]),
    "fourier-null": (("fourier",), None),
}


def _header(kind: str, desk: Desk) -> Case:
    tensors, header = _parts(desk)
    path, value = _HEADERS[kind]
    place = header
    for name in path[:-1]:
        place = place[name]
    if value is None and kind.startswith("no-"):
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return _case(
        desk, _write(desk, tensors, header), "clean" if kind == "shape-huge" else "refused"
    )


def _sde_value(desk: Desk) -> Case:
    """A setting of the SDE that is no number on its axis."""
    tensors, header = _parts(desk)
    names = [name for name, value in header["sde"].items() if isinstance(value, int | float)]
    bad: tuple[Any, ...] = (float("nan"), float("inf"), -1, "x", None, [], 1e400)
    header["sde"][desk.pick(*names)] = bad[int(desk.rng.integers(len(bad)))]
    return _case(desk, _write(desk, tensors, header))


def _changed(desk: Desk) -> Case:
    """Random fields with random values: refused or run, but no traceback."""
    tensors, header = _parts(desk)
    header = copy.deepcopy(header)
    values: tuple[Any, ...] = (
        None,
        -1,
        0,
        2,
        1e308,
        float("nan"),
        "x",
        [],
        {},
        True,
        [1, 2],
        10**9,
        "UNet",
    )
    for _ in range(int(desk.rng.integers(1, 3))):
        places = [(header, name) for name in header if name != "format"]
        places += [
            (header[one], name) for one in ("network", "sde") for name in _names(header, one)
        ]
        place, name = places[int(desk.rng.integers(len(places)))]
        place[name] = values[int(desk.rng.integers(len(values)))]
    return _case(desk, _write(desk, tensors, header), "clean")


def _names(header: dict[str, Any], one: str) -> list[str]:
    return list(header[one]) if isinstance(header[one], dict) else []


def _half(desk: Desk) -> Case:
    """Weights stored in half precision are a prior like any other."""
    tensors, header = _parts(desk)
    dtype = {"half": torch.float16, "brain": torch.bfloat16, "double": torch.float64}
    kind = dtype[desk.pick(*dtype)]
    path = _write(desk, {k: v.to(kind) for k, v in tensors.items()}, header)
    values = levels(desk, 14, 16, 3)
    photo = desk.folder / "photo.png"
    photo.write_bytes(png(values, 8, 2))
    command = (*desk.restore(photo), "--prior", str(path))
    return Case(command, "right", (path.name,), picture_is(desk.out, values))


def _huge(desk: Desk) -> Case:
    """A header that claims a tensor larger than the file."""
    content = json.dumps(
        {"head.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    ).encode()
    path = desk.folder / "prior.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(64))
    return _case(desk, path)


def _good(command: str, desk: Desk) -> Case:
    """The commands of this module run with the prior as it is: they are refused for its damage."""
    return Case(_commands(desk, desk.colour)[command], "right")


RECIPES: dict[str, Recipe] = {
    **{
        f"good-{command}": functools.partial(_good, command)
        for command in ("restore", "sample", "likelihood", "train")
    },
    **{
        f"file-{kind}": functools.partial(_file, kind)
        for kind in (
            *("empty", "cut", "garbage", "zeros", "text", "page", "folder", "zip", "torch"),
            *("pickle", "array", "trailing", "half", "header-length", "header-deep", "missing"),
            "no-suffix",
        )
    },
    "flipped": _flipped,
    **{
        f"foreign-{kind}": functools.partial(_foreign, kind)
        for kind in (
            *("none", "others", "not-json", "list", "deep", "other-format", "next-format"),
            "format-only",
        )
    },
    **{f"weights-{kind}": functools.partial(_weights, kind) for kind in _WEIGHTS},
    **{f"header-{kind}": functools.partial(_header, kind) for kind in _HEADERS},
    "header-sde-value": _sde_value,
    "changed": _changed,
    "half-precision": _half,
    "huge-tensor": _huge,
}
"""Recipes by name."""
