"""What a restoration came to, in words."""

from dataclasses import dataclass
from typing import Any

from scoresde.reports.views import LEVELS_PER_UNIT
from solvers.registry import SOLVERS

__all__ = ["Verdict", "certainty", "procedure", "usual_residual", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """The result of the residual check.

    Args:
        state: "passed", "failed" or "none" if there is no number to judge.
        title: The result in a few words.
        text: What it means, one or two sentences.
        warnings: What the check and the solver warn of, a sentence each.
    """

    state: str
    title: str
    text: str
    warnings: tuple[str, ...] = ()


def procedure(report: dict[str, Any], task: str) -> str:
    """Say what was restored and by what.

    Args:
        report: Content of report.json.
        task: What the measurement is, in a few words.

    Returns:
        A sentence.
    """
    height, width = report["size"]
    n = report["samples"]
    made = f"{n} draws from the posterior" if n > 1 else "One estimate"
    return (
        f"{made} by the solver {report['solver']} with the prior {report['prior']}; the problem: "
        f"{task}. The picture has {width} × {height} pixels."
    )


def certainty(report: dict[str, Any]) -> str:
    """Say how sure the restoration is.

    Args:
        report: Content of report.json.

    Returns:
        A sentence with the mean half width of the intervals in grey levels.
    """
    found = report.get("interval")
    if found is None:
        return (
            "One estimate says nothing about how sure it is; the default solver draws several "
            "pictures instead, and shows where they differ."
        )
    half = found["mean_width"] / 2 * LEVELS_PER_UNIT
    kind = "calibrated" if found["calibrated"] else "uncalibrated"
    text = (
        f"A grey level is sure to ±{half:.1f} of 255, on average over the picture (half the width "
        f"of the {kind} {found['level']:.0%} intervals)."
    )
    if "coverage" in found:
        text += (
            f" The truth, known here, lies within them in {found['coverage']:.1%} of the pixels."
        )
    return text


def verdict(report: dict[str, Any], warnings: tuple[str, ...] = ()) -> Verdict:
    """Judge a restoration by its residual check and the warnings of its solver.

    Args:
        report: Content of report.json.
        warnings: Warnings of the solver, a sentence each.

    Returns:
        The verdict.
    """
    found = report.get("residual") or {"ratio": None, "warnings": []}
    findings = tuple(one["message"] for one in found["warnings"])
    interval = report.get("interval", {})
    others = (*warnings, interval["warning"]) if "warning" in interval else warnings
    if findings:
        return Verdict(
            "failed",
            "The residual check failed",
            "The pictures below should not be used before this is understood.",
            (*findings, *others),
        )
    if found["ratio"] is None:
        return Verdict("none", "The residual was not judged", "There is no number for it.", others)
    few = "The draws do" if report["samples"] > 1 else "The picture does"
    return Verdict(
        "passed",
        "The residual check passed",
        f"{few} not contradict the measurement: the squared residual is {found['ratio']:.2g} times "
        f"what the noise makes ({usual_residual(report)}). A wrong input under which another "
        "picture explains the measurement cannot be seen in this way.",
        others,
    )


def usual_residual(report: dict[str, Any]) -> str:
    """Say what a residual is where all is right.

    A single estimate is no draw: its residual has no law, and right inputs have up to three times
    that of the noise.

    Args:
        report: Content of report.json.

    Returns:
        A few words.

    Example:
        >>> usual_residual({"solver": "warm-start"}), usual_residual({"solver": "hqs"})
        ('1 if all is right', '0 to 3 is usual for one estimate')
    """
    solver = SOLVERS.get(report["solver"])
    single = solver is not None and solver.is_estimate
    return "0 to 3 is usual for one estimate" if single else "1 if all is right"
