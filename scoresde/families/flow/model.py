r"""Normalising flows: x is an invertible function of white noise.

The density follows by the change of variables,

.. math:: \ln p(x) = \ln N(z; 0, I) + \ln\left|\det\frac{\partial z}{\partial x}\right|,
          \qquad z = f(x).

This is Glow (Kingma and Dhariwal 2018) in the multiscale architecture of Real NVP (Dinh et al.
2017). At each level, 2x2 pixels are folded into channels, and steps of actnorm, 1x1 mixing and
coupling follow (affine, or by the splines of Durkan et al. 2019). Then half of the channels leave,
standardised by the mean and scale that the other half predicts for them.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from problems.random_numbers import normal
from scoresde.families.base import DensityKind, GenerativeModel, LogProb
from scoresde.families.flow.couplings import Coupling, SplineCoupling, Split
from scoresde.families.flow.layers import ActNorm, Bijection, Logit, Mixing, Squeeze
from scoresde.families.latent.posterior import latent_posterior
from solvers.posterior.records import Draws, Request

__all__ = ["Flow", "FlowConfig"]


@dataclass(frozen=True)
class FlowConfig:
    """Size of a :class:`Flow`.

    Args:
        shape: Shape of a sample: an image (C, H, W) or a vector (D,).
        levels: Squeezes, each of which halves the resolution; 0 for vectors.
        steps: Steps of flow at each level.
        hidden: Width of the networks in the couplings.
        coupling: "affine" or "spline". Splines are much more expressive in few dimensions.
        bound: Bound on the log-scales of affine couplings.
        bins: Bins of the splines.
        alpha: Margin of the logit that comes first and maps [-1, 1] to the real line; 0 for no
            logit. None for 0.05 for images, and 0 for vectors, which may leave [-1, 1].

    Raises:
        ValueError: If a size is out of range or the levels do not fit the shape.
    """

    shape: tuple[int, ...] = (1, 28, 28)
    levels: int = 2
    steps: int = 16
    hidden: int = 128
    coupling: Literal["affine", "spline"] = "affine"
    bound: float = 2.0
    bins: int = 8
    alpha: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        alpha = self.alpha if self.alpha is not None else 0.05 * (len(self.shape) == 3)
        object.__setattr__(self, "alpha", alpha)
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise ValueError(f"a flow models vectors (D,) or images (C, H, W), got {self.shape}")
        if len(self.shape) == 1 and (self.levels != 0 or self.shape[0] < 2):
            raise ValueError(
                f"a flow of vectors needs at least 2 entries and levels = 0, got {self}"
            )
        if len(self.shape) == 3 and (
            self.levels < 1 or any(side % 2**self.levels for side in self.shape[1:])
        ):
            raise ValueError(
                f"the sides {self.shape[1:]} must be multiples of 2^levels, with at least one "
                f"level; got levels = {self.levels}"
            )
        if self.coupling not in ("affine", "spline"):
            raise ValueError(f"the coupling must be 'affine' or 'spline', got {self.coupling!r}")
        if (
            min(self.steps, self.hidden) < 1
            or self.bins < 2
            or not self.bound > 0
            or not 0 <= alpha < 0.5
        ):
            raise ValueError(
                "steps, hidden and bound must be positive, bins 2 or more and alpha in [0, 0.5), "
                f"got {self}"
            )


class Flow(GenerativeModel):
    """Real NVP / Glow.

    Its density on [-1, 1] is exact; the caller must dequantise grey levels.

    Args:
        config: Size; None for the defaults.

    Example:
        >>> import torch
        >>> from scoresde.families import Flow, FlowConfig
        >>> model = Flow(FlowConfig(shape=(2,), levels=0, steps=2, hidden=8))
        >>> x = torch.tensor([[0.5, -0.3]])
        >>> z, log_det = model(x)
        >>> torch.allclose(model.inverse(z), x, atol=1e-5)
        True
        >>> density = model.log_prob(torch.zeros(1, 2)).value.detach()
        >>> round(float(density), 3)  # that of N(0, I) before training
        -1.838
    """

    density: ClassVar[DensityKind] = "exact"

    def __init__(self, config: FlowConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FlowConfig()
        self._image = config.shape if len(config.shape) == 3 else (*config.shape, 1, 1)
        kernel = 3 if len(config.shape) == 3 else 1
        self.first = Logit(config.alpha) if config.alpha else None
        channels, height, width = self._image
        levels, splits, self._parts = [], [], []
        for i in range(max(1, config.levels)):
            layers: list[Bijection] = []
            if config.levels:
                layers.append(Squeeze())
                channels, height, width = 4 * channels, height // 2, width // 2
            for _ in range(config.steps):
                layers += [ActNorm(channels), Mixing(channels)]
                if config.coupling == "affine":
                    layers.append(Coupling(channels, config.hidden, kernel, config.bound))
                else:
                    layers.append(SplineCoupling(channels, config.hidden, kernel, config.bins))
            levels.append(nn.ModuleList(layers))
            if i + 1 < config.levels:
                splits.append(Split(channels, config.hidden, config.bound))
                self._parts.append((channels - channels // 2, height, width))
                channels //= 2
        self._parts.append((channels, height, width))
        self.levels, self.splits = nn.ModuleList(levels), nn.ModuleList(splits)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis."""
        return self.config.shape

    @property
    def continuous(self) -> bool:
        """True: the model learns a density on [-1, 1]."""
        return True

    @property
    def nfe_per_sample(self) -> int:
        """Network evaluations per sample: one."""
        return 1

    @property
    def dimension(self) -> int:
        """Number D of entries of x and of z."""
        return math.prod(self.shape)

    def forward(self, x: Tensor, initialise: bool = False) -> tuple[Tensor, Tensor]:
        """Compute z and the log-determinant of the Jacobian.

        Args:
            x: Samples, shape (B, *shape).
            initialise: Set the actnorms by this batch, if they have not been set.

        Returns:
            z, shape (B, D), and ln|det dz/dx|, shape (B,).
        """
        x = x.reshape(-1, *self._image)
        total = x.new_zeros(len(x))
        if self.first is not None:
            x, total = self.first(x)
        parts = []
        for i, layers in enumerate(self.levels):
            for layer in layers.children():
                if initialise and isinstance(layer, ActNorm) and not layer.initialised:
                    layer.initialise(x)
                x, log_det = layer(x)
                total = total + log_det
            if i < len(self.splits):
                x, gone, log_det = self.splits[i](x)
                total = total + log_det
                parts.append(gone)
        return torch.cat([part.flatten(1) for part in (*parts, x)], 1), total

    def inverse(self, z: Tensor) -> Tensor:
        """Compute x from z.

        Args:
            z: Latent vectors, shape (B, D).

        Returns:
            Samples, shape (B, *shape).
        """
        pieces = z.split([math.prod(part) for part in self._parts], dim=1)
        parts = [piece.reshape(-1, *part) for piece, part in zip(pieces, self._parts, strict=True)]
        x = parts[-1]
        for i in reversed(range(len(self.levels))):
            if i < len(self.splits):
                x = self.splits[i].inverse(x, parts[i])  # type: ignore[operator]
            for layer in reversed(list(self.levels[i].children())):
                x = layer.inverse(x)  # type: ignore[operator]
        if self.first is not None:
            x = self.first.inverse(x)
        return x.reshape(-1, *self.shape)

    def _frozen(self) -> "Flow":
        """Copy the flow for many calls of ``inverse``.

        The copy's parameters do not require gradients, and its mixing matrices are inverted once.
        """
        flow = copy.deepcopy(self).eval().requires_grad_(False)
        for layer in flow.modules():
            if isinstance(layer, Mixing):
                layer.fixed = layer.inverse_matrix()
        return flow

    def _log_density(self, x: Tensor, initialise: bool = False) -> Tensor:
        z, log_det = self(x, initialise)
        value = (
            log_det.double()
            - (z.double().square().sum(1) + self.dimension * math.log(2 * math.pi)) / 2
        )
        return torch.where(torch.isneginf(log_det), -math.inf, value)

    @torch.no_grad()
    def prepare(self, x: Tensor) -> None:
        """Set the actnorms by a batch, if they have not been set.

        Args:
            x: Samples, shape (B, *shape).
        """
        self._log_density(x, initialise=True)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute -ln p(x) in nats per dimension.

        The first batch in training mode sets the actnorms.

        Args:
            x: Samples, shape (B, *shape).
            generator: Not used.

        Returns:
            The mean over the batch, a scalar.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
        self.check(x)
        return -self._log_density(x, initialise=self.training).mean().to(x.dtype) / self.dimension

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """Compute ln p(x) exactly; the result is differentiable in x.

        Args:
            x: Samples, shape (B, *shape).
            k: Not used.
            generator: Not used.

        Returns:
            Log-densities in nats, shape (B,), float64.

        Raises:
            ValueError: If x is not a batch of this model's samples.
        """
        self.check(x)
        return LogProb(self._log_density(x), "exact")

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples by inverting the flow at white noise.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).
        """
        return self.inverse(normal((n, self.dimension), generator, next(self.parameters())))

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Draw by Hamiltonian Monte Carlo in z.

        The posterior of z is exactly N(z; 0, I) p(y | x(z)). The draws are exact in the limit of
        long chains. The settings are those of ``latent_posterior`` (steps, leapfrog, restarts,
        climb, chains).
        """
        decode = self._frozen().inverse
        z, found = latent_posterior(
            decode,
            (self.dimension,),
            request.problem,
            request.y,
            request.n,
            request.generator,
            progress=request.progress,
            **settings,
        )
        x = torch.cat([decode(one) for one in z]).reshape(request.n, len(request.y), *self.shape)
        return Draws(x, found["nfe"] + 1, found["vjps"], found)
