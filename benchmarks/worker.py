"""A process that a benchmark measures: it restores or trains, one job for each line it is told.

    python benchmarks/worker.py ROLE SETTINGS

The settings and all messages are lines of JSON. The role "restore" also runs with the package of an
older commit on the path, and therefore imports what both have. Used by speed.py.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TextIO

import scoresde  # before torch: it decides how threads wait

# isort: split
import torch
from five_problems import SIDE, SIGMA, operators
from torch import Tensor, nn

from problems import GaussianBlur, GaussianNoise, InverseProblem

DIFFUSERS = "pip install --no-deps diffusers, and pip install requests regex importlib_metadata"


class Parent:
    """The benchmark at the other end. What libraries print goes to standard error."""

    def __init__(self) -> None:
        self.lines: TextIO = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def listen(self) -> dict[str, Any]:
        """The next job; at the end of all jobs the process ends."""
        line = sys.stdin.readline()
        if not line:
            sys.exit()
        job: dict[str, Any] = json.loads(line)
        return job

    def tell(self, **answer: Any) -> None:
        print(json.dumps(answer), file=self.lines, flush=True)


def package() -> SimpleNamespace:
    """What restoring needs, of this package or of an older one."""
    from scoresde.evaluation import psnr

    try:
        from scoresde.data.images import centre_crop
        from scoresde.evaluation.conformal import coverage
        from scoresde.pipelines.devices import choose_device, open_prior
        from scoresde.pipelines.plan import budget, restore_tensor
        from scoresde.pipelines.settings import RestoreOptions

        def chosen(solver: str | None, effort: str = "normal") -> tuple[str, int | None, int]:
            return budget(effort, solver, None, None)

    except ModuleNotFoundError:
        from scoresde.calibrate import centre_crop
        from scoresde.evaluation.calibration import coverage
        from scoresde.restore import (
            DEFAULT_SOLVER,
            RestoreOptions,
            budget,
            choose_device,
            open_prior,
            restore_tensor,
        )

        def chosen(solver: str | None, effort: str = "normal") -> tuple[str, int | None, int]:
            name = solver or DEFAULT_SOLVER
            return (name, *budget(effort, name, None, None))

    return SimpleNamespace(
        budget=chosen,
        centre_crop=centre_crop,
        choose_device=choose_device,
        coverage=coverage,
        open_prior=open_prior,
        options=RestoreOptions,
        psnr=psnr,
        restore_tensor=restore_tensor,
    )


def example(height: int, width: int) -> Tensor:
    """A photograph of scikit-image (1, 3, height, width) on [-1, 1], mirrored to fill the size."""
    import skimage.data

    x = torch.from_numpy(skimage.data.chelsea()[:, :, :3].copy()).permute(2, 0, 1)
    x = torch.cat([x, x.flip(1)], 1)
    x = torch.cat([x, x.flip(2)], 2)
    repeats = (-(-height // x.shape[1]), -(-width // x.shape[2]))
    x = x.repeat(1, *repeats)[:, :height, :width]
    return x[None].float() / 127.5 - 1


def peak_mb() -> float:
    """Peak resident memory of this process in MB.

    ``getrusage`` also counts what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def restore(parent: Parent, settings: dict[str, Any]) -> None:
    """Restore crops as ``scoresde restore`` does. A job names the problem, picture and seed."""
    if root := settings.get("root"):
        found = Path(scoresde.__file__).resolve().parent.parent
        if found != Path(root).resolve():
            raise SystemExit(f"the package is that of {found.name}, not the one asked for")
    own = package()
    device = own.choose_device(settings["device"])
    prior = own.open_prior(settings["prior"], device, "auto")
    solver, steps, samples = own.budget(settings["solver"], settings.get("effort", "normal"))
    while True:
        job = parent.listen()
        index, picture = job["index"], job["picture"]
        truth = example(SIDE, SIDE) if picture is None else own.centre_crop(Path(picture), SIDE)
        problem = InverseProblem(operators(index)[job["problem"]], GaussianNoise(SIGMA))
        y = problem.measure(truth, torch.Generator().manual_seed(index))
        options = own.options(
            sigma=SIGMA,
            solver=solver,
            steps=steps,
            samples=job.get("draws") or samples,
            seed=index,
            prior=settings["prior"],
        )
        start = time.perf_counter()
        posterior = own.restore_tensor(prior, problem, y.to(device), options)
        mean = posterior.mean.cpu()
        seconds = time.perf_counter() - start
        share = None
        if len(posterior.draws) > 1:
            share = own.coverage(posterior, truth.to(device), 0.9).item()
        parent.tell(
            seconds=seconds,
            psnr=own.psnr(mean, truth).item(),
            coverage=share,
            solver=solver,
            draws=len(posterior.draws),
            y=float(y.double().square().sum()),
        )


def large(parent: Parent, settings: dict[str, Any]) -> None:
    """Restore one large blurred picture, and tell the seconds and the peak memory."""
    own = package()
    job = parent.listen()
    device = own.choose_device(settings["device"])
    prior = own.open_prior(settings["prior"], device, "auto")
    solver, steps, samples = own.budget(settings["solver"])
    truth = example(job["height"], job["width"])
    problem = InverseProblem(GaussianBlur(1.6), GaussianNoise(SIGMA))
    y = problem.measure(truth, torch.Generator().manual_seed(0))
    options = own.options(sigma=SIGMA, solver=solver, steps=steps, samples=samples)
    before, start = peak_mb(), time.perf_counter()
    posterior = own.restore_tensor(prior, problem, y, options)
    mean = posterior.mean.cpu()
    seconds, peak = time.perf_counter() - start, peak_mb()
    parent.tell(
        seconds=seconds,
        peak_mb=peak,
        before_mb=before,
        psnr=own.psnr(mean, truth).item(),
        solver=solver,
        draws=len(posterior.draws),
    )


