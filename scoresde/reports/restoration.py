"""The page of a restoration."""

import json
from dataclasses import dataclass
from typing import Any

from scoresde.reports.film import film
from scoresde.reports.headline import certainty, procedure, verdict
from scoresde.reports.numbers import cost_numbers, restoration_numbers
from scoresde.reports.page import render
from scoresde.reports.prior_note import PriorNote
from scoresde.reports.restoration_views import RestorationPictures, restoration_views

__all__ = ["RestorationPage", "restoration_page"]


@dataclass(frozen=True)
class RestorationPage:
    """What the page of a restoration shows, beside its pictures.

    Args:
        title: Name of the restored file.
        task: What the measurement is, in a few words.
        report: Content of report.json.
        described: Content of problem.json.
        command: The command that repeats the restoration.
        python: The Python that repeats it.
        environment: Versions and device, by name.
        memory: The largest memory in use; None if it is not known.
        prior: The prior in words.
        warnings: Warnings of the solver, a sentence each.
    """

    title: str
    task: str
    report: dict[str, Any]
    described: dict[str, Any]
    command: str
    python: str
    environment: dict[str, str]
    memory: dict[str, Any] | None
    prior: PriorNote
    warnings: tuple[str, ...] = ()


def restoration_page(page: RestorationPage, pictures: RestorationPictures) -> str:
    """Make the page of a restoration.

    Args:
        page: Texts and numbers.
        pictures: Tensors of the pictures.

    Returns:
        One self-contained HTML file.
    """
    views, factor = restoration_views(pictures)
    keys = [view.key for view in views]
    viewer = {
        "views": [view.described() for view in views],
        "width": -(-pictures.draws.shape[-1] // factor),
        "height": -(-pictures.draws.shape[-2] // factor),
        "left": "measurement",
        "right": "mean",
        "level": pictures.level,
        "interval": ["lower", "upper"] if "lower" in keys else None,
    }
    return render(
        "restoration.html",
        title=f"{page.title}, restored",
        name=page.title,
        procedure=procedure(page.report, page.task),
        certainty=certainty(page.report),
        verdict=verdict(page.report, page.warnings),
        views=views,
        viewer=viewer,
        film=film(pictures.path, pictures.draws),
        factor=factor,
        numbers=restoration_numbers(page.report),
        cost=cost_numbers(page.report, page.memory),
        ratios=_ratios(page.report),
        read=page.report.get("read"),
        files=page.report.get("files", []),
        seed=page.report["seed"],
        command=page.command,
        python=page.python,
        described=json.dumps(page.described, indent=2),
        environment=page.environment,
        prior=page.prior,
    )


def _ratios(report: dict[str, Any]) -> list[tuple[int, float]]:
    """Number and residual of each draw that has one."""
    found = (report.get("residual") or {}).get("ratios", [])
    return [(i + 1, value) for i, value in enumerate(found) if value is not None]
