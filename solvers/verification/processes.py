"""Processes that start without state of the parent, and the number of processors."""

import multiprocessing
import os
from multiprocessing.context import ForkServerContext, SpawnContext

__all__ = ["clean_processes", "processors"]


def clean_processes() -> ForkServerContext | SpawnContext:
    """Choose a start method for processes that inherit no state from this one.

    Returns:
        A fork server that has imported this package and done nothing else, so that processes start
        fast; the spawn method where the system has no fork server.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["solvers.verification"])
    return context


def processors() -> int:
    """Count the processors that this process may use.

    Returns:
        Their number, at least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
