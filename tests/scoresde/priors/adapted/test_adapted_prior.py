"""Channels, conditions, sizes, gradients and levels of an adapted network."""

import math

import pytest
import torch
from torch import Tensor, nn

from problems.linalg.broadcast import expand_like
from scoresde import (
    EDMSDE,
    VPSDE,
    AdaptedPrior,
    Convention,
    CosineVPSDE,
    DenoiserPrior,
    FlowMatchingSDE,
    TiledPrior,
)
from scoresde.sde import SDE
from solvers.jacobian import value_and_products
from tests.conftest import F64, randn
from tests.laws import each_sde
from tests.scoresde.priors.adapted.disguise import Disguise, ddpm, mixture

BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=F64) / 16


def smooth(x: Tensor) -> Tensor:
    """A 3x3 blur of every channel, with repeated edges."""
    C = x.shape[1]
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return nn.functional.conv2d(padded, BLUR.to(x).expand(C, 1, 3, 3), groups=C)


@each_sde
def test_any_sde(sde: SDE) -> None:
    """Under any SDE of the prior the denoiser is that of the mixture, whatever the network's."""
    convention = Convention("v", CosineVPSDE(1e-5), "t", value_range=(0.0, 1.0))
    exact = mixture().with_sde(sde)
    prior = AdaptedPrior(Disguise(mixture(), convention), convention, (3,), sde)
    for t in torch.linspace(sde.t_min, sde.t_max, 9, dtype=F64)[1:-1]:
        x_t = sde.alpha(t) * exact.sample(4) + sde.sigma(t) * randn(4, 3)
        wanted = exact.denoise(x_t, t)
        torch.testing.assert_close(prior.denoise(x_t, t), wanted, rtol=0, atol=1e-8)
        torch.testing.assert_close(prior.score(x_t, t), exact.score(x_t, t), rtol=1e-5, atol=1e-8)


def test_physical_units() -> None:
    """Noise is scaled with the values: -1000 and 3000 stand for -1 and 1."""
    exact = mixture()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return 2000 * exact.denoise((x - 1000) / 2000, sigma / 2000) + 1000

    prior = DenoiserPrior(denoise, (3,), value_range=(-1000.0, 3000.0), trained=(1.0, 1e6))
    assert prior.trained == (1 / 2000, 500.0)
    x = randn(5, 3)
    torch.testing.assert_close(prior.denoise(x, 0.3), exact.denoise(x, 0.3), rtol=0, atol=1e-10)


