"""The residual check on right inputs and on wrong ones: how often it warns, and what it names.

    python benchmarks/residual.py --images PATH/bsds500/val PATH/photographs

Crops of 64x64, each case on a picture of its own, 8 draws. Right inputs: every named problem with
several solvers and noise levels of 0.01 to 0.2. Wrong inputs (residual_cases.py): the default
solver, whose draws do not know that anything is wrong. A warning counts as named if it holds the
word that the case expects. With --draws the draws are kept, so that a changed check does not need
the network again. Writes residual.json and residual.md.
"""

import argparse
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from residual_cases import SIDE, Case, more_cases, right_cases, wrong_cases
from tables import RESULTS, short_command, table, write_json, write_page
from torch import Tensor

from scoresde import load_prior
from scoresde.data.datasets import list_images
from scoresde.data.images import read_image
from scoresde.evaluation import psnr
from scoresde.evaluation.residual import check_residual
from scoresde.priors.base import Prior
from solvers import PointEstimator, make_solver

SOLVERS = ("warm-start", "mmps", "dps", "ddrm", "diffpir", "hqs")
DRAWS = 8


def crop(files: list[Path], number: int) -> Tensor:
    """The crop (1, 3, SIDE, SIDE) of this number."""
    x = read_image(files[(7 * number) % len(files)])
    x = x if x.shape[0] == 3 else x[:1].expand(3, -1, -1)
    g = torch.Generator().manual_seed(number)
    top, left = (int(torch.randint(0, n - SIDE + 1, (), generator=g)) for n in x.shape[-2:])
    return x[None, :, top : top + SIDE, left : left + SIDE].contiguous()


def restore(case: Case, prior: Prior, y: Tensor, folder: Path | None) -> Tensor | None:
    """The draws; None if the solver cannot do the problem."""
    kept = None if folder is None else folder / f"{case.key.replace('/', '_')}.pt"
    if kept is not None and kept.exists():
        old = torch.load(kept, weights_only=True)
        return None if isinstance(old, str) else old["draws"].float()
    solver = make_solver(case.solver, case.steps)
    n = 1 if isinstance(solver, PointEstimator) else DRAWS
    g = torch.Generator().manual_seed(case.picture)
    try:
        draws = solver.sample(prior, case.stated, y, n, generator=g).draws
    except ValueError as error:
        draws, reason = None, str(error)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(reason if draws is None else {"draws": draws}, kept)
    return draws


def judge(case: Case, prior: Prior, files: list[Path], folder: Path | None) -> dict[str, Any]:
    truth = crop(files, case.picture)
    y = case.measure(truth, torch.Generator().manual_seed(case.picture))
    draws = restore(case, prior, y, folder)
    if draws is None:
        return {}
    check = check_residual(
        case.stated,
        y,
        draws,
        range_known=case.range_known,
        faithful=make_solver(case.solver).exactness in ("gaussian", "asymptotic"),
        balanced=make_solver(case.solver).balanced,
        prior=prior,
    )
    cell: dict[str, Any] = {"check": check.report(), "expect": case.expect}
    cell["unreachable"] = None if check.evidence is None else finite(check.evidence.unreachable)
    if draws.shape[2:] == truth.shape[1:]:
        cell["psnr"] = [finite(float(psnr(x, truth))) for x in draws]
        if y.shape == truth.shape:
            cell["measurement"] = finite(float(psnr(y, truth)))
    return cell


def finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def kinds(cell: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in cell["check"]["warnings"]]


def named(cell: dict[str, Any]) -> bool:
    text = " ".join(one["message"] for one in cell["check"]["warnings"])
    return any(word in text for word in cell["expect"])


def span(numbers: Iterable[float | None]) -> str:
    """Smallest, median and largest; the number itself where there is one."""
    known = sorted(n for n in numbers if n is not None)
    if len(known) < 2:
        return "".join(f"{n:.3g}" for n in known)
    return " / ".join(f"{n:.3g}" for n in (known[0], statistics.median(known), known[-1]))


def right_lines(cells: dict[str, dict[str, Any]]) -> list[str]:
    """A row per problem and a row per solver."""

    def row(title: str, group: list[dict[str, Any]]) -> list[object]:
        draws = [cell for cell in group if len(cell["check"]["ratios"]) > 1]
        return [
            title,
            len(group),
            span(cell["check"]["ratio"] for cell in group),
            span(cell["check"]["mean_ratio"] for cell in draws),
            span(cell["check"]["mean_expected"] for cell in draws),
            span(cell["unreachable"] for cell in group),
            *(
                sum(any(k in wanted for k in kinds(cell)) for cell in group) or ""
                for wanted in (("range", "noise", "operator"), ("solver",), ("outlier",))
            ),
        ]

    by_problem: dict[str, list[dict[str, Any]]] = {}
    by_solver: dict[str, list[dict[str, Any]]] = {}
    for key, cell in cells.items():
        _, kind, solver, _ = key.split("/")
        by_problem.setdefault(kind.rsplit(" 0.", 1)[0], []).append(cell)
        by_solver.setdefault(solver, []).append(cell)
    head = ["", "runs", "T", "T of the mean", "expected", "unreachable"]
    head += ["input suspected", "solver suspected", "outliers"]
    rows = [row(name, group) for name, group in {**by_problem, **by_solver}.items()]
    return table(head, [*rows, row("all", list(cells.values()))])


