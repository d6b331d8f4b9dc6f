"""The graph of a denoiser is the prior, to the bit."""

from functools import cache

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, DenoiserPrior, InputError, Prior
from scoresde.priors.export import TracedDenoiser, trace
from scoresde.priors.tiled import TiledPrior
from tests.scoresde.priors.export.examples import EXAMPLES, example, noisy

pytestmark = pytest.mark.xdist_group("graphs of denoisers")


@cache
def traced(name: str) -> tuple[Prior, TracedDenoiser]:
    """An example and its graph, which takes seconds."""
    prior = example(name)
    return prior, trace(prior)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_graph_is_the_prior(name: str) -> None:
    """For batches and sides that it was not traced with, and beyond the noise of the training."""
    prior, graph = traced(name)
    exact, denoise = prior.with_sde(EDMSDE()), graph.program.module()
    shapes = [prior.shape]
    if len(prior.shape) > 1:
        assert graph.least is not None, "a graph for one size alone"
        channels, *sides = prior.shape
        shapes.append((channels, *graph.least))
        shapes.append((channels, *(side + 3 + 4 * i for i, side in enumerate(sides))))
    for shape in shapes:
        for batch in (1, 5):
            x, sigma = noisy(shape, batch)
            with torch.no_grad():
                assert torch.equal(denoise(x, sigma), exact._denoise(x, sigma)), (shape, batch)


@pytest.mark.slow
def test_graph_has_derivatives() -> None:
    """Products with the Jacobian, and their derivatives, are those of the prior."""
    prior, graph = traced("fourier")
    denoise, exact = graph.program.module(), prior.with_sde(EDMSDE())
    x, sigma = noisy((1, 9, 10), 2)

    def derivatives(D: object) -> tuple[Tensor, Tensor]:
        y = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(D(y, sigma).square().sum(), y, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), y)
        return first.detach(), second

    for got, wanted in zip(derivatives(denoise), derivatives(exact._denoise), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.slow
def test_sizes_in_words() -> None:
    assert traced("vector")[1].sizes == "3 alone"
    assert traced("function")[1].sizes == "any sides of at least 2 x 2"


@pytest.mark.slow
def test_network_of_one_size() -> None:
    """Only the batch is free."""
    weights = torch.linspace(0, 1, 64).reshape(8, 8)
    prior = DenoiserPrior(
        lambda x, sigma: x * weights / (1 + sigma[:, None, None, None]), (1, 8, 8)
    )
    graph = trace(prior)
    x, sigma = noisy((1, 8, 8))
    assert graph.least is None and graph.sizes == "1 x 8 x 8 alone"
    assert torch.equal(graph.program.module()(x, sigma), prior.denoise(x, sigma))


@pytest.mark.slow
def test_what_cannot_be_a_graph_is_refused_in_words() -> None:
    def branches(x: Tensor, sigma: Tensor) -> Tensor:
        return x if float(x.mean()) > 0 else -x

    with pytest.raises(InputError, match=r"DenoiserPrior.*cannot be written as a graph"):
        trace(DenoiserPrior(branches, (1, 8, 8)))
    with pytest.raises(InputError, match="tiles"):
        trace(TiledPrior(example("unet"), tile=128))
