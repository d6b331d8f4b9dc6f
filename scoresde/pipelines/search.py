"""What a search for an unknown of a measurement needs: a prior, and errors of one line."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from scoresde.pipelines.parsing import as_input_error
from scoresde.pipelines.plan import Measurement, prior_for, tiled_prior
from scoresde.pipelines.settings import RestoreOptions
from scoresde.pipelines.watched_prior import watched_prior
from scoresde.priors.base import Prior
from solvers.posterior.trust import SolverWarning

__all__ = ["search"]


@contextmanager
def search(
    prior: Prior,
    measurement: Measurement,
    options: RestoreOptions,
    progress: Callable[[float], None] | None,
) -> Iterator[tuple[Prior, torch.Generator]]:
    """Open a search for what is unknown of a measurement.

    Args:
        prior: Prior of pictures.
        measurement: The measurement.
        options: `tile` and `seed` are used.
        progress: Called with 0 again and again; an error that it raises ends the work.

    Yields:
        The prior of the measurement, in tiles, and random numbers.

    Raises:
        InputError: If the search raises a ValueError.
    """
    tiled = watched_prior(tiled_prior(prior_for(measurement, prior), options.tile), progress)
    with as_input_error(), warnings.catch_warnings():
        # of trials with values that are known to be wrong; the restoration itself may warn
        warnings.simplefilter("ignore", SolverWarning)
        yield tiled, torch.Generator().manual_seed(options.seed)
