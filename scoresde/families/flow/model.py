r"""Normalising flows: pictures are an invertible function of white noise, and the density follows by the change of variables.

.. math:: \ln p(x) = \ln N(z; 0, I) + \ln\left|\det\frac{\partial z}{\partial x}\right|, \qquad z = f(x).

Glow (Kingma and Dhariwal 2018) in the multiscale frame of Real NVP (Dinh et al. 2017): at each level 2x2 pixels are folded into channels,
steps of actnorm, 1x1 mixing and coupling follow (affine, or by the splines of Durkan et al. 2019), and half of the channels leave,
standardised by what the other half predicts of them.
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

    shape: of a sample, (C, H, W), or (D,) for vectors. levels: squeezes, each halving the resolution (0 for vectors). steps: of flow at
    each level. hidden: width of the networks in the couplings. coupling: "affine", log-scales within ``bound``, or "spline", of so many
    ``bins``, much the stronger in few dimensions. alpha: margin of the logit that comes first and maps [-1, 1] to the line, 0 for none;
    0.05 for images and 0 for vectors, which may leave [-1, 1], if nothing is said.
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
            raise ValueError(f"a flow is of vectors (D,) or images (C, H, W), got {self.shape}")
        if len(self.shape) == 1 and (self.levels != 0 or self.shape[0] < 2):
            raise ValueError(f"a flow of vectors has 2 entries or more and levels = 0, got {self}")
        if len(self.shape) == 3 and (
            self.levels < 1 or any(side % 2**self.levels for side in self.shape[1:])
        ):
            raise ValueError(
                f"{self.levels} levels halve the sides {self.shape[1:]} to fractions; sides must be multiples of 2^levels"
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
                f"steps, hidden and bound must be positive, bins 2 or more and alpha in [0, 0.5), got {self}"
            )


class Flow(GenerativeModel):
    """Real NVP / Glow. Its density on [-1, 1] is exact; dequantisation of grey levels is the caller's."""

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
        return self.config.shape

    @property
    def continuous(self) -> bool:
        return True

    @property
    def nfe_per_sample(self) -> int:
        return 1

    @property
    def dimension(self) -> int:
        """Entries of x, and of z."""
        return math.prod(self.shape)

    def forward(self, x: Tensor, initialise: bool = False) -> tuple[Tensor, Tensor]:
        """x (B, *shape) -> z (B, D) and ln|det dz/dx| (B,). initialise: set the actnorms by this batch, if they have not been."""
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
        """z (B, D) -> x (B, *shape)."""
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
        """A copy for many calls of ``inverse``: no gradients of parameters, matrices inverted once."""
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

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """-ln p(x) in nats per dimension. The first batch in training mode sets the actnorms."""
        self.check(x)
        return -self._log_density(x, initialise=self.training).mean().to(x.dtype) / self.dimension

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """Exact; k and generator do not matter. Differentiable in x."""
        self.check(x)
        return LogProb(self._log_density(x), "exact")

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.inverse(normal((n, self.dimension), generator, next(self.parameters())))

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Hamiltonian Monte Carlo in z, where the posterior is N(z; 0, I) p(y | x(z)) exactly: asymptotically exact.

        settings: of ``latent_posterior`` (steps, leapfrog, restarts, climb, chains).
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
