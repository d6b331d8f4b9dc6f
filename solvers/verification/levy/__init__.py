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
from solvers.verification.levy.learned import (
    LEARNED,
    QUICK_SOLVERS,
    LearnedSettings,
    learned_prior,
    learned_table,
)
from solvers.verification.levy.markov import MarkovDenoiser
from solvers.verification.levy.problems import MEASUREMENTS, LevyProblem, levy_problem
from solvers.verification.levy.scores import LevyScore, judge, score
from solvers.verification.levy.signals import LAWS, LevyProcess, levy_process
from solvers.verification.levy.smoother import Smoothed, smooth
from solvers.verification.levy.white import WhiteDenoiser
from solvers.verification.levy.wild import WildDraws, wild_draws

__all__ = [
    "LAWS",
    "LEARNED",
    "MEASUREMENTS",
    "QUICK_SOLVERS",
    "BernoulliLaplaceIncrements",
    "GaussianIncrements",
    "GibbsDraws",
    "Increments",
    "LaplaceIncrements",
    "LearnedSettings",
    "LevyProblem",
    "LevyProcess",
    "LevyScore",
    "MarkovDenoiser",
    "Smoothed",
    "StudentIncrements",
    "WhiteDenoiser",
    "WildDraws",
    "gibbs",
    "judge",
    "learned_prior",
    "learned_table",
    "levy_problem",
    "levy_process",
    "score",
    "smooth",
    "wild_draws",
]
