"""Pictures restored in windows: as the whole picture, in any order, and nothing lost."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from problems import (
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    Operator,
    SuperResolution,
    box_mask,
)
from problems.random_fields import PlacedNoise, Site, placed_noise
from scoresde import EDMSDE, InputError, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.plan import restore_tensor
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions, WindowOptions
from scoresde.pipelines.windows import restore_windows, run
from scoresde.pipelines.windows.grid import cover
from scoresde.pipelines.windows.record import Record
from scoresde.pipelines.workers import Workers
from scoresde.priors.base import Prior
from tests.commands import run as call

zarr = pytest.importorskip("zarr")

SIZE = (112, 150)
WHITE = 60000.0
RANGE = "0,60000"


class Smoothing(Prior):
    """A linear denoiser that sees the neighbours of a pixel and nothing else."""

    def accepts(self, shape: tuple[int, ...]) -> bool:
        return True

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        weight = 0.25 / (0.25 + t.reshape(-1, 1, 1, 1) ** 2)
        kernel = torch.full((x_t.shape[1], 1, 3, 3), 1 / 9, dtype=x_t.dtype)
        near = torch.nn.functional.conv2d(x_t, kernel, padding=1, groups=x_t.shape[1])
        return weight * (0.7 * x_t + 0.3 * near)


PRIOR = Smoothing(EDMSDE(), (1, 16, 16))


def values(size: tuple[int, int] = SIZE) -> np.ndarray:
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    clean = 0.5 + 0.3 * np.sin(rows / 5) * np.cos(columns / 4)
    noise = np.random.default_rng(0).normal(0, 0.05, size)
    return ((clean + noise) * WHITE).astype(np.float32)


def write(path: Path, pixels: np.ndarray, **how: Any) -> Path:
    tifffile.imwrite(path, pixels, photometric="minisblack", **how)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tif", values())


def options(solver: str = "hqs", samples: int = 1, **more: Any) -> RestoreOptions:
    made = RestoreOptions(
        sigma=0.1, solver=solver, steps=3, samples=samples, device="cpu", prior="natural"
    )
    return replace(made, **more)


def whole(operator: Operator, how: RestoreOptions) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the whole picture, in the values of the file."""
    y = torch.from_numpy(values() / WHITE * 2 - 1).float()[None, None]
    problem = InverseProblem(operator, GaussianNoise(0.1))
    y = operator.mask_unobserved(y)  # type: ignore[attr-defined]
    sides = [tuple(problem.input_shape(y)[-2:]), tuple(y.shape[-2:])]
    noise = PlacedNoise([Site((h, w), (0, 0)) for h, w in dict.fromkeys(sides)])
    with placed_noise(noise):
        found = restore_tensor(PRIOR, problem, y, how)
    half = WHITE / 2
    return (found.mean[0, 0].numpy() + 1) * half, found.std[0, 0].numpy() * half


