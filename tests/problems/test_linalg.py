"""Batched conjugate gradients and orthonormal transforms against dense matrices and scipy."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from torch import Tensor

from problems import SolveWarning
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients, dot, transposes
from problems.linalg.transforms import dct, hadamard2, hartley, idct
from problems.random_numbers import randn_like
from tests.conftest import randn, seeded

EPS = torch.finfo(torch.float64).eps
SIZES = range(1, 10)


def matrix_of(values: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues."""
    Q = torch.linalg.qr(randn(len(values), len(values), seed=seed)).Q
    return Q @ torch.diag(values) @ Q.T


def times(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x @ matrix.to(x)


class TestConjugateGradients:
    @pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
    def test_reaches_the_residual_it_promises(self, dtype: torch.dtype, rtol: float) -> None:
        """The requested residual is reached, up to rounding.

        The residual itself is rounded by a few times eps times the condition number, 100.
        """
        M, b = matrix_of(torch.logspace(0, 2, 40, dtype=torch.float64)), randn(3, 40).to(dtype)
        x = conjugate_gradients(times(M), b)
        assert x.dtype == dtype
        assert (
            float(((times(M)(x) - b).norm(dim=1) / b.norm(dim=1)).max())
            < rtol + 20 * torch.finfo(dtype).eps * 100
        )

    def test_as_many_steps_as_eigenvalues(self) -> None:
        """Three distinct eigenvalues: three products with M, then it stops."""
        M, products = matrix_of(torch.tensor([1.0, 2, 5], dtype=torch.float64).repeat(7)), []

        def matvec(x: Tensor) -> Tensor:
            products.append(1)
            return times(M)(x)

        b = randn(2, 21)
        x = conjugate_gradients(matvec, b, iterations=3)
        assert len(products) == 3 and torch.allclose(x @ M, b, rtol=0, atol=1e-11)

    def test_the_exact_inverse_as_preconditioner_takes_one_step(self) -> None:
        M, b = matrix_of(torch.logspace(0, 6, 20, dtype=torch.float64)), randn(2, 20)
        x = conjugate_gradients(times(M), b, precondition=times(torch.linalg.inv(M)), iterations=2)
        assert float((x @ M - b).norm() / b.norm()) < 1e-9

    def test_each_sample_for_itself(self) -> None:
        """A sample that has converged, is zero or is easy does not change while others continue."""
        M = matrix_of(torch.logspace(0, 3, 30, dtype=torch.float64))
        easy = torch.linalg.eigh(M).eigenvectors[:, 3]
        b = torch.stack(
            [randn(30), torch.zeros(30, dtype=torch.float64), easy, 1e-8 * randn(30, seed=1)]
        )
        together = conjugate_gradients(times(M), b)
        alone = torch.cat([conjugate_gradients(times(M), row[None]) for row in b])
        assert torch.equal(together[1], torch.zeros(30, dtype=torch.float64))
        # both have the residual 1e-12: they differ by at most twice that times the condition number
        assert (
            float(((together - alone).norm(dim=1) / alone.norm(dim=1).clamp_min(1e-300)).max())
            < 2e-12 * 1e3
        )

    def test_a_hopeless_sample_does_not_disturb_the_rest(self) -> None:
        """Where M is negative there is no step to take; nothing becomes NaN."""
        M = torch.diag(torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64))
        b = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        x = conjugate_gradients(times(M), b)
        assert torch.allclose(
            x,
            torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64),
            rtol=0,
            atol=1e-14,
        )

    def test_the_solution_of_least_norm(self) -> None:
        values = torch.cat(
            [torch.linspace(1, 4, 12, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)]
        )
        M = matrix_of(values)
        b = randn(2, 20) @ M
        expected = b @ torch.linalg.pinv(M, rtol=1e-10, atol=0.0)
        assert float((conjugate_gradients(times(M), b) - expected).norm() / expected.norm()) < 1e-11

    def test_warns_with_the_residual(self) -> None:
        M, b = matrix_of(torch.logspace(0, 8, 60, dtype=torch.float64)), randn(2, 60)
        with pytest.warns(
            SolveWarning,
            match=r"stopped after 5 iterations at a relative residual of (.+), asked for 1e-12",
        ) as caught:
            x = conjugate_gradients(times(M), b, iterations=5)
        residual = float(((x @ M - b).norm(dim=1) / b.norm(dim=1)).max())
        assert f"{residual:.1e}" in str(caught[0].message)

    def test_no_warning_without_need(self) -> None:
        """No warning if the requested residual is reached, or if samples are zero."""
        M, b = matrix_of(torch.logspace(0, 8, 60, dtype=torch.float64)), randn(2, 60)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert (
                float(conjugate_gradients(times(M), torch.zeros_like(b), iterations=0).abs().max())
                == 0
            )
            conjugate_gradients(times(M), b, iterations=1000, rtol=0.5)

    def test_gradient(self) -> None:
        """The vector-Jacobian product of a solve is a solve: it is linear in b, and M symmetric."""
        M, b, v = (
            matrix_of(torch.linspace(1, 3, 10, dtype=torch.float64)),
            randn(2, 10).requires_grad_(),
            randn(2, 10, seed=1),
        )
        found = torch.autograd.grad(conjugate_gradients(times(M), b), b, v)[0]
        assert float((found - torch.linalg.solve(M, v.T).T).norm() / v.norm()) < 1e-10


