"""Measurements: what a camera does to a scene, and the exact linear algebra of undoing it. Independent of any prior."""

from problems.blur import Blur, DiskBlur, GaussianBlur, MotionBlur
from problems.colour import Colourisation, Demosaicing
from problems.compose import compose, stack
from problems.compressed_sensing import CompressedSensing
from problems.decimation import Decimation
from problems.denoising import Denoising
from problems.external import from_deepinv, read_kernel, read_mask
from problems.function import LinearFunction, NonlinearFunction
from problems.inpainting import Inpainting, box_mask, random_mask
from problems.jpeg import JPEG
from problems.linalg import SolveWarning
from problems.matrix import LinearMatrix
from problems.mri import MRI, birdcage_maps, cartesian_mask
from problems.noise import (
    CorrelatedNoise,
    GaussianNoise,
    LaplaceNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    SaltAndPepperNoise,
    UniformNoise,
)
from problems.operator import LinearOperator, MissingCapability, Operator, operators
from problems.phase_retrieval import PhaseRetrieval
from problems.pointwise import Clipping, Gamma, Quantisation
from problems.problem import InverseProblem, problem_from
from problems.super_resolution import SuperResolution
from problems.svd import SVD
from problems.tomography import Tomography, angles_between

__all__ = [
    "JPEG", "MRI", "SVD", "Blur", "Clipping", "Colourisation", "CompressedSensing", "CorrelatedNoise", "Decimation", "Demosaicing",
    "Denoising", "DiskBlur", "Gamma", "GaussianBlur", "GaussianNoise", "Inpainting", "InverseProblem", "LaplaceNoise", "LinearFunction",
    "LinearMatrix", "LinearOperator", "MissingCapability", "MotionBlur", "Noise", "NonlinearFunction", "Operator", "PhaseRetrieval",
    "PoissonGaussianNoise", "PoissonNoise", "Quantisation", "SaltAndPepperNoise", "SolveWarning", "SuperResolution", "Tomography",
    "UniformNoise", "angles_between", "birdcage_maps", "box_mask", "cartesian_mask", "compose", "from_deepinv", "operators",
    "problem_from", "random_mask", "read_kernel", "read_mask", "stack",
]  # fmt: skip
