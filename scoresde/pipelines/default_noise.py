"""The noise level that is assumed where none is given."""

import math

from problems import JPEG, Operator, Quantisation

__all__ = ["SIMULATED", "default_sigma"]

SIMULATED, MEASURED = 0.05, 0.02
"""Defaults on [-1, 1] for pictures that are measured here, and for those that are given."""

# Rounding to steps of q has the standard deviation q / sqrt(12). Solvers follow a slope through the
# staircase, and get lost between stairs if the noise is stated much lower than this.
_STEPS = 0.35

# Variance of the DCT coefficient (u, v) of photographs, in grey levels squared, fitted to the
# luma of 20 photographs: C / (u^2 + v^2)^P. JPEG loses no more of a coefficient than it had.
_C, _P = 10_485.0, 1.25


def default_sigma(operator: Operator, simulate: bool) -> float:
    """Choose the noise level of a measurement that does not state one.

    Args:
        operator: How the picture is measured.
        simulate: Whether the measurement is made here.

    Returns:
        A standard deviation on [-1, 1]. For operators that round, the size of their rounding.

    Example:
        >>> from problems import JPEG, Denoising, Quantisation
        >>> default_sigma(Denoising(), simulate=False), default_sigma(Quantisation(8), False)
        (0.02, 0.1)
        >>> default_sigma(JPEG(10), False), default_sigma(JPEG(90), False)
        (0.11, 0.03)
    """
    if isinstance(operator, Quantisation):
        return round(_STEPS * 2 / (operator.levels - 1), 4)
    if isinstance(operator, JPEG):
        return float(f"{_jpeg_error(operator):.2g}")
    if operator.quantises:
        return 0.1
    return SIMULATED if simulate else MEASURED


def _jpeg_error(operator: JPEG) -> float:
    """Root mean square of what the quantisation of the luma changes, on [-1, 1]."""
    lost = 0.0
    for place, step in enumerate(operator.luma_table):
        frequency = math.hypot(*divmod(place, 8))
        own = _C / frequency ** (2 * _P) if place else math.inf
        lost += min(step**2 / 12, own)
    return math.sqrt(lost / 64) / 127.5
