"""The command line: the files it writes, and one clear line with status 2 for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from problems import MRI, problem_from
from scoresde import EDMSDE, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.pipelines.posterior_file import read_posterior
from solvers import EFFORTS, SOLVERS
from tests.commands import run


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained prior that goes through every code path."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (3, 16, 16)), path)
    return path


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (33, 22)) -> Path:
    rng = np.random.default_rng(0)
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    Image.fromarray(
        rng.integers(0, 256, shape, dtype=np.uint8), mode if mode != "RGBA" else None
    ).save(path)
    return path


def restore(
    capsys: pytest.CaptureFixture[str], prior: Path, image: Path, out: Path, *more: object
) -> tuple[int, str, str]:
    return run(
        capsys,
        "restore",
        image,
        "--prior",
        prior,
        "--out",
        out,
        "--solver",
        "diffpir",
        "--steps",
        3,
        "--samples",
        2,
        "--device",
        "cpu",
        *more,
    )


PROBLEM_OPTIONS = {
    "box": ["--problem", "inpaint", "--box", "3,4,8,9"],
    "random": ["--problem", "inpaint", "--random", "0.5"],
    "gaussian": ["--problem", "deblur", "--gaussian", "1.2"],
    "motion": ["--problem", "deblur", "--motion", "5,30", "--boundary", "circular"],
    "super-resolve": ["--problem", "super-resolve", "--scale", "3"],
    "fractional": ["--problem", "super-resolve", "--scale", "2.5", "--filter", "average"],
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("options", PROBLEM_OPTIONS.values(), ids=PROBLEM_OPTIONS.keys())
def test_restore_simulated(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path, mode: str, options: list[str]
) -> None:
    image = picture(tmp_path / "photo.png", mode)
    code, out, err = restore(
        capsys, prior, image, tmp_path / "out", "--simulate", "--json", *options
    )
    assert code == 0, err
    report = json.loads(out)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["mean"]) == {"psnr", "ssim"} and report["nfe"] == 3
    for name in [*report["files"], "draw_2.png"]:
        assert (tmp_path / "out" / name).stat().st_size > 0
    with Image.open(tmp_path / "out" / "mean.png") as mean:
        assert mean.size == (33, 22) and mean.mode == mode


COLOUR_ONLY = {"colourise": ["--set", "weights=luma"], "demosaic": ["--set", "pattern=GBRG"]}
MORE_OPTIONS = {
    "denoise": ["--photons", "30"],
    "deblur": ["--disk", "2.5"],
    "compressed-sensing": ["--set", "fraction=0.4", "--set", "transform=dct"],
    "mri": ["--set", "acceleration=2", "--set", "coils=2"],
    "tomography": ["--set", "angles=7"],
    "phase-retrieval": ["--set", "oversampling=1.5"],
    "hdr": ["--set", "gain=3"],
    "jpeg": ["--set", "quality=30", "--set", "subsampling=no"],
    "quantise": ["--set", "levels=5"],
    "gamma-blur": ["--gaussian", "0.8"],
}


def restore_by_mmps(
    capsys: pytest.CaptureFixture[str], prior: Path, image: Path, out: Path, *more: object
) -> tuple[int, str, str]:
    return restore(capsys, prior, image, out, "--solver", "mmps", *more)  # the last --solver counts


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("problem", [*MORE_OPTIONS, *COLOUR_ONLY])
def test_every_problem_is_simulated_and_repeated(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path, mode: str, problem: str
) -> None:
    """The measurement and description of a run, given as input, repeat its draws."""
    image, first, again = (
        picture(tmp_path / "photo.png", mode),
        tmp_path / "first",
        tmp_path / "again",
    )
    options = (MORE_OPTIONS | COLOUR_ONLY)[problem]
    code, out, err = restore_by_mmps(
        capsys, prior, image, first, "--problem", problem, "--simulate", "--json", *options
    )
    if mode == "L" and problem in COLOUR_ONLY:
        assert code == 2 and "channels" in err
        return
    assert code == 0, err
    assert json.loads(out)["problem"] == problem
    for name in json.loads(out)["files"]:
        assert (first / name).stat().st_size > 0
    code, _, err = restore_by_mmps(
        capsys, prior, first / "measurement.npy", again, "--problem", first / "problem.json"
    )
    assert code == 0, err
    for name in ("mean.png", "draw_2.png", "problem.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options", [PROBLEM_OPTIONS["random"], PROBLEM_OPTIONS["motion"], ["--problem", "mri"]]
)
@pytest.mark.parametrize("simulate", [True, False])
def test_a_description_repeats_a_run(
    capsys: pytest.CaptureFixture[str],
    prior: Path,
    tmp_path: Path,
    mode: str,
    options: list[str],
    simulate: bool,
) -> None:
    """problem.json in the place of the options: the same noise, the same draws, to the byte."""
    if options[1] == "mri" and not simulate:
        return  # its measurement is no picture
    more = ["--simulate"] if simulate else []
    image, names = picture(tmp_path / "photo.png", mode), ("first", "again")
    for name, problem in zip(
        names, (options, ["--problem", tmp_path / "first" / "problem.json"]), strict=True
    ):
        code, _, err = restore_by_mmps(capsys, prior, image, tmp_path / name, *problem, *more)
        assert code == 0, err
    first, again = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}
        for name in names
    )
    assert set(first) == set(again) and "mean.png" in first
    changed = [name for name in first if first[name] != again[name]]
    assert changed == ["posterior.npz", "report.html", "report.json"]  # their commands and times
    ours, theirs = (read_posterior(tmp_path / name / "posterior.npz")[0] for name in names)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_folder_holds_the_files_of_one_run(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    image, out = picture(tmp_path / "photo.png"), tmp_path / "out"
    options = ["--problem", "denoise", "--json"]
    code, _, err = restore(capsys, prior, image, out, "--simulate", "--samples", 3, *options)
    assert code == 0, err
    (out / "mine.txt").touch()
    code, text, err = restore(capsys, prior, image, out, "--samples", 1, *options)
    assert code == 0, err
    assert {path.name for path in out.iterdir()} == {*json.loads(text)["files"], "mine.txt"}
    assert not {"draw_2.png", "std.png", "measurement.npy"} & set(json.loads(text)["files"])


def test_every_named_problem_has_been_tried() -> None:
    tried = {options[1] for options in PROBLEM_OPTIONS.values()} | {*MORE_OPTIONS, *COLOUR_ONLY}
    assert tried == set(PROBLEMS)


@pytest.mark.slow
def test_a_grey_scan_of_a_colour_scene_comes_back_in_colour(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    scan = picture(tmp_path / "scan.png", "L")
    for problem in COLOUR_ONLY:
        code, _, err = restore_by_mmps(
            capsys, prior, scan, tmp_path / problem, "--problem", problem
        )
        assert code == 0, err
        with Image.open(tmp_path / problem / "mean.png") as mean:
            assert mean.mode == "RGB" and mean.size == (33, 22)


def test_a_sampling_mask_is_white_where_k_space_is_measured(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    mask = np.zeros((22, 33), np.uint8)
    mask[:, 10:20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image = picture(tmp_path / "photo.png")
    code, _, err = restore_by_mmps(
        capsys,
        prior,
        image,
        tmp_path / "out",
        "--problem",
        "mri",
        "--mask",
        tmp_path / "mask.png",
        "--simulate",
    )
    assert code == 0, err
    described = problem_from(json.loads((tmp_path / "out" / "problem.json").read_text())).operator
    assert isinstance(described, MRI) and torch.equal(described.mask, torch.from_numpy(mask > 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", ["mmps", "second-order", "pigdm", "dps", "diffpir", "ddrm", "ddnm", "split-gibbs"]
)
def test_every_solver_restores_a_real_measurement(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path, solver: str
) -> None:
    small = picture(tmp_path / "small.png")
    code, out, err = run(
        capsys,
        "restore",
        small,
        "--problem",
        "super-resolve",
        "--scale",
        2,
        "--solver",
        solver,
        "--steps",
        3,
        "--samples",
        2,
        "--prior",
        prior,
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["size"] == [44, 66] and report["sigma"] == 0.02 and "mean" not in report


@pytest.mark.slow
def test_effort_decides_what_is_not_said(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    """An effort of one half: half of DDRM's 20 steps and 4 draws; explicit settings are kept."""
    image = picture(tmp_path / "photo.png")
    for said, expected in (((), (10, 4)), (("--samples", 2), (10, 2)), (("--steps", 3), (3, 4))):
        command = (
            "restore",
            image,
            "--problem",
            "denoise",
            "--solver",
            "ddrm",
            "--effort",
            "quick",
            "--prior",
            prior,
            "--json",
        )
        code, out, err = run(capsys, *command, "--out", tmp_path / "out", *said)
        assert code == 0, err
        report = json.loads(out)
        assert (report["nfe"], report["samples"]) == expected


