"""A perceptron for vectors: the network of a score prior in a few dimensions."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoresde.networks.embedding import NoiseEmbedding

__all__ = ["Perceptron", "PerceptronConfig", "perceptron"]


@dataclass(frozen=True)
class PerceptronConfig:
    """size: entries of a sample. extra: further inputs, which carry features of the sample. widths: of the hidden layers. embedding:
    entries that tell the noise level."""

    size: int = 2
    widths: tuple[int, ...] = (128, 128, 128)
    embedding: int = 32
    extra: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.extra < 0 or not self.widths or min(self.size, self.embedding, *self.widths) < 1:
            raise ValueError(f"all sizes of a perceptron must be positive, got {self}")


class Perceptron(nn.Module):
    """x (B, size + extra), label (B,) of the noise -> (B, size). The last layer is zero at first."""

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
        return self.layers(torch.cat((x, self.embedding(label)), 1))


def perceptron(inputs: int, widths: tuple[int, ...], outputs: int) -> nn.Sequential:
    """(B, inputs) -> (B, outputs) through hidden layers of these widths; none leave an affine map."""
    layers: list[nn.Module] = []
    for here, there in itertools.pairwise((inputs, *widths)):
        layers += [nn.Linear(here, there), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *widths)[-1], outputs))