class Foreign(nn.Module):
    """A UNet2DModel of diffusers as a network of this package.

    Plain DownBlock2D and UpBlock2D, two layers for each, no attention anywhere, and widths in the
    ratios of ours.

    Args:
        channels: Channels of the image.
        width: Channels of the finest level.
        fold: Side of the blocks of pixels that are folded into channels beforehand.
    """

    def __init__(self, channels: int, width: int, fold: int) -> None:
        super().__init__()
        from diffusers import UNet2DModel

        self.fold = fold
        folded = channels * fold**2
        self.model = UNet2DModel(
            in_channels=folded,
            out_channels=folded,
            block_out_channels=(width, 2 * width, 4 * width, 4 * width),
            down_block_types=("DownBlock2D",) * 4,
            up_block_types=("UpBlock2D",) * 4,
            norm_num_groups=4,
            add_attention=False,
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        x = nn.functional.pixel_unshuffle(x, self.fold)
        return nn.functional.pixel_shuffle(self.model(x, label).sample, self.fold)


def foreign(fold: int, target: int) -> Foreign:
    """The network of diffusers with about as many parameters."""
    from rates import closest_width

    def count(width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in Foreign(3, width, fold).parameters())

    return Foreign(3, closest_width(count, range(16, 129, 4), target), fold)


class Steps:
    """Data that wait for the next job, so that the time between two batches is that of a step."""

    def __init__(self, parent: Parent, facts: dict[str, Any], device: torch.device) -> None:
        self.parent, self.facts, self.device = parent, facts, device
        self.started: float | None = None

    def __len__(self) -> int:
        return 1

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        if self.started is not None:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.parent.tell(seconds=time.perf_counter() - self.started, **self.facts)
        self.parent.listen()
        self.started = time.perf_counter()
        return 2 * torch.rand(n, 3, size, size, generator=generator) - 1


def training(parent: Parent, settings: dict[str, Any]) -> None:
    """Train the recipe's network, or one of diffusers by the same loop; a job is one step."""
    from dataclasses import replace

    from rates import count_flops

    from scoresde.pipelines.devices import choose_device
    from scoresde.priors.score import ScorePrior
    from scoresde.training import (
        RECIPES,
        Cost,
        Task,
        TrainConfig,
        build_prior,
        denoising_score_matching,
        run_training,
        train,
    )

    device = choose_device(settings["device"])
    config: TrainConfig = replace(RECIPES["natural"], batch=settings["batch"], crops=(64,))
    prior = build_prior(config)
    own = sum(p.numel() for p in prior.parameters())
    if settings["network"] != "own":
        network = foreign({"diffusers": 1, "diffusers folded": 2}[settings["network"]], own)
        prior = ScorePrior(network, prior.sde, prior.shape, prior.sigma_data, prior.autocast)
    prior.to(device)

    def loss(x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        return denoising_score_matching(prior, x, sigma, noise).mean()

    def batch(data: Steps | None, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        shape = (config.batch, 3, 64, 64)
        x = torch.zeros(shape) if data is None else data.batch(config.batch, 64, g)
        return x, config.noise.draw(config.batch, g), torch.randn(shape, generator=g)

    some = (v.to(device) for v in batch(None, torch.Generator().manual_seed(0)))
    flops = count_flops(lambda: loss(*some).backward())
    prior.zero_grad(set_to_none=True)
    facts = {"flops": flops, "parameters": sum(p.numel() for p in prior.parameters())}
    data = Steps(parent, facts, device)

    class ForeignTask(Task[ScorePrior]):
        """Denoising score matching of any network, by the loop of this package."""

        fused: ClassVar[bool] = True

        def __init__(self) -> None:
            self.model = prior.network

        def batch(self, generator: torch.Generator) -> tuple[Any, ...]:
            return batch(data, generator)

        def loss(self, player: str, *batch: Any) -> Tensor:
            return loss(*batch)

        def settings(self) -> dict[str, Any]:
            return config.to_dict()

        def result(self, average: nn.Module, cost: Cost) -> ScorePrior:
            return prior

        def save(self, result: ScorePrior, path: Path) -> None:
            pass

    how: dict[str, Any] = {"compiled": settings["compiled"], "prefetch": 0, "log_every": None}
    how |= {"cpu": device.type == "cpu", "save_every": config.steps + 1}
    with tempfile.TemporaryDirectory() as out:
        if settings["network"] == "own":
            train(data, out, config, **how)
        else:
            run_training(ForeignTask(), config, Path(out), **how)


ROLES: dict[str, Callable[[Parent, dict[str, Any]], None]] = {
    "large": large,
    "restore": restore,
    "train": training,
}


def main() -> None:
    role, settings = sys.argv[1], json.loads(sys.argv[2])
    parent = Parent()
    torch.set_num_threads(settings["threads"])
    ROLES[role](parent, settings)


if __name__ == "__main__":
    main()
