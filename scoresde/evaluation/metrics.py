"""Distances between an estimate and the truth, both (B, C, H, W) in [-1, 1]; one number per image."""

import torch
from torch import Tensor

__all__ = ["lpips", "psnr", "ssim"]


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, (B,): 10 log10(4 / MSE), x clipped to [-1, 1]."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(
        x.clamp(-1, 1), truth, data_range=2.0, reduction="none", dim=(1, 2, 3)
    )


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004: Gaussian window of std 1.5), (B,), x clipped to [-1, 1]. NaN for images under 11 pixels."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(x.shape[-2:]) < 11:
        return torch.full((len(x),), torch.nan)
    value = structural_similarity_index_measure(
        x.clamp(-1, 1), truth, data_range=2.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.reshape(len(x))


def lpips(x: Tensor, truth: Tensor) -> Tensor | None:
    """Learned perceptual distance (Zhang et al. 2018, AlexNet), (B,), or None where its weights cannot be had.

    Needs the ``lpips`` package (``pip install scoresde[benchmarks]``), which takes AlexNet's weights from torchvision.
    """
    try:
        import lpips as package

        network = package.LPIPS(net="alex", verbose=False)
    except (ImportError, OSError):  # not installed, or no way to the weights
        return None
    with torch.no_grad():
        return network(x.clamp(-1, 1).float().cpu(), truth.float().cpu()).flatten()
