"""Settings out of their range, and states that are damaged: one sentence before any work."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde.data.datasets import ImageFolder
from scoresde.errors import InputError
from scoresde.files import read_tensors, write_tensors
from scoresde.networks import UNetConfig
from scoresde.training import NoiseLevels, TrainConfig, average_weights, train
from scoresde.training.config import LoopConfig
from scoresde.training.steps import TrainingError
from tests.scoresde.training.conftest import CONFIG

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("steps", (0, -1, 1.5, True)),
        ("batch", (0, -1, 2.0)),
        ("accumulate", (0, -1, 65)),
        ("learning_rate", (0.0, -1.0, NAN, INF)),
        ("warmup", (-1, 0.5)),
        ("cooldown", (0.0, 1.01, NAN)),
        ("weight_decay", (-0.1, NAN, INF)),
        ("ema", (-0.1, 1.0, 1.5, NAN)),
        ("clip", (0.0, NAN, INF)),
        ("betas", ((0.9,), (0.9, 1.0), (NAN, 0.9))),
        ("precision", ("fp8",)),
        ("seed", (-1, 2**63, 2**64, 0.5)),
        ("snapshot_every", (0, -1)),
    ],
)
def test_settings_of_the_loop(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=name) as error:
            LoopConfig(**{name: value})
        shown = value if not isinstance(value, tuple) else value[-1 if len(value) == 1 else 0]
        assert "got" in str(error.value) and "\n" not in str(error.value)
        assert (
            str(value) in str(error.value)
            or str(shown) in str(error.value)
            or "1.0" in str(error.value)
        )


def test_the_ends_of_the_ranges_are_possible() -> None:
    LoopConfig(1, 1, 1, 1e-9, 0, 1.0, 0.0, 0.0, 1e-9, (0.0, 0.0), "no", 2**63 - 1, 1)
    NoiseLevels(0.0, 1e-3, 1e-3, 2e-3)
    TrainConfig(crops=(1,), fourier=(0, 16), network=UNetConfig(extra=12))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crops": ()}, "crops must name a side"),
        ({"crops": (64, 0)}, "each of the crops .* got 0"),
        ({"crops": (64.5,)}, "each of the crops .* got 64.5"),
        ({"sigma_data": NAN}, "sigma_data .* got nan"),
        ({"sigma_data": INF}, "sigma_data .* got inf"),
        ({"fourier": (-1,)}, "from 0 to 16, got -1"),
        ({"fourier": (2000,)}, "from 0 to 16, got 2000"),
        ({"fourier": (4, 4)}, r"once, got \(4, 4\)"),
        ({"weighting": "magic"}, "unknown weighting 'magic'"),
    ],
)
def test_settings_of_a_prior(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": NAN}, "mean .* got nan"),
        ({"mean": INF}, "mean .* got inf"),
        ({"std": 0.0}, "std .* above 0, got 0"),
        ({"std": -1.0}, "std .* got -1"),
        ({"sigma_min": 0.0}, "smallest noise level .* got 0"),
        ({"sigma_min": NAN}, "smallest noise level .* got nan"),
        ({"sigma_max": INF}, "largest noise level .* got inf"),
        ({"sigma_min": 5.0, "sigma_max": 1.0}, "MIN below MAX, got 5,1"),
        ({"sigma_min": 1.0, "sigma_max": 1.0}, "MIN below MAX, got 1,1"),
    ],
)
def test_noise_levels(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NoiseLevels(**settings)


def test_numbers_of_steps_and_times(data: ImageFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, values in {
        "minutes": (NAN, 0.0, -1.0),
        "save_every": (0, 1.5),
        "log_every": (0,),
        "check_every": (0,),
        "prefetch": (-1,),
        "stop_after": (0,),
    }.items():
        for value in values:
            with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
                train(data, out, CONFIG, cpu=True, **{name: value})
    assert not out.exists()


@pytest.mark.slow
def test_what_cannot_fit_the_memory(
    data: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the weights, five times in single precision, or by the pixels of a batch."""
    weights = sum(p.numel() for p in train(data, tmp_path / "a", CONFIG, cpu=True).parameters())
    pixels = CONFIG.batch * 8 * 8
    needed = 4 * (5 * weights + 3 * pixels)
    monkeypatch.setattr("scoresde.training.prior.available_bytes", lambda _: needed)
    train(data, tmp_path / "b", replace(CONFIG, steps=1), cpu=True)
    monkeypatch.setattr("scoresde.training.prior.available_bytes", lambda _: needed - 1)
    with pytest.raises(InputError, match="GB are free; use smaller widths"):
        train(data, tmp_path / "c", CONFIG, cpu=True)
    with pytest.raises(InputError, match="GB are free; use a smaller batch or crop"):
        train(data, tmp_path / "c", replace(CONFIG, batch=10**9), cpu=True)
    assert not (tmp_path / "c").exists()


