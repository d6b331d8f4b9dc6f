"""Training of a score prior by denoising score matching."""

import inspect
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scoresde.data.datasets import Dataset, ImageArray, ImageFolder
from scoresde.data.signals import Signals
from scoresde.data.stacks import ImageStacks
from scoresde.errors import InputError
from scoresde.memory import available_bytes
from scoresde.priors.checkpoint import save_prior
from scoresde.priors.header import new_network
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from scoresde.training.config import TrainConfig
from scoresde.training.loop import run_training
from scoresde.training.objective import denoising_score_matching, loss_weight
from scoresde.training.share import Share
from scoresde.training.task import Cost, Task

__all__ = ["build_prior", "finished_prior", "train"]

IMAGES_ON_GPU = 4
"""Images are kept on a GPU if they take at most one part in so many of its free memory."""


def build_prior(config: TrainConfig, shape: Sequence[int] | None = None) -> ScorePrior:
    """Build the prior of a configuration with random weights.

    Args:
        config: Settings, whose seed decides the weights.
        shape: Shape of one sample; None for that of the first crop.

    Returns:
        An untrained prior under the SDE of Karras et al. (2022).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = new_network(config.network)
    shape = config.shape if shape is None else tuple(shape)
    autocast = torch.bfloat16 if config.precision == "bf16" else None
    sde = EDMSDE(config.noise.sigma_min, config.noise.sigma_max)
    return ScorePrior(network, sde, shape, config.sigma_data, autocast, fourier=config.fourier)


def finished_prior(
    config: TrainConfig,
    weights: dict[str, Tensor],
    device: torch.device,
    shape: Sequence[int] | None = None,
    **card: Any,
) -> ScorePrior:
    """Build the prior of a configuration with trained weights.

    Args:
        config: Settings of the training.
        weights: Tensors of the network by name.
        device: Device of the prior.
        shape: Shape of one sample; None for that of the first crop.
        **card: Entries of the model card besides the settings.

    Returns:
        The prior, frozen and in evaluation mode.
    """
    network = new_network(config.network).to(device)
    network.load_state_dict(weights)
    shape = config.shape if shape is None else tuple(shape)
    return (
        ScorePrior(
            network,
            EDMSDE(config.noise.sigma_min, config.noise.sigma_max),
            shape,
            config.sigma_data,
            card={"training": config.to_dict(), **card},
            fourier=config.fourier,
        )
        .eval()
        .requires_grad_(False)
    )


_COPIES = 5
"""Weights, gradients, two moments of AdamW and the average, in single precision."""


def _check_memory(config: TrainConfig, shape: tuple[int, ...], device: torch.device | None) -> None:
    """Refuse what is certain not to fit: the weights and their moments, and the batch itself."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        weights = sum(p.numel() for p in new_network(config.network).parameters())
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    pixels = config.batch / processes * math.prod(shape)
    # noise, noisy and clean images, and the further channels
    images = pixels * (3 + config.network.extra / config.network.channels)
    needed = 4 * (_COPIES * weights + images / config.accumulate)
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if needed > (available := available_bytes(device)):
        largest = (
            "smaller widths"
            if _COPIES * weights > images / config.accumulate
            else "a smaller batch or crop"
        )
        raise InputError(
            f"the training takes {needed / 1e9:.3g} GB of memory at least, and "
            f"{available / 1e9:.3g} GB are free; use {largest}"
        )


