"""The learning rate, and runs that become longer or shorter while they go."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scoresde import InputError
from scoresde.data.datasets import ImageFolder
from scoresde.files import read_tensors, write_tensors
from scoresde.training import train
from scoresde.training.settings import changed_settings
from scoresde.training.steps import learning_rate
from tests.scoresde.training.conftest import CONFIG, assert_same_state, scalars

LONG = replace(CONFIG, steps=8, cooldown=0.25)  # the rate begins to fall in step 7


def test_warm_up_then_the_peak_then_half_a_cosine() -> None:
    config = replace(CONFIG, steps=100, warmup=10, cooldown=0.4, learning_rate=3e-3)
    for step in range(100):
        expected = 3e-3
        if step < 10:
            expected *= (step + 1) / 10
        if step > 60:
            expected *= math.cos(math.pi / 2 * (step - 60) / 40) ** 2
        assert learning_rate(config, step) == pytest.approx(expected, rel=1e-12), step


def test_without_a_constant_part_it_is_a_cosine() -> None:
    config = replace(CONFIG, steps=50, warmup=0)
    rates = [learning_rate(config, k) / config.learning_rate for k in range(50)]
    np.testing.assert_allclose(rates, np.cos(np.pi / 2 * np.arange(50) / 50) ** 2, rtol=1e-12)


def test_a_run_has_these_rates(data: ImageFolder, tmp_path: Path) -> None:
    train(data, tmp_path / "out", LONG, cpu=True, log_every=1)
    rates = [event.value for event in scalars(tmp_path / "out", "learning rate")]
    np.testing.assert_allclose(rates, 1e-3 * np.array([0.5, *[1] * 6, 0.5]), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "cooldown"), [(16, 0.25), (6, 0.25), (8, 0.5), (5, 0.2)])
def test_another_length_before_the_cool_down(
    data: ImageFolder, tmp_path: Path, steps: int, cooldown: float
) -> None:
    """As if the run had had this length from its start, bit for bit."""
    other = replace(LONG, steps=steps, cooldown=cooldown)
    train(data, tmp_path / "whole", other, cpu=True)
    train(data, tmp_path / "parts", LONG, cpu=True, stop_after=4)
    train(data, tmp_path / "parts", other, cpu=True, resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("change", [{"steps": 16}, {"cooldown": 0.5}], ids=str)
def test_another_length_after_it_began(
    data: ImageFolder, tmp_path: Path, change: dict[str, float]
) -> None:
    train(data, tmp_path / "out", LONG, cpu=True)
    with pytest.raises(InputError, match=f"{next(iter(change))} was"):
        train(data, tmp_path / "out", replace(LONG, **change), cpu=True, resume=True)


@pytest.mark.slow
def test_what_older_states_lack_counts_as_its_default(data: ImageFolder, tmp_path: Path) -> None:
    """A state of a version without cool-downs, weightings and so on is resumed."""
    train(data, tmp_path / "whole", CONFIG, cpu=True)
    train(data, tmp_path / "out", CONFIG, cpu=True, stop_after=3)
    path = tmp_path / "out" / "state.safetensors"
    tensors, header = read_tensors(path)
    for name in ("accumulate", "cooldown", "snapshot_every", "weighting"):
        del header["settings"][name]
    del header["settings"]["network"]["preactivation"]
    write_tensors(path, tensors, header)
    with pytest.raises(InputError, match="weighting was edm, now min-snr"):
        train(data, tmp_path / "out", replace(CONFIG, weighting="min-snr"), cpu=True, resume=True)
    train(data, tmp_path / "out", CONFIG, cpu=True, resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "out")


def test_settings_of_a_model_are_not_those_of_the_loop() -> None:
    """A flow has steps, too."""
    old = {"model": {"steps": 4}, "loop": {"steps": 10, "accumulate": 1}}
    new = {"model": {"steps": 4}, "loop": {"steps": 20, "accumulate": 2}}
    assert changed_settings(old, new) == ["loop.steps was 10, now 20"]
    assert changed_settings(old, new, ["steps"]) == []
    new["model"]["steps"] = 5
    assert changed_settings(old, new, ["steps"]) == ["model.steps was 4, now 5"]


def test_settings_that_were_removed() -> None:
    """A state that says that an option of before was off goes on; another says what it was."""
    assert changed_settings({"loop": {"mismatch": 0.0}}, {"loop": {}}) == []
    found = changed_settings({"loop": {"mismatch": 0.2}}, {"loop": {}})
    assert found == ["loop.mismatch was 0.2, now 0.0"]
