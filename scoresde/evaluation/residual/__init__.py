"""Whether a measurement can be what it is said to be: its residual after a restoration."""

from scoresde.evaluation.residual.check import Finding, ResidualCheck, check_residual

__all__ = ["Finding", "ResidualCheck", "check_residual"]
