"""The judges: units of bits per dimension, coverage, and a cache that depends on the model."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde.data.datasets import TensorData
from scoresde.evaluation import pixel_features
from scoresde.families.base import GenerativeModel, LogProb
from scoresde.families.comparison.density import judge_density, model_bits_per_dim
from scoresde.families.comparison.judge import Entrant, JudgeConfig, judge, measurement
from scoresde.families.comparison.memory import peak_of_tensors, training_memory
from scoresde.families.comparison.plane import PLANE_FAMILIES
from scoresde.families.comparison.quality import RealData, judge_draws
from scoresde.families.comparison.restoration import (
    SIGMA,
    judge_restoration,
    problems_for,
    range_coverage,
)
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.training.config import LoopConfig
from solvers.posterior.records import Draws, Request
from tests.conftest import seeded

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class White(GenerativeModel):
    """Independent uniform entries, of the 256 levels or of the line from -1 to 1.

    Its restorations ignore y.
    """

    density = "exact"

    def __init__(self, continuous: bool, shift: float = 0.0) -> None:
        super().__init__()
        self.level, self.config, self._continuous = (
            torch.nn.Parameter(torch.tensor(shift)),
            None,
            continuous,
        )
        self.called = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 16, 16)

    @property
    def nfe_per_sample(self) -> int:
        return 1

    @property
    def continuous(self) -> bool:
        return self._continuous

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.level**2

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        self.called += 1
        u = torch.rand(n, *self.shape, generator=generator)
        return (
            2 * u - 1 if self.continuous else (256 * u).floor() / 127.5 - 1
        ) + self.level.detach()

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        each = math.log(2) if self.continuous else math.log(256)
        if self.continuous:
            # dequantised
            assert (
                float(x.min()) >= -1
                and float(x.max()) < 1
                and float((128 * (x + 1) % 1).std()) > 0.2
            )
        else:
            torch.testing.assert_close((x + 1) * 127.5, ((x + 1) * 127.5).round())
        return LogProb(
            torch.full((len(x),), -each * 256, dtype=torch.float64),
            "exact",
            discrete=not self.continuous,
        )

    def _restore(self, request: Request, **settings: Any) -> Draws:
        n, y = request.n, request.y
        return Draws(
            self.sample(n * len(y), request.generator).reshape(n, len(y), *self.shape),
            1,
            0,
            {"rhat": [1.5] * len(y)},
        )


def reference(n: int = 400) -> RealData:
    white = White(continuous=False)
    return RealData(
        white.sample(n, seeded(1)), white.sample(n, seeded(2)), pixel_features(), digits=False
    )


@pytest.mark.parametrize("continuous", [True, False])
def test_bits_of_a_uniform_law_are_eight(continuous: bool) -> None:
    model = White(continuous)
    levels = (256 * torch.rand(7, 1, 16, 16, generator=seeded())).to(torch.uint8)
    found = judge_density(model, levels, seeded(), batch=3)
    assert (
        found["pictures"] == 7
        and found["exact"]["mean"] == pytest.approx(8, abs=1e-9)
        and found["exact"]["error"] < 1e-9
    )


def test_bits_of_a_bound_and_of_none() -> None:
    assert float(
        model_bits_per_dim(LogProb(torch.tensor([-math.log(2)]), "ELBO", discrete=True), 1)
    ) == pytest.approx(1)

    class Implicit(White):
        density = "implicit"

    assert (
        judge_density(
            Implicit(continuous=False), torch.zeros(2, 1, 16, 16, dtype=torch.uint8), seeded()
        )
        == {}
    )


@pytest.mark.parametrize("continuous", [True, False])
def test_as_pictures_lie_on_the_levels(continuous: bool) -> None:
    """Pictures on k levels come back unchanged, dequantised or not.

    Values beyond the range end at black and white.
    """
    k = torch.arange(256).float()
    x = (k + 0.999 * torch.rand(256, generator=seeded())) / 128 - 1 if continuous else k / 127.5 - 1
    model = White(continuous)
    torch.testing.assert_close(model.as_pictures(x), k / 127.5 - 1)
    torch.testing.assert_close(
        model.as_pictures(torch.tensor([-1.5, 1.5])), torch.tensor([-1.0, 1.0])
    )


class TestRange:
    @pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
    @pytest.mark.parametrize("n", [3, 9])
    def test_of_the_right_posterior(self, levels: int, n: int) -> None:
        x = torch.randint(levels, (n + 1, 40_000), generator=seeded(levels + n)).float()
        share, counted = range_coverage(x[:n], x[n], seeded(5))
        expected = (n - 1) / (n + 1)
        assert counted > 30_000
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / counted)

    def test_of_wrong_ones(self) -> None:
        n, m = 9, 20_000
        x = torch.randn(n + 1, m, generator=seeded())
        narrow, _ = range_coverage(0.5 * x[:n], x[n], seeded())
        wide, _ = range_coverage(2 * x[:n], x[n], seeded())
        moved, _ = range_coverage(x[:n] + 1, x[n], seeded())
        error = 4 * math.sqrt(0.25 / m)
        assert narrow < 0.8 - error and moved < 0.8 - error and wide > 0.8 + error

    def test_entries_that_are_all_the_same_do_not_count(self) -> None:
        draws, truth = torch.zeros(4, 10), torch.zeros(10)
        truth[:3] = 1.0
        share, counted = range_coverage(draws, truth, seeded())
        assert counted == 3 and share == 0


def test_restoration_scores() -> None:
    problem = problems_for((1, 16, 16))["inpainting"]
    truth = reference().test[:20]
    y = problem.measure(truth, seeded())
    found = judge_restoration(White(continuous=False), problem, truth, y, 9, seed=0)
    assert (
        found.draws.shape == (9, 20, 1, 16, 16)
        and found.scores["rhat"] == 1.5
        and found.scores["nfe"] == 1
    )
    assert abs(found.scores["range"] - found.scores["range_expected"]) < 4 * math.sqrt(
        0.16 / found.scores["range_entries"]
    )
    # white draws miss white pictures by twice the variance of each
    variance = float((torch.arange(256) / 127.5 - 1).var(unbiased=False))
    assert found.scores["misfit"] == pytest.approx(2 * variance / SIGMA**2 + 1, rel=0.05)

    class Knows(White):
        def _restore(self, request: Request, **settings: Any) -> Draws:
            return Draws(truth.expand(request.n, -1, -1, -1, -1).clone(), 1, 0)

    perfect = judge_restoration(Knows(continuous=False), problem, truth, y, 3, seed=0)
    seen = 20 * (256 - 64)
    assert (
        abs(perfect.scores["misfit"] - 1) < 4 * math.sqrt(2 / seen)
        and perfect.scores["psnr_mean"] > 60
    )


class TestJudge:
    config = JudgeConfig(samples=100, likelihoods=4, pictures=2, draws=3)

    def test_it_keeps_what_it_found_and_knows_when_not_to_use_it(self, tmp_path: Path) -> None:
        model, ref = White(continuous=False), reference()
        first = judge(Entrant("white", "white", model), ref, self.config, tmp_path)
        called = model.called
        again = judge(Entrant("white", "white", model), ref, self.config, tmp_path)
        assert model.called == called and again.scores == first.scores
        assert all(torch.equal(again.pictures[k], v) for k, v in first.pictures.items())
        moved = White(continuous=False, shift=0.5)
        other = judge(Entrant("white", "white", moved), ref, self.config, tmp_path)
        assert moved.called and other.scores["quality"]["fid"] > first.scores["quality"]["fid"] + 5

    def test_only_its_draws_where_asked(self, tmp_path: Path) -> None:
        judged = judge(
            Entrant("white", "white", White(continuous=True), whole=False),
            reference(),
            self.config,
            tmp_path,
        )
        assert "bits_per_dim" not in judged.scores and "restoration" not in judged.scores
        assert set(judged.pictures) == {"draws"} and judged.pictures["draws"].dtype == torch.uint8

    def test_measurements_are_the_same_for_all(self) -> None:
        ref = reference()
        for name in problems_for((1, 16, 16)):
            assert torch.equal(
                measurement(ref, self.config, name), measurement(ref, self.config, name)
            )

    def test_bad_settings(self) -> None:
        for bad in ({"samples": 10}, {"draws": 2}, {"pictures": 1}):
            with pytest.raises(ValueError, match="a comparison needs"):
                JudgeConfig(**bad)


def test_a_perfect_model_scores_as_other_data_does() -> None:
    ref = reference(1000)
    same = judge_draws(White(continuous=False).sample(500, seeded(7)), ref)
    assert (
        abs(same["kid"]) < 4 * same["kid_error"] and abs(same["recall"] - same["precision"]) < 0.1
    )
    wrong = judge_draws(White(continuous=False, shift=0.3).sample(500, seeded(7)).clamp(-1, 1), ref)
    assert wrong["kid"] > 10 * wrong["kid_error"] and wrong["fid"] > 2 * same["fid"]


def test_the_peak_of_tensors_is_that_of_what_lives_at_once() -> None:
    mebi = torch.ones(2**18)  # allocated before, so not counted
    with peak_of_tensors() as found:
        first = mebi + 1
        second = first * 2
        del first
        third = second[:10].clone()  # 40 bytes; views and in-place operations allocate nothing
        second.mul_(3)
        fourth = mebi + third.sum()
        del second, fourth
    assert 2 * 2**20 <= found.bytes <= 2 * 2**20 + 100


@pytest.mark.slow
def test_the_memory_of_training_grows_with_the_batch() -> None:
    """Five numbers for each parameter, and memory in proportion to the batch."""
    data = TensorData(torch.randn(64, 2, generator=seeded()))
    sizes = [
        training_memory(PLANE_FAMILIES["vae"].build((2,)), data, LoopConfig(batch=batch))
        for batch in (1000, 2000, 4000)
    ]
    assert sizes[0] > 5 * 4 * PLANE_FAMILIES["vae"].build((2,)).parameter_count
    pictures = TensorData(torch.rand(4, 1, 8, 8, generator=seeded()))
    model = VAE(VAEConfig((1, 8, 8), latent=4, widths=(8, 8)))
    layouts = [
        training_memory(copy.deepcopy(model).to(memory_format=kind), pictures, LoopConfig(batch=1))
        for kind in LAYOUTS
    ]  # type: ignore[call-overload]
    assert layouts[0] == layouts[1]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.02)
