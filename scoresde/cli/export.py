"""`scoresde export`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json
from scoresde.cli.names import completed
from scoresde.cli.options import Average, Json

__all__ = ["export"]


@command(
    "scoresde export mnist out/mnist --to onnx",
    "scoresde export natural out/natural --to diffusers",
)
def export(
    prior: Annotated[
        str,
        typer.Argument(
            help="An embedded prior, the path of a .safetensors file, diffusers:FOLDER_OR_ID, "
            "or torch-export:FILE.",
            autocompletion=completed("priors"),
        ),
    ],
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder to write; an earlier export in it is replaced."),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="diffusers (a folder for DDPMPipeline.from_pretrained), torch-export (a program "
            "of torch) or onnx (a file for onnxruntime).",
            autocompletion=completed("exports"),
        ),
    ],
    average: Average = None,
    as_json: Json = False,
) -> None:
    """Write a prior so that others can load it, and check what was written against it."""
    from scoresde.errors import InputError
    from scoresde.pipelines.devices import choose_device, open_prior
    from scoresde.priors.export import FORMATS, export_prior

    if to not in FORMATS:
        raise InputError(f"--to is {', '.join(FORMATS)}, got {to!r}")
    opened = open_prior(prior, choose_device("cpu"), "fp32", average)
    written = export_prior(opened, to, folder, name=prior)
    if as_json:
        report = {"format": "scoresde.export-report/1", "prior": prior, "to": to}
        print_json(report | asdict(written) | {"folder": str(folder)})
        return
    echo(f"folder       {written.folder}: {', '.join(written.files)}")
    echo(f"sizes        {written.sizes}")
    echo(
        f"difference   {written.difference:.2g} at most from the prior; rounding explains "
        f"{written.tolerance:.2g}"
    )
