"""Rows of the verification table, one for each solver and problem, on several processors."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch

from solvers.posterior import PosteriorSampler
from solvers.verification.memory import memory_of_a_draw
from solvers.verification.metrics import verdict_row, verify
from solvers.verification.processes import clean_processes, end_without_a_word
from solvers.verification.sbc import ranks
from solvers.verification.solvers import VERIFIED

__all__ = ["RANKED", "table", "table_row"]

RANKED = ("gaussian", "grid-8")
"""Names of the problems that simulation-based calibration is run on."""


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
    """Compute the rows of the verification table.

    Rows do not depend on the number of jobs, except for times and memory.

    Args:
        pairs: Pairs (solver, problem), names of `VERIFIED` and of exact problems.
        draws: Number of draws for each seed.
        seeds: Number of measurements to average over.
        jobs: Number of processes; 1 to run in this one.
        full: Whether to measure memory too, and to run `ranks` on the problems of `RANKED`.

    Yields:
        One row for each pair, in their order, as soon as it is known: "problem", "solver", and the
        fields of a `Verdict`. With full, "sbc" is the summary of `ranks`, or None. If the solver
        cannot solve the problem, the row has "refused" with the reason in place of the metrics.

    Example:
        >>> pairs = [("ddrm", "gaussian"), ("repaint", "gaussian")]
        >>> first, second = table(pairs, draws=50)
        >>> first["solver"], first["nfe"]
        ('ddrm', 20.0)
        >>> second["refused"][:33]
        'RePaint needs a problem with mask'
    """
    rows = [_Row(name, VERIFIED[name], problem, draws, seeds, full) for name, problem in pairs]
    if min(jobs, len(rows)) <= 1:
        yield from map(_judged, rows)
        return
    with ProcessPoolExecutor(
        min(jobs, len(rows)), clean_processes(), initializer=end_without_a_word
    ) as pool:
        try:
            yield from pool.map(_judged, rows)
        finally:
            pool.shutdown(cancel_futures=True)


def table_row(
    pair: tuple[str, str], draws: int, seeds: int = 1, full: bool = False
) -> dict[str, Any]:
    """Compute one row of :func:`table` in this process.

    Args:
        pair: Solver and problem.
        draws: Number of draws for each seed.
        seeds: Number of measurements to average over.
        full: As in :func:`table`.

    Returns:
        The row.

    Example:
        >>> table_row(("ddrm", "gaussian"), draws=50)["nfe"]
        20.0
    """
    return next(table([pair], draws=draws, seeds=seeds, full=full))


def _judged(row: _Row) -> dict[str, Any]:
    """The row, computed in one thread, in this process and in others alike."""
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
