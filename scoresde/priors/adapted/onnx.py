"""Denoisers in ONNX files that ``scoresde export --to onnx`` wrote, run by onnxruntime."""

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from problems.checks import check_sizes
from scoresde.errors import InputError
from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.sde import EDMSDE

__all__ = ["ONNX_FORMAT", "load_onnx"]

ONNX_FORMAT = "scoresde.onnx/1"
"""Entry "format" in the metadata of such a file."""


class _Session(nn.Module):
    """D(x, sigma) of a session of onnxruntime, on the CPU."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise x (B, C, ...) with noise of standard deviations sigma (B,)."""
        wanted = x.requires_grad and torch.is_grad_enabled()
        if wanted or torch._C._functorch.peek_interpreter_stack() is not None:
            raise InputError(
                "a denoiser in an ONNX file has no derivatives, which this solver or likelihood "
                "takes; export the prior with --to torch-export, or take a solver without them, "
                "such as diffpir"
            )
        inputs = {
            "x": x.detach().float().cpu().numpy(),
            "sigma": sigma.detach().float().cpu().numpy(),
        }
        try:
            (x0_hat,) = self.session.run(["x0_hat"], inputs)
        except Exception as error:  # of kinds of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"onnxruntime cannot denoise the shape {tuple(x.shape)}: {reason:.160}"
            ) from None
        return torch.from_numpy(x0_hat).to(x)


def load_onnx(path: str | Path) -> AdaptedPrior:
    """Read a denoiser from an ONNX file, for inference alone.

    It has no derivatives: guidance that differentiates the denoiser and likelihoods end in an
    error that says so. It runs on the CPU, wherever the state is.

    Args:
        path: Path of the file.

    Returns:
        The prior, under the EDM SDE between the noise levels of its training.

    Raises:
        InputError: If onnxruntime is missing, or the file cannot be run or was not written by
            `scoresde export`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no ONNX file {path}")
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        raise InputError(
            f"{path} needs the package onnxruntime; install it with: pip install 'scoresde[onnx]'"
        ) from None
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of kinds of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"onnxruntime cannot read {path}: {reason:.160}") from None
    known = session.get_modelmeta().custom_metadata_map
    if known.get("format") != ONNX_FORMAT:
        raise InputError(f"{path} was not written by `scoresde export --to onnx`")
    try:
        shape = check_sizes(json.loads(known["shape"]), "shape")
        low, high = float(known["sigma_min"]), float(known["sigma_max"])
        fixed = json.loads(known["least_sides"]) is None
        card = {"source": path.name} | dict(json.loads(known["card"]))
        sde = EDMSDE(max(low, 1e-4), min(high, 1e3))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the metadata of {path} are wrong: {error!s:.120}") from None
    # the graph itself holds labels within the training: it is told every noise level
    convention = Convention("x0", EDMSDE(), "sigma", trained=(0.0, math.inf), fixed_size=fixed)
    prior = AdaptedPrior(_Session(session), convention, shape, sde, card=card)
    prior.trained = low, high
    return prior.eval()
