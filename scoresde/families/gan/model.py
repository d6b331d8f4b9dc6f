r"""Generative adversarial networks.

A generator :math:`x = G(z),\ z \sim N(0, I)`, is trained by a game of
:mod:`scoresde.families.gan.losses`. The model is implicit: it has draws and no density. Restoration
samples the latent space, :math:`p(z \mid y) \propto N(z; 0, I)\, p(y \mid G(z))`. (CSGM, Bora et
al. 2017, takes the maximum of this density; here it is sampled.) All draws lie in the range of G.
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

    Args:
        shape: Shape of a sample: an image (C, H, W) or a vector (D,).
        latent: Number of entries of z.
        widths: Of an image, channels of each level, finest first; each level halves the resolution.
            Of a vector, units of each hidden layer.
        patch: Side of the square of pixels folded into channels; unused for vectors.
        blocks: Residual blocks per level; unused for vectors.
        game: "relativistic" or "non-saturating".
        r1: Weight of the gradient penalty on data. Penalties have the units of x squared, so the
            weight must grow with the square of the scale of x.
        r2: Weight of the gradient penalty on draws, in the same units.
        ema: Decay per step of the average of the generator's weights.

    Raises:
        ValueError: If a size is not positive, the game is unknown, or a weight or decay is out of
            range.
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
    """A generator G, a discriminator D, and an average of G's weights that makes the draws.

    A training step is the two losses, one step of an optimizer per player, and ``update_average``.
    ``step`` does all three.

    Args:
        config: Size and game.

    Attributes:
        generator: G, from z (B, latent) to x (B, *shape).
        discriminator: D, from x (B, *shape) to logits (B,).
        average: Copy of G whose weights are the exponential average.
        taken: Number of steps in the average, a scalar int64 tensor.

    Example:
        >>> import torch
        >>> from scoresde.families import GAN, GANConfig
        >>> model = GAN(GANConfig(shape=(2,), latent=3, widths=(8,)))
        >>> optimizer_g = torch.optim.SGD(model.generator.parameters(), lr=1e-3)
        >>> optimizer_d = torch.optim.SGD(model.discriminator.parameters(), lr=1e-3)
        >>> loss_g, loss_d = model.step(torch.zeros(4, 2), optimizer_g, optimizer_d)
        >>> int(model.taken), model.sample(5).shape
        (1, torch.Size([5, 2]))
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
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis."""
        return self.config.shape

    @property
    def nfe_per_sample(self) -> int:
        """Network evaluations per sample: one."""
        return 1

    def players(self) -> dict[str, nn.Module]:
        """List the two players in the order of their steps.

        Returns:
            "discriminator" and "generator", with their modules.
        """
        return {"discriminator": self.discriminator, "generator": self.generator}

    def player_loss(
        self, player: str, x: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Compute the loss of one player.

        Args:
            player: "discriminator" or "generator".
            x: Samples, shape (B, *shape).
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            The scalar that this player minimises.

        Raises:
            ValueError: If the player is unknown, or x is not a batch of this model's samples.
        """
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
        """Update the average of the generator's weights."""
        self.update_average()

    def latents(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw latent vectors from N(0, I).

        Args:
            n: Number of vectors.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            z, shape (n, latent).
        """
        return normal((n, self.config.latent), generator, next(self.parameters()))

    def generator_loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute L_G with the discriminator fixed: its parameters get no gradient.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            The generator's loss, a scalar.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
        self.check(x)
        fixed = {name: p.detach() for name, p in self.discriminator.named_parameters()}

        def judge(x: Tensor) -> Tensor:
            return torch.func.functional_call(self.discriminator, fixed, (x,))

        return generator_game(
            self.config.game, judge(x), judge(self.generator(self.latents(len(x), generator)))
        )

    def discriminator_loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute L_D with its penalties and the generator fixed.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            The discriminator's loss, a scalar.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
        self.check(x)
        r1, r2 = self.config.r1, self.config.r2
        with torch.no_grad():
            draws = self.generator(self.latents(len(x), generator))
        x, draws = x.detach(), draws.detach()
        # The penalties need gradients, even if the caller needs none of the loss.
        with torch.enable_grad():
            x, draws = x.clone().requires_grad_(r1 > 0), draws.requires_grad_(r2 > 0)
            real, fake = self.discriminator(x), self.discriminator(draws)
            loss = discriminator_game(self.config.game, real, fake)
            if r1 > 0:
                loss = loss + 0.5 * r1 * gradient_penalty(real, x)
            if r2 > 0:
                loss = loss + 0.5 * r2 * gradient_penalty(fake, draws)
        return loss if torch.is_grad_enabled() else loss.detach()

    def losses(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Compute the losses of both players.

        Each has gradients with respect to its own player only, so a trainer may descend them
        together or in alternation.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            L_G and L_D, scalars.
        """
        return self.generator_loss(x, generator), self.discriminator_loss(x, generator)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute L_G + L_D.

        Its gradient is that of each player's own loss, so one optimizer descends both at the same
        time.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            The sum of the losses, a scalar.
        """
        ours, theirs = self.losses(x, generator)
        return ours + theirs

    def step(
        self,
        x: Tensor,
        optimizer_g: torch.optim.Optimizer,
        optimizer_d: torch.optim.Optimizer,
        generator: torch.Generator | None = None,
    ) -> tuple[float, float]:
        """Train the discriminator for one step, then the generator, then update the average.

        The generator's loss uses the new discriminator.

        Args:
            x: Samples, shape (B, *shape).
            optimizer_g: Optimizer of the generator's parameters.
            optimizer_d: Optimizer of the discriminator's parameters.
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            L_G and L_D, each before the step of its player.
        """
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
        """Move the averaged weights towards those of the generator.

        average <- d average + (1 - d) generator, with d = min(ema, (1 + k) / (10 + k)) at step k,
        so that the memory is short at first.
        """
        ema_update(self.config.ema)(
            list(self.average.buffers()), list(self.generator.parameters()), self.taken
        )
        self.taken += 1

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw G(z) with the averaged weights.

        Args:
            n: Number of draws, at least 1.
            generator: Source of the latent vectors; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).

        Raises:
            ValueError: If n < 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return self.average(self.latents(n, generator))

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Draw x = G(z) with z of p(z | y), by Hamiltonian Monte Carlo.

        This is exact for the model in the limit of a long chain. The settings are those of
        ``latent_posterior`` (steps, leapfrog, restarts, climb, chains).
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
