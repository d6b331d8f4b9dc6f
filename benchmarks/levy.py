r"""Named solvers on sums of independent increments against Gibbs chains.

Every solver has a row for every law and measurement: gap of the posterior mean to the least
mean-squared error, coverage of 90 % intervals, distance to exact draws over its floor, time, and
the share of draws that came with a warning. The denoiser is a small network, which costs a quarter
of an hour of one core; with --exact the exact one, too, which costs hours. --white is about the
increments themselves, not their sums, by the exact denoiser and with the settings of `scoresde
verify`. --wild makes many draws of a few solvers and counts those that no posterior would make.

    nice python benchmarks/levy.py
    nice python benchmarks/levy.py --wild 10000 --white
    python benchmarks/levy.py --law laplace --problem sampling --solver mmps --out /tmp/levy

Finished rows are kept in results/levy.json and not measured again, except with --again. The page
results/levy.md shows all rows of the same sizes, and docs/levy.md what they say. Rows of other
sizes go elsewhere, with --out, and so does that page.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from levy_page import learned_page
from tables import RESULTS, Cells, short_command, table, weights_id, write_page

from solvers.registry import SOLVERS, make_solver
from solvers.verification import VERIFIED
from solvers.verification.levy import (
    LAWS,
    LEARNED,
    MEASUREMENTS,
    LearnedSettings,
    WildDraws,
    learned_prior,
    learned_table,
    levy_problem,
    score,
    wild_draws,
)

HEAD = ("law", "problem", "solver", "gap dB", "cover 90", "SW2/floor", "NFE", "ms a draw", "warned")
WILD_HEAD = ("solver", "draws", "wild", "wild without warning", "calls with a warning", "farthest")
WILD_SOLVERS = ("warm-start", "mmps", "second-order")
QUICK = ("warm-start", "ddrm", "diffpir", "dps", "mmps", "second-order", "split-gibbs")
PARTICLES = ("predicted-twist", "tds", "mcgdiff")
WHITE = ("bernoulli-laplace",)
WHITE_MEASUREMENTS = 8  # spikes differ so much that the gaps of two say little
SIDES = {
    "learned": "Learned denoisers",
    "exact": "Exact denoisers",
    "white": "White signals, exact denoisers",
}
NOTES = {
    "white": f"{WHITE_MEASUREMENTS} measurements. Settings of `scoresde verify`. Most samples are "
    "zero and inside every interval that holds zero, so that exact draws cover more than 90 %.",
}


def shown(row: dict[str, Any]) -> list[str]:
    """A row of the table of scores."""
    names = [row["law"], row["problem"], row["solver"]]
    if "refused" in row:
        return [*names, "", "", "", "", "", "cannot: " + row["refused"].split(";")[0]]
    return [
        *names,
        f"{row['gap']:.2f}",
        f"{100 * row['coverage']:.1f}",
        f"{row['distance']:.2f}",
        f"{row['nfe']:.0f}",
        f"{1000 * row['seconds']:.1f}",
        f"{100 * row['warned']:.0f} %",
    ]


def key(side: str, law: str, problem: str, solver: str) -> str:
    """Name of a cell; a cell of a network names its weights."""
    which = side
    if side == "learned":
        which = f"learned {weights_id('levy/' + law)}"
    elif side == "white":
        which = f"white {WHITE_MEASUREMENTS}"
    return f"{solver}/{which}/{law}/{problem}"


def learned(given: argparse.Namespace, cells: Cells) -> None:
    """Fill the cells with learned denoisers."""
    for law in [law for law in given.law if law in LEARNED]:
        for problem in given.problem:
            names = [
                name for name in given.solver if key("learned", law, problem, name) not in cells
            ]
            for row in learned_table([law], [problem], names, given.settings):
                cells.put(key("learned", law, problem, row["solver"]), row)
                print(" | ".join(shown(row)), flush=True)


def exact(given: argparse.Namespace, cells: Cells, side: str) -> None:
    """Fill the cells with exact denoisers, as `learned_table` does with learned ones."""
    sizes: LearnedSettings = given.settings
    solvers = QUICK + (PARTICLES if side == "white" else ())
    for law in [law for law in given.law if side == "exact" or law in WHITE]:
        for problem in given.problem:
            names = [name for name in given.solver if name in solvers or given.some_solvers]
            names = [name for name in names if key(side, law, problem, name) not in cells]
            if not names:
                continue
            case = levy_problem(law, problem, decibels=sizes.decibels, summed=side != "white")
            generator = torch.Generator().manual_seed(sizes.seed)
            count = WHITE_MEASUREMENTS if side == "white" else sizes.measurements
            _, y = case.pairs(count, generator)
            thin = 5 if side == "white" else 1  # chains of single samples mix slowly
            truth = case.posterior(
                y, sizes.sweeps, generator, burn_in=thin * sizes.sweeps // 4, thin=thin
            )
            for name in names:
                row = {"law": law, "problem": problem, "solver": name}
                row["r_hat"] = float(truth.r_hat.max())
                try:
                    solver = VERIFIED[name] if side == "white" else make_solver(name)
                    row |= asdict(score(solver, case, y, truth, draws=sizes.draws))
                except ValueError as error:
                    row["refused"] = str(error)
                cells.put(key(side, law, problem, name), row)
                print(" | ".join(shown(row)), flush=True)


def wild(given: argparse.Namespace, cells: Cells) -> None:
    """Count wild draws from a random subset of Bernoulli-Laplace signals."""
    case, prior = levy_problem("bernoulli-laplace", "sampling"), learned_prior("bernoulli-laplace")
    for name in given.solver if given.some_solvers else WILD_SOLVERS:
        place = key("learned", "bernoulli-laplace", f"wild {given.wild}", name)
        if place not in cells:
            found = wild_draws(make_solver(name), case, prior, given.wild, seed=given.seed)
            cells.put(place, {"solver": name, "counts": asdict(found)})
        print(" | ".join(wild_shown(cells.get(place))), flush=True)


def wild_shown(row: dict[str, Any]) -> list[str]:
    """A row of the table of wild draws."""
    found = WildDraws(**row["counts"])
    return [
        row["solver"],
        str(found.draws),
        str(found.wild),
        str(found.silent),
        f"{100 * found.warned:.0f} %",
        f"{found.farthest:.2f}",
    ]


def kept(side: str, cells: Cells) -> list[dict[str, Any]]:
    """The rows of one side that are known, in the order of the names."""
    return [
        cells.get(place)
        for law in (LEARNED if side == "learned" else LAWS)
        for problem in MEASUREMENTS
        for solver in SOLVERS
        if (place := key(side, law, problem, solver)) in cells
    ]


def page(given: argparse.Namespace, cells: Cells, arguments: Sequence[str]) -> list[str]:
    """The lines of the page."""
    sizes: LearnedSettings = given.settings
    rows = {side: kept(side, cells) for side in SIDES}
    lines = [
        "# Sums of independent increments",
        "",
        f"Signals of length 64 with RMS .5, {sizes.decibels:g} dB, {sizes.measurements} "
        f"measurements, {sizes.draws} draws of each; truth by two Gibbs chains of {sizes.sweeps} "
        "draws each. Gap: mean-squared error of the posterior mean over the least one. Cover 90: "
        "share of exact draws inside the solver's 90 % intervals, in per cent. Warned: share of "
        "the draws that came with a warning.",
        "",
        f"`{short_command('levy.py', arguments)}`",
    ]
    for side, found in rows.items():
        if found:
            worst = max(row["r_hat"] for row in found)
            note = f"R-hat of the chains at most {worst:.3f}. {NOTES.get(side, '')}".rstrip()
            lines += ["", f"## {SIDES[side]}", "", note, ""]
            lines += table(HEAD, map(shown, found))
    counted = [row for row in cells.values.values() if "counts" in row]
    if counted:
        lines += [
            "",
            "## Wild draws",
            "",
            "Draws from a random 40 % of Bernoulli-Laplace signals by the learned denoiser, in "
            "calls of 50 draws for one of 20 measurements. Wild: more than twice as far from the "
            "exact mean as the farthest of 2000 exact draws. Farthest: in units of that distance.",
            "",
            *table(WILD_HEAD, map(wild_shown, counted)),
        ]
    return lines


def main(arguments: Sequence[str]) -> None:
    """Read the options, run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--law", action="append", choices=LAWS)
    parser.add_argument("--problem", action="append", choices=MEASUREMENTS)
    parser.add_argument("--solver", action="append", choices=SOLVERS)
    parser.add_argument("--again", action="append", choices=SOLVERS, default=[])
    parser.add_argument("--exact", action="store_true", help="exact denoisers, too")
    parser.add_argument("--white", action="store_true", help="white signals, too")
    parser.add_argument("--wild", type=int, default=0, help="draws of each solver, else no table")
    parser.add_argument("--measurements", type=int, default=2)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--decibels", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of levy.md and levy.json")
    given = parser.parse_args(arguments)
    given.settings = LearnedSettings(
        given.measurements, given.draws, given.sweeps, given.decibels, given.seed
    )
    given.some_solvers = bool(given.solver)
    given.law, given.problem = given.law or list(LAWS), given.problem or list(MEASUREMENTS)
    given.solver = given.solver or list(SOLVERS)
    torch.set_num_threads(1)
    cells = Cells(given.out / "levy.json")
    sizes = asdict(given.settings)
    if cells.get("sizes") not in (None, sizes):
        raise SystemExit(f"{cells.path} has rows of other sizes; choose another folder with --out")
    given.out.mkdir(parents=True, exist_ok=True)
    cells.put("sizes", sizes)
    for name in given.again:
        cells.drop(f"{name}/")
    if given.wild:
        wild(given, cells)
    else:
        learned(given, cells)
    for side in ("exact", "white"):
        if getattr(given, side):
            exact(given, cells, side)
    write_page(given.out / "levy.md", page(given, cells, arguments))
    if found := kept("learned", cells):
        place = (
            given.out / "page.md" if given.out != RESULTS else RESULTS.parents[1] / "docs/levy.md"
        )
        command = short_command("levy.py", arguments)
        write_page(place, learned_page(found, given.settings, command))


if __name__ == "__main__":
    main(sys.argv[1:])