HOLE = (40, 60, 12, 20)
BOX = ",".join(map(str, HOLE))
CASES = {
    "denoise": (ProblemOptions("denoise", range=RANGE), Denoising()),
    "inpaint": (
        ProblemOptions("inpaint", range=RANGE, box=BOX),
        Inpainting(box_mask(*SIZE, *HOLE)),
    ),
    "deblur": (ProblemOptions("deblur", range=RANGE, gaussian=1.0), GaussianBlur(1.0, "reflect")),
    "super-resolve": (ProblemOptions("super-resolve", range=RANGE, scale=2), SuperResolution(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "solver", "samples", "most"),
    [
        # a finite receptive field: nothing but rounding
        ("denoise", "hqs", 1, 1e-6),
        ("denoise", "diffpir", 2, 1e-6),
        ("inpaint", "diffpir", 2, 1e-6),
        # an inverse that decays over a few pixels, and the tolerance of its solver
        ("deblur", "diffpir", 2, 1e-4),
        ("super-resolve", "diffpir", 2, 1e-4),
        # probes and Krylov spaces of windows instead of the picture
        ("denoise", "mmps", 2, 1e-3),
    ],
)
def test_windows_are_the_whole_picture(
    picture: Path, tmp_path: Path, case: str, solver: str, samples: int, most: float
) -> None:
    problem, operator = CASES[case]
    how = options(solver, samples)
    overlap = 96 if case == "super-resolve" else 40
    side = 192 if case == "super-resolve" else 80
    report = restore_windows(
        picture, problem, how, tmp_path / "out", WindowOptions(side, overlap), prior=PRIOR
    )
    assert report["windows"]["count"] > 2
    mean, std = whole(operator, how)
    found = tifffile.imread(tmp_path / "out/mean.tif")
    assert found.shape == mean.shape
    assert np.abs(found - mean).max() < most * WHITE
    if samples > 1:
        assert np.abs(tifffile.imread(tmp_path / "out/std.tif") - std).max() < most * WHITE


@pytest.mark.slow
def test_an_overlap_that_is_too_small_is_seen(picture: Path, tmp_path: Path) -> None:
    problem, operator = CASES["denoise"]
    expected, _ = whole(operator, options())
    errors = []
    for overlap in (0, 2, 8):  # three evaluations see three pixels
        restore_windows(
            picture, problem, options(), tmp_path / "out", WindowOptions(75, overlap), prior=PRIOR
        )
        errors.append(np.abs(tifffile.imread(tmp_path / "out/mean.tif") - expected).max() / WHITE)
    assert errors[0] > 1e-3 > 1e-6 > errors[2] and errors[0] > errors[1] > errors[2]


@pytest.mark.slow
def test_draws_of_neighbours_fit_by_their_random_numbers(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spread() -> float:
        """Steps of the standard deviation of two draws across seams, over those beside them."""
        problem, _ = CASES["denoise"]
        window = WindowOptions(64, 24)
        restore_windows(
            picture,
            problem,
            options("diffpir", 2, sigma=0.6),
            tmp_path / "out",
            window,
            prior=PRIOR,
        )
        mean = tifffile.imread(tmp_path / "out/mean.tif").astype(float)
        steps = np.diff(mean, axis=1)
        seams = sorted({one.core_columns[0] for one in cover(SIZE, 64, 24)} - {0})
        across = np.array([np.square(steps[:, c - 1]).mean() for c in seams]).mean()
        return float(np.sqrt(across / np.square(steps).mean()))

    ours = spread()
    monkeypatch.setattr(run, "placed_noise", lambda _: nullcontext())
    assert abs(ours - 1) < 0.1 < abs(spread() - 1)


def contents(folder: Path) -> dict[str, bytes]:
    names = ("mean.tif", "std.tif")
    return {name: (folder / name).read_bytes() for name in names}


class Interruption(Exception):
    """In the place of Ctrl-C."""


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bits(picture: Path, tmp_path: Path) -> None:
    problem, window = CASES["denoise"][0], WindowOptions(80, 40)
    how, out, lines = options("diffpir", 2), tmp_path / "out", []

    def stop(fraction: float) -> None:
        if fraction > 0.5:
            raise Interruption

    def again(where: Path, **more: Any) -> dict[str, Any]:
        return restore_windows(picture, problem, how, where, window, prior=PRIOR, **more)

    with pytest.raises(Interruption):
        again(out, progress=stop)
    assert not (out / "mean.tif").exists()
    # a line that was being written when the power went
    with (out / ".windows/done.jsonl").open("a") as file:
        file.write('{"index": 5, "window"')
    report = again(out, say=lines.append)
    assert 0 < report["windows"]["kept"] < report["windows"]["count"]
    assert lines[0].endswith("windows are done already and kept")
    again(tmp_path / "undisturbed")
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert not (out / ".windows").exists()
    # other content is not taken over
    with pytest.raises(Interruption):
        again(out, progress=stop)
    how = replace(how, seed=1)
    assert again(out)["windows"]["kept"] == 0
    assert contents(out) != contents(tmp_path / "undisturbed")


def test_a_record_of_something_else_is_none(tmp_path: Path) -> None:
    record = Record(tmp_path / "done.jsonl", "a")
    assert record.read() is None
    record.begin()
    assert record.read() == {}
    assert Record(record.path, "b").read() is None
    record.path.write_bytes(b"\xff\xfe")
    assert record.read() is None


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained network, which is as fast as it is bad."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=(), embedding=16))
    torch.nn.init.normal_(network.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (1, 16, 16)), path)
    return str(path)


@pytest.mark.slow
def test_kill_and_workers_change_no_bit(tmp_path: Path, prior: str) -> None:
    """A command that is killed goes on, and two workers make the same from a compressed file."""
    pytest.importorskip("distributed")
    from dask.distributed import LocalCluster

    image = write(tmp_path / "a.tif", values((100, 500)), tile=(32, 32), compression="zlib")
    how, window = options("diffpir", 2, prior=prior), WindowOptions(64, 32)
    problem = CASES["denoise"][0]
    words = ["-m", "scoresde", "restore", image, "--problem", "denoise", "--sigma", 0.1,
             "--solver", "diffpir", "--steps", 3, "--samples", 2, "--range", RANGE, "--device",
             "cpu", "--prior", prior, "--windows", 64, "--overlap", 32, "--out", tmp_path / "out",
             ]  # fmt: skip
    # on as many threads as this process
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, *map(str, words)], env=environment, stderr=subprocess.DEVNULL
    )
    record = tmp_path / "out/.windows/done.jsonl"
    end = time.monotonic() + 60
    while not record.exists() or record.read_text().count("index") < 2:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    report = restore_windows(image, problem, how, tmp_path / "out", window)
    assert 2 <= report["windows"]["kept"] < report["windows"]["count"]
    started = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    )
    with started:
        workers = Workers(scheduler=started.scheduler_address)
        restore_windows(image, problem, how, tmp_path / "two", window, workers=workers)
    assert contents(tmp_path / "out") == contents(tmp_path / "two")