def wrong_lines(cells: dict[str, dict[str, Any]]) -> list[str]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, cell in cells.items():
        groups.setdefault(key.split("/")[1], []).append(cell)
    rows = []
    for kind, group in groups.items():
        warned = [cell for cell in group if kinds(cell)]
        found = sorted({kind for cell in warned for kind in kinds(cell)})
        rows.append(
            [
                kind,
                len(group),
                span(cell["check"]["ratio"] for cell in group),
                len(warned),
                sum(map(named, group)) if group[0]["expect"] else "–",
                ", ".join(found),
            ]
        )
    head = ["wrong input", "runs", "T", "warned", "named", "suspected"]
    return table(head, rows)


def failing_lines(cells: dict[str, dict[str, Any]]) -> list[str]:
    rows = []
    for key, cell in cells.items():
        _, kind, solver, _ = key.split("/")
        values = [p for p in cell.get("psnr", []) if p is not None]
        rows.append([kind, solver, f"{cell['check']['ratio'] or math.nan:.3g}",
                     f"{min(values):.1f} / {statistics.median(values):.1f}" if values else "",
                     f"{cell['measurement']:.1f}" if cell.get("measurement") else "",
                     "; ".join(f"{one['kind']}" for one in cell["check"]["warnings"])])  # fmt: skip
    head = ["problem", "solver", "T", "worst / median draw (dB)", "measurement (dB)", "suspected"]
    return table(head, rows)


def page(cells: dict[str, dict[str, Any]], command: str) -> list[str]:
    def group(name: str) -> dict[str, dict[str, Any]]:
        return {key: cell for key, cell in cells.items() if key.startswith(f"{name}/") and cell}

    right, later, wrong, failing = map(group, ("right", "later", "wrong", "failing"))
    warned = {k: c for k, c in {**right, **later}.items() if set(kinds(c)) - {"outlier"}}
    first = [c for k, c in wrong.items() if c["expect"] and int(k.rsplit("/", 1)[1]) % 10 == 0]
    second = [c for k, c in wrong.items() if c["expect"] and int(k.rsplit("/", 1)[1]) % 10]
    return [
        f"Crops of {SIDE}×{SIDE} of photographs, prior natural, {DRAWS} draws (one estimate for "
        "hqs). T: squared residual of a typical draw over that of the noise, 1 for exact draws; "
        "smallest / median / largest of the runs. Expected: T of the mean prediction if the draws "
        "were exact and scattered as they do. Unreachable: misfit that no change of the picture "
        "takes away, for linear operators. The range of the values is not taken as known, sigma is "
        "taken as stated. Limits and rules were set with the runs called first; those called "
        "later are on other pictures. Two rules came with the latter: another sigma is concluded "
        "from the residual only for solvers that aim at the law of the posterior, and for them "
        "alone the denoiser judges the noise of pictures with holes.",
        "",
        f"`{command}`",
        "",
        f"Right inputs: first {summary(right)}; later {summary(later)}.",
        "",
        *right_lines({**right, **later}),
        "",
        "The right runs that suspect an input or the solver (outliers left out):",
        "",
        *failing_lines(warned),
        "",
        f"Wrong inputs, default solver: on the first picture {detected(first)}, on the later one "
        f"{detected(second)}. –: another picture explains the measurement, which no residual "
        "shows; not counted.",
        "",
        *wrong_lines(wrong),
        "",
        "Right inputs with solvers that are known to fail on some pictures:",
        "",
        *failing_lines(failing),
    ]


def summary(cells: dict[str, dict[str, Any]]) -> str:
    """How many runs suspect what."""
    found = [set(kinds(cell)) for cell in cells.values()]
    inputs = sum(bool(one & {"range", "noise", "operator"}) for one in found)
    units = sum("mid-grey" in str(cell["check"]["warnings"]) for cell in cells.values())
    return (
        f"{inputs} of {len(found)} runs ({100 * inputs / max(1, len(found)):.1f} %) suspect an "
        f"input ({inputs - units} if the range is known, as of a simulation or a file of 8 bits), "
        f"{sum('solver' in one for one in found)} the solver, and "
        f"{sum('outlier' in one for one in found)} have draws far from the others"
    )


def detected(cells: list[dict[str, Any]]) -> str:
    """How many runs warn, and name the input."""
    return (
        f"{sum(bool(kinds(c)) for c in cells)} of {len(cells)} runs warn and "
        f"{sum(map(named, cells))} name the input"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--pictures", type=int, default=2, help="for each wrong input")
    parser.add_argument("--draws", type=Path, help="folder in which draws are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    files = [file for folder in a.images for file in list_images(folder)]
    prior, cells = load_prior("natural"), {}
    cases = [
        *right_cases(SOLVERS),
        *more_cases("right", 500),
        *more_cases("later", 700),
        *wrong_cases(a.pictures),
    ]
    for i, case in enumerate(cases):
        if cell := judge(case, prior, files, a.draws):
            cells[case.key] = cell
        if i % 20 == 0:
            print(f"{i} of {len(cases)}: {case.key}", flush=True)
    arguments = ["--images", *map(str, a.images)]
    arguments += ["--pictures", str(a.pictures)] if a.pictures != 2 else []
    command = short_command("residual.py", arguments)
    write_json(cells, a.out / "residual.json")
    write_page(a.out / "residual.md", page(cells, command))


if __name__ == "__main__":
    main()
