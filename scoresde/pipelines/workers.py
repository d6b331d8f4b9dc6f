"""Parts of a work that do not depend on one another, by this process or by workers of Dask.

A part is the same computation wherever it runs: the same numbers through the network together, with
random streams of their own. Results therefore do not depend on the number of workers, bit for bit
on processors of one kind.
"""

import logging
import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from scoresde.errors import InputError, require

__all__ = ["Finished", "Workers", "device_of_worker"]

_ONE_AT_A_TIME = threading.Lock()
_RETRIES = 3
_DEATHS = 10
"""Workers that may die with a part before it counts as bad."""

Part = TypeVar("Part")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """What became of a part.

    Args:
        index: Number of the part.
        result: Its result; None if there is an error.
        error: What it raised, or why its workers failed.
        warnings: What it warned of.
    """

    index: int
    result: Result | None
    error: Exception | None = None
    warnings: tuple[Warning, ...] = ()

    def unwrap(self) -> Result:
        """Give the result.

        Returns:
            The result.

        Raises:
            Exception: What the part raised.
        """
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


@dataclass(frozen=True)
class Workers:
    """Who does the parts of a work.

    Args:
        count: Processes on this machine; 1 for this process alone.
        scheduler: Address of a scheduler of Dask, such as "tcp://head:8786", whose workers do the
            work instead.

    Raises:
        InputError: If the count is not positive.

    Example:
        >>> list(Workers().map(abs, [-1, 2]))
        [1, 2]
    """

    count: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"--workers must be at least 1, got {self.count}")

    @property
    def alone(self) -> bool:
        """Whether this process does all."""
        return self.count == 1 and self.scheduler is None

    def map(
        self, function: Callable[[Part], Result], parts: Iterable[Part]
    ) -> Generator[Result, None, None]:
        """Call a function for each part.

        Args:
            function: Function of a module, which other processes can import.
            parts: Its arguments, which can be sent to other processes; taken one by one by this
                process alone. Files must have the same paths for each worker.

        Yields:
            The results in the order of the parts, each as soon as it and those before are known.
            Warnings of workers are issued here.

        Raises:
            InputError: If Dask is not installed, the scheduler does not answer, or the workers of a
                part died again and again.
            Exception: What the function raises.
        """
        if self.alone:
            yield from map(function, parts)
            return
        waiting: dict[int, Finished[Result]] = {}
        following = 0
        with closing(self.finished(function, list(parts))) as each:
            for one in each:
                waiting[one.index] = one
                while following in waiting:
                    found = waiting.pop(following)
                    for said in found.warnings:
                        warnings.warn(said, stacklevel=2)
                    yield found.unwrap()
                    following += 1

    def finished(
        self, function: Callable[[Part], Result], parts: Sequence[Part]
    ) -> Generator[Finished[Result], None, None]:
        """Call a function for each part on the workers of Dask, those of a dead worker by others.

        Args:
            function: As in :meth:`map`.
            parts: As in :meth:`map`.

        Yields:
            What became of each part, in the order in which they are finished.

        Raises:
            InputError: If Dask is not installed, or the scheduler does not answer.
        """
        require("cluster", "--workers and --scheduler", "distributed")
        from dask.distributed import as_completed

        with _client(self.count, self.scheduler) as client:
            share = max(1, (os.cpu_count() or 1) // self.count)
            threads = share if self.scheduler is None else None
            futures = {
                client.submit(_call, function, part, threads, pure=False, retries=_RETRIES): index
                for index, part in enumerate(parts)
            }
            for future in as_completed(futures):
                index = futures.pop(future)
                error = future.exception()
                if error is None:
                    result, raised, said = future.result()
                    yield Finished(index, result, raised, said)
                else:
                    reason = f"its workers failed: {type(error).__name__}"
                    yield Finished(index, None, InputError(reason))


def device_of_worker(device: str) -> str:
    """Give each worker of a machine with several GPUs one of them.

    Args:
        device: Name of the device that was asked for.

    Returns:
        A GPU by its number, if "auto" was asked for on a worker of such a machine; else the name.
    """
    if device != "auto":
        return device
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return device
    require("cluster", "--workers and --scheduler", "distributed")
    from dask.distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:  # this is no worker
        return device
    # workers of a cluster have names, and each sees its own device alone
    return f"cuda:{name % count if isinstance(name, int) else 0}"


def _call(
    function: Callable[[Part], Result], part: Part, threads: int | None
) -> tuple[Result | None, Exception | None, tuple[Warning, ...]]:
    """Run on a worker. What the function raises is its result: only deaths are tried again."""
    import torch

    # threads and warnings are those of the process; a part uses all of its cores anyway
    with _ONE_AT_A_TIME:
        return _called(torch, function, part, threads)


def _called(
    torch: Any, function: Callable[[Part], Result], part: Part, threads: int | None
) -> tuple[Result | None, Exception | None, tuple[Warning, ...]]:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                result, raised = function(part), None
            except Exception as error:
                result, raised = None, error
    finally:
        torch.set_num_threads(before)
    said = tuple(one.message for one in heard if isinstance(one.message, Warning))
    return result, raised, said


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
            dashboard_address=":0",  # any free port
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
