"""The numbers of a restoration and its pictures: what `restore` writes, in full precision."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from torch import nn

from problems import Blur, Denoising, Inpainting, problem_from, read_kernel, read_mask
from problems.reading.pictures import read_picture
from scoresde import EDMSDE, InputError, ScorePrior, load_prior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.inputs import read_input
from scoresde.pipelines.picture_format import choose_format, destination
from scoresde.pipelines.posterior_file import read_posterior
from scoresde.pipelines.restore import Restoration, restore
from scoresde.pipelines.settings import OutputOptions, ProblemOptions, RestoreOptions
from tests.commands import run
from tests.conftest import seeded
from tests.odd_inputs.png import png
from tests.profiles import ADOBE_RGB

SCHEMA = json.loads((Path(__file__).parents[3] / "scoresde/schemas/posterior.json").read_text())
RNG = np.random.default_rng(0)
U16 = RNG.integers(0, 65536, (12, 16, 3), dtype=np.uint16)
# the scatter of a draw, 2e-7 on [-1, 1], is a hundredth of a level of 16 bits
EXACT = 2e-7


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small untrained network."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (3, 16, 16)), path)
    return str(path)


def restored(
    image: Path, problem: ProblemOptions, prior: str, out: Path, samples: int = 2, **more: Any
) -> Restoration:
    options = RestoreOptions(
        EXACT, solver="diffpir", steps=2, samples=samples, prior=prior, device="cpu"
    )
    return restore(image, problem, options, out, **more)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_go_through_a_restoration(prior: str, tmp_path: Path, name: str) -> None:
    """What is seen without noise changes by the rounding alone, half a level."""
    if name == "a.png":
        (tmp_path / name).write_bytes(png(U16, 16, 2))
    else:
        tifffile.imwrite(tmp_path / name, U16, photometric="rgb")
    hole = ProblemOptions("inpaint", box="2,3,4,5")
    result = restored(tmp_path / name, hole, prior, tmp_path / "out")
    mean = read_picture(tmp_path / "out" / f"mean{Path(name).suffix}")
    error = np.abs(mean.values.astype(int) - U16.astype(int))
    assert error[2:6, 3:8].max() > 100
    error[2:6, 3:8] = 0
    assert mean.values.dtype == np.uint16 and error.max() == 0
    assert result.report["pictures"]["format"] == ("png16" if name == "a.png" else "tiff16")
    assert len(np.unique(mean.values)) > 500  # 8 bits have 256
    if name == "a.png":  # other programs open it: Pillow reads the upper bytes
        with Image.open(tmp_path / "out/mean.png") as file:
            np.testing.assert_array_equal(np.asarray(file), mean.values >> 8)


@pytest.mark.slow
def test_the_prior_and_solver_of_the_command_line_keep_sixteen_bits(tmp_path: Path) -> None:
    """The solver draws with the scatter that was stated, here a thirtieth of a level."""
    tifffile.imwrite(tmp_path / "a.tif", U16, photometric="rgb")
    options = RestoreOptions(1e-6, samples=1, steps=8, device="cpu")
    restore(tmp_path / "a.tif", ProblemOptions("denoise"), options, tmp_path / "out")
    mean = tifffile.imread(tmp_path / "out/mean.tif")
    assert np.abs(mean.astype(int) - U16.astype(int)).max() == 0


@pytest.mark.slow
def test_the_numbers_of_a_run(prior: str, tmp_path: Path) -> None:
    """posterior.npz holds what the pictures show, in float32, and says what it is."""
    jsonschema = pytest.importorskip("jsonschema")
    counts = U16[..., 0] >> 4
    tifffile.imwrite(tmp_path / "a.tif", counts)
    hole = ProblemOptions("inpaint", box="2,3,4,5", range="0,4095")
    result = restored(tmp_path / "a.tif", hole, prior, tmp_path / "out", 3)
    arrays, header = read_posterior(tmp_path / "out/posterior.npz")
    jsonschema.validate(header, SCHEMA)
    assert set(header) == set(SCHEMA["properties"])
    posterior = result.posterior
    assert {name: one.shape for name, one in arrays.items()} == {
        **dict.fromkeys(("mean", "std", "lower", "upper"), (1, 12, 16)),
        "draws": (3, 1, 12, 16),
    }
    assert all(one.dtype == np.float32 for one in arrays.values())
    np.testing.assert_array_equal(arrays["draws"], posterior.draws[:, 0])
    np.testing.assert_allclose(arrays["mean"], arrays["draws"].mean(0), atol=1e-6)
    np.testing.assert_allclose(arrays["std"], arrays["draws"].std(0, ddof=1), atol=1e-6)
    half = (arrays["upper"] - arrays["lower"]) / 2
    np.testing.assert_allclose(half, 1.6448536 * arrays["std"], atol=1e-6)  # the normal 90 %
    assert set(header["axes"]) == set(arrays) and header["level"] == 0.9
    assert len(header["axes"]["draws"]) == 4 and header["command"].startswith("scoresde restore")
    black, white = header["black"], header["white"]
    assert (black, white) == (0, 4095)
    values = black + (arrays["mean"][0] + 1) / 2 * (white - black)
    shown = tifffile.imread(tmp_path / "out/mean.tif")
    np.testing.assert_array_equal(shown, np.rint(values.astype(float)).clip(0, 65535))
    assert "posterior.npz" in result.report["files"]


@pytest.mark.slow
def test_fewer_files(prior: str, tmp_path: Path) -> None:
    Image.fromarray((U16 >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    output = OutputOptions(no_draws=True, format="tiff32")
    denoise = ProblemOptions("denoise")
    restored(tmp_path / "a.png", denoise, prior, tmp_path / "out", output=output)
    arrays, header = read_posterior(tmp_path / "out/posterior.npz")
    assert set(arrays) == {"mean", "std", "lower", "upper"} == set(header["axes"])
    assert not list((tmp_path / "out").glob("draw_*")) and "--no-draws" in header["command"]
    values = tifffile.imread(tmp_path / "out/mean.tif")
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, U16 >> 8, atol=1e-3)
    restored(tmp_path / "a.png", denoise, prior, tmp_path / "out", 1)
    assert set(read_posterior(tmp_path / "out/posterior.npz")[0]) == {"mean", "draws"}
    assert not (tmp_path / "out/mean.tif").exists()  # of the former run


@pytest.mark.slow
def test_a_file_for_the_mean(prior: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", U16, photometric="rgb")
    denoise = ProblemOptions("denoise")
    restored(tmp_path / "a.tif", denoise, prior, tmp_path / "made/clean.tif", 1)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "made/clean.tif"), U16)
    there = {path.name for path in (tmp_path / "made/clean").iterdir()}
    assert {"posterior.npz", "report.json", "mean.tif", "report.html"} <= there
    restored(tmp_path / "a.tif", denoise, prior, tmp_path / "clean.png", 1)
    np.testing.assert_array_equal(read_picture(tmp_path / "clean.png").values, U16)
    for out, message in (("a.tif", "is the picture that is restored"), ("b.jpg", "ends in .png")):
        with pytest.raises(InputError, match=message):
            restored(tmp_path / "a.tif", denoise, prior, tmp_path / out)
    for name, message in (("tiff16", "does not go into"), ("jpeg", "unknown picture format")):
        with pytest.raises(InputError, match=message):
            output = OutputOptions(name)
            restored(tmp_path / "a.tif", denoise, prior, tmp_path / "b.png", output=output)
    assert destination(tmp_path / "made") == (tmp_path / "made", None)


@pytest.mark.slow
def test_a_grey_picture_is_grey_from_a_description_too(prior: str, tmp_path: Path) -> None:
    """For 16 bits, too."""
    Image.fromarray(U16[..., 0]).save(tmp_path / "a.png")
    hole = ProblemOptions("inpaint", random=0.3)
    restored(tmp_path / "a.png", hole, prior, tmp_path / "one", 1)
    again = ProblemOptions(str(tmp_path / "one/problem.json"))
    restored(tmp_path / "a.png", again, prior, tmp_path / "two", 1)
    one, two = (read_picture(tmp_path / name / "mean.png") for name in ("one", "two"))
    assert one.kind == two.kind == "PNG, 16-bit grey"
    np.testing.assert_array_equal(one.values, two.values)


@pytest.mark.slow
def test_a_profile_stays_with_its_values(prior: str, tmp_path: Path) -> None:
    """A picture in Adobe RGB looks as before, in every program that follows profiles."""
    pixels = (U16 >> 8).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=ADOBE_RGB, dpi=(300, 300))
    result = restored(tmp_path / "a.png", ProblemOptions("denoise"), prior, tmp_path / "out", 1)
    with Image.open(tmp_path / "out/mean.png") as file:
        assert file.info["icc_profile"] == ADOBE_RGB
        assert file.info["dpi"] == pytest.approx((300, 300), rel=1e-4)
        np.testing.assert_array_equal(np.asarray(file), pixels)
    seen = read_picture(tmp_path / "out/mean.png").values  # as on a screen of sRGB
    np.testing.assert_array_equal(seen, read_picture(tmp_path / "a.png").values)
    assert result.report["pictures"]["profile"] is True
    assert "Adobe RGB" in result.report["read"]["notes"][0]


def picture_with_hole(path: Path) -> np.ndarray:
    values = np.concatenate([U16 >> 8, np.full((12, 16, 1), 255)], -1).astype(np.uint8)
    values[2:6, 3:8, 3] = 40
    Image.fromarray(values).save(path, dpi=(100, 100))
    return values


def test_opacity_stays_except_where_it_was_the_hole(tmp_path: Path) -> None:
    values = picture_with_hole(tmp_path / "a.png")
    given = read_input(tmp_path / "a.png", ProblemOptions("denoise"), simulate=False)
    hole = read_mask_of(values[..., 3] >= 128)
    other = read_mask_of(U16[..., 0] > 9)
    for operator, kept in ((Denoising(), True), (hole, False), (other, True)):
        form = choose_format(None, given, operator, given.size, None)
        form.write(given.x[0], tmp_path / "mean.png")
        with Image.open(tmp_path / "mean.png") as file:
            assert file.mode == ("RGBA" if kept else "RGB")
            np.testing.assert_array_equal(np.asarray(file), values if kept else values[..., :3])
    larger = choose_format(None, given, Denoising(), (24, 48), None)
    assert larger.alpha is None and larger.resolution == pytest.approx((300, 200), rel=1e-3)


def read_mask_of(seen: np.ndarray) -> Inpainting:
    return Inpainting(torch.from_numpy(seen))


@pytest.mark.slow
def test_a_camera_of_twelve_bits(
    capsys: pytest.CaptureFixture[str], prior: str, tmp_path: Path
) -> None:
    """It is told at the terminal, with the option that mends it, and the option mends it."""
    counts = U16 >> 4
    tifffile.imwrite(tmp_path / "a.tif", counts, photometric="rgb")
    line = ("restore", tmp_path / "a.tif", "--problem", "denoise", "--sigma", EXACT)
    quick = ("--solver", "diffpir", "--steps", 2, "--samples", 1, "--prior", prior)
    out = tmp_path / "out"
    status, said, err = run(capsys, *line, *quick, "-o", out)
    assert status == 0, err
    assert "of 65535; if its white is lower, say so, such as --range 0,4095" in said
    for option in ("0,4095", "0.1%,99.9%"):
        status, said, err = run(capsys, *line, *quick, "--out", out, "--range", option)
        assert status == 0 and "note" not in said, err
        np.testing.assert_array_equal(tifffile.imread(out / "mean.tif"), counts)
    report = json.loads((out / "report.json").read_text())
    low, high = np.percentile(counts, [0.1, 99.9])
    assert report["read"]["range"] == pytest.approx([low, high])
    x = read_input(
        tmp_path / "a.tif", ProblemOptions("denoise", range="0.1%,99.9%"), simulate=False
    ).x
    assert abs(float(x.min()) + 1) < 0.01 and abs(float(x.max()) - 1) < 0.01


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("99%,1%", "two percentages from 0% to 100%, the smaller one first"),
        ("-1%,50%", "two percentages"),
        ("1%,200%", "two percentages"),
        ("1%,99", "takes LOW,HIGH"),
        ("1%", "takes LOW%,HIGH%"),
        ("file", "does not state which values are black and white"),
    ],
)
def test_ranges_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    Image.fromarray(U16[..., 0]).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", U16[..., 0] / 65535)
    for name in ("a.png", "a.npy"):
        with pytest.raises(InputError, match=message):
            read_input(tmp_path / name, ProblemOptions("denoise", range=text), simulate=False)


def test_a_range_of_a_single_value_is_none(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="are the same value, 9; say which"):
        read_input(tmp_path / "a.png", ProblemOptions("denoise", range="0%,100%"), simulate=False)


SAMPLED = RNG.integers(0, 2, 16).astype(bool)
SAMPLED[:2] = True, False
LINES = RNG.integers(0, 2, 12).astype(bool)
LINES[:2] = True, False
POINTS = RNG.integers(0, 2, (12, 16)).astype(bool)


@pytest.mark.parametrize(
    ("array", "right"),
    [
        (SAMPLED, SAMPLED[None]),
        (SAMPLED[None], SAMPLED[None]),
        (SAMPLED[None, :, None], SAMPLED[None]),
        (SAMPLED[None, None, :, None], SAMPLED[None]),
        (SAMPLED[None, None], SAMPLED[None]),
        (SAMPLED[None, None, None], SAMPLED[None]),
        (LINES[:, None], LINES[:, None]),
        (LINES[None, :, None, None], LINES[:, None]),
        (POINTS, POINTS),
        (POINTS[None], POINTS),
        (POINTS[None, :, :, None], POINTS),
        (POINTS[..., None], POINTS),
    ],
    ids=lambda one: str(one.shape),
)
@pytest.mark.parametrize("dtype", [bool, np.float32, np.uint8])
def test_masks_of_k_space(
    tmp_path: Path, array: np.ndarray, right: np.ndarray, dtype: type
) -> None:
    """As fastMRI has them: the columns, an axis of the real and imaginary part behind."""
    np.save(tmp_path / "mask.npy", array.astype(dtype))
    found = read_mask(tmp_path / "mask.npy", (12, 16), white="observed")
    np.testing.assert_array_equal(found, np.broadcast_to(right, (12, 16)))


def test_masks_that_fit_no_picture(tmp_path: Path) -> None:
    for array in (SAMPLED[:9], SAMPLED[:, None], np.ones((2, 12, 16), bool), np.array(True)):
        np.save(tmp_path / "mask.npy", array)
        with pytest.raises(ValueError, match=r"the mask .*mask\.npy"):
            read_mask(tmp_path / "mask.npy", (12, 16), white="observed")
    np.save(tmp_path / "mask.npy", SAMPLED)  # in a picture a line of pixels is no mask
    with pytest.raises(ValueError, match=r"must have two axes, got shape \(16,\)"):
        read_mask(tmp_path / "mask.npy", (12, 16))


def described(out: Path) -> Any:
    return problem_from(json.loads((out / "problem.json").read_text())).operator


@pytest.mark.slow
def test_kernels_at_the_command_line(
    capsys: pytest.CaptureFixture[str], prior: str, tmp_path: Path
) -> None:
    """A variable of a .mat file of several; and a kernel for each channel."""
    import scipy.io

    kernel = RNG.uniform(0, 1, (3, 5))
    lens = RNG.uniform(0, 1, (3, 5, 3))
    scipy.io.savemat(
        tmp_path / "levin.mat", {"x": np.zeros((9, 9)), "y": np.zeros((9, 9)), "f": kernel}
    )
    np.save(tmp_path / "lens.npy", lens)
    Image.fromarray((U16 >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    line = ("restore", tmp_path / "a.png", "--problem", "deblur", "--boundary", "circular")
    quick = ("--solver", "diffpir", "--steps", 2, "--samples", 1, "--prior", prior)
    out = tmp_path / "out"
    kernels = {
        ("levin.mat", "f"): kernel / kernel.sum(),
        ("lens.npy", None): lens / lens.sum((1, 2), keepdims=True),
    }
    for (name, key), right in kernels.items():
        more = () if key is None else ("--key", key)
        status, _, err = run(
            capsys, *line, *quick, "--out", out, "--kernel", tmp_path / name, *more
        )
        assert status == 0, err
        operator = described(out)
        assert isinstance(operator, Blur)
        np.testing.assert_allclose(operator.kernel, right, atol=1e-12)
    status, _, err = run(capsys, *line, *quick, "--out", out, "--kernel", tmp_path / "levin.mat")
    assert status == 2 and "--key" in err and "f (3, 5)" in err
    Image.fromarray((U16[..., 0] >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    status, _, err = run(capsys, *line, *quick, "--out", out, "--kernel", tmp_path / "lens.npy")
    assert (
        status == 2 and "there are 3 kernels for 1 channels" in err and len(err.splitlines()) == 1
    )


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7, 3), (1, 5, 7), (5, 7, 1), (3, 5, 3)])
def test_orders_of_axes_of_kernels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """White stays white: each kernel has the sum 1."""
    array = RNG.uniform(0, 1, shape)
    np.save(tmp_path / "k.npy", array)
    kernel = read_kernel(tmp_path / "k.npy").numpy()
    first = array if shape[0] in (1, 3) else np.moveaxis(array, -1, 0)
    right = first / first.sum((1, 2), keepdims=True)
    np.testing.assert_allclose(kernel, right[0] if 1 in shape else right, atol=1e-15)


def test_a_posterior_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "posterior.npz"
    with pytest.raises(InputError, match="there is no file"):
        read_posterior(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"no posterior\.npz of a restoration"):
        read_posterior(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(InputError, match=r"no posterior\.npz of a restoration"):
        read_posterior(path)
    np.savez(path, header=np.array(json.dumps({"format": "scoresde.posterior/2"})))
    with pytest.raises(InputError, match=r"format 'scoresde\.posterior/2', this version reads"):
        read_posterior(path)


def test_the_prior_serves_values_of_wider_colours() -> None:
    """It has learned sRGB, and denoises the same pictures in Adobe RGB as well, in their values."""
    from skimage import data

    prior = load_prior("natural")
    for name in ("astronaut", "coffee"):
        pixels = np.ascontiguousarray(getattr(data, name)()[:96, 60:156])
        errors = []
        for profile in (None, ADOBE_RGB):
            values = pixels if profile is None else converted(pixels, profile)
            x = torch.from_numpy(values.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
            y = x + 0.2 * torch.randn(x.shape, generator=seeded(0))
            t = prior.sde.t_from_noise_to_signal(torch.tensor([0.2]))
            x0_hat = prior.denoise(prior.sde.alpha(t) * y, t)
            errors.append(float((x0_hat - x).square().mean()))
        assert errors[1] < 1.02 * errors[0]


def converted(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """From sRGB to the values of a profile."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels), ImageCms.createProfile("sRGB"), target
    )
    assert image is not None
    return np.asarray(image)
