"""One set of identities for all operators.

Each class, each of its examples, on every shape and in both precisions. A new operator that has
``examples`` is included automatically.
"""

import copy
import dataclasses
import json
import math
import pickle
import re
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from problems import (
    JPEG,
    SVD,
    Blur,
    Clipping,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    LinearFunction,
    LinearOperator,
    MissingCapability,
    NonlinearFunction,
    Operator,
    Quantisation,
    SolveWarning,
    SuperResolution,
    known_operators,
    problem_from,
)
from problems.operators.convolution import BOUNDARIES, example_kernel
from problems.operators.jacobian import Jacobian
from tests.conftest import randn, seeded

Shape = tuple[int, ...]

SHAPES: list[Shape] = [(1, 8, 8), (3, 7, 7), (2, 8, 11), (3, 16, 12), (1, 1, 6), (1, 9, 1)]
SMALL: Shape = (1, 6, 5)  # for tests that make thousands of draws
BATCH = 3
DOUBLE = torch.finfo(torch.float64).eps

ROUNDING = (Quantisation, JPEG)  # their vjp is documented not to be the derivative of apply
FUNCTIONS = (LinearFunction, NonlinearFunction)  # cannot be written as text
WITHOUT_EXAMPLES = {Jacobian}  # made only by linearise


