"""The part of a batch that one of several processes computes."""

from collections.abc import Iterable
from dataclasses import dataclass

from scoresde.errors import InputError

__all__ = ["Share", "check_batch"]


@dataclass(frozen=True)
class Share:
    """One of several processes that share the batch of a step.

    All processes draw the random numbers of the whole batch from one stream, and each keeps its
    rows. What a step computes therefore does not depend on the number of processes.

    Args:
        rank: Number of the process, from 0.
        processes: Number of processes.

    Example:
        >>> [Share(rank, 3).rows(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        >>> Share(1, 3).weight(8)
        1.125
    """

    rank: int = 0
    processes: int = 1

    def rows(self, n: int) -> slice:
        """Select the rows of this process.

        Args:
            n: Samples of the whole batch.

        Returns:
            A slice with a start and a stop. Those of all processes make up the batch, in order, and
            their lengths differ by one at most.
        """
        start, stop = (n * rank // self.processes for rank in (self.rank, self.rank + 1))
        return slice(start, stop)

    def weight(self, n: int) -> float:
        """Compute the weight of the mean loss of this process.

        The mean over the processes of the weighted losses is the mean over the whole batch.

        Args:
            n: Samples of the whole batch.

        Returns:
            One if the processes have equally many rows.
        """
        rows = self.rows(n)
        return (rows.stop - rows.start) * self.processes / n


def check_batch(batch: int, sizes: Iterable[int], processes: int) -> None:
    """Check that processes can share the batches of a run.

    Args:
        batch: Samples of a step, over all processes.
        sizes: Further numbers of samples that a step may have, such as of larger crops.
        processes: Number of processes.

    Raises:
        InputError: If the batch is no multiple of the number of processes, or a step has fewer
            samples than there are processes.

    Example:
        >>> check_batch(6, (), 4)
        Traceback (most recent call last):
        scoresde.errors.InputError: a batch of 6 cannot be shared by 4 processes; use a multiple ...
    """
    if batch % processes:
        above = -(-batch // processes) * processes
        raise InputError(
            f"a batch of {batch} cannot be shared by {processes} processes; use a multiple of "
            f"{processes}, such as {above}"
        )
    if (least := min(sizes, default=batch)) < processes:
        raise InputError(
            f"the largest crops come in batches of {least}, fewer than the {processes} processes; "
            "use a larger batch or smaller crops"
        )
