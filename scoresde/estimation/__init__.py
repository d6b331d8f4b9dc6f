"""Settings of a problem, estimated from its measurement: the level of the noise."""

from scoresde.estimation.noise_level import NoiseEstimate, estimate_noise

__all__ = ["NoiseEstimate", "estimate_noise"]
