"""Networks of a user: saved and read with consent, never imported because a file says so."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scoresde import EDMSDE, InputError, ScorePrior, load_prior, save_prior
from scoresde.data.signals import Signals
from scoresde.files import read_tensors, write_tensors
from scoresde.networks import DiT, DiTConfig, UNet, UNetConfig
from scoresde.priors.checkpoint import NETWORKS, register_network
from scoresde.training import TrainConfig, train
from tests.conftest import randn


@dataclass(frozen=True)
class OwnConfig:
    """Sizes of an :class:`Own`."""

    channels: int = 1
    width: int = 4
    extra: int = 0
    dimensions: int = 1


class Own(nn.Module):
    """A convolution with a batch normalisation, whose buffers are not all floating-point."""

    def __init__(self, config: OwnConfig) -> None:
        super().__init__()
        self.config, self.dimensions = config, config.dimensions
        self.layers = nn.Sequential(
            nn.Conv1d(config.channels, config.width, 3, padding=1),
            nn.BatchNorm1d(config.width),
            nn.Conv1d(config.width, config.channels, 3, padding=1),
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network; the noise does not matter."""
        return self.layers(x)


class Unconfigured(nn.Module):
    """A network that says nothing of its sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network; the noise does not matter."""
        return self.layer(x)


@pytest.fixture
def registered() -> Iterator[None]:
    register_network("Own", Own, OwnConfig)
    yield
    del NETWORKS["Own"]


def own_prior() -> ScorePrior:
    network = Own(OwnConfig(width=6))
    network(5 * randn(4, 1, 9).float(), torch.zeros(4))  # so that the buffers have moved
    return ScorePrior(network.eval(), EDMSDE(), (1, 9), sigma_data=0.7, card={"name": "own"})


def assert_same(left: ScorePrior, right: ScorePrior) -> None:
    x_t = randn(2, *left.shape).float()
    assert torch.equal(left.denoise(x_t, 0.5), right.denoise(x_t, 0.5))
    assert (left.shape, left.sigma_data) == (right.shape, right.sigma_data)
    assert left.card.keys() == right.card.keys()


@pytest.mark.usefixtures("registered")
def test_a_registered_network(tmp_path: Path) -> None:
    prior = own_prior()
    save_prior(prior, tmp_path / "own.safetensors")
    back = load_prior(tmp_path / "own.safetensors")
    assert_same(back, prior)
    assert isinstance(back.network, Own) and back.network.config == OwnConfig(width=6)
    assert int(back.network.state_dict()["layers.1.num_batches_tracked"]) == 1
    assert back.accepts((1, 30))


@pytest.mark.usefixtures("registered")
def test_a_registered_network_is_trained(tmp_path: Path) -> None:
    config = TrainConfig(steps=2, batch=3, crops=(8,), precision="no", network=OwnConfig())
    trained = train(Signals(randn(5, 8), 1), tmp_path, config, cpu=True, log_every=None)
    assert_same(trained, load_prior(tmp_path / "prior.safetensors"))


def test_a_given_network(tmp_path: Path) -> None:
    prior = own_prior()
    save_prior(prior, tmp_path / "own.safetensors")
    given = Own(OwnConfig(width=6))
    back = load_prior(tmp_path / "own.safetensors", network=given)
    assert back.network is given
    assert_same(back, prior)
    with pytest.raises(InputError, match=r"the given network needs \(4, 1, 3\)"):
        load_prior(tmp_path / "own.safetensors", network=Own(OwnConfig()))
    with pytest.raises(InputError, match="lacks weight layer"):
        load_prior(tmp_path / "own.safetensors", network=Unconfigured())


def test_a_network_without_configuration(tmp_path: Path) -> None:
    prior = ScorePrior(Unconfigured(), EDMSDE(), (3,))
    save_prior(prior, tmp_path / "own.safetensors")
    assert_same(load_prior(tmp_path / "own.safetensors", network=Unconfigured()), prior)


def test_a_file_cannot_name_code(tmp_path: Path) -> None:
    """Neither a module that exists nor one of the file's choice is imported."""
    path = tmp_path / "own.safetensors"
    save_prior(own_prior(), path)
    with pytest.raises(InputError, match=r"its network is '.*Own', .*load_prior\(\.\.\., network="):
        load_prior(path)
    tensors, header = read_tensors(path)
    header["network"]["kind"] = "module:antigravity.Own"
    write_tensors(path, tensors, header)
    with pytest.raises(InputError, match=r"'antigravity\.Own'"):
        load_prior(path)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("UNet", OwnConfig, "'UNet' is that of a network of scoresde"),
        ("my net", OwnConfig, "got 'my net'"),
        ("Own", dict, "must be a dataclass"),
        ("Own", OwnConfig(), "must be a dataclass"),
    ],
)
def test_bad_registrations(kind: str, config: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_network(kind, Own, config)
    assert set(NETWORKS) == {"DiT", "Perceptron", "UNet"}


@pytest.mark.parametrize(
    ("network", "shape", "other", "message"),
    [
        (
            UNet(UNetConfig(1, widths=(8,), attention=(), dimensions=1)),
            (1, 9),
            [1, 9, 9],
            "signals",
        ),
        (DiT(DiTConfig(2, width=16, depth=1, heads=1)), (2, 8, 8), [3, 8, 8], "images of 2"),
        (DiT(DiTConfig(1, width=16, depth=1, heads=1, dimensions=3)), (1, 4, 4, 4), [1], "volumes"),
    ],
    ids=["signals", "pictures", "volumes"],
)
def test_networks_of_this_package(
    network: nn.Module, shape: tuple[int, ...], other: list[int], message: str, tmp_path: Path
) -> None:
    for p in network.parameters():
        nn.init.normal_(p, std=0.1)
    prior = ScorePrior(network, EDMSDE(), shape)
    save_prior(prior, tmp_path / "p.safetensors")
    assert_same(load_prior(tmp_path / "p.safetensors", precision="fp32"), prior)
    tensors, header = read_tensors(tmp_path / "p.safetensors")
    write_tensors(tmp_path / "q.safetensors", tensors, header | {"shape": other})
    with pytest.raises(InputError, match=f"do not fit a network that takes {message}"):
        load_prior(tmp_path / "q.safetensors")
