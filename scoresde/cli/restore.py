"""`scoresde restore`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.folders import restore_many
from scoresde.cli.options import Json, Scheduler, WorkerCount, restoration
from scoresde.errors import InputError
from scoresde.pipelines.settings import (
    PICTURE_FORMATS,
    IntervalOptions,
    OutputOptions,
    ProblemOptions,
    RestoreOptions,
    WindowOptions,
)

__all__ = ["restore"]


def _formats(incomplete: str) -> list[str]:
    return [name for name in PICTURE_FORMATS if name.startswith(incomplete)]


@command(
    "scoresde restore photo.png --problem denoise --sigma 0.1",
    "scoresde restore photo.png --problem inpaint --mask mask.png --effort quick",
    "scoresde restore photo.png --problem deblur --motion 15,30 --simulate --json",
    "scoresde restore scan.nii.gz --problem denoise --select z=10:20 --range 0,1000 --sigma 0.05",
    "scoresde restore photos/ --problem denoise --sigma 0.1 --workers 2 --out restored",
    "scoresde restore slide.tif --problem denoise --sigma 0.1 --windows 1024 --out out/slide",
)
@restoration
def restore(
    image: Annotated[
        Path,
        typer.Argument(
            help="The photograph, in any format that Pillow reads, or a TIFF of any sample type; "
            "an array (C, ...) as .npy, .npz or .mat; or a picture, volume or stack in FITS, "
            "DICOM, NIfTI, HDF5, zarr or TIFF. Or many: a folder, a pattern in quotes, "
            "or a .csv whose column `image` names them and whose other columns are options."
        ),
    ],
    *,
    problem_options: ProblemOptions,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The picture is the truth; measure it first.")
    ] = False,
    restore_options: RestoreOptions,
    calibration: Annotated[
        Path | None,
        typer.Option(help="File of `scoresde calibrate`; reports calibrated intervals."),
    ] = None,
    level: Annotated[float, typer.Option(help="Nominal coverage of the intervals.")] = 0.9,
    picture_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Of the pictures: png, png16, tiff, tiff16 or tiff32 (floating-point numbers). "
            "[like the file, in its own values]",
            autocompletion=_formats,
        ),
    ] = None,
    no_draws: Annotated[
        bool,
        typer.Option("--no-draws", help="Write no draws, neither as pictures nor as numbers."),
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the pictures, posterior.npz (all numbers) and report.json; or a .png "
            "or .tif file for the mean, and the rest in a folder of its name.",
        ),
    ] = Path("out/restore"),
    windows: Annotated[
        int | None,
        typer.Option(
            help="Restore a TIFF or zarr that does not fit the memory in windows of this side, in "
            "pixels; of operators that couple near pixels alone. Writes mean and standard "
            "deviation, and goes on where an interrupted run was.",
            min=64,
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            help="Pixels that --windows share. [96 and twice the reach of the operator]", min=0
        ),
    ] = None,
    workers: WorkerCount = 1,
    scheduler: Scheduler = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what a folder will take, and restore nothing.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with pictures that come into the folder later.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a photograph: posterior draws, their mean, and a map of the uncertainty.

    With a folder, each picture gets a folder of its own below --out. What is done already is kept.
    """
    if windows is not None or overlap is not None:
        _in_windows(
            image,
            problem_options,
            restore_options,
            out,
            windows,
            overlap,
            {
                "--simulate": simulate,
                "--calibration": calibration is not None,
                "--dry-run": dry_run,
                "--watch": watch,
            },
            OutputOptions(picture_format, no_draws),
            (workers, scheduler),
            as_json=as_json,
        )
        return
    from problems.reading.zarr_arrays import is_zarr
    from scoresde.pipelines.folders import names_many
    from scoresde.pipelines.restore import restore as run
    from scoresde.pipelines.workers import Workers

    interval = IntervalOptions(level, calibration)
    output = OutputOptions(picture_format, no_draws)
    if names_many(str(image)) and not is_zarr(image):
        restore_many(
            str(image),
            problem_options,
            restore_options,
            out,
            simulate=simulate,
            interval=interval,
            output=output,
            workers=workers,
            scheduler=scheduler,
            dry_run=dry_run,
            watch=watch,
            as_json=as_json,
        )
        return
    if dry_run or watch:
        raise InputError(
            "--dry-run and --watch are for a folder, a pattern or a .csv, "
            f"and {image} is one picture"
        )
    with progress_bar("restoring") as progress:
        report = run(
            image,
            problem_options,
            restore_options,
            out,
            simulate=simulate,
            interval=interval,
            output=output,
            progress=progress,
            say=lambda line: echo(line, err=True),
            workers=Workers(workers, scheduler),
        ).report
    if as_json:
        print_json(report)
        return
    for line in _read_lines(report):
        echo(line)
    alone = report["samples"] == 1  # the mean is the draw
    for name in ("measurement", "mean") if alone else ("measurement", "draw", "mean"):
        if name in report:
            found = report[name]
            echo(f"{name:12s} {found['psnr']:6.2f} dB  SSIM {found['ssim']:.3f}")
    own = report["in_file_values"]
    if own is not None and own["units"] and report["samples"] > 1:
        echo(f"uncertainty  {own['mean_std']:.3g} {own['units']}, mean standard deviation")
    if "interval" in report:
        echo(_interval_line(report["interval"]))
    for line in _residual_lines(report):
        echo(line)
    echo(_cost_line(report))
    echo(f"wrote        {_written(out)}: {', '.join(_in_short(report['files']))}")


