"""Measurements: what a camera does to a scene, and the exact linear algebra of undoing it. Independent of any prior."""

from problems.basic import Denoising, Grey, LinearMatrix
from problems.blur import Blur, GaussianBlur, MotionBlur
from problems.inpainting import Inpainting, box_mask, random_mask
from problems.noise import GaussianNoise
from problems.operator import LinearOperator
from problems.problem import InverseProblem
from problems.super_resolution import SuperResolution

__all__ = [
    "Blur", "Denoising", "GaussianBlur", "GaussianNoise", "Grey", "Inpainting", "InverseProblem", "LinearMatrix", "LinearOperator",
    "MotionBlur", "SuperResolution", "box_mask", "random_mask",
]  # fmt: skip
