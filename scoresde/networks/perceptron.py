"""A perceptron for vectors: the network of a score prior in a few dimensions."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoresde.networks.embedding import NoiseEmbedding

__all__ = ["Perceptron", "PerceptronConfig"]


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
        layers: list[nn.Module] = []
        for here, there in itertools.pairwise((config.size + config.extra + config.embedding, *config.widths)):
            layers += [nn.Linear(here, there), nn.SiLU()]
        last = nn.Linear(config.widths[-1], config.size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return self.layers(torch.cat((x, self.embedding(label)), 1))
