"""`scoresde ui`."""

import time
from typing import Annotated

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo
from scoresde.cli.options import Prior

__all__ = ["ui"]


@command(
    "scoresde ui",
    "scoresde ui --port 8000 --minutes 5 --max-pixels 500000",
)
def ui(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at. 127.0.0.1 is reached from this machine alone; 0.0.0.0 from "
            "all that can reach it, without a password or encryption."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 7860,
    max_pixels: Annotated[
        int, typer.Option(help="Pixels of a picture, before and after the restoration.", min=1)
    ] = 1_000_000,
    max_megabytes: Annotated[
        float, typer.Option(help="Size of an uploaded file, in megabytes.")
    ] = 20.0,
    max_jobs: Annotated[
        int, typer.Option(help="Pictures that are restored at the same time.", min=1)
    ] = 1,
    minutes: Annotated[
        float, typer.Option(help="Time of a restoration, which ends with the draws made by then.")
    ] = 10.0,
    prior: Prior = "natural",
) -> None:
    """Restore pictures in a browser, on a page that this machine serves.

    Needs the extra `ui`: pip install 'scoresde[ui]'. Ctrl-C ends it.
    """
    from scoresde.ui.limits import Limits
    from scoresde.ui.server import running_page

    limits = Limits(
        pixels=max_pixels, bytes=int(max_megabytes * 1e6), jobs=max_jobs, minutes=minutes
    )
    with running_page(limits, prior, host, port, echo) as address:
        echo(f"open {address} in a browser; Ctrl-C ends it")
        while True:
            time.sleep(3600)
