"""Log-likelihoods by the probability-flow ODE, and the variational bound, with error bars."""

from solvers.likelihood.bits import BitsPerDim, bits_per_dim
from solvers.likelihood.bound import LowerBound, elbo
from solvers.likelihood.exact import LogLikelihood, log_likelihood
from solvers.likelihood.reference import GaussianReference

__all__ = [
    "BitsPerDim",
    "GaussianReference",
    "LogLikelihood",
    "LowerBound",
    "bits_per_dim",
    "elbo",
    "log_likelihood",
]
