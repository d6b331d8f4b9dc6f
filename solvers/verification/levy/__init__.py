"""Sums of independent increments: signals with exact posteriors that are not Gaussian mixtures.

The signals, the measurements and the Gibbs samplers are those of the benchmark of Zach, Haouchat
and Unser for posterior samplers, at a scale and with operators of our own.
"""

from solvers.verification.levy.gibbs import GibbsDraws, gibbs
from solvers.verification.levy.increments import (
    BernoulliLaplaceIncrements,
    GaussianIncrements,
    Increments,
    LaplaceIncrements,
    StudentIncrements,
)
from solvers.verification.levy.markov import MarkovDenoiser
from solvers.verification.levy.problems import MEASUREMENTS, LevyProblem, levy_problem
from solvers.verification.levy.scores import LevyScore, judge, score
from solvers.verification.levy.signals import LAWS, LevyProcess, levy_process
from solvers.verification.levy.smoother import Smoothed, smooth

__all__ = [
    "LAWS",
    "MEASUREMENTS",
    "BernoulliLaplaceIncrements",
    "GaussianIncrements",
    "GibbsDraws",
    "Increments",
    "LaplaceIncrements",
    "LevyProblem",
    "LevyProcess",
    "LevyScore",
    "MarkovDenoiser",
    "Smoothed",
    "StudentIncrements",
    "gibbs",
    "judge",
    "levy_problem",
    "levy_process",
    "score",
    "smooth",
]
