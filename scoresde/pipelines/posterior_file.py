"""posterior.npz: the numbers of a restoration, of which its pictures are views."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

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
) -> None:
    """Write mean, standard deviation, interval and draws of one measurement, float32.

    Args:
        path: Path of the file.
        posterior: Draws (n, 1, C, H, W) on [-1, 1].
        ends: Lower and upper ends (1, C, H, W) of the interval of every value; None for one draw.
        header: What else is known, in plain values.
        draws: Whether the draws are written too.

    Raises:
        InputError: If the file cannot be written.
    """
    arrays = {"mean": posterior.mean[0]}
    if len(posterior.draws) > 1:
        arrays["std"] = posterior.std[0]
    if ends is not None:
        arrays |= {"lower": ends[0][0], "upper": ends[1][0]}
    if draws:
        arrays["draws"] = posterior.draws[:, 0]
    axes = {name: (["draw"] if name == "draws" else []) + _AXES for name in arrays}
    whole = {"format": FORMAT, "units": "-1 is black, 1 is white", "axes": axes, **header}
    text = json.dumps(json_safe(whole), ensure_ascii=True)
    numbers: dict[str, Any] = {
        name: one.detach().cpu().float().numpy() for name, one in arrays.items()
    }

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # np.savez would append a suffix to the name
            np.savez(file, header=np.array(text), **numbers)

    write_atomically(path, write)


def read_posterior(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a posterior.npz.

    Args:
        path: Path of the file.

    Returns:
        The arrays, float32 on [-1, 1]: "mean" (C, H, W), and where the file has them "std",
        "lower", "upper" (C, H, W) and "draws" (n, C, H, W); and the header. A value v is
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
    return arrays, header
