"""Training: the objective in closed form, exact resumption, and clear errors."""

import dataclasses
import json
import math
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from PIL import Image
from torch import Tensor, nn

import scoresde.training.prior
from scoresde import EDMSDE, InputError, ScorePrior, load_prior
from scoresde.data.datasets import ImageFolder
from scoresde.training import (
    NoiseLevels,
    TrainConfig,
    TrainingError,
    denoising_score_matching,
    train,
)
from scoresde.training.averages import ExponentialAverage
from tests.conftest import seeded
from tests.scoresde.training.conftest import (
    CONFIG,
    FEW_LAYERS,
    assert_same_state,
    scalars,
    state_of,
)


class TestObjective:
    @pytest.mark.parametrize("gain", [0.0, 0.5, -1.0])
    @pytest.mark.parametrize("level", [0.01, 0.3, 1.0, 20.0])
    def test_closed_form_on_gaussian_data(self, gain: float, level: float) -> None:
        """On x_0 ~ N(0, sigma_d^2 I) the loss of F(x) = a x is exactly 1 + a^2, least for a = 0.

        Input c_in x_sigma and target (x_0 - c_skip x_sigma) / c_out are then uncorrelated, each of
        variance 1: ((1 - c_skip)^2 sigma_d^2 + c_skip^2 sigma^2) / c_out^2 = 1 and (1 - c_skip)
        sigma_d^2 = c_skip sigma^2. The mean of n d squares of normal numbers of variance v has
        standard error v sqrt(2 / (n d)); 5 of them are allowed.
        """

        class Linear(nn.Module):
            def forward(self, x: Tensor, label: Tensor) -> Tensor:
                return gain * x

        n, sigma_data, generator = 200, 0.4, seeded(0)
        x_0, noise = torch.randn(2, n, 1, 16, 16, generator=generator, dtype=torch.float64)
        prior = ScorePrior(Linear(), EDMSDE(), (1, 16, 16), sigma_data)
        loss = denoising_score_matching(
            prior, sigma_data * x_0, torch.full((n,), level, dtype=torch.float64), noise
        )
        assert loss.shape == (n,)
        expected = 1 + gain**2
        assert abs(float(loss.mean()) - expected) < 5 * expected * math.sqrt(2 / x_0.numel())

    def test_is_the_weighted_error_of_the_denoiser(self) -> None:
        class Wave(nn.Module):
            def forward(self, x: Tensor, label: Tensor) -> Tensor:
                return torch.sin(3 * x) + label[:, None, None, None]

        generator = seeded(0)
        x_0, noise = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=torch.float64)
        sigma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
        prior = ScorePrior(Wave(), EDMSDE(), (1, 4, 4), 0.5)
        error = prior.denoise(x_0 + sigma[:, None, None, None] * noise, sigma) - x_0
        weight = (sigma**2 + 0.25) / (sigma * 0.5) ** 2
        expected = weight * error.square().mean((1, 2, 3))
        torch.testing.assert_close(
            denoising_score_matching(prior, x_0, sigma, noise), expected, rtol=1e-10, atol=0
        )


