"""How good an image is, and how far its uncertainty can be trusted."""

from scoresde.evaluation.calibration import Calibration
from scoresde.evaluation.metrics import lpips, psnr, ssim

__all__ = ["Calibration", "lpips", "psnr", "ssim"]
