r"""Variational autoencoders (Kingma and Welling 2014; Rezende et al. 2014).

.. math:: \ln p(x) \ge E_{q(z|x)}[\ln p(x | z)] - \mathrm{KL}(q(z|x) \,\|\, N(0, I)), \qquad q(z|x) = N(m(x), \mathrm{diag}\,s(x)^2),

with equality if q is the posterior of z. k draws at once give the tighter bound
:math:`E \ln \tfrac1k \sum_i p(x, z_i)/q(z_i|x)` (IWAE, Burda et al. 2016).
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems.random_numbers import normal
from scoresde.families.base import DensityKind, GenerativeModel, LogProb
from scoresde.families.vae.likelihood import GaussianLikelihood, LogisticLikelihood, PixelLikelihood
from scoresde.families.vae.networks import ConvDecoder, ConvEncoder
from scoresde.families.vae.posterior import restore
from scoresde.networks import perceptron
from solvers.posterior.records import Draws, Request

__all__ = ["VAE", "VAEConfig"]

_ELBO_DRAWS = 8


@dataclass(frozen=True)
class VAEConfig:
    """Size and objective of a :class:`VAE`.

    shape: (C, H, W) or (D,). latent: entries of z. widths: channels of each level of resolution, finest first; for vectors the hidden
    layers, none for affine maps. blocks: residual blocks per level. patch: side of the pixels folded into channels. likelihood: "logistic"
    (of 256 grey levels, a mixture of ``components``) or "gaussian" (one standard deviation, learnt from ``std``). beta: weight of the KL in
    the loss (Higgins et al. 2017). free_bits: KL of each latent entry, nats, below which the loss does not push (Kingma et al. 2016).
    """

    shape: tuple[int, ...] = (1, 28, 28)
    latent: int = 32
    widths: tuple[int, ...] = (48, 96)
    blocks: int = 1
    patch: int = 2
    likelihood: Literal["logistic", "gaussian"] = "logistic"
    components: int = 2
    std: float = 0.2
    beta: float = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.shape) not in (1, 3):
            raise ValueError(f"a VAE is of vectors (D,) or images (C, H, W), got {self.shape}")
        if (
            min(self.latent, self.patch, self.components, *self.shape, *self.widths) < 1
            or self.blocks < 0
        ):
            raise ValueError(f"all sizes of a VAE must be positive, got {self}")
        stride = self.patch * 2 ** (len(self.widths) - 1) if self.widths else 0
        if len(self.shape) == 3 and (not stride or any(side % stride for side in self.shape[1:])):
            raise ValueError(
                f"the sides {self.shape[1:]} must be multiples of patch 2^(levels - 1), with a level at least; widths {self.widths}"
            )
        if self.likelihood not in ("logistic", "gaussian"):
            raise ValueError(
                f"the likelihood must be 'logistic' or 'gaussian', got {self.likelihood!r}"
            )
        if not (self.std > 0 and self.beta >= 0 and self.free_bits >= 0):
            raise ValueError("std must be positive, beta and free_bits must not be negative")


class VAE(GenerativeModel):
    """Encoder, decoder, N(0, I) before z. With the logistic likelihood log-probabilities are of the grey levels themselves."""

    density: ClassVar[DensityKind] = "bound"

    def __init__(self, config: VAEConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VAEConfig()
        gaussian = config.likelihood == "gaussian"
        self.likelihood: PixelLikelihood = (
            GaussianLikelihood(config.std) if gaussian else LogisticLikelihood(config.components)
        )
        self.encoder: torch.nn.Module
        self.decoder: torch.nn.Module
        outputs = config.shape[0] * self.likelihood.outputs
        if len(config.shape) == 3:
            size = (config.shape[0], config.shape[1], config.shape[2])
            self.encoder = ConvEncoder(
                size, config.widths, config.blocks, config.patch, 2 * config.latent
            )
            self.decoder = ConvDecoder(
                outputs, size[1:], config.widths, config.blocks, config.patch, config.latent
            )
        else:
            self.encoder = perceptron(config.shape[0], config.widths, 2 * config.latent)
            self.decoder = perceptron(config.latent, config.widths[::-1], outputs)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.config.shape

    @property
    def continuous(self) -> bool:
        return self.config.likelihood == "gaussian"

    @property
    def nfe_per_sample(self) -> int:
        return 1

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation of q(z | x), each (B, latent)."""
        out = self.encoder(x)
        mean, log_std = out.to(x.dtype).chunk(2, dim=1)
        return mean, log_std.clamp(-8, 4)

    def raw_outputs(self, z: Tensor) -> Tensor:
        """What the decoder says of each entry, (B, *shape, outputs), in the precision of z."""
        return (
            self.decoder(z)
            .to(z.dtype)
            .unflatten(1, (self.shape[0], self.likelihood.outputs))
            .movedim(2, -1)
        )

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z], (B, *shape)."""
        return self.likelihood.mean(self.raw_outputs(z))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-ELBO with beta and free bits (on the batch's mean of each latent entry's KL), in nats per dimension."""
        self.check(x)
        mean, log_std = self.encode(x)
        z = mean + log_std.exp() * normal(mean.shape, generator, mean)
        kl = kl_to_standard_normal(mean, log_std).mean(0).clamp_min(self.config.free_bits).sum()
        data = self.likelihood.log_prob(x, self.raw_outputs(z)).mean()
        return (self.config.beta * kl - data) / math.prod(self.shape)

    @torch.no_grad()
    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """k = 1: the ELBO (beta = 1, no free bits) as the mean of 8 draws, with its exact KL; k > 1: the IWAE bound of k draws.

        The std_error of the latter is the delta method's, of the logarithm of a mean of k weights: it says nothing of a bound far below
        ln p(x) because no weight found the posterior.
        """
        self.check(x)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        mean, log_std = self.encode(x)
        draws = []
        for _ in range(k if k > 1 else _ELBO_DRAWS):
            noise = normal(mean.shape, generator, mean)
            z = mean + log_std.exp() * noise
            value = self.likelihood.log_prob(x, self.raw_outputs(z)).double()
            if k > 1:
                value = value + (
                    (noise.double().square() - z.double().square()) / 2 + log_std.double()
                ).sum(1)
            draws.append(value)
        values = torch.stack(draws)
        if k == 1:
            kl = kl_to_standard_normal(mean, log_std).double().sum(1)
            return LogProb(
                values.mean(0) - kl,
                "ELBO",
                self.likelihood.discrete,
                values.std(0) / math.sqrt(_ELBO_DRAWS),
            )
        share = values.softmax(0)
        std_error = (share.square().sum(0) - 1 / k).clamp_min(0).sqrt() * math.sqrt(k / (k - 1))
        return LogProb(
            values.logsumexp(0) - math.log(k), "IWAE", self.likelihood.discrete, std_error
        )

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of p(x | z) p(z), the noise of the likelihood included; ``decode`` gives pictures without it."""
        z = normal((n, self.config.latent), generator, next(self.parameters()))
        return self.likelihood.sample(self.raw_outputs(z), generator)

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Hamiltonian Monte Carlo on p(z | y); see :mod:`scoresde.families.vae.posterior` for what becomes of the decoder's noise.

        settings: of ``latent_posterior`` (steps, leapfrog, restarts, climb, chains).
        """
        frozen = copy.deepcopy(self).eval().requires_grad_(False)
        x, found = restore(frozen, request, **settings)
        return Draws(x, found["nfe"] + 1, found["vjps"], found)


def kl_to_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, 1)) of each entry, nats."""
    return (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std
