"""Compiled networks: the same values, one compilation for all sizes, and a way back."""

import shutil
import warnings

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, ScorePrior
from scoresde.networks import UNet, UNetConfig
from solvers.jacobian import Linearisation, value_and_products
from tests.conftest import seeded


def make() -> ScorePrior:
    network, generator = UNet(UNetConfig(1, widths=(8,), blocks=1, attention=())), seeded()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return ScorePrior(network, EDMSDE(), (1, 8, 8)).eval().requires_grad_(False)


def images(height: int, width: int, n: int = 2) -> Tensor:
    return torch.randn(n, 1, height, width, generator=seeded(1))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_one_compilation_for_all_sizes() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    plain = make()
    compiled = plain.compiled()
    with torch.no_grad():
        for height, width, n in ((16, 24, 2), (32, 16, 3), (40, 40, 4)):
            x = images(height, width, n)
            torch.testing.assert_close(compiled.denoise(x, 0.4), plain.denoise(x, 0.4))
    assert counters["stats"]["unique_graphs"] == 1
    found = []
    for prior in (compiled, plain):
        u = images(16, 24).requires_grad_()
        found.append(torch.autograd.grad(prior.denoise(u, 0.4).square().sum(), u)[0])
    torch.testing.assert_close(*found)
    assert counters["stats"]["unique_graphs"] == 2
    # several products from one evaluation
    v = images(16, 24)
    products = [Linearisation(lambda u, p=p: p.denoise(u, 0.4), u).vjps for p in (compiled, plain)]
    for _ in range(2):
        torch.testing.assert_close(*(product(v[None]) for product in products))


def test_where_it_fails_the_network_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def broken(*_: object, **__: object) -> object:
        def program(*_: object) -> Tensor:
            raise BackendCompilerFailed(broken, RuntimeError("no compiler"), None)

        return program

    monkeypatch.setattr(torch, "compile", broken)
    plain, x = make(), images(8, 8)
    compiled = plain.compiled()
    with pytest.warns(UserWarning, match="torch.compile failed, so the network runs uncompiled"):
        assert torch.equal(compiled.denoise(x, 0.4), plain.denoise(x, 0.4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(compiled.denoise(x, 0.4), plain.denoise(x, 0.4))


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    prior = make().compiled()
    prior.shape = (2, 8, 8)  # not the channels of the network
    with pytest.raises(RuntimeError, match="channels"):
        prior.denoise(torch.zeros(1, 2, 8, 8), 0.4)


def test_torch_func_and_likelihoods_see_the_network_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", never)
    compiled, x = make().compiled(), images(8, 8)
    value, products = value_and_products(lambda u: compiled.denoise(u, 0.4), x)
    assert torch.equal(value, make().denoise(x, 0.4)) and products(x[None]).shape == x[None].shape
    assert torch.equal(compiled.in_precision("auto").precise().denoise(x, 0.4), value)
