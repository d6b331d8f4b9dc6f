r"""Fourier features of the noise level.

.. math:: \phi(c) = [\cos(2\pi f_k c), \sin(2\pi f_k c)]_k, \quad f_k \text{ log-spaced.}

Source: Tancik et al. 2020, "Fourier features let networks learn high frequency functions"; the
noise label :math:`c = \ln(\sigma)/4` is Karras et al. 2022.
"""

import math

import torch
from torch import Tensor, nn

__all__ = ["NoiseEmbedding"]


class NoiseEmbedding(nn.Module):
    """Features of the noise label: fixed Fourier features, then a perceptron of two layers.

    The frequencies are fixed and therefore not stored in the weights.

    Args:
        dim: Number of features in the output.
        features: Number of frequencies.
    """

    frequencies: Tensor

    def __init__(self, dim: int, features: int = 32) -> None:
        super().__init__()
        # labels ln(sigma)/4 span about [-1.6, 1.1]: from half a period over that range up to one
        # period per e-fold of sigma
        # (computed on the CPU: on the meta device even a product imports a compiler)
        frequencies = torch.logspace(math.log10(0.15), math.log10(4.0), features, device="cpu")
        self.mlp = nn.Sequential(
            nn.Linear(2 * features, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU()
        )
        frequencies = (2 * math.pi * frequencies).to(next(self.mlp.parameters()).device)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, label: Tensor) -> Tensor:
        """Compute the features.

        Args:
            label: Noise labels ln(sigma)/4, shape (B,).

        Returns:
            Features, shape (B, dim).
        """
        phase = label[:, None] * self.frequencies
        return self.mlp(torch.cat([phase.cos(), phase.sin()], dim=1))
