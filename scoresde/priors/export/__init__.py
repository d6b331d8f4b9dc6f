"""Priors written out for others: torch.export, ONNX, and pipelines of diffusers."""

from scoresde.priors.export.denoiser import TracedDenoiser, trace
from scoresde.priors.export.formats import FORMATS, Export, export_prior

__all__ = ["FORMATS", "Export", "TracedDenoiser", "export_prior", "trace"]
