"""Settings of a problem, estimated from its measurement: noise level, parameters of an operator."""

from scoresde.estimation.family import Parameter
from scoresde.estimation.noise_level import NoiseEstimate, estimate_noise
from scoresde.estimation.parameters import OutOfRange, ParameterEstimate, estimate_parameters

__all__ = [
    "NoiseEstimate",
    "OutOfRange",
    "Parameter",
    "ParameterEstimate",
    "estimate_noise",
    "estimate_parameters",
]
