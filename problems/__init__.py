"""Measurements: forward operators, their noise, and the exact linear algebra of inverting them.

The package is independent of any prior.
"""

import problems.examples  # noqa: F401 (registers the examples of composites)
from problems.external import from_deepinv, noise_from_deepinv, problem_from_deepinv
from problems.linalg.solve import SolveWarning
from problems.linalg.svd import SVD
from problems.logarithm import take_logarithm
from problems.noise import (
    CorrelatedNoise,
    CountNoise,
    GaussianNoise,
    LaplaceNoise,
    LogCountNoise,
    LogPoissonNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    SaltAndPepperNoise,
    SpeckleNoise,
    UniformNoise,
)
from problems.operators.base import LinearOperator, MissingCapability, Operator, known_operators
from problems.operators.beams import FanBeam, ParallelBeam
from problems.operators.blur import Blur, DiskBlur, GaussianBlur, MotionBlur
from problems.operators.coils import (
    channels_of,
    coil_covariance,
    complex_of,
    espirit_maps,
    magnitude,
    prewhiten,
    root_sum_of_squares,
)
from problems.operators.colour import Demosaicing, Grayscale
from problems.operators.compose import compose, stack
from problems.operators.compressed_sensing import CompressedSensing
from problems.operators.decimation import Decimation
from problems.operators.denoising import Denoising
from problems.operators.fienup import hybrid_input_output
from problems.operators.function import LinearFunction, NonlinearFunction
from problems.operators.inpainting import Inpainting, box_mask, random_mask
from problems.operators.jacobian import Jacobian
from problems.operators.jpeg import JPEG
from problems.operators.matrix import LinearMatrix, SparseMatrix
from problems.operators.microscope import MicroscopeBlur
from problems.operators.mri import MRI, birdcage_maps, cartesian_mask
from problems.operators.non_cartesian import NonCartesianMRI, radial_trajectory
from problems.operators.optics import DiffractionBlur, zernike
from problems.operators.phase_retrieval import PhaseRetrieval
from problems.operators.pointwise import Clipping, Gamma, Quantisation
from problems.operators.super_resolution import SuperResolution
from problems.operators.tomography import Tomography, angles_between
from problems.operators.transmission import (
    Transmission,
    attenuation_of,
    hounsfield_of,
    line_integrals,
)
from problems.operators.varying_blur import VaryingBlur, bilinear_weights
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
    "CountNoise",
    "Decimation",
    "Demosaicing",
    "Denoising",
    "DiffractionBlur",
    "DiskBlur",
    "FanBeam",
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
    "LogCountNoise",
    "LogPoissonNoise",
    "MicroscopeBlur",
    "MissingCapability",
    "MotionBlur",
    "Noise",
    "NonCartesianMRI",
    "NonlinearFunction",
    "Operator",
    "ParallelBeam",
    "PhaseRetrieval",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "Quantisation",
    "RicianNoise",
    "SaltAndPepperNoise",
    "SolveWarning",
    "SparseMatrix",
    "SpeckleNoise",
    "SuperResolution",
    "Tomography",
    "Transmission",
    "UniformNoise",
    "VaryingBlur",
    "angles_between",
    "attenuation_of",
    "bilinear_weights",
    "birdcage_maps",
    "box_mask",
    "cartesian_mask",
    "channels_of",
    "coil_covariance",
    "complex_of",
    "compose",
    "espirit_maps",
    "from_deepinv",
    "hounsfield_of",
    "hybrid_input_output",
    "known_operators",
    "line_integrals",
    "magnitude",
    "noise_from_deepinv",
    "prewhiten",
    "problem_from",
    "problem_from_deepinv",
    "radial_trajectory",
    "random_mask",
    "read_kernel",
    "read_mask",
    "root_sum_of_squares",
    "stack",
    "take_logarithm",
    "zernike",
]
