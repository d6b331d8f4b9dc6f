r"""Generative adversarial networks: a generator :math:`x = G(z),\ z \sim N(0, I)`, trained by the game in ``gan_losses``.

An implicit model: draws and no density. Restoration searches the latent space, :math:`p(z \mid y) \propto N(z; 0, I)\, p(y \mid G(z))`
(CSGM, Bora et al. 2017, who take the maximum; here the draws are of the posterior itself). All of them lie on the range of G.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from problems.random_numbers import normal
from scoresde.families.base import DensityKind, GenerativeModel
from scoresde.families.gan.losses import Game, discriminator_game, generator_game, gradient_penalty
from scoresde.families.gan.networks import (
    ImageDiscriminator,
    ImageGenerator,
    VectorDiscriminator,
    VectorGenerator,
    frozen,
)
from scoresde.families.latent.posterior import latent_posterior
from scoresde.training.steps import ema_update
from solvers.posterior.records import Draws, Request

__all__ = ["GAN", "GANConfig"]


@dataclass(frozen=True)
class GANConfig:
    """Size and game of a :class:`GAN`.

    shape: of a sample, an image (C, H, W) or a vector (D,). latent: entries of z. widths: of an image, channels of each level, finest
    first, each level halving the resolution; of a vector, hidden units of each layer. patch: side of the blocks of pixels folded into
    channels. blocks: residual blocks per level. r1, r2: gradient penalties on data and on draws; in units of x squared, so they grow with
    the square of its scale. ema: decay per step of the average of the generator's weights. (patch and blocks mean nothing to a vector.)
    """

    shape: tuple[int, ...]
    latent: int = 64
    widths: tuple[int, ...] = (64, 128)
    patch: int = 2
    blocks: int = 1
    game: Game = "relativistic"
    r1: float = 1.0
    r2: float = 1.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.shape) not in (1, 3):
            raise ValueError(
                f"a GAN draws vectors (D,) or images (C, H, W), not samples of shape {self.shape}"
            )
        if (
            not self.widths
            or min(*self.shape, *self.widths, self.latent, self.patch, self.blocks) < 1
        ):
            raise ValueError(f"all sizes of a GAN must be positive, got {self}")
        if self.game not in get_args(Game):
            raise ValueError(
                f"the game of a GAN is one of {', '.join(get_args(Game))}, got {self.game}"
            )
        if not (self.r1 >= 0 and self.r2 >= 0):
            raise ValueError(
                f"gradient penalties must be at least 0, got r1 {self.r1} and r2 {self.r2}"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"the decay of the average must lie in [0, 1), got {self.ema}")


class GAN(GenerativeModel):
    """generator: G, z (B, latent) -> x. discriminator: D, x -> logits (B,). average: the running mean of G's weights, which draws.

    A step of training is ``losses``, one step of an optimizer per player, and ``update_average``; or ``step``, which does all three.
    """

    density: ClassVar[DensityKind] = "implicit"
    config: GANConfig
    taken: Tensor

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        if len(config.shape) == 3:
            self.generator: nn.Module = ImageGenerator(
                config.shape, config.latent, config.patch, config.widths, config.blocks
            )
            self.discriminator: nn.Module = ImageDiscriminator(
                config.shape, config.patch, config.widths, config.blocks
            )
        else:
            self.generator = VectorGenerator(config.shape[0], config.latent, config.widths)
            self.discriminator = VectorDiscriminator(config.shape[0], config.widths)
        self.average = frozen(self.generator)
        self.register_buffer(
            "taken", torch.zeros((), dtype=torch.int64)
        )  # steps that the average has seen

    @property
    def shape(self) -> tuple[int, ...]:
        return self.config.shape

    @property
    def nfe_per_sample(self) -> int:
        return 1

    def players(self) -> dict[str, nn.Module]:
        return {"discriminator": self.discriminator, "generator": self.generator}

    def player_loss(
        self, player: str, x: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        if player not in self.players():
            raise ValueError(
                f"the players of a GAN are {' and '.join(self.players())}, not {player}"
            )
        return (
            self.discriminator_loss(x, generator)
            if player == "discriminator"
            else self.generator_loss(x, generator)
        )

    def after_step(self) -> None:
        self.update_average()

    def latents(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """z ~ N(0, I), (n, latent)."""
        return normal((n, self.config.latent), generator, next(self.parameters()))

    def generator_loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """L_G. The discriminator is held fixed: its parameters get no gradient."""
        self.check(x)
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}

        def judge(x: Tensor) -> Tensor:
            return torch.func.functional_call(self.discriminator, fixed, (x,))

        return generator_game(
            self.config.game, judge(x), judge(self.generator(self.latents(len(x), generator)))
        )

    def discriminator_loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """L_D with its penalties. The generator is held fixed."""
        self.check(x)
        r1, r2 = self.config.r1, self.config.r2
        with torch.no_grad():
            draws = self.generator(self.latents(len(x), generator))
        x, draws = x.detach(), draws.detach()
        with (
            torch.enable_grad()
        ):  # the penalties are gradients even where nobody asks for one of the loss
            x, draws = x.clone().requires_grad_(r1 > 0), draws.requires_grad_(r2 > 0)
            real, fake = self.discriminator(x), self.discriminator(draws)
            loss = discriminator_game(self.config.game, real, fake)
            if r1 > 0:
                loss = loss + 0.5 * r1 * gradient_penalty(real, x)
            if r2 > 0:
                loss = loss + 0.5 * r2 * gradient_penalty(fake, draws)
        return loss if torch.is_grad_enabled() else loss.detach()

    def losses(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """(L_G, L_D). Each has gradients of its own player only, so that a trainer may take them together or by turns."""
        return self.generator_loss(x, generator), self.discriminator_loss(x, generator)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """L_G + L_D. Its gradient is that of each player's own loss: one optimizer then descends both at the same time."""
        ours, theirs = self.losses(x, generator)
        return ours + theirs

    def step(
        self,
        x: Tensor,
        optimizer_g: torch.optim.Optimizer,
        optimizer_d: torch.optim.Optimizer,
        generator: torch.Generator | None = None,
    ) -> tuple[float, float]:
        """One step of the discriminator, one of the generator against the new discriminator, one of the average. (L_G, L_D) before each."""
        values = {}
        for player, optimizer in (("discriminator", optimizer_d), ("generator", optimizer_g)):
            optimizer.zero_grad(set_to_none=True)
            value = self.player_loss(player, x, generator)
            value.backward()
            optimizer.step()
            values[player] = float(value.detach())
        self.after_step()
        return values["generator"], values["discriminator"]

    @torch.no_grad()
    def update_average(self) -> None:
        """average <- d average + (1 - d) generator, with d = min(ema, (1 + k) / (10 + k)) at step k, a short memory at first."""
        ema_update(self.config.ema)(
            list(self.average.buffers()), list(self.generator.parameters()), self.taken
        )
        self.taken += 1

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """G(z) with the averaged weights."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return self.average(self.latents(n, generator))

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """x = G(z), z of p(z | y) by Hamiltonian Monte Carlo: exact for this model in the limit of a long chain.

        settings: of ``latent_posterior`` (steps, leapfrog, restarts, climb, chains).
        """
        z, found = latent_posterior(
            self.average,
            (self.config.latent,),
            request.problem,
            request.y,
            request.n,
            request.generator,
            progress=request.progress,
            **settings,
        )
        with torch.no_grad():
            draws = self.average(z.flatten(0, 1)).reshape(request.n, len(request.y), *self.shape)
        return Draws(draws, found["nfe"] + 1, found["vjps"], found)
