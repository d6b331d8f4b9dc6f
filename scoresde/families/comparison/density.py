"""Bits per dimension of held-out pictures, labelled as exact or by the name of the bound."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scoresde.data.datasets import dequantised
from scoresde.data.images import from_bytes
from scoresde.families.base import GenerativeModel, LogProb
from scoresde.families.diffusion import Diffusion
from scoresde.families.vae.model import VAE

__all__ = ["model_bits_per_dim", "judge_density"]

_IWAE = 64


def model_bits_per_dim(found: LogProb, dimensions: int) -> Tensor:
    r"""Convert log-probabilities to bits per dimension of 8-bit pictures, :math:`-\log_2 p / D`.

    A density p(x) on [-1, 1] is that of grey levels 2/256 wide. Its conversion adds
    :math:`\log_2(256/2)`, and the result bounds that of the discrete levels from above (Theis et
    al. 2016).

    Args:
        found: Log-probabilities in nats, shape (B,).
        dimensions: Number D of entries of a picture.

    Returns:
        Bits per dimension, shape (B,).
    """
    bits = -found.value / (dimensions * math.log(2))
    return bits if found.discrete else bits + math.log2(256 / 2)


def judge_density(
    model: GenerativeModel, levels: Tensor, generator: torch.Generator, batch: int = 50
) -> dict[str, Any]:
    """Compute the bits per dimension of held-out pictures.

    Continuous models see one uniform dequantisation of each picture.

    Args:
        model: Model to judge.
        levels: Held-out pictures, shape (N, C, H, W), uint8.
        generator: Source of the random numbers of the dequantisation and of the estimates.
        batch: Pictures per call of the model.

    Returns:
        "pictures": N; and for each kind ("exact", "ELBO", "IWAE") the "mean" over the pictures and
        its standard "error", in bits per dimension. Empty for an implicit model.
    """
    if model.density == "implicit":
        return {}
    kinds: dict[str, Callable[[Tensor], LogProb]] = {
        "": lambda x: model.log_prob(x, generator=generator)
    }
    if isinstance(model, VAE):
        kinds["IWAE"] = lambda x: model.log_prob(x, k=_IWAE, generator=generator)
    if isinstance(model, Diffusion):
        kinds["ELBO"] = lambda x: model.elbo(x, generator=generator)
    found: dict[str, list[Tensor]] = {}
    for part in levels.split(batch):
        # also for discrete models, so that the random numbers after it are the same for all
        noisy = dequantised(part, generator)
        x = (noisy if model.continuous else from_bytes(part)).to(model.device)
        for log_prob in kinds.values():
            result = log_prob(x)
            found.setdefault(result.kind, []).append(
                model_bits_per_dim(result, x[0].numel()).double().cpu()
            )
    report: dict[str, Any] = {"pictures": len(levels)}
    for kind, values in found.items():
        bits = torch.cat(values)
        report[kind] = {
            "mean": float(bits.mean()),
            "error": float(bits.std()) / math.sqrt(len(bits)),
        }
    return report