def _cost_line(report: dict[str, Any]) -> str:
    """What was drawn or estimated, and what it took."""
    made = _draws_by(report)
    each = " per draw" if "draw" in made else ""
    return f"{made} in {report['seconds']:.1f} s ({report['nfe']} network evaluations{each})"


def _draws_by(report: dict[str, Any]) -> str:
    """How many draws, or estimates, by which solver."""
    from solvers.registry import SOLVERS

    one = "estimate" if SOLVERS[report["solver"]].is_estimate else "draw"
    count = report["samples"]
    return f"{count} {one}{'' if count == 1 else 's'} by {report['solver']}"


def _in_windows(
    image: Path,
    problem: ProblemOptions,
    options: RestoreOptions,
    out: Path,
    side: int | None,
    overlap: int | None,
    others: dict[str, bool],
    output: OutputOptions,
    shared: tuple[int, str | None],
    *,
    as_json: bool,
) -> None:
    """Restore a picture in windows."""
    from scoresde.pipelines.windows import restore_windows
    from scoresde.pipelines.workers import Workers

    if side is None:
        raise InputError("--overlap does nothing without --windows")
    for name, given in others.items():
        if given:
            raise InputError(f"{name} does not go with --windows; leave one of them out")
    with progress_bar("restoring windows") as progress:
        report = restore_windows(
            image,
            problem,
            options,
            out,
            WindowOptions(side, overlap),
            output=output,
            progress=progress,
            say=lambda line: echo(line, err=True),
            workers=Workers(*shared),
        )
    if as_json:
        print_json(report)
        return
    for line in _read_lines(report):
        echo(line)
    found = report["residual"]
    if found["ratio"] is not None:
        echo(
            f"residual     {found['ratio']:.2g} times what the noise makes on average, "
            f"{found['lowest']:.2g} to {found['highest']:.2g} (1 if all is right)"
        )
    for one in found["examples"]:
        for line in one["warnings"]:
            echo(f"warning      window {one['window']}: {line}")
    if report["seam"] is not None:
        echo(f"seams        steps across them are {report['seam']:.3f} times those beside them")
    count, made = report["windows"]["count"], _draws_by(report)
    echo(
        f"{count} window{'' if count == 1 else 's'}, {made} each, in "
        f"{report['seconds']:.1f} s; wrote {out}/: {', '.join(report['files'])}"
    )


