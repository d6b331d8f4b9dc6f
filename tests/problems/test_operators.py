"""One sheet of identities that every linear operator has to satisfy, on every shape and in both precisions."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor

from problems import (
    Blur,
    Denoising,
    GaussianBlur,
    Grey,
    Inpainting,
    LinearMatrix,
    LinearOperator,
    MotionBlur,
    SuperResolution,
    random_mask,
)

Shape = tuple[int, ...]

SHAPES: list[Shape] = [(1, 8, 8), (3, 7, 7), (3, 8, 11)]
BOUNDARIES = ["circular", "reflect", "replicate", "zero", "valid"]
BATCH = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_kernel(height: int, width: int) -> Tensor:
    """Asymmetric, of both signs, with no value that stands out."""
    return torch.randn(height, width, generator=seeded(height * 10 + width), dtype=torch.float64) / (height * width) ** 0.5


def channel_mask(shape: Shape) -> Tensor:
    return torch.rand(shape, generator=seeded(3)) < 0.6


def random_matrix(shape: Shape) -> Tensor:
    columns = torch.Size(shape).numel()
    return torch.randn(20, columns, generator=seeded(4), dtype=torch.float64) / columns**0.5


FACTORIES: dict[str, Callable[[Shape], LinearOperator]] = {
    "denoising": lambda shape: Denoising(),
    "inpainting-hw": lambda shape: Inpainting(random_mask(*shape[1:], missing=0.4, generator=seeded(1))),
    "inpainting-chw": lambda shape: Inpainting(channel_mask(shape)),
    "matrix": lambda shape: LinearMatrix(random_matrix(shape), shape),
    "grey-denoising": lambda shape: Grey(Denoising(), shape[0]),
    "grey-inpainting": lambda shape: Grey(Inpainting(random_mask(*shape[1:], missing=0.4, generator=seeded(1))), shape[0]),
    "grey-blur": lambda shape: Grey(Blur(random_kernel(3, 4), "reflect"), shape[0]),
    "grey-super": lambda shape: Grey(SuperResolution(2.5, shape=shape[1:]), shape[0]),  # type: ignore[arg-type]
}
for _boundary in BOUNDARIES:
    FACTORIES |= {
        f"blur-3x5-{_boundary}": lambda shape, b=_boundary: Blur(random_kernel(3, 5), b),  # type: ignore[misc]
        f"blur-4x2-{_boundary}": lambda shape, b=_boundary: Blur(random_kernel(4, 2), b),  # type: ignore[misc]
        f"gaussian-{_boundary}": lambda shape, b=_boundary: GaussianBlur(0.7, b),  # type: ignore[misc]
        f"motion-{_boundary}": lambda shape, b=_boundary: MotionBlur(5, 30.0, b),  # type: ignore[misc]
    }
for _filter in ("bicubic", "average"):
    for _factor in (2, 3, 4, 2.5):
        FACTORIES[f"{_filter}-{_factor}"] = lambda shape, f=_filter, k=_factor: SuperResolution(k, f, shape[1:])  # type: ignore[misc]

each_operator = pytest.mark.parametrize("name", FACTORIES)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


@cache
def spectral_norm(name: str, shape: Shape) -> float:
    """The largest singular value of A."""
    return float(torch.linalg.matrix_norm(FACTORIES[name](shape).dense(shape), 2))


class Case:
    """An operator with random x and y in its two spaces."""

    def __init__(self, name: str, shape: Shape, dtype: torch.dtype) -> None:
        self.operator, self.shape, self.dtype = FACTORIES[name](shape), shape, dtype
        generator = seeded(7)
        self.x = torch.randn(BATCH, *shape, generator=generator, dtype=torch.float64).to(dtype)
        output = self.operator.output_shape(shape)
        self.y = torch.randn(BATCH, *output, generator=generator, dtype=torch.float64).to(dtype)
        self.eps = torch.finfo(dtype).eps

        self.norm = spectral_norm(name, shape)

    def condition(self, c0: Tensor | float, c1: Tensor | float) -> float:
        """Condition number of c0 I + c1 A A^T, the worst sample's, bounded by its largest eigenvalue over c0."""
        return float((1 + torch.as_tensor(c1) * self.norm**2 / torch.as_tensor(c0)).max())

    def solve_tolerance(self, c0: Tensor | float, c1: Tensor | float) -> float:
        """Relative residual to expect of a solve of c0 I + c1 A A^T.

        A backward stable solver leaves a residual of a few eps times the condition number, conjugate gradients what they are asked for.
        """
        asked = 1e-6 if self.dtype == torch.float32 else 1e-12
        return asked + 20 * self.eps * self.condition(c0, c1)


