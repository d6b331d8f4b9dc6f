"""How good an image is."""

from scoresde.evaluation.metrics import lpips, psnr, ssim

__all__ = ["lpips", "psnr", "ssim"]
