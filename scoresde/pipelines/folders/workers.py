"""The same work by processes of Dask: on this machine, or of a cluster."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scoresde.errors import CannotWriteError, InputError, require
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.folders.one import Row, Settings, on_device, perform

__all__ = ["perform_on_workers"]

_RETRIES = 3
_DEATHS = 10
"""Workers that may die with a picture before it counts as bad."""


def perform_on_workers(
    jobs: list[Job], settings: Settings, workers: int, scheduler: str | None
) -> Iterator[Row]:
    """Restore pictures by workers, those of a worker that dies by the others.

    Args:
        jobs: The pictures.
        settings: What they share. The folder of the results and all files must have the same paths
            for each worker.
        workers: Processes on this machine, if there is no scheduler.
        scheduler: Address of a scheduler of Dask.

    Yields:
        A row for each picture, in the order in which they are finished.

    Raises:
        InputError: If Dask is not installed, or the scheduler does not answer.
        CannotWriteError: If results cannot be written.
    """
    require("cluster", "--workers and --scheduler", "distributed")
    from dask.distributed import as_completed

    with _client(workers, scheduler) as client:
        threads = max(1, (os.cpu_count() or 1) // workers) if scheduler is None else None
        futures = {
            client.submit(_task, job, settings, threads, pure=False, retries=_RETRIES): job
            for job in jobs
        }
        for future in as_completed(futures):
            job = futures.pop(future)
            error = future.exception()
            if isinstance(error, CannotWriteError):
                raise error
            if error is not None:
                reason = f"its workers failed: {type(error).__name__}"
                yield Row(str(job.image), job.name, "failed", error=reason)
            else:
                yield future.result()


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    import dask
    from dask.distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"no scheduler answers at {scheduler}: {reason}") from None
        with client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": _DEATHS,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _task(job: Job, settings: Settings, threads: int | None) -> Row:
    """Run on a worker."""
    import torch
    from dask.distributed import get_worker

    if threads is not None:
        torch.set_num_threads(threads)
    count = torch.cuda.device_count()
    if job.options.device == "auto" and count > 1:
        job = on_device(job, f"cuda:{_number(get_worker().name) % count}")
    return perform(job, settings)


def _number(name: object) -> int:
    """Number of a worker of this machine; 0 of others, which see their own device alone."""
    return name if isinstance(name, int) else 0
