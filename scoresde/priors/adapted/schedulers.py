"""Schedulers of diffusers as conventions.

The configuration of a scheduler says what the network predicts and at which noise levels. Settings
of the sampling alone (the number of steps and their spacing, shifts of the steps, solver orders)
do not concern the denoiser.
"""

import math
import warnings
from typing import Any

from scoresde.errors import InputError
from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.schedules import DiscreteSchedule
from scoresde.sde import EDMSDE, FlowMatchingSDE

__all__ = ["scheduler_convention", "scheduler_notes"]

_OF_STEPS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_OF_EDM = {"epsilon": "edm", "v_prediction": "edm_v"}


def scheduler_convention(scheduler: Any) -> Convention:
    """Read the convention of a scheduler of diffusers.

    Args:
        scheduler: The scheduler.

    Returns:
        Prediction, schedule and time label.

    Raises:
        InputError: If the scheduler is of a kind, or has a prediction type, that is not known here.
    """
    config, kind = scheduler.config, type(scheduler).__name__
    prediction = str(config.get("prediction_type", "epsilon"))
    if kind.startswith("FlowMatch") or prediction == "flow_prediction":
        steps = int(config.num_train_timesteps)
        # the shift moves the steps of the sampling; a network is told 1000 t in either case
        return Convention(
            "velocity",
            FlowMatchingSDE(),
            "t",
            time_scale=float(steps),
            trained=(1 / max(steps - 1, 1), math.inf),
        )
    if kind.startswith("EDM"):
        return Convention(
            _known(_OF_EDM, prediction, kind),
            EDMSDE(config.sigma_min, config.sigma_max),
            "edm",
            sigma_data=float(config.sigma_data),
        )
    abar = getattr(scheduler, "alphas_cumprod", None)
    if abar is None or str(config.get("timestep_type", "discrete")) != "discrete":
        raise InputError(
            f"the scheduler {kind} is of a kind that is not known here; known are those of DDPM, "
            "DDIM, PNDM and others with alphas_cumprod, of EDM, and of flow matching. Describe the "
            "network in Python: AdaptedPrior(network, Convention(...), shape)"
        )
    try:
        schedule = DiscreteSchedule.from_alphas_cumprod(abar)
    except ValueError as error:
        raise InputError(f"the noise schedule of the scheduler {kind} is wrong: {error}") from None
    return Convention(_known(_OF_STEPS, prediction, kind), schedule, "index")


def _known(names: dict[str, str], prediction: str, kind: str) -> str:
    if prediction not in names:
        raise InputError(
            f"the scheduler {kind} has prediction_type {prediction!r}; known: {', '.join(names)}"
        )
    return names[prediction]


def scheduler_notes(scheduler: Any) -> list[str]:
    """Say which settings of a scheduler the denoiser does not follow.

    ``clip_sample`` and ``thresholding`` change the estimate of x_0 within the sampler. They are not
    part of the denoiser: E[x_0 | x_t] lies in the range of the data by itself, a clipped estimate
    has no score, and a threshold that depends on the whole picture makes its Jacobian asymmetric.

    Args:
        scheduler: The scheduler.

    Returns:
        One sentence for each such setting. Thresholding is also reported by a warning, because
        samples differ visibly without it.
    """
    notes = []
    if scheduler.config.get("thresholding"):
        notes.append(
            "thresholding (dynamic thresholding of the scheduler) is left out: it is a step of the "
            "sampler and not part of the denoiser"
        )
        warnings.warn(notes[0], UserWarning, stacklevel=3)
    if scheduler.config.get("clip_sample"):
        notes.append(
            "clip_sample is left out: the scheduler clips its estimates of x_0, the denoiser does "
            "not"
        )
    return notes
