r"""Priors as folders of diffusers that ``DDPMPipeline.from_pretrained`` loads and samples from.

The network of the pipeline is a class of its own, ``unet/scoresde_denoiser.py``: it runs the graph
of D(x, sigma) in ``unet/denoiser.pt2`` and returns the noise that the scheduler asks for,

.. math:: \hat\varepsilon = (x_t - \alpha_t D(x_t/\alpha_t, \sigma_t/\alpha_t)) / \sigma_t .

The class needs torch and diffusers alone. The scheduler is that of DDPM with 1000 noise levels,
spaced as Karras et al. (2022) do (rho = 7) between the smallest and the largest of the training.
"""

from importlib import resources
from pathlib import Path
from typing import Any

from scoresde.errors import InputError
from scoresde.files import write_json
from scoresde.priors.adapted.diffusers import OWN_NETWORK
from scoresde.priors.base import Prior
from scoresde.priors.export.agreement import Agreement
from scoresde.priors.export.denoiser import TracedDenoiser, trained_levels
from scoresde.priors.export.program import PROGRAM, check_program, write_program

__all__ = ["check_pipeline", "noise_rates", "pipeline_levels", "write_pipeline"]

_STEPS, _RHO = 1000, 7.0
_SMALLEST, _LARGEST = 2e-3, 80.0  # within float32, in which the scheduler keeps alpha^2
_VERSION = "0.37.1"  # of diffusers, in whose layout the folder is


def noise_rates(low: float, high: float) -> list[float]:
    """Compute the noise rates of a variance-preserving schedule between two noise levels.

    Args:
        low: Noise-to-signal ratio of the first step, above 0.
        high: That of the last step.

    Returns:
        The betas of 1000 steps.

    Example:
        >>> from scoresde.priors.adapted import DiscreteSchedule
        >>> from scoresde.priors.export.pipeline import noise_rates
        >>> [round(s, 6) for s in DiscreteSchedule.from_betas(noise_rates(0.002, 80.0)).ends]
        [0.002, 80.0]
    """
    first, last = low ** (1 / _RHO), high ** (1 / _RHO)
    s2 = [(first + i / (_STEPS - 1) * (last - first)) ** (2 * _RHO) for i in range(_STEPS)]
    # 1 - abar_i / abar_(i-1) with abar = 1 / (1 + s^2), without cancellation
    return [(b - a) / (1 + b) for a, b in zip([0.0, *s2[:-1]], s2, strict=True)]


def pipeline_levels(prior: Prior) -> tuple[float, float]:
    """Choose the smallest and the largest noise level of a pipeline.

    Args:
        prior: The prior.

    Returns:
        Those of the training, within 0.002 and 80.
    """
    low, high = trained_levels(prior)
    return max(low, _SMALLEST), min(high, _LARGEST)


def write_pipeline(
    prior: Prior, traced: TracedDenoiser, folder: Path, card: dict[str, Any] | None = None
) -> None:
    """Write the folder of a pipeline. This needs no diffusers.

    Args:
        prior: A prior of pictures.
        traced: Its graph.
        folder: Path of an empty folder.
        card: What is known about the prior, as plain values.

    Raises:
        InputError: If the samples are not pictures, or a file cannot be written.
    """
    if len(traced.shape) != 3:
        raise InputError(
            f"pipelines of diffusers are for pictures (C, H, W), and this prior has samples of "
            f"shape {traced.shape}; write it with --to torch-export"
        )
    betas = noise_rates(*pipeline_levels(prior))
    unet, scheduler = folder / "unet", folder / "scheduler"
    unet.mkdir()
    scheduler.mkdir()
    module, kind = OWN_NETWORK
    write_json(
        {
            "_class_name": "DDPMPipeline",
            "_diffusers_version": _VERSION,
            "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": [module, kind],
        },
        folder / "model_index.json",
    )
    write_json(
        {
            "_class_name": "DDPMScheduler",
            "_diffusers_version": _VERSION,
            "num_train_timesteps": _STEPS,
            "trained_betas": betas,
            "prediction_type": "epsilon",
            "variance_type": "fixed_small",
            "timestep_spacing": "trailing",
            "clip_sample": False,
            "thresholding": False,
        },
        scheduler / "scheduler_config.json",
    )
    channels, *sides = traced.shape
    write_json(
        {
            "_class_name": kind,
            "_diffusers_version": _VERSION,
            "in_channels": channels,
            "out_channels": channels,
            "sample_size": sides,
            "betas": betas,
        },
        unet / "config.json",
    )
    source = resources.files("scoresde.priors.export") / "assets" / f"{module}.py.txt"
    (unet / f"{module}.py").write_text(source.read_text())
    write_program(prior, traced, unet / PROGRAM, card)


def check_pipeline(prior: Prior, traced: TracedDenoiser, folder: Path) -> Agreement:
    """Read the network of a pipeline back and compare it with the prior.

    Args:
        prior: The prior.
        traced: Its graph.
        folder: Folder of the pipeline.

    Returns:
        The differences of D(x, sigma).

    Raises:
        InputError: If they are more than rounding.
    """
    return check_program(prior, traced, folder / "unet" / PROGRAM)
