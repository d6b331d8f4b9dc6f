"""Memory and time are told before a large picture is touched."""

import itertools

import pytest
import torch

from scoresde import EDMSDE, InputError, ScorePrior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines import cost
from scoresde.pipelines.restore import _announcement
from scoresde.pipelines.settings import RestoreOptions
from solvers import SOLVERS

CPU = torch.device("cpu")


class TestMemory:
    @pytest.mark.parametrize(
        ("side", "samples", "free", "remedy"),
        [
            (64, 8, 3e8, None),
            (1000, 8, 4e9, None),
            (20_000, 8, 16e9, "crop"),
            (1000, 10**6, 16e9, "--samples"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, side: int, samples: int, free: float, remedy: str
    ) -> None:
        monkeypatch.setattr(cost, "available_bytes", lambda _: free)
        options = RestoreOptions(samples=samples)
        if remedy is None:
            cost.check_memory((side, side), 3, options, CPU)
            return
        with pytest.raises(InputError, match=rf"{side}x{side} pixels .* GB are free; .*{remedy}"):
            cost.check_memory((side, side), 3, options, CPU)


class TestTime:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (RestoreOptions(solver="ddrm", steps=7), 7),
            # the last step is a draw: 4 products for the root of a covariance and 1 to condition it
            (RestoreOptions(solver="mmps", sampler="heun", steps=10), 19 * 2.5 + 5 * 1.5),
            (RestoreOptions(solver="hqs", steps=6), 6),
        ],
    )
    def test_passes_are_those_of_the_solver(self, options: RestoreOptions, expected: float) -> None:
        assert cost.passes(options) == expected

    @pytest.mark.parametrize("solver", [s for s in SOLVERS if SOLVERS[s].exactness != "asymptotic"])
    def test_every_solver_of_single_draws_can_be_counted(self, solver: str) -> None:
        passes = cost.passes(RestoreOptions(solver=solver, steps=2))
        assert passes is not None and passes > 0

    def test_it_is_the_evaluations_of_all_tiles(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With a clock by which an evaluation takes a second."""
        ticks = itertools.count()
        monkeypatch.setattr(cost.time, "perf_counter", lambda: float(next(ticks)))
        network = UNet(UNetConfig(widths=(8,), blocks=1, attention=(), embedding=16))
        prior = ScorePrior(network, EDMSDE(), (3, 16, 16))
        options = RestoreOptions(solver="ddrm", steps=100, samples=4, tile=64)
        assert cost.estimate_seconds(prior, (32, 32), options) == 400
        assert cost.estimate_seconds(prior, (640, 1280), options) == 400 * 200

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (1.4, "about 1 seconds"),
            (100, "about 100 seconds"),
            (600, "10 min"),
            (10_000, "3 hours"),
        ],
    )
    def test_in_words(self, seconds: float, words: str) -> None:
        assert words in _announcement((1000, 2000), RestoreOptions(samples=2), seconds)