@pytest.fixture
def case(name: str, shape: Shape, dtype: torch.dtype) -> Case:
    return Case(name, shape, dtype)


def relative(error: Tensor, scale: Tensor) -> float:
    """Largest |error| / |scale| over the samples, in Euclidean norm."""
    return float((error.flatten(1).norm(dim=1) / scale.flatten(1).norm(dim=1)).max())


# c0 and c1 as numbers, and as one value per sample
COEFFICIENTS = {
    "numbers": (0.3, 1.7),
    "per-sample": (torch.tensor([0.1, 1.0, 3.0]), torch.tensor([2.0, 0.0, 0.5])),
}
each_coefficients = pytest.mark.parametrize("coefficients", COEFFICIENTS)


def coefficients_of(kind: str, dtype: torch.dtype) -> tuple[Tensor | float, ...]:
    return tuple(c.to(dtype) if isinstance(c, Tensor) else c for c in COEFFICIENTS[kind])


@each_operator
@each_shape
@each_dtype
class TestEveryOperator:
    def test_adjoint_by_dot_products(self, case: Case) -> None:
        forward, backward = case.operator.apply(case.x), case.operator.adjoint(case.y)
        left, right = (forward * case.y).flatten(1).sum(1), (case.x * backward).flatten(1).sum(1)
        scale = forward.flatten(1).norm(dim=1) * case.y.flatten(1).norm(dim=1)
        assert float(((left - right).abs() / scale).max()) < (1e-5 if case.dtype == torch.float32 else 1e-12)

    def test_shapes_and_types(self, case: Case) -> None:
        output = case.operator.output_shape(case.shape)
        assert case.operator.apply(case.x).shape == (BATCH, *output)
        assert case.operator.input_shape(output) == case.shape
        assert case.operator.adjoint(case.y).shape == case.x.shape
        assert case.operator.apply(case.x).dtype == case.operator.adjoint(case.y).dtype == case.dtype
        assert {"linear", "adjoint", "solve"} <= case.operator.capabilities

    def test_arguments_stay_as_they_are(self, case: Case) -> None:
        x, y = case.x.clone(), case.y.clone()
        case.operator.apply(case.x)
        case.operator.adjoint(case.y)
        case.operator.solve(case.y, 0.5, 2.0)
        case.operator.prox(case.x, case.y, 0.5, 2.0)
        assert torch.equal(case.x, x) and torch.equal(case.y, y)

    def test_dense_matrix_agrees_with_apply(self, case: Case) -> None:
        matrix = case.operator.dense(case.shape, case.dtype)
        assert matrix.shape == (case.y[0].numel(), case.x[0].numel())
        expected = case.operator.apply(case.x)
        error = (case.x.flatten(1) @ matrix.T).reshape(expected.shape) - expected
        assert relative(error, expected) < 50 * case.eps

    def test_vector_jacobian_product_is_the_adjoint(self, case: Case) -> None:
        x = case.x.requires_grad_()
        expected = case.operator.adjoint(case.y)
        assert relative(torch.autograd.grad(case.operator.apply(x), x, case.y)[0] - expected, expected) < 50 * case.eps

    def test_adjoint_is_differentiable(self, case: Case) -> None:
        y = case.y.requires_grad_()
        expected = case.operator.apply(case.x)
        assert relative(torch.autograd.grad(case.operator.adjoint(y), y, case.x)[0] - expected, expected) < 50 * case.eps

    def test_batch_invariance(self, case: Case) -> None:
        """A sample alone gives what it gives in a batch, with the coefficients that belong to it."""
        c0, c1 = coefficients_of("per-sample", case.dtype)
        op, i = case.operator, 1
        one = slice(i, i + 1)
        assert relative(op.apply(case.x[one]) - op.apply(case.x)[one], op.apply(case.x)[one]) < 20 * case.eps
        assert relative(op.adjoint(case.y[one]) - op.adjoint(case.y)[one], op.adjoint(case.y)[one]) < 20 * case.eps
        tolerance = case.solve_tolerance(c0, c1)
        whole = op.solve(case.y, c0, c1)[one]
        assert relative(op.solve(case.y[one], c0[one], c1[one]) - whole, whole) < tolerance
        whole = op.prox(case.x, case.y, c0, c1)[one]
        assert relative(op.prox(case.x[one], case.y[one], c0[one], c1[one]) - whole, whole) < tolerance


