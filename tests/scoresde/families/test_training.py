"""One training loop for all families: it learns, resumes exactly and stops at a NaN.

The error names the step and the reason. Files are read back as they were written.
"""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from scoresde.data.datasets import TensorData
from scoresde.errors import InputError
from scoresde.families.base import GenerativeModel
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.store import load_model, model_from, save_model
from scoresde.families.training import train_model
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.training import TrainingError
from scoresde.training.config import LoopConfig
from tests.conftest import seeded


def data() -> TensorData:
    x = torch.randn(512, 2, generator=seeded())
    return TensorData(0.3 * x @ torch.tensor([[1.0, 0.6], [0.0, 0.5]]))


def build(kind: str) -> GenerativeModel:
    torch.manual_seed(0)
    if kind == "VAE":
        return VAE(VAEConfig(shape=(2,), latent=2, widths=(16,), likelihood="gaussian"))
    if kind == "GAN":
        return GAN(GANConfig(shape=(2,)))
    return Flow(FlowConfig(shape=(2,), levels=0, steps=4, hidden=16))


SETTINGS = LoopConfig(steps=12, batch=32, learning_rate=2e-3, warmup=2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["VAE", "Flow", "GAN"])
def test_interrupted_and_resumed_is_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    whole = train_model(build(kind), data(), tmp_path / "whole", SETTINGS)
    train_model(build(kind), data(), tmp_path / "parts", SETTINGS, stop_after=5)
    torch.manual_seed(77)  # nothing may use the global generator
    model = build(kind)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    parts = train_model(model, data(), tmp_path / "parts", SETTINGS, resume=True)
    for (name, a), b in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for name in ("state", "model"):
        first, second = (
            (tmp_path / run / f"{name}.safetensors").stat().st_size for run in ("whole", "parts")
        )
        assert abs(first - second) < 100  # the seconds in the card may differ


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """A flow comes near the entropy of a Gaussian; untrained it is far from it."""
    torch.manual_seed(0)
    x = data().samples
    model = build("Flow")
    before = float(model.log_prob(x).value.detach().mean())
    trained = train_model(
        model,
        data(),
        tmp_path,
        LoopConfig(steps=300, batch=128, learning_rate=5e-3, warmup=10, ema=0.98),
    )
    C = torch.cov(x.T)
    best = -0.5 * float(torch.logdet(2 * torch.pi * torch.e * C))
    assert before < best - 0.2 and abs(float(trained.log_prob(x).value.mean()) - best) < 0.1


class TestWhatGoesWrong:
    def test_a_nan_stops_with_the_step_and_the_reason(self, tmp_path: Path) -> None:
        class Breaks(VAE):
            count: ClassVar[int] = 0

            def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
                Breaks.count += 1
                return super().loss(x, generator) * (float("nan") if Breaks.count == 4 else 1.0)

        torch.manual_seed(0)
        with pytest.raises(
            TrainingError, match="the loss of the model is nan at step 3: lower the learning rate"
        ):
            train_model(
                Breaks(VAEConfig(shape=(2,), latent=2, widths=(8,), likelihood="gaussian")),
                data(),
                tmp_path,
                SETTINGS,
            )

    def test_folders_and_settings(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nothing to resume"):
            train_model(build("VAE"), data(), tmp_path / "new", SETTINGS, resume=True)
        train_model(build("VAE"), data(), tmp_path / "run", SETTINGS, stop_after=1)
        with pytest.raises(InputError, match=r"exists; resume it or choose another folder"):
            train_model(build("VAE"), data(), tmp_path / "run", SETTINGS)
        with pytest.raises(InputError, match="made with other settings"):
            train_model(
                build("VAE"), data(), tmp_path / "run", LoopConfig(steps=13, batch=32), resume=True
            )
        for bad in ({"steps": 0}, {"learning_rate": 0.0}, {"ema": 1.0}, {"precision": "fp8"}):
            with pytest.raises(ValueError, match=r"must be|at least"):
                LoopConfig(**bad)
        with pytest.raises(ValueError, match="finite samples"):
            TensorData(torch.full((3, 2), torch.nan))


class TestFiles:
    @pytest.mark.parametrize("kind", ["VAE", "Flow", "GAN"])
    def test_a_model_comes_back_as_it_was(self, kind: str, tmp_path: Path) -> None:
        model = build(kind).eval()
        model.card = {"summary": "a toy"}
        save_model(model, tmp_path / "model.safetensors")
        again = load_model(tmp_path / "model.safetensors")
        assert (
            type(again) is type(model)
            and again.config == model.config
            and again.card == {"summary": "a toy"}
        )
        assert torch.equal(
            again.sample(5, seeded()), model.requires_grad_(False).sample(5, seeded())
        )

    def test_half_precision_halves_the_file(self, tmp_path: Path) -> None:
        for name, dtype in (("full", None), ("half", torch.float16)):
            model = VAE(VAEConfig(shape=(2,), widths=(256,), likelihood="gaussian"))
            save_model(model, tmp_path / f"{name}.safetensors", dtype=dtype)
        sizes = {
            name: (tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")
        }
        assert sizes["half"] < 0.6 * sizes["full"]
        assert load_model(tmp_path / "half.safetensors").sample(2, seeded()).dtype == torch.float32

    def test_bad_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="unknown kind of model 'Magic'; known: VAE, Flow"):
            model_from("Magic", {})
        with pytest.raises(ValueError, match="VAEConfig has no wings"):
            model_from("VAE", {"wings": 2})
        (tmp_path / "broken.safetensors").write_bytes(b"nothing")
        with pytest.raises(InputError, match="not a whole safetensors file"):
            load_model(tmp_path / "broken.safetensors")
