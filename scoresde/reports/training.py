"""The page of `scoresde train`."""

from pathlib import Path
from typing import Any

from scoresde.errors import require
from scoresde.reports.figures import ACCENT, inline_svg, new_figure
from scoresde.reports.tables import Column, Plot, Section, TablePage, table_page

__all__ = ["read_log", "training_page"]

_POINTS = 600
"""Points of a curve; more are not seen."""

_MEANINGS = {
    "loss": "Weighted squared error of the denoiser in one batch; noisy, since noise levels are "
    "drawn at random.",
    "loss/smoothed": "The loss, averaged over many steps: does it still fall?",
    "learning rate": "Step size of the optimizer.",
    "gradient norm": "Norm of the gradient before it is cut off.",
    "steps per second": "Speed of the training.",
}


def read_log(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read the curves of a TensorBoard log.

    Args:
        folder: Folder of the log, with its subfolders.

    Returns:
        Pairs (step, value) of every curve by name, in the order of the steps; of a step that was
        made twice, after an interruption, the later one.
    """
    require("train", "reading the log of a training", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, tuple[float, float]]] = {}
    for path in sorted({file.parent for file in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            curve = found.setdefault(name, {})
            for event in events.Scalars(name):
                before = curve.get(event.step)
                if before is None or before[0] <= event.wall_time:
                    curve[event.step] = (event.wall_time, event.value)
    return {
        name: [(step, curve[step][1]) for step in sorted(curve)] for name, curve in found.items()
    }


def training_page(
    report: dict[str, Any],
    curves: dict[str, list[tuple[int, float]]],
    command: str,
    environment: dict[str, str],
    settings: dict[str, Any],
) -> str:
    """Make the page of a training.

    Args:
        report: Report of the command: "prior", "steps", "of".
        curves: Curves of :func:`read_log`.
        command: The command that made it.
        environment: Versions and device, by name.
        settings: Settings of the training, by name.

    Returns:
        One self-contained HTML file.
    """
    shown = {name: curve for name, curve in curves.items() if len(curve) > 1}
    plots = [
        Plot(
            name,
            inline_svg(_curve(name, curve), _described(name, curve), f"curve-{number}"),
            _MEANINGS.get(name, "Against the steps of the optimizer."),
        )
        for number, (name, curve) in enumerate(sorted(shown.items(), key=_first))
    ]
    rows = [
        {
            "name": name,
            "first": curve[0][1],
            "last": curve[-1][1],
            "least": min(value for _, value in curve),
            "most": max(value for _, value in curve),
        }
        for name, curve in sorted(curves.items(), key=_first)
        if curve
    ]
    columns = (
        Column("name", "Curve", "Name in the TensorBoard log."),
        Column("first", "First", "Its first value."),
        Column("last", "Last", "Its last value."),
        Column("least", "Least", "Its smallest value."),
        Column("most", "Most", "Its largest value."),
    )
    section = Section("Curves", f"From {report['log']}.", columns, rows, plots)
    warnings = []
    if report["steps"] < report["of"]:
        left = report["of"] - report["steps"]
        warnings.append(f"{left} steps are left; go on with the same command and --continue.")
    page = TablePage(
        "Training of a prior",
        f"{report['steps']:,} of {report['of']:,} steps; the weights are in {report['prior']}.",
        [section],
        command,
        environment,
        settings,
        warnings,
    )
    return table_page(page)


def _first(item: tuple[str, Any]) -> tuple[bool, str]:
    return "loss" not in item[0], item[0]


def _curve(name: str, curve: list[tuple[int, float]]) -> Any:
    stride = max(1, len(curve) // _POINTS)
    xs, ys = zip(*(curve[::stride] + ([curve[-1]] if stride > 1 else [])), strict=True)
    figure = new_figure(6.8, 3.2)
    axes = figure.axes[0]
    axes.plot(xs, ys, color=ACCENT, linewidth=1.2)
    axes.set(xlabel="step", ylabel=name)
    if min(ys) > 0 and max(ys) > 30 * min(ys):
        axes.set_yscale("log")
    return figure


def _described(name: str, curve: list[tuple[int, float]]) -> str:
    return (
        f"Plot of {name.replace('_', ' ')} against steps, from {curve[0][1]:.4g} at step "
        f"{curve[0][0]} to {curve[-1][1]:.4g} at step {curve[-1][0]}"
    )
