"""Noise: the distribution of a measurement y about A x."""

from problems.noise.base import Noise, known_noises
from problems.noise.gaussian import CorrelatedNoise, GaussianNoise
from problems.noise.laplace import LaplaceNoise
from problems.noise.poisson import PoissonGaussianNoise, PoissonNoise
from problems.noise.salt_and_pepper import SaltAndPepperNoise
from problems.noise.uniform import UniformNoise

__all__ = [
    "CorrelatedNoise",
    "GaussianNoise",
    "LaplaceNoise",
    "Noise",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "SaltAndPepperNoise",
    "UniformNoise",
    "known_noises",
]
