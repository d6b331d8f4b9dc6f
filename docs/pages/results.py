"""Numbers of the kept tables in benchmarks/results; a table that is missing gives none."""

import ast
import json
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = [
    "RESULTS",
    "Restored",
    "exact_rows",
    "operator_rows",
    "ratio",
    "restored",
    "strongly_nonlinear",
]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


@cache
def read(name: str) -> Any:
    """Read a table, or return None if there is none."""
    path = RESULTS / f"{name}.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def exact_rows(solver: str) -> dict[str, dict[str, Any]]:
    """Rows of a solver on the problems whose posterior is known.

    Returns:
        The rows by problem; {} if the solver is not in the table.
    """
    rows = read("verification") or []
    return {row["problem"]: row for row in rows if row["solver"] == solver and row.get("distance")}


def ratio(value: float) -> str:
    """Write a distance as a multiple of that of exact draws."""
    if value >= 1e4:
        return "diverges"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


@dataclass(frozen=True)
class Restored:
    """Averages over the pictures of one problem.

    PSNR in dB, seconds for the draws of a picture, the share of pixels in raw 90 % intervals.
    """

    pictures: int
    mean: float
    draw: float | None
    seconds: float | None
    nfe: float
    vjps: float
    coverage: float | None = None


@cache
def titles() -> dict[str, str]:
    """Names of solvers by the titles that benchmarks/restoration.py gives them."""
    tree = ast.parse((ROOT / "benchmarks/restoration.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NAMES":
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}


def _named(title: str) -> str | None:
    """The solver of a title; an older title may be the beginning of one."""
    known = titles()
    longer = [name for full, name in known.items() if full.startswith(title)]
    return known.get(title) or (longer[0] if len(longer) == 1 else None)


def _median(seconds: list[float | None]) -> float | None:
    """The median of times; None if one is missing, as after a run on a busy machine."""
    known = [one for one in seconds if one is not None]
    return statistics.median(known) if len(known) == len(seconds) else None


@cache
def restored() -> dict[tuple[str, str], Restored]:
    """Restorations of photographs, by problem and named solver."""
    cells: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for key, cell in (read("restoration") or {}).items():
        problem, title, _ = key.split("/")
        name = _named(title)
        if name is not None and "mean" in cell:
            cells.setdefault((problem, name), []).append(cell)
    return {
        key: Restored(
            len(found),
            statistics.fmean(cell["mean"]["psnr"] for cell in found),
            statistics.fmean(cell["draw"]["psnr"] for cell in found)
            if all("draw" in cell for cell in found)
            else None,
            _median([cell["seconds"] for cell in found]),
            statistics.fmean(cell["nfe"] for cell in found),
            statistics.fmean(cell["vjps"] for cell in found),
            statistics.fmean(cell["coverage"] for cell in found)
            if all(cell.get("coverage") is not None for cell in found)
            else None,
        )
        for key, found in cells.items()
    }


def operator_rows() -> list[dict[str, Any]]:
    """Rows of the comparison of operators, with their times in milliseconds."""
    return (read("operators") or {}).get("rows", [])


def strongly_nonlinear(problem: str, solver: str) -> dict[str, float]:
    """Averages of a solver over the pictures of a problem that is far from linear.

    Returns:
        "draw", the PSNR in dB of one run after alignment, and "best", that of the run of each
        picture with the smallest residual; {} if the solver is not in the table.
    """
    row = (read("nonlinear") or {}).get(f"{problem}/{solver}")
    if row is None:
        return {}
    runs, residuals = row["aligned"], row["residuals"]
    best = [
        min(zip(left, of_runs, strict=True))[1]
        for left, of_runs in zip(zip(*residuals, strict=True), zip(*runs, strict=True), strict=True)
    ]
    return {
        "draw": statistics.fmean(value for run in runs for value in run),
        "best": statistics.fmean(best),
    }
