"""The five problems of the restoration benchmarks.

This module imports names of ``problems`` that the package has always had, so that an older commit
can be measured with it.
"""

import torch

from problems import (
    GaussianBlur,
    Inpainting,
    LinearOperator,
    MotionBlur,
    SuperResolution,
    box_mask,
    random_mask,
)

__all__ = ["PROBLEMS", "SIDE", "SIGMA", "operators"]

SIDE, SIGMA = 160, 0.05
PROBLEMS = ("random 70 %", "box 40×40", "Gaussian blur 1.6", "motion blur 15", "×4 bicubic")


def operators(index: int, side: int = SIDE) -> dict[str, LinearOperator]:
    """The five problems for pictures of side x side; each has its own random mask and box."""
    g = torch.Generator().manual_seed(1000 + index)
    top, left = (int(torch.randint(20, side - 60, (), generator=g)) for _ in range(2))
    return {
        "random 70 %": Inpainting(random_mask(side, side, 0.7, g)),
        "box 40×40": Inpainting(box_mask(side, side, top, left, 40, 40)),
        "Gaussian blur 1.6": GaussianBlur(1.6),
        "motion blur 15": MotionBlur(15, 30.0),
        "×4 bicubic": SuperResolution(4),
    }
