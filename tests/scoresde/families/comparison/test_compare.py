"""The whole comparison on tiny pictures, and the weights that come with the package."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoresde.errors import InputError
from scoresde.families.comparison import training
from scoresde.families.comparison.entrants import embedded_families, entrants, load_family
from scoresde.families.comparison.families import FAMILIES, Family, build
from scoresde.families.comparison.judge import JudgeConfig
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.store import load_model
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines import compare as module
from scoresde.pipelines.compare import CompareOptions, compare
from scoresde.pipelines.workers import Workers
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE
from scoresde.training.config import LoopConfig
from tests.conftest import seeded

pytestmark = pytest.mark.slow

SMALL = JudgeConfig(samples=100, likelihoods=2, pictures=2, draws=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    pictures = {
        f"{name}_images": generator.integers(0, 256, (n, 16, 16), dtype=np.uint8)
        for name, n in (("train", 300), ("test", 150))
    }
    np.savez(path, **pictures)
    return path


@contextmanager
def tiny_families() -> Iterator[None]:
    """Two families with a few hundred parameters, and restorations of a few steps."""

    def score(shape: tuple[int, ...]) -> Diffusion:
        network = UNet(UNetConfig(channels=1, widths=(8, 16), blocks=1, attention=(), embedding=16))
        return Diffusion(ScorePrior(network, EDMSDE(), shape), DiffusionConfig(steps=4, nodes=8))

    fit, real = LoopConfig(batch=8, warmup=1), dict(FAMILIES)
    FAMILIES.clear()
    FAMILIES["vae"] = Family(
        "VAE", lambda shape: VAE(VAEConfig(shape, latent=4, widths=(8, 8))), fit
    )
    FAMILIES["diffusion"] = Family("diffusion", score, fit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "scoresde.families.comparison.restoration.family_settings",
            lambda model, n: {} if isinstance(model, Diffusion) else {"steps": 4, "climb": 3},
        )
        patch.setattr(
            "scoresde.families.comparison.entrants.SAMPLERS_SHOWN",
            {"DDIM, 3": DiffusionConfig("ddim", 3)},
        )
        yield
    FAMILIES.clear()
    FAMILIES.update(real)


@pytest.fixture
def tiny() -> Iterator[None]:
    with tiny_families():
        yield


@pytest.fixture(scope="module")
def compared(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    """A whole comparison: its report, and the folder of what it has written."""
    folder = tmp_path_factory.mktemp("compared")
    with tiny_families():
        return compare(options(dataset, folder)), folder


def options(dataset: Path, tmp_path: Path, **changes: object) -> CompareOptions:
    made = CompareOptions(
        dataset,
        tmp_path / "out",
        tmp_path / "work",
        ("vae", "diffusion"),
        0.001,
        "pixels",
        judging=SMALL,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def without_clocks(report: object) -> object:
    """A report without the seconds that were measured."""
    if isinstance(report, dict):
        return {k: without_clocks(v) for k, v in report.items() if "seconds" not in k}
    return report


@pytest.mark.usefixtures("tiny")
@pytest.mark.xdist_group("compare")  # one comparison serves three tests
class TestCompare:
    def test_from_beginning_to_end(self, compared: tuple[dict[str, Any], Path]) -> None:
        report, folder = compared
        out = folder / "out"
        written = json.loads((out / "comparison.json").read_text())
        assert (
            set(written["entrants"])
            == {"vae", "diffusion", "diffusion-ddim"}
            == set(report["entrants"])
        )
        vae = written["entrants"]["vae"]
        assert (
            set(vae["bits_per_dim"]) == {"pictures", "ELBO", "IWAE"}
            and vae["training"]["cpu_seconds"] > 0
        )
        assert (
            vae["training_memory"] > 5 * 4 * vae["parameters"]
            and "training_memory" not in written["entrants"]["diffusion-ddim"]
        )
        assert set(written["entrants"]["diffusion"]["bits_per_dim"]) == {
            "pictures",
            "exact",
            "ELBO",
        }
        assert set(vae["restoration"]) == {"inpainting", "deblurring", "super-resolution"}
        text = (out / "comparison.md").read_text()
        assert (
            text.count("| VAE |") == 1 + 2 + 3 + 1 and "pixels" in text and "Real NVP" not in text
        )
        for name in ("trilemma", "draws", "restoration"):
            assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")

    def test_workers_find_the_same_numbers(
        self, compared: tuple[dict[str, Any], Path], dataset: Path, tmp_path: Path
    ) -> None:
        """Bit for bit, except what a clock says; the pictures too."""
        pytest.importorskip("distributed")
        from dask.distributed import LocalCluster

        alone, folder = compared
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        here, lines, fractions = options(dataset, tmp_path), list[str](), list[float]()
        pictures = (tmp_path / "out/restoration.png").read_bytes()
        for path in (tmp_path / "work/judged").iterdir():
            path.unlink()
        # threads of this process, which know the tiny families
        started = LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, protocol="tcp",
            dashboard_address=":0",
        )  # fmt: skip
        with started:
            workers = Workers(scheduler=started.scheduler_address)
            shared = compare(here, lines.append, judging=fractions.append, workers=workers)
        assert without_clocks(shared) == without_clocks(alone)
        assert len(alone["entrants"]) == 3 == len(list((tmp_path / "work/judged").glob("*.json")))
        assert (tmp_path / "out/restoration.png").read_bytes() == pictures
        assert sum(line.startswith("judged ") for line in lines) == 3
        assert fractions == sorted(fractions) and fractions[-1] == 1

    def test_what_is_done_is_not_done_again(
        self,
        compared: tuple[dict[str, Any], Path],
        dataset: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first, folder = compared
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)

        def forbidden(*_: object, **__: object) -> None:
            raise AssertionError("trained or drew again")

        monkeypatch.setattr(training, "train_model", forbidden)
        monkeypatch.setattr("scoresde.families.comparison.judge.draw", forbidden)
        again = compare(options(dataset, tmp_path))
        assert again["entrants"]["vae"]["quality"] == first["entrants"]["vae"]["quality"]

    def test_an_interrupted_training_goes_on(
        self, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An interrupted training reaches the same weights, though the budget is measured again."""
        monkeypatch.setattr(training, "steps_within", lambda *_: 6)
        arguments = ("vae", dataset, "train_images")
        whole = training.train_family(*arguments, tmp_path / "whole", 1.0)
        real = training.train_model
        monkeypatch.setattr(
            training, "train_model", lambda *a, **k: real(*a, **(k | {"stop_after": 2}))
        )
        training.train_family(*arguments, tmp_path / "parts", 1.0)
        assert load_model(tmp_path / "parts" / "model.safetensors").card["step"] == 2
        monkeypatch.setattr(training, "train_model", real)
        monkeypatch.setattr(training, "steps_within", lambda *_: 99)
        parts = training.train_family(*arguments, tmp_path / "parts", 1.0)
        for (name, a), b in zip(
            whole.state_dict().items(), parts.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b), name

    def test_the_budget_decides_the_steps(self, dataset: Path, tmp_path: Path) -> None:
        """A third of the time gives about a third of the steps.

        Measured on a machine that may be busy, so only within a factor.
        """
        data = module.read_reference(options(dataset, tmp_path))
        assert data.train.shape == (300, 1, 16, 16)
        from scoresde.data.datasets import ImageArray

        array = ImageArray(dataset, "train_images")
        few, many = (
            training.steps_within(
                seconds,
                build("vae", (1, 16, 16)),
                array,
                FAMILIES["vae"].fit,
                tmp_path / str(seconds),
            )
            for seconds in (10.0, 30.0)
        )
        assert 1.2 < many / few < 7.5


