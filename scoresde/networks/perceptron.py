"""Perceptron for vectors: the network of a score prior in a few dimensions."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoresde.networks.embedding import NoiseEmbedding
from scoresde.networks.sizes import whole_size

__all__ = ["Perceptron", "PerceptronConfig", "perceptron"]

_MOST_LAYERS = 256


@dataclass(frozen=True)
class PerceptronConfig:
    """Sizes of a :class:`Perceptron`.

    Args:
        size: Number of entries of a sample.
        widths: Widths of the hidden layers.
        embedding: Number of features of the noise level.
        extra: Number of further inputs, which carry features of the sample.

    Raises:
        ValueError: If a size is no positive whole number (``extra`` may be 0) or absurdly large.
    """

    size: int = 2
    widths: tuple[int, ...] = (128, 128, 128)
    embedding: int = 32
    extra: int = 0

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("embedding", 1), ("extra", 0)):
            size = whole_size(getattr(self, name), f"{name} of a perceptron", least)
            object.__setattr__(self, name, size)
        if not isinstance(self.widths, list | tuple) or not 0 < len(self.widths) <= _MOST_LAYERS:
            raise ValueError(
                f"widths of a perceptron are a list of 1 to {_MOST_LAYERS} numbers, got "
                f"{self.widths!r:.80}"
            )
        widths = tuple(whole_size(width, "widths of a perceptron") for width in self.widths)
        object.__setattr__(self, "widths", widths)


class Perceptron(nn.Module):
    """Perceptron with SiLU activations that takes a sample and a noise label.

    The last layer starts at zero.

    Args:
        config: Sizes of the network; None for the default ones.

    Example:
        >>> import torch
        >>> from scoresde.networks import Perceptron, PerceptronConfig
        >>> network = Perceptron(PerceptronConfig(size=2, widths=(16, 16)))
        >>> network(torch.randn(5, 2), torch.zeros(5)).shape
        torch.Size([5, 2])
    """

    def __init__(self, config: PerceptronConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PerceptronConfig()
        self.embedding = NoiseEmbedding(config.embedding)
        self.layers = perceptron(
            config.size + config.extra + config.embedding, config.widths, config.size
        )
        for last in self.layers[-1].parameters():
            nn.init.zeros_(last)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            x: Samples and further inputs, shape (B, size + extra).
            label: Noise labels ln(sigma)/4, shape (B,).

        Returns:
            Output, shape (B, size).
        """
        return self.layers(torch.cat((x, self.embedding(label)), 1))


def perceptron(inputs: int, widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Build a perceptron with SiLU activations.

    Args:
        inputs: Number of inputs.
        widths: Widths of the hidden layers; an empty tuple gives an affine map.
        outputs: Number of outputs.

    Returns:
        Module that maps (B, inputs) to (B, outputs).

    Example:
        >>> import torch
        >>> perceptron(2, (8, 8), 1)(torch.zeros(4, 2)).shape
        torch.Size([4, 1])
    """
    layers: list[nn.Module] = []
    for here, there in itertools.pairwise((inputs, *widths)):
        layers += [nn.Linear(here, there), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *widths)[-1], outputs))
