"""Networks of others as priors: an adapter, loaders by name, and constructors for modules."""

from scoresde.priors.adapted.constructors import (
    from_azula,
    from_deepinv,
    from_dncnn,
    from_drunet,
    from_edm,
    from_ffdnet_like,
    from_guided_diffusion,
    from_score_sde,
)
from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.denoiser import DenoiserPrior
from scoresde.priors.adapted.exported import load_exported, save_exported
from scoresde.priors.adapted.loading import LOADERS, load_named
from scoresde.priors.adapted.predictions import PREDICTIONS, Prediction
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.priors.adapted.schedules import (
    DiscreteSchedule,
    FunctionSchedule,
    Schedule,
    SDESchedule,
    schedule_from,
    schedule_of,
)
from scoresde.priors.adapted.times import TIMES, Level, TimeLabel
from scoresde.priors.adapted.weights import read_weights

__all__ = [
    "LOADERS",
    "PREDICTIONS",
    "TIMES",
    "AdaptedPrior",
    "Convention",
    "DenoiserPrior",
    "DiscreteSchedule",
    "FunctionSchedule",
    "Level",
    "Prediction",
    "SDESchedule",
    "Schedule",
    "TimeLabel",
    "from_azula",
    "from_deepinv",
    "from_dncnn",
    "from_drunet",
    "from_edm",
    "from_ffdnet_like",
    "from_guided_diffusion",
    "from_score_sde",
    "load_exported",
    "load_named",
    "read_weights",
    "save_exported",
    "schedule_from",
    "schedule_of",
]
