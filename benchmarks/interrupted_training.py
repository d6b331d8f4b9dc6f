"""Trainings that are interrupted and go on, and trainings by two processes.

    python benchmarks/interrupted_training.py

A tiny network is trained by `scoresde train` on the CPU. The run is interrupted at random steps, by
kill -9, by SIGTERM and by a limit of the size of files (a full disk) in turn, and started again
each time. Weights, averages and optimizer are then compared with those of a run that nothing
disturbed, bit for bit. The same is done to two processes that torchrun has started, one of which is
killed. Last, the weights of two processes are compared with those of one. Writes
interrupted_training.json and interrupted_training.md.
"""

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from folders import pictures
from tables import RESULTS, table, write_json, write_page

from scoresde.files import read_tensors
from scoresde.priors.checkpoint import load_prior

WORKER = Path(__file__).with_name("interrupted_worker.py")
KINDS = ("kill -9", "SIGTERM", "file limit")
STATUSES = {"kill -9": -signal.SIGKILL, "SIGTERM": 128 + signal.SIGTERM, "file limit": 2}
"""Status of a single process after each."""
KEPT = (2, 10, 50, 100, 200)
RATE = 1e-3
"""Peak learning rate, which is the most that AdamW moves a weight in a step, nearly."""


@dataclass
class Interruption:
    """What an interruption left."""

    kind: str
    processes: int
    step: int
    status: int
    state: int | None
    temporary_files: int
    lines: list[str]
    seconds: float
    alive: int


class Runs:
    """Trainings of one network on one folder of pictures."""

    def __init__(self, root: Path, steps: int) -> None:
        self.root, self.steps, self.data = root, steps, root / "pictures"
        pictures(self.data, 6, 40)

    def command(self, out: Path, processes: int, accumulate: int, *more: str) -> list[str]:
        launcher = [sys.executable]
        if processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            launcher += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
            launcher += [f"--master_port={port}"]
        options = (
            f"--steps {self.steps} --batch 8 --crop 8 --crop 16 --widths 8,16 --blocks 1 "
            f"--attention 1 --precision no --warmup 20 --learning-rate {RATE} "
            f"--snapshot-every 40 --save-every 2 --accumulate {accumulate} --device cpu "
            "--no-compile --continue"
        )
        return [*launcher, str(WORKER), str(out), *more, str(self.data), *options.split()]

    def undisturbed(self, name: str, processes: int = 1, accumulate: int = 1) -> Path:
        out = self.root / name / "run"
        out.parent.mkdir(exist_ok=True)
        keep = ["--keep", *map(str, KEPT), "--limit-from", "-1"]
        words = self.command(out, processes, accumulate, *keep)
        subprocess.run(words, check=True, capture_output=True)
        return out

    def interrupt(
        self, out: Path, kind: str, step: int, rng: random.Random, processes: int, accumulate: int
    ) -> Interruption:
        """Start or go on, and interrupt the run in a step."""
        out.parent.mkdir(exist_ok=True)
        state = out / "state.safetensors"
        more = []
        if kind == "file limit":
            size = state.stat().st_size if state.exists() else 100_000
            more = ["--limit-from", str(step), "--limit-bytes", str(rng.randrange(1000, size))]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                self.command(out, processes, accumulate, *more),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().isdigit() and int(line) >= step:
                    break
            if not (out.parent / "pids").exists():
                process.wait()
                errors.seek(0)
                raise SystemExit(f"the training did not start: {errors.read()}")
            pids = [int(one.read_text()) for one in (out.parent / "pids").iterdir()]
            assert len(pids) == processes
            if kind != "file limit":
                if kind == "kill -9" and rng.random() < 0.5:
                    wait_for_write(out)
                else:
                    time.sleep(rng.uniform(0, 0.06))
                hit = rng.choice(pids) if kind == "kill -9" else process.pid
                os.kill(hit, signal.SIGKILL if kind == "kill -9" else signal.SIGTERM)
            start = time.perf_counter()
            process.stdout.read()
            status = process.wait()
            seconds = time.perf_counter() - start
            errors.seek(0)
            lines = [one.strip() for one in errors if one.startswith("scoresde: ")]
        assert processes > 1 or status == STATUSES[kind]
        alive = sum(psutil.pid_exists(pid) for pid in pids)
        shutil.rmtree(out.parent / "pids")
        found = None
        if state.exists():  # whole, or this fails
            tensors, header = read_tensors(state)
            assert all(bool(v.isfinite().all()) for v in tensors.values())
            found = int(header["step"])
        if (prior := out / "prior.safetensors").exists():
            load_prior(str(prior))
        temporary = sum(one.is_file() for one in out.glob(".*")) if out.exists() else 0
        return Interruption(kind, processes, step, status, found, temporary, lines, seconds, alive)

    def disturbed(
        self, name: str, times: int, processes: int = 1, accumulate: int = 1
    ) -> tuple[Path, list[Interruption]]:
        """Interrupt a run at random steps, and let it end."""
        rng, out = random.Random(processes), self.root / name / "run"
        steps = sorted(rng.sample(range(1, self.steps - 4), times))
        done = []
        for index, step in enumerate(steps):
            kind = KINDS[index % len(KINDS)]
            done.append(self.interrupt(out, kind, step, rng, processes, accumulate))
            print(done[-1], flush=True)
        left = self.command(out, processes, accumulate)
        subprocess.run(left, check=True, capture_output=True)
        return out, done


