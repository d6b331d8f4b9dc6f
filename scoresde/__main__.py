"""`python -m scoresde`."""

from scoresde.cli.main import main

main()
