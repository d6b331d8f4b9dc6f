r"""The losses of the two players of a GAN.

Non-saturating (Goodfellow et al. 2014), with :math:`f(t) = \ln(1 + e^{-t})` and logits D:

.. math:: L_D = E f(D(x)) + E f(-D(G(z))),\quad L_G = E f(D(G(z))) .

Relativistic pairing (Jolicoeur-Martineau 2019; Huang et al. 2024) compares each draw with a sample
of the data:

.. math:: L_D = E f(D(x) - D(G(z))),\quad L_G = E f(D(G(z)) - D(x)) .

A generator that drops modes cannot win this game, because draws are compared with samples of every
region of the data.

Gradient penalties centred at zero, on the data (R1, Mescheder et al. 2018) and on the draws (R2),

.. math:: R(x) = E\,|\nabla_x D(x)|^2 ,\quad
          L_D \leftarrow L_D + \tfrac{\gamma_1}{2} R(x) + \tfrac{\gamma_2}{2} R(G(z)) ,

make the game converge locally (Huang et al. 2024, proposition II).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Game", "discriminator_game", "generator_game", "gradient_penalty"]

Game = Literal["relativistic", "non-saturating"]


def generator_game(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """Compute the generator's loss L_G.

    Args:
        game: "relativistic" or "non-saturating".
        real: Logits D(x) of the data, shape (B,).
        fake: Logits D(G(z)) of the draws, shape (B,).

    Returns:
        The scalar that the generator minimises.
    """
    return F.softplus(real - fake).mean() if game == "relativistic" else F.softplus(-fake).mean()


def discriminator_game(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """Compute the discriminator's loss L_D without penalties.

    Args:
        game: "relativistic" or "non-saturating".
        real: Logits D(x) of the data, shape (B,).
        fake: Logits D(G(z)) of the draws, shape (B,).

    Returns:
        The scalar that the discriminator minimises.
    """
    if game == "relativistic":
        return F.softplus(fake - real).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def gradient_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Compute the mean over the batch of |grad_x D(x)|^2.

    Args:
        logits: D(x), shape (B,). D must treat the samples independently.
        x: Samples, shape (B, ...), which require a gradient.

    Returns:
        The penalty, a scalar. It is differentiable if gradients are enabled.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=torch.is_grad_enabled())
    return gradient.flatten(1).square().sum(1).mean()
