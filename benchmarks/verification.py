"""Every solver on every exact problem.

    python benchmarks/verification.py
    python benchmarks/verification.py --regression

The first writes benchmarks/results/verification.md and .json. The second writes
tests/solvers/table.json, the small table that tests/solvers/test_table.py compares with.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from tables import RESULTS, read_json, table, write_json, write_page

from solvers import verification
from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, RANKED, VERIFIED, processors

ROOT = Path(__file__).resolve().parent.parent
REGRESSION = ROOT / "tests" / "solvers" / "table.json"
ERRORS = {
    "distance": ("SW2/floor", ".2f"),
    "mean": ("mean", ".3f"),
    "cov": ("cov", ".2f"),
    "modes": ("modes", ".3f"),
    "cover50": ("cover 50 %", ".3f"),
    "cover90": ("90 %", ".3f"),
    "cover95": ("95 %", ".3f"),
    "seen": ("var seen", ".2f"),
    "unseen": ("var unseen", ".2f"),
}
COSTS = ("NFE", "products", "ms / draw", "kB / draw")
HEAD = ("solver", "says", *(title for title, _ in ERRORS.values()), *COSTS)


def cells(row: dict[str, Any]) -> list[str]:
    """The cells of one verdict; a solver that has diverged has only its costs."""
    found = ["> 100"] + [""] * (len(ERRORS) - 1)
    if row["distance"] <= 100:
        found = [f"{row[key]:{form}}".replace("nan", "") for key, (_, form) in ERRORS.items()]
    cost = [
        f"{row['nfe']:.0f}",
        f"{row['vjps']:.0f}",
        f"{1e3 * row['seconds']:.1f}",
        f"{row['memory'] / 1024:.1f}",
    ]
    return [row["solver"], VERIFIED[row["solver"]].exactness, *found, *cost]


def problem_page(name: str, summary: str, rows: list[dict[str, Any]]) -> str:
    ordered = sorted(rows, key=lambda row: (row["distance"] != row["distance"], row["distance"]))
    scatter = f"An exact solver has 1 ± {rows[0]['floor_scatter']:.2f}." if rows else ""
    return "\n".join([f"**{name}**: {summary}. {scatter}", "", *table(HEAD, map(cells, ordered))])


def ranks_page(rows: list[dict[str, Any]]) -> str:
    found = [row for row in rows if row.get("sbc")]
    if not found:
        return ""
    first = found[0]["sbc"]
    text = (
        "## Simulation-based calibration\n\n"
        f"{first['measurements']} measurements, {first['draws']} draws of each, ranks in "
        f"{first['bins']} bins: p-values of their uniformity (`solvers/verification/sbc.py`). "
        "all: the smallest p-value, times their number. An exact solver has p below .01 one time "
        "in a hundred. Draws of particle methods depend on one another, and fail for that reason."
    )
    for problem in RANKED:
        rows_of = [
            [row["solver"], *(f"{p:.2g}" for p in (row["sbc"]["p_all"], *row["sbc"]["p"].values()))]
            for row in sorted(found, key=lambda row: -row["sbc"]["p_all"])
            if row["problem"] == problem
        ]
        lines = table(["solver", "all", *first["p"]], rows_of)
        text += f"\n\n**{problem}**\n\n" + "\n".join(lines)
    return text


def long_table(arguments: argparse.Namespace) -> None:
    """Compute the rows of the chosen solvers, or those that are missing; other rows stay."""
    # rows of other settings are dropped, because the page names one setting
    known = [
        row
        for row in read_json(arguments.out / "verification.json", [])
        if (row["draws"], row["seeds"]) == (arguments.draws, arguments.seeds)
    ]
    for row in known:
        row.update({key: math.nan for key, value in row.items() if value is None and key != "sbc"})
    rows = {(row["solver"], row["problem"]): row for row in known}
    pairs = [
        (name, problem)
        for problem in arguments.problem or EXACT_PROBLEMS | FULL_PROBLEMS
        for name in arguments.solver or VERIFIED
    ]
    pairs = [pair for pair in pairs if not (arguments.missing and pair in rows)]
    for row in verification.table(
        pairs, draws=arguments.draws, seeds=arguments.seeds, jobs=arguments.jobs, full=True
    ):
        rows.pop((row["solver"], row["problem"]), None)
        if "refused" not in row:  # otherwise the solver cannot do this problem
            rows[row["solver"], row["problem"]] = row | {
                "draws": arguments.draws,
                "seeds": arguments.seeds,
            }
            print(f"{row['problem']:15s} {row['solver']:16s} {row['distance']:.2f}", flush=True)
            ordered = [
                rows[pair]
                for problem in EXACT_PROBLEMS | FULL_PROBLEMS
                for name in VERIFIED
                if (pair := (name, problem)) in rows
            ]
            write(ordered, arguments)


def write(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the page and its numbers, as far as they are known."""
    command = (
        f"python benchmarks/verification.py --draws {arguments.draws} --seeds {arguments.seeds}"
    )
    notes = (
        f"{arguments.draws} draws for each of {arguments.seeds} measurements, averaged; "
        "`solvers/verification/metrics.py` explains the columns. SW2/floor: 1 is as good as exact "
        "draws. says: the exactness that the solver declares. Times on one core, with many small "
        "draws at once; kB / draw: growth of the resident memory in a separate process, including "
        "the prior's arrays.\n\n"
        f"`{command}`"
    )
    of: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        of.setdefault(row["problem"], []).append(row)
    near = [
        problem_page(name, summary, of[name])
        for name, (summary, _) in EXACT_PROBLEMS.items()
        if name in of
    ]
    far = [
        problem_page(name, summary, of[name])
        for name, (summary, _) in FULL_PROBLEMS.items()
        if name in of
    ]
    grids = (
        "## MCGDiff's benchmark\n\n25 unit Gaussians on a lattice (Cardoso et al. 2023), with any "
        "number of dimensions and of measurements."
    )
    pages = [notes, *near, *([grids] if far else []), *far, ranks_page(rows)]
    write_page(arguments.out / "verification.md", ["\n\n".join(page for page in pages if page)])
    write_json(rows, arguments.out / "verification.json")


