"""Memory of a draw: how far the resident set of a fresh process rises.

Linux alone tells it: writing 5 to /proc/self/clear_refs sets the peak (VmHWM) back to the present size (VmRSS). In a process that has
worked before, the allocator holds pages that a solver would use without any rise; and the first call of a solver reads in libraries. So
the process is new, two draws are made beforehand, and what is left is what N draws at once hold at their worst, the prior's own arrays
included, over N. Where this cannot be had the answer is NaN.
"""

import gc
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from solvers.posterior import PosteriorSampler
from solvers.verification.problems import exact_problem, seeded
from solvers.verification.processes import clean_processes

__all__ = ["memory_of_a_draw", "rise"]


def rise(work: Callable[[], object]) -> float:
    """Bytes by which the resident set of this process rose at most while ``work`` ran; NaN but on Linux."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _kilobytes("VmRSS")
    except (OSError, StopIteration):
        return float("nan")
    work()
    return 1024.0 * (_kilobytes("VmHWM") - before)


def _kilobytes(name: str) -> int:
    return next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(name)
    )


def memory_of_a_draw(solver: PosteriorSampler, name: str, draws: int) -> float:
    """Bytes a draw, measured in a new process; ValueError where the solver cannot do the problem."""
    context = clean_processes()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, solver, name, draws))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError:
        return float("nan")  # the process has died, most likely of its memory
    finally:
        process.join()


def _measure(sender: Connection, solver: PosteriorSampler, name: str, draws: int) -> None:
    torch.set_num_threads(1)
    case = exact_problem(name, 0)

    def draw(n: int) -> None:
        solver.sample(case.prior, case.problem, case.y, n, generator=seeded(0))

    draw(2)
    sender.send(rise(lambda: draw(draws)) / draws)
