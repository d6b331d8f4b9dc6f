"""Processes that start clean, each in one thread."""

import multiprocessing
import os
from multiprocessing.context import ForkServerContext, SpawnContext

__all__ = ["clean_processes", "processors"]


def clean_processes() -> ForkServerContext | SpawnContext:
    """Where the system can, children of a process that has imported this package and done nothing else: they start in no time."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["solvers.verification"])
    return context


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
