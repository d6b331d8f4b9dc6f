"""The command and the Python that repeat what the page did."""

import re
from dataclasses import replace
from pathlib import Path

from scoresde.pipelines.repeat import RestoreCall
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions

__all__ = ["MASK", "OUT", "named_call", "safe_name"]

MASK = "mask.png"
"""Name of the painted mask among the files that are given out."""

OUT = "restored"
"""Folder of the results, in the command."""

_LONGEST = 60  # characters of a name


def safe_name(name: str) -> str:
    """Make a file name of letters, digits, dots, dashes and underscores.

    Args:
        name: A name as a visitor's browser sent it.

    Returns:
        The name, which is never empty and begins with a letter or a digit.

    Example:
        >>> safe_name("../my photo;rm -rf.JPG"), safe_name("写真.png"), safe_name("mask.png")
        ('my_photo_rm_-rf.JPG', 'picture.png', 'picture_mask.png')
    """
    path = Path(name.replace("\\", "/").rpartition("/")[2])
    stem, suffix = (re.sub(r"[^A-Za-z0-9_-]+", "_", part) for part in (path.stem, path.suffix[1:]))
    stem = stem.strip("_-")[:_LONGEST] or "picture"
    whole = f"{stem}.{suffix}" if suffix else stem
    return f"picture_{whole}" if whole.lower() in (MASK, OUT) else whole


def named_call(
    picture: str, problem: ProblemOptions, options: RestoreOptions, simulate: bool
) -> RestoreCall:
    """Describe a restoration by the names that its files have for the visitor.

    Args:
        picture: Name of the picture.
        problem: How it was measured.
        options: How it is restored.
        simulate: Whether it is damaged first.

    Returns:
        The call, which repeats the restoration in a folder that holds the picture and the mask.
    """
    if problem.mask is not None:
        problem = replace(problem, mask=Path(MASK))
    return RestoreCall(Path(picture), problem, options, Path(OUT), simulate)