def test_a_budget_leaves_a_solver_the_steps_that_it_needs() -> None:
    assert EFFORTS["quick"].scaled_steps("ddrm") == 10
    for name, preset in SOLVERS.items():
        assert preset.least <= EFFORTS["quick"].scaled_steps(name) <= preset.steps
    assert EFFORTS["quick"].scaled_steps("warm-start") == SOLVERS["warm-start"].least == 6


@pytest.mark.slow
def test_an_instant_effort_gives_one_estimate_and_no_spread(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    image = picture(tmp_path / "photo.png")
    command = ("restore", image, "--problem", "deblur", "--gaussian", "1", "--prior", prior)
    out = tmp_path / "out"
    code, text, err = run(capsys, *command, "--effort", "instant", "--json", "--out", out)
    assert code == 0, err
    report = json.loads(text)
    assert (report["solver"], report["samples"], report["nfe"]) == ("hqs", 1, 8)
    assert report["mean_std"] is None and "interval" not in report
    assert not (out / "std.png").exists()
    code, text, _ = run(capsys, *command, "--effort", "instant", "--out", out)
    assert code == 0 and "1 estimate by hqs in " in text and "per draw" not in text
    for solver in (("--effort", "instant"), ("--solver", "pnp-admm")):
        code, _, err = run(capsys, *command, *solver, "--samples", 4, "--out", tmp_path / "no")
        assert code == 2 and "one estimate and no draws, but 4 were asked for" in err
        assert not (tmp_path / "no").exists()


def test_the_transparent_part_of_a_picture_is_its_hole(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    array = np.full((22, 33, 4), 128, np.uint8)
    array[..., 3] = 255
    array[5:10, 5:16, 3] = 0
    Image.fromarray(array).save(tmp_path / "photo.png")
    code, out, err = restore(
        capsys, prior, tmp_path / "photo.png", tmp_path / "out", "--problem", "inpaint", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["missing"] == pytest.approx(55 / (22 * 33))


@pytest.mark.slow
def test_masks_and_kernels_come_from_files(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    image = picture(tmp_path / "photo.png")
    mask = np.zeros((22, 33), np.uint8)
    mask[2:6] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    code, out, _ = restore(
        capsys,
        prior,
        image,
        tmp_path / "a",
        "--problem",
        "inpaint",
        "--mask",
        tmp_path / "mask.png",
        "--json",
    )
    assert code == 0 and json.loads(out)["missing"] == pytest.approx(4 / 22)
    np.save(tmp_path / "kernel.npy", np.ones((3, 5)))
    code, _, _ = restore(
        capsys,
        prior,
        image,
        tmp_path / "b",
        "--problem",
        "deblur",
        "--kernel",
        tmp_path / "kernel.npy",
    )
    assert code == 0


@pytest.mark.slow
def test_same_seed_same_files_whatever_the_tile(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    image = picture(tmp_path / "photo.png")
    for out in ("a", "b"):
        assert (
            restore(
                capsys,
                prior,
                image,
                tmp_path / out,
                "--simulate",
                "--problem",
                "inpaint",
                "--random",
                "0.3",
                "--seed",
                0,
            )[0]
            == 0
        )
    assert (tmp_path / "a" / "draw_1.png").read_bytes() == (
        tmp_path / "b" / "draw_1.png"
    ).read_bytes()
    assert (tmp_path / "a" / "draw_1.png").read_bytes() != (
        tmp_path / "a" / "draw_2.png"
    ).read_bytes()


@pytest.mark.slow
def test_a_large_picture_goes_through_tiles(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    image = picture(tmp_path / "photo.png", size=(150, 101))
    code, _, err = restore(
        capsys,
        prior,
        image,
        tmp_path / "out",
        "--simulate",
        "--problem",
        "deblur",
        "--gaussian",
        "1",
        "--tile",
        64,
    )
    assert code == 0, err


def bad(tmp_path: Path, prior: Path) -> dict[str, tuple[list[object], str]]:
    """Name -> (arguments, text that the error line must contain)."""
    good = picture(tmp_path / "photo.png")
    picture(tmp_path / "other.png", "L", (10, 10))
    Image.fromarray(np.full((22, 33), 255, np.uint8)).save(tmp_path / "white.png")
    ramp = np.arange(22 * 33, dtype=np.uint8).reshape(22, 33)
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    values = np.full((22, 33), 0.5, np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.safetensors").write_bytes(prior.read_bytes()[:-100])
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty.json").write_text("{}")
    np.save(tmp_path / "sinogram.npy", np.zeros((3, 13, 16)))
    ct = {"operator": "Tomography", "angles": [0, 30, 60, 90, 120, 150], "shape": [13, 16]}
    described = {"operator": ct, "noise": {"noise": "GaussianNoise", "std": 0.01}}
    (tmp_path / "ct.json").write_text(json.dumps(described))
    np.save(tmp_path / "y.npy", np.full((3, 4, 4), np.nan))
    box = ["--problem", "inpaint", "--box", "3,4,5,5"]
    return {
        "missing file": ([tmp_path / "nowhere.png", *box], "there is no file"),
        "unreadable": ([tmp_path / "text.png", *box], "cannot read"),
        "NaN pixels": ([tmp_path / "nan.tif", *box], "NaN"),
        "mask of another size": (
            [good, "--problem", "inpaint", "--mask", tmp_path / "other.png"],
            "10x10, the image is 33x22",
        ),
        "all masked": (
            [good, "--problem", "inpaint", "--mask", tmp_path / "white.png"],
            "observes nothing: its values are all 255",
        ),
        "grey mask": (
            [good, "--problem", "inpaint", "--mask", tmp_path / "grey.png"],
            "not black and white",
        ),
        "no mask": ([good, "--problem", "inpaint"], "needs --mask"),
        "two masks": ([good, *box, "--random", "0.5"], "exclude each other"),
        "box outside": ([good, "--problem", "inpaint", "--box", "3,4,50,5"], "does not lie inside"),
        "box of words": ([good, "--problem", "inpaint", "--box", "big"], "--box takes"),
        "negative sigma": ([good, *box, "--sigma", "-0.1"], "--sigma must be above 0"),
        "NaN sigma": ([good, *box, "--sigma", "nan"], "--sigma must be above 0"),
        "infinite sigma": ([good, *box, "--sigma", "inf"], "finite"),
        "unknown effort": (
            [good, *box, "--effort", "heroic"],
            "unknown effort 'heroic'; known: instant, quick, normal, thorough",
        ),
        "unknown solver": (
            [good, *box, "--solver", "magic"],
            "unknown solver 'magic'; known: mmps, second-order, warm-start",
        ),
        "unknown sampler": (
            [good, *box, "--solver", "mmps", "--sampler", "magic"],
            "unknown sampler",
        ),
        "unknown problem": ([good, "--problem", "unscrew"], "unknown problem 'unscrew'"),
        "unknown prior": ([good, *box, "--prior", "magic"], "unknown prior 'magic'"),
        "truncated checkpoint": (
            [good, *box, "--prior", tmp_path / "cut.safetensors"],
            "not a whole safetensors file",
        ),
        "foreign checkpoint": (
            [good, *box, "--prior", tmp_path / "foreign.safetensors"],
            "not one of scoresde's",
        ),
        "no permission": ([good, *box, "--out", tmp_path / "file" / "out"], "cannot write into"),
        "no samples": ([good, *box, "--samples", "0"], "--samples must be at least 1"),
        "kernel too large": ([good, "--problem", "deblur", "--gaussian", "20"], "too large"),
        "unknown setting": (
            [good, "--problem", "jpeg", "--set", "loss=3"],
            "jpeg has quality=10, subsampling=True; got 'loss=3'",
        ),
        "setting of words": (
            [good, "--problem", "hdr", "--set", "gain=much"],
            "--set gain takes a finite number",
        ),
        "quality of 0": ([good, "--problem", "jpeg", "--set", "quality=0"], "from 1 to 100"),
        "hadamard on any size": (
            [good, "--problem", "compressed-sensing", "--simulate", "--set", "transform=hadamard"],
            "power of two",
        ),
        "sinogram of unknown size": ([good, "--problem", "tomography"], "--set size=HEIGHT,WIDTH"),
        "sinogram of another size": (
            [tmp_path / "sinogram.npy", "--problem", tmp_path / "ct.json"],
            "the measurement does not fit the problem: a sinogram has shape (C, 6, 23)",
        ),
        "no such description": (
            [good, "--problem", tmp_path / "nowhere.json"],
            "cannot read the problem",
        ),
        "description of nothing": (
            [good, "--problem", tmp_path / "empty.json"],
            "two keys operator and noise",
        ),
        "measurement simulated": (
            [tmp_path / "y.npy", "--problem", "denoise", "--simulate"],
            "no finite values",
        ),
        "measurement with NaN": (
            [tmp_path / "y.npy", "--problem", "denoise"],
            "no finite values",
        ),
        "no photons": ([good, "--problem", "denoise", "--photons", "0"], "must be positive"),
        "solver that needs linearity": (
            [good, "--problem", "hdr", "--solver", "pigdm"],
            "PiGDM needs a problem with adjoint, linear, solve; "
            "solvers that can do this one: mmps, second-order, warm-start, split-gibbs-mala, "
            "annealed-gauss-newton, annealed-gauss-newton-noise, daps, dps, lgd-mc, "
            "mpgd, red-diff, sitcom, tmpd, hqs, pnp-admm",
        ),
        "no kernel": ([good, "--problem", "deblur"], "needs --kernel"),
        "bad scale": ([good, "--problem", "super-resolve", "--scale", "0.5"], "above 1"),
        "bad boundary": (
            [good, "--problem", "deblur", "--gaussian", "1", "--boundary", "magic"],
            "unknown boundary",
        ),
        "bad device": ([good, *box, "--device", "quantum"], "cannot be used"),
        "bad precision": ([good, *box, "--precision", "fp7"], "--precision must be"),
        "no such option": ([good, *box, "--magic"], "No such option"),
    }


@pytest.mark.slow
def test_bad_input_ends_in_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    for name, (arguments, message) in bad(tmp_path, prior).items():
        defaults: list[object] = [] if "--prior" in arguments else ["--prior", prior]
        defaults += [] if "--out" in arguments else ["--out", tmp_path / "out"]
        code, out, err = run(
            capsys,
            "restore",
            *arguments,
            *defaults,
            *([] if "--samples" in arguments else ["--samples", 1]),
        )
        assert (code, out) == (2, ""), f"{name}: status {code}, {out}{err}"
        assert err.startswith("scoresde: error: ") and err.count("\n") == 1, f"{name}: {err}"
        assert message in err, f"{name}: {err}"
        assert not (tmp_path / "out" / "mean.png").exists()


@pytest.mark.slow
def test_bad_input_to_the_other_commands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    picture(pictures / "a.png")
    for arguments, message in [
        (["sample", "--prior", "magic"], "unknown prior"),
        (["sample", "--sampler", "magic"], "unknown sampler"),
        (["train", tmp_path / "empty", "--out", tmp_path / "o"], "no images under"),
        (["train", tmp_path / "nowhere", "--out", tmp_path / "o"], "not a folder"),
        (
            ["train", pictures, "--out", tmp_path / "o", "--crop", "64", "--device", "cpu"],
            "smaller than the crop 64",
        ),
        (["train", pictures, "--out", tmp_path / "o", "--widths", "a,b"], "--widths takes"),
        (
            ["train", pictures, "--out", tmp_path / "o2", "--crop", "16", "--resume"],
            "nothing to resume",
        ),
        (["train", pictures, "--out", tmp_path / "o", "--steps", "0"], "a whole number from 1 on"),
        (["train", pictures, "--out", tmp_path / "o", "--device", "magic"], "--device must be"),
        (["magic"], "No such command"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, ""), f"{arguments}: {code} {out} {err}"
        assert message in err and err.count("\n") == 1, f"{arguments}: {err}"


def test_sample_writes_a_grid(
    capsys: pytest.CaptureFixture[str], prior: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        capsys,
        "sample",
        "--prior",
        prior,
        "--n",
        3,
        "--steps",
        2,
        "--size",
        12,
        "--out",
        tmp_path / "g.png",
        "--json",
    )
    assert code == 0, err
    assert json.loads(out)["nfe"] == 3
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.size == (26, 26)


@pytest.mark.slow
def test_train_then_restore(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    image = picture(pictures / "a.png")
    out = tmp_path / "run"
    arguments = [
        "train",
        pictures,
        "--out",
        out,
        "--steps",
        2,
        "--batch",
        2,
        "--crop",
        16,
        "--widths",
        "8,16",
        "--blocks",
        1,
        "--device",
        "cpu",
        "--json",
    ]
    code, text, err = run(capsys, *arguments)
    assert code == 0, err
    code, _, err = restore(
        capsys,
        json.loads(text)["prior"],
        image,
        tmp_path / "out",
        "--problem",
        "deblur",
        "--gaussian",
        "1",
    )
    assert code == 0, err


@pytest.mark.slow
def test_the_installed_command_lists_what_there_is() -> None:
    """Run in a process of its own, as a user starts it."""
    done = subprocess.run(
        [sys.executable, "-m", "scoresde", "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = json.loads(done.stdout)
    assert {"natural"} <= set(listed["priors"]) and set(PROBLEMS) == set(listed["problems"])
    assert {"mmps", "pigdm", "dps", "diffpir"} <= set(listed["solvers"])
    assert done.stderr == ""


@pytest.mark.slow
def test_verify_judges_a_solver_by_the_exact_posterior(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "verify",
        "--solver",
        "mmps",
        "--solver",
        "repaint",
        "--problem",
        "gaussian",
        "--draws",
        200,
        "--jobs",
        1,
    ]
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    right, refused = json.loads(out)["rows"]
    assert (
        right["distance"] < 1.6
        and right["cover90"] == pytest.approx(0.9, abs=0.05)
        and right["nfe"] == 127
    )
    assert "needs a problem with mask" in refused["refused"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and out.splitlines()[1].startswith("gaussian") and "cannot: " in out
    for wrong in (["--solver", "nope"], ["--problem", "nope"]):
        code, _, err = run(capsys, "verify", *wrong)
        assert code == 2 and "unknown" in err


@pytest.mark.slow
def test_verify_judges_a_solver_with_a_learned_denoiser(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["verify", "--learned", "--law", "laplace", "--problem", "identity", "--draws", 20]
    arguments += ["--seeds", 1, "--solver", "ddrm", "--solver", "repaint"]
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    row, refused = json.loads(out)["rows"]
    assert row["nfe"] == 20 and 0 < row["coverage"] <= 1 and row["r_hat"] < 1.1
    assert "needs a problem with mask" in refused["refused"]
    page = tmp_path / "learned.html"
    code, out, _ = run(capsys, *arguments, "--report", page)
    assert code == 0 and out.splitlines()[1].startswith("laplace") and "cannot: " in out
    assert out.endswith(f"wrote {page}\n") and "ddrm" in page.read_text()
    for wrong, message in (
        (["--law", "laplace"], "--law needs --learned"),
        (["--learned", "--law", "gaussian"], "unknown law"),
        (["--learned", "--problem", "box"], "unknown measurement"),
        (["--learned", "--draws", 12], "at least 19"),
        (["--learned", "--jobs", 2], "one process"),
    ):
        code, _, err = run(capsys, "verify", *wrong)
        assert code == 2 and message in err and err.count("\n") == 1


@pytest.mark.slow
def test_compare_names_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folders = ("--out", tmp_path / "out", "--work", tmp_path / "work")
    np.savez(
        tmp_path / "few.npz",
        train_images=np.zeros((9, 28, 28), np.uint8),
        test_images=np.zeros((9, 28, 28), np.uint8),
    )
    for wrong, message in (
        (("--dataset", tmp_path / "none.npz"), "there is no file"),
        (("--dataset", tmp_path / "few.npz"), "1000 pictures of each kind are needed"),
        (
            ("--dataset", tmp_path / "few.npz", "--families", "vae,magic"),
            "unknown family 'magic'; known: vae, gan, flow",
        ),
        (
            ("--dataset", tmp_path / "few.npz", "--budget", 0),
            "a budget must be more than 0 minutes",
        ),
        (("--dataset", tmp_path / "few.npz", "--draws", 1), "a comparison needs"),
        (
            ("--dataset", tmp_path / "few.npz", "--features", "taste"),
            "unknown features 'taste'; known: digits, pixels, inception",
        ),
    ):
        code, out, err = run(capsys, "compare", *wrong, *folders)
        assert code == 2 and not out and message in err and err.count("\n") == 1, (wrong, err)
