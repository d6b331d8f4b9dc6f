"""Settings of a training run: everything that decides its result, and nothing else."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from problems.checks import check_choice
from scoresde.networks import UNetConfig
from scoresde.training.objective import WEIGHTINGS, NoiseLevels

__all__ = ["LoopConfig", "TrainConfig"]


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the training loop, of any model.

    Args:
        steps: Optimizer steps, of every player of an adversarial game.
        batch: Samples per step and process.
        accumulate: Parts in which the batch of a step goes through the model, one after another, to
            save memory. The gradient is that of the whole batch, up to rounding, for losses that
            are means over samples.
        learning_rate: Peak learning rate of AdamW, reached after `warmup` steps.
        warmup: Steps of linear warm-up.
        cooldown: Part of the steps, in (0, 1], at the end, in which a cosine takes the rate to
            zero. Until it begins, a run may be resumed with another number of steps.
        weight_decay: Weight decay of AdamW.
        ema: Decay of the exponential average of the weights, in [0, 1); 0 for no average.
        clip: Largest norm of a gradient.
        betas: Decay rates of AdamW's moments.
        precision: "bf16" for mixed precision, or "no".
        seed: Seed of all random numbers.
        snapshot_every: Steps between snapshots of the power-function averages of the weights
            (:mod:`scoresde.training.posthoc`); None for none.

    Raises:
        ValueError: If a setting is out of its range.
    """

    steps: int = 5000
    batch: int = 64
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 200
    cooldown: float = 1.0
    weight_decay: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    precision: str = "no"
    seed: int = 0
    snapshot_every: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if min(self.steps, self.batch) < 1:
            raise ValueError(f"steps and batch must be positive, got {self.steps} and {self.batch}")
        if not (self.learning_rate > 0 and self.clip > 0 and 0 <= self.ema < 1):
            raise ValueError("learning_rate and clip must be positive and ema in [0, 1)")
        if self.accumulate < 1 or (self.snapshot_every is not None and self.snapshot_every < 1):
            raise ValueError(
                "accumulate and snapshot_every must be positive, "
                f"got {self.accumulate} and {self.snapshot_every}"
            )
        if not 0 < self.cooldown <= 1:
            raise ValueError(f"cooldown must be in (0, 1], got {self.cooldown}")
        if self.precision not in ("bf16", "no"):
            raise ValueError(f"precision must be 'bf16' or 'no', got {self.precision!r}")

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values.

        Returns:
            The settings by name, nested dataclasses as dictionaries.
        """
        return asdict(self)


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """Settings of :func:`scoresde.training.train`.

    Args:
        steps: Optimizer steps.
        batch: Images of the first crop size, per step and process.
        accumulate: Parts in which the batch of a step goes through the network, to save memory.
        learning_rate: Peak learning rate of AdamW.
        warmup: Steps of linear warm-up.
        cooldown: Part of the steps, at the end, in which a cosine takes the rate to zero.
        weight_decay: Weight decay of AdamW.
        ema: Decay of the exponential average of the weights, in [0, 1).
        clip: Largest norm of a gradient.
        betas: Decay rates of AdamW's moments.
        precision: "bf16" for mixed precision inside the network, or "no".
        seed: Seed of all random numbers.
        snapshot_every: Steps between snapshots of averages, for
            :func:`scoresde.training.average_weights`; None for none.
        crops: Side lengths of the crops in pixels. One is chosen at random each step; larger ones
            come in proportionally smaller batches, so that each step sees as many pixels.
        sigma_data: Standard deviation of the data on [-1, 1].
        fourier: Exponents of the Fourier features of :class:`scoresde.ScorePrior`, whose channels
            the network must have as `extra`.
        noise: Distribution of the noise levels.
        weighting: Weights of the noise levels in the loss, "edm", "min-snr" or "likelihood"
            (:func:`scoresde.training.objective.loss_weight`).
        network: Architecture.

    Raises:
        ValueError: If a setting is out of its range, or the network does not fit the features.

    Example:
        >>> TrainConfig(steps=100, crops=(64, 128)).batch
        16
    """

    steps: int = 20_000
    batch: int = 16
    precision: str = "bf16"
    crops: tuple[int, ...] = (64,)
    sigma_data: float = 0.5
    fourier: tuple[int, ...] = ()
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    weighting: str = "edm"
    network: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "crops", tuple(self.crops))
        object.__setattr__(self, "fourier", tuple(self.fourier))
        extra = 2 * self.network.channels * len(self.fourier)
        if self.network.extra != extra:
            raise ValueError(
                f"{len(self.fourier)} Fourier features of {self.network.channels} channels need a "
                f"network with extra={extra}, got {self.network.extra}"
            )
        check_choice("weighting", self.weighting, WEIGHTINGS)
        if not self.crops or min(self.crops) < 1:
            raise ValueError("crops must be positive")
        if not self.sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "TrainConfig":
        """Read what :meth:`to_dict` gave; unknown keys are ignored.

        Args:
            settings: Plain values by name.

        Returns:
            The configuration.
        """
        known = {f.name for f in fields(cls)}
        rest = {k: v for k, v in settings.items() if k in known - {"noise", "network"}}
        return cls(
            noise=NoiseLevels(**settings["noise"]),
            network=UNetConfig(**settings["network"]),
            **rest,
        )
