"""Every solver on every exact problem: benchmarks/results/verification.md and .json.

python benchmarks/verification.py
"""

import argparse
import time
from pathlib import Path

import torch

from scoresde.report import write_json
from solvers.verification import EXACT_PROBLEMS, VERIFIED, verdict_row, verify

HEAD = (
    "| solver | says | SW2/floor | mean | cov | modes | cover 90 % | var seen | var unseen | NFE | products | ms / draw |\n|" + "---|" * 12
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, pages = [], []
    for problem, (summary, _) in EXACT_PROBLEMS.items():
        lines = []
        for name, solver in VERIFIED.items():
            start = time.perf_counter()
            try:
                row = verdict_row(verify(solver, problem, draws=arguments.draws, seeds=arguments.seeds))
            except ValueError:
                continue  # the solver cannot do this problem, and says so
            rows.append({"problem": problem, "solver": name} | row)
            large = row["distance"] > 100
            cells = ["> 100", "", "", "", "", "", ""] if large else [
                f"{row['distance']:.2f}", f"{row['mean']:.3f}", f"{row['cov']:.2f}", f"{row['modes']:.3f}", f"{row['cover90']:.3f}",
                f"{row['seen']:.2f}", f"{row['unseen']:.2f}".replace("nan", ""),
            ]  # fmt: skip
            cost = [f"{row['nfe']:.0f}", f"{row['vjps']:.0f}", f"{1e3 * row['seconds']:.1f}"]
            lines.append((row["distance"], f"| {name} | {solver.exactness} | {' | '.join([*cells, *cost])} |"))
            print(f"{problem:15s} {name:16s} {row['distance']:.2f}  {time.perf_counter() - start:.0f} s", flush=True)
        pages.append(f"**{problem}**: {summary}\n\n{HEAD}\n" + "\n".join(line for _, line in sorted(lines)))
    command = f"python benchmarks/verification.py --draws {arguments.draws} --seeds {arguments.seeds}"
    notes = (
        f"{arguments.draws} draws for each of {arguments.seeds} measurements, averaged; `solvers/verification.py` explains the columns. "
        "SW2/floor: 1 is as good as exact draws. says: what the solver declares to be. Times on one core, many small draws at once.\n\n"
        f"`{command}`\n\n"
    )
    (arguments.out / "verification.md").write_text(notes + "\n\n".join(pages) + "\n")
    write_json(rows, arguments.out / "verification.json")


if __name__ == "__main__":
    main()
