"""Every solver against posteriors whose exact law is known: what ``scoresde verify`` shows."""

from scoresde.priors.shared_mixture import SharedMixturePrior
from solvers.verification.metrics import Verdict, interval_coverage, verdict_row, verify
from solvers.verification.problems import EXACT_PROBLEMS, FULL_PROBLEMS, ExactProblem, exact_problem
from solvers.verification.processes import processors
from solvers.verification.reference import ExactReference, reference, sliced_wasserstein
from solvers.verification.sbc import Ranks, ranks
from solvers.verification.solvers import VERIFIED
from solvers.verification.table import RANKED, table

__all__ = [
    "RANKED", "EXACT_PROBLEMS", "FULL_PROBLEMS", "VERIFIED", "ExactProblem", "Ranks", "ExactReference", "SharedMixturePrior",
    "Verdict", "interval_coverage", "exact_problem", "processors", "ranks", "reference", "sliced_wasserstein", "table", "verdict_row", "verify",
]  # fmt: skip
