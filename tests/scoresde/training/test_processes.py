"""Several processes: the run of one of them, up to the order in which sums are made."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tests.scoresde.training.two_processes as two
from scoresde import InputError
from scoresde.data.datasets import DeviceImages, ImageArray, ImageFolder, TensorData
from scoresde.data.signals import Signals
from scoresde.data.stacks import ImageStacks
from scoresde.errors import CannotWriteError, OtherProcessError
from scoresde.families import train_model
from scoresde.files import read_tensors, remove_leftovers
from scoresde.training import Task, train
from scoresde.training.prior import _PriorTask, build_prior
from scoresde.training.processes import Processes, new_accelerator
from scoresde.training.share import Share, check_batch
from tests.conftest import randn, seeded
from tests.scoresde.training.conftest import state_of

SUMMED_ALIKE = replace(two.CONFIG, accumulate=2)
"""One process that sums gradients as two do: the halves of a batch, one after the other."""

ROUNDINGS = 1000
"""Largest difference of a weight, in roundings of all the way that it can have gone."""


class TestShare:
    @pytest.mark.parametrize("processes", [1, 2, 3, 7])
    @pytest.mark.parametrize("n", [7, 12, 64])
    def test_the_parts_are_the_batch(self, n: int, processes: int) -> None:
        shares = [Share(rank, processes) for rank in range(processes)]
        parts = [range(n)[share.rows(n)] for share in shares]
        assert [i for part in parts for i in part] == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    @pytest.mark.parametrize("processes", [2, 3, 7])
    def test_the_mean_of_the_weighted_losses_is_that_of_the_batch(self, processes: int) -> None:
        losses = randn(16).double()
        shares = [Share(rank, processes) for rank in range(processes)]
        means = [share.weight(16) * losses[share.rows(16)].mean() for share in shares]
        torch.testing.assert_close(sum(means) / processes, losses.mean(), rtol=1e-14, atol=0)
        assert all(share.weight(processes) == 1 for share in shares)

    def test_batches_that_cannot_be_shared(self) -> None:
        check_batch(8, (8, 5), 4)
        with pytest.raises(InputError, match=r"batch of 6 cannot be shared by 4 .* such as 8"):
            check_batch(6, (), 4)
        with pytest.raises(InputError, match="batches of 2, fewer than the 4 processes"):
            check_batch(8, (8, 2), 4)


def sources(folder: Path) -> dict[str, Any]:
    levels = np.random.default_rng(0).integers(0, 256, (4, 12, 14, 1), dtype=np.uint8)
    np.save(folder / "levels.npy", levels)
    np.save(folder / "numbers.npy", levels[..., 0].astype(np.float32))
    array = ImageArray(folder / "levels.npy", flips=True)
    noisy = ImageArray(folder / "levels.npy", dequantise=True)
    stacks = ImageStacks([folder / "numbers.npy"], augment="turns")
    signals = Signals(torch.from_numpy(levels[..., 0]).float()[:, None], 2)
    return {"array": array, "dequantised": noisy, "stacks": stacks, "signals": signals}


class TestParts:
    """Every process draws what is its own of what one process would draw."""

    def assert_parts(self, draw: Callable[[slice], Tensor], n: int, processes: int) -> None:
        parts = [draw(Share(rank, processes).rows(n)) for rank in range(processes)]
        assert torch.equal(torch.cat(parts), draw(slice(0, n)))

    @pytest.mark.parametrize("processes", [2, 3])
    def test_of_all_data(self, data: ImageFolder, tmp_path: Path, processes: int) -> None:
        every = {"folder": data, "device": DeviceImages(data, torch.device("cpu"))}
        every |= {"rows": TensorData(randn(9, 2))} | sources(tmp_path)
        for one in every.values():
            self.assert_parts(lambda rows, d=one: d.batch(7, 8, seeded(), rows=rows), 7, processes)

    @pytest.mark.parametrize("knows_rows", [True, False])
    def test_of_a_step(self, knows_rows: bool) -> None:
        """Samples, noise levels, noise and weights, also with data that knows whole batches."""

        class Whole:
            def __len__(self) -> int:
                return 5

            def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
                return two.pictures().batch(n, size, generator)

        data: Any = two.pictures() if knows_rows else Whole()
        task = _PriorTask(build_prior(two.UNEVEN), data, two.UNEVEN)
        seen = set()
        for step in range(6):
            whole = task.batch(seeded(step))
            parts = [task.part(seeded(step), Share(rank, 2))[1] for rank in range(2)]
            seen.add(tuple(len(part[0]) for part in parts))
            for value, *halves in zip(whole, *parts, strict=True):
                assert torch.equal(torch.cat(halves), value)
        assert seen == {(6, 6), (1, 2)}

    def test_of_a_task_that_knows_whole_batches(self) -> None:
        class Plain(Task[None]):
            def batch(self, generator: torch.Generator) -> tuple[Any, ...]:
                return torch.arange(3), "all", torch.arange(6).reshape(3, 2)

            loss = settings = result = save = None  # type: ignore[assignment]

        weight, (x, text, y) = Plain().part(seeded(), Share(1, 2))
        assert weight == pytest.approx(4 / 3)
        assert x.tolist() == [1, 2] and text == "all" and y.tolist() == [[2, 3], [4, 5]]


class TestLaunch:
    @pytest.mark.parametrize("what", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
    def test_split_models_are_refused(self, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
        monkeypatch.setenv(f"ACCELERATE_USE_{what}", "true")
        with pytest.raises(InputError, match=r"a whole copy .*accelerate config"):
            new_accelerator(cpu=True, log=None)

    def test_settings_of_the_launcher_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
        monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "inductor")
        accelerator = new_accelerator(cpu=True, log=None)
        x = torch.ones((), requires_grad=True)
        accelerator.backward(3 * x)
        assert float(x.grad) == 3
        assert accelerator.mixed_precision == "no"
        assert accelerator.state.dynamo_plugin.backend == "NO"

    def test_one_process_where_several_were_asked_for(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What `accelerate launch --num_processes 2` does on a machine without GPUs."""
        monkeypatch.setenv("ACCELERATE_USE_CPU", "False")
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        with pytest.warns(UserWarning, match="one process trains.*--multi_gpu.*torchrun"):
            new_accelerator(cpu=True, log=None)

    def test_a_single_process_waits_for_nobody(self) -> None:
        alone = Processes(new_accelerator(cpu=True, log=None))
        x = randn(3)
        assert alone.mean(x) is x and alone.gathered(5) == [5] and alone.first
        with pytest.raises(ZeroDivisionError), alone.together():
            raise ZeroDivisionError
        with pytest.raises(OtherProcessError):
            alone.fail(None, 1)


