"""Folders for DDPMPipeline; the tests that load one need diffusers and are skipped without it."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from scoresde import EDMSDE, InputError, ScorePrior, load_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.priors.adapted import DiscreteSchedule
from scoresde.priors.export import export_prior
from scoresde.priors.export.pipeline import noise_rates
from tests.conftest import randn, seeded
from tests.scoresde.priors.export.examples import example, noisy


def library() -> Any:
    return pytest.importorskip(
        "diffusers", reason="diffusers is not installed; make test-adapters runs this test"
    )


def test_noise_levels_are_those_of_karras() -> None:
    """s_i^(1/7) is equally spaced."""
    ratios = torch.tensor(DiscreteSchedule.from_betas(noise_rates(0.01, 20.0)).ratios)
    roots = ratios.double() ** (1 / 7)
    wanted = torch.linspace(0.01 ** (1 / 7), 20.0 ** (1 / 7), 1000, dtype=torch.float64)
    torch.testing.assert_close(roots, wanted, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_read_back_to_the_bit_without_diffusers(tmp_path: Path) -> None:
    """The graph in the folder is read; of its module, which could do anything, nothing is run."""
    prior = example("fourier")
    written = export_prior(prior, "diffusers", tmp_path / "out")
    assert written.difference == 0
    (tmp_path / "out" / "unet" / "scoresde_denoiser.py").write_text("raise SystemExit(3)")
    again = load_prior(f"diffusers:{tmp_path / 'out'}")
    x, sigma = noisy((1, 14, 9))
    wide = EDMSDE(1e-4, 100.0)
    assert torch.equal(
        again.with_sde(wide).denoise(x, sigma), prior.with_sde(wide).denoise(x, sigma)
    )
    assert again.trained == pytest.approx(prior.trained)
    with pytest.raises(InputError, match="no classes"):
        load_prior(f"diffusers:{tmp_path / 'out'}?label=1")


@pytest.mark.slow
def test_signals_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"for pictures \(C, H, W\).*--to torch-export"):
        export_prior(example("vector"), "diffusers", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_module_of_the_folder_is_python(tmp_path: Path) -> None:
    export_prior(example("function"), "diffusers", tmp_path / "out")
    unet = tmp_path / "out" / "unet"
    compile((unet / "scoresde_denoiser.py").read_text(), "scoresde_denoiser.py", "exec")
    config = json.loads((unet / "config.json").read_text())
    assert (config["sample_size"], config["in_channels"]) == ([8, 8], 1)


def test_network_of_the_pipeline(tmp_path: Path) -> None:
    """It returns the noise for every step, between steps, and for one step per sample."""
    diffusers = library()
    prior = example("fourier").with_sde(EDMSDE(1e-4, 100.0))
    export_prior(prior, "diffusers", tmp_path / "out")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.save_pretrained(tmp_path / "again")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "again")
    abar = pipeline.scheduler.alphas_cumprod.double()
    steps = torch.tensor([0, 5, 400, 999])
    alpha, sigma = (
        v.float()[:, None, None, None] for v in (abar[steps].sqrt(), (1 - abar[steps]).sqrt())
    )
    x_t = randn(4, 1, 12, 12).float()
    noise = pipeline.unet(x_t, steps).sample
    D = prior.denoise(x_t / alpha, (sigma / alpha).flatten())
    torch.testing.assert_close(x_t, alpha * D + sigma * noise, rtol=1e-5, atol=1e-5)
    alone = pipeline.unet(x_t[2:3], 400).sample
    torch.testing.assert_close(alone, noise[2:3], rtol=1e-5, atol=1e-5)
    between = pipeline.unet(x_t[2:3], 400.5).sample
    after = pipeline.unet(x_t[2:3], 401).sample
    assert 0 < float((between - alone).norm()) < float((after - alone).norm())
    (moved,) = pipeline.to("meta").unet(x_t.to("meta"), 3, return_dict=False)
    assert moved.device.type == "meta"


@pytest.mark.slow
def test_draws_have_the_law_that_the_steps_give(tmp_path: Path) -> None:
    """A pipeline of the exact denoiser of N(0, v I): the variance of its recursion, no mean.

    x0_hat = k x with k = alpha v / (alpha^2 v + sigma^2) is linear, so each step of DDPM maps the
    variance of x by c^2, plus that of the noise it adds. With 25 steps it is not yet v.
    """
    diffusers = library()
    v, count, side = 0.04, 64, 16
    network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=(), embedding=16))
    prior = ScorePrior(network, EDMSDE(), (1, side, side), math.sqrt(v)).requires_grad_(False)
    export_prior(prior, "diffusers", tmp_path / "out")
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    draws = pipeline(
        batch_size=count, num_inference_steps=25, generator=seeded(0), output_type="np"
    ).images
    x = 2 * torch.from_numpy(draws).double() - 1

    abar, variance = pipeline.scheduler.alphas_cumprod.double(), 1.0
    times = [*pipeline.scheduler.timesteps.tolist(), None]
    for t, earlier in itertools.pairwise(times):
        a, b = float(abar[t]), 1.0 if earlier is None else float(abar[earlier])
        k = math.sqrt(a) * v / (a * v + 1 - a)
        # the posterior of Ho et al. (2020), eqs. 6 and 7
        beta = 1 - a / b
        c = math.sqrt(b) * beta / (1 - a) * k + math.sqrt(a / b) * (1 - b) / (1 - a)
        added = 0.0 if earlier is None else (1 - b) / (1 - a) * beta
        variance = c**2 * variance + added
    entries = x.numel()
    assert float(x.mean()) == pytest.approx(0, abs=4 * math.sqrt(variance / entries))
    assert float(x.var()) == pytest.approx(variance, rel=4 * math.sqrt(2 / entries))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "natural"])
def test_priors_that_ship_draw_in_diffusers(name: str, tmp_path: Path) -> None:
    """The noise that its network returns is the prior's, and a few steps make a picture."""
    diffusers = library()
    prior = load_prior(name, precision="fp32")
    export_prior(prior, "diffusers", tmp_path / "out", name)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipeline.set_progress_bar_config(disable=True)
    step = 300
    abar = float(pipeline.scheduler.alphas_cumprod[step])
    alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
    x_t = randn(1, *prior.shape).float()
    x0_hat = (x_t - sigma * pipeline.unet(x_t, step).sample) / alpha
    wanted = prior.denoise(x_t / alpha, sigma / alpha)
    torch.testing.assert_close(x0_hat, wanted, rtol=0, atol=1e-4)
    (picture,) = pipeline(
        batch_size=1, num_inference_steps=4, generator=seeded(0), output_type="np"
    ).images
    assert picture.shape == (*prior.shape[1:], prior.shape[0])
    assert 0 <= picture.min() < picture.max() <= 1
