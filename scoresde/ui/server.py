"""Serve the page on this machine, without a word to any other."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scoresde.errors import InputError
from scoresde.ui.jobs import Workers
from scoresde.ui.limits import Limits

__all__ = ["LOCAL", "check_gradio", "running_page"]

LOCAL = "127.0.0.1"
"""Address that only this machine reaches."""


def check_gradio() -> None:
    """Import Gradio, with its reports to its makers turned off.

    Raises:
        InputError: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"the page needs Gradio ({error}); install it by: pip install 'scoresde[ui]'"
        ) from None


@contextmanager
def running_page(
    limits: Limits,
    prior: str = "natural",
    host: str = LOCAL,
    port: int = 7860,
    say: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Serve the page until the block ends.

    Args:
        limits: What a visitor may ask for.
        prior: Name of the prior that is chosen at first.
        host: Address to listen at.
        port: Port to listen at; 0 for a free one.
        say: Called with a line on what is done.

    Yields:
        The address of the page.

    Raises:
        InputError: If Gradio is not installed, or the port cannot be used.
    """
    check_gradio()
    folder = Path(tempfile.mkdtemp(prefix="scoresde-ui-"))
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "cache")
    try:
        if say:
            say("loading the weights ...")
        with Workers(limits, prior) as workers:
            # Gradio reads the environment when it is imported
            from scoresde.ui.page import CSS, JS, THEME, build_page

            page = build_page(workers, folder)
            page.queue(max_size=limits.waiting, default_concurrency_limit=8, api_open=False)
            try:
                _, address, _ = page.launch(
                    server_name=host,
                    server_port=port or _free_port(host),
                    share=False,
                    prevent_thread_lock=True,
                    quiet=True,
                    footer_links=[],
                    max_file_size=limits.bytes,
                    enable_monitoring=False,
                    ssr_mode=False,
                    mcp_server=False,
                    pwa=False,
                    run_history=False,
                    show_error=False,
                    theme=THEME,
                    css=CSS,
                    js=JS,
                )
            except OSError as error:
                raise InputError(f"cannot listen at {host}:{port}: {error}") from None
            try:
                yield address
            finally:
                page.close(verbose=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port(host: str) -> int:
    import socket

    with socket.socket() as one:
        one.bind((host, 0))
        port: int = one.getsockname()[1]
        return port
