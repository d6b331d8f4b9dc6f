"""Broken files and values out of their range through the commands: one line and status 2."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from scoresde import EDMSDE, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from tests.commands import run
from tests.problems.test_array_files import BROKEN


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small prior of colour, one of grey, and pictures."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    for name, channels in (("colour", 3), ("grey", 1)):
        network = UNet(UNetConfig(channels, widths=(8,), blocks=1, attention=(), embedding=16))
        nn.init.normal_(network.head.weight, std=0.05)
        save_prior(
            ScorePrior(network, EDMSDE(), (channels, 16, 16)), folder / f"{name}.safetensors"
        )
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (20, 24, 4), dtype=np.uint8)
    for path, array in (
        ("photos/a.png", colours[..., :3]),
        ("colour.png", colours[..., :3]),
        ("grey.png", colours[..., 0]),
        ("glass.png", colours),
        ("deep.png", colours[..., 0].astype(np.uint16) * 257),
    ):
        Image.fromarray(array).save(folder / path)
    np.savez(folder / "two.npz", a=colours[None, ..., 0], b=colours[None, ..., 1])
    return folder


def one_line(capsys: pytest.CaptureFixture[str], arguments: Sequence[object], words: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, ""), f"{arguments}: status {code}, {out}{err}"
    assert err.startswith("scoresde: error: ") and err.count("\n") == 1, f"{arguments}: {err}"
    assert words in err, f"{arguments}: {err}"


@pytest.mark.parametrize("name", [name for name in BROKEN if not name.endswith(".mat")])
def test_broken_array_files(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path, name: str
) -> None:
    """None of them is taken for an interruption, which the end of a file once was."""
    path = tmp_path / name
    path.write_bytes(BROKEN[name][0])
    words = f"cannot read {path}: "
    one_line(capsys, ("train", path, "--out", tmp_path / "o"), words)
    prior = ("--prior", place / "grey.safetensors", "--device", "cpu")
    one_line(capsys, ("likelihood", "--dataset", path, *prior), words)
    folders = ("--out", tmp_path / "o", "--work", tmp_path / "w")
    words = words if name.endswith(".npz") else "is no .npz or .mat file"
    one_line(capsys, ("compare", "--dataset", path, *folders), words)


@pytest.mark.slow
def test_pictures_for_a_likelihood(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    colour = ("--prior", place / "colour.safetensors", "--device", "cpu")
    grey = ("--prior", place / "grey.safetensors", "--device", "cpu")
    for arguments, words in (
        (("deep.png", *grey), "is no 8-bit picture"),
        (("colour.png", *grey), "is a colour picture, the prior is of grey"),
        (("grey.png", *colour), "is a grey picture, the prior is of colour"),
        (("glass.png", *colour), "transparent pixels"),
        (("none.png", *colour), "there is no file"),
        (("colour.safetensors", *colour), "is not a picture"),
        (("colour.png", "--array", "x", *colour), "--array x names an array of --dataset"),
        (("colour.png", "--nodes", 0, *colour), "at least 8 nodes, got 0"),
        (("colour.png", "--probes", 2**30, *colour), "or lower --probes"),
        (("colour.png", "--k", 10**12, *colour), "or lower --k"),
        (("colour.png", "--seed", 2**64, *colour), "--seed"),
        (("--dataset", place / "two.npz", *grey), "name one with --array NAME"),
        (("--dataset", place / "two.npz", "--array", "c", *grey), "no array 'c'; it holds a (1"),
        (("--dataset", place / "two.npz", "--array", "a", *colour), "have 1 channels, the prior 3"),
    ):
        first = place / str(arguments[0]) if str(arguments[0])[0] != "-" else arguments[0]
        one_line(capsys, ("likelihood", first, *arguments[1:]), words)


TRAINING = [
    (("--noise-range", "5,1"), "MIN below MAX, got 5,1"),
    (("--noise-range", "0,80"), "above 0, got 0"),
    (("--noise", "nan,1"), "got"),
    (("--noise", "0,0"), "above 0, got 0"),
    (("--noise", "1"), "--noise takes MEAN,STD"),
    (("--seed", 2**64), "--seed"),
    (("--seed", 2**63), "--seed"),
    (("--learning-rate", "nan"), "learning_rate"),
    (("--learning-rate", "inf"), "learning_rate"),
    (("--learning-rate", -1), "learning_rate"),
    (("--ema", 1.5), "ema"),
    (("--steps", -1), "steps"),
    (("--batch", 0), "batch"),
    (("--crop", 0), "crops"),
    (("--crop", 1000), "smaller than the crop 1000"),
    (("--widths", "0"), "got"),
    (("--widths", "30000"), "use smaller widths"),
    (("--batch", 10**9), "use a smaller batch"),
    (("--blocks", "0"), "got"),
    (("--fourier", "x"), "--fourier takes whole numbers"),
    (("--fourier", ""), "--fourier takes whole numbers"),
    (("--fourier", "2000"), "from 0 to 16, got 2000"),
    (("--cooldown", 2), "cooldown"),
    (("--minutes", "nan"), "--minutes"),
    (("--minutes", 0), "--minutes"),
    (("--accumulate", 17), "at most the batch of 16, got 17"),
    (("--snapshot-every", 0), "--snapshot-every"),
    (("--channels", 2), "use --channels 1 or 3"),
    (("--sigma-data", "nan"), "sigma_data"),
    (("--init", "nothing"), "unknown prior 'nothing'"),
]


@pytest.mark.parametrize(("options", "words"), TRAINING, ids=lambda v: str(v)[:30])
def test_options_of_a_training(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    words: str,
) -> None:
    out = tmp_path / "o"
    one_line(capsys, ("train", place / "photos", "--out", out, "--device", "cpu", *options), words)
    assert not out.exists()


def test_a_start_from_a_foreign_file(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    start = ("train", place / "photos", "--out", tmp_path / "o", "--device", "cpu", "--init")
    one_line(capsys, (*start, place / "two.npz"), "is not a whole safetensors file")
    one_line(capsys, (*start, place / "colour.safetensors"), "has another network")


@pytest.mark.slow
def test_options_of_the_other_commands(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    sample = ("sample", "--prior", place / "colour.safetensors", "--device", "cpu")
    sample += ("--out", tmp_path / "a.png")
    calibrate = ("calibrate", place / "photos", "--problem", "denoise")
    calibrate += ("--out", tmp_path / "c.json")
    compare = ("compare", "--dataset", place / "two.npz", "--out", tmp_path, "--work", tmp_path)
    for arguments, words in (
        ((*sample, "--size", 10**9), "lower --size"),
        ((*sample, "--n", 10**9), "lower --n to"),
        ((*sample, "--steps", 0), "--steps"),
        ((*sample, "--seed", 2**64), "--seed"),
        ((*sample, "--out", tmp_path / "a.xyz"), "use .png"),
        ((*sample, "--out", place / "grey.png" / "a.png"), "cannot write into"),
        ((*calibrate, "--level", 0), "must lie in (0, 1), got 0"),
        ((*calibrate, "--level", 1), "must lie in (0, 1), got 1"),
        ((*calibrate, "--level", "nan"), "must lie in (0, 1), got nan"),
        ((*calibrate, "--level", 0.5, "--level", 0.5), "each --level once"),
        ((*calibrate, "--crop", 0), "--crop"),
        ((*calibrate, "--seed", 2**64), "--seed"),
        ((*compare, "--budget", "nan"), "more than 0 minutes, got nan"),
        ((*compare, "--budget", "inf"), "more than 0 minutes, got inf"),
        ((*compare, "--seed", 2**64), "--seed"),
        (("verify", "--draws", 9), "--draws"),
        (("verify", "--jobs", 0), "--jobs"),
        (("average", place, "--out", tmp_path / "a.safetensors"), "has no snapshots"),
        (
            ("average", place, "--out", tmp_path / "a", "--sigma-rel", "nan"),
            "sigma_rel must be above 0",
        ),
    ):
        one_line(capsys, arguments, words)
    assert not (tmp_path / "a.png").exists() and not (tmp_path / "c.json").exists()
