"""The values of a finished run, compared with the truth that a recipe knows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from problems import problem_from
from problems.reading.pictures import read_picture
from tests.odd_inputs.case import Outcome

__all__ = ["kernel_is", "mask_is", "picture_is"]

Check = Callable[[Outcome], str | None]


def picture_is(out: Path, expected: np.ndarray, tolerance: float = 1.5) -> Check:
    """The picture of the mean shows these grey levels.

    Args:
        out: Folder of the run.
        expected: Grey levels (H, W) or (H, W, 3) from 0 to 255, not rounded.
        tolerance: Largest difference in grey levels: half a level is rounding, the rest is the
            pull of the prior towards grey.

    Returns:
        The check.
    """

    def check(outcome: Outcome) -> str | None:
        report = json.loads((out / "report.json").read_text())
        written, name = report["pictures"], report["files"][0]
        found = read_picture(out / name, "file").values.astype(float)
        found = (found - written["black"]) * (255 / (written["white"] - written["black"]))
        found = found.clip(0, 255)  # floating-point pictures are not clipped
        right = np.clip(np.asarray(expected, float), 0, 255)
        if found.shape[:2] != right.shape[:2]:
            return f"{name} is {found.shape[:2]}, must be {right.shape[:2]}"
        if found.ndim != right.ndim:  # grey in three equal channels is the same picture
            found = found if found.ndim == 3 else found[..., None]
            right = right if right.ndim == 3 else right[..., None]
        error = np.abs(found - right)
        if error.max() <= tolerance:
            return None
        return (
            f"{name} is off by up to {error.max():.0f} and on average {error.mean():.1f} grey "
            f"levels (allowed {tolerance:g}): it spans {found.min():.0f}..{found.max():.0f}, must "
            f"span {right.min():.0f}..{right.max():.0f}"
        )

    return check


def _parts(operator: Any) -> list[Any]:
    """The operator and the parts that it is composed of."""
    parts = [operator]
    for name in ("outer", "inner"):
        if hasattr(operator, name):
            parts += _parts(getattr(operator, name))
    return parts


def _field(out: Path, name: str) -> np.ndarray | None:
    """A tensor of the operator that the run describes in problem.json."""
    problem = problem_from(json.loads((out / "problem.json").read_text()))
    for part in _parts(problem.operator):
        if hasattr(part, name):
            return np.asarray(getattr(part, name))
    return None


def mask_is(out: Path, missing: np.ndarray) -> Check:
    """The run used the mask that misses these pixels, (H, W), bool."""

    def check(outcome: Outcome) -> str | None:
        report = json.loads((out / "report.json").read_text())
        truth = float(missing.mean())
        told = report.get("missing", truth)  # of inpaint alone
        if abs(told - truth) > 1e-6:
            return f"report.json says that {told:.4f} is missing, must be {truth:.4f}"
        mask = _field(out, "mask")
        if mask is None:
            return "problem.json has no mask"
        seen = np.broadcast_to(mask.astype(bool), (1, *missing.shape))[0]
        wrong = int((seen == missing).sum())
        return f"{wrong} of {missing.size} pixels of the mask are wrong" if wrong else None

    return check


def kernel_is(out: Path, kernel: np.ndarray) -> Check:
    """The run used this kernel, but for its scale."""

    def check(outcome: Outcome) -> str | None:
        found = _field(out, "kernel")
        if found is None:
            return "problem.json has no kernel"
        right = np.asarray(kernel, float) / np.abs(kernel).max()  # first, or huge sums overflow
        right = right / right.sum((-2, -1), keepdims=True)
        if found.squeeze().shape != right.squeeze().shape:
            return f"the kernel has shape {found.shape}, must have {right.shape}"
        error = np.abs(found.squeeze() - right.squeeze()).max() / np.abs(right).max()
        return None if error < 1e-3 else f"the kernel is off by {error:.3f} of its largest entry"

    return check
