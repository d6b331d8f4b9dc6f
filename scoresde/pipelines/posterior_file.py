"""posterior.npz: the numbers of a restoration, of which its pictures are views."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from scoresde.errors import InputError
from scoresde.files import json_safe, write_atomically
from solvers import Posterior

__all__ = ["FORMAT", "POSTERIOR", "read_posterior", "write_posterior"]

FORMAT = "scoresde.posterior/1"
"""Name and version of the format."""

POSTERIOR = "posterior.npz"
"""Name of the file in the folder of a run."""

_AXES = ["channel", "row", "column"]


def write_posterior(
    path: Path,
    posterior: Posterior,
    ends: tuple[Tensor, Tensor] | None,
    header: dict[str, Any],
    *,
    draws: bool = True,
    slices: tuple[Sequence[str], Sequence[int]] | None = None,
) -> None:
    """Write mean, standard deviation, interval and draws of one measurement or stack, float32.

    Args:
        path: Path of the file.
        posterior: Draws (n, N, C, H, W) on [-1, 1]; N is 1 except of a stack.
        ends: Lower and upper ends (N, C, H, W) of the interval of every value; None for one draw.
        header: What else is known, in plain values.
        draws: Whether the draws are written too.
        slices: Names and lengths of the axes of the slices, of product N; None without a stack.

    Raises:
        InputError: If the file cannot be written.
    """
    arrays = {"mean": posterior.mean}
    if len(posterior.draws) > 1:
        arrays["std"] = posterior.std
    if ends is not None:
        arrays |= {"lower": ends[0], "upper": ends[1]}
    if draws:
        arrays["draws"] = posterior.draws
    names, lengths = ([], []) if slices is None else slices
    arrays = {
        name: one.reshape(*one.shape[: one.ndim - 4], *lengths, *one.shape[-3:])
        for name, one in arrays.items()
    }
    axes = {name: ["draw"] * (name == "draws") + [*names, *_AXES] for name in arrays}
    whole = {"format": FORMAT, "units": "-1 is black, 1 is white", "axes": axes, **header}
    text = json.dumps(json_safe(whole), ensure_ascii=True)
    numbers: dict[str, Any] = {
        name: one.detach().cpu().float().numpy() for name, one in arrays.items()
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would append a suffix to the name
            np.savez(file, header=np.array(text), **numbers)

    write_atomically(path, write)


def read_posterior(
    path: str | Path, values: Literal["picture", "file"] = "picture"
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a posterior.npz.

    Args:
        path: Path of the file.
        values: "picture" for the numbers as they are stored, on [-1, 1]; "file" for the values of
            the restored file, in the unit `file_units` of the header if it is known.

    Returns:
        The arrays, float32 on [-1, 1]: "mean" (C, H, W), and where the file has them "std",
        "lower", "upper" (C, H, W) and "draws" (n, C, H, W); and the header. Of a stack the axes of
        the slices come before C; the header names all axes. A value v is
        ``black + (v + 1) / 2 * (white - black)`` in the units of the restored file, with `black`
        and `white` of the header.

    Raises:
        InputError: If the file is missing, damaged, or no posterior of a version that is known.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in file.files if name != "header"}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no posterior.npz of a restoration ({reason})") from None
    found = header.get("format") if isinstance(header, dict) else None
    if found != FORMAT:
        raise InputError(f"{path} has the format {found!r}, this version reads {FORMAT!r}")
    if values == "file":
        low, half = header["black"], (header["white"] - header["black"]) / 2
        arrays = {
            name: (half * one if name == "std" else low + (one.astype(np.float64) + 1) * half)
            for name, one in arrays.items()
        }
        arrays = {name: one.astype(np.float32) for name, one in arrays.items()}
    return arrays, header
