"""Training on signals and volumes, to the exact denoiser where it is known."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, InputError, ScorePrior, load_prior
from scoresde.data.datasets import TensorData
from scoresde.data.signals import Signals
from scoresde.networks import DiTConfig, Perceptron, PerceptronConfig, UNetConfig
from scoresde.training import (
    NoiseLevels,
    TrainConfig,
    average_weights,
    denoising_score_matching,
    train,
)
from tests.commands import run
from tests.conftest import randn, seeded

UNET = UNetConfig(1, patch=2, widths=(8,), blocks=1, attention=(), embedding=8, dimensions=1)
DIT = DiTConfig(1, patch=2, width=16, depth=1, heads=2, dimensions=1)
SMALL = TrainConfig(steps=2, batch=3, crops=(16,), warmup=1, precision="no", network=UNET)


def quick(data: object, out: Path, config: TrainConfig, **options: object) -> ScorePrior:
    return train(data, out, config, cpu=True, compiled=False, log_every=None, **options)  # type: ignore[arg-type]


def cases() -> list[tuple[object, TrainConfig, tuple[int, ...]]]:
    volumes = replace(UNET, dimensions=3)
    return [
        (Signals(randn(5, 20), 1), SMALL, (1, 16)),
        (Signals(randn(5, 2, 20), 1), replace(SMALL, network=replace(UNET, channels=2)), (2, 16)),
        (Signals(randn(5, 20), 1), replace(SMALL, crops=(20,), network=DIT), (1, 20)),
        (TensorData(randn(5, 1, 9)), SMALL, (1, 9)),
        (TensorData(randn(5, 3, 8, 6)), replace(SMALL, network=UNetConfig(3)), (3, 8, 6)),
        (Signals(randn(5, 4, 10, 6), 3), replace(SMALL, crops=(8,), network=volumes), (1, 4, 8, 6)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(cases())))
def test_a_prior_has_the_shape_of_its_samples(case: int, tmp_path: Path) -> None:
    data, config, shape = cases()[case]
    config = replace(config, snapshot_every=1)
    prior = quick(data, tmp_path, config, stop_after=1)
    assert prior.shape == shape
    quick(data, tmp_path, config, resume=True)
    back = load_prior(tmp_path / "prior.safetensors", precision="fp32")
    assert back.shape == shape and back.network.config == config.network
    assert average_weights(tmp_path, 0.1).shape == shape
    x_t = randn(2, *shape).float()
    assert bool(back.denoise(x_t, 0.5).isfinite().all())
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 3])
def test_mixed_precision(d: int, tmp_path: Path) -> None:
    """Losses in bfloat16 are those in float32 up to its rounding."""
    network = UNetConfig(1, widths=(8, 16), blocks=1, attention=(1,), embedding=8, dimensions=d)
    config = replace(SMALL, steps=6, crops=(8,), network=network, ema=0.0, learning_rate=1e-3)
    data = Signals(randn(5, *[8] * d), d)
    priors = [
        quick(data, tmp_path / precision, replace(config, precision=precision))
        for precision in ("no", "bf16")
    ]
    weights = [torch.cat([p.flatten() for p in prior.network.parameters()]) for prior in priors]
    # Adam moves a weight by the learning rate at most, so signs that differ cost twice that
    assert float((weights[0] - weights[1]).abs().max()) <= 2 * 6 * 1e-3
    assert float((weights[0] - weights[1]).abs().median()) < 1e-3


@pytest.mark.parametrize(
    ("shape", "network", "message"),
    [
        ((64,), UNetConfig(), r"shape \(64,\).*axis of channels, \(N, 1, L\)"),
        ((64,), UNET, r"shape \(64,\).*axis of channels, \(N, 1, L\)"),
        ((1, 64), UNetConfig(), r"\(1, 64\).*channels=1 and dimensions=1"),
        ((3, 8, 8), UNetConfig(1), r"\(3, 8, 8\).*channels=3 and dimensions=2"),
        ((1, 4, 4, 4), UNetConfig(1), r"\(1, 4, 4, 4\).*channels=1 and dimensions=3"),
        ((1, 2, 2, 2, 2), UNetConfig(1), r"samples of shape \(C, L\)"),
    ],
)
def test_samples_that_do_not_fit(
    shape: tuple[int, ...], network: UNetConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as error:
        quick(TensorData(randn(4, *shape)), tmp_path / "out", replace(SMALL, network=network))
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_networks_that_cannot_be_trained_here() -> None:
    with pytest.raises(ValueError, match="a Perceptron is no network for signals"):
        TrainConfig(network=PerceptronConfig())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="configures no known network"):
        TrainConfig(network={"channels": 3})  # type: ignore[arg-type]


def test_noise_levels_in_other_units() -> None:
    """The law of sigma / unit does not depend on the unit."""
    levels = NoiseLevels(-1.0, 1.3, 0.01, 20.0)
    scaled = levels.scaled(7.0).draw(50, seeded())
    torch.testing.assert_close(scaled, 7 * levels.draw(50, seeded()), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="factor"):
        levels.scaled(0.0)


class TestCommand:
    @pytest.mark.slow
    def test_signals(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Data in units a thousand times larger: the same network in other units."""
        values = np.random.default_rng(0).normal(size=(6, 2, 24))
        for name, unit in (("one", 1.0), ("kilo", 1000.0)):
            np.save(tmp_path / f"{name}.npy", unit * values)
            status, out, err = run(
                capsys,
                *("train", tmp_path / f"{name}.npy", "--dimensions", 1, "--out", tmp_path / name),
                *("--steps", 3, "--batch", 4, "--widths", "8,8", "--precision", "no", "--json"),
                *("--device", "cpu"),
            )
            assert status == 0, err
            assert json.loads(out)["signals"] == 6
        one, kilo = (
            load_prior(tmp_path / name / "prior.safetensors", precision="fp32")
            for name in ("one", "kilo")
        )
        assert one.shape == kilo.shape == (2, 24)
        assert one.sigma_data == pytest.approx(math.sqrt(np.square(values).mean()), rel=1e-6)
        assert kilo.sigma_data == pytest.approx(1000 * one.sigma_data, rel=1e-6)
        assert kilo.trained == pytest.approx([1000 * end for end in one.trained], rel=1e-6)
        assert one.trained == pytest.approx([n * 2 * one.sigma_data for n in (0.002, 80)])

    def test_crops_of_volumes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(3, 4, 8, 8)))
        command = ("train", tmp_path / "v.npy", "--dimensions", 3, "--out", tmp_path / "out")
        status, out, err = run(
            capsys,
            *(*command, "--crop", 6, "--steps", 1, "--batch", 2, "--widths", "8"),
            *("--sigma-data", 2, "--noise-range", "0.1,9", "--device", "cpu"),
        )
        assert status == 0, err
        assert "trained 1 steps on 3 volumes" in out
        prior = load_prior(tmp_path / "out" / "prior.safetensors")
        assert prior.shape == (1, 4, 6, 6) and prior.sigma_data == 2.0
        assert prior.trained == pytest.approx((0.1, 9.0))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--flips",), "--dequantise and --flips are for images"),
            (("--crop", "30"), "shorter than the crop 30"),
            (("--channels", "2"), "channels=1 and dimensions=1"),
            (("--dimensions", "3"), r"\(N, D, H, W\)"),
        ],
    )
    def test_refusals(
        self,
        options: tuple[str, ...],
        message: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        np.save(tmp_path / "a.npy", np.ones((4, 24)))
        command = ["train", tmp_path / "a.npy", "--out", tmp_path / "out", "--dimensions", 1]
        status, _, err = run(capsys, *command, *options, "--device", "cpu")
        assert status == 2 and len(err.strip().splitlines()) == 1
        assert re.search(message, err)


def autoregression(length: int, correlation: float) -> Tensor:
    """The covariance of a stationary autoregressive signal of order 1 and variance 1."""
    index = torch.arange(length)
    return correlation ** (index[:, None] - index).abs().double()


def trained_perceptron(samples: Tensor, noise: NoiseLevels, steps: int, batch: int) -> ScorePrior:
    """A perceptron trained as long as the others, with the same loss and optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Perceptron(PerceptronConfig(samples.shape[1], (256, 256)))
    prior = ScorePrior(network, EDMSDE(), (samples.shape[1],), sigma_data=1.0)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data, generator = TensorData(samples), seeded()
    for _ in range(steps):
        x_0 = data.batch(batch, 0, generator)
        eps = torch.randn(x_0.shape, generator=generator)
        loss = denoising_score_matching(prior, x_0, noise.draw(batch, generator), eps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return prior.requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "excess"),
    [
        (replace(UNET, widths=(32, 32), embedding=32), 0.03),
        (DiTConfig(1, patch=4, width=32, depth=2, heads=2, dimensions=1), 0.06),
    ],
    ids=["unet", "dit"],
)
def test_it_learns_the_exact_denoiser_of_a_gaussian_signal(
    network: UNetConfig | DiTConfig, excess: float, tmp_path: Path
) -> None:
    """400 steps come within some percent of the least error, which a perceptron misses widely."""
    covariance, noise = autoregression(64, 0.95), NoiseLevels(mean=-1.2, std=1.2)
    root = torch.linalg.cholesky(covariance)
    samples, held_out = randn(4000, 64) @ root.T, randn(500, 64, seed=1) @ root.T
    config = TrainConfig(
        steps=400,
        batch=32,
        crops=(64,),
        learning_rate=4e-3,
        warmup=20,
        ema=0.98,
        precision="no",
        sigma_data=1.0,
        network=network,
        noise=noise,
    )
    learned = quick(Signals(samples, 1), tmp_path, config).double()
    perceptron = trained_perceptron(samples.float(), noise, 400, 32).double()
    for sigma in (0.1, 0.3, 1.0):
        y = held_out + sigma * randn(500, 64, seed=2)
        gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(64), covariance)
        least, error, other = (
            float((estimate - held_out).square().mean())
            for estimate in (
                y @ gain,
                learned.denoise(y[:, None], sigma)[:, 0],
                perceptron.denoise(y, sigma),
            )
        )
        assert error < (1 + excess) * least
        assert error - least < 0.2 * (other - least)
