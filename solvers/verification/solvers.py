"""The solvers of the table."""

from solvers.guidance import DPS, LGDMC, MMPS, MPGD, TMPD, PiGDM
from solvers.posterior import (
    DAPS,
    DDNM,
    DDRM,
    SITCOM,
    TDS,
    DiffPIR,
    Guided,
    MCGDiff,
    PosteriorSampler,
    PredictedTwist,
    REDDiff,
    RePaint,
    SecondOrder,
    SplitGibbs,
)
from solvers.samplers import DDIM, Heun

__all__ = ["VERIFIED"]

VERIFIED: dict[str, PosteriorSampler] = {
    "predicted-twist": PredictedTwist(),
    "second-order": SecondOrder(40, lanczos=4, correction=MMPS(iterations=4)),
    "mmps": Guided(MMPS(iterations=4), Heun(64)),
    "mmps-churn": Guided(MMPS(iterations=10), Heun(64, churn=20.0)),
    "tmpd": Guided(TMPD(), DDIM(128, eta=1.0)),
    "pigdm": Guided(PiGDM(), DDIM(128, eta=1.0)),
    "dps": Guided(DPS(), DDIM(256, eta=1.0)),
    "lgd-mc": Guided(LGDMC(), DDIM(128, eta=1.0)),
    "mpgd": Guided(MPGD(), DDIM(128, eta=1.0)),
    "tds": TDS(),
    "mcgdiff": MCGDiff(),
    "split-gibbs": SplitGibbs(),
    "daps": DAPS(steps=50, langevin=50),
    "daps-exact": DAPS(steps=100, inner="exact", r="unit"),
    "diffpir": DiffPIR(100),
    "ddrm": DDRM(),
    "ddnm": DDNM(),
    "repaint": RePaint(),
    "red-diff": REDDiff(),
    "sitcom": SITCOM(),
}
"""With the settings of their papers where these have any, but for DDNM: there ``power`` is 2, see its docstring."""
