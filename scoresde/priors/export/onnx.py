"""Priors as ONNX files: D(x, sigma), for onnxruntime and other engines."""

import contextlib
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.errors import InputError
from scoresde.priors.adapted.onnx import ONNX_FORMAT
from scoresde.priors.base import Prior
from scoresde.priors.export.agreement import Agreement, compare
from scoresde.priors.export.denoiser import TracedDenoiser, trained_levels

__all__ = ["GRAPH", "check_graph", "needs_onnx", "write_graph"]

GRAPH = "denoiser.onnx"
"""Name of the file."""

_AXES = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def needs_onnx(*names: str) -> list[Any]:
    """Import packages of the extra ``onnx``.

    Args:
        *names: Their names.

    Returns:
        The modules.

    Raises:
        InputError: If one is not installed.
    """
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        missing = (error.name or "onnx").split(".")[0]
        raise InputError(
            f"ONNX files need the package {missing}; install it with: pip install 'scoresde[onnx]'"
        ) from None


def write_graph(
    prior: Prior, traced: TracedDenoiser, path: Path, card: dict[str, Any] | None = None
) -> None:
    """Write the denoiser as an ONNX file with inputs ``x`` and ``sigma`` and output ``x0_hat``.

    The metadata of the file hold what a user must know: ``channels``, ``shape`` of the training,
    ``least_sides``, ``value_range``, ``sigma_min`` and ``sigma_max`` of the training, and the card.

    Args:
        prior: The prior.
        traced: Its graph.
        path: Path of the file.
        card: What is known about the prior, as plain values.

    Raises:
        InputError: If a package is missing, or an operation has no counterpart in ONNX.
    """
    needs_onnx("onnx", "onnxscript")
    named = {0: "batch"}
    if traced.least is not None:
        named |= dict(enumerate(_AXES[len(traced.least)], start=2))
    try:
        with _quiet():
            made = torch.onnx.export(
                traced.program,
                dynamo=True,
                input_names=["x", "sigma"],
                output_names=["x0_hat"],
                custom_translation_table={torch.ops.prims.hypot.default: _hypot},
                verbose=False,
            )
    except Exception as error:  # of many kinds
        raise InputError(
            f"this prior cannot be written as ONNX ({_reason(error)}); write it with --to "
            "torch-export"
        ) from None
    assert made is not None
    model = made.model
    _rename(model, named)
    low, high = trained_levels(prior)
    model.metadata_props.update(
        {
            "format": ONNX_FORMAT,
            "channels": str(traced.shape[0]),
            "shape": json.dumps(list(traced.shape)),
            "least_sides": json.dumps(None if traced.least is None else list(traced.least)),
            "value_range": json.dumps([-1.0, 1.0]),
            "sigma_min": repr(low),
            "sigma_max": repr(high) if math.isfinite(high) else "inf",
            "card": json.dumps(card or {}),
        }
    )
    made.save(str(path), external_data=False)


def check_graph(prior: Prior, traced: TracedDenoiser, path: Path) -> Agreement:
    """Run an ONNX file with onnxruntime and compare it with the prior.

    Args:
        prior: The prior.
        traced: Its graph.
        path: Path of the file.

    Returns:
        The differences.

    Raises:
        InputError: If onnxruntime is missing or cannot run the file, or the differences are more
            than rounding.
    """
    (runtime,) = needs_onnx("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of kinds of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"onnxruntime cannot run the file: {reason:.200}") from None

    def evaluate(x: Tensor, sigma: Tensor) -> Tensor:
        inputs = {"x": x.cpu().numpy(), "sigma": sigma.cpu().numpy()}
        return torch.from_numpy(session.run(["x0_hat"], inputs)[0]).to(x.device)

    return compare(prior, traced, evaluate)


def _hypot(a: Any, b: Any) -> Any:
    """The function sqrt(a^2 + b^2), which ONNX does not have, of scales that do not overflow."""
    from onnxscript import opset18 as op

    return op.Sqrt(op.Add(op.Mul(a, a), op.Mul(b, b)))


def _reason(error: BaseException) -> str:
    """The operation that ONNX does not have, or the first line of an error."""
    cause: BaseException | None = error
    while cause is not None:
        if found := re.search(r"target=torch\.ops\.([\w.]+)", str(cause)):
            return f"the operation {found[1]} has no counterpart there"
        cause = cause.__cause__
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line:.160}"


def _rename(model: Any, names: dict[int, str]) -> None:
    """Give the dynamic axes of inputs and output their names."""
    renamed: dict[str, str] = {}
    for axis, name in names.items():
        value = model.graph.inputs[0].shape[axis].value
        if isinstance(value, str):
            renamed[value] = name
    for tensor in (*model.graph.inputs, *model.graph.outputs):
        for axis, size in enumerate(tensor.shape):
            if getattr(size, "value", None) in renamed:
                tensor.shape[axis] = renamed[size.value]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress of the exporter to itself."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
