"""Noise: the distribution of a measurement y about A x."""

from problems.noise.base import Noise, known_noises
from problems.noise.gaussian import CorrelatedNoise, GaussianNoise
from problems.noise.laplace import LaplaceNoise
from problems.noise.log_counts import LogCountNoise
from problems.noise.photons import CountNoise, LogPoissonNoise
from problems.noise.poisson import PoissonGaussianNoise, PoissonNoise
from problems.noise.rician import RicianNoise
from problems.noise.salt_and_pepper import SaltAndPepperNoise
from problems.noise.speckle import SpeckleNoise
from problems.noise.uniform import UniformNoise

__all__ = [
    "CorrelatedNoise",
    "CountNoise",
    "GaussianNoise",
    "LaplaceNoise",
    "LogCountNoise",
    "LogPoissonNoise",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "RicianNoise",
    "SaltAndPepperNoise",
    "SpeckleNoise",
    "UniformNoise",
    "known_noises",
]