def library() -> list[type[Operator]]:
    return [cls for cls in known_operators() if cls.__module__.split(".")[0] == "problems"]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An operator at a shape, with random x and y in its two spaces.

    It is compared and hashed by identity.
    """

    name: str
    shape: Shape
    operator: Any

    @property
    def id(self) -> str:
        return f"{self.name}-{'x'.join(map(str, self.shape))}"

    @property
    def pixels(self) -> int:
        return math.prod(self.shape)

    @property
    def output(self) -> Shape:
        return self.operator.output_shape(self.shape)

    def x(self, dtype: torch.dtype = torch.float64, seed: int = 7) -> Tensor:
        """Within (-0.8, 0.8), away from multiples of 1/4, where examples that clip have kinks."""
        x = 1.6 * torch.rand(BATCH, *self.shape, generator=seeded(seed), dtype=torch.float64) - 0.8
        return torch.where((4 * x - (4 * x).round()).abs() < 0.01, x + 0.005, x).to(dtype)

    def y(self, dtype: torch.dtype = torch.float64, seed: int = 8) -> Tensor:
        return randn(BATCH, *self.output, seed=seed).to(dtype)


def collect(shapes: list[Shape]) -> list[Case]:
    return [
        Case(name, shape, op)
        for shape in shapes
        for cls in library()
        for name, op in cls.examples(shape).items()
    ]


CASES = collect(SHAPES)
LINEAR = [case for case in CASES if isinstance(case.operator, LinearOperator)]
NONLINEAR = [case for case in CASES if not isinstance(case.operator, LinearOperator)]
DECOMPOSED = [case for case in LINEAR if "svd" in case.operator.capabilities]
ITERATED = [case for case in LINEAR if case not in DECOMPOSED]
SMALL_LINEAR = [case for case in collect([SMALL]) if isinstance(case.operator, LinearOperator)]


def in_turn(cases: list[Case]) -> list[Case]:
    """Each example once, on a shape chosen by its name.

    The choice does not depend on the other examples. Meant for properties that hardly depend on the
    shape.
    """
    shapes: dict[str, list[Case]] = {}
    for case in cases:
        shapes.setdefault(case.name, []).append(case)
    return [found[zlib.crc32(name.encode()) % len(found)] for name, found in shapes.items()]


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


DTYPES = [torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])


@cache
def spectrum(case: Case) -> Tensor:
    """The singular values of the dense matrix, descending."""
    return torch.linalg.svdvals(case.operator.dense(case.shape))


def norm(case: Case) -> float:
    """The largest singular value of A."""
    return float(spectrum(case)[0])


def cutoff(case: Case) -> float:
    """The size below which a computed singular value may be zero."""
    return max(case.pixels, math.prod(case.output)) * DOUBLE * norm(case)


def least(case: Case) -> float:
    """The smallest singular value that is not zero."""
    s = spectrum(case)
    return float(s[s > cutoff(case)].min())


def spread(case: Case) -> float:
    """Condition number of A on the complement of its null space."""
    return norm(case) / least(case)


def size(x: Tensor) -> Tensor:
    """Euclidean norm per sample."""
    return x.flatten(1).norm(dim=1)


def relative(error: Tensor, scale: Tensor) -> float:
    """Largest |error| / |scale| over the samples, in Euclidean norm; 0 for no error.

    ``scale`` has the shape of the error, or holds one norm per sample, (B,).
    """
    error, scale = size(error), size(scale) if scale.ndim > 1 else scale
    return float(torch.where(error == 0, 0, error / scale).max())


def inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def condition(case: Case, c0: Tensor | float, c1: Tensor | float) -> float:
    """Condition number of c0 I + c1 A A^T for the worst sample.

    Bounded by the largest eigenvalue over c0.
    """
    return float((1 + torch.as_tensor(c1) * norm(case) ** 2 / torch.as_tensor(c0)).max())


def solve_tolerance(
    case: Case, dtype: torch.dtype, c0: Tensor | float, c1: Tensor | float
) -> float:
    """Relative residual to expect of a solve of c0 I + c1 A A^T.

    A backward stable solver leaves a residual of a few eps times the condition number; conjugate
    gradients leave the residual they were given.
    """
    asked = 1e-6 if dtype == torch.float32 else 1e-12
    return asked + 20 * torch.finfo(dtype).eps * condition(case, c0, c1)


# c0 and c1 as numbers and as one value per sample
COEFFICIENTS = {
    "numbers": (0.3, 1.7),
    "per-sample": (torch.tensor([0.1, 1.0, 3.0]), torch.tensor([2.0, 0.0, 0.5])),
}


def coefficients_of(kind: str, dtype: torch.dtype) -> tuple[Tensor | float, ...]:
    return tuple(c.to(dtype) if isinstance(c, Tensor) else c for c in COEFFICIENTS[kind])


def per_sample(value: Tensor | float, like: Tensor) -> Tensor:
    """A coefficient reshaped to multiply a batch."""
    return (
        torch.as_tensor(value, dtype=like.dtype)
        .expand(BATCH)
        .reshape(BATCH, *[1] * (like.ndim - 1))
    )


def check_solve(case: Case, y: Tensor, kind: str) -> None:
    """Check (c0 I + c1 A A^T) s = y."""
    op, (c0, c1) = case.operator, coefficients_of(kind, y.dtype)
    s = op.solve(y, c0, c1)
    assert s.shape == y.shape and s.dtype == y.dtype
    residual = per_sample(c0, y) * s + per_sample(c1, y) * op.apply(op.adjoint(s)) - y
    assert relative(residual, y) < solve_tolerance(case, y.dtype, c0, c1), kind


class TestTheSheet:
    @pytest.mark.parametrize("cls", library(), ids=lambda cls: cls.__name__)
    def test_every_class_is_on_it(self, cls: type[Operator]) -> None:
        found = {type(case.operator) for case in CASES}
        assert cls in found | WITHOUT_EXAMPLES, (
            f"{cls.__name__}.examples(shape) is empty for each of {SHAPES}: nothing of it is tested"
        )

    def test_names_are_unique(self) -> None:
        ids = [case.id for case in CASES]
        assert len(ids) == len(set(ids)), sorted({i for i in ids if ids.count(i) > 1})

    def test_examples_are_of_their_class(self) -> None:
        for shape in SHAPES:
            for cls in library():
                assert all(type(op) is cls for op in cls.examples(shape).values()), cls

    @pytest.mark.slow
    def test_examples_are_the_same_each_time(self) -> None:
        for case in CASES:
            again = type(case.operator).examples(case.shape)[case.name]
            assert torch.equal(again.apply(case.x()), case.operator.apply(case.x())), case.id


@each(CASES)
class TestEveryOperator:
    @each_dtype
    def test_shapes_and_types(self, case: Case, dtype: torch.dtype) -> None:
        op, x, y = case.operator, case.x(dtype), case.y(dtype)
        forward, backward = op.apply(x), op.vjp(x, y)
        assert forward.shape == (BATCH, *case.output) and forward.dtype == dtype
        assert tuple(op.input_shape(case.output)) == case.shape
        assert backward.shape == x.shape and backward.dtype == dtype
        assert torch.isfinite(forward).all() and torch.isfinite(backward).all()

    @each_dtype
    def test_twice_the_same_and_alone_the_same(self, case: Case, dtype: torch.dtype) -> None:
        """Two calls agree to the bit, and a sample alone gives what it gives in a batch."""
        op, x, y, eps, one = (
            case.operator,
            case.x(dtype),
            case.y(dtype),
            torch.finfo(dtype).eps,
            slice(1, 2),
        )
        forward, backward = op.apply(x), op.vjp(x, y)
        assert torch.equal(op.apply(x), forward) and torch.equal(op.vjp(x, y), backward)
        assert relative(op.apply(x[one]) - forward[one], forward[one]) < 20 * eps
        assert relative(op.vjp(x[one], y[one]) - backward[one], backward[one]) < 20 * eps

    def test_vjp_is_what_autograd_of_apply_gives(self, case: Case) -> None:
        x, y = case.x().requires_grad_(), case.y()
        found = torch.autograd.grad(case.operator.apply(x), x, y)[0]
        expected = case.operator.vjp(x.detach(), y)
        assert relative(found - expected, expected) < 50 * DOUBLE

    def test_observed_is_a_projection_that_keeps_every_measurement(self, case: Case) -> None:
        op, x, y = case.operator, case.x(), case.y()
        observed, backward = op.mask_unobserved(y), op.vjp(x, y)
        assert torch.equal(op.mask_unobserved(observed), observed)
        assert torch.equal(op.mask_unobserved(op.apply(x)), op.apply(x))
        assert relative(op.vjp(x, observed) - backward, backward) < 20 * DOUBLE


@each(in_turn(CASES))
class TestEveryExample:
    def test_arguments_stay_as_they_are(self, case: Case) -> None:
        op, x, y = case.operator, case.x(), case.y()
        op.apply(x)
        op.vjp(x, y)
        op.mask_unobserved(y)
        jacobian = op.linearise(x)
        jacobian.apply(x)
        jacobian.adjoint(y)
        if isinstance(op, LinearOperator):
            op.solve(y, 0.5, 2.0)
            op.solve_primal(x, 0.5, 2.0)
            op.prox(x, y, 0.5, 2.0)
            op.prox_sample(x, y, 0.5, 2.0, seeded())
        if "svd" in op.capabilities:
            op.pinv(y)
        assert torch.equal(x, case.x()) and torch.equal(y, case.y())
        assert not x.requires_grad and not y.requires_grad

    def test_inference_mode(self, case: Case) -> None:
        """Everything works in inference mode, and caches made there can be used outside."""
        op, x, y = type(case.operator).examples(case.shape)[case.name], case.x(), case.y()

        def answers(op: Operator, x: Tensor, y: Tensor) -> list[Tensor]:
            found = [
                op.apply(x),
                op.vjp(x, y),
                op.linearise(x).apply(x),
                op.linearise(x).adjoint(y),
            ]
            return (
                [*found, op.solve(y, 0.3, 1.7), op.prox(x, y, 0.3, 1.7)]
                if isinstance(op, LinearOperator)
                else found
            )

        with torch.inference_mode():
            inside, foreign = answers(op, case.x(), case.y()), answers(op, x, y)
        expected = answers(case.operator, x, y)
        assert all(
            torch.equal(a, c) and torch.equal(b, c)
            for a, b, c in zip(inside, foreign, expected, strict=True)
        )
        u = x.clone().requires_grad_()
        assert torch.equal(
            torch.autograd.grad(op.apply(u), u, y)[0],
            torch.autograd.grad(case.operator.apply(u), u, y)[0],
        )

    def test_description_gives_it_back_to_the_bit(self, case: Case) -> None:
        problem = InverseProblem(case.operator, GaussianNoise(0.1))
        if isinstance(case.operator, FUNCTIONS):
            with pytest.raises(ValueError, match="cannot be written as JSON"):
                problem.describe()
            return
        again = problem_from(json.loads(json.dumps(problem.describe()))).operator
        assert type(again) is type(case.operator) and repr(again) == repr(case.operator)
        for dtype in DTYPES:
            assert torch.equal(again.apply(case.x(dtype)), case.operator.apply(case.x(dtype)))

    def test_copies(self, case: Case) -> None:
        """By copy and, unless made of a function, by pickle; caches are not copied."""
        expected = case.operator.apply(case.x())
        copies = [copy.copy(case.operator), copy.deepcopy(case.operator)]
        if not isinstance(case.operator, FUNCTIONS):
            copies.append(pickle.loads(pickle.dumps(case.operator)))
        for again in copies:
            assert vars(again).keys() == {field.name for field in dataclasses.fields(again)}
            assert repr(again) == repr(case.operator) and torch.equal(
                again.apply(case.x()), expected
            )

    def test_moved_to_another_precision(self, case: Case) -> None:
        """Settings rounded to float32 change A by eps in each entry.

        x is float32 before and after.
        """
        x, op = case.x(torch.float32), case.operator
        before, precise = op.apply(x), op.apply(case.x())
        single = op.to(dtype=torch.float32)
        assert type(single) is type(op) and single.apply(x).dtype == torch.float32
        assert relative(single.apply(x) - before, before) < 20 * torch.finfo(torch.float32).eps
        assert torch.equal(op.to("cpu").apply(x), before) and torch.equal(
            op.apply(case.x()), precise
        )

    def test_frozen(self, case: Case) -> None:
        for name in [field.name for field in dataclasses.fields(case.operator)] or ["anything"]:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(case.operator, name, None)

    def test_what_it_cannot_take(self, case: Case) -> None:
        """For complex numbers, integers and a single vector the error says what to do."""
        op = case.operator
        methods = [(op.apply, case.x())] + (
            [(op.adjoint, case.y())] if isinstance(op, LinearOperator) else []
        )
        for method, x in methods:
            for bad, advice in (
                (torch.complex(x, x), "two channels"),
                (x.long(), r"x / 127\.5 - 1"),
                (x.flatten(), r"x\[None\]"),
            ):
                with pytest.raises(ValueError, match=advice):
                    method(bad)

    def test_an_image_without_batch_is_a_batch_or_an_error(self, case: Case) -> None:
        """(C, H, W) is refused or measured as C samples; nothing else is raised."""
        x = case.x()[0]
        try:
            y = case.operator.apply(x)
        except ValueError:
            return
        assert y.shape == (len(x), *case.operator.output_shape(tuple(x.shape[1:])))


@each(LINEAR)
class TestEveryLinearOperator:
    @each_dtype
    def test_adjoint_by_dot_products(self, case: Case, dtype: torch.dtype) -> None:
        op, x, y = case.operator, case.x(dtype), case.y(dtype)
        forward, backward = op.apply(x), op.adjoint(y)
        assert backward.shape == x.shape and backward.dtype == dtype
        error, scale = (inner(forward, y) - inner(x, backward)).abs(), size(forward) * size(y)
        assert bool((error <= (1e-5 if dtype == torch.float32 else 1e-12) * scale).all())

    def test_residual_of_solve(self, case: Case) -> None:
        """In double precision; the examples in turn are solved in single precision, too."""
        check_solve(case, case.y(), "per-sample")

    @each_dtype
    def test_derivatives_and_dense_matrix(self, case: Case, dtype: torch.dtype) -> None:
        """The vjp of apply is the adjoint and that of the adjoint is apply.

        The dense matrix agrees with both.
        """
        op, x, y, eps = case.operator, case.x(dtype), case.y(dtype), torch.finfo(dtype).eps
        forward, backward = op.apply(x), op.adjoint(y)
        u, v = x.clone().requires_grad_(), y.clone().requires_grad_()
        assert relative(torch.autograd.grad(op.apply(u), u, y)[0] - backward, backward) < 50 * eps
        assert relative(torch.autograd.grad(op.adjoint(v), v, x)[0] - forward, forward) < 50 * eps
        matrix = op.dense(case.shape, dtype)
        assert matrix.shape == (y[0].numel(), x[0].numel()) and matrix.dtype == dtype
        assert relative((x.flatten(1) @ matrix.T).reshape(y.shape) - forward, forward) < 50 * eps
        assert relative((y.flatten(1) @ matrix).reshape(x.shape) - backward, backward) < 50 * eps

    def test_claims(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is its own linearisation; A A^T = c I if it says so; closed forms do not iterate."""
        op, y, c = case.operator, case.y(), case.operator.tight_constant
        assert op.linearise(case.x()) is op
        if c is not None:
            assert relative(op.apply(op.adjoint(y)) - c * y, c * y) < 50 * DOUBLE

        def iterated(*args: object, **kwargs: object) -> Tensor:
            raise AssertionError("iterations")

        if "closed_form" in op.capabilities:
            monkeypatch.setattr("problems.operators.base.conjugate_gradients", iterated)
            op.solve(y, 0.3, 1.7)
            if "svd" in op.capabilities:
                op.pinv(y)


