"""Memory is estimated before the work: it grows as it must, and bounds batches and draws."""

import math

import pytest
import torch
from torch import nn

from scoresde import EDMSDE, EquivariantPrior, ScorePrior
from scoresde.errors import InputError
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.memory import Footprint, check_draws, fitting_batch


def prior(width: int = 8, attention: tuple[int, ...] = ()) -> ScorePrior:
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(width, width), blocks=1, attention=attention, embedding=16))
    return ScorePrior(network, EDMSDE(), (3, 16, 16)).eval().requires_grad_(False)


def free(monkeypatch: pytest.MonkeyPatch, available: float) -> None:
    monkeypatch.setattr("scoresde.pipelines.memory.available_bytes", lambda _: available)


class Spy(nn.Module):
    """A network of which it is known what it keeps: the argument of a sine, and of a square."""

    config = None

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return x.sin().square() + 0 * label[:, None, None, None]


def test_what_a_convolution_network_keeps_grows_with_the_pixels() -> None:
    narrow, wide = Footprint.of(prior(16)), Footprint.of(prior(32))
    assert abs(narrow.square) * 128**2 < 0.05 * narrow.linear
    assert 1.5 < wide.linear / narrow.linear < 2.2
    # each level keeps its features in single precision: 16 at a quarter, 16 at a sixteenth
    assert narrow.linear > 4 * (16 / 4 + 16 / 16)


def test_attention_adds_a_square() -> None:
    plain, attentive = Footprint.of(prior()), Footprint.of(prior(attention=(1,)))
    tokens = (64 / 4) ** 2
    # the matrix of its weights in single precision, at least
    assert attentive.bytes(64**2) - plain.bytes(64**2) > 4 * tokens**2
    assert attentive.square > 10 * abs(plain.square)


def test_a_known_network() -> None:
    """Two arguments of 3 channels in single precision, and a few for the preconditioning."""
    model = ScorePrior(Spy(), EDMSDE(), (3, 16, 16)).requires_grad_(False)
    found = Footprint.of(model)
    assert 2 * 3 * 4 <= found.linear <= 6 * 3 * 4 and found.square == pytest.approx(0, abs=1e-3)


def test_an_average_keeps_more() -> None:
    one = prior()
    assert Footprint.of(EquivariantPrior(one, "turns")).linear > 3 * Footprint.of(one).linear


class TestBatches:
    def test_they_shrink_with_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, shape = prior(), (3, 64, 64)
        found = []
        for available in (240e6, 280e6, 500e6, 1e12):
            free(monkeypatch, available)
            found.append(fitting_batch(model, shape, 64, probes=4))
        assert found == sorted(found) and 1 <= found[0] < found[1] < 64 == found[-1]

    def test_larger_pictures_and_more_probes_take_more(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free(monkeypatch, 1e9)
        model = prior()
        small = fitting_batch(model, (3, 64, 64), 1000, probes=4)
        assert fitting_batch(model, (3, 128, 128), 1000, probes=4) == pytest.approx(
            small / 4, abs=1
        )
        assert fitting_batch(model, (3, 64, 64), 1000, probes=16) < small
        assert fitting_batch(model, (3, 64, 64), 1000, probes=4, k=100) < small

    def test_a_single_picture_that_does_not_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        free(monkeypatch, 1e9)
        for probes in (4, None):
            with pytest.raises(InputError, match=r"9600x9000 takes about .* GB .* 0\.8 GB are"):
                fitting_batch(prior(), (3, 9000, 9600), 16, probes)


class TestDraws:
    def test_the_advice_is_followed_by_a_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        free(monkeypatch, 1e9)
        model, shape = prior(), (3, 64, 64)
        check_draws(model, shape, 16)
        with pytest.raises(InputError, match="lower --n to") as error:
            check_draws(model, shape, 10**9)
        most = int(str(error.value).rsplit(" ", 1)[1])
        check_draws(model, shape, most)
        with pytest.raises(InputError):
            check_draws(model, shape, most + 1)

    def test_a_draw_of_any_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        free(monkeypatch, 1e9)
        with pytest.raises(InputError, match=r"1 draws of 1000000000x1000000000 .* lower --size"):
            check_draws(prior(), (3, 10**9, 10**9), 1)
        assert math.isfinite(Footprint.of(prior()).bytes(10**18))
