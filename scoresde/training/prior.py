"""Training of a score prior by denoising score matching."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scoresde.data.datasets import Dataset
from scoresde.errors import InputError
from scoresde.networks import UNet
from scoresde.priors.checkpoint import save_prior
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from scoresde.training.config import TrainConfig
from scoresde.training.loop import run_training
from scoresde.training.objective import denoising_score_matching
from scoresde.training.task import Cost, Task

__all__ = ["build_prior", "train"]


def build_prior(config: TrainConfig) -> ScorePrior:
    """Build the prior of a configuration with random weights.

    Args:
        config: Settings, whose seed decides the weights.

    Returns:
        An untrained prior under the SDE of Karras et al. (2022).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = UNet(config.network)
    shape = (config.network.channels, config.crops[0], config.crops[0])
    autocast = torch.bfloat16 if config.precision == "bf16" else None
    sde = EDMSDE(config.noise.sigma_min, config.noise.sigma_max)
    return ScorePrior(network, sde, shape, config.sigma_data, autocast, fourier=config.fourier)


def _start_from(prior: ScorePrior, init: ScorePrior) -> None:
    try:
        prior.network.load_state_dict(init.network.state_dict())
    except RuntimeError:
        raise InputError(
            "the prior to start from has another network; train with the same channels, widths "
            "and blocks"
        ) from None


class _PriorTask(Task[ScorePrior]):
    """Denoising score matching on random crops."""

    prefix: ClassVar[str] = "network"
    result_name: ClassVar[str] = "prior.safetensors"
    fused: ClassVar[bool] = True

    def __init__(self, prior: ScorePrior, data: Dataset, config: TrainConfig) -> None:
        self.prior, self.data, self.config, self.model = prior, data, config, prior.network

    def batch(self, generator: torch.Generator) -> tuple[Any, ...]:
        config = self.config
        crop = config.crops[int(torch.randint(len(config.crops), (), generator=generator))]
        n = max(1, round(config.batch * (config.crops[0] / crop) ** 2))
        x_0 = self.data.batch(n, crop, generator)
        return x_0, config.noise.draw(n, generator), torch.randn(x_0.shape, generator=generator)

    def loss(self, player: str, *batch: Any) -> Tensor:
        return denoising_score_matching(self.prior, *batch).mean()

    def settings(self) -> dict[str, Any]:
        return self.config.to_dict()

    def result(self, average: nn.Module, cost: Cost) -> ScorePrior:
        network = UNet(self.config.network).to(next(average.parameters()).device)
        network.load_state_dict(average.state_dict())
        prior, config = self.prior, self.config
        trained = ScorePrior(
            network,
            prior.sde,
            prior.shape,
            config.sigma_data,
            card={"training": config.to_dict()},
            fourier=config.fourier,
        )
        return trained.eval().requires_grad_(False)

    def save(self, result: ScorePrior, path: Path) -> None:
        save_prior(result, path)


def train(
    data: Dataset,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    init: ScorePrior | None = None,
    resume: bool = False,
    cpu: bool = False,
    compiled: bool = False,
    save_every: int = 1000,
    log_every: int | None = 50,
    progress: bool = False,
    stop_after: int | None = None,
) -> ScorePrior:
    """Train a :class:`ScorePrior` by denoising score matching.

    Writes `out/state.safetensors` (all that a resume needs), `out/prior.safetensors` (the prior
    with averaged weights) and a TensorBoard log under `out/log`. Ctrl-C saves before it ends.
    Launch with `accelerate launch` to use several processes; each draws `config.batch` images a
    step.

    Args:
        data: Images to learn from.
        out: Folder of the run.
        config: Settings; the defaults are those of the `natural` prior's size.
        init: Prior with the same network, from whose weights to start.
        resume: Continue the interrupted run in `out`.
        cpu: Train on the CPU even where there is a GPU.
        compiled: Compile the network by `torch.compile`, which needs a compiler (C++ on a CPU):
            up to a minute of preparation for each size of crop, then faster steps, the same up to
            rounding.
        save_every: Steps between checkpoints.
        log_every: Steps between entries of the log; None for no log.
        progress: Show a progress bar on standard error.
        stop_after: End at this step, as an interruption would.

    Returns:
        The prior with averaged weights, frozen and in evaluation mode.

    Raises:
        InputError: If the data, the folder or the settings do not fit the run.
        TrainingError: If the loss or its gradient is not finite.
    """
    config = config or TrainConfig()
    prior = build_prior(config)
    if init is not None and not resume:
        _start_from(prior, init)
    return run_training(
        _PriorTask(prior, data, config),
        config,
        out,
        resume=resume,
        cpu=cpu,
        compiled=compiled,
        save_every=save_every,
        log_every=log_every,
        progress=progress,
        stop_after=stop_after,
    )