@pytest.mark.slow
@each(in_turn(LINEAR))
class TestEveryLinearExample:
    def test_every_capability_can_be_called(self, case: Case) -> None:
        op, x, y = case.operator, case.x(), case.y()
        calls: dict[str, Callable[[], Tensor]] = {
            "apply": lambda: op.apply(x),
            "vjp": lambda: op.vjp(x, y),
            "adjoint": lambda: op.adjoint(y),
            "pinv": lambda: op.pinv(y, rtol=1e-1),
            "solve": lambda: op.solve(y, 0.3, 1.7),
            "solve_primal": lambda: op.solve_primal(x, 0.3, 1.7),
            "prox": lambda: op.prox(x, y, 0.3, 1.7),
            "prox_sample": lambda: op.prox_sample(x, y, 0.3, 1.7, seeded()),
            "svd": lambda: op.svd(case.shape).s,
        }
        assert op.capabilities <= calls.keys() | {"linear", "closed_form", "mask"}
        assert {"linear", "adjoint", "solve", "pinv", "prox"} <= op.capabilities
        for name in op.capabilities - {"linear", "closed_form", "mask"}:
            assert torch.isfinite(calls[name]()).all(), name

    @each_dtype
    def test_residuals_of_solves(self, case: Case, dtype: torch.dtype) -> None:
        """Residuals of solve and solve_primal, with coefficients as numbers too."""
        op, x, y = case.operator, case.x(dtype), case.y(dtype)
        for kind in COEFFICIENTS:
            check_solve(case, y, kind)
            c0, c1 = coefficients_of(kind, dtype)
            s = op.solve_primal(x, c0, c1)
            assert s.shape == x.shape and s.dtype == dtype
            residual = per_sample(c0, x) * s + per_sample(c1, x) * op.adjoint(op.apply(s)) - x
            # Woodbury multiplies the error of the inner solve by c1 |A|^2 / c0, and the residual by
            # a further 1 + c1 |A|^2 / c0
            assert relative(residual, x) < solve_tolerance(case, dtype, c0, c1) * condition(
                case, c0, c1
            ), kind

    @each_dtype
    def test_prox_is_optimal(self, case: Case, dtype: torch.dtype) -> None:
        """A^T (A x - y) / noise_variance + (x - z) / prior_variance = 0."""
        op, z, y = case.operator, case.x(dtype), case.y(dtype)
        for kind in COEFFICIENTS:
            s2, r2 = coefficients_of(kind, dtype)
            x = op.prox(z, y, s2, r2)
            assert x.shape == z.shape and x.dtype == dtype
            ratio = per_sample(r2, x) / per_sample(s2, x)
            gradient = ratio * op.adjoint(op.apply(x) - y) + (x - z)
            scale = size(ratio * op.adjoint(op.apply(z) - y)) + size(z)
            assert relative(gradient, scale) < solve_tolerance(case, dtype, s2, r2) * condition(
                case, s2, r2
            ), kind

    @each_dtype
    def test_batch_invariance_of_solves(self, case: Case, dtype: torch.dtype) -> None:
        """A sample alone, with its own coefficients, has the result that it has in a batch."""
        (c0, c1), op, x, y, one = (
            coefficients_of("per-sample", dtype),
            case.operator,
            case.x(dtype),
            case.y(dtype),
            slice(0, 1),
        )
        # The residual of each solve is within the tolerance; their difference is larger by the
        # condition number
        tolerance = 2 * solve_tolerance(case, dtype, c0, c1) * condition(case, c0, c1)
        whole = op.solve(y, c0, c1)[one]
        assert relative(op.solve(y[one], c0[one], c1[one]) - whole, whole) < tolerance
        whole = op.prox(x, y, c0, c1)[one]
        assert relative(op.prox(x[one], y[one], c0[one], c1[one]) - whole, whole) < tolerance

    @each_dtype
    def test_each_draw_has_its_own_generator(self, case: Case, dtype: torch.dtype) -> None:
        """Draw i of a batch is the draw of that generator alone."""
        op, z, y, one = case.operator, case.x(dtype), case.y(dtype), slice(1, 2)
        whole = op.prox_sample(z, y, 0.3, 1.7, [seeded(i) for i in range(BATCH)])
        alone = op.prox_sample(z[one], y[one], 0.3, 1.7, [seeded(1)])
        assert whole.shape == z.shape and whole.dtype == dtype
        tolerance = 2 * solve_tolerance(case, dtype, 0.3, 1.7) * condition(case, 0.3, 1.7)
        assert relative(whole[one] - alone, alone) < tolerance


