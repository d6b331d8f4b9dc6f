"""A job: what it reports on the way, what it leaves, and that the command shown repeats it."""

import json
import os
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from problems import GaussianBlur, GaussianNoise, InverseProblem
from scoresde.data.images import write_image
from scoresde.estimation import NoiseEstimate
from scoresde.estimation.parameters import ParameterEstimate
from scoresde.pipelines.demo import photograph
from scoresde.priors.base import Prior
from scoresde.ui.choices import Choices
from scoresde.ui.limits import Limits
from scoresde.ui.messages import Arrived, Estimated, Event, Finished, Order, Refused, Searching
from scoresde.ui.work import perform
from tests.commands import run

LIMITS = Limits(pixels=10_000)
QUICK = {"solver": "diffpir", "steps": 2, "draws": 3}
SOLVERS = {"jpeg": {"solver": "dps", "steps": 2}, "noise": {"solver": "warm-start", "steps": None}}


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    def make(kind: str = "noise", limits: Limits = LIMITS, **given: object) -> Order:
        folder = tmp_path / "job"
        folder.mkdir(exist_ok=True)
        picture = folder / "photo.png"
        if not picture.exists():
            write_image(photograph("astronaut", (0, 130))[0, :, 60:92, 40:80], picture)
        choices = Choices(kind, **(QUICK | given))  # type: ignore[arg-type]
        options = choices.options(limits, ("natural",))
        return Order(picture, choices.problem(), options, choices.simulate, folder, limits)

    return make


def events(order: Order, stopped: Callable[[list[Event]], bool] = lambda _: False) -> list[Event]:
    said: list[Event] = []
    perform(order, said.append, lambda: stopped(said))
    return said


def kinds(said: list[Event]) -> list[str]:
    return [type(one).__name__ for one in said if type(one).__name__ != "Working"]


def finished(said: list[Event]) -> Finished:
    assert isinstance(said[-1], Finished), said[-1]
    return said[-1]


@pytest.mark.slow
def test_a_first_answer_then_draws_one_by_one(order: Callable[..., Order]) -> None:
    said = events(order(simulate=True))
    assert kinds(said) == ["Estimated", "Arrived", "Arrived", "Arrived", "Finished"]
    arrived = [one for one in said if isinstance(one, Arrived)]
    assert [(one.count, one.wanted) for one in arrived] == [(1, 3), (2, 3), (3, 3)]
    assert [one.std is None for one in arrived] == [True, False, False]
    end = finished(said)
    # the last picture on the page is the picture of the download
    for shown, name in ((arrived[-1].mean, "mean.png"), (arrived[-1].std, "std.png")):
        assert shown is not None and shown.read_bytes() == (end.out / name).read_bytes()
    for i, one in enumerate(arrived):
        assert one.draw.read_bytes() == (end.out / f"draw_{i + 1}.png").read_bytes()
    first = next(one for one in said if isinstance(one, Estimated))
    assert first.measurement.read_bytes() == (end.out / "measurement.png").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ends"),
    # every kind and every solver once; a stop does not depend on what is wrong with the picture
    [
        ("missing", "all"),
        ("blur", "stop"),
        ("small", "all"),
        ("noise", "stop"),
        ("jpeg", "all"),
    ],
)
def test_the_command_shown_repeats_the_download_to_the_byte(
    order: Callable[..., Order],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    ends: str,
) -> None:
    mask = tmp_path / "painted.png"
    Image.fromarray(np.kron(np.eye(4, 5), np.full((8, 8), 255)).astype(np.uint8)).save(mask)
    given = {"mask": mask if kind == "missing" else None, "quality": 10, "seed": 7}
    given |= SOLVERS.get(kind, {})
    wanted = order(kind, simulate=kind != "small", **given)

    def two(said: list[Event]) -> bool:
        return ends == "stop" and any(isinstance(x, Arrived) and x.count == 2 for x in said)

    end = finished(events(wanted, two))
    assert (end.ended, end.report["samples"]) == (("all", 3) if ends == "all" else ("stop", 2))
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(end.archive) as archive:
        names = archive.namelist()
        archive.extractall(elsewhere)
    ours = {name: (elsewhere / name).read_bytes() for name in names if name.endswith(".png")}
    for path in (elsewhere / "restored").iterdir():
        path.unlink()
    monkeypatch.chdir(elsewhere)
    words = shlex.split(end.command.replace("\\\n", " "))
    assert words[0] == "scoresde"
    assert run(capsys, *words[1:])[0] == 0
    theirs = {name: (elsewhere / name).read_bytes() for name in ours}
    differing = [name for name in ours if ours[name] != theirs[name]]
    assert differing == [] and {"restored/mean.png", "restored/std.png"} <= ours.keys()
    exec(compile(end.python.replace("Path('restored')", "Path('by-python')"), "page", "exec"), {})
    assert (elsewhere / "by-python/mean.png").read_bytes() == ours["restored/mean.png"]


