"""Colour profiles (ICC.1): which one holds for a picture, and conversion to sRGB.

A restoration works in the values of the file, since noise, rounding and compression happened to
them, and hands the profile on with the result. Training learns these values, too.
Readers that compare pictures of several files convert to sRGB.
"""

from __future__ import annotations

import io

from PIL import Image, ImageCms

__all__ = ["UNUSABLE", "carried_profile", "is_srgb", "profile_name", "to_srgb"]

UNUSABLE = "its colour profile cannot be used: its colours are read as sRGB"
"""A note on a broken profile."""

_SPACES = {"L": b"GRAY", "RGB": b"RGB "}
_ERRORS = (ImageCms.PyCMSError, OSError, TypeError, ValueError)


def profile_name(profile: bytes) -> str:
    """Read the description of a profile.

    Args:
        profile: The profile.

    Returns:
        Its description, "unnamed" if it has none.

    Raises:
        ValueError: If it is no profile.
    """
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return (ImageCms.getProfileDescription(own) or "").strip() or "unnamed"
    except _ERRORS as error:
        raise ValueError(f"no colour profile: {error}") from None


def is_srgb(name: str) -> bool:
    """Whether a profile of this description is that of sRGB."""
    return "srgb" in name.lower()


def carried_profile(profile: bytes | None, grey: bool) -> tuple[bytes | None, tuple[str, ...]]:
    """Decide whether the values of a picture keep its profile.

    Args:
        profile: Profile of the file, if it has one.
        grey: Whether the picture is grey.

    Returns:
        The profile if it is one of such pictures, and notes for the reader.
    """
    if not profile:
        return None, ()
    try:
        name = profile_name(profile)
    except ValueError:
        return None, (UNUSABLE,)
    if profile[16:20] != _SPACES["L" if grey else "RGB"]:
        return None, () if grey else (UNUSABLE,)
    if grey or is_srgb(name):
        return profile, ()
    return profile, (f"its colours are values of the profile {name!r}, which the results carry",)


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert colours to sRGB, at 8 bits.

    Args:
        image: A picture in colours.
        profile: Its profile, if it has one.

    Returns:
        The picture, unchanged without a profile that differs from sRGB, and notes for the reader.
    """
    if not profile:
        return image, ()
    try:
        name = profile_name(profile)
        if is_srgb(name):
            return image, ()
        plain = image if image.mode in ("RGB", "CMYK", "LAB") else image.convert("RGB")
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            plain, own, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except _ERRORS:
        return image, (UNUSABLE,)
    assert converted is not None  # only in-place conversion returns None
    return converted, (f"its colours are converted from the profile {name!r} to sRGB",)
