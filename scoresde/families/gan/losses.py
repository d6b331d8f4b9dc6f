r"""What the two players of a GAN minimise.

Non-saturating (Goodfellow et al. 2014), with :math:`f(t) = \ln(1 + e^{-t})` and logits D:

.. math:: L_D = E f(D(x)) + E f(-D(G(z))),\quad L_G = E f(D(G(z))) .

Relativistic pairing (Jolicoeur-Martineau 2019; Huang et al. 2024), which compares each draw with a sample and so cannot be won by
dropping modes, since every region of the data is then judged against one of its own:

.. math:: L_D = E f(D(x) - D(G(z))),\quad L_G = E f(D(G(z)) - D(x)) .

Gradient penalties centred at zero, on the data (R1, Mescheder et al. 2018) and on the draws (R2):

.. math:: R(x) = E\,|\nabla_x D(x)|^2 ,\quad L_D \leftarrow L_D + \tfrac{\gamma_1}{2} R(x) + \tfrac{\gamma_2}{2} R(G(z)) ,

with which the game converges locally (Huang et al. 2024, proposition II).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Game", "discriminator_game", "generator_game", "gradient_penalty"]

Game = Literal["relativistic", "non-saturating"]


def generator_game(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """L_G of the logits D(x), D(G(z)), both (B,)."""
    return F.softplus(real - fake).mean() if game == "relativistic" else F.softplus(-fake).mean()


def discriminator_game(game: Game, real: Tensor, fake: Tensor) -> Tensor:
    """L_D of the logits D(x), D(G(z)), both (B,), without penalties."""
    if game == "relativistic":
        return F.softplus(fake - real).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def gradient_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Mean over the batch of |grad_x D(x)|^2. logits (B,): D of x (B, ...), which requires a gradient; D treats samples one by one."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=torch.is_grad_enabled())
    return gradient.flatten(1).square().sum(1).mean()