@pytest.mark.slow
def test_nothing_that_is_given_out_names_a_folder_of_the_server(
    order: Callable[..., Order], tmp_path: Path
) -> None:
    end = finished(events(order(simulate=True)))
    texts = [end.command, end.python, json.dumps(end.report)]
    texts += [p.read_text() for p in end.out.iterdir() if p.suffix in (".html", ".json")]
    assert not [text for text in texts if str(tmp_path) in text]
    with zipfile.ZipFile(end.archive) as archive:
        assert {"photo.png", "restored/mean.png", "restored/report.html"} <= set(archive.namelist())


@pytest.mark.slow
def test_noise_and_blur_are_estimated_when_nobody_knows_them(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blur(kind: str, y: torch.Tensor, prior: Prior, sigma: float, **_: object) -> object:
        prior.denoise(y, 0.5)
        problem = InverseProblem(GaussianBlur(1.6, boundary="reflect"), GaussianNoise(sigma))
        return ParameterEstimate(("std",), (1.6,), (0.1,), "draws", ((1.6,),), problem)

    def noise(problem: InverseProblem, y: torch.Tensor, prior: Prior, **_: object) -> object:
        prior.denoise(y, 0.5)
        known = InverseProblem(problem.operator, GaussianNoise(0.02))
        return NoiseEstimate((0.02,), (0.002,), 0.03, "denoiser", y.numel(), (0.02,), known)

    monkeypatch.setattr("scoresde.ui.work._EVERY", 0.0)
    monkeypatch.setattr("scoresde.pipelines.estimated_blur.estimate_blur", blur)
    monkeypatch.setattr("scoresde.pipelines.estimated_noise.estimate_noise", noise)
    said = events(order("blur", width=None, noise=None))
    searched = [one for one in said if isinstance(one, Searching)]
    assert len(searched) >= 2 and set(searched) == {Searching("blur and noise")}
    # the first answer needs the blur, and comes before the first draw
    told = [one for one in said if not isinstance(one, Searching)]
    assert kinds(told) == ["Estimated", "Arrived", "Arrived", "Arrived", "Finished"]
    end = finished(said)
    assert end.report["blur_estimate"]["values"] == [1.6]
    assert end.report["sigma_estimate"]["sigma"] == [0.02]
    assert "--gaussian auto" in end.command and "--sigma auto" in end.command


def test_the_search_can_be_stopped(
    order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoresde.ui.work._EVERY", 0.0)
    said = events(order(noise=None), lambda said: any(isinstance(one, Searching) for one in said))
    assert kinds(said) == ["Estimated", "Searching", "Refused"]
    assert said[-1] == Refused("stopped before the first draw was finished")


def test_stopped_before_the_first_draw(order: Callable[..., Order]) -> None:
    said = events(order(), lambda said: any(isinstance(one, Estimated) for one in said))
    assert kinds(said) == ["Estimated", "Refused"]
    assert said[-1] == Refused("stopped before the first draw was finished")


def test_the_time_is_limited(order: Callable[..., Order]) -> None:
    said = events(order(limits=Limits(minutes=1e-6)))
    assert said == [Refused("1e-06 minutes passed before the first draw was finished")]


def test_an_answer_without_draws(order: Callable[..., Order]) -> None:
    said = events(order(solver="hqs", steps=None, simulate=True))
    assert kinds(said) == ["Estimated", "Arrived", "Finished"]
    assert finished(said).report["samples"] == 1


@pytest.mark.slow
def test_a_solver_that_makes_all_draws_together(order: Callable[..., Order]) -> None:
    said = events(order(solver="tds", steps=2, draws=2))
    assert kinds(said) == ["Estimated", "Arrived", "Finished"]
    assert finished(said).warnings, "two steps are too few for particles, and it is said"


def test_pictures_that_are_too_large(order: Callable[..., Order]) -> None:
    wanted = order("small", scale=4.0)
    assert events(wanted) == [
        Refused(
            "the restored picture has 0.02 megapixels, and at most 0.01 are accepted here; crop it "
            "or scale it down"
        )
    ]
    Image.new("RGB", (200, 100)).save(wanted.picture)
    (said,) = events(order())
    assert isinstance(said, Refused) and said.reason.startswith("the picture has 0.02 megapixels")


def test_a_stack_is_refused_before_it_is_read(order: Callable[..., Order]) -> None:
    wanted = order()
    tifffile.imwrite(wanted.picture, np.zeros((50, 8, 8), np.uint8), photometric="minisblack")
    (said,) = events(wanted)
    assert isinstance(said, Refused) and "photo.png has several pages" in said.reason


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg onload='x'/>", os.urandom(1000)])
def test_files_that_are_no_pictures(order: Callable[..., Order], content: bytes) -> None:
    wanted = order()
    wanted.picture.write_bytes(content)
    (said,) = events(wanted)
    assert isinstance(said, Refused) and said.reason.startswith("photo.png cannot be read")
    assert str(wanted.folder) not in said.reason


def test_a_mask_of_another_size(order: Callable[..., Order], tmp_path: Path) -> None:
    mask = tmp_path / "job" / "mask.png"
    wanted = order("missing", mask=mask)
    Image.new("L", (5, 5)).save(mask)
    (said,) = events(wanted)
    assert isinstance(said, Refused) and str(tmp_path) not in said.reason
