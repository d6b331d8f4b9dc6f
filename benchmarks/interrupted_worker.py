"""The training of interrupted_training.py: `scoresde train`, which says where it is.

    python interrupted_worker.py OUT [--limit-from STEP --limit-bytes N] OPTIONS OF THE COMMAND

The first process prints the number of each step before it is taken. It keeps the states of some
steps in OUT/kept, and from a step on it can write no file beyond a size, as on a full disk.
"""

import argparse
import os
import resource
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor

from scoresde.cli import main as command
from scoresde.files import read_header
from scoresde.training import prior


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--keep", type=int, nargs="*", default=[])
    parser.add_argument("--limit-from", type=int, default=-1)
    parser.add_argument("--limit-bytes", type=int, default=0)
    a, rest = parser.parse_known_args()
    rank = int(os.environ.get("RANK", "0"))
    pids = a.out.with_name("pids")
    pids.mkdir(exist_ok=True)
    (pids / str(rank)).write_text(str(os.getpid()))
    draw, state = prior._PriorTask.part, a.out / "state.safetensors"
    step = None

    def reported(task: prior._PriorTask, *args: torch.Generator) -> tuple[float, tuple[Tensor]]:
        nonlocal step
        if step is None:
            step = int(read_header(state)["step"]) if state.exists() else 0
        if rank == 0:
            if step in a.keep:
                kept = a.out / "kept" / f"{step}.safetensors"
                kept.parent.mkdir(exist_ok=True)
                shutil.copy(state, kept)
            print(step, flush=True)
        if step == a.limit_from:
            resource.setrlimit(resource.RLIMIT_FSIZE, (a.limit_bytes, a.limit_bytes))
        step += 1
        return draw(task, *args)

    prior._PriorTask.part = reported  # type: ignore[assignment,method-assign]
    sys.argv = ["scoresde", "train", *rest, "--out", str(a.out)]
    command()


if __name__ == "__main__":
    main()
