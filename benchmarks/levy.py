r"""Named solvers on sums of independent increments, with the exact denoiser, against Gibbs chains.

Prints a table of every solver on every law and measurement: gap of the posterior mean to the least
mean-squared error, coverage of 90 % intervals, distance to exact draws over its floor, time and
warnings. The page ``benchmarks/results/levy.md`` is written if all rows are done, which takes an
hour or two of one core; rows that are chosen by name are only printed.

    python benchmarks/levy.py --measurements 2 --draws 40
    python benchmarks/levy.py --law laplace --problem sampling --solver mmps --solver second-order
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from tables import RESULTS, short_command, table, write_page

from solvers.posterior import PosteriorSampler
from solvers.registry import SOLVERS, make_solver
from solvers.verification.levy import LAWS, MEASUREMENTS, levy_problem
from solvers.verification.levy.scores import LevyScore, score

HEAD = ("law", "problem", "solver", "gap dB", "cover 90", "SW2/floor", "NFE", "ms a draw", "told")
QUICK = ("ddrm", "diffpir", "dps", "mmps", "second-order", "split-gibbs")


def cells(found: LevyScore) -> list[str]:
    """The numbers of a row, as shown."""
    return [
        f"{found.gap:.2f}",
        f"{100 * found.coverage:.1f}",
        f"{found.distance:.2f}",
        f"{found.nfe:.0f}",
        f"{1000 * found.seconds:.1f}",
        "; ".join(found.warnings) or "nothing",
    ]


def rows(given: argparse.Namespace) -> list[list[str]]:
    """Run everything; each row is printed when it is known."""
    done = []
    solvers: dict[str, PosteriorSampler] = {name: make_solver(name) for name in given.solver}
    for law in given.law:
        for problem in given.problem:
            case = levy_problem(law, problem, decibels=given.decibels)
            generator = torch.Generator().manual_seed(given.seed)
            _, y = case.pairs(given.measurements, generator)
            exact = case.posterior(y, given.sweeps, generator, burn_in=given.sweeps // 4)
            print(f"{law}, {problem}: R-hat at most {float(exact.r_hat.max()):.3f}", flush=True)
            for name, solver in solvers.items():
                try:
                    found = cells(score(solver, case, y, exact, draws=given.draws))
                except ValueError as error:
                    found = ["", "", "", "", "", str(error)]
                done.append([law, problem, name, *found])
                print(" | ".join(done[-1]), flush=True)
    return done


def main(arguments: Sequence[str]) -> None:
    """Read the options, run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", action="append", choices=LAWS)
    parser.add_argument("--problem", action="append", choices=MEASUREMENTS)
    parser.add_argument("--solver", action="append", choices=SOLVERS)
    parser.add_argument("--measurements", type=int, default=2)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--sweeps", type=int, default=2000)
    parser.add_argument("--decibels", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    part = given.law or given.problem or given.solver
    given.law, given.problem = given.law or list(LAWS), given.problem or list(MEASUREMENTS)
    given.solver = given.solver or list(QUICK)
    done = rows(given)
    if part:
        print("\n".join(table(HEAD, done)))
        return
    lines = [
        "# Sums of independent increments",
        "",
        f"Signals of length 64 with RMS .5, {given.decibels:g} dB, {given.measurements} "
        f"measurements, {given.draws} draws of each; the exact denoiser; truth by Gibbs sampling.",
        "",
        f"`{short_command('levy.py', arguments)}`",
        "",
        *table(HEAD, done),
    ]
    write_page(RESULTS / "levy.md", lines)


if __name__ == "__main__":
    main(sys.argv[1:])
