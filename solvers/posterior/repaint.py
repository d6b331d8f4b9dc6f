r"""RePaint (Lugmayr et al. 2022): inpainting by pasting.

Each step towards less noise is ancestral in the holes, and what is seen is y at the new noise level. The step is made ``resample`` times,
with a step back between, so that the holes can settle with their surroundings. y brings noise :math:`\sigma_y` of its own: it is pasted
with :math:`\sqrt{s^2 - \sigma_y^2}` more, and as it is once s is below. Not exact: the holes learn of y through the pasted pixels only.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run, ancestral_mean
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["RePaint"]


@dataclass(frozen=True)
class RePaint(IndependentSampler):
    """resample: times that each step is made, 10 in the paper. NFE = steps * resample."""

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"mask", "gaussian_noise"})

    steps: int = 50
    resample: int = 10
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.resample < 1:
            raise ValueError(
                f"steps and resample must be at least 1, got {self.steps} and {self.resample}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "repaint": Preset(
                "inpainting alone: the seen pixels pasted at each level, each step made 4 times",
                lambda steps: cls(steps=steps, resample=4, grid=RESTORATION_GRID),
                steps=15,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"repaint": cls()}

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        sde = prior.sde
        mask = problem.operator.apply(
            torch.ones(1, *run.shape[1:], dtype=prior.dtype, device=prior.device)
        )
        times, levels = self.grid.along(prior, self.steps)
        u = levels[0] * run.randn()
        for i, t in enumerate(times):
            s, s_next = levels[i], levels[i + 1]
            q = (s_next / s) ** 2
            for repeat in range(self.resample):
                D = prior.denoise(sde.alpha(t) * u, t)
                lower = ancestral_mean(D, u, s, s_next) + s_next * (1 - q) ** 0.5 * run.randn()
                pasted = y + max(s_next**2 - problem.noise_variance, 0.0) ** 0.5 * run.randn()
                lower = mask * pasted + (1 - mask) * lower
                last = repeat + 1 == self.resample
                u = lower if last else lower + (s**2 - s_next**2) ** 0.5 * run.randn()
            run.progress((i + 1) / len(times))
        return u, 0