@pytest.mark.slow
def test_zarr_in_and_out(tmp_path: Path) -> None:
    pixels = np.stack([values()] * 3).clip(0, 65535).astype(np.uint16)
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        str(path), shape=pixels.shape, chunks=(1, 40, 50), dtype="u2",
        dimension_names=("channel", "y", "x"),
    )  # fmt: skip
    array[:] = pixels
    flat = tmp_path / "a.tif"
    tifffile.imwrite(flat, np.moveaxis(pixels, 0, -1), photometric="rgb", tile=(32, 48))
    prior = Smoothing(EDMSDE(), (3, 16, 16))
    for image in (path, flat):
        restore_windows(
            image,
            ProblemOptions("denoise"),
            options("diffpir", 2),
            tmp_path / "out",
            WindowOptions(80, 40),
            prior=prior,
        )
        # what an earlier run has written goes, a folder too
        assert (tmp_path / "out/mean.zarr").exists() == (image == path)
        if image == path:
            ours = zarr.open_array(str(tmp_path / "out/mean.zarr"), mode="r")
            assert ours.shape == pixels.shape and ours.dtype == np.uint16
            assert ours.metadata.dimension_names == ("channel", "y", "x")
            mean = np.moveaxis(ours[:], 0, -1)
            std = np.moveaxis(zarr.open_array(str(tmp_path / "out/std.zarr"), mode="r")[:], 0, -1)
    with tifffile.TiffFile(tmp_path / "out/mean.tif") as file:
        assert file.is_bigtiff
    assert np.array_equal(tifffile.imread(tmp_path / "out/mean.tif"), mean)
    assert np.array_equal(tifffile.imread(tmp_path / "out/std.tif"), std)


