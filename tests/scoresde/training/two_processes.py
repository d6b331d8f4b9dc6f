"""What each of two processes does for test_processes.py; started with RANK=0 and RANK=1.

    python two_processes.py FOLDER

The processes train the runs one after another, write what came of them to FOLDER/RANK.json, and
end by kill -9 of the second one.
"""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import scoresde.files
import scoresde.training.prior
from scoresde.data.datasets import TensorData
from scoresde.families import (
    GAN,
    Flow,
    FlowConfig,
    GANConfig,
    GenerativeModel,
    LoopConfig,
    train_model,
)
from scoresde.networks import UNetConfig
from scoresde.training import (
    TrainConfig,
    build_prior,
    denoising_score_matching,
    run_training,
    train,
)
from scoresde.training.prior import _PriorTask
from scoresde.training.share import Share

__all__ = [
    "CONFIG",
    "UNEVEN",
    "DoubleTask",
    "flow",
    "flow_config",
    "gan",
    "pictures",
    "train_in_double",
    "vectors",
]

CONFIG = TrainConfig(
    steps=8,
    batch=8,
    crops=(8, 16),
    warmup=2,
    ema=0.9,
    precision="no",
    weighting="min-snr",
    snapshot_every=4,
    network=UNetConfig(channels=1, patch=2, widths=(8, 16), blocks=1, attention=(1,), embedding=16),
)
"""Batches of 8 and, of the large crops, 2: as many for each process."""

UNEVEN = replace(CONFIG, batch=12)
"""Batches of 12 and, of the large crops, 3: one for the first process and two for the second."""


def pictures() -> TensorData:
    class Crops(TensorData):
        """Corners of pictures, of the size that is asked for."""

        def batch(
            self, n: int, size: int, generator: torch.Generator, rows: slice = slice(None)
        ) -> Tensor:
            return super().batch(n, size, generator, rows)[..., :size, :size]

    return Crops(2 * torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0)) - 1)


class DoubleTask(_PriorTask):
    """The same numbers in double precision: what is left of a difference shows its cause."""

    def part(self, generator: torch.Generator, share: Share) -> tuple[float, tuple[Any, ...]]:
        weight, batch = super().part(generator, share)
        return weight, tuple(v.double() for v in batch)


def train_in_double(out: Path) -> None:
    prior = build_prior(UNEVEN).double()
    for p in prior.parameters():  # a new network gives zero, with gradients of the last layer alone
        numbers = torch.Generator().manual_seed(p.numel())
        nn.init.normal_(p, std=0.1, generator=numbers)
    run_training(DoubleTask(prior, pictures(), UNEVEN), UNEVEN, out, cpu=True)


def flow() -> Flow:
    torch.manual_seed(0)
    return Flow(FlowConfig(shape=(2,), levels=0, steps=2, hidden=8)).double()


def flow_config() -> LoopConfig:
    return LoopConfig(steps=4, batch=6, warmup=1)


def gan() -> GAN:
    torch.manual_seed(int(os.environ.get("RANK", "0")))  # the first one's weights count
    return GAN(GANConfig(shape=(2,), latent=2, widths=(8,)))


def vectors(dtype: torch.dtype = torch.float64) -> TensorData:
    numbers = torch.Generator().manual_seed(1)
    return TensorData(torch.randn(50, 2, generator=numbers, dtype=torch.float64).to(dtype))


def outcome(run: Callable[[], object]) -> str:
    try:
        run()
    except (Exception, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def at_call(number: int, act: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The loss, whose call of that number is changed."""
    calls = 0

    def changed(*args: Any) -> Tensor:
        nonlocal calls
        calls += 1
        loss = denoising_score_matching(*args)
        return act(loss) if calls == number else loss

    return changed


def with_loss(loss: Callable[..., Tensor], run: Callable[[], object]) -> str:
    scoresde.training.prior.denoising_score_matching = loss
    try:
        return outcome(run)
    finally:
        scoresde.training.prior.denoising_score_matching = denoising_score_matching


def with_full_disk(after: int, run: Callable[[], object]) -> str:
    """No file can be written any more after some of them."""
    written, fsync = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    os.fsync = full
    try:
        return outcome(run)
    finally:
        os.fsync = fsync


def preempted(loss: Tensor) -> Tensor:
    signal.raise_signal(signal.SIGTERM)
    return loss


def killed(loss: Tensor) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return loss


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    writes: list[str] = []
    write = scoresde.files.write_atomically

    def noted(path: Path, content: Callable[[Path], object]) -> None:
        writes.append(path.name)
        write(path, content)

    scoresde.files.write_atomically = noted
    data, second = pictures(), rank == 1

    def run(name: str, config: TrainConfig = CONFIG, **how: Any) -> Callable[[], object]:
        return lambda: train(data, folder / name, config, cpu=True, **how)

    normal, found = denoising_score_matching, {}
    found["two"] = outcome(run("two", log_every=4, progress=True))
    found["double"] = outcome(lambda: train_in_double(folder / "double"))
    found["resumed"] = outcome(run("resumed", resume=None, log_every=None))
    found["odd batch"] = outcome(run("odd", replace(CONFIG, batch=9)))
    found["few large crops"] = outcome(run("odd", replace(CONFIG, crops=(8, 32))))
    found["preempted"] = with_loss(
        at_call(3, preempted) if second else normal, run("preempted", log_every=None)
    )
    found["nan"] = with_loss(
        at_call(4, lambda loss: loss * torch.nan) if second else normal,
        run("nan", save_every=2, log_every=None),
    )
    # a state and a prior at step 2, a state at step 4
    found["full disk"] = with_full_disk(
        2, run("full", replace(CONFIG, snapshot_every=None), save_every=2, log_every=None)
    )
    trained: list[nn.Module] = []

    def learn(model: GenerativeModel) -> None:
        out = folder / type(model).__name__
        data = vectors(next(model.parameters()).dtype)
        trained.append(train_model(model, data, out, flow_config()))

    for model in (flow(), gan()):
        found[type(model).__name__] = outcome(lambda m=model: learn(m))
    found["weights"] = [float(p.double().sum()) for m in trained for p in m.state_dict().values()]
    found["writes"] = writes
    result = folder / f"{rank}.json"
    result.write_text(json.dumps(found))
    found["killed"] = with_loss(
        at_call(6, killed) if second else normal, run("killed", save_every=2, log_every=None)
    )
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
