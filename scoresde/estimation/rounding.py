"""Numbers in reports, with the digits that mean something."""

from collections.abc import Iterable

__all__ = ["rounded"]


def rounded(values: Iterable[float], digits: int) -> list[float]:
    """Round numbers to significant digits.

    Args:
        values: Numbers.
        digits: Digits that are kept of each.

    Returns:
        The rounded numbers.

    Example:
        >>> rounded([0.012345, 678.9], 3)
        [0.0123, 679.0]
    """
    return [float(f"{one:.{digits}g}") for one in values]
