"""The description of a network by which its denoiser becomes a prior."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from problems.checks import check_choice, check_number
from scoresde.priors.adapted.predictions import PREDICTIONS, Prediction
from scoresde.priors.adapted.schedules import Schedule, schedule_from, schedule_of
from scoresde.priors.adapted.times import TIMES, TimeLabel
from scoresde.sde import SDE

__all__ = ["Convention", "Passing"]

Passing = Literal["vector", "image", "channel", "nothing"]
"""How a label is handed over: as a tensor (B,) or (B, 1, ..., 1), as a further input channel that
holds it everywhere, or not at all."""


@dataclass(frozen=True)
class Convention:
    r"""What a network predicts, from what, and in which units.

    With the affine map :math:`m = a x + b` from the prior's [-1, 1] to the range of the network,
    noise of level s on x is noise of level a s on m. The network sees
    :math:`z = \alpha m_0 + \sigma n`, where :math:`\sigma/\alpha = a s`, and a label of the noise
    level. What it returns is converted to :math:`m_0` by the coefficients in
    :mod:`scoresde.priors.adapted.predictions`, and :math:`x_0 = (m_0 - b)/a`.

    Args:
        prediction: What the network returns, a name in ``PREDICTIONS``: "x0", "eps", "v", "score",
            "velocity", "velocity_to_data", "residual", "edm" or "edm_v".
        schedule: Noise schedule of the network: an SDE of this package; a tensor or list of
            ``alphas_cumprod`` of any length; a pair of functions (alpha, sigma) of t in [0, 1]; or
            a schedule of this package.
        time: Label of the noise level, a name in ``TIMES``: "index", "step", "t", "sigma", "ratio",
            "log_ratio", "edm" or "log_snr".
        time_scale: Factor of the label, such as 1000 for a network that takes 1000 t.
        value_range: Values of the network for the prior's -1 and 1, such as (0, 1), or (-1000,
            3000) for a network in physical units.
        passing: How the label is handed over: "vector" (B,), "image" (B, 1, ..., 1), "channel" (a
            further channel of the input, as in DRUNet), or "nothing" (a blind denoiser).
        sigma_data: Standard deviation of the data in the units of the network; it matters for
            "edm" and "edm_v" alone.
        extra_outputs: Number of output channels after those of the sample, such as a learned
            variance; they are dropped.
        multiple: The network takes sides that are multiples of this number. Other sizes are padded
            by repeating the edge, and cropped.
        fixed_size: Whether the network takes samples of one size alone.
        trained: Smallest and largest noise-to-signal ratio of the training, in the units of the
            network; None for the ends of the schedule. The largest may be infinite.

    Raises:
        ValueError: If a name is unknown, the label does not exist for the schedule, the schedule is
            none, or a number is out of its range.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import Convention
        >>> betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        >>> ddpm = Convention("eps", torch.cumprod(1 - betas, 0), time="index")
        >>> [round(s, 3) for s in ddpm.levels]
        [0.01, 157.407]
        >>> Convention("eps", torch.cumprod(1 - betas, 0), time="t")
        Traceback (most recent call last):
        ValueError: the time label 't' exists for a continuous schedule alone, and this one is
        discrete; use index, step, sigma, ratio, log_ratio, edm, log_snr
    """

    prediction: str
    schedule: Schedule | SDE | Tensor | Sequence[Any]
    time: str = "t"
    time_scale: float = 1.0
    value_range: tuple[float, float] = (-1.0, 1.0)
    passing: Passing = "vector"
    sigma_data: float = 0.5
    extra_outputs: int = 0
    multiple: int = 1
    fixed_size: bool = False
    trained: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_choice("prediction", self.prediction, PREDICTIONS)
        check_choice("time label", self.time, TIMES)
        check_choice("passing of the label", self.passing, get_args(Passing))
        object.__setattr__(self, "schedule", schedule_of(self.schedule))
        kind = "discrete" if self.noise.discrete else "continuous"
        if self.label.schedule not in ("any", kind):
            known = [name for name, label in TIMES.items() if label.schedule in ("any", kind)]
            raise ValueError(
                f"the time label {self.time!r} exists for a {self.label.schedule} schedule alone, "
                f"and this one is {kind}; use {', '.join(known)}"
            )
        check_number(self.time_scale, "time_scale")
        if self.label.whole and (self.time_scale != 1 or self.passing == "channel"):
            raise ValueError(
                f"the label {self.time!r} is an integer: it has no time_scale and is no channel"
            )
        low, high = (check_number(v, "an end of value_range") for v in self.value_range)
        if not low < high:
            raise ValueError(
                f"value_range is (value for -1, value for 1) with the smaller one first, got "
                f"{self.value_range}"
            )
        check_number(self.sigma_data, "sigma_data", above=0)
        check_number(self.extra_outputs, "extra_outputs", least=0, whole=True)
        check_number(self.multiple, "multiple", least=1, whole=True)
        if self.trained is not None and not 0 <= self.trained[0] <= self.trained[1]:
            raise ValueError(
                "trained is (smallest, largest noise level) with 0 <= smallest <= largest, got "
                f"{self.trained}"
            )

    @property
    def noise(self) -> Schedule:
        """The noise schedule."""
        assert isinstance(self.schedule, Schedule)  # converted above
        return self.schedule

    @property
    def target(self) -> Prediction:
        """Definition of the prediction."""
        return PREDICTIONS[self.prediction]

    @property
    def label(self) -> TimeLabel:
        """Definition of the time label."""
        return TIMES[self.time]

    @property
    def scale(self) -> float:
        """Factor a of the map from the prior's values to the network's."""
        return (self.value_range[1] - self.value_range[0]) / 2

    @property
    def offset(self) -> float:
        """Constant b of the map from the prior's values to the network's."""
        return (self.value_range[1] + self.value_range[0]) / 2

    @property
    def levels(self) -> tuple[float, float]:
        """Smallest and largest noise-to-signal ratio of the training, in the network's units."""
        return self.noise.ends if self.trained is None else self.trained

    @property
    def needs_signal(self) -> bool:
        """Whether the denoiser exists only where some signal is left."""
        label = self.label.pure_noise or math.isfinite(self.levels[1])
        return self.target.needs_signal or not self.noise.pure_noise or not label

    def describe(self) -> dict[str, Any]:
        """Describe the convention by plain values, for a file.

        Returns:
            A dictionary of JSON values from which :meth:`of` makes the same convention.

        Raises:
            ValueError: If the schedule is made of functions.

        Example:
            >>> from scoresde import VPSDE
            >>> from scoresde.priors.adapted import Convention
            >>> convention = Convention("eps", VPSDE(), "t", time_scale=999.0)
            >>> Convention.of(convention.describe()) == convention
            True
        """
        ends = self.trained
        return {
            "prediction": self.prediction,
            "schedule": self.noise.describe(),
            "time": self.time,
            "time_scale": float(self.time_scale),
            "value_range": [float(v) for v in self.value_range],
            "passing": self.passing,
            "sigma_data": float(self.sigma_data),
            "extra_outputs": int(self.extra_outputs),
            "multiple": int(self.multiple),
            "fixed_size": bool(self.fixed_size),
            "trained": None if ends is None else [v if math.isfinite(v) else None for v in ends],
        }

    @classmethod
    def of(cls, description: dict[str, Any]) -> "Convention":
        """Build a convention from its description.

        Args:
            description: What :meth:`describe` returned.

        Returns:
            The convention.

        Raises:
            ValueError: If a field is missing, unknown or wrong.
        """
        if not isinstance(description, dict):
            raise ValueError(f"a convention is described by a dictionary, got {description!r:.80}")
        fields = dict(description)
        try:
            fields["schedule"] = schedule_from(fields["schedule"])
            fields["value_range"] = tuple(fields["value_range"])
            if fields.get("trained") is not None:
                low, high = fields["trained"]
                fields["trained"] = (low, math.inf if high is None else high)
            return cls(**fields)
        except KeyError as error:
            raise ValueError(f"the convention has no field {error}") from None
        except TypeError as error:
            raise ValueError(f"the convention has a wrong field: {error}") from None
