r"""Variational autoencoders (Kingma and Welling 2014; Rezende et al. 2014).

.. math:: \ln p(x) \ge E_{q(z|x)}[\ln p(x | z)] - \mathrm{KL}(q(z|x) \,\|\, N(0, I)), \qquad
          q(z|x) = N(m(x), \mathrm{diag}\,s(x)^2),

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

    Args:
        shape: Shape of a sample: an image (C, H, W) or a vector (D,).
        latent: Number of entries of z.
        widths: Of an image, channels of each level of resolution, finest first. Of a vector, units
            of the hidden layers; none for affine maps.
        blocks: Residual blocks per level.
        patch: Side of the square of pixels folded into channels.
        likelihood: "logistic" (of 256 grey levels, a mixture) or "gaussian" (one learnt standard
            deviation).
        components: Components of the logistic mixture.
        std: Initial standard deviation of the Gaussian likelihood, on [-1, 1].
        beta: Weight of the KL divergence in the loss (Higgins et al. 2017).
        free_bits: KL divergence of each latent entry, in nats, below which the loss does not reduce
            it (Kingma et al. 2016).

    Raises:
        ValueError: If a size is not positive, the widths do not fit the shape, or the likelihood is
            unknown.
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
            raise ValueError(f"a VAE models vectors (D,) or images (C, H, W), got {self.shape}")
        if (
            min(self.latent, self.patch, self.components, *self.shape, *self.widths) < 1
            or self.blocks < 0
        ):
            raise ValueError(f"all sizes of a VAE must be positive, got {self}")
        stride = self.patch * 2 ** (len(self.widths) - 1) if self.widths else 0
        if len(self.shape) == 3 and (not stride or any(side % stride for side in self.shape[1:])):
            raise ValueError(
                f"the sides {self.shape[1:]} must be multiples of patch 2^(levels - 1), with at "
                f"least one level; got patch {self.patch} and widths {self.widths}"
            )
        if self.likelihood not in ("logistic", "gaussian"):
            raise ValueError(
                f"the likelihood must be 'logistic' or 'gaussian', got {self.likelihood!r}"
            )
        if not (self.std > 0 and self.beta >= 0 and self.free_bits >= 0):
            raise ValueError("std must be positive, beta and free_bits must not be negative")


class VAE(GenerativeModel):
    """An encoder, a decoder, and the prior N(0, I) of z.

    With the logistic likelihood, log-probabilities are those of the grey levels themselves.

    Args:
        config: Size and objective; None for the defaults.

    Example:
        >>> import torch
        >>> from scoresde.families import VAE, VAEConfig
        >>> model = VAE(VAEConfig(shape=(1, 4, 4), latent=2, widths=(4,)))
        >>> x = model.sample(3, torch.Generator().manual_seed(0))
        >>> x.shape, model.encode(x)[0].shape
        (torch.Size([3, 1, 4, 4]), torch.Size([3, 2]))
        >>> model.log_prob(x).kind, model.log_prob(x, k=16).kind
        ('ELBO', 'IWAE')
    """

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
        """Shape of one sample, without the batch axis."""
        return self.config.shape

    @property
    def continuous(self) -> bool:
        """True with the Gaussian likelihood: the model learns a density on [-1, 1]."""
        return self.config.likelihood == "gaussian"

    @property
    def nfe_per_sample(self) -> int:
        """Network evaluations per sample: one."""
        return 1

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the parameters of q(z | x).

        Args:
            x: Samples, shape (B, *shape).

        Returns:
            Mean and natural logarithm of the standard deviation, each (B, latent).
        """
        out = self.encoder(x)
        mean, log_std = out.to(x.dtype).chunk(2, dim=1)
        return mean, log_std.clamp(-8, 4)

    def raw_outputs(self, z: Tensor) -> Tensor:
        """Compute the parameters of p(x | z) for each entry of x.

        Args:
            z: Latent vectors, shape (B, latent).

        Returns:
            Outputs of the decoder, shape (B, *shape, outputs), in the precision of z.
        """
        return (
            self.decoder(z)
            .to(z.dtype)
            .unflatten(1, (self.shape[0], self.likelihood.outputs))
            .movedim(2, -1)
        )

    def decode(self, z: Tensor) -> Tensor:
        """Compute E[x | z].

        Args:
            z: Latent vectors, shape (B, latent).

        Returns:
            Means, shape (B, *shape).
        """
        return self.likelihood.mean(self.raw_outputs(z))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute the negative ELBO with beta and free bits, in nats per dimension.

        Free bits apply to the mean over the batch of each latent entry's KL divergence.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the draws of z; None for torch's global one.

        Returns:
            The scalar to minimise.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
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
        """Compute a lower bound on ln p(x).

        k = 1 gives the ELBO (beta = 1, no free bits) as the mean of 8 draws, with its exact KL
        divergence. k > 1 gives the IWAE bound of k draws. Its standard error is that of the delta
        method, for the logarithm of a mean of k weights. It does not show a bound far below ln p(x)
        that arises because no draw of z was near the posterior.

        Args:
            x: Samples, shape (B, *shape).
            k: Draws of z for each sample, at least 1.
            generator: Source of the draws of z; None for torch's global one.

        Returns:
            The bound in nats, shape (B,), with its standard errors.

        Raises:
            ValueError: If x is not a batch of this model's samples, or k < 1.
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
        """Draw from p(x | z) p(z), the noise of the likelihood included.

        ``decode`` gives pictures without this noise.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).
        """
        z = normal((n, self.config.latent), generator, next(self.parameters()))
        return self.likelihood.sample(self.raw_outputs(z), generator)

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Draw from p(z | y) by Hamiltonian Monte Carlo.

        See :mod:`scoresde.families.vae.posterior` for the treatment of the decoder's noise. The
        settings are those of ``latent_posterior`` (steps, leapfrog, restarts, climb, chains).
        """
        frozen = copy.deepcopy(self).eval().requires_grad_(False)
        x, found = restore(frozen, request, **settings)
        return Draws(x, found["nfe"] + 1, found["vjps"], found)


def kl_to_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """Compute KL(N(mean, std^2) || N(0, 1)) of each entry.

    Args:
        mean: Means, of any shape.
        log_std: Natural logarithms of the standard deviations, shape of mean.

    Returns:
        Divergences in nats, shape of mean.
    """
    return (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std
