"""Operators without their roundings: what is left, and that its Jacobian is the one they state."""

import pytest
import torch

from problems import JPEG, Clipping, GaussianBlur, GaussianNoise, InverseProblem, Quantisation
from problems.operators.rounding import without_rounding
from tests.conftest import F64, randn


def picture(channels: int = 3) -> torch.Tensor:
    return (0.3 * randn(2, channels, 16, 16)).clamp(-0.9, 0.9)


def test_quantisation_is_clipping() -> None:
    x = randn(2, 1, 4, 4)
    assert torch.allclose(Quantisation(5).unrounded(x), x.clamp(-1, 1), atol=1e-12)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_is_its_colour_transform_and_back(subsampling: str) -> None:
    """Without roundings the luma stays, and the chroma is as smooth as its sampling makes it."""
    x = picture()
    found = JPEG(10, subsampling=subsampling).unrounded(x)
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=F64)
    # the constants of the DCT of libjpeg have 13 bits
    error = torch.einsum("c,bchw->bhw", luma, found - x).abs().max()
    assert float(error) < 2e-4
    if subsampling == "4:4:4":
        assert float((found - x).abs().max()) < 2e-4
    else:
        assert float((found - x).abs().max()) > 1e-2


@pytest.mark.parametrize("operator", [JPEG(20), Quantisation(4) @ GaussianBlur(1.0)])
def test_linearise_is_its_jacobian(operator: JPEG) -> None:
    x, v = picture(), 1e-6 * randn(2, 3, 16, 16, seed=1)
    moved = operator.unrounded(x + v) - operator.unrounded(x)
    assert torch.allclose(operator.linearise(x).apply(v), moved, atol=1e-10)
    assert float((operator.apply(x) - operator.unrounded(x)).abs().max()) > 0.01


def test_the_residual_counts_the_rounding_or_not() -> None:
    x = picture()
    problem = InverseProblem(JPEG(10), GaussianNoise(0.1))
    y = problem.operator.apply(x)
    assert float(problem.residual(y, x).abs().max()) == 0
    whole = problem.residual(y, x, rounded=False)
    assert torch.equal(whole, y - problem.operator.unrounded(x))
    assert float(whole.abs().max()) > 0.01


def test_what_does_not_round_stays() -> None:
    x = picture()
    for operator in (Clipping(2.0), GaussianBlur(1.0)):
        assert torch.equal(operator.unrounded(x), operator.apply(x))


def test_the_block_ends_with_an_error_inside() -> None:
    operator, x = Quantisation(3), picture(1)
    before = operator.apply(x)
    with pytest.raises(RuntimeError), without_rounding():
        raise RuntimeError
    assert torch.equal(operator.apply(x), before)
