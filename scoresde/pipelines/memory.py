"""How much memory a likelihood or a draw takes, from what a network keeps for its derivative.

What a network keeps is counted on two small pictures. With p pixels it is :math:`a p + b p^2`,
where the square comes from attention.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scoresde.errors import InputError
from scoresde.memory import available_bytes
from scoresde.priors.base import Prior

__all__ = ["Footprint", "check_draws", "fitting_batch"]

_SIDES = (32, 64)

_EVALUATION, _PRODUCT = 6.0, 0.6
"""Memory of an evaluation, and of the products with one probe, over what the network keeps.

By the peak memory of a process on a CPU (both embedded priors, pictures of 28 to 256 pixels, 1 to
16 probes): at most 5.6 and 0.5 times of what the network keeps.
"""

_DRAW = 0.5
"""Memory of an evaluation without derivatives, over what the network would keep: at most 0.36."""

_NUMBERS = 10
"""Pictures in single precision that a sampler or a dequantisation holds for each draw."""

_SCRATCH = 200e6
"""Bytes that the first evaluation takes for any picture: at most 100 MB as measured."""


@dataclass(frozen=True)
class Footprint:
    """Bytes that a network keeps for its derivative, for one picture.

    Args:
        linear: Bytes for each pixel.
        square: Bytes for each pair of pixels, of attention.
    """

    linear: float
    square: float

    @classmethod
    def of(cls, prior: Prior) -> "Footprint":
        """Count what is kept for two small pictures.

        Args:
            prior: Prior of pictures of any size.

        Returns:
            The footprint.
        """
        p, q = (side * side for side in _SIDES)
        kept_p, kept_q = (_kept(prior, side) for side in _SIDES)
        square = max(0.0, (kept_q / q - kept_p / p) / (q - p))
        return cls(kept_p / p - square * p, square)

    def bytes(self, pixels: int) -> float:
        """Extrapolate to a picture.

        Args:
            pixels: Height times width.

        Returns:
            Bytes.
        """
        return self.linear * pixels + self.square * pixels**2


def _kept(prior: Prior, side: int) -> int:
    """Bytes that autograd keeps of one evaluation."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {tensor.untyped_storage().data_ptr() for tensor in prior.parameters()}
    x = torch.zeros(1, prior.shape[0], side, side, dtype=prior.dtype, device=prior.device)
    t = 0.5 * (prior.sde.t_min + prior.sde.t_max)
    with (
        torch.enable_grad(),
        # the kind of attention that a likelihood uses
        sdpa_kernel(SDPBackend.MATH),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept),
    ):
        D = prior.denoise(x.requires_grad_(), t)
        del D
    return sum(size for place, size in sizes.items() if place not in weights)


def check_draws(prior: Prior, shape: tuple[int, ...], n: int) -> None:
    """Check that draws fit the memory, before any is made.

    Args:
        prior: Prior of pictures.
        shape: Shape of a draw (C, H, W).
        n: Number of draws, which are made together.

    Raises:
        InputError: If they do not fit.
    """
    available = max(0.0, available_bytes(prior.device) - _SCRATCH)
    pixels = shape[-2] * shape[-1]
    # without derivatives attention never holds a number for each pair of pixels
    one = _DRAW * Footprint.of(prior.precise()).linear * pixels + 4 * _NUMBERS * math.prod(shape)
    if n * one > available:
        fitting = int(available / one)
        raise InputError(
            f"{n} draws of {shape[-1]}x{shape[-2]} take about {n * one / 1e9:.3g} GB of memory, "
            f"and {available / 1e9:.3g} GB are free; "
            + (f"lower --n to {fitting}" if fitting else "lower --size")
        )


def fitting_batch(
    prior: Prior, shape: tuple[int, ...], batch: int, probes: int | None, k: int = 1
) -> int:
    """Lower a batch until its likelihood fits the memory.

    Args:
        prior: Prior of pictures.
        shape: Shape of a picture (C, H, W).
        batch: Pictures at a time, as wished.
        probes: Random probes of each picture; None for the exact trace, which takes its products in
            chunks.
        k: Dequantisations of each picture, all of which are held at once.

    Returns:
        Pictures at a time, from 1 to batch.

    Raises:
        InputError: If a single picture does not fit.
    """
    available = max(0.0, available_bytes(prior.device) - _SCRATCH)
    kept = Footprint.of(prior.precise()).bytes(shape[-2] * shape[-1])
    # the exact trace takes as many products at once as have 2^17 numbers
    products = probes if probes is not None else max(1.0, 2**17 / (batch * math.prod(shape)))
    one = (_EVALUATION + _PRODUCT * products) * kept + 4 * _NUMBERS * k * math.prod(shape)
    if one > available:
        remedy = "smaller pictures, such as crops"
        if k > 1 or (probes or 0) > 1:
            remedy += ", or lower --k" if k > 1 else ", or lower --probes"
        raise InputError(
            f"the likelihood of a picture of {shape[-1]}x{shape[-2]} takes about "
            f"{one / 1e9:.3g} GB of memory, and {available / 1e9:.3g} GB are free; give {remedy}"
        )
    return max(1, min(batch, int(available / one)))
