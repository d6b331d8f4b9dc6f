"""Every solver on every exact problem: benchmarks/results/verification.md and .json.

python benchmarks/verification.py
python benchmarks/verification.py --regression    the small table that tests/solvers/test_table.py holds the code to
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from scoresde.files import write_json
from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, RANKED, VERIFIED, processors, table
from solvers.verification.regression import reference_row

REGRESSION = Path("tests/solvers/table.json")
HEAD = (
    "solver", "says", "SW2/floor", "mean", "cov", "modes", "cover 50 %", "90 %", "95 %", "var seen", "var unseen", "NFE", "products",
    "ms / draw", "kB / draw",
)  # fmt: skip


def line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def head(cells: list[str] | tuple[str, ...]) -> str:
    return f"{line(cells)}\n|{'---|' * len(cells)}"


def cells(row: dict[str, Any]) -> list[str]:
    """Of one verdict; what has diverged has its costs alone."""
    kinds = {
        "distance": ".2f", "mean": ".3f", "cov": ".2f", "modes": ".3f", "cover50": ".3f", "cover90": ".3f", "cover95": ".3f",
        "seen": ".2f", "unseen": ".2f",
    }  # fmt: skip
    near = row["distance"] <= 100
    found = (
        [f"{row[key]:{kind}}".replace("nan", "") for key, kind in kinds.items()]
        if near
        else ["> 100"] + [""] * 8
    )
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
    return f"**{name}**: {summary}. {scatter}\n\n{head(HEAD)}\n" + "\n".join(
        line(cells(row)) for row in ordered
    )


def ranks_page(rows: list[dict[str, Any]]) -> str:
    found = [row for row in rows if row.get("sbc")]
    if not found:
        return ""
    first = found[0]["sbc"]
    text = (
        "## Simulation-based calibration\n\n"
        f"{first['measurements']} measurements, {first['draws']} draws of each, ranks in {first['bins']} bins: p-values of their "
        "uniformity (`solvers/verification/sbc.py`). all: of the smallest, times their number. An exact solver has p below .01 one time "
        "in a hundred; draws of particle methods depend on one another, and fail by so much."
    )
    for problem in RANKED:
        lines = [
            line(
                [
                    row["solver"],
                    *(f"{p:.2g}" for p in (row["sbc"]["p_all"], *row["sbc"]["p"].values())),
                ]
            )
            for row in sorted(found, key=lambda row: -row["sbc"]["p_all"])
            if row["problem"] == problem
        ]
        text += f"\n\n**{problem}**\n\n{head(['solver', 'all', *first['p']])}\n" + "\n".join(lines)
    return text


def long_table(arguments: argparse.Namespace) -> None:
    """Rows of the solvers asked for, or those that are missing; others stay."""
    path = arguments.out / "verification.json"
    known = json.loads(path.read_text()) if path.exists() else []
    known = [
        row for row in known if (row["draws"], row["seeds"]) == (arguments.draws, arguments.seeds)
    ]  # others would be called by these
    for row in known:
        row.update({key: math.nan for key, value in row.items() if value is None and key != "sbc"})
    rows = {(row["solver"], row["problem"]): row for row in known}
    pairs = [
        (name, problem)
        for problem in EXACT_PROBLEMS | FULL_PROBLEMS
        for name in arguments.solver or VERIFIED
    ]
    pairs = [pair for pair in pairs if not (arguments.missing and pair in rows)]
    for row in table(
        pairs, draws=arguments.draws, seeds=arguments.seeds, jobs=arguments.jobs, full=True
    ):
        rows.pop((row["solver"], row["problem"]), None)
        if "refused" not in row:  # else the solver cannot do this problem, and says so
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
    """The page and its numbers, as far as they are known."""
    command = (
        f"python benchmarks/verification.py --draws {arguments.draws} --seeds {arguments.seeds}"
    )
    notes = (
        f"{arguments.draws} draws for each of {arguments.seeds} measurements, averaged; `solvers/verification/metrics.py` explains "
        "the columns. SW2/floor: 1 is as good as exact draws. says: what the solver declares to be. Times on one core, many small draws at "
        "once; kB / draw: rise of the resident set in a process of its own, the prior's arrays included.\n\n"
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
    grids = "## MCGDiff's benchmark\n\n25 unit Gaussians on a lattice (Cardoso et al. 2023), any number of dimensions and of measured numbers."
    pages = [notes, *near, *([grids] if far else []), *far, ranks_page(rows)]
    (arguments.out / "verification.md").write_text(
        "\n\n".join(page for page in pages if page) + "\n"
    )
    write_json(rows, arguments.out / "verification.json")


def regression(arguments: argparse.Namespace) -> None:
    """Rows of the solvers asked for; those of others stay."""
    torch.set_num_threads(1)
    names = arguments.solver or list(VERIFIED)
    kept = json.loads(REGRESSION.read_text()) if REGRESSION.exists() else []
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
        "--missing", action="store_true", help="only what benchmarks/results does not hold"
    )
    parser.add_argument("--jobs", type=int, default=processors())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--regression", action="store_true", help=f"write {REGRESSION} instead")
    arguments = parser.parse_args()
    (regression if arguments.regression else long_table)(arguments)


if __name__ == "__main__":
    main()
