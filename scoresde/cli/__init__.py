"""The `scoresde` command, one module for each of its commands."""

from scoresde.cli.app import app
from scoresde.cli.main import main

__all__ = ["app", "main"]
