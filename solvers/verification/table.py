"""Rows of the table, one for each solver and problem, on several processors at once."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch

from solvers.posterior import PosteriorSampler
from solvers.verification.memory import memory_of_a_draw
from solvers.verification.metrics import verdict_row, verify
from solvers.verification.processes import clean_processes
from solvers.verification.sbc import ranks
from solvers.verification.solvers import VERIFIED

__all__ = ["RANKED", "table"]

RANKED = ("gaussian", "grid-8")
"""The problems of simulation-based calibration."""


@dataclass(frozen=True)
class _Row:
    name: str
    solver: PosteriorSampler
    problem: str
    draws: int
    seeds: int
    full: bool


def table(
    pairs: Iterable[tuple[str, str]],
    *,
    draws: int,
    seeds: int = 1,
    jobs: int = 1,
    full: bool = False,
) -> Iterator[dict[str, Any]]:
    """A row for each (solver, problem), in their order, as soon as it is known; the same whatever the number of jobs, but for times.

    full: measure memory too, and ``RANKED`` problems have "sbc", the summary of ``ranks``. A solver that cannot do the
    problem has "refused", and why.
    """
    rows = [_Row(name, VERIFIED[name], problem, draws, seeds, full) for name, problem in pairs]
    if min(jobs, len(rows)) <= 1:
        yield from map(_judged, rows)
        return
    with ProcessPoolExecutor(min(jobs, len(rows)), clean_processes()) as pool:
        try:
            yield from pool.map(_judged, rows)
        finally:
            pool.shutdown(cancel_futures=True)


def _judged(row: _Row) -> dict[str, Any]:
    """In one thread, as every other row, wherever it is run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = {"problem": row.problem, "solver": row.name}
    try:
        verdict = verify(row.solver, row.problem, draws=row.draws, seeds=row.seeds)
        if not row.full:
            return start | verdict_row(verdict)
        verdict = replace(verdict, memory=memory_of_a_draw(row.solver, row.problem, row.draws))
        sbc = ranks(row.solver, row.problem).summary() if row.problem in RANKED else None
        return start | verdict_row(verdict) | {"sbc": sbc}
    except ValueError as error:
        return start | {"refused": str(error)}
    finally:
        torch.set_num_threads(threads)