def _in_short(files: list[str]) -> list[str]:
    """Names of files, with the first and the last alone of many draws, the page first."""
    draws = [name for name in files if name.startswith("draw_")]
    left_out = draws[1:] if len(draws) > 2 else []
    page = [name for name in files if name == "report.html"]
    shown = [name for name in files if name not in (*page, *left_out)]
    if left_out:
        shown[shown.index(draws[0])] += f" to {draws[-1]}"
    return page + shown


def _written(out: Path) -> str:
    """The folder of the files, and the file of the mean."""
    from scoresde.pipelines.picture_format import destination

    folder, file = destination(out)
    return f"{folder}/" if file is None else f"{file}, and in {folder}/"


def _read_lines(report: dict[str, Any]) -> list[str]:
    """How the file was understood."""
    read = report["read"]
    low, high = read["range"]
    units = f" {read['units']}" if read.get("units") else ""
    lines = [f"read         {read['kind']}, {low:g} to {high:g}{units} ({read['range_rule']})"]
    if "slices" in report:
        first, last = (report["slices"][i]["slice"] for i in (0, -1))
        lines.append(f"slices       {len(report['slices'])}, {first} to {last}")
    lines += [f"note         {note}" for note in read["notes"]]
    missing = report.get("missing", report.get("settings", {}).get("missing"))
    if missing is not None:
        lines.append(f"mask         {missing:.1%} of the pixels are missing")
    if "blur_estimate" in report:
        lines.append(f"blur         {_blur(report['blur_estimate'])}, estimated from the picture")
    if "sigma_estimate" in report:
        found = report["sigma_estimate"]
        lines.append(
            f"noise        {found['sigma'][0]:g} ± {found['standard_error'][0]:g} on [-1, 1], "
            "estimated from the measurement"
        )
    if "photons_estimate" in report:
        lines += _photons(report["photons_estimate"])
    if not report["sigma_given"] and report["sigma"] is not None:
        lines.append(f"noise        {report['sigma']:g} on [-1, 1], assumed: --sigma was not given")
    return lines


def _photons(found: dict[str, Any]) -> list[str]:
    """Photons of a white pixel, and the read noise if it was estimated, too."""
    lines = [
        f"photons      {found['photons']:g} ± {found['standard_error']:g} of a white pixel, "
        "estimated from the measurement"
    ]
    if found["read_noise_error"] is not None:
        lines.append(
            f"read noise   {found['read_noise']:g} ± {found['read_noise_error']:g} on [-1, 1], "
            "estimated from the measurement"
        )
    return lines


def _blur(found: dict[str, Any]) -> str:
    """The kind of a blur and its parameters."""
    pairs = [
        f"{v:g} ± {e:g}" for v, e in zip(found["values"], found["standard_error"], strict=True)
    ]
    if found["kind"] == "kernel":
        return f"kernel of any shape, its spread {pairs[0]} pixels"
    direction = f" at {pairs[1]} degrees" if len(pairs) > 1 else ""
    return f"{found['kind']} {pairs[0]} pixels{direction}"


def _residual_lines(report: dict[str, Any]) -> list[str]:
    """Whether the draws explain the measurement."""
    from scoresde.reports.headline import usual_residual

    residual, lines = report["residual"], []
    if residual["ratio"] is not None:
        lines.append(
            f"residual     {residual['ratio']:.2g} times what the noise makes "
            f"({usual_residual(report)})"
        )
    return lines + [f"warning      {one['message']}" for one in residual["warnings"]]


def _interval_line(interval: dict[str, Any]) -> str:
    kind = "calibrated" if interval["calibrated"] else "raw Gaussian"
    line = (
        f"intervals    {interval['level']:.0%}, {kind}, mean width {interval['mean_width']:.3f} "
        "on [-1, 1]"
    )
    if "coverage" in interval:
        line += f", hold the truth in {interval['coverage']:.1%} of the pixels"
    return line + (f"\nwarning      {interval['warning']}" if "warning" in interval else "")
