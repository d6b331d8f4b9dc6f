"""``python -m scoresde``."""

from scoresde.cli import main

main()
