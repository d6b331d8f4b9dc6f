"""The page docs/levy.md: what the rows of the Lévy benchmark say, every number taken from them."""

from collections.abc import Sequence
from typing import Any

from tables import table

from solvers.verification.levy import LEARNED, MEASUREMENTS, LearnedSettings

__all__ = ["learned_page"]

Row = dict[str, Any]

GAP, LOW, HIGH = 1.0, 0.80, 0.95
"""A row is good if its gap is at most so many dB and its coverage between these shares."""

INTRODUCTION = """# What solvers do with learned denoisers

`scoresde verify` judges solvers with exact denoisers. A network is not exact: its Jacobian is
neither symmetric nor positive, and solvers that use it as a covariance can go astray. This page is
about that. The signals are sums of {length} independent increments, the Lévy processes of Zach,
Haouchat and Unser, where long Gibbs chains give the exact posterior however spiky the prior is:

| law of the increments | what the signals look like |
|---|---|
| Laplace | rough everywhere, some steps larger |
| Student's t, 3 degrees of freedom | rough, with rare large steps |
| Bernoulli-Laplace | constant, with a jump at one sample in ten: a posterior of many modes |

The denoisers are small UNets that `scoresde train` made (`scoresde/weights/levy`, where each card
has its gap to the exact denoiser). Four measurements with noise at {decibels:g} dB: every sample, a
Gaussian blur, a random 40 % of the samples, half of the frequencies.

Three scores, and each sees what the others miss:

- **Gap**: mean-squared error of the posterior mean over the least one, in dB. 0 is exact: what
  {draws} independent draws add by chance is taken off. The noise of every four draws of
  `warm-start` sums to zero, so that it adds less, and its gap can be 0.09 dB below 0.
- **Coverage**: share of exact draws inside the solver's central 90 % intervals, from {draws} draws.
- **Warned**: share of draws that came with a `SolverWarning`. A bad row without it is the worst:
  nothing tells the user.

Here are the main findings; all rows are in `benchmarks/results/levy.md`, and `scoresde verify
--learned` makes a few of them in minutes.
"""


def good(row: Row) -> bool:
    """Whether a row can be trusted."""
    return bool(row["gap"] <= GAP and LOW <= row["coverage"] <= HIGH)


def learned_page(rows: Sequence[Row], sizes: LearnedSettings, command: str) -> list[str]:
    """Write the page.

    Args:
        rows: Rows with learned denoisers.
        sizes: Sizes of the comparison.
        command: Command that made the rows.

    Returns:
        The lines of the page.
    """
    scored = [row for row in rows if "refused" not in row]
    text = INTRODUCTION.format(length=64, decibels=sizes.decibels, draws=sizes.draws)
    lines = [*text.splitlines(), "", "## Which solvers to trust", ""]
    lines += [
        f"A row is good if the gap is at most {GAP:g} dB and the coverage between "
        f"{LOW:.0%} and {HIGH:.0%}. Silent: rows that are not good and came without any warning.",
        "",
        *_solvers(scored),
        "",
        "## The best and the default solver",
        "",
        *_best(scored),
        "",
        f"Each row is of {sizes.measurements} measurements with {sizes.draws} draws each, so that "
        "differences of a few tenths of a dB and a few per cent are chance.",
        "",
        f"`{command}`",
    ]
    return lines


def _solvers(rows: Sequence[Row]) -> list[str]:
    """One line for each solver, those with the most good rows first."""
    lines = []
    for name in dict.fromkeys(row["solver"] for row in rows):
        own = [row for row in rows if row["solver"] == name]
        gaps, covers = sorted(row["gap"] for row in own), [row["coverage"] for row in own]
        count = sum(map(good, own))
        silent = sum(not good(row) and not row["warned"] for row in own)
        cells = [
            name,
            f"{count} of {len(own)}",
            f"{gaps[len(gaps) // 2]:.2f}",
            f"{gaps[-1]:.2f}",
            f"{100 * min(covers):.0f} to {100 * max(covers):.0f}",
            silent,
            f"{sorted(1000 * row['seconds'] for row in own)[len(own) // 2]:.0f}",
        ]
        lines.append((-count / len(own), gaps[len(gaps) // 2], cells))
    head = (
        "solver",
        "good rows",
        "median gap dB",
        "worst gap dB",
        "cover 90",
        "silent",
        "ms a draw",
    )
    return table(head, [cells for *_, cells in sorted(lines, key=lambda line: line[:2])])


def _best(rows: Sequence[Row]) -> list[str]:
    """For each law and measurement the solver of the least gap, and the default one."""
    lines = []
    for law in LEARNED:
        for problem in MEASUREMENTS:
            own = [row for row in rows if (row["law"], row["problem"]) == (law, problem)]
            if not own:
                continue
            best = min(own, key=lambda row: row["gap"])
            default = [row for row in own if row["solver"] == "warm-start"]
            second = _cells(default[0])[1:] if default else ["", ""]
            lines.append([law, problem, *_cells(best), *second])
    head = ("law", "problem", "best", "gap dB", "cover 90", "default: gap dB", "cover 90")
    return table(head, lines)


def _cells(row: Row) -> list[str]:
    return [row["solver"], f"{row['gap']:.2f}", f"{100 * row['coverage']:.0f}"]
