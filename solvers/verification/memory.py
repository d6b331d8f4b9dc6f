"""Memory of a draw, measured as the rise of the resident set of a fresh process.

This works on Linux only: writing 5 to /proc/self/clear_refs resets the peak (VmHWM) to the present
size (VmRSS). In a process that has done other work the allocator holds free pages, which a solver
could use without any rise, and the first call of a solver imports libraries. So the process is new,
and two draws are made beforehand. The result is the largest rise during N simultaneous draws,
the prior's own arrays included, divided by N. On other systems it is NaN.
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
    """Measure the largest rise of this process's resident set during a piece of work.

    Args:
        work: Function to run.

    Returns:
        Rise in bytes; NaN where the system does not report it.
    """
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
    """Measure the memory of a draw in a new process.

    Args:
        solver: Solver to measure; it is pickled. It must be able to solve the problem.
        name: Name of an exact problem.
        draws: Number of simultaneous draws, by which the memory is divided.

    Returns:
        Bytes per draw; NaN where the system does not report it, or if the process died.
    """
    context = clean_processes()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, solver, name, draws))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError:
        return float("nan")  # the process has died, most likely out of memory
    finally:
        process.join()


def _measure(sender: Connection, solver: PosteriorSampler, name: str, draws: int) -> None:
    torch.set_num_threads(1)
    case = exact_problem(name, 0)

    def draw(n: int) -> None:
        solver.sample(case.prior, case.problem, case.y, n, generator=seeded(0))

    draw(2)
    sender.send(rise(lambda: draw(draws)) / draws)
