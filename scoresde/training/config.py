"""What a training run is: everything that decides its result, and nothing else."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from scoresde.networks import UNetConfig
from scoresde.training.objective import NoiseLevels

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of :func:`scoresde.training.train`.

    steps: optimizer steps. batch: images of the first crop size per step and process; crops: side lengths in pixels, one chosen
    at random each step, larger ones in proportionally smaller batches so that each step sees as many pixels. learning_rate:
    peak, reached after ``warmup`` steps, then a cosine to zero. ema: decay of the weight average. clip: gradient norm. precision:
    "bf16" or "no". sigma_data: standard deviation of the data in [-1, 1]. fourier: exponents of the Fourier features of
    :class:`scoresde.ScorePrior`, whose channels the network must have as ``extra``.
    """

    steps: int = 20_000
    batch: int = 16
    crops: tuple[int, ...] = (64,)
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    precision: str = "bf16"
    seed: int = 0
    sigma_data: float = 0.5
    fourier: tuple[int, ...] = ()
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    network: UNetConfig = field(default_factory=UNetConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "crops", tuple(self.crops))
        object.__setattr__(self, "fourier", tuple(self.fourier))
        if self.network.extra != 2 * self.network.channels * len(self.fourier):
            raise ValueError(
                f"{len(self.fourier)} Fourier features of {self.network.channels} channels need a network with "
                f"extra={2 * self.network.channels * len(self.fourier)}, got {self.network.extra}"
            )
        if not self.crops or min(self.steps, self.batch, *self.crops) < 1:
            raise ValueError("steps, batch and crops must be positive")
        if not (
            self.learning_rate > 0 and self.clip > 0 and 0 <= self.ema < 1 and self.sigma_data > 0
        ):
            raise ValueError(
                "learning_rate, clip and sigma_data must be positive and ema in [0, 1)"
            )
        if self.precision not in ("bf16", "no"):
            raise ValueError(f"precision must be 'bf16' or 'no', got {self.precision!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "TrainConfig":
        known = {f.name for f in fields(cls)}
        rest = {k: v for k, v in settings.items() if k in known - {"noise", "network"}}
        return cls(
            noise=NoiseLevels(**settings["noise"]),
            network=UNetConfig(**settings["network"]),
            **rest,
        )
