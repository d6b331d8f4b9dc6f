"""The same numbers from this process and from workers, bit for bit, and what workers raise."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde import EDMSDE, InputError, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.audit import audit_named
from scoresde.pipelines.calibrate import CalibrateOptions, calibrate
from scoresde.pipelines.devices import open_prior
from scoresde.pipelines.likelihood import ImageSource, Opened, score_images
from scoresde.pipelines.restore import restore
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.pipelines.workers import Workers
from solvers.verification import table, table_row
from tests.commands import run

PROBLEM = ProblemOptions("denoise")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Workers]:
    """Two workers in threads of this process: what they get is still sent as to others."""
    import dask
    from dask.distributed import LocalCluster

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "20s"}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            dashboard_address=":0",
        ) as started,
    ):
        yield Workers(scheduler=started.scheduler_address)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network with random weights, so that batches matter."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=(), embedding=16))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (1, 8, 8)), path)
    return str(path)


def options(prior: str, **more: Any) -> RestoreOptions:
    settings = {"solver": "diffpir", "samples": 3, "steps": 2, "device": "cpu", "sigma": 0.3}
    return RestoreOptions(**(settings | {"prior": prior, "precision": "fp32"} | more))


def halved(x: float) -> float:
    if x == 3:
        raise InputError("three is refused")
    if x == 4:
        warnings.warn("four is odd", UserWarning, stacklevel=1)
    return x / 2


class TestMap:
    def test_results_come_in_the_order_of_the_parts(self, cluster: Workers) -> None:
        parts = [8.0, 1.0, 5.0, 2.0]
        assert list(cluster.map(halved, parts)) == list(Workers().map(halved, parts))

    @pytest.mark.parametrize("alone", [True, False])
    def test_errors_and_warnings_reach_the_caller(self, cluster: Workers, alone: bool) -> None:
        who = Workers() if alone else cluster
        with pytest.raises(InputError, match="three is refused"):
            list(who.map(halved, [1.0, 3.0]))
        with pytest.warns(UserWarning, match="four is odd"):
            list(who.map(halved, [4.0]))

    def test_no_parts(self, cluster: Workers) -> None:
        assert list(cluster.map(halved, [])) == []

    def test_the_count_is_positive(self) -> None:
        with pytest.raises(InputError, match="--workers must be at least 1"):
            Workers(0)

    def test_no_scheduler(self) -> None:
        with pytest.raises(InputError, match="no scheduler answers at tcp:/no"):
            list(Workers(scheduler="tcp:/no").map(halved, [1.0]))


def test_calibration(cluster: Workers, prior: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (9, 10), np.uint8)).save(folder / f"{number}.png")
    how = CalibrateOptions(4, 8, (0.5,))
    reports = []
    for name, who in (("one", Workers()), ("two", cluster)):
        out, seen = tmp_path / f"{name}.json", list[float]()
        reports.append(calibrate(folder, PROBLEM, options(prior), how, out, seen.append, who))
        assert seen[-1] == 1 and seen == sorted(seen)
    assert reports[0]["levels"] == reports[1]["levels"]
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("average", [None, "turns"])
def test_likelihoods(cluster: Workers, prior: str, tmp_path: Path, average: str | None) -> None:
    count = 3 if average else 5
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), np.uint8)
    np.save(tmp_path / "data.npy", images)
    model = open_prior(prior, torch.device("cpu"), "fp32", average)
    reports = [
        score_images(
            *(model, ImageSource(dataset=tmp_path / "data.npy")),
            torch.Generator().manual_seed(3),
            batch=8 if average else 2,
            workers=who,
            opened=Opened(prior, "cpu", average),
            nodes=8,
            probes=1,
        )
        for who in (Workers(), cluster)
    ]
    for name in ("bits_per_dim", "std_error", "nfe", "vjps", "mean"):
        assert reports[0][name] == reports[1][name]


@pytest.mark.slow
def test_audit(cluster: Workers, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoresde.pipelines.audit._PIXELS_AT_ONCE", 8 * 3 * 64)  # several parts
    model = open_prior(prior, torch.device("cpu"), "fp32", recompute=True)
    reports = [
        audit_named(model, PROBLEM, options(prior), runs=20, workers=who)
        for who in (Workers(), cluster)
    ]
    for report in reports:
        del report["seconds"]
    assert reports[0] == reports[1]


def test_audit_of_a_population_is_refused(cluster: Workers, prior: str) -> None:
    model = open_prior(prior, torch.device("cpu"), "fp32")
    with pytest.raises(InputError, match="makes the draws of a measurement together"):
        audit_named(model, PROBLEM, options(prior, solver="tds"), runs=20, workers=cluster)


@pytest.mark.slow
def test_rows_of_the_verification(cluster: Workers) -> None:
    pairs = [("ddrm", "gaussian"), ("repaint", "gaussian"), ("mmps", "gaussian")]
    here = list(table(pairs, draws=20))
    there = list(cluster.map(_row, pairs))
    for one, other in zip(here, there, strict=True):
        for row in (one, other):  # times and memory differ, nothing else
            row.pop("seconds", None)
            row.pop("memory", None)
        assert one == other


def _row(pair: tuple[str, str]) -> dict[str, Any]:
    return table_row(pair, draws=20)


def test_options_that_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "verify", "--workers", 2, "--jobs", 2)
    assert status == 2 and "--jobs" in err and err.count("\n") == 1
    status, _, err = run(capsys, "verify", "--workers", 2, "--learned")
    assert status == 2 and "--learned" in err


class TestDrawsOfOnePicture:
    def restored(
        self, prior: str, tmp_path: Path, who: Workers, **more: Any
    ) -> tuple[Any, dict[str, Any]]:
        values = np.random.default_rng(1).integers(0, 256, (9, 10), np.uint8)
        Image.fromarray(values).save(tmp_path / "photo.png")
        seen: list[float] = []
        torch.manual_seed(0)
        found = restore(
            *(tmp_path / "photo.png", PROBLEM, options(prior, samples=5, **more)),
            *(tmp_path / f"out-{who.scheduler is None}",),
            workers=who,
            progress=seen.append,
        )
        assert seen[-1] == 1 and seen == sorted(seen)
        return found.posterior, found.report

    @pytest.mark.slow
    @pytest.mark.parametrize("solver", ["diffpir", "mmps", "warm-start"])
    @pytest.mark.filterwarnings("ignore::solvers.posterior.trust.SolverWarning")
    def test_they_are_those_of_one_process(
        self, cluster: Workers, prior: str, tmp_path: Path, solver: str
    ) -> None:
        how = {"solver": solver, "batch": 2, "steps": 4}
        here, report = self.restored(prior, tmp_path, Workers(), **how)
        there, other = self.restored(prior, tmp_path, cluster, **how)
        assert torch.equal(here.draws, there.draws) and len(here.draws) == 5
        assert (here.nfe, here.vjps) == (there.nfe, there.vjps)
        assert here.diagnostics == there.diagnostics
        for name in ("residual", "warnings"):
            assert report.get(name) == other.get(name)
        one, two = (tmp_path / f"out-{alone}" for alone in (True, False))
        assert (one / "mean.png").read_bytes() == (two / "mean.png").read_bytes()

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"solver": "tds", "batch": 2}, "tds makes them together"),
            ({"batch": None}, "all 5 draws are in one; give --batch 3 or less"),
        ],
    )
    def test_what_cannot_be_shared_is_refused(
        self, cluster: Workers, prior: str, tmp_path: Path, more: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            self.restored(prior, tmp_path, cluster, **more)

    def test_a_stack_is_refused(self, cluster: Workers, prior: str, tmp_path: Path) -> None:
        np.save(tmp_path / "stack.npy", np.zeros((4, 9, 10)))
        problem = ProblemOptions("denoise", select=("0=:",), range="0,1")
        with pytest.raises(InputError, match="this is a stack"):
            restore(
                *(tmp_path / "stack.npy", problem, options(prior), tmp_path / "out"),
                workers=cluster,
            )
