"""The loop: it looks at the numbers seldom, prepares data ahead, and splits batches."""

import math
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scoresde.training.loop
import scoresde.training.prior
from scoresde import InputError
from scoresde.data.datasets import ImageFolder
from scoresde.training import TrainingError, denoising_score_matching, train
from scoresde.training.batches import Batches
from scoresde.training.compiling import compilation_pays
from scoresde.training.loop import _Run
from scoresde.training.prior import _PriorTask, build_prior
from scoresde.training.steps import fastest_convolutions, move_towards, split_batch
from scoresde.training.watch import FiniteWatch
from tests.conftest import seeded
from tests.scoresde.training.conftest import CONFIG, FEW_LAYERS, assert_same_state, state_of


def spoil(monkeypatch: pytest.MonkeyPatch, steps: set[int], gradient: bool = False) -> None:
    """Make the loss of some steps NaN, or keep it and make its gradient infinite."""
    calls = 0

    def spoiled(*args: Any) -> Tensor:
        nonlocal calls
        loss = denoising_score_matching(*args)
        if calls in steps:
            loss.register_hook(lambda g: g * math.inf) if gradient else None
            loss = loss if gradient else loss * math.nan
        calls += 1
        return loss

    monkeypatch.setattr(scoresde.training.prior, "denoising_score_matching", spoiled)


