"""Comparison of solvers with exact posteriors, as shown by ``scoresde verify``."""

from scoresde.priors.shared_mixture import SharedMixturePrior
from solvers.verification.metrics import Verdict, interval_coverage, verdict_row, verify
from solvers.verification.problems import EXACT_PROBLEMS, FULL_PROBLEMS, ExactProblem, exact_problem
from solvers.verification.processes import processors
from solvers.verification.reference import ExactReference, reference, sliced_wasserstein
from solvers.verification.sbc import Ranks, ranks
from solvers.verification.solvers import VERIFIED
from solvers.verification.table import RANKED, table, table_row

__all__ = [
    "EXACT_PROBLEMS",
    "FULL_PROBLEMS",
    "RANKED",
    "VERIFIED",
    "ExactProblem",
    "ExactReference",
    "Ranks",
    "SharedMixturePrior",
    "Verdict",
    "exact_problem",
    "interval_coverage",
    "processors",
    "ranks",
    "reference",
    "sliced_wasserstein",
    "table",
    "table_row",
    "verdict_row",
    "verify",
]
