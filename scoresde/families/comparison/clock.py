"""Seconds that do not depend on what else the machine is doing."""

import time
from collections.abc import Callable

import torch

__all__ = ["clock_for"]


def clock_for(device: torch.device) -> Callable[[], float]:
    """On a processor its own time, divided by the threads that torch computes with; on a GPU the time on the wall, once it has finished."""
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return lambda: time.process_time() / threads

    def wall() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall
