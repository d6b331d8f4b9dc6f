"""Pipelines that diffusers itself wrote: our DDIM makes the steps of their schedulers.

These tests need the package diffusers, which is not one of the test environment; they are skipped
without it. To run them, in an environment that has the packages of this one:

    pip install diffusers huggingface_hub
    python -m pytest tests/scoresde/priors/adapted/test_diffusers.py
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, AdaptedPrior, CosineVPSDE, FlowMatchingSDE, InputError, load_prior
from scoresde.pipelines.devices import open_prior
from scoresde.priors.adapted import DiscreteSchedule
from solvers import DDIM
from tests.commands import run
from tests.conftest import F64, randn

diffusers = pytest.importorskip(
    "diffusers", reason="diffusers is not installed; pip install diffusers to run these tests"
)

COSINE = {"beta_schedule": "squaredcos_cap_v2"}
BETAS = torch.linspace(1e-3, 0.03, 200).tolist()
DISCRETE: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddpm-sample": ("DDPMScheduler", {"prediction_type": "sample", **COSINE}),
    "ddpm-short": ("DDPMScheduler", {"num_train_timesteps": 130}),
    "ddim-v": ("DDIMScheduler", {"prediction_type": "v_prediction"}),
    "ddim-cosine": ("DDIMScheduler", COSINE),
    "ddim-scaled-linear": (
        "DDIMScheduler",
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    "ddim-trained-betas": (
        "DDIMScheduler",
        {"trained_betas": BETAS, "num_train_timesteps": len(BETAS)},
    ),
    "ddim-no-signal": (
        "DDIMScheduler",
        {
            "rescale_betas_zero_snr": True,
            "prediction_type": "v_prediction",
            "timestep_spacing": "trailing",
        },
    ),
    "pndm": ("PNDMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
    "dpm-solver": ("DPMSolverMultistepScheduler", {}),
}


def unet(outputs: int = 3, **settings: Any) -> Any:
    """A small network with weights that are large enough to matter."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=outputs,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        **settings,
    )
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape)
    return network.eval()


def write(folder: Path, network: Any, scheduler: Any) -> str:
    """Write a pipeline, and return the name of its prior."""
    diffusers.DDPMPipeline(unet=network, scheduler=scheduler).save_pretrained(folder)
    return f"diffusers:{folder}"


def steps_of(prior: AdaptedPrior, times: Tensor, start: Tensor) -> list[Tensor]:
    """States of our DDIM at all times, and the result."""
    states: list[Tensor] = []
    with torch.no_grad():
        end = DDIM()._run(prior, start, times, None, lambda *a: states.append(a[3]))
    return [*states, end]


def theirs(network: Any, scheduler: Any, start: Tensor) -> list[Tensor]:
    """States of their sampler, and the result."""
    x, states = start, [start]
    with torch.no_grad():
        for t in scheduler.timesteps:
            flow = isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler)
            seen = x if flow else scheduler.scale_model_input(x, t)
            output = network(seen, t).sample
            x = scheduler.step(output, t, x).prev_sample
            states.append(x)
    return states


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    """All states agree to 1e-5 of their size."""
    assert len(found) == len(wanted) > 5
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max()))
    assert float((wanted[-1] - wanted[0]).abs().max()) > 0.1


