"""The average of a finished run's weights with any length."""

from pathlib import Path
from typing import Any

import torch

from scoresde.errors import InputError
from scoresde.files import read_header, read_tensors
from scoresde.priors.score import ScorePrior
from scoresde.training.averages import SNAPSHOT_FORMAT, stored_average
from scoresde.training.config import TrainConfig
from scoresde.training.posthoc import coefficients, power_exponent
from scoresde.training.prior import finished_prior

__all__ = ["average_weights"]


def average_weights(out: str | Path, sigma_rel: float, step: int | None = None) -> ScorePrior:
    r"""Build the prior with an average of the weights that is chosen after the training.

    The average over the steps so far has the weights :math:`\tau^\gamma`. A long one has less
    noise, a short one is nearer to the last weights; try a few (Karras et al. 2024). The run needs
    snapshots, `TrainConfig.snapshot_every`.

    Args:
        out: Folder of a run of :func:`scoresde.training.train`.
        sigma_rel: Length of the average, its standard deviation over the steps taken. Between 0.03
            and 0.25 it is reconstructed well.
        step: Step at which the average ends; None for that of the last snapshot.

    Returns:
        The prior, frozen, in evaluation mode and on the CPU.

    Raises:
        InputError: If the run has no snapshots that fit.
        ValueError: If there is no average of this length.
    """
    gamma, folder = power_exponent(sigma_rel), Path(out) / "averages"
    headers = {
        path: read_header(path)
        for path in sorted(folder.glob("*.safetensors"))
        if not path.name.startswith(".")  # notes of the system, and files that are being written
    }
    headers = {p: h for p, h in headers.items() if h.get("format") == SNAPSHOT_FORMAT}
    if not headers:
        raise InputError(
            f"{folder} has no snapshots of averages; make them by `scoresde train "
            "--snapshot-every N` or TrainConfig(snapshot_every=...)"
        )
    try:
        return _average(headers, gamma, step, sigma_rel)
    except InputError:
        raise
    # a snapshot that lacks something, or has it in another form
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"a snapshot in {folder} is damaged, or of another run ({reason[:200]}); copy the "
            "folder again"
        ) from None


def _average(
    headers: dict[Path, dict[str, Any]], gamma: float, step: int | None, sigma_rel: float
) -> ScorePrior:
    """The prior with the average of the snapshots up to a step."""
    steps = sorted(int(header["step"]) for header in headers.values())
    step = steps[-1] if step is None else step
    if step not in steps:
        raise InputError(
            f"there is no snapshot of step {step}; steps: {', '.join(map(str, steps))}"
        )
    last = next(header for header in headers.values() if header["step"] == step)
    # snapshots that were begun at another step average another sequence of weights
    fitting = {
        path: header
        for path, header in headers.items()
        if header["step"] <= step and header["since"] == last["since"]
    }
    stored = [
        (path, length, float(header["step"]))
        for path, header in fitting.items()
        for length in header["lengths"]
    ]
    profiles = [(end, power_exponent(length)) for _, length, end in stored]
    weights: dict[str, torch.Tensor] = {}
    for (path, length, _), share in zip(
        stored, coefficients(profiles, step, gamma).tolist(), strict=True
    ):
        if share == 0:
            continue
        for name, value in stored_average(read_tensors(path)[0], length).items():
            weights[name] = weights.get(name, 0) + share * value.double()
    config = TrainConfig.from_dict(last["settings"])
    state = {name: value.float() for name, value in weights.items()}
    average = {"sigma_rel": sigma_rel, "step": step}
    shape = last["settings"].get("shape")
    data = last["settings"].get("data")
    card = {"average": average} | ({} if data is None else {"data": data})
    return finished_prior(config, state, torch.device("cpu"), shape, **card)
