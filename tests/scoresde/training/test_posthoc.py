"""Averages of weights that are chosen after the training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import nn

from scoresde import InputError, load_prior
from scoresde.data.datasets import ImageFolder
from scoresde.files import read_tensors
from scoresde.training import average_weights, train
from scoresde.training.averages import ExponentialAverage, PowerAverages
from scoresde.training.posthoc import (
    coefficients,
    inner_product,
    power_decay,
    power_exponent,
    relative_width,
)
from tests.scoresde.training.conftest import CONFIG, assert_same_state, state_of


def shares(steps: int, gamma: float) -> np.ndarray:
    """Share of each step in the average that ends at the last: its part of the profile."""
    ends = (np.arange(steps + 1) / steps) ** (gamma + 1)
    return np.diff(ends)


def direct(theta: np.ndarray, steps: int, sigma_rel: float) -> float:
    return float(shares(steps, power_exponent(sigma_rel)) @ theta[:steps])


class TestMathematics:
    @pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25, 12**-0.5])
    def test_exponent_and_length(self, sigma_rel: float) -> None:
        """The length is the standard deviation of the profile on [0, 1]."""
        gamma = power_exponent(sigma_rel)
        assert relative_width(gamma) == pytest.approx(sigma_rel, rel=1e-9)
        first, second = (
            scipy.integrate.quad(lambda v, k=k: (gamma + 1) * v ** (gamma + k), 0, 1)[0]
            for k in (1, 2)
        )
        assert np.sqrt(second - first**2) == pytest.approx(sigma_rel, rel=1e-6)

    @pytest.mark.parametrize("sigma_rel", [0.0, -0.1, 0.3, float("nan")])
    def test_lengths_that_no_profile_has(self, sigma_rel: float) -> None:
        with pytest.raises(ValueError, match=r"above 0 and at most 0\.2887"):
            power_exponent(sigma_rel)

    @pytest.mark.parametrize(("a", "b"), [((3.0, 0.0), (5.0, 2.5)), ((8.0, 7.0), (2.0, 1.0))])
    def test_inner_products(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        def profile(v: float, t: float, gamma: float) -> float:
            return (gamma + 1) * v**gamma / t ** (gamma + 1)

        end = min(a[0], b[0])
        expected = scipy.integrate.quad(lambda v: profile(v, *a) * profile(v, *b), 0, end)[0]
        assert float(inner_product(*a, *b)) == pytest.approx(expected, rel=1e-9)
        assert float(inner_product(*b, *a)) == pytest.approx(expected, rel=1e-9)

    def test_large_steps_do_not_overflow(self) -> None:
        value = inner_product(1e7, power_exponent(0.01), 2e7, power_exponent(0.01))
        assert np.isfinite(value)

    def test_the_recursion_is_the_integral(self) -> None:
        """Weights that are constant during each step, averaged over the profile."""
        theta, gamma, average = np.random.default_rng(0).normal(size=40), 6.94, 0.0
        for step, value in enumerate(theta, 1):
            decay = power_decay(gamma, step)
            average = decay * average + (1 - decay) * value
        assert average == pytest.approx(float(shares(40, gamma) @ theta), rel=1e-12)


class TestReconstruction:
    STEPS = tuple(range(50, 1001, 50))
    STORED = tuple((float(t), power_exponent(s)) for t in STEPS for s in (0.05, 0.10))

    def stored(self, theta: np.ndarray) -> np.ndarray:
        return np.array([shares(int(t), gamma) @ theta[: int(t)] for t, gamma in self.STORED])

    @pytest.mark.parametrize("theta_of", ["walk", "decay"])
    @pytest.mark.parametrize("sigma_rel", [0.04, 0.05, 0.07, 0.1, 0.13, 0.2])
    def test_any_length_from_two(self, theta_of: str, sigma_rel: float) -> None:
        """Sequences as of weights: a random walk, and a decay. Far better than the nearest one."""
        k = np.arange(1000)
        walk = np.random.default_rng(0).normal(size=1000).cumsum() / 30
        theta = walk if theta_of == "walk" else np.exp(-k / 200)
        found = coefficients(self.STORED, 1000, power_exponent(sigma_rel)) @ self.stored(theta)
        expected = direct(theta, 1000, sigma_rel)
        nearest = min(abs(direct(theta, 1000, s) - expected) for s in (0.05, 0.10))
        assert abs(found - expected) < 1e-2 * theta.std()
        assert sigma_rel in (0.05, 0.1) or abs(found - expected) < 0.1 * nearest

    @pytest.mark.parametrize("sigma_rel", [0.05, 0.10])
    @pytest.mark.parametrize("step", [50, 500, 1000])
    def test_what_is_stored_comes_out_exactly(self, sigma_rel: float, step: int) -> None:
        found = coefficients(self.STORED, step, power_exponent(sigma_rel))
        assert found.sum() == found.max() == 1
        assert self.STORED[found.argmax()] == (step, power_exponent(sigma_rel))

    @pytest.mark.parametrize("sigma_rel", [0.02, 0.08, 0.25])
    def test_weights_that_stay_come_out_as_they_are(self, sigma_rel: float) -> None:
        found = coefficients(self.STORED, 1000, power_exponent(sigma_rel))
        assert found.sum() == pytest.approx(1, abs=1e-12)

    def test_it_is_the_nearest_combination(self) -> None:
        """No other one with the same sum has a smaller distance."""
        few, gamma = self.STORED[-6:], power_exponent(0.08)
        best = coefficients(few, 1000, gamma)
        ends, exponents = np.array(few).T
        gram = inner_product(ends[:, None], exponents[:, None], ends, exponents)
        cross = inner_product(ends, exponents, 1000, gamma)

        def distance(x: np.ndarray) -> float:
            return float(x @ gram @ x - 2 * x @ cross)

        rng = np.random.default_rng(0)
        for _ in range(50):
            change = rng.normal(size=len(few)) * 1e-2
            assert distance(best) < distance(best + change - change.mean())

    def test_nothing_stored(self) -> None:
        with pytest.raises(ValueError, match="no averages"):
            coefficients([], 10, 1.0)


class TestFollowing:
    def test_the_averages_that_a_run_follows(self, device: torch.device) -> None:
        model = nn.Linear(2, 1, bias=False).to(device)
        averages, theta = PowerAverages(model), np.random.default_rng(0).normal(size=30)
        one = torch.ones((), device=device)
        for step, value in enumerate(theta, 1):
            nn.init.constant_(model.weight, value)
            averages.update(model, step, one)
        for length in (0.05, 0.1):
            found = averages.tensors()[f"{length:g}/weight"]
            assert found[0].tolist() == pytest.approx([direct(theta, 30, length)] * 2, abs=1e-5)

    def test_the_first_weights_replace_the_average(self) -> None:
        model = nn.Linear(2, 1)
        average = ExponentialAverage(model, 0.9)
        nn.init.constant_(model.weight, 3.0)
        average.update_parameters(model)
        assert average.module.weight.tolist() == [[3.0, 3.0]]


class TestRuns:
    CONFIG = replace(CONFIG, steps=12, snapshot_every=4, learning_rate=1e-2)

    def history(
        self, data: ImageFolder, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> list[torch.Tensor]:
        """Train, and keep one tensor of the weights after every step."""
        found, update = [], PowerAverages.update

        def recorded(
            self: PowerAverages, model: nn.Module, step: int, moving: torch.Tensor
        ) -> None:
            found.append(model.state_dict()["stem.weight"].double().clone())
            update(self, model, step, moving)

        monkeypatch.setattr(PowerAverages, "update", recorded)
        train(data, out, self.CONFIG, cpu=True)
        return found

    @pytest.mark.parametrize("step", [None, 8])
    @pytest.mark.parametrize("sigma_rel", [0.05, 0.07, 0.1, 0.15])
    def test_average_of_the_weights_of_a_run(
        self,
        data: ImageFolder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        sigma_rel: float,
        step: int | None,
    ) -> None:
        history = self.history(data, tmp_path / "out", monkeypatch)
        names = {path.name for path in (tmp_path / "out" / "averages").iterdir()}
        assert names == {"4.safetensors", "8.safetensors", "12.safetensors"}
        prior = average_weights(tmp_path / "out", sigma_rel, step)
        end = step or 12
        profile = torch.from_numpy(shares(end, power_exponent(sigma_rel)))
        expected = torch.einsum("t,tabcd->abcd", profile, torch.stack(history[:end]))
        found = prior.network.state_dict()["stem.weight"].double()
        # half precision, and profiles whose mean differs a little in its form
        moved = (history[-1] - history[0]).norm()
        assert (found - expected).norm() < 0.03 * moved + 1e-3 * expected.norm()
        assert not prior.training and not any(p.requires_grad for p in prior.parameters())
        assert prior.card["average"] == {"sigma_rel": sigma_rel, "step": end}
        assert prior.denoise(torch.zeros(1, 1, 8, 8), 0.5).shape == (1, 1, 8, 8)

    @pytest.mark.slow
    def test_snapshots_change_nothing_else(self, data: ImageFolder, tmp_path: Path) -> None:
        plain = replace(self.CONFIG, snapshot_every=None)
        train(data, tmp_path / "plain", plain, cpu=True)
        train(data, tmp_path / "with", self.CONFIG, cpu=True)
        (a, _), (b, _) = state_of(tmp_path / "plain"), state_of(tmp_path / "with")
        assert all(torch.equal(a[key], b[key]) for key in a)
        assert not (tmp_path / "plain" / "averages").exists()
        assert torch.equal(
            load_prior(tmp_path / "plain" / "prior.safetensors").network.stem.weight,
            load_prior(tmp_path / "with" / "prior.safetensors").network.stem.weight,
        )

    @pytest.mark.slow
    def test_an_interruption_leaves_no_trace(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "whole", self.CONFIG, cpu=True)
        train(data, tmp_path / "parts", self.CONFIG, cpu=True, stop_after=6)
        train(data, tmp_path / "parts", self.CONFIG, cpu=True, resume=True)
        for name in ("4", "8", "12"):
            (a, _), (b, _) = (
                read_tensors(tmp_path / run / "averages" / f"{name}.safetensors")
                for run in ("whole", "parts")
            )
            assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    @pytest.mark.slow
    def test_snapshots_that_begin_later(self, data: ImageFolder, tmp_path: Path) -> None:
        """The weights before count as those of then; earlier snapshots are of another sequence."""
        plain = replace(self.CONFIG, snapshot_every=None)
        train(data, tmp_path / "out", self.CONFIG, cpu=True, stop_after=5)
        train(data, tmp_path / "out", plain, cpu=True, stop_after=6, resume=True)
        train(data, tmp_path / "out", self.CONFIG, cpu=True, resume=True)
        _, header = read_tensors(tmp_path / "out" / "averages" / "8.safetensors")
        assert header["since"] == 6
        assert average_weights(tmp_path / "out", 0.08).card["average"]["step"] == 12
        train(data, tmp_path / "whole", plain, cpu=True)
        (a, _), (b, _) = state_of(tmp_path / "out"), state_of(tmp_path / "whole")
        assert all(torch.equal(a[key], b[key]) for key in b)

    def test_what_is_missing_is_named(self, data: ImageFolder, tmp_path: Path) -> None:
        train(data, tmp_path / "out", CONFIG, cpu=True, stop_after=1)
        with pytest.raises(
            InputError, match=r"no snapshots .* `scoresde train --snapshot-every N`"
        ):
            average_weights(tmp_path / "out", 0.1)
        train(data, tmp_path / "other", self.CONFIG, cpu=True)
        with pytest.raises(InputError, match="no snapshot of step 5; steps: 4, 8, 12"):
            average_weights(tmp_path / "other", 0.1, 5)
        with pytest.raises(ValueError, match="sigma_rel must be"):
            average_weights(tmp_path / "other", 0.5)
        assert_same_state(tmp_path / "out", tmp_path / "out")
