"""report.html of a restoration: it says what report.json says, and is of bounded size."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from scoresde import EDMSDE, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.restoration import panels
from scoresde.pipelines.restoration_report import recorded_warnings
from scoresde.pipelines.restore import restore
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.reports.views import embedded
from solvers import Posterior
from solvers.posterior.trust import SolverWarning
from tests.pages import faults, parsed


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small untrained prior."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (3, 16, 16)), path)
    return str(path)


def run(folder: Path, prior: str, *, name: str = "photo.png", mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    shape = (44, 66, 3) if mode == "RGB" else (44, 66)
    image = folder / name
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(image, format="PNG")
    options = RestoreOptions(solver="diffpir", steps=2, samples=3, prior=prior, device="cpu")
    problem = ProblemOptions("inpaint", box="3,4,8,9")
    restore(image, problem, options, folder / "out", simulate=True)
    return folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_page_says_what_the_files_say(tmp_path: Path, prior: str, mode: str) -> None:
    out = run(tmp_path, prior, mode=mode)
    report = json.loads((out / "report.json").read_text())
    html = (out / "report.html").read_text()
    assert faults(html) == [] and "report.html" in report["files"]
    root = parsed(html)
    for one in root.all("data"):
        key = one.get("data-key")
        if key == "memory":
            continue
        value: Any = report
        for part in key.split("."):
            value = value[int(part) - 1] if isinstance(value, list) else value[part]
        assert float(one.get("value")) == value, key
    shown = {one.get("id"): embedded(one.get("src")) for one in root.all("img")}
    for name in ("mean", "draw_1", "draw_3", "measurement"):
        pixels = shown[f"img-{name.replace('_', '-')}"]
        assert (pixels == np.array(Image.open(out / f"{name}.png"))).all(), name
    described = next(one.text for one in root.all("pre") if one.get("id") == "problem")
    assert json.loads(described) == json.loads((out / "problem.json").read_text())
    links = {one.get("href") for one in root.all("a")}
    assert all((out / name).is_file() and name in links for name in report["files"])


@pytest.mark.slow
def test_the_page_is_at_most_three_times_the_pictures(tmp_path: Path, prior: str) -> None:
    out = run(tmp_path, prior)
    pictures = sum(path.stat().st_size for path in out.glob("*.png"))
    scripts = 60_000  # style, viewer and two palettes, whatever the size of the picture
    assert (out / "report.html").stat().st_size < 3 * pictures + scripts


@pytest.mark.slow
def test_a_name_with_tags_stays_a_name(tmp_path: Path, prior: str) -> None:
    name = "<script>alert(1)<" + "\u2044script>.png"  # a name cannot hold a slash
    out = run(tmp_path, prior, name=name)
    html = (out / "report.html").read_text()
    root = parsed(html)
    assert root.all("h1")[0].text == f"{name}, restored"
    assert "<script>alert(1)" not in html and len(root.all("script")) == 4


def test_the_sheet_calls_an_estimate_by_its_name() -> None:
    """`hqs` makes one estimate and no draws; `ddrm` draws."""
    picture = torch.zeros(1, 3, 8, 8)
    for solver, caption in (("hqs", "estimate"), ("ddrm", "one draw")):
        row = panels(solver, Posterior(picture[None], 8, 0, 0.1), picture, None, {})
        assert [one.caption for one in row] == ["measurement", caption]


def test_warnings_of_a_solver_are_kept_and_passed_on() -> None:
    with (
        pytest.warns(SolverWarning, match="2 of 3"),
        pytest.warns(UserWarning, match="another"),
        recorded_warnings() as kept,
    ):
        warnings.warn("2 of 3 draws", SolverWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert kept == ["2 of 3 draws"]


def test_warnings_are_passed_on_if_the_solver_fails() -> None:
    with (
        pytest.warns(SolverWarning),
        pytest.raises(ZeroDivisionError),
        recorded_warnings(),
    ):
        warnings.warn("2 of 3 draws", SolverWarning, stacklevel=1)
        raise ZeroDivisionError
