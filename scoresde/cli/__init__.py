"""The `scoresde` command, one module for each of its commands."""

import sys

try:
    from scoresde.cli.app import app
    from scoresde.cli.main import main
except KeyboardInterrupt:  # as main() does, which is not there yet
    sys.stderr.write("scoresde: interrupted\n")
    raise SystemExit(130) from None

__all__ = ["app", "main"]
