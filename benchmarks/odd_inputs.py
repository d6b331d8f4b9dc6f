"""Odd inputs through every command: pictures, masks, kernels, arrays, options, files of all kinds.

    python benchmarks/odd_inputs.py --cases 4000

Each case is a command with files made for it, and an expectation: the right values, or one line
that names the file or the option. `tests/odd_inputs/` has the recipes; a case is a function of the
seed and its number. Writes odd_inputs.md with the counts and the faults. To repeat one case and
keep its files:

    python benchmarks/odd_inputs.py --case 17 --keep DIR
"""

import argparse
import sys
import tempfile
import textwrap
import time
from collections import Counter
from pathlib import Path

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from tables import RESULTS, short_command, table, write_page

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.odd_inputs.catalogue import KINDS, RECIPES, Result, Workshop, recipe_of
from tests.odd_inputs.running import FAULTS


def page(results: list[Result], seed: int, seconds: float, arguments: list[str]) -> list[str]:
    """The counts of each kind, and each fault once with a case that shows it."""
    words = ["RIGHT", "REFUSED", "PART", *FAULTS]
    counts = {kind: Counter[str]() for kind in KINDS}
    for one in results:
        counts[one.name.split("/")[0]][one.verdict.word] += 1
    shown = [word for word in words if any(count[word] for count in counts.values())]
    rows = [
        [kind, sum(count.values()), *(count[word] or "" for word in shown)]
        for kind, count in counts.items()
        if count
    ]
    total = Counter(one.verdict.word for one in results)
    rows.append(["all", len(results), *(total[word] for word in shown)])
    lines = [
        "# Odd inputs through every command",
        "",
        f"    {short_command('odd_inputs.py', arguments)}",
        "",
        *textwrap.wrap(
            f"{len(results)} cases of {len(RECIPES)} recipes with seed {seed}, in {seconds:.0f} s. "
            "RIGHT: restored, exit status 0, checked by value. REFUSED: exit status 2, one line "
            "that names the file or the option, and nothing written. PART: of a folder the bad "
            "pictures are listed, exit status 3, and the others are right. Each case has 25 s and "
            "3 GB.",
            100,
        ),
        "",
        *table(["kind", "cases", *shown], rows),
    ]
    faults = [one for one in results if one.verdict.fault]
    if not faults:
        return [*lines, "", "No fault was found."]
    lines += [
        "",
        "## Faults",
        "",
        *(f"- {word}: {FAULTS[word]}" for word in shown if word in FAULTS),
    ]
    first: dict[tuple[str, str], Result] = {}
    for one in faults:
        first.setdefault((one.verdict.word, one.name), one)
    order = list(FAULTS)
    rows = [
        [one.number, one.verdict.word, f"`{one.name}`", _plain(one.verdict.detail)]
        for one in sorted(first.values(), key=lambda one: order.index(one.verdict.word))
    ]
    return [*lines, "", *table(["case", "fault", "recipe", "what happened"], rows)]


def _plain(text: str) -> str:
    """A cell of a table, without the names of temporary folders."""
    words = [
        f".../{Path(w).name}" if w.startswith(tempfile.gettempdir()) else w for w in text.split()
    ]
    return " ".join(words).replace("|", "\\|")[:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2 * len(RECIPES))
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipe", default="", help="only recipes whose name starts so")
    parser.add_argument("--case", type=int, help="run this one alone")
    parser.add_argument("--keep", type=Path, help="folder for the files of that case")
    parser.add_argument("--out", type=Path, default=RESULTS / "odd_inputs.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.keep is not None:  # with the priors beside, so that its command can be repeated
            options.keep.mkdir(parents=True, exist_ok=True)
        workshop = Workshop((options.keep or Path(folder)).resolve(), options.seed)
        if options.case is not None:
            one = workshop.run(options.case, options.keep)
            print(one)
            sys.exit(one.verdict.fault)
        results, start = list[Result](), time.perf_counter()
        for number in range(options.first, options.first + options.cases):
            if not recipe_of(number).startswith(options.recipe):
                continue
            results.append(workshop.run(number))
            if results[-1].verdict.fault:
                print(results[-1], flush=True)
        seconds = time.perf_counter() - start
    print(Counter(one.verdict.word for one in results), f"{seconds:.0f} s")
    if not options.recipe:
        write_page(options.out, page(results, options.seed, seconds, sys.argv[1:]))


if __name__ == "__main__":
    main()
