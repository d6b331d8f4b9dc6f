"""`scoresde check-prior`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, print_table, progress_bar
from scoresde.cli.names import completed
from scoresde.cli.options import Average, Device, Json, Precision, Seed
from scoresde.cli.report_option import Report, check_report, typed_command, write_report

__all__ = ["check_prior"]

_FINDINGS = 1
"""Status of a check that has found something."""


@command(
    "scoresde check-prior natural",
    "scoresde check-prior prior.safetensors --images photographs --report check.html",
    name="check-prior",
)
def check_prior(
    prior: Annotated[
        str,
        typer.Argument(
            help="An embedded prior, the path of a .safetensors file, diffusers:FOLDER_OR_ID, "
            "torch-export:FILE, or onnx:FILE.",
            autocompletion=completed("priors"),
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures like those of its training. [photographs that come with "
            "scikit-image for colour pictures; else draws of the prior]"
        ),
    ] = None,
    average: Average = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    out: Annotated[Path | None, typer.Option(help="File to write the report to, as JSON.")] = None,
    page: Report = None,
    as_json: Json = False,
) -> None:
    """Look a prior over: is it a denoiser, and is it connected in the right way?

    Exit status 0 if it is fine, 1 if there are findings.
    """
    from scoresde.files import check_writable, write_json
    from scoresde.pipelines.devices import choose_device, open_prior
    from scoresde.pipelines.prior_check import look_over

    check_report(page)
    if out is not None:
        check_writable(out.parent)
    opened = open_prior(prior, choose_device(device), precision, average)
    with progress_bar("checking") as progress:
        report = {"prior": prior} | look_over(opened, images=images, seed=seed, progress=progress)
    if out is not None:
        write_json(report, out)
    if page is not None:
        from scoresde.reports import environment, prior_check_page

        write_report(
            prior_check_page(report, typed_command(), environment(opened.device)),
            page,
            silent=as_json,
        )
    if as_json:
        print_json(report)
    else:
        _show(report)
    if report["findings"]:
        raise typer.Exit(_FINDINGS)


_COLUMNS = ("noise", "error", "linear", "slope", "bias", "calibration", "asymmetry", "")


def _show(report: dict[str, Any]) -> None:
    print_table(_COLUMNS, [_cells(row) for row in report["levels"]])
    echo(
        "error, linear: squared error of the prior and of a Wiener filter over that of the noisy "
        "samples\nslope: of the noise on the residual (1 if exact); bias: mean of D - x0 (0)\n"
        "calibration: squared error over s^2 tr J (1); asymmetry of the Jacobian J (0)"
    )
    shape = " x ".join(map(str, report["shape"]))
    echo(f"samples      {report['count']} of {shape}: {report['samples']}")
    for note in report["notes"]:
        echo(f"note         {note}")
    echo(f"sizes        {report['sizes']}")
    memory = report["megabytes"]
    echo(
        f"cost         {report['seconds_per_megapixel']:.3g} s for a megapixel"
        + ("" if memory is None else f"; {memory:.3g} MB with gradients for one sample")
    )
    for finding in report["findings"]:
        echo(f"finding      {finding}")
    if not report["findings"]:
        echo("fine         no findings")


def _cells(row: dict[str, Any]) -> list[str]:
    calibration, asymmetry = row["calibration"], row["asymmetry"]
    return [
        f"{row['s']:.3g}",
        f"{row['error']:.2g}",
        f"{row['linear']:.2g}",
        f"{row['slope']:.3f} ± {row['slope_error']:.3f}",
        f"{row['bias']:.1g} ± {row['bias_error']:.1g}",
        "" if calibration is None else f"{calibration:.2f} ± {row['calibration_error']:.2f}",
        "" if asymmetry is None else f"{asymmetry:.1g}",
        "; ".join(row["words"]),
    ]