State = tuple[dict[str, Tensor], dict[str, Any]]


def _without(key: str) -> Callable[[State], None]:
    def change(state: State) -> None:
        del state[1][key]

    return change


def _with(key: str, value: Any) -> Callable[[State], None]:
    def change(state: State) -> None:
        state[1][key] = value

    return change


def _tensors(change: Callable[[dict[str, Tensor], str], object], start: str) -> Callable:
    def apply(state: State) -> None:
        name = next(name for name in state[0] if name.startswith(start))
        change(state[0], name)

    return apply


DAMAGES: dict[str, Callable[[State], object]] = {
    "no step": _without("step"),
    "no settings": _without("settings"),
    "no times": _without("seconds"),
    "a step of words": _with("step", "many"),
    "settings of another kind": _with("settings", [1, 2]),
    "a weight is missing": _tensors(lambda t, n: t.pop(n), "network."),
    "a weight of another shape": _tensors(lambda t, n: t.update({n: torch.zeros(3)}), "network."),
    "a weight is not a number": _tensors(lambda t, n: t[n].view(-1)[:1].fill_(NAN), "network."),
    "an average is missing": _tensors(lambda t, n: t.pop(n), "average.module"),
    "a moment is missing": _tensors(lambda t, n: t.pop(n), "optimizer.model.0.exp_avg"),
    "a moment of another shape": _tensors(
        lambda t, n: t.update({n: torch.zeros(3)}), "optimizer.model.0.exp_avg"
    ),
    "a moment of no parameter": lambda s: s[0].update(
        {"optimizer.model.999.step": torch.zeros(())}
    ),
    "a moment of words": lambda s: s[0].update({"optimizer.model.x.step": torch.zeros(())}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_state(
    data: ImageFolder, tmp_path: Path, damage: Callable[[State], object]
) -> None:
    out = tmp_path / "out"
    train(data, out, CONFIG, cpu=True, stop_after=2, log_every=None)
    tensors, header = read_tensors(out / "state.safetensors")
    damage((tensors, header))
    write_tensors(out / "state.safetensors", tensors, header)
    before = (out / "state.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"state\.safetensors is a damaged training state") as e:
        train(data, out, CONFIG, cpu=True, resume=True, log_every=None)
    assert "\n" not in str(e.value)
    assert (out / "state.safetensors").read_bytes() == before


def test_a_prior_in_the_place_of_a_state(data: ImageFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(data, out, CONFIG, cpu=True, stop_after=2, log_every=None)
    (out / "prior.safetensors").replace(out / "state.safetensors")
    with pytest.raises(InputError, match="not a training state; choose another folder"):
        train(data, out, CONFIG, cpu=True, resume=True, log_every=None)


class TestSnapshots:
    @pytest.fixture
    def run(self, data: ImageFolder, tmp_path: Path) -> Path:
        out = tmp_path / "run"
        train(data, out, replace(CONFIG, snapshot_every=4), cpu=True, log_every=None)
        return out

    def test_hidden_files_do_not_count(self, run: Path) -> None:
        (run / "averages" / "._8.safetensors").write_bytes(b"\0\5\x16\7")
        assert average_weights(run, 0.1).card["average"]["step"] == 8

    def test_foreign_files(self, run: Path) -> None:
        (run / "averages" / "9.safetensors").write_text("foreign")
        with pytest.raises(InputError, match=r"9.safetensors is not a whole safetensors file"):
            average_weights(run, 0.1)

    @pytest.mark.parametrize("key", ["step", "since", "lengths", "settings"])
    def test_headers(self, run: Path, key: str) -> None:
        path = run / "averages" / "8.safetensors"
        tensors, header = read_tensors(path)
        del header[key]
        write_tensors(path, tensors, header)
        with pytest.raises(InputError, match=r"a snapshot in .* is damaged"):
            average_weights(run, 0.1)

    def test_weights(self, run: Path) -> None:
        path = run / "averages" / "8.safetensors"
        tensors, header = read_tensors(path)
        name = next(name for name in tensors if name.startswith("0.1/"))
        write_tensors(path, {k: v for k, v in tensors.items() if k != name}, header)
        with pytest.raises(InputError, match=r"a snapshot in .* is damaged"):
            average_weights(run, 0.1)


def test_a_loss_that_is_not_finite_is_another_error(data: ImageFolder, tmp_path: Path) -> None:
    """The check of a state does not hide what happens in a step."""
    with pytest.raises(TrainingError):
        train(data, tmp_path / "out", replace(CONFIG, learning_rate=1e30, clip=1e30), cpu=True)
