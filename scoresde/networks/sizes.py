"""Sizes of networks: whole numbers that are not absurd, so that nothing is allocated for a typo."""

from problems.checks import check_number

__all__ = ["LARGEST", "whole_size"]

LARGEST = 1 << 16
"""Largest number of channels, features or entries of a layer."""


def whole_size(value: object, name: str, least: int = 1, most: int = LARGEST) -> int:
    """Check a size.

    Args:
        value: The size.
        name: Name of the size in the message.
        least: Smallest size.
        most: Largest size.

    Returns:
        The size as a plain int.

    Raises:
        ValueError: If it is no whole number between ``least`` and ``most``.

    Example:
        >>> whole_size(48, "a width")
        48
    """
    return int(check_number(value, name, least=least, most=most, whole=True))
