"""Command lines of the other commands that are right and quick, to be spoilt by one thing each."""

from pathlib import Path

from tests.odd_inputs.case import Command, Desk
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = [
    "VERIFY_LINE",
    "calibrate_line",
    "compare_line",
    "folder_of_photos",
    "likelihood_line",
    "photo_for_commands",
    "sample_line",
    "train_line",
]


def photo_for_commands(desk: Desk, channels: int = 3) -> Path:
    path = desk.folder / "photo.png"
    path.write_bytes(png(levels(desk, 12, 16, channels), 8, 0 if channels == 1 else 2))
    return path


def folder_of_photos(desk: Desk) -> Path:
    folder = desk.folder / "photos"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(levels(desk, 10, 12, 3), 8, 2))
    return folder


def likelihood_line(desk: Desk, *images: object, grey: bool = False) -> Command:
    prior = desk.grey if grey else desk.colour
    quick = ("--nodes", "16", "--probes", "1", "--device", "cpu", "--json")
    return ("likelihood", *map(str, images), "--prior", str(prior), *quick)


def train_line(desk: Desk, *data: object, channels: int = 1) -> Command:
    sizes = ("--widths", "8", "--blocks", "1", "--attention", "none", "--channels", str(channels))
    quick = ("--steps", "1", "--batch", "2", "--crop", "8", "--device", "cpu", "--no-compile")
    return ("train", *map(str, data), "--out", str(desk.out), *sizes, *quick, "--precision", "no")


def calibrate_line(desk: Desk, folder: object) -> Command:
    quick = ("--solver", "diffpir", "--steps", "2", "--samples", "2", "--count", "4", "--crop", "8")
    return (
        *("calibrate", str(folder), "--problem", "denoise", "--prior", str(desk.colour), *quick),
        *("--level", "0.5", "--device", "cpu", "--out", str(desk.out / "calibration.json")),
    )


def sample_line(desk: Desk) -> Command:
    quick = ("--n", "2", "--size", "8", "--steps", "2", "--device", "cpu")
    return ("sample", "--prior", str(desk.colour), *quick, "--out", str(desk.out / "grid.png"))


def compare_line(desk: Desk, dataset: object) -> Command:
    work = ("--out", str(desk.out), "--work", str(desk.out / "work"), "--device", "cpu")
    few = ("--samples", "100", "--likelihoods", "2", "--pictures", "2", "--draws", "3")
    return (
        "compare",
        "--dataset",
        str(dataset),
        *work,
        *few,
        "--budget",
        "0.01",
        "--features",
        "pixels",
    )


VERIFY_LINE = (
    "verify",
    "--solver",
    "mmps",
    "--problem",
    "gaussian",
    "--draws",
    "10",
    "--jobs",
    "1",
)
