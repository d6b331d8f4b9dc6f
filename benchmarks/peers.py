"""Packages that the benchmarks compare with, where they are installed."""

import importlib
from types import ModuleType

__all__ = ["optional", "skip"]


def skip(name: str, reason: object, remedy: str) -> None:
    """Say in one line that a peer is left out, and how to get it."""
    print(f"{name} is skipped ({reason}); to include it: {remedy}", flush=True)


def optional(name: str, remedy: str) -> ModuleType | None:
    """Import a module; if that fails, say so in one line and return None."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        skip(name.split(".")[0], error, remedy)
        return None
