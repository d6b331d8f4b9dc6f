"""The two players of a GAN, for images and for vectors.

They are residual networks without normalisation layers, as in R3GAN (Huang et al. 2024).
"""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "ImageDiscriminator",
    "ImageGenerator",
    "VectorDiscriminator",
    "VectorGenerator",
    "frozen",
]


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def _prepare(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, gain: float = 1.0) -> nn.Module:
    """Initialise a layer for the leaky rectifier (He et al. 2015), with zero biases.

    Outputs have the variance of the inputs, times gain^2.
    """
    fan_in = module.weight[0].numel()
    # With stride 2 and kernel 2, every output of a transposed convolution sees one input position.
    if isinstance(module, nn.ConvTranspose2d):
        fan_in = module.weight.shape[0]
    nn.init.normal_(module.weight, std=gain * math.sqrt(2 / (1 + 0.2**2) / fan_in))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class _Block(nn.Module):
    """x + conv(act(conv(act(x)))).

    The second convolution starts at zero, so that depth does not make training unstable (Zhang et
    al. 2019).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _prepare(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv2 = _prepare(nn.Conv2d(channels, channels, 3, padding=1), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(_activate(self.conv1(_activate(x))))


class ImageGenerator(nn.Module):
    """Generator of images on (-1, 1).

    A linear map gives features at the coarsest level. They are refined and their resolution is
    doubled from level to level.

    Args:
        shape: Shape (C, H, W) of an image.
        latent: Number of entries of z.
        patch: Side of the square of pixels folded into channels.
        widths: Channels of each level, finest first.
        blocks: Residual blocks per level.
    """

    def __init__(
        self, shape: tuple[int, ...], latent: int, patch: int, widths: tuple[int, ...], blocks: int
    ) -> None:
        super().__init__()
        self.size, self.patch = shape[1:], patch
        stride = patch * 2 ** (len(widths) - 1)
        self.coarse = (widths[-1], math.ceil(shape[1] / stride), math.ceil(shape[2] / stride))
        self.stem = _prepare(nn.Linear(latent, math.prod(self.coarse)))
        layers: list[nn.Module] = [_Block(widths[-1]) for _ in range(blocks)]
        for coarse, fine in itertools.pairwise(reversed(widths)):
            layers.append(_prepare(nn.ConvTranspose2d(coarse, fine, 2, stride=2)))
            layers.extend(_Block(fine) for _ in range(blocks))
        self.layers = nn.Sequential(*layers)
        self.head = _prepare(nn.Conv2d(widths[0], shape[0] * patch**2, 3, padding=1), 0.5)

    def forward(self, z: Tensor) -> Tensor:
        """Generate images.

        Args:
            z: Latent vectors, shape (B, latent).

        Returns:
            Images, shape (B, C, H, W), on (-1, 1).
        """
        h = self.layers(self.stem(z).reshape(-1, *self.coarse))
        x = F.pixel_shuffle(self.head(_activate(h)), self.patch)
        return torch.tanh(x[..., : self.size[0], : self.size[1]])


class ImageDiscriminator(nn.Module):
    """Discriminator of images.

    Args:
        shape: Shape (C, H, W) of an image.
        patch: Side of the square of pixels folded into channels.
        widths: Channels of each level, finest first.
        blocks: Residual blocks per level.
    """

    def __init__(
        self, shape: tuple[int, ...], patch: int, widths: tuple[int, ...], blocks: int
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, patch * 2 ** (len(widths) - 1)
        layers: list[nn.Module] = [
            _prepare(nn.Conv2d(shape[0] * patch**2, widths[0], 3, padding=1))
        ]
        layers.extend(_Block(widths[0]) for _ in range(blocks))
        for fine, coarse in itertools.pairwise(widths):
            layers.append(_prepare(nn.Conv2d(fine, coarse, 2, stride=2)))
            layers.extend(_Block(coarse) for _ in range(blocks))
        self.layers = nn.Sequential(*layers)
        features = (
            widths[-1] * math.ceil(shape[1] / self.stride) * math.ceil(shape[2] / self.stride)
        )
        self.head = _prepare(nn.Linear(features, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of images.

        Args:
            x: Images, shape (B, C, H, W).

        Returns:
            Logits, shape (B,).
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        h = self.layers(F.pixel_unshuffle(x, self.patch))
        return self.head(_activate(h).flatten(1)).flatten()


def _mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [_prepare(nn.Linear(a, b)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


class VectorGenerator(nn.Module):
    """Generator of vectors; its outputs are unbounded.

    Args:
        size: Number D of entries of a sample.
        latent: Number of entries of z.
        widths: Units of each hidden layer.
    """

    def __init__(self, size: int, latent: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = _mlp((latent, *widths, size))

    def forward(self, z: Tensor) -> Tensor:
        """Generate vectors.

        Args:
            z: Latent vectors, shape (B, latent).

        Returns:
            Samples, shape (B, D).
        """
        return self.layers(z)


class VectorDiscriminator(nn.Module):
    """Discriminator of vectors.

    Args:
        size: Number D of entries of a sample.
        widths: Units of each hidden layer.
    """

    def __init__(self, size: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = _mlp((size, *widths, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of vectors.

        Args:
            x: Samples, shape (B, D).

        Returns:
            Logits, shape (B,).
        """
        return self.layers(x).flatten()


def frozen(module: nn.Module) -> nn.Module:
    """Copy a module with its weights as buffers.

    They are part of the copy's state, but no optimizer trains them.

    Args:
        module: Module to copy.

    Returns:
        The copy, which has no parameters.
    """
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, p.detach().clone())
    return module
