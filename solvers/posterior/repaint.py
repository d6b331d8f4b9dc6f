r"""RePaint (Lugmayr et al. 2022): inpainting by pasting the observed pixels.

Each step towards less noise is ancestral in the holes; the observed pixels are replaced by y at the
new noise level. The step is repeated ``resample`` times, with a step back to more noise in between,
so that the holes become consistent with their surroundings. y already has noise :math:`\sigma_y`,
so it is pasted with additional noise of standard deviation :math:`\sqrt{s^2 - \sigma_y^2}`, and
unchanged once s is below :math:`\sigma_y`. The draws are not exact: y influences the holes only
through the pasted pixels.
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
    """RePaint, for inpainting.

    The cost is steps * resample network evaluations.

    Args:
        steps: Number of noise levels.
        resample: Number of times that each step is made, 10 in the paper.
        grid: Noise levels.

    Raises:
        ValueError: If steps or resample is below 1.

    Example:
        >>> import torch
        >>> from problems import GaussianNoise, Inpainting, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> problem = InverseProblem(Inpainting(mask), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = RePaint(steps=5, resample=2).sample(prior, problem, y, n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 10)
    """

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
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "repaint": Preset(
                "inpainting only, pastes the observed pixels at each noise level; "
                "4 evaluations per step",
                lambda steps: cls(steps=steps, resample=4, grid=RESTORATION_GRID),
                steps=15,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
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
