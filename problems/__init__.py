"""Measurements: forward operators, their noise, and the exact linear algebra of inverting them.

The package is independent of any prior.
"""

import problems.examples  # noqa: F401 (registers the examples of composites)
from problems.external import from_deepinv
from problems.linalg.solve import SolveWarning
from problems.linalg.svd import SVD
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
from problems.operators.base import LinearOperator, MissingCapability, Operator, known_operators
from problems.operators.blur import Blur, DiskBlur, GaussianBlur, MotionBlur
from problems.operators.colour import Demosaicing, Grayscale
from problems.operators.compose import compose, stack
from problems.operators.compressed_sensing import CompressedSensing
from problems.operators.decimation import Decimation
from problems.operators.denoising import Denoising
from problems.operators.function import LinearFunction, NonlinearFunction
from problems.operators.inpainting import Inpainting, box_mask, random_mask
from problems.operators.jacobian import Jacobian
from problems.operators.jpeg import JPEG
from problems.operators.matrix import LinearMatrix, SparseMatrix
from problems.operators.mri import MRI, birdcage_maps, cartesian_mask
from problems.operators.phase_retrieval import PhaseRetrieval
from problems.operators.pointwise import Clipping, Gamma, Quantisation
from problems.operators.super_resolution import SuperResolution
from problems.operators.tomography import Tomography, angles_between
from problems.problem import InverseProblem, problem_from
from problems.reading.kernels import read_kernel
from problems.reading.masks import read_mask

__all__ = [
    "JPEG",
    "MRI",
    "SVD",
    "Blur",
    "Clipping",
    "Grayscale",
    "CompressedSensing",
    "CorrelatedNoise",
    "Decimation",
    "Demosaicing",
    "Denoising",
    "DiskBlur",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "Inpainting",
    "InverseProblem",
    "Jacobian",
    "LaplaceNoise",
    "LinearFunction",
    "LinearMatrix",
    "LinearOperator",
    "MissingCapability",
    "MotionBlur",
    "Noise",
    "NonlinearFunction",
    "Operator",
    "PhaseRetrieval",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "Quantisation",
    "SaltAndPepperNoise",
    "SolveWarning",
    "SparseMatrix",
    "SuperResolution",
    "Tomography",
    "UniformNoise",
    "angles_between",
    "birdcage_maps",
    "box_mask",
    "cartesian_mask",
    "compose",
    "from_deepinv",
    "known_operators",
    "problem_from",
    "random_mask",
    "read_kernel",
    "read_mask",
    "stack",
]
