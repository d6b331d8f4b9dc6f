"""The interface of all families of generative models.

Each family offers a density (or a bound, or none), draws, a training loss, and draws of the
posterior of a measurement.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from problems import InverseProblem
from solvers.posterior.base import Posterior
from solvers.posterior.records import Draws, Request, silent

__all__ = ["DensityKind", "GenerativeModel", "LogProb"]

DensityKind = Literal["exact", "bound", "implicit"]


@dataclass(frozen=True)
class LogProb:
    """Log-probabilities of a batch of samples, in nats.

    Args:
        value: ln p(x) or a bound on it, shape (B,).
        kind: "exact", or the name of the lower bound: "ELBO" or "IWAE".
        discrete: True for the probability of the 8-bit picture itself, False for the density of x
            on [-1, 1].
        std_error: Standard error due to the random numbers of the estimate, shape (B,); None if no
            random numbers were used.

    Example:
        >>> import torch
        >>> from scoresde.families import Flow, FlowConfig
        >>> model = Flow(FlowConfig(shape=(2,), levels=0, steps=1, hidden=8))
        >>> found = model.log_prob(torch.zeros(3, 2))
        >>> found.value.shape, found.kind, found.discrete, found.std_error
        (torch.Size([3]), 'exact', False, None)
    """

    value: Tensor
    kind: Literal["exact", "ELBO", "IWAE"]
    discrete: bool = False
    std_error: Tensor | None = None


class GenerativeModel(nn.Module, ABC):
    """Base class of generative models of samples of one shape; images are on [-1, 1].

    Attributes:
        density: "exact" (``log_prob`` is the density), "bound" (``log_prob`` is a lower bound on
            it) or "implicit" (there is no density to evaluate).
        config: Frozen dataclass that builds the same network again: ``type(model)(model.config)``.
        card: Model card: how the model was trained, as JSON values. It is stored with the weights.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde.families import VAE, GenerativeModel, VAEConfig
        >>> config = VAEConfig(shape=(1, 4, 4), latent=2, widths=(4,))
        >>> model: GenerativeModel = VAE(config).eval()
        >>> x = model.sample(2, torch.Generator().manual_seed(0))
        >>> model.loss(x).shape, model.log_prob(x).kind
        (torch.Size([]), 'ELBO')
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> y = problem.measure(x, torch.Generator().manual_seed(1))
        >>> generator = torch.Generator().manual_seed(2)
        >>> posterior = model.restore(problem, y, n=3, steps=4, climb=2, generator=generator)
        >>> posterior.draws.shape
        torch.Size([3, 2, 1, 4, 4])
    """

    density: ClassVar[DensityKind]
    config: Any

    def __init__(self) -> None:
        super().__init__()
        self.card: dict[str, Any] = {}

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis."""

    @property
    @abstractmethod
    def nfe_per_sample(self) -> int:
        """Network evaluations per sample."""

    @abstractmethod
    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute the training loss of a batch.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the random numbers of the loss; None for torch's global one.

        Returns:
            The scalar to minimise.
        """

    def players(self) -> dict[str, nn.Module]:
        """List the modules that are trained in turn in every step, each by its own loss.

        Returns:
            Modules by name. Only a GAN has more than one.
        """
        return {"model": self}

    def player_loss(
        self, player: str, x: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Compute the training loss of one player.

        Args:
            player: Name of the player, a key of :meth:`players`.
            x: Samples, shape (B, *shape).
            generator: Source of the random numbers of the loss; None for torch's global one.

        Returns:
            The scalar that this player minimises.
        """
        return self.loss(x, generator)

    def prepare(self, x: Tensor) -> None:
        """Set by the first batch what a model sets by data; by default, do nothing.

        Several processes that train call it with the whole batch, so that all have the same.

        Args:
            x: Samples, shape (B, *shape).
        """

    def after_step(self) -> None:
        """Update the model after all players have taken their step; by default, do nothing."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Args:
            n: Number of draws, at least 1.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).
        """

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """Compute ln p(x), or a lower bound on it.

        Args:
            x: Samples, shape (B, *shape).
            k: Samples or probes per point, for families whose result is an estimate.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Log-probabilities in nats, shape (B,), and their kind.

        Raises:
            ValueError: If the family has no density, or x is not a batch of this model's samples.
        """
        raise ValueError(
            f"{type(self).__name__} is an implicit model: it draws samples and has no density to "
            "evaluate"
        )

    def restore(
        self,
        problem: InverseProblem,
        y: Tensor,
        n: int = 1,
        *,
        generator: torch.Generator | None = None,
        progress: Callable[[float], None] | None = None,
        **settings: Any,
    ) -> Posterior:
        """Draw from the posterior p(x | y) by the family's own method.

        Args:
            problem: Operator and noise of the measurement.
            y: Measurements, shape (B, ...).
            n: Draws per measurement, at least 1.
            generator: Source of the random numbers; None for torch's global one.
            progress: Called with the finished fraction of the work, 0 to 1; None for no reports.
            **settings: Settings of the family's method, such as ``steps``.

        Returns:
            The draws, shape (n, B, *shape), with their cost and the diagnostics of the method.

        Raises:
            ValueError: If y has the wrong shape or entries that are not finite, or n or a setting
                is invalid.
        """
        start = time.perf_counter()
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        expected = tuple(problem.operator.output_shape(self.shape))
        if tuple(y.shape[1:]) != expected:
            raise ValueError(
                f"a sample of shape {tuple(self.shape)} measures as {expected}, "
                f"got measurements of shape {tuple(y.shape[1:])}"
            )
        y = problem.operator.mask_unobserved(y).to(next(self.parameters()))
        if not bool(torch.isfinite(y).all()):
            raise ValueError("the measurement has NaN or infinite entries; mask them out")
        draws = self._restore(
            Request(problem, y, n, generator, progress=progress or silent), **settings
        )
        return Posterior(
            draws.x, draws.nfe, draws.vjps, time.perf_counter() - start, draws.diagnostics
        )

    @abstractmethod
    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Draw the posterior of a checked request.

        ``request.y`` has the precision and the device of the model, and zeros where nothing is
        observed.
        """

    @property
    def continuous(self) -> bool:
        """True if the model learns a density on [-1, 1], False if it learns the grey levels.

        The grey levels k of the training data are dequantised in the first case, to (k + u)/128 - 1
        with u uniform on [0, 1]. Otherwise they become k/127.5 - 1.
        """
        return False

    def as_pictures(self, x: Tensor) -> Tensor:
        """Round samples to the values that 8 bits can show.

        Args:
            x: Samples on [-1, 1], of any shape.

        Returns:
            The grey level k of each entry, as k/127.5 - 1, shape of x.
        """
        level = ((x + 1) * 128).floor() if self.continuous else ((x + 1) * 127.5).round()
        return level.clamp(0, 255) / 127.5 - 1

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def parameter_count(self) -> int:
        """Number of entries of all parameters."""
        return sum(p.numel() for p in self.parameters())

    def check(self, x: Tensor) -> None:
        """Check that x is a batch of finite samples of this model's shape.

        Args:
            x: Samples, shape (B, *shape).

        Raises:
            ValueError: If the shape is another one, or an entry is NaN or infinite.
        """
        if tuple(x.shape[1:]) != tuple(self.shape):
            raise ValueError(
                f"{type(self).__name__} is a model of samples {tuple(self.shape)}, "
                f"got a batch of shape {tuple(x.shape)}"
            )
        if not bool(torch.isfinite(x).all()):
            raise ValueError("the samples have NaN or infinite entries")