class TestBadInput:
    def test_options(self, dataset: Path, tmp_path: Path) -> None:
        for bad, message in (
            ({"families": ("vae", "magic")}, "unknown family 'magic'; known: vae"),
            ({"families": ()}, "needs a family"),
            ({"minutes": 0.0}, "more than 0 minutes"),
            ({"features": "taste"}, "unknown features 'taste'; known: digits"),
        ):
            with pytest.raises(ValueError, match=message):
                options(dataset, tmp_path, **bad)

    def test_data(self, dataset: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there is no file"):
            compare(options(tmp_path / "none.npz", tmp_path))
        with pytest.raises(InputError, match=r"5000 pictures of each kind are needed"):
            compare(options(dataset, tmp_path, judging=replace(SMALL, samples=5000)))
        other = tmp_path / "other.npz"
        np.savez(
            other,
            train_images=np.zeros((300, 16, 16), np.uint8),
            test_images=np.zeros((300, 4, 4), np.uint8),
        )
        with pytest.raises(InputError, match="they must be of one shape"):
            compare(options(other, tmp_path))
        with pytest.raises(
            InputError, match=r"are for pictures \(1, 28, 28\), these are \(1, 16, 16\)"
        ):
            compare(options(dataset, tmp_path, minutes=None))


class TestFamilies:
    def test_they_are_of_like_size(self) -> None:
        sizes = {name: build(name, (1, 28, 28)).parameter_count for name in FAMILIES}
        assert max(sizes.values()) <= 1.2 * min(sizes.values()), sizes

    def test_the_seed_decides_the_weights(self) -> None:
        a, b, c = (next(build("vae", (1, 28, 28), seed).parameters()) for seed in (0, 0, 1))
        assert torch.equal(a, b) and not torch.equal(a, c)
        with pytest.raises(ValueError, match="unknown family 'magic'; known: vae, gan"):
            build("magic", (1, 28, 28))

    def test_all_come_with_the_package(self) -> None:
        files = embedded_families()
        assert set(files) == set(FAMILIES)
        for name, path in files.items():
            assert path.stat().st_size < 4e6
            model = load_family(name)
            assert model.shape == (1, 28, 28) and model.card["cpu_seconds"] > 0
            x = model.sample(2, seeded(0))
            assert x.shape == (2, 1, 28, 28) and bool(x.isfinite().all())
        with pytest.raises(ValueError, match="no weights of a family 'magic'"):
            load_family("magic")

    def test_entrants(self) -> None:
        found = entrants({"diffusion": load_family("diffusion"), "vae": load_family("vae")})
        assert [e.name for e in found][:2] == ["vae", "diffusion"] and [e.whole for e in found][
            :2
        ] == [True, True]
        assert found[-1].name == "diffusion-mnist" and found[-1].whole and len(found) > 4