def regression(arguments: argparse.Namespace) -> None:
    """Compute the rows of the chosen solvers for the test; those of others stay."""
    sys.path.insert(0, str(ROOT))  # for tests
    from tests.solvers.regression import reference_row

    torch.set_num_threads(1)
    names = arguments.solver or list(VERIFIED)
    kept = read_json(REGRESSION, [])
    rows = {
        (row["problem"], row["solver"]): row
        for row in kept
        if row["solver"] not in names and row["solver"] in VERIFIED
    }
    for problem in EXACT_PROBLEMS:
        for name in names:
            try:
                rows[problem, name] = reference_row(VERIFIED[name], name, problem)
            except ValueError:
                continue
            print(problem, name, rows[problem, name], flush=True)
    ordered = [
        rows[problem, name]
        for problem in EXACT_PROBLEMS
        for name in VERIFIED
        if (problem, name) in rows
    ]
    REGRESSION.write_text("[\n" + ",\n".join(json.dumps(row) for row in ordered) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--solver", action="append", choices=VERIFIED, help="repeat it; all by default"
    )
    parser.add_argument(
        "--problem",
        action="append",
        choices=EXACT_PROBLEMS | FULL_PROBLEMS,
        help="repeat it; all by default",
    )
    parser.add_argument("--missing", action="store_true", help="only rows that are not in --out")
    parser.add_argument("--jobs", type=int, default=processors())
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument(
        "--regression", action="store_true", help="write tests/solvers/table.json instead"
    )
    arguments = parser.parse_args()
    (regression if arguments.regression else long_table)(arguments)


if __name__ == "__main__":
    main()
