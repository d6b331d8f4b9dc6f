"""Tiles: their weights and places, derivatives, and time that is linear in the image."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from scoresde import EDMSDE, CountingPrior, Prior, ScorePrior, TiledPrior
from scoresde.defaults import TILE
from scoresde.networks import UNet, UNetConfig
from scoresde.priors import tiled as tiled_module
from tests.conftest import seeded

SIZES = [(40, 24), (16, 41), (33, 47), (17, 17), (64, 65)]


def prior() -> ScorePrior:
    """A small network with random weights in double precision."""
    network, generator = UNet(UNetConfig(1, widths=(8,), blocks=1, attention=())), seeded()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return ScorePrior(network, EDMSDE(), (1, 8, 8)).double().requires_grad_(False)


def images(height: int, width: int, n: int = 2) -> Tensor:
    return torch.randn(n, 1, height, width, generator=seeded(1), dtype=torch.float64)


def by_padding(tiled: TiledPrior, x: Tensor, t: Tensor) -> Tensor:
    """The definition: a weighted mean of tiles, each padded to the size of the image."""
    height, width = x.shape[-2:]
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:1, :1])
    for rows, columns in tiled._boxes(x.shape):
        across = tiled._ramp(columns, width, x)
        ramp = tiled._ramp(rows, height, x)[:, None] * across
        around = (columns.start, width - columns.stop, rows.start, height - rows.stop)
        total = total + pad(ramp * tiled.prior.denoise(x[..., rows, columns], t), around)
        weights = weights + pad(ramp, around)
    return total / weights


@pytest.mark.parametrize("size", SIZES)
def test_is_the_weighted_mean_of_the_tiles(size: tuple[int, int]) -> None:
    """Values, products with the Jacobian, and their derivative."""
    tiled, x, t = TiledPrior(prior(), 16, 4), images(*size), torch.tensor([0.3, 0.9]).double()
    v, found = images(*size).flip(0), []
    for f in (tiled.denoise, lambda u, t: by_padding(tiled, u, t)):
        with torch.no_grad():
            without = f(x, t)
        u = x.clone().requires_grad_()
        D = f(u, t)
        product = torch.autograd.grad(D, u, v, create_graph=True)[0]
        second = torch.autograd.grad(product.square().sum(), u)[0]
        found.append((without, D.detach(), product.detach(), second))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_results_do_not_depend_on_what_is_kept(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles for which there is room are evaluated once, the others again for each product."""
    monkeypatch.setattr(tiled_module, "TILE", 16)  # tiles go through the network one by one
    x, v, inner = images(40, 24), images(40, 24).flip(0), CountingPrior(prior())
    products = 3

    def found(room: int) -> tuple[list[Tensor], int]:
        inner.nfe = 0
        u = x.clone().requires_grad_()
        D = TiledPrior(inner, 16, 4, room).denoise(u, 0.5)
        first = [
            torch.autograd.grad(D, u, (i + 1) * v, retain_graph=True)[0] for i in range(products)
        ]
        evaluations = inner.nfe
        once = torch.autograd.grad(D, u, v, create_graph=True)[0]
        second = torch.autograd.grad(once.square().sum(), u)[0]
        return [D.detach(), *first, second], evaluations

    tiled, t = TiledPrior(inner, 16, 4), torch.tensor([0.5, 0.5]).double()
    boxes = tiled._boxes(x.shape)
    tiles = tiled_module._Tiles(tiled, t, boxes, [], [slice(i, i + 1) for i in range(len(boxes))])
    sizes = [tiles._recorded(x, group).size for group in tiles.groups]
    kept = int(share * len(boxes))
    ours, evaluations = found(sum(sizes[:kept]))
    expected, without = found(0)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))
    assert without == len(boxes) * (1 + products)
    assert evaluations == without - kept * products


@pytest.mark.slow
def test_gradcheck() -> None:
    """Finite differences, to second order."""
    tiled = TiledPrior(prior(), 4, 1)
    x = images(4, 7, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: tiled.denoise(u, 0.5), x)
    assert torch.autograd.gradgradcheck(lambda u: tiled.denoise(u, 0.5), x)


class Sizes(Prior):
    """A prior that notes the shape of its batches."""

    def __init__(self) -> None:
        super().__init__(EDMSDE(), (1, 8, 8))
        self.seen: list[tuple[int, ...]] = []

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x_t),)
        self.seen.append(tuple(x_t.shape))
        return x_t * t[:, None, None, None]


