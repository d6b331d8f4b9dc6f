"""The pictures of a folder by workers."""

from collections.abc import Iterator
from functools import partial

from scoresde.errors import CannotWriteError, InputError
from scoresde.pipelines.folders.jobs import Job
from scoresde.pipelines.folders.one import Row, Settings, on_device, perform
from scoresde.pipelines.workers import Workers, device_of_worker

__all__ = ["perform_on_workers"]


def perform_on_workers(jobs: list[Job], settings: Settings, workers: Workers) -> Iterator[Row]:
    """Restore pictures by workers, those of a worker that dies by the others.

    Args:
        jobs: The pictures.
        settings: What they share. The folder of the results and all files must have the same paths
            for each worker.
        workers: Who does the work.

    Yields:
        A row for each picture, in the order in which they are finished.

    Raises:
        InputError: If Dask is not installed, or the scheduler does not answer.
        CannotWriteError: If results cannot be written.
    """
    for one in workers.finished(partial(_task, settings=settings), jobs):
        job = jobs[one.index]
        if isinstance(one.error, CannotWriteError):
            raise one.error
        if one.error is not None:
            said = str(one.error)
            reason = said if isinstance(one.error, InputError) else type(one.error).__name__
            yield Row(str(job.image), job.name, "failed", error=reason)
        elif one.result is not None:
            yield one.result


def _task(job: Job, settings: Settings) -> Row:
    """Run on a worker."""
    return perform(on_device(job, device_of_worker(job.options.device)), settings)
