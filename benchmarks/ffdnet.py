"""FFDNet (Zhang, Zuo and Zhang 2018), another team's denoiser, as a prior to compare with.

The colour network: the image is padded to even sides, 2x2 pixels are folded into 12 channels, a
13th channel holds the noise level everywhere, and twelve 3x3 convolutions with ReLU between them
give the denoised image. It works on [0, 1] and was trained for noise up to 75 of 255.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.priors.base import Prior
from scoresde.sde import EDMSDE

__all__ = ["LARGEST_NOISE", "FFDNet", "FFDNetPrior", "open_ffdnet"]

LARGEST_NOISE = 2 * 75 / 255
"""Largest noise level of the training, a standard deviation on [-1, 1]."""


class FFDNet(nn.Module):
    """The network, on [0, 1].

    Args:
        channels: Channels of the image.
        width: Channels of the hidden layers.
        depth: Number of convolutions.
    """

    def __init__(self, channels: int = 3, width: int = 96, depth: int = 12) -> None:
        super().__init__()
        widths = [4 * channels + 1, *[width] * (depth - 1), 4 * channels]
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise x (B, C, H, W) with noise of levels sigma (B,), both on [0, 1]."""
        height, width = x.shape[-2:]
        x = F.pixel_unshuffle(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        level = sigma[:, None, None, None].expand(-1, 1, *x.shape[-2:]).to(x.dtype)
        return F.pixel_shuffle(self.model(torch.cat([x, level], 1)), 2)[..., :height, :width]


class FFDNetPrior(Prior):
    """FFDNet as the denoiser of a prior on [-1, 1].

    Above the noise levels of its training the network is told the largest of them.
    """

    def __init__(self, network: FFDNet) -> None:
        super().__init__(EDMSDE(), (3, 64, 64))
        self.network = network

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        u = x_t / self.sde.alpha(t)[:, None, None, None]
        sigma = self.sde.noise_to_signal(t).clamp(max=LARGEST_NOISE) / 2
        return 2 * self.network((u + 1) / 2, sigma) - 1


def open_ffdnet(path: Path, device: torch.device) -> FFDNetPrior:
    """Read the public colour weights, a safetensors file with the names model.0 to model.22."""
    network = FFDNet()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} does not hold the weights of colour FFDNet: {reason}") from None
    prior = FFDNetPrior(network).to(device=device, memory_format=torch.channels_last)
    return prior.eval().requires_grad_(False)
