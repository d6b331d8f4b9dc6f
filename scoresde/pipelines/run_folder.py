"""The folder of a run holds the files of that run alone."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from problems.reading.zarr_arrays import is_zarr

__all__ = ["remove_former_run"]

_DRAW = re.compile(r"draw_\d+\.(png|tif)")


def remove_former_run(folder: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Remove the files that the report of an earlier run names.

    Other files stay. Without a report that lists files, nothing is removed.

    Args:
        folder: The folder.
        inputs: Files that the new run reads, which stay too: it may repeat the earlier one.
    """
    kept = {path.resolve() for path in inputs if path is not None}
    try:
        files = json.loads((folder / "report.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not isinstance(files, list) or "report.json" not in files:
        return
    draws = [path.name for path in folder.iterdir() if _DRAW.fullmatch(path.name)]
    for name in [*files, *draws]:
        own = isinstance(name, str) and Path(name).name == name
        if own and (folder / name).resolve() not in kept:
            if name.endswith(".zarr") and is_zarr(folder / name):
                shutil.rmtree(folder / name)
            elif not (folder / name).is_dir():
                (folder / name).unlink(missing_ok=True)
