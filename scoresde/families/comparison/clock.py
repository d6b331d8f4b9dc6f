"""Clocks that measure the cost of computations."""

import time
from collections.abc import Callable

import torch

__all__ = ["clock_for"]


def clock_for(device: torch.device) -> Callable[[], float]:
    """Choose a clock for computations on a device.

    Process time does not depend on the other load of the machine.

    Args:
        device: Device that computes.

    Returns:
        A function that returns seconds since a fixed, arbitrary origin. On a CPU it is the process
        time divided by torch's number of threads; on a GPU, the wall time after synchronisation.
    """
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return lambda: time.process_time() / threads

    def wall() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall
