"""Networks for signals, pictures and volumes from one configuration."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoresde import EDMSDE, ScorePrior
from scoresde.networks import DiT, DiTConfig, UNet, UNetConfig
from scoresde.networks.axes import VolumeConvolution, channels_last, fold, pad_to_multiple, unfold
from tests.conftest import F64, randn, seeded

SIZES: dict[int, list[tuple[int, ...]]] = {
    1: [(1,), (7,), (16,), (50,)],
    2: [(1, 9), (13, 7)],
    3: [(1, 1, 1), (5, 3, 8)],
}
ANY_SIZE = [(d, size) for d, sizes in SIZES.items() for size in sizes]


def perturbed(network: nn.Module, dtype: torch.dtype = F64) -> Any:
    """The network with random weights: layers that start at zero would hide the others."""
    generator = seeded(3)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return network.to(dtype).eval().requires_grad_(False)


def unet(dimensions: int, patch: int = 2) -> UNet:
    return UNet(
        UNetConfig(
            channels=2,
            patch=patch,
            widths=(8, 64),
            blocks=(1, 2),
            attention=(1,),
            embedding=16,
            extra=4,
            dimensions=dimensions,
        )
    )


def dit(dimensions: int) -> DiT:
    return DiT(DiTConfig(2, patch=2, width=32, depth=2, heads=2, dimensions=dimensions, extra=4))


class TestPicturesAreAsBefore:
    """Names, shapes and a result that were recorded before there were other dimensions."""

    def test_names_and_shapes_of_the_weights(self) -> None:
        block = {"film.weight", "film.bias"} | {
            f"conv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")
        }
        attention = {"norm.weight", "norm.bias", "qkv.weight", "temperature"}
        attention |= {"proj.weight", "proj.bias"}
        expected = {f"embedding.mlp.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
        for layer in ("stem", "head", "down.0", "up.0"):
            expected |= {f"{layer}.weight", f"{layer}.bias"}
        for place in ("down_blocks.0.0", "down_blocks.1.0", "down_blocks.1.1", "up_blocks.0.0"):
            expected |= {f"{place}.{name}" for name in block}
        expected |= {f"down_blocks.1.2.{name}" for name in attention}
        weights = unet(2).state_dict()
        assert set(weights) == expected
        shapes = {
            "stem.weight": (8, 24, 3, 3),
            "down.0.weight": (64, 8, 2, 2),
            "up.0.weight": (64, 8, 2, 2),
            "down_blocks.1.2.qkv.weight": (192, 64, 1, 1),
            "down_blocks.1.2.temperature": (2, 1, 1),
            "head.weight": (8, 8, 3, 3),
        }
        assert {name: tuple(weights[name].shape) for name in shapes} == shapes

    def test_a_recorded_result(self) -> None:
        out = perturbed(unet(2))(randn(2, 6, 9, 7, seed=1), torch.tensor([-1.0, 0.5], dtype=F64))
        recorded = [
            -0.6769406079914112,
            -0.5851461294777849,
            -0.061999525188529414,
            0.7679498424135591,
        ]
        # sums of a few hundred terms, a dozen layers deep
        torch.testing.assert_close(
            out[0, 0, 0, :4], torch.tensor(recorded, dtype=F64), rtol=1e-11, atol=1e-12
        )
        assert float(out.norm()) == pytest.approx(14.193829680680773, rel=1e-11)


def along_a_new_axis(
    weights: dict[str, Tensor], like: dict[str, Tensor], d: int, patch: int
) -> dict[str, Tensor]:
    """Weights of a network with one more axis than d, which has the length 1 and comes first.

    Of 3-wide kernels the middle and of 2-wide ones the first entry along that axis counts, and of
    the folded channels those of the first place in a block.
    """
    found = {}
    for name, value in weights.items():
        wide = torch.zeros_like(like[name])
        if value.shape == wide.shape:
            found[name] = value
            continue
        if name.startswith(("stem", "head")):
            axis = 0 if name.startswith("head") else 1
            view = wide.unflatten(axis, (-1, patch, patch**d)).select(axis + 1, 0)
            if value.ndim > 1:  # no bias
                view = view.select(view.ndim - d - 1, 1)
            view.copy_(value.unflatten(axis, (-1, patch**d)))
        else:
            wide.select(2, 1 if wide.shape[2] == 3 else 0).copy_(value)
        found[name] = wide
    return found


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("d", [1, 2])
def test_a_network_is_one_of_more_axes_with_one_of_length_one(d: int, patch: int) -> None:
    low, high = perturbed(unet(d, patch)), unet(d + 1, patch).double()
    high.load_state_dict(along_a_new_axis(low.state_dict(), high.state_dict(), d, patch))
    x, label = randn(2, 6, *(11, 5)[:d]), torch.tensor([-1.0, 0.5], dtype=F64)
    torch.testing.assert_close(high(x[:, :, None], label)[:, :, 0], low(x, label))


@pytest.mark.parametrize("build", [unet, dit])
@pytest.mark.parametrize(("d", "size"), ANY_SIZE)
def test_samples_of_any_size(build: type, d: int, size: tuple[int, ...]) -> None:
    x = randn(2, 6, *size)
    out = perturbed(build(d))(x, torch.tensor([-1.0, 0.5], dtype=F64))
    assert out.shape == (2, 2, *size)
    assert bool(out.isfinite().all()) and float(out.std()) > 0


@pytest.mark.parametrize("build", [unet, dit])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_every_parameter_gets_a_gradient(build: type, d: int) -> None:
    network = perturbed(build(d)).requires_grad_()
    x = randn(2, 6, *[6, 5, 4][:d])
    network(x, torch.tensor([0.1, 0.4], dtype=F64)).square().mean().backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("build", [unet, dit])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_without_gradients_the_result_is_the_same(build: type, d: int) -> None:
    network, x, label = perturbed(build(d)), randn(1, 6, *[6, 5, 4][:d]), torch.zeros(1, dtype=F64)
    with torch.no_grad():
        fast = network(x, label)
    torch.testing.assert_close(fast, network(x.requires_grad_(), label).detach())


@pytest.mark.parametrize("build", [unet, dit])
@pytest.mark.parametrize("d", [1, 3])
def test_a_copy_in_bfloat16_rounds(build: type, d: int) -> None:
    """Its error is that of a few roundings by 2^-9, not zero and not more."""
    network, x = perturbed(build(d), torch.float32), randn(2, 6, *[16, 5, 8][:d]).float()
    label = torch.tensor([-1.0, 0.5])
    exact, rounded = network(x, label), network.in_dtype(torch.bfloat16)(x, label)
    error = float((rounded.float() - exact).norm() / exact.norm())
    assert 2**-12 < error < 10 * 2**-8


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("patch", [1, 2, 3])
def test_folding(d: int, patch: int) -> None:
    """Position i of an axis lands in block i // p, and i % p is a part of the channel."""
    x = randn(2, 3, *[patch * n for n in (2, 4, 1)[:d]])
    folded = fold(x, patch)
    for place in itertools.product(*(range(n) for n in x.shape[2:])):
        within = 0
        for i in place:
            within = within * patch + i % patch
        for channel in range(3):
            block = tuple(i // patch for i in place)
            there: Any = (slice(None), channel * patch**d + within, *block)
            here: Any = (slice(None), channel, *place)
            assert torch.equal(folded[there], x[here])
    assert torch.equal(unfold(folded, patch), x)


def test_padding_repeats_the_end() -> None:
    x = randn(1, 1, 2, 3, 4)
    padded = pad_to_multiple(x, 4)
    rows = [torch.arange(4).clamp(max=n - 1) for n in (2, 3, 4)]
    assert torch.equal(padded, x[:, :, rows[0]][:, :, :, rows[1]][..., rows[2]])
    assert pad_to_multiple(x[..., :2, :], 2) is not x and pad_to_multiple(padded, 2) is padded


def test_layout_of_the_weights() -> None:
    for d, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        network = unet(d)
        before = {k: v.clone() for k, v in network.state_dict().items()}
        channels_last(network)
        weight = network.state_dict()["stem.weight"]
        assert weight.is_contiguous(memory_format=layout)
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("size", [(2, 3, 3), (2, 8, 8), (4, 4, 4)])
def test_gradient_of_weights_of_volumes_in_bfloat16(size: tuple[int, ...]) -> None:
    """PyTorch leaves a part unwritten on processors with bfloat16, if an axis has length 2."""
    layer, x = VolumeConvolution(16, 16, 3, padding=1), randn(4, 16, *size).float()
    cotangent = randn(4, 16, *size, seed=1).float()
    (exact,) = torch.autograd.grad(layer(x), layer.weight, cotangent)
    for _ in range(5):
        junk = torch.full((64_000,), 1e30)
        del junk  # memory that the gradient may be given
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        (found,) = torch.autograd.grad(out, layer.weight, cotangent.to(out.dtype))
        assert float((found - exact).norm() / exact.norm()) < 0.02


class TestPrior:
    @pytest.mark.parametrize("build", [UNetConfig, DiTConfig])
    def test_any_length(self, build: type) -> None:
        network = (UNet if build is UNetConfig else DiT)(build(channels=1, dimensions=1))
        prior = ScorePrior(network, EDMSDE(), (1, 64), sigma_data=0.5)
        # an untrained network is the best linear denoiser
        x_t = randn(2, 1, 37).float()
        torch.testing.assert_close(prior.denoise(x_t, 0.5), 0.5 * x_t)
        assert prior.accepts((1, 5)) and not prior.accepts((2, 64)) and not prior.accepts((64,))
        with pytest.raises(ValueError, match=r"shape \(1, any length\), x_t has \(1, 8, 8\)"):
            prior.denoise(torch.zeros(2, 1, 8, 8), 0.5)

    def test_volumes(self) -> None:
        network = UNet(UNetConfig(1, widths=(8,), blocks=1, attention=(), dimensions=3))
        prior = ScorePrior(network, EDMSDE(), (1, 4, 4, 4))
        assert prior.accepts((1, 3, 9, 2))
        with pytest.raises(ValueError, match=r"\(1, any depth, any height, any width\)"):
            prior.denoise(torch.zeros(2, 1, 8, 8), 0.5)

    def test_the_shape_fits_the_network(self) -> None:
        network = UNet(UNetConfig(1, widths=(8,), attention=(), dimensions=1))
        with pytest.raises(ValueError, match=r"dimensions=1 takes .* 2 axes.* \(1, 8, 8\)"):
            ScorePrior(network, EDMSDE(), (1, 8, 8))

    def test_fourier_features(self) -> None:
        config = UNetConfig(2, widths=(8,), blocks=1, attention=(), extra=8, dimensions=1)
        network = perturbed(UNet(config))
        prior = ScorePrior(network, EDMSDE(), (2, 16), fourier=(1, 2))
        x_t = randn(3, 2, 11)
        before = prior.denoise(x_t, 0.5)
        network.stem.weight[:, 4:] = 0  # behind the channels of the folded signal
        assert before.shape == x_t.shape and not torch.equal(before, prior.denoise(x_t, 0.5))


class TestDiT:
    def test_starts_at_zero(self) -> None:
        assert not dit(1)(randn(2, 6, 9).float(), torch.zeros(2)).any()

    def test_only_differences_of_positions_count(self) -> None:
        """A shift of all positions changes nothing, another distance between them does."""
        network = perturbed(dit(1))
        block, h, features = network.blocks[0], randn(1, 5, 32), randn(1, 32, seed=1)
        angles = randn(1, 8, seed=2)  # of a step by one position
        steps = torch.arange(5, dtype=F64)[:, None]
        here, there = (block(h, features, (steps + shift) * angles) for shift in (0, 7.3))
        torch.testing.assert_close(here, there)
        assert not torch.allclose(here, block(h, features, 2 * steps * angles))

    def test_attention_is_softmax_of_cosines(self) -> None:
        """A block with only its attention, against the formula."""
        network = perturbed(dit(1))
        block, h, features = network.blocks[0], randn(1, 4, 32), randn(1, 32, seed=1)
        block.modulation.weight.zero_()
        bias = torch.zeros(6, 32, dtype=F64)
        bias[2] = 1  # the gate of the attention
        block.modulation.bias.copy_(bias.flatten())
        found = block(h, features, torch.zeros(4, 1, dtype=F64)) - h
        z = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        q, k, v = (z @ block.qkv.weight.T + block.qkv.bias)[0].split(32, dim=1)
        parts = []
        for head in (slice(0, 16), slice(16, 32)):
            cosines = F.cosine_similarity(q[:, None, head], k[None, :, head], dim=-1)
            temperature = block.temperature[head.start // 16, 0, 0]
            parts.append((cosines * temperature).softmax(1) @ v[:, head])
        expected = torch.cat(parts, 1) @ block.proj.weight.T + block.proj.bias
        torch.testing.assert_close(found[0], expected)

    def test_every_place_can_reach_every_other(self) -> None:
        x = randn(1, 6, 40)
        changed = x.clone()
        changed[..., 0] += 1
        network, label = perturbed(dit(1)), torch.zeros(1, dtype=F64)
        assert bool(((network(x, label) - network(changed, label)).abs() > 0).all())

    @pytest.mark.parametrize(
        "settings",
        [{"width": 30}, {"heads": 0}, {"depth": 0}, {"dimensions": 4}, {"width": 8, "heads": 4}],
        ids=str,
    )
    def test_bad_sizes(self, settings: dict) -> None:
        with pytest.raises(ValueError, match="DiT"):
            DiTConfig(**settings)


@pytest.mark.parametrize("dimensions", [0, 4, 1.5, True])
def test_bad_dimensions_of_a_unet(dimensions: object) -> None:
    with pytest.raises(ValueError, match="dimensions of a UNet"):
        UNetConfig(dimensions=dimensions)  # type: ignore[arg-type]
