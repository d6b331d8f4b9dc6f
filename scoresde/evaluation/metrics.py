"""Distances between an estimate and the truth, images (B, C, H, W) on [-1, 1]; one number each."""

import torch
from torch import Tensor

__all__ = ["lpips", "psnr", "ssim"]


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio, 10 log10(4 / MSE).

    Args:
        x: Estimates, shape (B, C, H, W); they are clipped to [-1, 1].
        truth: True images, shape of x, on [-1, 1].

    Returns:
        PSNR in dB, shape (B,).

    Example:
        >>> import torch
        >>> from scoresde.evaluation import psnr
        >>> truth = torch.zeros(1, 3, 16, 16)
        >>> psnr(truth + 0.2, truth)  # MSE 0.04
        tensor([20.])
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(
        x.clamp(-1, 1), truth, data_range=2.0, reduction="none", dim=(1, 2, 3)
    )


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Compute the structural similarity (Wang et al. 2004) with a Gaussian window of std 1.5.

    Args:
        x: Estimates, shape (B, C, H, W); they are clipped to [-1, 1].
        truth: True images, shape of x, on [-1, 1].

    Returns:
        SSIM, 1 for equal images, shape (B,); NaN for images with a side below 11 pixels.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import ssim
        >>> truth = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> round(float(ssim(truth, truth)), 4), float(ssim(0 * truth, truth)) < 0.2
        (1.0, True)
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(x.shape[-2:]) < 11:
        return torch.full((len(x),), torch.nan)
    value = structural_similarity_index_measure(
        x.clamp(-1, 1), truth, data_range=2.0, reduction="none"
    )
    assert isinstance(value, Tensor)
    return value.reshape(len(x))


def lpips(x: Tensor, truth: Tensor) -> Tensor | None:
    """Compute the learned perceptual distance of AlexNet (LPIPS; Zhang et al. 2018).

    It needs the ``lpips`` package (``pip install scoresde[benchmarks]``), which takes AlexNet's
    weights from torchvision.

    Args:
        x: Estimates, shape (B, C, H, W); they are clipped to [-1, 1].
        truth: True images, shape of x, on [-1, 1].

    Returns:
        Distances, 0 for equal images, shape (B,); None if the package or its weights are not
        available.
    """
    try:
        import lpips as package

        network = package.LPIPS(net="alex", verbose=False)
    except (ImportError, OSError):  # not installed, or the weights cannot be fetched
        return None
    with torch.no_grad():
        return network(x.clamp(-1, 1).float().cpu(), truth.float().cpu()).flatten()
