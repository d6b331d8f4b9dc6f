"""report.html of a restoration: the page beside its pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from problems import InverseProblem
from scoresde.pipelines.intervals import Intervals
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.pipelines.repeat import RestoreCall
from scoresde.priors.base import Prior
from scoresde.priors.score import ScorePrior
from scoresde.reports import (
    PriorNote,
    RestorationPage,
    RestorationPictures,
    environment,
    peak_memory,
    prior_note,
    restoration_page,
    write_page,
)
from solvers.posterior.path import DenoisingPath
from solvers.posterior.trust import SolverWarning

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from torch import Tensor

    from solvers import Posterior

__all__ = ["PAGE", "recorded_warnings", "write_restoration_page"]

PAGE = "report.html"
"""Name of the page in the folder of a run."""


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Keep what solvers warn of, and pass all warnings on afterwards.

    Yields:
        The messages of each :class:`solvers.posterior.trust.SolverWarning`, complete at the end.
    """
    messages: list[str] = []
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield messages
    finally:
        for one in caught:
            if issubclass(one.category, SolverWarning):
                messages.append(str(one.message))
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def write_restoration_page(
    call: RestoreCall,
    report: dict[str, Any],
    problem: InverseProblem,
    tensors: tuple[Posterior, Tensor, Tensor | None],
    intervals: Intervals,
    prior: Prior,
    warned: tuple[str, ...] = (),
    folder: Path | None = None,
    path: DenoisingPath | None = None,
) -> None:
    """Write report.html into the folder of a run.

    Args:
        call: What was asked for.
        report: Content of report.json.
        problem: Operator and noise.
        tensors: The posterior, the measurement (1, ...), and the truth (1, C, H, W) if known.
        intervals: Level and calibration of the intervals.
        prior: The prior.
        warned: Warnings of the solver.
        folder: Folder of the run; None for the one that the call names.
        path: The way of the first draw from noise; None if it was not recorded.

    Raises:
        InputError: If the file cannot be written.
    """
    posterior, y, truth = tensors
    several = len(posterior.draws) > 1
    ends = intervals.ends(posterior) if several else None
    moments = posterior.mean, posterior.std
    pictures = RestorationPictures(
        problem, y, posterior.draws, truth, ends, intervals.level, path, moments
    )
    page = RestorationPage(
        title=call.image.name,
        task=_task(report),
        report=report,
        described=problem.describe(),
        command=call.command(),
        python=call.python(),
        environment=environment(prior.device),
        memory=peak_memory(prior.device),
        prior=_note(call.options.prior, prior),
        warnings=warned,
    )
    write_page(restoration_page(page, pictures), (folder or call.out) / PAGE)


def _task(report: dict[str, Any]) -> str:
    """The problem in a few words."""
    name = report["problem"]
    if name not in PROBLEMS:
        return f"as described in {name}"
    words = PROBLEMS[name].summary.split(":")[0].split(";")[0]
    if "missing" in report:
        words = f"{report['missing']:.1%} of the pixels missing"
    return f"{name} ({words})"


def _note(name: str, prior: Prior) -> PriorNote:
    network = next((one for one in prior.modules() if isinstance(one, ScorePrior)), None)
    parameters = sum(one.numel() for one in prior.parameters())
    return prior_note(name, {} if network is None else network.card, parameters)