def penrose_tolerance(case: Case, residual: float = 1e-12) -> float:
    r"""Tolerance of the four Penrose conditions and of the pseudo-inverse.

    Relative to |A|^i |A^+|^j |x| of matching units. By an SVD: a few eps, at worst one for each
    entry that a sum runs over, times the condition number; this also covers what the cutoff drops.
    By conjugate gradients on the normal equations, which leave :math:`r = residual |A^T y| + 20
    \epsilon |A|^2 |x|`: :math:`|A^+|^2 r`, in the second condition three times that.
    """
    if "svd" in case.operator.capabilities:
        return (20 + max(case.pixels, math.prod(case.output))) * DOUBLE * spread(case)
    return 3 * spread(case) ** 2 * (residual + 20 * DOUBLE)


MEANINGFUL = 1e-3


@pytest.mark.slow
class TestPseudoInverse:
    @each(DECOMPOSED + in_turn(ITERATED))
    def test_penrose(self, case: Case) -> None:
        """A A+ A = A, A+ A A+ = A+, and A A+ and A+ A are symmetric.

        The dense matrix has the same pseudo-inverse.
        """
        if penrose_tolerance(case) > MEANINGFUL:
            pytest.skip(f"condition number {spread(case):.0e}: nothing is promised")
        op, x, y = case.operator, case.x(), case.y()
        a, p, Ax = norm(case), 1 / least(case), op.apply(x)
        try:
            found = op.pinv(torch.cat([Ax, y]))
            Px, Py = found.chunk(2)
            PAPy = op.pinv(op.apply(Py))
        except SolveWarning as warning:
            # The error falls at least by (k - 1) / (k + 1) per step, where k is the condition
            # number of A. Only an operator that converges more slowly than that may miss the target
            steps = int(re.findall(r"after (\d+) iterations", str(warning))[0])
            assert (
                "svd" not in op.capabilities
                and spread(case) * math.log(2 * spread(case) / 1e-12) / 2 > steps
            ), warning
            pytest.skip(f"condition number {spread(case):.0e}: {warning}")
        assert Py.shape == x.shape
        # If the iterations run out, they have reached not their target but its root, which gives no
        # warning
        residual = relative(
            op.adjoint(op.apply(found) - torch.cat([Ax, y])), op.adjoint(torch.cat([Ax, y]))
        )
        assert "svd" in op.capabilities or residual < 1e-6 + 20 * DOUBLE * spread(case) ** 2
        tolerance = penrose_tolerance(case, max(1e-12, residual))
        if tolerance > MEANINGFUL:
            pytest.skip(
                f"condition number {spread(case):.0e}, and the iterations ended at {residual:.0e}"
            )
        assert relative(op.apply(Px) - Ax, a * size(x)) < tolerance
        assert relative(PAPy - Py, p * size(y)) < tolerance
        for v, Qv in ((y, op.apply(Py)), (x, Px)):
            w, Qw = v.roll(1, 0), Qv.roll(1, 0)
            assert bool(((inner(Qv, w) - inner(v, Qw)).abs() < tolerance * size(v) * size(w)).all())
        if least(case) > 100 * cutoff(case) and len(spectrum(case)) <= 200:
            matrix = torch.linalg.pinv(op.dense(case.shape), atol=10 * cutoff(case), rtol=0.0)
            assert (
                relative(Py - (y.flatten(1) @ matrix.T).reshape(Py.shape), p * size(y)) < tolerance
            )

    def test_most_are_well_enough_conditioned_for_that(self) -> None:
        """Otherwise the test above could skip every case and pass."""
        meaningful = [
            penrose_tolerance(case) < MEANINGFUL for case in DECOMPOSED + in_turn(ITERATED)
        ]
        assert sum(meaningful) > 0.95 * len(meaningful)

    def test_iterations_that_run_out_are_not_silent(self) -> None:
        """A pseudo-inverse that does not converge warns."""
        hopeless = Blur(torch.outer(*torch.tensor([[1.0, 4, 6, 4, 1]] * 2)) / 256, "reflect")
        with pytest.warns(SolveWarning, match="iterations"):
            hopeless.pinv(randn(1, 1, 32, 32))

    def test_rtol_drops_what_is_below_it(self) -> None:
        op, shape = GaussianBlur(0.7, "reflect"), (1, 8, 8)
        y = randn(2, *shape)
        rtol = 0.3
        matrix = torch.linalg.pinv(op.dense(shape), rtol=rtol, atol=0.0)
        assert (
            relative(op.pinv(y, rtol).flatten(1) - y.flatten(1) @ matrix.T, y) < 50 * DOUBLE / rtol
        )