class TestNoiseLevels:
    def test_log_normal_and_stratified(self) -> None:
        """One level in each n-th of the distribution, anywhere within it."""
        n, noise = 1000, NoiseLevels(mean=-0.7, std=1.1, sigma_min=1e-9, sigma_max=1e9)
        sigma = noise.draw(n, seeded(0)).double()
        position = scipy.special.ndtr((sigma.log().numpy() + 0.7) / 1.1) * n - np.arange(n)
        rounding = 1e-2  # float32 logarithms, times n
        assert position.min() > -rounding and position.max() < 1 + rounding
        assert scipy.stats.kstest(position, "uniform").pvalue > 1e-6

    def test_cut_to_its_limits(self) -> None:
        sigma = NoiseLevels(sigma_min=0.1, sigma_max=0.5).draw(100, seeded(0))
        assert float(sigma.min()) == pytest.approx(0.1) and float(sigma.max()) == pytest.approx(0.5)
        assert len(sigma.unique()) > 10

    def test_the_seed_decides(self) -> None:
        first, again, other = (NoiseLevels().draw(5, seeded(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, other)


class TestConfig:
    def test_round_trip_through_json(self) -> None:
        config = dataclasses.replace(CONFIG, noise=NoiseLevels(mean=-0.3), sigma_data=0.4)
        assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    @pytest.mark.parametrize(
        "settings",
        [
            {"steps": 0},
            {"batch": 0},
            {"crops": (8, 0)},
            {"crops": ()},
            {"learning_rate": 0.0},
            {"learning_rate": float("nan")},
            {"clip": -1.0},
            {"ema": 1.0},
            {"sigma_data": 0.0},
            {"precision": "fp8"},
        ],
        ids=str,
    )
    def test_bad_settings(self, settings: dict) -> None:
        with pytest.raises(ValueError, match="|".join([*settings, "positive"])):
            TrainConfig(**settings)


class TestResume:
    @pytest.mark.slow
    def test_interruptions_leave_no_trace(self, data: ImageFolder, tmp_path: Path) -> None:
        whole = train(data, tmp_path / "whole", CONFIG, cpu=True)
        train(data, tmp_path / "parts", CONFIG, cpu=True, stop_after=3)
        assert state_of(tmp_path / "parts")[1] == 3
        train(data, tmp_path / "parts", CONFIG, cpu=True, stop_after=4, resume=True)
        parts = train(data, tmp_path / "parts", CONFIG, cpu=True, resume=True)
        assert state_of(tmp_path / "parts")[1] == CONFIG.steps
        assert_same_state(tmp_path / "whole", tmp_path / "parts")
        assert all(
            torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True)
        )

    @pytest.mark.slow
    def test_saving_along_the_way_changes_nothing(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "rarely", CONFIG, cpu=True)
        train(data, tmp_path / "often", CONFIG, cpu=True, save_every=1, log_every=1)
        assert_same_state(tmp_path / "rarely", tmp_path / "often")

    @pytest.mark.slow
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_control_c_between_two_halves_of_a_step(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        """Ctrl-C just before or after the update of the average saves a whole number of steps."""
        train(data, tmp_path / "whole", CONFIG, cpu=True)
        calls, update = 0, ExponentialAverage.update_parameters

        def interrupted(self: ExponentialAverage, model: nn.Module, moving: Tensor) -> None:
            nonlocal calls
            calls += 1
            if calls == 4 and moment == "before":
                signal.raise_signal(signal.SIGINT)
            update(self, model, moving)
            if calls == 4 and moment == "after":
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(ExponentialAverage, "update_parameters", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train(data, tmp_path / "parts", CONFIG, cpu=True)
        assert state_of(tmp_path / "parts")[1] in (3, 4)
        train(data, tmp_path / "parts", CONFIG, cpu=True, resume=True)
        assert_same_state(tmp_path / "whole", tmp_path / "parts")

    @pytest.mark.slow
    def test_a_finished_run_stays_as_it_is(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True)
        before = state_of(tmp_path / "out")
        train(data, tmp_path / "out", CONFIG, cpu=True, resume=True)
        after = state_of(tmp_path / "out")
        assert before[1] == after[1] == CONFIG.steps
        assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])

    @pytest.mark.parametrize(
        "change",
        [{"seed": 1}, {"learning_rate": 2e-3}, {"noise": NoiseLevels(mean=-1.0)}],
        ids=lambda c: next(iter(c)),
    )
    def test_other_settings_are_refused(
        self, data: ImageFolder, tmp_path: Path, change: dict
    ) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, stop_after=1)
        before = (tmp_path / "out" / "state.safetensors").read_bytes()
        with pytest.raises(InputError, match=next(iter(change))) as error:
            train(
                data, tmp_path / "out", dataclasses.replace(CONFIG, **change), cpu=True, resume=True
            )
        assert "other settings" in str(error.value) and "\n" not in str(error.value)
        assert (tmp_path / "out" / "state.safetensors").read_bytes() == before

    def test_an_existing_run_is_not_overwritten(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, stop_after=1)
        with pytest.raises(InputError, match="exists"):
            train(data, tmp_path / "out", CONFIG, cpu=True)
        assert state_of(tmp_path / "out")[1] == 1

    def test_nothing_to_resume(self, data: ImageFolder, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nothing to resume"):
            train(data, tmp_path / "out", CONFIG, cpu=True, resume=True)

    def test_a_state_that_is_none(self, data: ImageFolder, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "state.safetensors").write_bytes(b"half")
        with pytest.raises(InputError, match="safetensors"):
            train(data, tmp_path / "out", CONFIG, cpu=True, resume=True)

    def test_a_prior_is_no_state(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, stop_after=1)
        (tmp_path / "out" / "prior.safetensors").rename(tmp_path / "out" / "state.safetensors")
        with pytest.raises(InputError, match="not a training state"):
            train(data, tmp_path / "out", CONFIG, cpu=True, resume=True)

    def test_folder_that_cannot_be_written(self, data: ImageFolder, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(InputError, match="cannot write"):
            train(data, tmp_path / "file", CONFIG, cpu=True)


class TestFailure:
    def spoil(self, monkeypatch: pytest.MonkeyPatch, step: int, gradient: bool = False) -> None:
        """Make the loss of one step NaN, or keep it and make its gradient infinite."""
        calls = 0

        def spoiled(*args: Tensor) -> Tensor:
            nonlocal calls
            loss = denoising_score_matching(*args)  # type: ignore[arg-type]
            if calls == step and gradient:
                loss.register_hook(lambda g: g * math.inf)
            elif calls == step:
                loss = loss * math.nan
            calls += 1
            return loss

        monkeypatch.setattr(scoresde.training.prior, "denoising_score_matching", spoiled)

    def test_the_step_is_named(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.spoil(monkeypatch, 3)
        with pytest.raises(TrainingError, match=r"nan at step 3\b.*learning-rate") as error:
            train(data, tmp_path / "out", CONFIG, cpu=True, save_every=2)
        assert "\n" not in str(error.value) and str(tmp_path / "out" / "state.safetensors") in str(
            error.value
        )
        assert state_of(tmp_path / "out")[1] == 2

    def test_no_state_is_promised_where_there_is_none(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.spoil(monkeypatch, 0)
        with pytest.raises(TrainingError, match="step 0") as error:
            train(data, tmp_path / "out", CONFIG, cpu=True)
        assert not (tmp_path / "out" / "state.safetensors").exists()
        assert "state.safetensors" not in str(error.value)

    def test_bad_gradients_never_reach_the_saved_state(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The loss of step 3 is finite and its gradient is not: the last good state is kept."""
        self.spoil(monkeypatch, 3, gradient=True)
        with pytest.raises(TrainingError, match=r"step 3\b"):
            train(data, tmp_path / "out", CONFIG, cpu=True, save_every=1)
        tensors, step = state_of(tmp_path / "out")
        assert step == 3 and all(bool(torch.isfinite(v).all()) for v in tensors.values())


class TestTraining:
    @pytest.mark.slow
    def test_the_seed_decides(self, data: ImageFolder, tmp_path: Path) -> None:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            torch.manual_seed(ord(name))  # the global state must not matter
            train(
                data,
                tmp_path / name,
                dataclasses.replace(CONFIG, seed=seed),
                cpu=True,
                stop_after=3,
            )
        assert_same_state(tmp_path / "a", tmp_path / "b")
        left, right = (state_of(tmp_path / name)[0]["network.stem.weight"] for name in ("a", "c"))
        assert not torch.equal(left, right)

    def test_what_is_written_is_what_is_returned(self, data: ImageFolder, tmp_path: Path) -> None:
        prior = train(data, tmp_path / "out", CONFIG, cpu=True)
        assert not prior.training and not any(p.requires_grad for p in prior.parameters())
        stored = load_prior(tmp_path / "out" / "prior.safetensors")
        assert (
            stored.sde == prior.sde
            and stored.shape == prior.shape == (1, 8, 8)
            and stored.sigma_data == CONFIG.sigma_data
        )
        expected, average = stored.network.state_dict(), state_of(tmp_path / "out")[0]
        for name, value in prior.network.state_dict().items():
            assert torch.equal(value, expected[name])
            assert torch.equal(value, average[f"average.module.{name}"])

    def test_the_average_forgets_exponentially(
        self, data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """average <- d average + (1 - d) weights with d = min(ema, (1 + k) / (10 + k)).

        k is the number of updates; the average starts from the first weights.
        """
        history: list[Tensor] = []
        update = ExponentialAverage.update_parameters

        def recorded(self: ExponentialAverage, model: nn.Module, moving: Tensor) -> None:
            history.append(model.state_dict()["stem.weight"].clone())
            update(self, model, moving)

        monkeypatch.setattr(ExponentialAverage, "update_parameters", recorded)
        train(data, tmp_path / "out", dataclasses.replace(CONFIG, ema=0.3), cpu=True)
        expected = history[0].double()
        for k, weights in enumerate(history[1:], start=1):
            decay = min(0.3, (1 + k) / (10 + k))
            expected = decay * expected + (1 - decay) * weights.double()
        average = state_of(tmp_path / "out")[0]["average.module.stem.weight"]
        assert len(history) == CONFIG.steps
        torch.testing.assert_close(average.double(), expected, rtol=1e-6, atol=1e-7)

    def test_learning_rate_warms_up_and_falls_as_a_cosine(
        self, data: ImageFolder, tmp_path: Path
    ) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, log_every=1)
        rates = [event.value for event in scalars(tmp_path / "out", "learning rate")]
        cosine = [
            0.5e-3 * (1 + math.cos(math.pi * step / CONFIG.steps)) for step in range(CONFIG.steps)
        ]
        np.testing.assert_allclose(rates, [0.5 * cosine[0], *cosine[1:]], rtol=1e-6)

    @pytest.mark.slow
    def test_loss_falls_on_flat_images(self, tmp_path: Path) -> None:
        """Images of one shade of grey: the loss falls to less than half.

        Most of the target can be computed from the noisy image.
        """
        (tmp_path / "images").mkdir()
        Image.fromarray(np.full((16, 16), 200, np.uint8)).save(tmp_path / "images" / "a.png")
        flat = ImageFolder(tmp_path / "images", channels=1)
        config = dataclasses.replace(CONFIG, steps=100, batch=16, crops=(8,), learning_rate=5e-3)
        trained = train(flat, tmp_path / "out", config, cpu=True)

        generator = seeded(5)
        x_0, sigma = flat.batch(256, 8, generator), config.noise.draw(256, generator)
        noise = torch.randn(x_0.shape, generator=generator)
        before = ScorePrior(
            type(trained.network)(config.network), trained.sde, trained.shape, config.sigma_data
        )
        with torch.no_grad():
            first, last = (
                float(denoising_score_matching(p, x_0, sigma, noise).mean())
                for p in (before, trained)
            )
        assert last < 0.5 * first

    def test_a_tensorboard_log_is_kept(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, log_every=2)
        loss = scalars(tmp_path / "out", "loss")
        assert [event.step for event in loss] == [2, 4, 6, 8]
        assert all(math.isfinite(event.value) and event.value > 0 for event in loss)

    def test_one_precision_after_another_in_one_process(
        self, data: ImageFolder, tmp_path: Path
    ) -> None:
        """A notebook trains twice: the second run computes in its own precision."""
        train(data, tmp_path / "full", CONFIG, cpu=True, stop_after=2)
        train(
            data,
            tmp_path / "half",
            dataclasses.replace(CONFIG, precision="bf16"),
            cpu=True,
            stop_after=2,
        )
        full, half = (
            state_of(tmp_path / name)[0]["network.head.weight"] for name in ("full", "half")
        )
        assert torch.isfinite(half).all() and not torch.equal(full, half)

    def test_images_smaller_than_the_crop(self, data: ImageFolder, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="smaller than the crop 64"):
            train(data, tmp_path / "out", dataclasses.replace(CONFIG, crops=(64,)), cpu=True)


@pytest.mark.slow
class TestCompiled:
    @pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
    def test_the_same_steps(self, data: ImageFolder, tmp_path: Path) -> None:
        """Compiled and plain runs agree in float32 up to rounding.

        Adam's division can magnify rounding to a part of a step at most.
        """
        from torch._dynamo.utils import counters

        torch._dynamo.reset()
        counters.clear()
        config = dataclasses.replace(CONFIG, crops=(8,), steps=4)
        start = scoresde.training.build_prior(config).network.state_dict()
        plain, compiled = (
            train(
                data, tmp_path / name, config, cpu=True, compiled=name == "compiled"
            ).network.state_dict()
            for name in ("plain", "compiled")
        )
        assert (
            counters["stats"]["unique_graphs"] > 0
            and plain.keys() == compiled.keys() == start.keys()
        )
        moved = torch.cat([(plain[k] - start[k]).flatten() for k in plain])
        apart = torch.cat([(plain[k] - compiled[k]).flatten() for k in plain])
        assert moved.norm() > 0 and apart.norm() < 1e-2 * moved.norm()

    def test_without_a_compiler(self, data: ImageFolder, tmp_path: Path) -> None:
        import torch._inductor.config

        torch._dynamo.reset()
        no_compiler = {"cpp.cxx": (None, str(tmp_path / "no-compiler"))}
        with (
            torch._inductor.config.patch(no_compiler),
            pytest.raises(InputError, match="train without --compile"),
        ):
            train(
                data,
                tmp_path / "run",
                dataclasses.replace(FEW_LAYERS, batch=3),
                cpu=True,
                compiled=True,
            )
        assert not (tmp_path / "run" / "state.safetensors").exists()


class TestStartFromAPrior:
    def test_the_run_begins_with_its_weights(self, data: ImageFolder, tmp_path: Path) -> None:
        """With a tiny learning rate the initial weights come out unchanged."""
        first = train(data, tmp_path / "first", CONFIG, cpu=True)
        still = dataclasses.replace(CONFIG, learning_rate=1e-30, seed=1)
        second = train(data, tmp_path / "second", still, init=first, cpu=True)
        for name, value in first.network.state_dict().items():
            assert torch.equal(value, second.network.state_dict()[name]), name

    def test_another_network_is_refused(self, data: ImageFolder, tmp_path: Path) -> None:
        first = train(data, tmp_path / "first", dataclasses.replace(CONFIG, steps=1), cpu=True)
        other = dataclasses.replace(
            CONFIG, network=dataclasses.replace(CONFIG.network, widths=(8, 24))
        )
        with pytest.raises(InputError, match="another network"):
            train(data, tmp_path / "second", other, init=first, cpu=True)
