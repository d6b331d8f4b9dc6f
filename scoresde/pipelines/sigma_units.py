"""The noise level in the values of the file, and results in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from problems.checks import check_choice
from scoresde.errors import InputError, as_input_error
from scoresde.pipelines.inputs import Input
from scoresde.pipelines.settings import RestoreOptions

__all__ = ["in_picture_units", "known_sigma", "stds_in_file_values"]

_UNITS = ("picture", "file")


def known_sigma(options: RestoreOptions) -> float | None:
    """Tell the noise level on [-1, 1], if it is known before the file is read.

    Args:
        options: How the file is restored.

    Returns:
        The standard deviation; None if it was not stated, or in the units of the file.

    Raises:
        InputError: If the units are unknown, or were given without a number.
    """
    with as_input_error():
        check_choice("unit of sigma", options.sigma_units, _UNITS)
    if options.sigma_units == "picture":
        return options.stated_sigma
    if options.stated_sigma is None:
        raise InputError("--sigma-units file does nothing without a number; say --sigma NUMBER")
    return None


def in_picture_units(options: RestoreOptions, given: Input) -> RestoreOptions:
    """State the noise level on [-1, 1].

    Args:
        options: How the file is restored.
        given: The file.

    Returns:
        The options, with `sigma` on [-1, 1].

    Raises:
        InputError: If the file has no black and white.
    """
    if options.sigma_units == "picture" or options.stated_sigma is None:
        return options
    if not given.has_range:
        raise InputError(
            "--sigma-units file does nothing here: the values of this measurement have the units "
            "of pictures on [-1, 1]"
        )
    width = given.range.high - given.range.low
    return replace(options, sigma=2 * options.stated_sigma / width, sigma_units="picture")


def stds_in_file_values(given: Input, **numbers: float | None) -> dict[str, Any] | None:
    """State standard deviations in the values of the file.

    Args:
        given: The file.
        **numbers: Standard deviations on [-1, 1] by name.

    Returns:
        The numbers, and the unit if the file states it; None where there is no black and white.
    """
    if not given.has_range:
        return None
    half = (given.range.high - given.range.low) / 2
    scaled = {name: None if one is None else half * one for name, one in numbers.items()}
    return {"units": given.units, **scaled}
