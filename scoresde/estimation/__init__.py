"""Settings of a problem, estimated from its measurement: noise, photons, numbers of an operator."""

from scoresde.estimation.family import Parameter
from scoresde.estimation.noise_level import NoiseEstimate, estimate_noise
from scoresde.estimation.parameters import OutOfRange, ParameterEstimate, estimate_parameters
from scoresde.estimation.photons import PhotonEstimate, estimate_photons

__all__ = [
    "NoiseEstimate",
    "OutOfRange",
    "Parameter",
    "ParameterEstimate",
    "PhotonEstimate",
    "estimate_noise",
    "estimate_parameters",
    "estimate_photons",
]