def wait_for_write(out: Path) -> None:
    """Wait until a file is being written."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and not any(one.is_file() for one in out.glob(".*")):
        pass


def different(one: Path, other: Path) -> list[str]:
    """Tensors that differ in the state, the prior and the snapshots of averages."""
    names = {
        str(path.relative_to(root)): None
        for root in (one, other)
        for path in sorted(root.rglob("*.safetensors"))
        if path.parent.name != "kept"
    }
    wrong = []
    for name in names:
        a, b = (read_tensors(root / name)[0] for root in (one, other))
        wrong += [f"{name}: {k}" for k in a if k not in b or not torch.equal(a[k], b[k])]
        wrong += [f"{name}: {k}" for k in b if k not in a]
    return wrong


def weights(path: Path) -> torch.Tensor:
    """The weights of the network in a state, as one vector."""
    tensors = read_tensors(path)[0]
    return torch.cat([v.flatten() for k, v in tensors.items() if k.startswith("network.")])


def apart(one: Path, other: Path) -> list[dict[str, float]]:
    """The differences of weights after some steps."""
    rows = []
    for step in KEPT:
        a, b = (weights(root / "kept" / f"{step}.safetensors").double() for root in (one, other))
        largest = float((a - b).abs().max())
        unit = torch.finfo(torch.float32).eps * RATE * step
        norm = float((a - b).norm() / a.norm())
        rows.append({"step": step, "largest": largest, "of": norm, "roundings": largest / unit})
    return rows


def page(found: dict[str, Any]) -> list[str]:
    rows = []
    for processes in (1, 2):
        for kind in KINDS:
            some = [
                one
                for one in found["interruptions"]
                if (one["processes"], one["kind"]) == (processes, kind)
            ]
            statuses = Counter(one["status"] for one in some)
            rows.append(
                [
                    processes,
                    kind,
                    len(some),
                    ", ".join(str(one["step"]) for one in some),
                    ", ".join(f"{k}" for k in sorted(statuses)),
                    sum(one["state"] is not None for one in some),
                    sum(one["temporary_files"] > 0 for one in some),
                    f"{max(one['seconds'] for one in some):.1f}",
                    sum(one["alive"] for one in some),
                ]
            )
    head = ["processes", "by", "times", "in the steps", "status", "whole states", "temporary files"]
    head += ["seconds to the end", "left alive"]
    single, two, summed = (len(found["different"][k]) for k in ("one", "two", "summed"))
    return [
        f"A UNet of {found['weights']} weights, {found['steps']} steps of 8 crops of 8 pixels or 2 "
        "of 16, a state after every second step, single precision, by `scoresde train` on the CPU. "
        "A file limit is RLIMIT_FSIZE, at a random size below that of the state: what is written "
        "ends there, as on a full disk.",
        "",
        "`python benchmarks/interrupted_training.py`",
        "",
        *table(head, rows),
        "",
        "Whole states: after so many interruptions there was a state, which could be read and was "
        "finite; before the first state is written there is none. Temporary files: so many "
        "interruptions came while a file was written, and left part of it under another name, "
        "which the next start removes. Status: of the process, with two processes of torchrun.",
        "",
        "Tensors of the state (weights, averages, optimizer), the prior and the snapshots of "
        "averages that differ in the end from those of the run that nothing disturbed: "
        f"{single} with one process, {two} with two.",
        "",
        "Messages: " + "; ".join(f"`{one}`" for one in found["messages"]),
        "",
        "## Two processes against one",
        "",
        "Two processes and one that sums gradients as they do (`--accumulate 2`): "
        f"{summed} tensors differ. Two processes and one that has the whole batch at once, which "
        "sums in another order:",
        "",
        *table(
            ["steps", "largest difference of a weight", "‖difference‖ / ‖weights‖", "roundings"],
            [
                [r["step"], f"{r['largest']:.1e}", f"{r['of']:.1e}", f"{r['roundings']:.0f}"]
                for r in found["apart"]
            ],
        ),
        "",
        "Roundings: the largest difference over 1.2e-7 × steps × learning rate, the rounding of "
        "all the way that a weight can have gone.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--times-of-two", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        runs = Runs(Path(place), a.steps)
        one = runs.undisturbed("one")
        summed = runs.undisturbed("summed", accumulate=2)
        two = runs.undisturbed("two", processes=2)
        cut, interruptions = runs.disturbed("cut", a.times)
        cut_two, more = runs.disturbed("cut-two", a.times_of_two, processes=2)
        interruptions += more
        found = {
            "steps": a.steps,
            "weights": weights(one / "state.safetensors").numel(),
            "interruptions": [asdict(i) for i in interruptions],
            "different": {
                "one": different(one, cut),
                "two": different(two, cut_two),
                "summed": different(summed, two),
            },
            "apart": apart(one, two),
            "messages": sorted(
                {
                    re.sub(r"in step \d+", "in step …", line.split(";")[0]).replace(
                        f"{place}/{'cut-two' if i.processes > 1 else 'cut'}", "…"
                    )
                    for i in interruptions
                    for line in i.lines
                }
            ),
        }
    for i in found["interruptions"]:
        i["lines"] = [line.replace(str(place), "…") for line in i["lines"]]
    write_json(found, a.out / "interrupted_training.json")
    write_page(a.out / "interrupted_training.md", page(found))


if __name__ == "__main__":
    main()