def test_pure_noise() -> None:
    """At the end of a flow there is no signal: x_0 is the state minus the velocity."""
    convention = Convention("velocity", FlowMatchingSDE(), "t", trained=(1e-3, math.inf))
    seen: list[Tensor] = []

    def network(z: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return 0.25 * z

    prior = AdaptedPrior(network, convention, (2,), FlowMatchingSDE())
    x = randn(3, 2)
    torch.testing.assert_close(prior.denoise(x, 1.0), 0.75 * x)
    assert seen[0].tolist() == [1.0] * 3
    with pytest.raises(ValueError, match="leaves no signal at t = 1"):
        AdaptedPrior(network, Convention("eps", ddpm(), "index"), (2,), FlowMatchingSDE()).denoise(
            x, 1.0
        )


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm"])
def test_beyond_the_training_the_label_is_held(prediction: str) -> None:
    """The label is that of the nearest level, and at no noise the input comes back."""
    convention = Convention(
        prediction, EDMSDE(), "sigma", value_range=(0.0, 1.0), trained=(0.1, 2.0)
    )
    labels: list[float] = []

    def network(z: Tensor, sigma: Tensor) -> Tensor:
        labels.extend(sigma.tolist())
        return z * (1 if prediction == "x0" else 0)

    prior = AdaptedPrior(network, convention, (2,))
    assert prior.trained == (0.2, 4.0)
    x = randn(5, 2)
    t = torch.tensor([0.0, 0.02, 1.0, 4.0, 70.0], dtype=F64)
    result = prior.denoise(x, t)
    assert labels == pytest.approx([0.1, 0.1, 0.5, 2.0, 2.0])
    assert bool(torch.isfinite(result).all())
    torch.testing.assert_close(result[0], x[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (9, 11), (3, 5), (16, 1)])
@pytest.mark.parametrize("passing", ["vector", "image", "channel", "nothing"])
def test_sizes_and_labels(size: tuple[int, int], passing: str) -> None:
    """Other sizes are padded by repeated edges, and the label arrives in its form."""

    def network(x: Tensor, *label: Tensor) -> Tensor:
        assert x.shape[2] % 4 == 0
        assert x.shape[3] % 4 == 0
        level = torch.full((len(x), 1, 1, 1), 0.15, dtype=x.dtype)
        if passing == "channel":
            assert not label
            assert x.shape[1] == 3
            level, x = x[:, 2:], x[:, :2]
        elif passing != "nothing":
            assert label[0].shape == ((len(x),) if passing == "vector" else (len(x), 1, 1, 1))
            level = expand_like(label[0], x)
        return smooth(x) * (1 - level)

    convention = Convention(
        "x0",
        EDMSDE(),
        "sigma",
        passing=passing,  # type: ignore[arg-type]
        multiple=4,
        value_range=(0.0, 1.0),
    )
    prior = AdaptedPrior(network, convention, (2, 8, 8))
    x = randn(3, 2, *size)
    # repeating the edge is what the blur does at the border: padding leaves no trace
    wanted = 2 * smooth((x + 1) / 2) * (1 - 0.15) - 1
    torch.testing.assert_close(prior.denoise(x, 0.3), wanted, rtol=0, atol=1e-12)


def test_conditions_and_extra_outputs() -> None:
    """Tensors are expanded to the batch, other values passed; a variance is dropped."""

    def network(x: Tensor, index: Tensor, y: Tensor, mode: str) -> Tensor:
        assert tuple(y.shape) == (len(x),)
        assert mode == "plain"
        return torch.cat([x * expand_like(y, x), torch.full_like(x, math.nan)], 1)

    convention = Convention("x0", ddpm(), "index", extra_outputs=2)
    conditions = {"y": torch.tensor([3]), "mode": "plain"}
    prior = AdaptedPrior(network, convention, (2, 4, 4), VPSDE(), conditions)
    x = randn(5, 2, 4, 4)
    t = torch.tensor(0.5, dtype=F64)
    torch.testing.assert_close(prior.denoise(x, t), 3 * x, rtol=1e-4, atol=1e-4)
    assert "condition_y" in dict(prior.named_buffers())
    assert prior.with_sde(EDMSDE()).denoise(x, 0.5).shape == x.shape
    plain = AdaptedPrior(network, Convention("x0", ddpm(), "index"), (2, 4, 4), None, conditions)
    with pytest.raises(ValueError, match="say extra_outputs=2"):
        plain.denoise(x, 0.5)


def test_the_network_runs_in_the_dtype_of_its_weights() -> None:
    """Input and label are converted, and the result is in the dtype of x_t."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            assert x.dtype == sigma.dtype == self.layer.weight.dtype
            return self.layer(x)

    prior = DenoiserPrior(Network().half(), (2,))
    assert prior.dtype == torch.float32
    assert prior.denoise(randn(3, 2), 0.5).dtype == F64
    assert DenoiserPrior(Network().double(), (2,)).dtype == F64


def test_jacobian_products() -> None:
    """Products with the Jacobian, one evaluation for many, against finite differences."""
    convention = Convention("v", VPSDE(), "t", value_range=(0.0, 1.0), multiple=4)
    weights = randn(2, 2, 3, 3)

    def network(z: Tensor, t: Tensor) -> Tensor:
        return nn.functional.conv2d(z, weights.to(z), padding=1).tanh() * expand_like(t, z)

    prior = AdaptedPrior(network, convention, (2, 4, 4))
    x, v, h = randn(1, 2, 5, 3, seed=1), randn(2, 1, 2, 5, 3, seed=2), 1e-6
    _, products = value_and_products(lambda x_t: prior.denoise(x_t, 0.7), x)
    direction = randn(1, 2, 5, 3, seed=3)
    slope = (prior.denoise(x + h * direction, 0.7) - prior.denoise(x - h * direction, 0.7)) / (
        2 * h
    )
    found = (products(v) * direction).flatten(1).sum(1)
    torch.testing.assert_close(found, (v * slope).flatten(1).sum(1), rtol=1e-6, atol=1e-7)


def test_a_network_without_gradient_is_refused() -> None:
    """Otherwise the Jacobian would be that of the state alone."""

    @torch.no_grad()
    def network(z: Tensor, t: Tensor) -> Tensor:
        return 0.5 * z

    prior = AdaptedPrior(network, Convention("eps", VPSDE(), "t"), (2,))
    assert prior.denoise(randn(1, 2), 0.5).shape == (1, 2)
    with pytest.raises(ValueError, match=r"remove torch.no_grad\(\)"):
        prior.denoise(randn(1, 2).requires_grad_(), 0.5)


def test_one_size_and_tiles() -> None:
    """A network of one size names tiling, and tiles of its size take larger pictures."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        assert tuple(x.shape[2:]) == (8, 8)
        return 0.5 * x

    prior = DenoiserPrior(denoise, (1, 8, 8), fixed_size=True)
    with pytest.raises(ValueError, match=r"TiledPrior\(prior, tile=8\), .* --tile 8"):
        prior.denoise(torch.zeros(1, 1, 12, 20), 0.5)
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\) alone, x_t has \(1, 4, 8\)"):
        prior.denoise(torch.zeros(1, 1, 4, 8), 0.5)
    tiled = TiledPrior(prior, tile=8, overlap=2)
    x = randn(2, 1, 12, 20)
    torch.testing.assert_close(tiled.denoise(x, 0.5), 0.5 * x)
    with pytest.raises(ValueError, match="samples of shape"):
        tiled.denoise(torch.zeros(1, 1, 4, 20), 0.5)


def test_wrong_outputs() -> None:
    """One sentence says what the network returned."""
    convention = Convention("x0", EDMSDE(), "sigma")
    for output, message in {
        (1, 2): "returned tuple, not a tensor",
        None: "returned NoneType",
    }.items():
        prior = AdaptedPrior(lambda *_, value=output: value, convention, (2,))
        with pytest.raises(ValueError, match=message):
            prior.denoise(randn(1, 2), 0.5)
    with pytest.raises(ValueError, match=r"returned shape \(1,\), expected \(1, 2\)"):
        AdaptedPrior(lambda x, s: s, convention, (2,)).denoise(randn(1, 2), 0.5)
    with pytest.raises(ValueError, match="made of a callable"):
        AdaptedPrior(3, convention, (2,))  # type: ignore[arg-type]
