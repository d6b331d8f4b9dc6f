"""Can a solver be trusted with a prior and a problem? Statistics of draws from the prior.

They are measured and restored by :func:`scoresde.pipelines.audit.audit`.
"""

from scoresde.evaluation.audit.decision import FALSE_ALARM, AuditReport, Row, bins_of, decide, holm
from scoresde.evaluation.audit.functions import TestFunctions, residual_squares
from scoresde.evaluation.audit.statistics import (
    LEVELS,
    RunStatistics,
    covered,
    ranks,
    run_statistics,
)

__all__ = [
    "FALSE_ALARM",
    "LEVELS",
    "AuditReport",
    "Row",
    "RunStatistics",
    "TestFunctions",
    "bins_of",
    "covered",
    "decide",
    "holm",
    "ranks",
    "residual_squares",
    "run_statistics",
]
