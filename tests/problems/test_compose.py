"""Operators made of other operators, and operators made of functions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from problems import (
    JPEG,
    Blur,
    Clipping,
    Decimation,
    Denoising,
    Gamma,
    GaussianBlur,
    Grayscale,
    Inpainting,
    LinearFunction,
    LinearOperator,
    MissingCapability,
    MotionBlur,
    NonlinearFunction,
    Operator,
    SuperResolution,
    compose,
    random_mask,
    stack,
)
from problems.operators.compose import Composition, NonlinearComposition, NonlinearStack, Stack
from tests.conftest import randn, seeded

SHAPE = (3, 8, 8)
MASK = Inpainting(random_mask(8, 8, 0.4, seeded()))
GREY = Grayscale((1 / 3,) * 3)


class TestComposition:
    @pytest.mark.parametrize(
        ("outer", "inner"),
        [
            (MASK, Blur(randn(3, 4), "reflect")),
            (SuperResolution(2), GaussianBlur(0.7)),
            (Gamma(0.5), MASK),
            (JPEG(50), Clipping(2.0)),
        ],
    )
    def test_is_one_after_the_other(self, outer: Operator, inner: Operator) -> None:
        x = randn(2, *SHAPE)
        both = outer @ inner
        expected = outer.apply(inner.apply(x))
        assert torch.equal(both.apply(x), expected)
        assert torch.equal(compose(outer, inner).apply(x), expected)
        assert both.output_shape(SHAPE) == tuple(expected.shape[1:])
        assert both.input_shape(tuple(expected.shape[1:])) == SHAPE

    def test_is_linear_where_both_are(self) -> None:
        assert isinstance(MASK @ GREY, Composition)
        for mixed in (Gamma(0.5) @ GREY, GREY @ Gamma(0.5), Gamma(0.5) @ Clipping()):
            assert isinstance(mixed, NonlinearComposition)
            assert not isinstance(mixed, LinearOperator)
            with pytest.raises(MissingCapability, match="NonlinearComposition has no solve"):
                mixed.solve  # noqa: B018

    def test_three_in_a_row(self) -> None:
        x = randn(2, *SHAPE)
        blur = GaussianBlur(0.7)
        expected = MASK.apply(blur.apply(GREY.apply(x)))
        for chain in ((MASK @ blur) @ GREY, MASK @ (blur @ GREY)):
            torch.testing.assert_close(chain.apply(x), expected, atol=1e-15, rtol=0)

    def test_adjoint_is_the_transpose(self) -> None:
        operator = SuperResolution(2, shape=(8, 8)) @ MotionBlur(3, 20.0, "reflect") @ GREY
        assert isinstance(operator, LinearOperator)
        A, y = operator.dense(SHAPE), randn(2, 1, 4, 4)
        torch.testing.assert_close(
            operator.adjoint(y).flatten(1), y.flatten(1) @ A, atol=1e-14, rtol=0
        )

    def test_holes_of_the_outer_stay_holes(self) -> None:
        y = randn(2, 1, 8, 8)
        assert torch.equal((MASK @ GREY).mask_unobserved(y), MASK.mask_unobserved(y))
        assert torch.equal((GREY @ MASK).mask_unobserved(y), y)

    def test_shapes_are_checked_along_the_chain(self) -> None:
        with pytest.raises(ValueError, match="the mask has 3 channels, the image has 1"):
            (Inpainting(torch.ones(3, 8, 8)) @ GREY).apply(randn(1, *SHAPE))
        with pytest.raises(ValueError, match="made for 3 channels, the image has 1"):
            (MASK @ GREY).apply(randn(1, 1, 8, 8))


GREY_VIEWS: dict[str, LinearOperator] = {
    "denoise": Denoising(),
    "inpaint": MASK,
    "gaussian": GaussianBlur(0.7, "reflect", 2.0),
    "blur": Blur(randn(3, 4) / 4),
    "super": SuperResolution(2.5, shape=(8, 8)),
    "decimate": Decimation(randn(3, 3) / 3, 2),
}


class TestGrey:
    """``op @ Grayscale``: a grey measurement of a colour scene."""

    @pytest.mark.parametrize("name", GREY_VIEWS)
    def test_is_the_measurement_of_the_mean_of_the_colours(self, name: str) -> None:
        x, operator = randn(2, *SHAPE), GREY_VIEWS[name]
        expected = operator.apply(x).mean(1, keepdim=True)
        torch.testing.assert_close((operator @ GREY).apply(x), expected, atol=1e-14, rtol=0)

    @pytest.mark.parametrize("name", GREY_VIEWS)
    def test_keeps_the_closed_form(self, name: str) -> None:
        """A closed-form solve errs by rounding times the condition number.

        The condition number is below 100 here; the tolerance of 1e-12 leaves a factor of 45.
        """
        operator = GREY_VIEWS[name] @ GREY
        assert isinstance(operator, LinearOperator)
        assert {"svd", "closed_form"} <= operator.capabilities
        A, y = operator.dense(SHAPE), randn(2, *operator.output_shape(SHAPE), seed=1)
        gram = 0.3 * torch.eye(len(A), dtype=torch.float64) + 1.7 * A @ A.T
        assert float(torch.linalg.cond(gram)) < 100
        expected = torch.linalg.solve(gram, y.flatten(1).T).T.reshape(y.shape)
        torch.testing.assert_close(operator.solve(y, 0.3, 1.7), expected, atol=1e-12, rtol=0)
        x = operator.pinv(y, rtol=1e-9).flatten(1)
        torch.testing.assert_close(
            x, y.flatten(1) @ torch.linalg.pinv(A, rtol=1e-9).T, atol=1e-9, rtol=0
        )

    def test_singular_values(self) -> None:
        operator = GaussianBlur(0.7, "reflect", 2.0) @ GREY
        assert isinstance(operator, LinearOperator)
        expected = torch.linalg.svdvals(operator.dense(SHAPE))
        torch.testing.assert_close(
            operator.svd(SHAPE).s.flatten().sort(descending=True).values,
            expected,
            atol=1e-14,
            rtol=0,
        )

    def test_of_any_number_of_colours(self) -> None:
        x = randn(1, 4, 8, 8)
        torch.testing.assert_close(
            (MASK @ Grayscale((0.25,) * 4)).apply(x),
            MASK.apply(x.mean(1, keepdim=True)),
            atol=1e-15,
            rtol=0,
        )

    def test_a_blur_within_has_no_closed_form(self) -> None:
        operator = MASK @ MotionBlur(3, 20.0, "reflect")
        assert "closed_form" not in operator.capabilities


class TestStack:
    def test_parts_are_the_measurements(self) -> None:
        x = randn(2, *SHAPE)
        operators = (SuperResolution(2, shape=(8, 8)), GREY, MASK)
        side = stack(*operators, shape=SHAPE)
        assert isinstance(side, Stack)
        y = side.apply(x)
        assert (
            y.shape == (2, 3 * 16 + 64 + 192)
            and side.output_shape(SHAPE) == (304,)
            and side.input_shape((304,)) == SHAPE
        )
        for operator, part in zip(operators, side.parts(y), strict=True):
            assert torch.equal(part, operator.apply(x))

    def test_against_its_matrix(self) -> None:
        """Conjugate gradients leave a relative error of 1e-12 times the condition number."""
        side = Stack((Blur(randn(3, 3) / 3), MASK), SHAPE)
        A = torch.cat([op.dense(SHAPE) for op in side.operators])
        assert torch.equal(side.dense(SHAPE), A)
        y = randn(2, len(A), seed=1)
        torch.testing.assert_close(side.adjoint(y).flatten(1), y @ A, atol=1e-13, rtol=0)
        gram = 0.3 * torch.eye(len(A), dtype=torch.float64) + 1.7 * A @ A.T
        expected = torch.linalg.solve(gram, y.T).T
        assert float((side.solve(y, 0.3, 1.7) - expected).norm() / expected.norm()) < 1e-12 * float(
            torch.linalg.cond(gram)
        )

    def test_of_one_is_that_one(self) -> None:
        v = randn(2, 192)
        expected = GaussianBlur(0.7).solve(v.reshape(2, *SHAPE), 0.3, 1.7)
        assert torch.equal(
            Stack((GaussianBlur(0.7),), SHAPE).solve(v, 0.3, 1.7), expected.flatten(1)
        )

    def test_holes_stay_holes(self) -> None:
        side = Stack((Denoising(), MASK), SHAPE)
        y = randn(2, 384)
        first, second = side.parts(side.mask_unobserved(y))
        assert torch.equal(first.flatten(1), y[:, :192])
        assert torch.equal(second, MASK.mask_unobserved(y[:, 192:].reshape(2, *SHAPE)))

    def test_of_nonlinear_operators(self) -> None:
        x = randn(2, *SHAPE)
        side = stack(Clipping(4.0), GREY, shape=SHAPE)
        assert isinstance(side, NonlinearStack) and not isinstance(side, LinearOperator)
        bright, grey = side.parts(side.apply(x))
        assert torch.equal(bright, Clipping(4.0).apply(x)) and torch.equal(grey, GREY.apply(x))
        v = randn(2, 192 + 64, seed=1)
        expected = v[:, :192].reshape(x.shape) * 4 * ((4 * x).abs() <= 1) + GREY.adjoint(
            v[:, 192:].reshape(2, 1, 8, 8)
        )
        torch.testing.assert_close(side.vjp(x, v), expected, atol=1e-14, rtol=0)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="at least one operator"):
            stack(shape=SHAPE)
        with pytest.raises(ValueError, match="made for 3 channels, the image has 1"):
            stack(Denoising(), GREY, shape=(1, 8, 8))
        side = stack(Denoising(), GREY, shape=SHAPE)
        with pytest.raises(ValueError, match=r"x of shape \(3, 8, 8\), got \(3, 8, 9\)"):
            side.apply(randn(1, 3, 8, 9))
        with pytest.raises(ValueError, match=r"256 numbers, got a measurement of shape \(255,\)"):
            side.input_shape((255,))


def central(x: Tensor) -> Tensor:
    return F.conv2d(x, torch.tensor([[[[1.0, 0.0, -1.0]]]]).to(x))


class TestFunctions:
    def test_linear_function_against_its_matrix(self) -> None:
        operator = LinearFunction(central, (1, 4, 6))
        assert operator.output_shape((1, 4, 6)) == (1, 4, 4)
        A = operator.dense((1, 4, 6))
        x, y = randn(2, 1, 4, 6), randn(2, 1, 4, 4, seed=1)
        np.testing.assert_allclose(operator.apply(x), x[..., :-2] - x[..., 2:], atol=1e-15)
        torch.testing.assert_close(
            operator.adjoint(y).flatten(1), y.flatten(1) @ A, atol=1e-14, rtol=0
        )

    @pytest.mark.parametrize(
        "function",
        [
            torch.tanh,
            torch.abs,
            torch.square,
            lambda x: x + 0.1,
            lambda x: x.clamp(-1, 1),
            lambda x: x * x.mean(),
            torch.relu,
        ],
        ids=["tanh", "abs", "square", "affine", "clamp", "product", "relu"],
    )
    def test_what_is_not_linear_is_noticed(self, function: object) -> None:
        with pytest.raises(ValueError, match=r"not linear.*NonlinearFunction"):
            LinearFunction(function, (1, 4, 4))  # type: ignore[arg-type]

    def test_a_shape_that_is_given_spares_the_trial(self) -> None:
        def never(x: Tensor) -> Tensor:
            raise AssertionError

        assert LinearFunction(never, (1, 4, 4), (7,)).output_shape((1, 4, 4)) == (7,)
        assert NonlinearFunction(never, (1, 4, 4), (7,)).input_shape((7,)) == (1, 4, 4)

    def test_nonlinear_function(self) -> None:
        x, v = randn(2, 1, 3, 4), randn(2, 12, seed=1)
        operator = NonlinearFunction(lambda x: torch.tanh(2 * x).flatten(1), (1, 3, 4))
        np.testing.assert_allclose(
            operator.apply(x), np.tanh(2 * x.numpy()).reshape(2, 12), atol=1e-15
        )
        expected = v.reshape(x.shape) * 2 * (1 - torch.tanh(2 * x) ** 2)
        torch.testing.assert_close(operator.vjp(x, v), expected, atol=1e-14, rtol=0)
        assert operator.capabilities == {"apply", "vjp"}

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="must map a batch"):
            NonlinearFunction(lambda x: x.sum(), (1, 4, 4))
        with pytest.raises(ValueError, match=r"x of shape \(1, 4, 6\), got \(1, 4, 5\)"):
            LinearFunction(central, (1, 4, 6)).apply(randn(1, 1, 4, 5))
        with pytest.raises(ValueError, match=r"measures shape \(1, 4, 4\), got \(1, 4, 6\)"):
            LinearFunction(central, (1, 4, 6)).adjoint(randn(1, 1, 4, 6))
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            LinearFunction(central, (1, 4, 6)).describe()
