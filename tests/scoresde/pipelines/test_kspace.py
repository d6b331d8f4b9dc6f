"""Raw k-space of several coils through `scoresde restore --maps`."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from problems import (
    MRI,
    GaussianNoise,
    InverseProblem,
    birdcage_maps,
    channels_of,
    coil_covariance,
    espirit_maps,
    prewhiten,
    root_sum_of_squares,
)
from scoresde import EDMSDE, InputError, ScorePrior, TiledPrior, load_prior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.kspace import prepare_kspace
from scoresde.pipelines.posterior_file import read_posterior
from scoresde.pipelines.restore import Restoration, restore
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from solvers import make_solver
from tests.commands import run

SIDE, COILS, BRIGHT, NOISE = 32, 4, 500.0, 5.0
RNG = np.random.default_rng(0)
MAPS = birdcage_maps(COILS, SIDE, SIDE).numpy()
COLUMNS = np.zeros(SIDE, bool)
COLUMNS[::2] = COLUMNS[6:26] = True


def head() -> np.ndarray:
    """An ellipse (H, W) with a hole and a smooth phase, in units of the scanner."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]  # type: ignore[misc]
    inside = ((x / 0.6) ** 2 + (y / 0.8) ** 2 < 1) * 1.0
    inside[((x - 0.1) ** 2 + (y + 0.2) ** 2) < 0.02] = 0.3
    phased: np.ndarray = BRIGHT * inside * np.exp(1j * (0.7 * x + 0.4 * y**2))
    return phased


def coil_noise(*shape: int) -> np.ndarray:
    """Complex noise (COILS, ...): coil 0 is twice as loud, and coils 1 and 2 share noise."""
    white = (RNG.normal(size=(COILS, *shape)) + 1j * RNG.normal(size=(COILS, *shape))) / 2**0.5
    mixed = np.eye(COILS, dtype=complex)
    mixed[0, 0], mixed[2, 1] = 2, 0.8j
    noise: np.ndarray = NOISE * np.tensordot(mixed, white, 1)
    return noise


