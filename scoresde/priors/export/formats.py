"""Exports by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from problems.checks import check_choice
from scoresde.files import json_safe
from scoresde.priors.base import Prior
from scoresde.priors.export.agreement import Agreement
from scoresde.priors.export.denoiser import TracedDenoiser, trace, trained_levels
from scoresde.priors.export.folder import check_folder, write_folder
from scoresde.priors.export.onnx import GRAPH, check_graph, needs_onnx, write_graph
from scoresde.priors.export.pipeline import check_pipeline, pipeline_levels, write_pipeline
from scoresde.priors.export.program import PROGRAM, check_program, write_program
from scoresde.priors.export.readme import readme

__all__ = ["FORMATS", "Export", "export_prior"]

_Write = Callable[[Prior, TracedDenoiser, Path, dict[str, Any]], None]
_Check = Callable[[Prior, TracedDenoiser, Path], Agreement]


@dataclass(frozen=True)
class _Format:
    """A kind of export: how it is written and read back, and what it needs."""

    summary: str
    entry: str  # what is written, relative to the folder; empty for the folder itself
    write: _Write
    check: _Check
    packages: tuple[str, ...] = ()


FORMATS: dict[str, _Format] = {
    "diffusers": _Format(
        "folder that DDPMPipeline.from_pretrained loads", "", write_pipeline, check_pipeline
    ),
    "torch-export": _Format(
        "program of torch.export for D(x, sigma)", PROGRAM, write_program, check_program
    ),
    "onnx": _Format(
        "ONNX file for D(x, sigma)",
        GRAPH,
        write_graph,
        check_graph,
        ("onnx", "onnxscript", "onnxruntime"),
    ),
}
"""Kinds of exports."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Args:
        folder: The folder.
        files: Names of its files.
        sizes: Sizes of samples that it takes, in words.
        difference: Largest difference of D(x, sigma) from the prior, over sizes and noise levels.
        tolerance: What rounding can explain.
    """

    folder: Path
    files: tuple[str, ...]
    sizes: str
    difference: float
    tolerance: float


def export_prior(prior: Prior, to: str, folder: str | Path, name: str = "prior") -> Export:
    """Write a prior so that others can load it.

    The denoiser is written as a graph, read back, and compared with the prior over sizes and noise
    levels; only then does the folder appear. A README in it shows how it is run. Networks are
    written in the precision of their weights.

    Args:
        prior: The prior: a network of this package or of others, or a wrapper of one.
        to: "diffusers", "torch-export" or "onnx", see ``FORMATS``.
        folder: Folder to write; an earlier export in it is replaced.
        name: Name of the prior for the README.

    Returns:
        What was written.

    Raises:
        ValueError: If the format is unknown.
        InputError: If a package is missing, the prior cannot be written as a graph, the folder
            holds files of others, or the result differs from the prior.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior, load_prior
        >>> from scoresde.networks import Perceptron, PerceptronConfig
        >>> from scoresde.priors.export import export_prior
        >>> prior = ScorePrior(Perceptron(PerceptronConfig(size=2, widths=(8,))), EDMSDE(), (2,))
        >>> x_t = torch.ones(1, 2)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     written = export_prior(prior, "torch-export", f"{place}/out")
        ...     again = load_prior(f"torch-export:{place}/out/denoiser.pt2")
        >>> written.files
        ('README.md', 'denoiser.pt2', 'scoresde.json')
        >>> torch.equal(again.denoise(x_t, 0.5), prior.denoise(x_t, 0.5))
        True
    """
    check_choice("format", to, FORMATS)
    kind, folder = FORMATS[to], check_folder(folder)
    needs_onnx(*kind.packages)
    traced = trace(prior)
    card = json_safe(dict(getattr(prior.nesting()[-1], "card", None) or {}))
    low, high = trained_levels(prior)
    report: dict[str, Any] = {
        "to": to,
        "prior": name,
        "shape": list(traced.shape),
        "sizes": traced.sizes,
        "trained": [low, high],
        "torch": torch.__version__,
    }
    found: list[Agreement] = []

    def write(place: Path) -> None:
        kind.write(prior, traced, place / kind.entry, card)
        found.append(kind.check(prior, traced, place / kind.entry))
        first, last = pipeline_levels(prior)
        settings = {"torch": torch.__version__, "low": first, "high": last, "steps": 1000}
        text = readme(to, name, prior, traced, found[0], card, settings)
        (place / "README.md").write_text(text)
        report["difference"], report["tolerance"] = found[0].difference, found[0].tolerance

    names = write_folder(folder, write, report)
    return Export(folder, tuple(names), traced.sizes, found[0].difference, found[0].tolerance)
