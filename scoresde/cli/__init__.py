"""The ``scoresde`` command."""

from scoresde.cli.main import app, main

__all__ = ["app", "main"]