@pytest.mark.parametrize("gradients", [False, True])
def test_small_tiles_are_evaluated_together(gradients: bool) -> None:
    """At most as many as have the pixels of one large tile, and each with its own time."""
    inner = Sizes()
    x, t = images(544, 250).float().requires_grad_(gradients), torch.tensor([0.5, 2.0])
    D = TiledPrior(inner, 64, 16).denoise(x, t)
    torch.testing.assert_close(D, x * t[:, None, None, None])
    assert sum(n for n, *_ in inner.seen) == 2 * 11 * 5
    # the last ones of an axis end with the image
    assert {shape[1:] for shape in inner.seen} == {(1, 64, 64), (1, 64, 58)}
    assert max(n for n, *_ in inner.seen) == TILE**2 // 64**2 // 2 * 2

    inner.seen.clear()
    TiledPrior(inner).denoise(torch.zeros(1, 1, 1024, 1024), 1.0)
    assert inner.seen == 4 * [(1, 1, 536, 536)]  # large tiles are not


@pytest.mark.parametrize("overlap", [4, 8])
@pytest.mark.parametrize("size", range(17, 90))
def test_tiles_are_as_few_and_as_small_as_can_be(size: int, overlap: int) -> None:
    tiled = TiledPrior(prior(), 16, overlap)
    length = tiled._length(size)
    spans = tiled._spans(size, length, ragged=overlap == 8)
    assert spans[0].start == 0 and spans[-1].stop == size
    assert all(before.stop - after.start >= overlap for before, after in itertools.pairwise(spans))
    assert len(spans) == math.ceil((size - overlap) / (16 - overlap))
    if length > 8:  # 8 pixels less would not cover the image
        assert len(spans) * (length - 8) - overlap * (len(spans) - 1) < size
    if overlap == 8:
        assert all(span.start % 8 == 0 for span in spans)
        assert all(span.stop - span.start == length for span in spans[:-1])


@pytest.mark.parametrize("size", [(200, 331), (193, 250), (97, 300)])
def test_a_network_that_does_not_look_far_gives_the_result_of_the_whole_image(
    size: tuple[int, int],
) -> None:
    """Its convolutions reach at most 24 pixels, a quarter of the overlap."""
    network, generator = UNet(UNetConfig(1, widths=(4, 8), blocks=1, attention=())), seeded()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    inner = ScorePrior(network, EDMSDE(), (1, 8, 8)).double().requires_grad_(False)
    x, tiled = images(*size, n=1), TiledPrior(inner, 192, 96)
    whole = inner.denoise(x, 0.5)
    assert len(tiled._boxes(x.shape)) > 1
    torch.testing.assert_close(tiled.denoise(x, 0.5), whole, rtol=0, atol=1e-12)
    moved, row = x.clone(), size[0] // 2
    moved[..., row, :] += 1
    changed = (inner.denoise(moved, 0.5) - whole).abs().amax((0, 1, 3)).nonzero().flatten()
    assert int((changed - row).abs().max()) <= 24


def test_a_prior_of_one_size_gets_tiles_of_this_size() -> None:
    inner = Sizes()
    inner.accepts = lambda shape: shape == (1, 16, 16)  # type: ignore[method-assign]
    D = TiledPrior(inner, 16, 4).denoise(torch.ones(1, 1, 18, 30), 2.0)
    torch.testing.assert_close(D, torch.full((1, 1, 18, 30), 2.0))
    assert {shape[1:] for shape in inner.seen} == {(1, 16, 16)}


def test_an_image_within_a_tile_is_not_cut() -> None:
    inner, x = prior(), images(16, 9)
    counted = CountingPrior(inner)
    assert torch.equal(TiledPrior(counted, 16, 4).denoise(x, 0.5), inner.denoise(x, 0.5))
    assert counted.nfe == 1


def test_gradients_of_weights_pass_through_tiles() -> None:
    inner = prior().requires_grad_(True)
    tiled, x, t = TiledPrior(inner, 16, 4), images(33, 20), torch.tensor([0.4, 0.4]).double()
    weight: nn.Parameter = inner.network.head.weight  # type: ignore[union-attr, assignment]
    ours, expected = (
        torch.autograd.grad(D.square().sum(), weight)[0]
        for D in (tiled.denoise(x, t), by_padding(tiled, x, t))
    )
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("overlap", [-1, 9])
def test_overlaps_that_do_not_fit_are_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="between 0 and half of the tile"):
        TiledPrior(prior(), 16, overlap)
