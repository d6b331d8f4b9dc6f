"""Quality of images, reliability of their uncertainty, and quality of generators."""

from scoresde.evaluation.classes import ClassReport, class_report
from scoresde.evaluation.classifier import DigitClassifier, load_classifier
from scoresde.evaluation.conformal import Calibration
from scoresde.evaluation.copies import Memorisation, memorisation
from scoresde.evaluation.distances import KernelDistance, frechet_distance, kernel_distance
from scoresde.evaluation.features import (
    Features,
    digit_features,
    inception_features,
    pixel_features,
)
from scoresde.evaluation.metrics import lpips, psnr, ssim
from scoresde.evaluation.neighbours import (
    Manifold,
    density_coverage,
    expected_coverage,
    manifold,
    precision_recall,
)

__all__ = [
    "Calibration",
    "ClassReport",
    "DigitClassifier",
    "Features",
    "KernelDistance",
    "Manifold",
    "Memorisation",
    "class_report",
    "density_coverage",
    "digit_features",
    "expected_coverage",
    "frechet_distance",
    "inception_features",
    "kernel_distance",
    "load_classifier",
    "lpips",
    "manifold",
    "memorisation",
    "pixel_features",
    "precision_recall",
    "psnr",
    "ssim",
]
