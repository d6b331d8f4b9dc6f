"""Is a prior a denoiser, and is it connected in the right way? See :func:`check_prior`."""

from scoresde.evaluation.prior_check.check import FEWEST_SAMPLES, PriorCheck, check_prior
from scoresde.evaluation.prior_check.denoiser import Denoiser, noise_levels
from scoresde.evaluation.prior_check.outputs import OUTPUTS, Output
from scoresde.evaluation.prior_check.schedules import SCHEDULES, Schedule
from scoresde.evaluation.prior_check.verdict import Finding
from scoresde.evaluation.prior_check.wiener import Wiener, linear_denoised

__all__ = [
    "FEWEST_SAMPLES",
    "OUTPUTS",
    "SCHEDULES",
    "Denoiser",
    "Finding",
    "Output",
    "PriorCheck",
    "Schedule",
    "Wiener",
    "check_prior",
    "linear_denoised",
    "noise_levels",
]
