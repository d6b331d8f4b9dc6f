"""The folder of a run holds the files of that run alone."""

import json
import re
from pathlib import Path

__all__ = ["remove_former_run"]

_DRAW = re.compile(r"draw_\d+\.png")


def remove_former_run(folder: Path) -> None:
    """Remove the files that the report of an earlier run names.

    Other files stay. Without a report that lists files, nothing is removed.

    Args:
        folder: The folder.
    """
    try:
        files = json.loads((folder / "report.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if not isinstance(files, list) or "report.json" not in files:
        return
    draws = [path.name for path in folder.iterdir() if _DRAW.fullmatch(path.name)]
    for name in [*files, *draws]:
        if isinstance(name, str) and Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