def coefficients(case: Case, svd: SVD) -> Tensor:
    """Random numbers, zero where the singular value is zero to rounding."""
    w = randn(BATCH, *svd.s.shape, seed=9).to(svd.s)
    return torch.where(svd.s > svd.s.numel() * torch.finfo(svd.s.dtype).eps * svd.s.max(), w, 0)


@each(DECOMPOSED + [case for case in ITERATED if case.pixels < 200])
@each_dtype
def test_svd(case: Case, dtype: torch.dtype) -> None:
    """A = U diag(s) V^T with orthonormal columns, from the structure or from the dense matrix."""
    op, x, y, eps = case.operator, case.x(dtype), case.y(dtype), torch.finfo(dtype).eps
    svd = op.svd(case.shape, x)
    assert svd.s.dtype == dtype and bool((svd.s >= 0).all())

    assert relative(svd.U(svd.s * svd.Vt(x)) - op.apply(x), norm(case) * size(x)) < 50 * eps
    assert relative(svd.V(svd.s * svd.Ut(y)) - op.adjoint(y), norm(case) * size(y)) < 50 * eps

    # Columns may be computed as A^T u / s or A v / s, in double precision: the rounding of A over
    # the singular value
    w, tolerance = coefficients(case, svd), 50 * eps + 20 * DOUBLE * spread(case)
    assert tolerance < MEANINGFUL
    assert relative(svd.Vt(svd.V(w)) - w, size(w)) < tolerance
    assert relative(svd.Ut(svd.U(w)) - w, size(w)) < tolerance
    assert (relative(svd.V(svd.Vt(x)) - x, size(x)) < tolerance) == svd.complete_v
    assert (relative(svd.U(svd.Ut(y)) - y, size(y)) < tolerance) == svd.complete_u

    found, expected = svd.s.double().flatten().sort(descending=True).values, spectrum(case)
    longer = max(len(found), len(expected))
    found, expected = (torch.nn.functional.pad(s, (0, longer - len(s))) for s in (found, expected))
    assert float((found - expected).abs().max()) < 50 * eps * norm(case)


