"""Settings of a training run: everything that decides its result, and nothing else."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from problems.checks import check_choice
from scoresde.networks import UNetConfig
from scoresde.priors.header import config_kind, network_settings
from scoresde.training.checks import check_number, check_whole
from scoresde.training.objective import WEIGHTINGS, NoiseLevels

__all__ = ["LARGEST_SEED", "LoopConfig", "NetworkConfig", "TrainConfig"]

LARGEST_SEED = 2**63 - 1
"""Largest seed that a generator of torch takes from every caller."""

FINEST_FEATURE = 16
"""Largest exponent of Fourier features, whose period is that of the levels of 16 bits."""


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the training loop, of any model.

    Args:
        steps: Optimizer steps, of every player of an adversarial game.
        batch: Samples per step, over all processes.
        accumulate: Parts in which a process's batch of a step goes through the model, one after
            another, to save memory. The gradient is that of the whole batch, up to rounding, for
            losses that are means over samples.
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
        check_whole("steps", self.steps, 1)
        check_whole("batch", self.batch, 1)
        check_whole("accumulate", self.accumulate, 1)
        if self.accumulate > self.batch:
            raise ValueError(
                f"accumulate must be at most the batch of {self.batch}, got {self.accumulate} parts"
            )
        check_number("learning_rate", self.learning_rate, above=0)
        check_whole("warmup", self.warmup, 0)
        check_number("cooldown", self.cooldown, above=0, high=1)
        check_number("weight_decay", self.weight_decay, low=0)
        check_number("ema", self.ema, low=0, below=1)
        check_number("clip", self.clip, above=0)
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas}")
        for beta in self.betas:
            check_number("betas", beta, low=0, below=1)
        if self.precision not in ("bf16", "no"):
            raise ValueError(f"precision must be 'bf16' or 'no', got {self.precision!r}")
        check_whole("seed", self.seed, 0, LARGEST_SEED)
        if self.snapshot_every is not None:
            check_whole("snapshot_every", self.snapshot_every, 1)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values.

        Returns:
            The settings by name, nested dataclasses as dictionaries.
        """
        return asdict(self)


class NetworkConfig(Protocol):
    """Configuration of a network for samples of any size: UNetConfig, DiTConfig or a user's own."""

    @property
    def channels(self) -> int:
        """Channels of a sample."""
        ...

    @property
    def extra(self) -> int:
        """Further input channels."""
        ...

    @property
    def dimensions(self) -> int:
        """Number of axes of a sample after the channels."""
        ...


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """Settings of :func:`scoresde.training.train`.

    Args:
        steps: Optimizer steps.
        batch: Images of the first crop size per step, over all processes.
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
            come in proportionally smaller batches, so that each step sees as many pixels. They do
            not count for data whose samples are taken whole.
        sigma_data: Standard deviation of the data about zero: 0.5 for pictures on [-1, 1]. Noise
            levels are in the units of the data too (:meth:`NoiseLevels.scaled`).
        fourier: Exponents of the Fourier features of :class:`scoresde.ScorePrior`, whose channels
            the network must have as `extra`.
        noise: Distribution of the noise levels.
        weighting: Weights of the noise levels in the loss, "edm", "min-snr" or "likelihood"
            (:func:`scoresde.training.objective.loss_weight`).
        network: Architecture: a UNetConfig or DiTConfig for signals, pictures or volumes, or the
            configuration of a network that was registered (`register_network`).

    Raises:
        ValueError: If a setting is out of its range, or the network is unknown or does not fit the
            features.

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
    network: NetworkConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "crops", tuple(self.crops))
        object.__setattr__(self, "fourier", tuple(self.fourier))
        self._check_features()
        kind = config_kind(self.network)
        if not all(hasattr(self.network, name) for name in ("channels", "extra", "dimensions")):
            raise ValueError(
                f"a {kind} is no network for signals, pictures or volumes; use a UNetConfig or a "
                "DiTConfig"
            )
        extra = 2 * self.network.channels * len(self.fourier)
        if self.network.extra != extra:
            raise ValueError(
                f"{len(self.fourier)} Fourier features of {self.network.channels} channels need a "
                f"network with extra={extra}, got {self.network.extra}"
            )
        check_choice("weighting", self.weighting, WEIGHTINGS)
        if not self.crops:
            raise ValueError("crops must name a side, in pixels; got none")
        for crop in self.crops:
            check_whole("each of the crops", crop, 1)
        check_number("sigma_data", self.sigma_data, above=0)

    def _check_features(self) -> None:
        for exponent in self.fourier:
            check_whole("an exponent of Fourier features", exponent, 0, FINEST_FEATURE)
        if len(set(self.fourier)) != len(self.fourier):
            raise ValueError(f"give each exponent of Fourier features once, got {self.fourier}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a crop of the first size."""
        return (self.network.channels, *[self.crops[0]] * self.network.dimensions)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values.

        Returns:
            The settings by name, nested dataclasses as dictionaries, the network with its kind.
        """
        settings = super().to_dict()
        settings["network"] = {"kind": config_kind(self.network), **settings["network"]}
        return settings

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
        # older files have no kind: they are of a UNet
        _, network = network_settings({"kind": "UNet", **settings["network"]})
        return cls(noise=NoiseLevels(**settings["noise"]), network=network, **rest)