class TestSmallThings:
    def test_dot_and_bcast(self) -> None:
        a, b = randn(2, 3, 4), randn(2, 3, 4, seed=1)
        assert torch.allclose(
            dot(a, b), torch.stack([(a[i] * b[i]).sum() for i in range(2)]), rtol=0, atol=1e-14
        )
        assert expand_like(2.0, a) == 2.0 and expand_like(torch.tensor(2.0), a).shape == ()
        assert torch.equal(
            expand_like(torch.tensor([1.0, 3.0]), a) * a, torch.stack([a[0], 3 * a[1]])
        )

    def test_transposes_differentiate_into_each_other(self) -> None:
        matrix = randn(4, 3)
        forward, backward = transposes(lambda x: x @ matrix.T, lambda y: y @ matrix)
        x, y = randn(2, 3).requires_grad_(), randn(2, 4).requires_grad_()
        assert torch.autograd.gradcheck(forward, x) and torch.autograd.gradcheck(backward, y)
        assert torch.autograd.gradgradcheck(forward, x) and torch.autograd.gradgradcheck(
            backward, y
        )

    def test_a_stream_for_each_sample(self) -> None:
        """Row i equals a batch of one with generator i."""
        x = torch.empty(3, 2, 5)
        drawn = randn_like(x, [seeded(i) for i in range(3)])
        assert drawn.shape == x.shape and drawn.dtype == x.dtype
        for i in range(3):
            assert torch.equal(drawn[i : i + 1], randn_like(x[:1], [seeded(i)]))
            assert torch.equal(drawn[i], torch.randn(2, 5, generator=seeded(i)))

    def test_one_stream_for_all(self) -> None:
        x = torch.empty(3, 2, 5, dtype=torch.float64)
        assert torch.equal(
            randn_like(x, seeded(4)), torch.randn(3, 2, 5, dtype=torch.float64, generator=seeded(4))
        )

    def test_as_many_streams_as_samples(self) -> None:
        with pytest.raises(ValueError, match="2 generators for 3 samples"):
            randn_like(torch.empty(3, 2), [seeded(0), seeded(1)])


@pytest.mark.parametrize("height", SIZES)
class TestTransforms:
    """Transforms of at most 81 numbers keep the norm: errors are a few eps in Euclidean norm."""

    def test_hartley(self, height: int) -> None:
        """The transform is its own inverse, symmetric and orthonormal: cas(2 pi (kh + lw))."""
        for width in SIZES:
            x, n = randn(2, height, width), height * width
            assert float((hartley(hartley(x)) - x).norm() / x.norm()) < 20 * EPS
            H = hartley(torch.eye(n, dtype=torch.float64).reshape(n, height, width)).reshape(n, n)
            eye = torch.eye(n, dtype=torch.float64)
            assert (
                float((H - H.T).abs().max()) < 20 * EPS
                and float((H @ H - eye).abs().max()) < 20 * EPS
            )
            rows, columns = (
                torch.arange(height, dtype=torch.float64) / height,
                torch.arange(width, dtype=torch.float64),
            )
            k, m = torch.arange(height)[:, None, None, None], torch.arange(width)[:, None, None]
            # values up to 100, rounded accordingly
            angle = 2 * torch.pi * (k * rows[:, None] + m * columns / width)
            expected = (angle.cos() + angle.sin()).reshape(n, n) / n**0.5
            assert float((H - expected).abs().max()) < 200 * EPS

    def test_cosine(self, height: int) -> None:
        for width in SIZES:
            x = randn(2, 3, height, width)
            expected = torch.from_numpy(scipy.fft.dctn(x.numpy(), axes=(-2, -1), norm="ortho"))
            assert float((dct(x) - expected).norm() / x.norm()) < 20 * EPS
            assert float((idct(expected) - x).norm() / x.norm()) < 20 * EPS
            single = dct(x.float())
            assert (
                single.dtype == torch.float32
                and float((single - expected).norm() / x.norm())
                < 20 * torch.finfo(torch.float32).eps
            )

    def test_cosine_and_its_inverse_are_transposes(self, height: int) -> None:
        for width in SIZES:
            x, y = randn(1, height, width), randn(1, height, width, seed=1)
            assert abs(float((dct(x) * y).sum() - (x * idct(y)).sum())) < 20 * EPS * float(
                x.norm() * y.norm()
            )


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1, 2), (2, 1), (2, 4), (4, 4), (8, 4), (1, 32), (16, 8), (16, 16), (32, 32)],
)
def test_hadamard(height: int, width: int) -> None:
    """One transform over all pixels, in natural order."""
    x, n = randn(2, height, width), height * width
    H = torch.from_numpy(scipy.linalg.hadamard(n).astype(np.float64)) / n**0.5
    expected = (x.flatten(1) @ H).reshape(x.shape)
    assert float((hadamard2(x) - expected).norm() / x.norm()) < 20 * EPS
    assert float((hadamard2(hadamard2(x)) - x).norm() / x.norm()) < 20 * EPS


@pytest.mark.parametrize(("height", "width"), [(3, 4), (1, 6), (7, 7)])
def test_hadamard_of_no_power_of_two(height: int, width: int) -> None:
    with pytest.raises(
        ValueError,
        match=rf"power of two, got {height}x{width} = {height * width} pixels; use dct or random",
    ):
        hadamard2(torch.zeros(1, height, width))