@each(DECOMPOSED + in_turn([case for case in ITERATED if case.pixels < 200]))
def test_svd_solves(case: Case) -> None:
    """The two resolvents of the SVD equal those of the operator."""
    svd, x, y = case.operator.svd(case.shape), case.x(), case.y()
    tolerance = 2 * solve_tolerance(case, torch.float64, 0.3, 1.7) * condition(case, 0.3, 1.7) ** 2
    expected = case.operator.solve(y, 0.3, 1.7)
    assert relative(svd.solve(y, 0.3, 1.7) - expected, expected) < tolerance
    expected = case.operator.solve_primal(x, 0.3, 1.7)
    assert relative(svd.solve_primal(x, 0.3, 1.7) - expected, expected) < tolerance


@each(SMALL_LINEAR)
def test_draws_have_the_law_of_the_posterior(case: Case) -> None:
    """1000 draws, whitened by the exact posterior, are N(0, I).

    Their mean, their energy and their covariance are each within a quantile. The statistics are
    chi-squared with D, N D and D (D + 1) / 2 degrees of freedom (the last, Nagao's, for large N),
    at level 1e-4 in total.
    """
    N, D, s2, r2 = 1000, case.pixels, 0.3, 1.7
    level = 1e-4 / len(SMALL_LINEAR) / 4
    z, y = case.x()[:1], case.y()[:1]
    draws = case.operator.prox_sample(
        z.expand(N, *case.shape), y.expand(N, *case.output), s2, r2, seeded(11)
    )
    matrix = case.operator.dense(case.shape)
    precision = matrix.T @ matrix / s2 + torch.eye(D, dtype=torch.float64) / r2
    mean = torch.linalg.solve(precision, matrix.T @ y.flatten() / s2 + z.flatten() / r2)
    white = (draws.flatten(1) - mean) @ torch.linalg.cholesky(precision)
    assert float(N * white.mean(0).square().sum()) < chi2.isf(level, D)
    assert chi2.ppf(level, N * D) < float(white.square().sum()) < chi2.isf(level, N * D)
    excess = white.T @ white / N - torch.eye(D, dtype=torch.float64)
    assert float(N / 2 * excess.square().sum()) < chi2.isf(level, D * (D + 1) / 2)