@pytest.mark.parametrize("name", DISCRETE)
def test_ddim_of_discrete_schedulers(name: str, tmp_path: Path) -> None:
    """Step by step: prediction, schedule and time label are those of the scheduler."""
    kind, settings = DISCRETE[name]
    network, scheduler = unet(), getattr(diffusers, kind)(**settings)
    prior = load_prior(write(tmp_path, network, scheduler)).double()
    assert isinstance(prior, AdaptedPrior)
    assert isinstance(prior.convention.noise, DiscreteSchedule)
    ddim = diffusers.DDIMScheduler.from_config(
        scheduler.config, clip_sample=False, thresholding=False, set_alpha_to_one=True
    )
    ddim.alphas_cumprod = ddim.alphas_cumprod.double()
    ddim.final_alpha_cumprod = torch.ones((), dtype=F64)
    ddim.set_timesteps(10)
    ratios = torch.tensor(prior.convention.noise.ratios, dtype=F64)[ddim.timesteps]
    sde = CosineVPSDE()
    start = randn(2, 3, 8, 8)
    found = steps_of(prior.with_sde(sde), sde.t_from_noise_to_signal(ratios), start)
    assert_same(found, theirs(network.double(), ddim, start))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm(prediction: str, tmp_path: Path) -> None:
    """Euler's method of the EDM is DDIM where the time is the noise level."""
    scheduler = diffusers.EDMEulerScheduler(prediction_type=prediction, sigma_data=0.4)
    network = unet()
    prior = load_prior(write(tmp_path, network, scheduler)).double()
    assert prior.trained == (0.002, 80.0)
    scheduler.set_timesteps(10)
    start = 80 * randn(2, 3, 8, 8)
    times = scheduler.sigmas[:-1].double()
    found = steps_of(prior.with_sde(EDMSDE()), times, start)
    assert_same(found, theirs(network.double(), scheduler, start))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching(shift: float, tmp_path: Path) -> None:
    """Euler's method of the flow is DDIM; it starts where no signal is left."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    network = unet()
    prior = load_prior(write(tmp_path, network, scheduler)).double()
    scheduler.set_timesteps(10)
    assert float(scheduler.sigmas[0]) == 1.0
    assert math.isinf(prior.trained[1])
    start = randn(2, 3, 8, 8)
    found = steps_of(prior.with_sde(FlowMatchingSDE()), scheduler.sigmas[:-1].double(), start)
    # their step computes in float32
    assert_same(found, [x.double() for x in theirs(network.double(), scheduler, start)])


def test_learned_variance_and_other_sizes(tmp_path: Path) -> None:
    """The variance is dropped, and sides that are no multiples of 2 are padded and cropped."""
    network, scheduler = unet(6), diffusers.DDPMScheduler(variance_type="learned_range")
    prior = load_prior(write(tmp_path, network, scheduler))
    s = torch.tensor(prior.convention.noise.ratios[300])
    x = randn(2, 3, 9, 7).float()
    alpha = float((1 / (1 + s**2)).sqrt())
    padded = torch.nn.functional.pad(alpha * x, (0, 1, 0, 1), mode="replicate")
    with torch.no_grad():
        eps = network(padded, 300).sample[:, :3, :9, :7]
    torch.testing.assert_close(prior.denoise(x, s), x - s * eps, rtol=0, atol=1e-5)


def test_class_labels(tmp_path: Path) -> None:
    """A class is named after a question mark, and asked for where it is missing."""
    network, scheduler = unet(num_class_embeds=5), diffusers.DDPMScheduler()
    name = write(tmp_path, network, scheduler)
    x = randn(2, 3, 8, 8).float()
    one, two = (load_prior(f"{name}?label={k}").denoise(x, 1.0) for k in (1, 2))
    assert float((one - two).abs().max()) > 1e-3
    for wrong, message in {
        name: r"5 classes; name one, such as diffusers:FOLDER\?label=0",
        f"{name}?label=5": "classes 0 to 4, got label=5",
        f"{name}?label=cat": "label=NUMBER",
    }.items():
        with pytest.raises(InputError, match=message):
            load_prior(wrong)


def write_dit(folder: Path, **parts: Any) -> tuple[Any, str]:
    """Write a pipeline with a small DiT in pixel space."""
    torch.manual_seed(0)
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        out_channels=6,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=4,
    )
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape)
    network.eval().save_pretrained(folder / "transformer")
    diffusers.DDIMScheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DiTPipeline",
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        **parts,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return network, f"diffusers:{folder}"


def test_dit(tmp_path: Path) -> None:
    """With and without a class; of one size."""
    network, name = write_dit(tmp_path)
    x = randn(2, 3, 8, 8).float()
    for suffix, label in {"?label=3": 3, "": 4}.items():
        prior = load_prior(name + suffix)
        s = torch.tensor(prior.convention.noise.ratios[500])
        alpha = float((1 / (1 + s**2)).sqrt())
        with torch.no_grad():
            eps = network(alpha * x, torch.tensor([500] * 2), torch.tensor([label] * 2)).sample
        torch.testing.assert_close(
            prior.denoise(x, s), x - s * eps[:, :3], rtol=0, atol=1e-5 * float(s)
        )
    with pytest.raises(ValueError, match="tile=8"):
        prior.denoise(torch.zeros(1, 3, 16, 16), 1.0)


def test_latent_pipelines_are_refused(tmp_path: Path) -> None:
    """A network of codes is not taken for one of pictures."""
    _, name = write_dit(tmp_path, vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(InputError, match="latent diffusion model"):
        load_prior(name)


def test_settings_of_the_sampler_are_left_out(tmp_path: Path) -> None:
    """Clipping is noted in the card; dynamic thresholding is warned of as well."""
    network = unet()
    prior = load_prior(write(tmp_path / "clip", network, diffusers.DDPMScheduler()))
    assert "clip_sample is left out" in prior.card["notes"][0]
    name = write(tmp_path / "threshold", network, diffusers.DDPMScheduler(thresholding=True))
    with pytest.warns(UserWarning, match="dynamic thresholding"):
        load_prior(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "MagicScheduler"}, "which diffusers does not have"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "of a kind that is not known here"),
        ({"_class_name": "DDPMScheduler", "prediction_type": "magic"}, "prediction_type 'magic'"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "magic"}, "settings in .* are wrong"),
    ],
)
def test_unknown_schedulers(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    """One line says what is wrong."""
    name = write(tmp_path, unet(), diffusers.DDPMScheduler())
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        load_prior(name)


def test_commands_take_the_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`scoresde sample` draws from a pipeline."""
    name = write(tmp_path / "pipeline", unet(), diffusers.DDPMScheduler())
    assert isinstance(open_prior(name, torch.device("cpu"), "auto"), AdaptedPrior)
    out = tmp_path / "out.png"
    status, _, error = run(
        capsys, "sample", "--prior", name, "--n", 1, "--steps", 2, "--size", 8, "--out", out
    )
    assert status == 0, error
    assert out.is_file()