def test_leftovers_of_a_kill_go(tmp_path: Path) -> None:
    path, hexadecimal = tmp_path / "state.safetensors", "0123456789abcdef"
    kept = [path, tmp_path / ".state.safetensors.txt", tmp_path / f".other.{hexadecimal}"]
    left = tmp_path / f".state.safetensors.{hexadecimal}"
    for one in (*kept, left):
        one.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_log_that_cannot_be_written(
    data: ImageFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """TensorBoard writes in a thread, which says nothing: the error is the one line."""
    from tensorboard.summary.writer import record_writer

    def full(self: object, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record_writer.RecordWriter, "write", full)
    out, config = tmp_path / "out", replace(two.CONFIG, crops=(8,))
    with pytest.raises(CannotWriteError, match=r"out/log: No space left on device"):
        train(data, out, config, cpu=True, log_every=1)
    assert capfd.readouterr().err == ""


@dataclass(frozen=True)
class Two:
    """What two processes left: see two_processes.py."""

    folder: Path
    first: dict[str, Any]
    second: dict[str, Any]
    statuses: list[int]
    errors: list[str]

    def assert_both(self, run: str, first: str, second: str | None = None) -> None:
        assert self.first[run].startswith(first)
        assert self.second[run].startswith(second or first)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("two")
    train(two.pictures(), folder / "resumed", SUMMED_ALIKE, cpu=True, log_every=None, stop_after=3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[3]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    processes = [
        subprocess.Popen(
            [sys.executable, two.__file__, str(folder)],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in "01"]
    return Two(folder, *found, [process.returncode for process in processes], errors)


def roundings(one: Path, other: Path, config: Any) -> float:
    """The largest difference of weights and averages, in roundings of steps times rates."""
    (a, step), (b, same) = state_of(one), state_of(other)
    assert step == same and a.keys() == b.keys()
    kinds = ("network", "model", "average", "powers")
    names = [k for k, v in a.items() if k.split(".")[0] in kinds and v.is_floating_point()]
    unit = torch.finfo(a[names[0]].dtype).eps * config.learning_rate * step
    apart = [float((a[k].double() - b[k].double()).abs().max()) for k in names]
    return max(apart) / unit


def assert_same(one: Path, other: Path) -> None:
    """The states, and the snapshots of averages, agree bit by bit."""
    names = [p.relative_to(one) for p in one.rglob("*.safetensors") if p.parent != one / "log"]
    for name in names:
        (a, _), (b, _) = read_tensors(one / name), read_tensors(other / name)
        assert a.keys() == b.keys() and not [k for k in a if not torch.equal(a[k], b[k])]


@pytest.mark.slow
@pytest.mark.xdist_group("two processes")  # one start of both serves all of these
class TestTwoProcesses:
    def test_the_run_of_one_process_bit_by_bit(self, both: Two, tmp_path: Path) -> None:
        """If it sums the gradients of the halves: nothing else is left of a difference."""
        both.assert_both("two", "done")
        train(two.pictures(), tmp_path / "one", SUMMED_ALIKE, cpu=True, log_every=None)
        assert_same(tmp_path / "one", both.folder / "two")
        assert {p.name for p in (tmp_path / "one").rglob("*.safetensors")} == {
            *("state.safetensors", "prior.safetensors", "4.safetensors", "8.safetensors")
        }

    def test_the_run_of_one_process_up_to_rounding(self, both: Two, tmp_path: Path) -> None:
        """The same bound in single and in double precision, of which one is 5e8 times smaller."""
        both.assert_both("double", "done")
        train(two.pictures(), tmp_path / "single", two.CONFIG, cpu=True, log_every=None)
        two.train_in_double(tmp_path / "double")
        for one, other in (("single", "two"), ("double", "double")):
            assert roundings(tmp_path / one, both.folder / other, two.CONFIG) < ROUNDINGS
        other_noise = replace(two.CONFIG, seed=1)
        train(two.pictures(), tmp_path / "other", other_noise, cpu=True, log_every=None)
        assert roundings(tmp_path / "other", both.folder / "two", two.CONFIG) > 1000 * ROUNDINGS

    def test_one_writes_and_speaks(self, both: Two) -> None:
        assert both.first["writes"] and both.second["writes"] == []
        assert len(list((both.folder / "two" / "log").rglob("events*"))) == 1
        assert "training" in both.errors[0] and both.errors[1] == ""

    def test_a_run_of_one_goes_on_in_two(self, both: Two) -> None:
        both.assert_both("resumed", "done")
        assert state_of(both.folder / "resumed")[1] == two.CONFIG.steps
        assert_same(both.folder / "resumed", both.folder / "two")

    @pytest.mark.parametrize(("run", "step"), [("preempted", 3), ("killed", 4)])
    def test_a_run_of_two_goes_on_in_one(self, both: Two, run: str, step: int) -> None:
        """After SIGTERM in one process all stop after the step; after kill -9 at step 5 ..."""
        out = both.folder / run
        assert state_of(out)[1] == step
        train(two.pictures(), out, SUMMED_ALIKE, cpu=True, log_every=None, resume=True)
        assert_same(out, both.folder / "two")

    def test_all_end_together(self, both: Two) -> None:
        silent = "OtherProcessError"
        both.assert_both("preempted", "KeyboardInterrupt: 15")
        both.assert_both("odd batch", "InputError: a batch of 9 cannot be shared", silent)
        both.assert_both("few large crops", "InputError: the largest crops", silent)
        both.assert_both("nan", "TrainingError: the loss of the model is nan at step 3", silent)
        assert state_of(both.folder / "nan")[1] == 2
        assert not (both.folder / "odd").exists()
        assert both.first["killed"].startswith("InputError: process 0 has lost the others in step")
        assert "killed" not in both.second and both.statuses == [0, -9]

    def test_a_full_disk_leaves_the_old_state(self, both: Two) -> None:
        both.assert_both("full disk", "CannotWriteError: cannot write", "OtherProcessError")
        assert "state.safetensors: No space left on device" in both.first["full disk"]
        out = both.folder / "full"
        assert state_of(out)[1] == 2
        assert sorted(p.name for p in out.iterdir()) == ["prior.safetensors", "state.safetensors"]

    def test_families(self, both: Two, tmp_path: Path) -> None:
        """A flow, whose first batch sets weights; a game of two players stays the same in both."""
        both.assert_both("Flow", "done")
        both.assert_both("GAN", "done")
        assert both.first["weights"] == both.second["weights"]
        train_model(two.flow(), two.vectors(), tmp_path / "flow", two.flow_config())
        # its shifts begin where their gradient vanishes, and AdamW divides what rounding leaves of
        # it by no less than 1e-8
        apart = roundings(tmp_path / "flow", both.folder / "Flow", two.flow_config())
        assert apart < 1e8