class TestWatch:
    def test_the_first_value_that_is_not_finite(self, device: torch.device) -> None:
        watch = FiniteWatch(device)
        assert watch.failure() is None and float(watch.failed) == 0
        for code, value in enumerate([1.0, -math.inf, math.nan, 2.0]):
            watch.look(torch.tensor(value, device=device), code)
            assert float(watch.failed) == (code >= 1)
        assert watch.failure() == (1, -math.inf)

    @pytest.mark.parametrize("gradient", [False, True])
    @pytest.mark.parametrize("check_every", [1, 3, 100])
    def test_the_exact_step_is_named_whenever_one_looks(
        self,
        data: ImageFolder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        check_every: int,
        gradient: bool,
    ) -> None:
        spoil(monkeypatch, {4, 5}, gradient)
        what = r"norm of the gradient of the model is (nan|inf)" if gradient else "loss .* is nan"
        with pytest.raises(TrainingError, match=rf"{what} at step 4\b.*lower the learning rate"):
            train(data, tmp_path / "out", CONFIG, cpu=True, check_every=check_every)
        assert not (tmp_path / "out" / "state.safetensors").exists()

    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize("gradient", [False, True])
    def test_nothing_moves_from_then_on(
        self,
        data: ImageFolder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        gradient: bool,
        fused: bool,
    ) -> None:
        """Weights, moments and averages stay those before the bad step, and stay finite."""
        spoil(monkeypatch, {4}, gradient)
        monkeypatch.setattr(_PriorTask, "fused", fused)
        config = replace(CONFIG, snapshot_every=100)
        run = _Run(
            _PriorTask(build_prior(config), data, config), config, tmp_path, cpu=True, log=False
        )
        run.distribute(False)

        def everything() -> list[Tensor]:
            (optimizer,) = run.optimizers.values()
            state = [v for one in optimizer.state.values() for v in one.values()]
            averages = [*run.average.module.parameters(), *run.powers.tensors().values()]
            return [v.detach().clone() for v in (*run.task.model.parameters(), *state, *averages)]

        for step in range(4):
            run.step(run.draw(step))
        good = everything()
        for step in range(4, 8):
            run.step(run.draw(step))
        assert all(torch.equal(a, b) for a, b in zip(good, everything(), strict=True))
        assert all(bool(torch.isfinite(v).all()) for v in good)

    def test_a_bad_step_is_never_saved(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A state is written only after a look, even between two looks, and at Ctrl-C."""
        spoil(monkeypatch, {5}, gradient=True)
        with pytest.raises(TrainingError, match=r"step 5\b.*last good state"):
            train(data, tmp_path / "out", CONFIG, cpu=True, check_every=100, save_every=2)
        tensors, step = state_of(tmp_path / "out")
        assert step == 4 and all(bool(torch.isfinite(v).all()) for v in tensors.values())

    def test_looking_changes_nothing(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "often", CONFIG, cpu=True, check_every=1)
        train(data, tmp_path / "seldom", CONFIG, cpu=True, check_every=5)
        assert_same_state(tmp_path / "often", tmp_path / "seldom")

    def test_no_step_waits_for_the_gpu(
        self, data: ImageFolder, tmp_path: Path, device: torch.device
    ) -> None:
        if device.type != "cuda":
            pytest.skip("needs make test DEVICE=cuda")
        task = _PriorTask(build_prior(CONFIG), data, CONFIG)
        run = _Run(task, CONFIG, tmp_path, cpu=False, log=False)
        run.distribute(False)
        with Batches(run.draw, run.device, CONFIG.steps, ahead=2) as batches:
            run.step(batches.get(0))
            batch = batches.get(1)
            torch.cuda.set_sync_debug_mode("error")
            try:
                run.step(batch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert len(run.check()) == 2


def test_averages_move_by_their_weight(device: torch.device) -> None:
    average = [torch.zeros(3, device=device), torch.ones(2, dtype=torch.float64, device=device)]
    value = [torch.full_like(v, 5.0) for v in average]
    move_towards(average, value, torch.tensor(0.25, device=device))
    assert average[0].tolist() == [1.25] * 3 and average[1].tolist() == [2.0] * 2
    move_towards(average, value, torch.tensor(0.0, device=device))
    assert average[0].tolist() == [1.25] * 3


class TestBatches:
    @pytest.mark.slow
    @pytest.mark.parametrize("ahead", [1, 3, 20])
    def test_the_same_run_with_a_thread(
        self, data: ImageFolder, tmp_path: Path, ahead: int
    ) -> None:
        train(data, tmp_path / "plain", CONFIG, cpu=True)
        train(data, tmp_path / "ahead", CONFIG, cpu=True, prefetch=ahead, stop_after=3)
        train(data, tmp_path / "ahead", CONFIG, cpu=True, prefetch=ahead, resume=True)
        assert_same_state(tmp_path / "plain", tmp_path / "ahead")

    def test_the_same_run_with_crops_that_are_cut_on_the_device(
        self, data: ImageFolder, tmp_path: Path
    ) -> None:
        there = data.on_device(torch.device("cpu"), 10**6)
        assert there is not None
        train(data, tmp_path / "host", CONFIG, cpu=True)
        train(there, tmp_path / "device", CONFIG, cpu=True)
        assert_same_state(tmp_path / "host", tmp_path / "device")

    def test_the_next_ones_are_drawn_meanwhile(self, device: torch.device) -> None:
        drawn, enough = [], threading.Event()

        def draw(step: int) -> tuple[Any, ...]:
            drawn.append(step)
            if step == 3:
                enough.set()
            return torch.full((2,), float(step)), "text"

        with Batches(draw, device, stop=5, ahead=3) as batches:
            x, text = batches.get(0)
            assert enough.wait(10) and drawn == [0, 1, 2, 3]
            assert x.device.type == device.type and x.tolist() == [0, 0] and text == "text"
            assert [float(batches.get(step)[0][0]) for step in range(1, 5)] == [1, 2, 3, 4]
        assert drawn == [0, 1, 2, 3, 4]

    def test_an_error_in_the_thread_comes_out(self, data: ImageFolder, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="smaller than the crop 64"):
            train(data, tmp_path / "out", replace(CONFIG, crops=(64,)), cpu=True, prefetch=2)
        names = [thread.name for thread in threading.enumerate()]
        assert not any(name.startswith("batches") for name in names)


class TestAccumulation:
    def test_parts_of_a_batch(self) -> None:
        x, generator = torch.arange(10.0).reshape(5, 2), seeded()
        parts = split_batch((x, generator), 3)
        assert [share for share, _ in parts] == [0.4, 0.4, 0.2]
        assert torch.equal(torch.cat([one[0] for _, one in parts]), x)
        assert all(one[1] is generator for _, one in parts)
        assert len(split_batch((x,), 100)) == 5
        with pytest.raises(ValueError, match=r"\[2, 5\] rows"):
            split_batch((x, x[:2]), 2)

    @pytest.mark.parametrize("accumulate", [2, 3, 4])
    def test_the_gradient_of_the_whole_batch(
        self,
        data: ImageFolder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        accumulate: int,
    ) -> None:
        """In double precision up to rounding, for any number of parts; and the loss, too."""
        found = []
        for parts in (1, accumulate):
            config = replace(CONFIG, accumulate=parts, weighting="min-snr")
            prior = build_prior(config).double()
            for p in prior.parameters():
                nn.init.normal_(p, std=0.1, generator=seeded(p.numel()))
            run = _Run(_PriorTask(prior, data, config), config, tmp_path, cpu=True, log=False)
            run.distribute(False)
            weight, *rest = run.draw(0)
            batch = (weight, *(v.double() for v in rest))
            parameters = list(prior.parameters())
            loss = run._backward("model", batch, parameters, alone=False)
            found.append([loss, *(p.grad for p in parameters if p.grad is not None)])
        assert len(found[0]) > 10
        for whole, summed in zip(*found, strict=True):
            torch.testing.assert_close(whole, summed, rtol=1e-9, atol=1e-12)

    @pytest.mark.slow
    def test_a_run_may_go_on_in_other_parts(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, stop_after=3)
        train(data, tmp_path / "out", replace(CONFIG, accumulate=2), cpu=True, resume=True)
        train(data, tmp_path / "whole", CONFIG, cpu=True)
        (a, _), (b, _) = state_of(tmp_path / "out"), state_of(tmp_path / "whole")
        moved = torch.cat(
            [
                (b[k] - v).flatten()
                for k, v in build_prior(CONFIG).network.state_dict(prefix="network.").items()
            ]
        )
        apart = torch.cat([(a[k] - b[k]).flatten() for k in a if k.startswith("network.")])
        assert apart.norm() < 1e-2 * moved.norm()


class TestStages:
    @pytest.mark.slow
    def test_a_run_ends_after_its_minutes(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "whole", CONFIG, cpu=True)
        train(data, tmp_path / "out", CONFIG, cpu=True, minutes=1e-9, resume=None)
        assert state_of(tmp_path / "out")[1] == 1
        train(data, tmp_path / "out", CONFIG, cpu=True, minutes=1e-9, resume=None)
        assert state_of(tmp_path / "out")[1] == 2
        train(data, tmp_path / "out", CONFIG, cpu=True, minutes=60.0, resume=None)
        assert_same_state(tmp_path / "whole", tmp_path / "out")

    def test_minutes_are_not_too_few(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter(range(1000))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
        train(data, tmp_path / "out", CONFIG, cpu=True, minutes=4.5 / 60)
        assert 1 <= state_of(tmp_path / "out")[1] <= 5

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_between_looks(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        calls = 0

        def interrupting(*args: Any) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 4:
                signal.raise_signal(number)
            return denoising_score_matching(*args)

        monkeypatch.setattr(scoresde.training.prior, "denoising_score_matching", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(data, tmp_path / "out", CONFIG, cpu=True, check_every=100, prefetch=2)
        assert state_of(tmp_path / "out")[1] == 4
        assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


class TestCompilation:
    def test_where_it_pays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = torch.device("cpu")
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
        assert compilation_pays(cpu, 2001) and not compilation_pays(cpu, 2000)
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert not compilation_pays(cpu, 10**6)

    @pytest.mark.slow
    def test_a_run_goes_on_without_a_compiler(
        self,
        data: ImageFolder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Unless compilation was asked for (see TestCompiled)."""
        import torch._inductor.config

        torch._dynamo.reset()
        config = replace(FEW_LAYERS, batch=5)
        train(data, tmp_path / "plain", config, cpu=True, compiled=False)
        monkeypatch.setattr(scoresde.training.loop, "compilation_pays", lambda *_: True)
        with torch._inductor.config.patch({"cpp.cxx": (None, str(tmp_path / "none"))}):
            train(data, tmp_path / "auto", config, cpu=True, compiled=None)
        assert_same_state(tmp_path / "plain", tmp_path / "auto")
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "training goes on without it" in err


def test_cudnn_times_its_algorithms_during_a_run_alone() -> None:
    before = torch.backends.cudnn.benchmark
    with pytest.raises(KeyError), fastest_convolutions():
        assert torch.backends.cudnn.benchmark
        raise KeyError
    assert torch.backends.cudnn.benchmark == before