def _sample_shape(data: Dataset, config: TrainConfig) -> tuple[int, ...]:
    """The shape of the samples of the first crop size, which must be one that the network takes."""
    if isinstance(
        data, ImageFolder | ImageArray | ImageStacks
    ):  # crops of the size that is asked for
        shape: tuple[int, ...] = (data.channels, config.crops[0], config.crops[0])
    else:
        size, generator = config.crops[0], torch.Generator().manual_seed(config.seed)
        shape = tuple(data.batch(1, size, generator).shape[1:])
    axes, channels = config.network.dimensions, config.network.channels
    if len(shape) == axes + 1 and shape[0] == channels:
        return shape
    if len(shape) == 1:
        remedy = (
            "give them an axis of channels, (N, 1, L), and train a network with channels=1 and "
            "dimensions=1"
        )
    elif 2 <= len(shape) <= 4:
        remedy = f"train one with channels={shape[0]} and dimensions={len(shape) - 1}"
    else:
        remedy = "give samples of shape (C, L), (C, H, W) or (C, D, H, W)"
    raise InputError(
        f"the data has samples of shape {shape}, which a network with channels={channels} and "
        f"dimensions={axes} does not take; {remedy}"
    )


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
        self.device = torch.device("cpu")

    def use_device(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda" and isinstance(self.data, ImageFolder):
            room = torch.cuda.mem_get_info(device)[0] // IMAGES_ON_GPU
            self.data = self.data.on_device(device, room) or self.data

    def batch(self, generator: torch.Generator) -> tuple[Any, ...]:
        return self.part(generator, Share())[1]

    def part(self, generator: torch.Generator, share: Share) -> tuple[float, tuple[Any, ...]]:
        config = self.config
        sizes = self.batch_sizes()
        index = int(torch.randint(len(sizes), (), generator=generator))
        n, rows = sizes[index], share.rows(sizes[index])
        x_0 = _rows(self.data, n, config.crops[index], generator, rows)
        sigma = config.noise.draw(n, generator)[rows]
        noise = _normal((n, *x_0.shape[1:]), rows, generator, self.device)
        if config.weighting == "edm":
            return share.weight(n), (x_0, sigma, noise)
        weight = loss_weight(config.weighting, sigma, config.noise, config.sigma_data)
        return share.weight(n), (x_0, sigma, noise, weight)

    def batch_sizes(self) -> tuple[int, ...]:
        batch, axes, first = self.config.batch, self.config.network.dimensions, self.config.crops[0]
        return tuple(max(1, round(batch * (first / crop) ** axes)) for crop in self.config.crops)

    def loss(self, player: str, *batch: Any) -> Tensor:
        x_0, sigma, noise, *weight = batch
        losses = denoising_score_matching(self.prior, x_0, sigma, noise)
        return (weight[0] * losses if weight else losses).mean()

    def settings(self) -> dict[str, Any]:
        settings = self.config.to_dict()
        if self.prior.shape != self.config.shape:  # samples that are taken whole
            settings["shape"] = list(self.prior.shape)
        if isinstance(self.data, ImageStacks):
            settings["data"] = self.data.value_range
        return settings

    def result(self, average: nn.Module, cost: Cost) -> ScorePrior:
        device = next(average.parameters()).device
        card = {"data": self.data.value_range} if isinstance(self.data, ImageStacks) else {}
        return finished_prior(self.config, average.state_dict(), device, self.prior.shape, **card)

    def save(self, result: ScorePrior, path: Path) -> None:
        save_prior(result, path)


def _rows(data: Dataset, n: int, size: int, generator: torch.Generator, rows: slice) -> Tensor:
    """Rows of a batch of n samples. Data sets of others may know whole batches alone."""
    if rows == slice(0, n):
        return data.batch(n, size, generator)
    if "rows" in inspect.signature(data.batch).parameters:
        return data.batch(n, size, generator, rows=rows)  # type: ignore[call-arg]
    return data.batch(n, size, generator)[rows]


def _normal(
    shape: tuple[int, ...], rows: slice, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Rows of a batch of standard normal numbers.

    A GPU draws its own: a processor would need longer than a step.
    """
    if device.type == "cpu":
        noise = torch.randn(shape, generator=generator)
    else:
        seed = int(torch.randint(2**62, (), generator=generator))
        there = torch.Generator(device).manual_seed(seed)
        noise = torch.randn(shape, generator=there, device=device)
    # a copy, so that the rest is freed
    return noise if rows == slice(0, shape[0]) else noise[rows].clone()


def train(
    data: Dataset,
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    init: ScorePrior | None = None,
    resume: bool | None = False,
    cpu: bool = False,
    compiled: bool | None = None,
    save_every: int = 1000,
    log_every: int | None = 50,
    check_every: int | None = None,
    prefetch: int | None = None,
    progress: bool = False,
    stop_after: int | None = None,
    minutes: float | None = None,
) -> ScorePrior:
    """Train a :class:`ScorePrior` by denoising score matching.

    The data may be pictures, or signals and volumes (:class:`scoresde.data.signals.Signals`) with
    a network of as many `dimensions`. The prior has the shape of the samples.

    Writes `out/state.safetensors` (all that a resume needs), `out/prior.safetensors` (the prior
    with averaged weights) and a TensorBoard log under `out/log`. Ctrl-C saves before it ends. With
    `config.snapshot_every`, `out/averages` gets the snapshots of :func:`average_weights`.
    On a GPU noise is drawn there; with room for the decoded pictures of a folder, crops are cut
    there, too.
    Launch with `accelerate launch` or `torchrun` to use several processes, which share the
    `config.batch` images of a step: the weights are those of one process up to rounding.

    Args:
        data: Samples to learn from.
        out: Folder of the run.
        config: Settings; the defaults are those of the `natural` prior's size.
        init: Prior with the same network, from whose weights to start.
        resume: Continue the interrupted run in `out`; None to do so if there is one.
        cpu: Train on the CPU even where there is a GPU.
        compiled: Compile the network by `torch.compile`, which needs a compiler (Triton on a GPU,
            C++ on a CPU): up to a minute of preparation for each size of crop, then faster steps,
            the same up to rounding. None to do so where it pays, and to go on without if it fails:
            on a GPU, and on a CPU for more than 2000 steps.
        save_every: Steps between checkpoints.
        log_every: Steps between entries of the log; None for no log.
        check_every: Steps between looks at losses and gradients, each of which waits for the
            device; None for 1 on a CPU, where it costs nothing, and 20 elsewhere.
        prefetch: Batches that a thread prepares ahead; None for none on a CPU and 4 elsewhere.
        progress: Show a progress bar on standard error.
        stop_after: End at this step, as an interruption would.
        minutes: End after this time, as an interruption would.

    Returns:
        The prior with averaged weights, frozen and in evaluation mode.

    Raises:
        InputError: If the data, the folder or the settings do not fit the run.
        TrainingError: If the loss or its gradient is not finite.
    """
    config = config or TrainConfig()
    shape = _sample_shape(data, config)
    _check_memory(config, shape, torch.device("cpu") if cpu else None)
    prior = build_prior(config, shape)
    if init is not None:  # a state that is resumed has other weights
        _start_from(prior, init)
    if isinstance(data, ImageFolder | ImageArray | ImageStacks | Signals):
        # in the first minute, not when the image is drawn
        data.check_crop(max(config.crops))
    return run_training(
        _PriorTask(prior, data, config),
        config,
        out,
        resume=resume,
        cpu=cpu,
        compiled=compiled,
        save_every=save_every,
        log_every=log_every,
        check_every=check_every,
        prefetch=prefetch,
        progress=progress,
        stop_after=stop_after,
        minutes=minutes,
    )
