"""Calibrated intervals: their coverage, that none could be narrower, and the two commands."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor, nn

from problems import GaussianNoise, Inpainting, InverseProblem, PoissonGaussianNoise
from scoresde import EDMSDE, GaussianPrior, InputError, ScorePrior, save_prior
from scoresde.evaluation.conformal import (
    LEVELS,
    Calibration,
    ScoreTable,
    coverage,
    interval,
    mean_width,
    pictures_needed,
    pixel_scores,
    spread,
)
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.protocol import check_same, protocol
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from solvers import Posterior
from tests.commands import run
from tests.conftest import seeded

pytestmark = pytest.mark.slow

POPULATION = 600


@dataclass(frozen=True)
class Stated:
    """A posterior with a given mean and standard deviation, (B, ...)."""

    mean: Tensor
    std: Tensor


@pytest.fixture(scope="module")
def overconfident() -> tuple[Stated, Tensor]:
    """Posteriors of a Gaussian prior with standard deviations halved, and the truths.

    The prior is correlated and half of its entries are measured.
    """
    g = seeded(0)
    places = torch.arange(64.0, dtype=torch.float64)
    prior = GaussianPrior(torch.zeros(1, 8, 8), 0.2 * (-(places[:, None] - places).abs() / 6).exp())
    problem = InverseProblem(Inpainting(torch.rand(8, 8, generator=g) < 0.5), GaussianNoise(0.1))
    truth = prior.sample(POPULATION, g)
    y = problem.measure(truth, g)
    exact = [prior.posterior(problem, one[None]).moments() for one in y]
    mean = torch.stack([mean for mean, _ in exact]).reshape(truth.shape)
    std = torch.stack([covariance.diagonal().sqrt() for _, covariance in exact]).reshape(
        truth.shape
    )
    return Stated(mean, std / 2), truth


@pytest.fixture(scope="module")
def table(overconfident: tuple[Stated, Tensor]) -> ScoreTable:
    return ScoreTable(tuple(pixel_scores(*overconfident)))


@pytest.mark.parametrize("level", [0.68, 0.9])
def test_an_overconfident_posterior_is_repaired(
    overconfident: tuple[Stated, Tensor], table: ScoreTable, level: float
) -> None:
    """Calibrated intervals hold the truth as often as they promise.

    Random splits make the pictures exactly exchangeable, so only the Monte-Carlo error of the
    splits remains.
    """
    n, g = 30, seeded(1)
    held = []
    for _ in range(300):
        order = torch.randperm(POPULATION, generator=g).tolist()
        held.append(table.coverage(table.scale(level, order[:n]), order[n:]))
    error = 4 * float(np.std(held)) / math.sqrt(len(held))
    assert level - error <= float(np.mean(held)) <= level + 1 / (n + 1) + error
    assert error < 0.01
    assert float(coverage(*overconfident, level).mean()) < level - 0.15


def test_the_scale_of_an_exact_posterior_halved_is_about_twice_the_gaussian_one(
    table: ScoreTable,
) -> None:
    assert table.scale(0.9) == pytest.approx(2 * 1.645, rel=0.05)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sizes", [[50] * 40, [7, 50, 12] * 10], ids=["one size", "three sizes"])
def test_the_scale_is_the_least_that_the_bound_allows(level: float, sizes: list[int]) -> None:
    g = seeded(2)
    table = ScoreTable(tuple(torch.randn(m, generator=g).abs() for m in sizes))
    n, q = len(table), table.scale(level)

    def bound(q: float) -> float:
        """The coverage counted independently of the table."""
        return sum(float((x > q).double().mean()) for x in table.pictures) / (n + 1) + 1 / (n + 1)

    assert bound(q) <= 1 - level + 1e-12
    assert bound(math.nextafter(q, 0)) > 1 - level
    some = [3, 5, *range(8, n)]
    assert table.scale(0.5, some) == ScoreTable(tuple(table.pictures[i] for i in some)).scale(0.5)


def test_scales_grow_with_the_level_and_ties_are_kept() -> None:
    g = seeded(3)
    table = ScoreTable(tuple((3 * torch.rand(30, generator=g)).round() for _ in range(99)))
    scales = [table.scale(level) for level in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)]
    assert scales == sorted(scales) and set(scales) <= {0.0, 1.0, 2.0, 3.0}
    assert scales[-1] == 3.0  # exactly as many pictures as the level needs: no value may be outside


def test_too_few_pictures_are_refused_with_the_number_needed() -> None:
    assert [pictures_needed(level) for level in (0.5, 0.68, 0.9, 0.95, 0.99)] == [1, 3, 9, 19, 99]
    table = ScoreTable(tuple(torch.rand(5) for _ in range(8)))
    with pytest.raises(ValueError, match=r"0\.9 needs at least 9 pictures, there are 8"):
        table.scale(0.9)
    # 10 (1 - 0.9) is 1, but not in floating point
    assert ScoreTable((*table.pictures, torch.rand(5))).scale(0.9) > 0
    assert table.held_out(0.9) is None and 0.5 < (table.held_out(0.5) or 0) < 0.8
    for wrong in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="must lie in"):
            table.scale(wrong)
    for rows in ((), (torch.tensor([math.nan]),), (torch.zeros(0),)):
        with pytest.raises(ValueError, match="needs pictures"):
            ScoreTable(rows)


def test_intervals_scores_and_coverage_agree(
    overconfident: tuple[Stated, Tensor], table: ScoreTable
) -> None:
    posterior, truth = overconfident
    calibration = Calibration.fit(table, (8, 8))
    for level in LEVELS:
        q = calibration.scale(level)
        lower, upper = interval(posterior, level, calibration)
        inside = ((lower <= truth) & (truth <= upper)).double().mean()
        assert float(coverage(posterior, truth, level, calibration).mean()) == pytest.approx(
            table.coverage(q), abs=1e-4
        )
        assert float(inside) == pytest.approx(table.coverage(q), abs=1e-4)
        assert mean_width(posterior, level, calibration).mean() == pytest.approx(
            2 * q * float(spread(posterior).mean())
        )
        assert table.coverage(q) >= level
        raw_lower, raw_upper = interval(posterior, level)
        torch.testing.assert_close((raw_lower + raw_upper) / 2, posterior.mean)
    assert float(mean_width(Stated(torch.zeros(1, 4), torch.ones(1, 4)), 0.95)) == pytest.approx(
        2 * 1.959964, abs=1e-5
    )


def test_a_random_part_of_a_large_picture_stands_for_all_of_it() -> None:
    g = seeded(4)
    posterior, truth = (
        Stated(torch.zeros(1, 3, 200, 200), torch.ones(1, 3, 200, 200)),
        torch.randn(1, 3, 200, 200, generator=g),
    )
    scores = pixel_scores(posterior, truth)
    assert scores.shape == (1, 1 << 16) and torch.equal(scores, pixel_scores(posterior, truth))
    assert float((scores <= 1.645).double().mean()) == pytest.approx(0.9, abs=0.01)


def test_one_draw_has_no_interval() -> None:
    single = Posterior(torch.zeros(1, 1, 1, 4, 4), 0, 0, 0.0)
    for call in (
        lambda: interval(single, 0.9),
        lambda: pixel_scores(single, torch.zeros(1, 1, 4, 4)),
    ):
        with pytest.raises(ValueError, match="at least two draws"):
            call()


def test_a_calibration_is_saved_to_the_bit_and_broken_files_are_named(
    table: ScoreTable, tmp_path: Path
) -> None:
    procedure = {"problem": "inpaint", "random": 0.1 + 0.2, "sampler": None, "samples": 8}
    calibration, path = Calibration.fit(table, (8, 9), procedure=procedure), tmp_path / "c.json"
    calibration.save(path)
    assert Calibration.load(path) == calibration and calibration.pictures == POPULATION
    whole = json.loads(path.read_text())
    for content, message in [
        ("{", "cannot read"),
        ("", "cannot read"),
        ("[" * 100_000, "cannot read"),
        (json.dumps(whole | {"pictures": math.inf}), "broken calibration"),
        ("[]", "not a calibration that this version reads"),
        (json.dumps(whole | {"format": "other/1"}), "not a calibration that this version reads"),
        (json.dumps({k: v for k, v in whole.items() if k != "scales"}), "lacks 'scales'"),
        (json.dumps(whole | {"scales": [1.0]}), "one scale for each"),
        (json.dumps(whole | {"scales": [None] * 4}), "broken calibration"),
        (json.dumps(whole | {"scales": [-1.0] * 4}), "not negative"),
        (json.dumps(whole | {"levels": [0.5, 0.6, 0.7, 1.5]}), "must lie in"),
        (json.dumps(whole | {"floor": 0}), "floor above 0"),
    ]:
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            Calibration.load(path)
    with pytest.raises(InputError, match="cannot read the calibration"):
        Calibration.load(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match=r"has the levels 0\.5, 0\.68, 0\.9, 0\.95, not 0\.8"):
        calibration.scale(0.8)


def test_a_procedure_is_what_is_done_not_how_it_is_called(tmp_path: Path) -> None:
    """The fingerprint depends on what is computed, not on how it is written.

    Explicit defaults change nothing, files count by their bytes, irrelevant options are left out.
    """
    options, noise = RestoreOptions(solver="mmps"), GaussianNoise(0.05)
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.ones((3, 3)))
    np.save(tmp_path / "c.npy", np.ones((3, 5)))
    kernels = [
        protocol(ProblemOptions("deblur", kernel=tmp_path / f"{name}.npy"), noise, options)
        for name in "abc"
    ]
    check_same(kernels[0], kernels[1])
    with pytest.raises(InputError, match="kernel sha256:"):
        check_same(kernels[0], kernels[2])
    made = protocol(ProblemOptions("denoise"), noise, options)
    check_same(
        made,
        protocol(
            ProblemOptions("denoise", scale=2.0),
            noise,
            replace(options, steps=20, sampler="dpm-solver-sde", seed=5),
        ),
    )
    check_same(made, json.loads(json.dumps(made)))
    # as written before averages existed
    check_same({name: value for name, value in made.items() if name != "average"}, made)
    for other, problem, level, message in [
        (options, "denoise", 0.1, r"sigma 0\.05, here 0\.1;"),
        (options, "colourise", 0.05, "problem denoise, here colourise; weights none, here mean"),
        (
            replace(options, solver="diffpir"),
            "denoise",
            0.05,
            "solver mmps, here diffpir; sampler dpm-solver-sde, here none; steps 20, here 30",
        ),
        (replace(options, samples=4), "denoise", 0.05, "samples 8, here 4"),
        (replace(options, prior="mnist"), "denoise", 0.05, "prior natural, here mnist"),
        (replace(options, average="turns"), "denoise", 0.05, "average none, here turns"),
    ]:
        with pytest.raises(InputError, match=message):
            check_same(made, protocol(ProblemOptions(problem), GaussianNoise(level), other))
    with pytest.raises(
        InputError, match="noise GaussianNoise, here PoissonGaussianNoise; peak none, here 50"
    ):
        check_same(
            made,
            protocol(
                ProblemOptions("denoise", photons=50), PoissonGaussianNoise(50, 0.05), options
            ),
        )


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (3, 16, 16)), path)
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, one of them grey."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, size in (("astronaut", (90, 70)), ("coffee", (64, 64))):
        Image.fromarray(getattr(skimage.data, name)()).resize(size).save(folder / f"{name}.png")
    Image.fromarray(skimage.data.camera()).resize((66, 80)).save(folder / "camera.png")
    return folder


CHEAP = ("--steps", 2, "--samples", 2, "--device", "cpu")
LEVEL = ("--level", 0.5, "--level", 0.68)


def test_calibrate_then_restore(
    capsys: pytest.CaptureFixture[str], prior: Path, photographs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "calibration.json"
    damage = ("--problem", "inpaint", "--random", 0.5, "--sigma", 0.1, "--prior", prior, *CHEAP)
    code, out, err = run(
        capsys, "calibrate", photographs, *damage, *LEVEL, "--crop", 64, "--out", file, "--json"
    )
    assert code == 0, err
    report, calibration = json.loads(out), Calibration.load(file)
    assert (
        calibration.pictures == 3
        and calibration.size == (64, 64)
        and calibration.levels == (0.5, 0.68)
    )
    assert (
        calibration.procedure["sigma"] == 0.1
        and calibration.procedure["random"] == 0.5
        and calibration.procedure["steps"] == 2
    )
    assert [row["scale"] for row in report["levels"]] == list(calibration.scales)
    assert (
        0 < report["levels"][0]["coverage_after"] <= 1
        and report["levels"][1]["coverage_after"] is None
    )
    code, text, err = run(
        capsys,
        "calibrate",
        photographs,
        *damage,
        *LEVEL,
        "--crop",
        64,
        "--out",
        tmp_path / "again.json",
    )
    assert code == 0 and "from 3 pictures of 64x64" in text, err
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()

    def restore(name: str, *more: object) -> tuple[int, str, str]:
        return run(
            capsys,
            "restore",
            photographs / f"{name}.png",
            "--out",
            tmp_path / "out",
            *damage,
            "--simulate",
            *more,
        )

    code, out, err = restore("coffee", "--calibration", file, "--level", 0.5, "--json")
    assert code == 0, err
    report = json.loads(out)
    said = report["interval"]
    assert (
        said["calibrated"]
        and said["level"] == 0.5
        and said["scale"] == calibration.scales[0]
        and said["calibration_pictures"] == 3
    )
    assert 0 < said["coverage"] <= 1 and said["mean_width"] > 0 and "warning" not in said
    lower, mean, upper = (
        np.array(Image.open(tmp_path / "out" / f"{name}.png")).astype(int)
        for name in ("lower", "mean", "upper")
    )
    assert (lower <= mean).all() and (mean <= upper).all() and (lower < upper).any()
    assert {"lower.png", "upper.png", "interval.png"} <= set(report["files"]) and (
        tmp_path / "out" / "interval.png"
    ).stat().st_size
    code, out, err = restore("camera", "--calibration", file, "--level", 0.5)
    assert (
        code == 0
        and "50%, calibrated" in out
        and "calibrated for pictures of 64x64 pixels, this one has 80x66" in out
    ), err
    code, out, err = restore("coffee", "--json")
    report = json.loads(out)
    assert (
        report["interval"].keys() == {"level", "calibrated", "mean_width", "coverage"}
        and not report["interval"]["calibrated"]
    )
    assert report["interval"]["level"] == 0.9 and "lower.png" not in report["files"]
    code, out, err = restore("coffee", "--samples", 1, "--json")
    assert (
        code == 0
        and "interval" not in json.loads(out)
        and "std.png" not in json.loads(out)["files"]
    )
    for more, message in [
        (("--sigma", 0.05), "another procedure: sigma 0.1, here 0.05"),
        (("--steps", 3), "steps 2, here 3"),
        (("--samples", 1), "samples 2, here 1"),
        (("--random", 0.6), "random 0.5, here 0.6"),
        (("--solver", "diffpir"), "solver warm-start, here diffpir"),
        (("--prior", "natural"), "here natural"),
        (("--level", 0.9), "has the levels 0.5, 0.68, not 0.9"),
        (("--level", 2), "must lie in (0, 1)"),
        (("--calibration", tmp_path / "nowhere.json"), "cannot read the calibration"),
    ]:
        code, out, err = restore("coffee", "--calibration", file, "--level", 0.5, *more)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, (
            f"{more}: {code} {out} {err}"
        )


def test_bad_input_to_calibrate(
    capsys: pytest.CaptureFixture[str], prior: Path, photographs: Path, tmp_path: Path
) -> None:
    denoise = ("--problem", "denoise")
    for arguments, message in [
        (
            (photographs, *denoise, *LEVEL, "--crop", 65),
            "coffee.png is 64x64, smaller than the crop 65",
        ),
        (
            (photographs, *denoise, "--crop", 64),
            "--level 0.95 needs at least 19 pictures, there are 3",
        ),
        (
            (photographs, *denoise, "--count", 2, "--crop", 64, *LEVEL),
            "--level 0.68 needs at least 3 pictures, there are 2",
        ),
        ((photographs, *denoise, "--crop", 64, "--level", 1), "must lie in (0, 1)"),
        (
            (photographs, *denoise, "--crop", 64, "--level", 0.5, "--level", 0.5),
            "each --level once",
        ),
        ((photographs, *denoise, "--crop", 64, *LEVEL, "--samples", 1), "at least 2"),
        ((photographs, *denoise, "--crop", 64, *LEVEL, "--solver", "magic"), "unknown solver"),
        (
            (photographs, "--problem", "inpaint", "--crop", 64, *LEVEL),
            "needs --mask FILE of the size of the crop",
        ),
        ((photographs, "--problem", "unscrew", "--crop", 64, *LEVEL), "unknown problem"),
        ((tmp_path / "nowhere", *denoise), "not a folder"),
    ]:
        code, out, err = run(
            capsys,
            "calibrate",
            *arguments[:1],
            "--prior",
            prior,
            "--out",
            tmp_path / "c.json",
            *CHEAP,
            *arguments[1:],
        )
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, (
            f"{arguments}: {code} {out} {err}"
        )
        assert not (tmp_path / "c.json").exists()
