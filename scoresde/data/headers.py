"""Sizes and colour profiles of pictures from the heads of their files, without decoding them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from problems.reading.pictures import TooManyPixelsError, stored_profile, stored_size
from scoresde.errors import InputError

__all__ = ["check_crop", "colour_profiles", "picture_size", "profile_note"]

_NAMED = 3
"""Pictures that an error names; of the others it gives the number."""


def picture_size(path: Path) -> tuple[int, int]:
    """Read width and height from the head of a picture.

    Args:
        path: Path of the picture.

    Returns:
        Width and height as stored, before the picture is turned upright.

    Raises:
        InputError: If there is no picture, or one of more pixels than are read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from scoresde.data.headers import picture_size
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (7, 5)).save(Path(folder) / "grey.png")
        ...     picture_size(Path(folder) / "grey.png")
        (7, 5)
    """
    try:
        height, width = stored_size(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except TooManyPixelsError as error:
        raise InputError(str(error)) from None
    except Exception:  # the readers of damaged files raise errors of many types
        raise InputError(f"{path} is not a picture that can be read") from None
    return width, height


def check_crop(paths: Sequence[Path], size: int) -> None:
    """Check that crops of a size can be cut from all pictures.

    Only the heads of the files are read.

    Args:
        paths: Paths of the pictures.
        size: Side of the crops, in pixels.

    Raises:
        InputError: If a picture cannot be read or is smaller; the first few are named.
    """
    faults = []
    for path in paths:
        try:
            width, height = picture_size(path)
        except InputError as error:
            faults.append(str(error).partition(";")[0])
            continue
        if min(width, height) < size:
            faults.append(f"{path} is {width}x{height}, smaller than the crop {size}")
    if faults:
        named = "; ".join(faults[:_NAMED])
        rest = len(faults) - _NAMED
        raise InputError(
            f"{len(faults)} of {len(paths)} pictures cannot be used: {named}"
            + (f"; and {rest} more" if rest > 0 else "")
            + "; remove them or use a smaller --crop"
        )


def colour_profiles(paths: Sequence[Path]) -> dict[str, int]:
    """Count the colour profiles of pictures.

    Args:
        paths: Paths of the pictures. A file that cannot be read is left out.

    Returns:
        Number of pictures of each profile by its description, "sRGB" for those without one, the
        most frequent first.
    """
    found: Counter[str] = Counter()
    for path in paths:
        try:
            found[stored_profile(path) or "sRGB"] += 1
        except Exception:  # damaged files are reported where they are read
            continue
    return dict(found.most_common())


def profile_note(profiles: dict[str, int]) -> str | None:
    """Say which colours a prior learns from pictures, where it is not sRGB alone.

    Args:
        profiles: Number of pictures of each profile.

    Returns:
        A sentence, or None.

    Example:
        >>> profile_note({"sRGB": 5}) is None
        True
        >>> profile_note({"Display P3": 5})
        "the prior learns values of the colour profile 'Display P3'"
    """
    if not set(profiles) - {"sRGB"}:
        return None
    if len(profiles) == 1:
        return f"the prior learns values of the colour profile {next(iter(profiles))!r}"
    counted = ", ".join(f"{name} ({count})" for name, count in profiles.items())
    return (
        f"the pictures have several colour profiles: {counted}; the prior learns the values of the "
        "files, as restore keeps them, so convert the pictures to one profile if it is to know one"
    )