@each_operator
@each_shape
@each_dtype
@each_coefficients
class TestEverySolve:
    def test_residual_of_solve(self, case: Case, coefficients: str) -> None:
        c0, c1 = coefficients_of(coefficients, case.dtype)
        b0, b1 = (per_sample(c, case.y) for c in (c0, c1))
        s = case.operator.solve(case.y, c0, c1)
        residual = b0 * s + b1 * case.operator.apply(case.operator.adjoint(s)) - case.y
        assert relative(residual, case.y) < case.solve_tolerance(c0, c1)

    def test_residual_of_solve_primal(self, case: Case, coefficients: str) -> None:
        c0, c1 = coefficients_of(coefficients, case.dtype)
        b0, b1 = (per_sample(c, case.x) for c in (c0, c1))
        s = case.operator.solve_primal(case.x, c0, c1)
        residual = b0 * s + b1 * case.operator.adjoint(case.operator.apply(s)) - case.x
        # Woodbury multiplies the error of the inner solve by c1 |A|^2 / c0, the residual by another 1 + c1 |A|^2 / c0
        assert relative(residual, case.x) < case.solve_tolerance(c0, c1) * case.condition(c0, c1)

    def test_prox_is_optimal(self, case: Case, coefficients: str) -> None:
        """A^T (A x - y) / noise_variance + (x - z) / prior_variance = 0."""
        s2, r2 = coefficients_of(coefficients, case.dtype)
        x = case.operator.prox(case.x, case.y, s2, r2)
        b2, p2 = per_sample(s2, case.x), per_sample(r2, case.x)
        gradient = p2 / b2 * case.operator.adjoint(case.operator.apply(x) - case.y) + (x - case.x)
        pull = (p2 / b2 * case.operator.adjoint(case.operator.apply(case.x) - case.y)).flatten(1).norm(dim=1)
        scale = (pull + case.x.flatten(1).norm(dim=1))[:, None]
        assert relative(gradient, scale) < case.solve_tolerance(s2, r2) * case.condition(s2, r2)


def per_sample(value: Tensor | float, like: Tensor) -> Tensor:
    """A coefficient shaped to multiply a batch."""
    return torch.as_tensor(value, dtype=like.dtype).expand(BATCH).reshape(BATCH, *[1] * (like.ndim - 1))


def test_solve_is_differentiable_where_a_sample_is_zero() -> None:
    """(c0 I + c1 A A^T)^{-1} is symmetric, so its vector-Jacobian product is the solve itself; a zero sample makes no difference."""
    operator = Blur(random_kernel(3, 3), "zero")
    v = torch.randn(2, 1, 5, 5, generator=seeded(), dtype=torch.float64)
    v[1] = 0
    v.requires_grad_()
    w = torch.randn(v.shape, generator=seeded(1), dtype=torch.float64)
    gradient = torch.autograd.grad(operator.solve(v, 1.0, 1.0), v, w)[0]
    assert torch.isfinite(gradient).all()
    expected = operator.solve(w, 1.0, 1.0)
    assert relative((gradient - expected)[:1], expected[:1]) < 1e-10


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_adjoint_works_in_inference_mode(boundary: str) -> None:
    operator, y = Blur(random_kernel(3, 3), boundary), torch.randn(1, 1, 5, 5, generator=seeded())  # type: ignore[arg-type]
    expected = operator.adjoint(y)
    with torch.inference_mode():
        assert torch.allclose(operator.adjoint(y), expected)