def kspace_of(image: np.ndarray, *, noisy: bool = True) -> np.ndarray:
    """What the coils measure (COILS, H, W), by the transform of sigpy."""
    import sigpy

    clean = sigpy.fft(MAPS * image, axes=(-2, -1))
    samples: np.ndarray = (clean + noisy * coil_noise(SIDE, SIDE)) * COLUMNS
    return samples.astype(np.complex64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slices as fastMRI stores them, a scan of noise, maps, a complex and a real prior."""
    import h5py

    folder = tmp_path_factory.mktemp("kspace")
    slices = np.stack([kspace_of(head()), kspace_of(0.6 * head()[::-1])])
    with h5py.File(folder / "k.h5", "w") as file:
        file["kspace"] = slices
    np.save(folder / "noise.npy", coil_noise(4000).astype(np.complex64))
    np.save(folder / "maps.npy", MAPS.astype(np.complex64))
    for name, channels in (("complex", 2), ("real", 1)):
        torch.manual_seed(0)
        network = UNet(UNetConfig(channels=channels, widths=(8, 16), blocks=1, attention=()))
        nn.init.normal_(network.head.weight, std=0.05)
        prior = ScorePrior(network, EDMSDE(), (channels, SIDE, SIDE))
        save_prior(prior, folder / f"{name}.safetensors")
    return folder


def restored(folder: Path, out: Path, kspace: str = "k.h5", **given: Any) -> Restoration:
    sigma, prior = given.pop("sigma", None), given.pop("prior", "complex")
    options = RestoreOptions(
        sigma,
        solver="diffpir",
        steps=2,
        samples=2,
        prior=str(folder / f"{prior}.safetensors"),
        device="cpu",
    )
    given = {"maps": "estimate"} | given
    return restore(folder / kspace, ProblemOptions("mri", **given), options, out)


def line(folder: Path, out: Path, *more: object) -> tuple[object, ...]:
    prior = ("--prior", folder / "complex.safetensors", "--device", "cpu", "--out", out)
    return ("--problem", "mri", *prior, "--solver", "diffpir", "--steps", 2, "--samples", 2, *more)


def test_the_operator_is_that_of_sigpy() -> None:
    import sigpy

    image = head()
    operator = MRI(torch.ones(SIDE, SIDE), torch.from_numpy(MAPS), complex_image=True)
    found = operator.apply(channels_of(torch.from_numpy(image)[None, None]))
    right = sigpy.fft(MAPS * image, axes=(-2, -1))
    torch.testing.assert_close(found, channels_of(torch.from_numpy(right)[None]))
    # and its picture is the root of the sum of squares of the coils
    combined = np.sqrt((abs(sigpy.ifft(right, axes=(-2, -1))) ** 2).sum(0))
    view = operator.preview(found)[0, 0].numpy()
    np.testing.assert_allclose(view, 2 * combined / combined.max() - 1, atol=1e-9)


@pytest.mark.slow
def test_the_command_does_what_python_does(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    """Bit for bit: ESPIRiT, white noise, brightness, draws, by the public functions alone."""
    import h5py
    import sigpy

    how = line(folder, tmp_path / "out", "--maps", "estimate", "--select", "slice=1")
    status, said, err = run(
        capsys, "restore", folder / "k.h5", *how, "--noise-scan", folder / "noise.npy"
    )
    assert status == 0, err
    assert "4 coils; 81.2% of the samples" in said and "middle 21 x 21 samples" in said
    assert "assumed" not in said
    with h5py.File(folder / "k.h5") as file:
        slices = file["kspace"][()]
    kspace = torch.from_numpy(slices[1])
    psi = coil_covariance(torch.from_numpy(np.load(folder / "noise.npy")))
    level = math.sqrt(float(psi.diagonal().real.mean()))
    maps = espirit_maps(kspace, 21)
    images = torch.from_numpy(sigpy.ifft(kspace.numpy(), axes=(-2, -1)))
    # of the whole file: the other slice is the brighter one
    gain = float(np.sqrt((abs(sigpy.ifft(slices, axes=(-2, -1))) ** 2).sum(1)).max())
    assert gain > 1.5 * float(root_sum_of_squares(images).max())
    mask = torch.from_numpy(COLUMNS).expand(SIDE, SIDE)
    operator = MRI(mask, level * prewhiten(maps, psi), complex_image=True)
    header = json.loads((tmp_path / "out/report.json").read_text())
    assert header["read"]["range"][1] == pytest.approx(gain, rel=1e-6)
    gain = header["read"]["range"][1]  # the FFT of sigpy differs in the last bits
    problem = InverseProblem(operator, GaussianNoise(level * math.sqrt(0.5) / gain))
    y = channels_of(level * prewhiten(kspace, psi)[None]) / gain
    prior = TiledPrior(load_prior(folder / "complex.safetensors"), 384, 64)
    seed = int(np.random.SeedSequence([0, 1]).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(seed)
    right = make_solver("diffpir", 2).sample(prior, problem, y, 2, generator=generator)
    arrays, header = read_posterior(tmp_path / "out/posterior.npz")
    assert header["complex"] is True and "--maps estimate" in header["command"]
    assert np.array_equal(arrays["draws"], right.draws[:, 0].numpy())
    # pictures are magnitudes in units of the scanner
    own = read_posterior(tmp_path / "out/posterior.npz", "file")[0]["draws"]
    magnitudes = np.hypot(own[:, 0], own[:, 1])
    mean = tifffile.imread(tmp_path / "out/mean.tif")
    np.testing.assert_allclose(mean, magnitudes.mean(0), rtol=1e-4, atol=1e-4 * gain)
    start = tifffile.imread(tmp_path / "out/zero_filled.tif")
    np.testing.assert_allclose(start, root_sum_of_squares(images), atol=1e-5 * gain)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(report["files"])
    assert report["coils"] == COILS and report["measured"] == COLUMNS.mean()
    assert report["sigma_given"] is True


def test_noise_is_white_and_of_the_stated_level(folder: Path) -> None:
    """What is left of y after the true image: independent coils, all of the stated level."""
    options = RestoreOptions(prior="x", samples=1)
    problem = ProblemOptions(
        "mri", maps=folder / "maps.npy", noise_scan=folder / "noise.npy", select=("slice=0",)
    )
    made = prepare_kspace(folder / "k.h5", problem, options, 2)
    plan, g = made.plans[0], made.given.range.high
    assert made.given.range.low == -g and g == pytest.approx(BRIGHT, rel=0.2)
    truth = channels_of(torch.from_numpy(head())[None, None]).float() / g
    left = (made.given.x - plan.operator.apply(truth))[0][:, :, COLUMNS].flatten(1)
    std, n = float(plan.noise.std), left.shape[1]  # type: ignore[attr-defined]
    # a correlation of n pairs has the standard deviation 1 / sqrt(n), a variance sqrt(2 / n)
    covariance = (left @ left.T / n / std**2).numpy()
    assert abs(covariance - np.eye(2 * COILS)).max() < 5 * math.sqrt(2 / n)
    # without the scan coil 0 has three times the variance of coil 3 in real and imaginary part
    assert std == pytest.approx(NOISE * math.sqrt((4 + 1 + 1.64 + 1) / 8) / g, rel=0.03)


def test_known_maps_give_the_image_back(folder: Path, tmp_path: Path) -> None:
    """Complete k-space without noise: complex numbers in the units of the scanner."""
    import sigpy

    np.save(tmp_path / "k.npy", sigpy.fft(MAPS * head(), axes=(-2, -1)).astype(np.complex64))
    problem = ProblemOptions("mri", maps=folder / "maps.npy")
    options = RestoreOptions(
        1e-4,
        solver="diffpir",
        steps=4,
        samples=1,
        prior=str(folder / "complex.safetensors"),
        device="cpu",
    )
    restore(tmp_path / "k.npy", problem, options, tmp_path / "out")
    x = read_posterior(tmp_path / "out/posterior.npz", "file")[0]["mean"]
    # A^* A = I: the noise of 1e-4 in units of the brightest pixel, five times
    assert abs(x[0] + 1j * x[1] - head()).max() < 5e-4 * BRIGHT * 1.1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["estimate", "one set of maps", "maps of all slices"])
def test_a_slice_alone_is_that_of_the_stack(folder: Path, tmp_path: Path, how: str) -> None:
    """Bit for bit without a stated brightness: measurement, units, noise, draws."""
    maps: Any = "estimate"
    if how != "estimate":
        maps = tmp_path / "maps.npy"
        every = np.stack([MAPS, 3 * MAPS]).astype(np.complex64)
        np.save(maps, every[0] if how == "one set of maps" else every)
    both = restored(folder, tmp_path / "all", maps=maps)
    one = restored(folder, tmp_path / "one", maps=maps, select=("slice=1",))
    part = restored(folder, tmp_path / "part", maps=maps, select=("slice=1:2",))
    for alone in (one, part):
        assert torch.equal(both.y[1:2], alone.y)
        assert torch.equal(both.posterior.draws[:, 1:2], alone.posterior.draws)
        assert both.report["read"]["range"] == alone.report["read"]["range"]
    # slice 0 has the brightest pixel, also where that of slice 1 is divided by 3
    assert both.report["read"]["range"][1] == pytest.approx(BRIGHT, rel=0.2)
    assert "in all slices" in both.report["read"]["range_rule"]


def test_maps_of_some_slices_know_these_alone(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "maps.npy", MAPS[None].astype(np.complex64))
    problem = ProblemOptions("mri", maps=tmp_path / "maps.npy", select=("slice=1",))
    found = prepare_kspace(folder / "k.h5", problem, RestoreOptions(), 2).given.range
    assert found.high == pytest.approx(0.6 * BRIGHT, rel=0.2)
    assert "that have sensitivities" in found.rule


@pytest.mark.slow
def test_a_stack_and_its_slices(folder: Path, tmp_path: Path) -> None:
    """With a stated brightness a slice alone is the same as in the stack, too."""
    both = restored(folder, tmp_path / "all", sigma=0.02, range="0,600")
    one = restored(folder, tmp_path / "one", sigma=0.02, range="0,600", select=("slice=1",))
    assert torch.equal(both.posterior.draws[:, 1:2], one.posterior.draws)
    assert tifffile.imread(tmp_path / "all/mean.tif").shape == (2, SIDE, SIDE)
    assert tifffile.imread(tmp_path / "all/zero_filled.tif").shape == (2, SIDE, SIDE)
    arrays, header = read_posterior(tmp_path / "all/posterior.npz")
    assert header["axes"]["mean"] == ["slice", "channel", "row", "column"]
    assert (header["black"], header["white"]) == (-600, 600) and arrays["std"].shape[:2] == (2, 2)
    # maps of all slices of the file go by their places
    maps = np.stack([MAPS, 2 * MAPS]).astype(np.complex64)
    np.save(tmp_path / "maps.npy", maps)
    problem = ProblemOptions("mri", maps=tmp_path / "maps.npy", select=("slice=1",))
    made = prepare_kspace(folder / "k.h5", problem, RestoreOptions(), 2)
    operator = made.plans[0].operator
    assert isinstance(operator, MRI)
    assert operator.sensitivities is not None
    assert torch.equal(operator.sensitivities, torch.from_numpy(maps[1]))


def test_the_mask_of_the_file_and_of_the_user(folder: Path, tmp_path: Path) -> None:
    import h5py

    fewer = COLUMNS & (np.arange(SIDE) > 3)
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["kspace"], file["mask"] = kspace_of(head())[None], fewer.astype(np.float32)
    options = RestoreOptions()
    np.save(tmp_path / "mask.npy", np.broadcast_to(COLUMNS, (SIDE, SIDE)).astype(np.uint8))
    for mask, right in ((None, fewer), (tmp_path / "mask.npy", COLUMNS)):
        problem = ProblemOptions("mri", maps=folder / "maps.npy", mask=mask)
        plan = prepare_kspace(tmp_path / "k.h5", problem, options, 2).plans[0]
        assert isinstance(plan.operator, MRI)
        assert np.array_equal(plan.operator.mask.numpy(), np.broadcast_to(right, (SIDE, SIDE)))


def test_one_coil_needs_no_maps(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", kspace_of(head())[0])
    problem = ProblemOptions("mri", maps="estimate")
    plan = prepare_kspace(tmp_path / "k.npy", problem, RestoreOptions(), 2).plans[0]
    assert isinstance(plan.operator, MRI)
    assert plan.operator.sensitivities is None and "svd" in plan.operator.capabilities


def test_a_real_picture_whose_phase_the_maps_hold(folder: Path, tmp_path: Path) -> None:
    """Complete k-space of values from 200 to 700, restored on [-1, 1] by a real prior."""
    import sigpy

    image = 200 + abs(head())
    phase = np.exp(1j * np.angle(head()))
    np.save(tmp_path / "maps.npy", (MAPS * phase).astype(np.complex64))
    np.save(tmp_path / "k.npy", sigpy.fft(MAPS * phase * image, axes=(-2, -1)))
    problem = ProblemOptions("mri", maps=tmp_path / "maps.npy", range="200,700")
    made = prepare_kspace(tmp_path / "k.npy", problem, RestoreOptions(), 1)
    assert made.zero_filled is None and "taken to be real" in made.given.notes[-1]
    x = torch.from_numpy((image - 450) / 250)[None, None].float()
    torch.testing.assert_close(made.plans[0].operator.apply(x), made.given.x, atol=1e-5, rtol=0)
    result = restored(folder, tmp_path / "o", str(tmp_path / "k.npy"), sigma=1e-4, prior="real",
                      maps=tmp_path / "maps.npy", range="200,700")  # fmt: skip
    torch.testing.assert_close(result.posterior.mean, x, atol=2e-3, rtol=0)


@pytest.mark.slow
def test_refusals_are_one_line_each(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    sound = kspace_of(head())
    few = sound.copy()
    few[..., 15] = 0
    np.save(tmp_path / "k.npy", sound)
    np.save(tmp_path / "few.npy", few)
    np.save(tmp_path / "zero.npy", 0 * sound)
    np.save(tmp_path / "real.npy", channels_of(torch.from_numpy(sound)[None])[0].numpy())
    np.save(tmp_path / "four.npy", np.stack([sound, sound]))
    np.save(tmp_path / "small.npy", MAPS[:, :16].astype(np.complex64))
    np.save(tmp_path / "three.npy", MAPS[:3].astype(np.complex64))
    np.save(tmp_path / "abs.npy", abs(MAPS))
    np.save(tmp_path / "short.npy", coil_noise(3))
    np.save(tmp_path / "miss.npy", np.broadcast_to(~COLUMNS, (SIDE, SIDE)).astype(np.uint8))
    maps, t = ("--maps", "estimate"), tmp_path
    known = ("--maps", folder / "maps.npy")
    cases: list[tuple[str, tuple[object, ...], str]] = [
        ("k.npy", ("--maps", t / "small.npy"), "(4, 16, 32), and k-space has 4 coils of 32 x 32"),
        ("k.npy", ("--maps", t / "three.npy"), "has the shape (3, 32, 32), and k-space has 4"),
        ("k.npy", ("--maps", t / "abs.npy"), "must hold complex numbers, got float64"),
        ("k.npy", ("--maps", t / "none.npy"), "none.npy"),
        ("few.npy", maps, "only the middle 1 x 1 samples of k-space are measured completely"),
        ("zero.npy", maps, "every sample of k-space is 0"),
        ("real.npy", maps, "holds real numbers"),
        ("four.npy", maps, "has the shape (2, 4, 32, 32); say --select 0=:"),
        ("k.npy", (*maps, "--mask", t / "miss.npy"), "leaves no sample of"),
        ("k.npy", (*maps, "--noise-scan", t / "short.npy"), "needs more samples than coils"),
        ("k.npy", (*maps, "--noise-scan", t / "three.npy"), "and k-space has 4 coils; it must be"),
        ("k.npy", (*maps, "--noise-scan", folder / "noise.npy", "--sigma", 1), "leave out --sigma"),
        ("k.npy", ("--noise-scan", folder / "noise.npy"), "does nothing without --maps FILE"),
        ("k.npy", (*maps, "--set", "coils=4"), "--set coils does nothing with --maps"),
        ("k.npy", (*maps, "--set", "calibration=4"), "takes a side from 12 to 256"),
        ("k.npy", (*known, "--set", "calibration=20"), "does nothing with maps that are read"),
        ("k.npy", (*maps, "--range=1,2"), "is 0,HIGH"),
        ("k.npy", (*maps, "--photons", 9), "the noise of coils is Gaussian"),
        ("k.npy", (*maps, "--simulate"), "--maps is for measured k-space"),
        ("k.npy", (*maps, "--prior", folder / "real.safetensors"), "an image of coils has a phase"),
        ("k.npy", (), "complex k-space takes --maps"),
    ]
    for name, more, message in cases:
        status, out, err = run(capsys, "restore", t / name, *line(folder, t / "out"), *more)
        assert (status, out, err.count("\n")) == (2, "", 1) and message in err, (message, err)
    assert not (t / "out").exists()
    # a point between four pixels: no pixel has an eigenvalue of ESPIRiT above its threshold
    ramp = np.exp(1j * math.pi * np.arange(SIDE) / SIDE)
    np.save(t / "point.npy", np.ones((COILS, 1, 1)) * np.outer(ramp, ramp))
    with pytest.raises(InputError, match="no sensitivities can be estimated"):
        restored(folder, t / "out", str(t / "point.npy"))
