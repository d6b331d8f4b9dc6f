"""Self-contained HTML pages that show a result, say what its numbers mean, and how to repeat it.

A page is one file: pictures, styles and scripts are in it, and it never opens a connection.
"""

from scoresde.reports.audit import audit_page
from scoresde.reports.calibration import calibration_page
from scoresde.reports.comparison import comparison_page
from scoresde.reports.environment import environment, peak_memory
from scoresde.reports.likelihoods import likelihood_page
from scoresde.reports.page import write_page
from scoresde.reports.prior_check import prior_check_page
from scoresde.reports.prior_note import PriorNote, prior_note
from scoresde.reports.restoration import RestorationPage, restoration_page
from scoresde.reports.restoration_views import RestorationPictures
from scoresde.reports.training import read_log, training_page
from scoresde.reports.verification import learned_verification_page, verification_page

__all__ = [
    "PriorNote",
    "RestorationPage",
    "RestorationPictures",
    "audit_page",
    "calibration_page",
    "comparison_page",
    "environment",
    "learned_verification_page",
    "likelihood_page",
    "peak_memory",
    "prior_check_page",
    "prior_note",
    "read_log",
    "restoration_page",
    "training_page",
    "verification_page",
    "write_page",
]