def slope(op: Operator, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Central difference of apply along d, and its error per sample.

    The error is the change when the step is halved (three times the remainder), plus rounding over
    the step.
    """

    def difference(h: float) -> Tensor:
        return (op.apply(x + h * d) - op.apply(x - h * d)) / (2 * h)

    h = DOUBLE ** (1 / 3)
    fine = difference(h)
    return fine, size(difference(2 * h) - fine) + 10 * DOUBLE / h * size(op.apply(x))


@each(NONLINEAR)
class TestEveryNonlinearOperator:
    def test_derivative_by_finite_differences(self, case: Case) -> None:
        """Derivatives of vjp and of the Jacobian, in both directions."""
        if isinstance(case.operator, ROUNDING):
            return
        op, x, v = case.operator, case.x(), case.y()
        jacobian = op.linearise(x)
        for seed in range(3):
            d = randn(*x.shape, seed=20 + seed)
            expected, error = slope(op, x, d)
            assert bool((error < 1e-5 * (size(expected) + size(d))).all()), (
                "the differences themselves must be good enough to test with"
            )
            assert relative(jacobian.apply(d) - expected, error) < 1
            for pulled in (op.vjp(x, v), jacobian.adjoint(v)):
                assert bool(((inner(pulled, d) - inner(v, expected)).abs() < error * size(v)).all())

    @each_dtype
    def test_jacobian_by_dot_products(self, case: Case, dtype: torch.dtype) -> None:
        x, v, w = case.x(dtype), case.x(dtype, seed=17), case.y(dtype)
        jacobian = case.operator.linearise(x)
        forward, backward = jacobian.apply(v), jacobian.adjoint(w)
        assert (
            isinstance(jacobian, LinearOperator)
            and forward.shape == w.shape
            and backward.shape == x.shape
        )
        assert forward.dtype == backward.dtype == dtype
        error, scale = (inner(forward, w) - inner(v, backward)).abs(), size(forward) * size(w)
        assert bool((error <= (1e-5 if dtype == torch.float32 else 1e-12) * scale).all())

    def test_vjp_is_linear(self, case: Case) -> None:
        op, x, v, w = case.operator, case.x(), case.y(), case.y(seed=18)
        expected = op.vjp(x, v) - 2 * op.vjp(x, w)
        assert (
            relative(op.vjp(x, v - 2 * w) - expected, size(op.vjp(x, v)) + 2 * size(op.vjp(x, w)))
            < 20 * DOUBLE
        )


@each(in_turn([case for case in NONLINEAR if case.pixels < 200]))
class TestEveryNonlinearExample:
    def test_jacobian_answers_what_linear_operators_do(self, case: Case) -> None:
        """A posterior step under the linearised measurement is optimal."""
        x, y, s2, r2 = case.x(), case.y(), 0.3, 1.7
        jacobian = case.operator.linearise(x)
        step = jacobian.prox(torch.zeros_like(x), y, s2, r2)
        pull = r2 / s2 * jacobian.adjoint(y)
        gradient = r2 / s2 * jacobian.adjoint(jacobian.apply(step)) + step - pull
        squared = float(torch.linalg.matrix_norm(dense_jacobian(jacobian, x), 2).max()) ** 2
        bound = 1 + r2 * squared / s2
        assert relative(gradient, size(pull) + size(step)) < (1e-12 + 20 * DOUBLE * bound) * bound

    def test_what_only_linear_operators_can(self, case: Case) -> None:
        """The error names the operator, the missing method and an operator that has it."""
        assert case.operator.capabilities == {"apply", "vjp"}
        for name in (
            "linear",
            "adjoint",
            "solve",
            "solve_primal",
            "svd",
            "pinv",
            "prox",
            "prox_sample",
        ):
            with pytest.raises(
                MissingCapability,
                match=rf"^{type(case.operator).__name__} has no {name}\b.*: .*\bInpainting\b",
            ):
                getattr(case.operator, name)


def dense_jacobian(jacobian: LinearOperator, x: Tensor) -> Tensor:
    """The Jacobian of every sample, (B, m, D)."""
    units = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    return torch.stack([jacobian.apply(unit.expand_as(x)).flatten(1) for unit in units], -1)


class TestRounding:
    """Operators whose derivative is zero almost everywhere.

    The gradient is documented to be that of the chain without its roundings.
    """

    # The DCT of libjpeg, sqrt(8) times orthonormal, is off by at most 2^-13 in each of 8x8 entries:
    # there and back, along two axes
    DCT = 2 * 2 * 8 * 2**-13 / 8**0.5

    def test_quantisation(self) -> None:
        x = 3 * torch.rand(2, 1, 8, 8, generator=seeded(), dtype=torch.float64) - 1.5
        v = randn(*x.shape, seed=1)
        found = Quantisation(8).vjp(x, v)
        assert torch.allclose(found, torch.where(x.abs() < 1, v, 0), rtol=0, atol=1e-15) and bool(
            (x.abs() > 1).any()
        )

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("quality", [100, 90])
    def test_jpeg_without_subsampling_is_nearly_the_identity(
        self, channels: int, quality: int
    ) -> None:
        """Every step except the roundings is undone by a later one while values stay in 0..255."""
        x = torch.rand(2, channels, 13, 10, generator=seeded(), dtype=torch.float64) - 0.5
        v = randn(*x.shape, seed=1)
        assert relative(JPEG(quality, subsampling=False).vjp(x, v) - v, v) < self.DCT

    def test_jpeg_with_subsampling_keeps_the_luma(self) -> None:
        """A grey direction passes unchanged."""
        x = torch.rand(2, 3, 13, 10, generator=seeded(), dtype=torch.float64) - 0.5
        d = randn(2, 1, 13, 10, seed=1).expand_as(x)
        assert relative(JPEG(100).linearise(x).apply(d) - d, d) < self.DCT


def test_clipping_passes_the_gradient_only_inside() -> None:
    x = torch.tensor([[[[-0.6, -0.4, 0.4, 0.6]]]], dtype=torch.float64)
    assert torch.equal(
        Clipping(2.0).vjp(x, torch.ones_like(x)),
        torch.tensor([[[[0.0, 2, 2, 0]]]], dtype=torch.float64),
    )


def test_gamma_has_a_finite_slope_at_black() -> None:
    x = torch.tensor([[[[-1.5, -1.0, 0.0]]]], dtype=torch.float64)
    assert torch.isfinite(Gamma(1 / 2.2).vjp(x, torch.ones_like(x))).all()


def test_vjp_is_differentiable() -> None:
    """The gradient of the vjp with respect to x is the second derivative.

    For a power, sum_j v_j d^2 y_j = 2 a (a - 1) u^(a - 2) / 4 v.
    """
    x = torch.tensor([[[[-0.5, 0.0, 0.5]]]], dtype=torch.float64, requires_grad=True)
    pulled = Gamma(3.0).vjp(x, torch.ones_like(x))
    found = torch.autograd.grad(pulled.sum(), x)[0]
    assert torch.allclose(found, 3 * (x.detach() + 1) / 2, rtol=1e-14, atol=0)
    assert not Gamma(3.0).vjp(x.detach(), torch.ones_like(x)).requires_grad


def test_solve_is_differentiable_where_a_sample_is_zero() -> None:
    """A zero sample does not change the gradient of a solve.

    (c0 I + c1 A A^T)^{-1} is symmetric, so its vector-Jacobian product is a solve.
    """
    operator = Blur(example_kernel(3, 3), "zero")
    v = randn(2, 1, 5, 5)
    v[1] = 0
    v.requires_grad_()
    w = randn(*v.shape, seed=1)
    gradient = torch.autograd.grad(operator.solve(v, 1.0, 1.0), v, w)[0]
    assert torch.isfinite(gradient).all()
    expected = operator.solve(w, 1.0, 1.0)
    assert relative((gradient - expected)[:1], expected[:1]) < 1e-10


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_made_in_inference_mode(boundary: Any) -> None:
    """An operator made in inference mode can be differentiated through outside."""
    with torch.inference_mode():
        made = Blur(torch.ones(3, 3) / 9, boundary)
    x = torch.randn(1, 1, 5, 5, generator=seeded()).requires_grad_()
    y = made.apply(x)
    v = torch.ones_like(y)
    assert torch.allclose(torch.autograd.grad(y, x, v)[0], made.adjoint(v))


def test_no_dense_svd_of_a_large_image() -> None:
    """The error says why, which operators have an SVD and what is still possible."""
    with pytest.raises(
        MissingCapability,
        match=r"^Blur has no svd; operators that have it: .*Inpainting.*at most 4096 pixels",
    ):
        Blur(example_kernel(3, 3), "reflect").svd((3, 256, 256))


def test_a_shape_that_is_left_open() -> None:
    """Without ``shape``, x has the size of y times whole factors."""
    assert SuperResolution(2).input_shape((3, 4, 5)) == (3, 8, 10)
    with pytest.raises(ValueError, match="does not shrink to"):
        SuperResolution(2, shape=(7, 7)).input_shape((3, 5, 5))


def test_a_class_of_the_users_own_is_known() -> None:
    """A user's operator class is listed, described and found by its name."""

    @dataclasses.dataclass(frozen=True, eq=False, repr=False)
    class Doubled(LinearOperator):
        factor: float = 2.0

        def output_shape(self, shape: Shape) -> Shape:
            return shape

        def input_shape(self, shape: Shape) -> Shape:
            return shape

        def _apply(self, x: Tensor) -> Tensor:
            return self.factor * x

        def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
            return self.factor * y

    assert Doubled in known_operators() and Doubled not in library()
    again = problem_from(
        json.loads(json.dumps(InverseProblem(Doubled(3.0), GaussianNoise(0.1)).describe()))
    ).operator
    assert repr(again) == "Doubled(factor=3.0)"
    y = randn(2, 1, 4, 4)
    assert (
        relative(again.pinv(y) - y / 3, y) < 1e-12
        and relative(again.solve(y, 1.0, 2.0) - y / 19, y) < 1e-12
    )
    assert (
        not again.capabilities & {"svd", "closed_form"}
        and float(again.svd((1, 4, 4)).s.std()) < 1e-14
    )
    assert math.isclose(float(again.svd((1, 4, 4)).s[0]), 3.0, rel_tol=1e-14)