@pytest.mark.parametrize("kind", ["tif", "png", "npy", "zarr"])
def test_masks_of_every_kind_are_the_same(picture: Path, tmp_path: Path, kind: str) -> None:
    observed = np.random.default_rng(1).random(SIZE) > 0.3
    path = tmp_path / f"mask.{kind}"
    if kind == "tif":
        write(path, np.where(observed, 0, 255).astype(np.uint8))
    elif kind == "png":
        Image.fromarray(np.where(observed, 0, 255).astype(np.uint8)).save(path)
    elif kind == "npy":
        np.save(path, observed)
    else:
        array = zarr.create_array(str(path), shape=SIZE, chunks=(50, 50), dtype="u1")
        array[:] = observed
    problem = ProblemOptions("inpaint", range=RANGE, mask=path)
    report = restore_windows(
        picture,
        problem,
        options("diffpir", 2),
        tmp_path / "out",
        WindowOptions(80, 40),
        prior=PRIOR,
    )
    assert report["settings"]["missing"] == pytest.approx(1 - observed.mean())
    expected, _ = whole(Inpainting(torch.from_numpy(observed)), options("diffpir", 2))
    found = tifffile.imread(tmp_path / "out/mean.tif")
    assert np.abs(found - expected).max() < 1e-6 * WHITE


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (ProblemOptions("mri"), "couples pixels far from each other"),
        (ProblemOptions("tomography", set=("size=20,20",)), "couples pixels far from each other"),
        (ProblemOptions("phase-retrieval"), "couples pixels far from each other"),
        (ProblemOptions("deblur", gaussian=1.0, boundary="circular"), "joins its opposite sides"),
        (ProblemOptions("super-resolve", scale=2.5), "need a whole --scale"),
        (ProblemOptions("inpaint", box="0,0,60,60"), "wider than the 24 pixels"),
        (ProblemOptions("inpaint", random=0.5), "needs --mask FILE or --box"),
        (ProblemOptions("deblur", gaussian=4.0), "--overlap must be at least 32"),
        (ProblemOptions("denoise", range="1%,99%"), "percentages as --range"),
        (ProblemOptions("denoise", select=("0=1",)), "--select does nothing with --windows"),
        (ProblemOptions("deblur", gaussian="auto"), "--gaussian auto looks at the whole picture"),
    ],
)
def test_what_windows_cannot_do(
    picture: Path, tmp_path: Path, problem: ProblemOptions, message: str
) -> None:
    problem = replace(problem, range=problem.range or RANGE)
    with pytest.raises(InputError, match=message):
        restore_windows(
            picture, problem, options(), tmp_path / "out", WindowOptions(80, 24), prior=PRIOR
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_files_that_windows_do_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = (values() / 256).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write(tmp_path / "stack.tif", np.stack([pixels] * 2))
    write(tmp_path / "bits.tif", pixels > 100)
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.tif")
    write(tmp_path / "a.tif", pixels)
    cases: dict[str, tuple[tuple[object, ...], str]] = {
        "a.png": ((), "it is neither; convert it"),
        "stack.tif": ((), "it has several pages"),
        "bits.tif": ((), "windows are of whole bytes"),
        "palette.tif": ((), "neither grey from black nor RGB"),
        "missing.tif": ((), "there is no file"),
        "a.tif": (("--simulate",), "--simulate does not go with --windows"),
    }
    for name, (more, message) in cases.items():
        code, _, err = call(
            capsys, "restore", tmp_path / name, "--problem", "denoise", "--windows", 64,
            "--overlap", 16, "--out", tmp_path / "out", *more,
        )  # fmt: skip
        assert code == 2 and message in err and len(err.splitlines()) == 1, err
    code, _, err = call(
        capsys, "restore", tmp_path / "a.tif", "--problem", "denoise", "--overlap", 16
    )
    assert code == 2 and "--overlap does nothing without --windows" in err


def test_a_hole_larger_than_a_window(picture: Path, tmp_path: Path) -> None:
    observed = np.ones(SIZE)
    observed[:, :90] = 0
    np.save(tmp_path / "mask.npy", observed)
    problem = ProblemOptions("inpaint", range=RANGE, mask=tmp_path / "mask.npy")
    with pytest.raises(InputError, match="a hole is larger than a window"):
        restore_windows(
            picture, problem, options(), tmp_path / "out", WindowOptions(64, 16), prior=PRIOR
        )


@pytest.mark.parametrize("step", [1, 3])
def test_cores_cover_every_pixel_once(step: int) -> None:
    for size in ((64 * 3, 90), (30, 300), (31 * step, 65 * step)):
        count = np.zeros(size, int)
        for one in cover(size, 60, 24, step):
            rows, columns = slice(*one.core_rows), slice(*one.core_columns)
            count[rows, columns] += 1
            for (start, end), (first, last), n in zip(
                (one.rows, one.columns), (one.core_rows, one.core_columns), size, strict=True
            ):
                assert start % step == 0 and 0 <= start <= first < last <= end <= n
                assert start == 0 or first - start >= 12
                assert end == n or end - last >= 12
        assert (count == 1).all()
