"""Operators on signals and volumes: against NumPy and SciPy, against images, and by identities."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.sparse
import torch
from torch import Tensor

from problems import (
    MRI,
    Blur,
    Decimation,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    SparseMatrix,
    SuperResolution,
    problem_from,
)
from problems.operators.convolution import BOUNDARIES
from problems.operators.super_resolution import FILTERS
from tests.conftest import F64, randn, seeded

SHAPES = {1: (2, 24), 3: (2, 6, 4, 8)}
SCIPY = {"circular": "wrap", "reflect": "mirror", "replicate": "nearest", "zero": "constant"}
"""Names of the boundaries in scipy.ndimage."""


def kernel(d: int, side: int = 3) -> Tensor:
    return randn(*[side] * d, seed=11)


def mask(*sides: int) -> Tensor:
    seen = torch.rand(sides, generator=seeded(12)) < 0.6
    seen.view(-1)[0] = True
    return seen


def cases(d: int) -> dict[str, Any]:
    """Operators of every kind for samples with d axes."""
    shape = SHAPES[d]
    sides, size = shape[1:], math.prod(shape)
    matrix = randn(5, size, seed=13).numpy()
    return {
        **{f"blur {b}": Blur(kernel(d), b, d) for b in BOUNDARIES},
        "blur even": Blur(kernel(d, 2), "circular", d),
        "blur per channel": Blur(randn(shape[0], *[3] * d, seed=14), "circular", d),
        **{f"gaussian {b}": GaussianBlur(0.5, b, 2.0, d) for b in BOUNDARIES},
        **{f"decimation {b}": Decimation(kernel(d), 2, b, d) for b in BOUNDARIES[:-1]},
        **{f"resize {f}": SuperResolution(2, f, sides, d) for f in FILTERS},
        "resize 1.5": SuperResolution(1.5, shape=sides, dimensions=d),
        "mask": Inpainting(mask(*sides), d),
        "mask per channel": Inpainting(mask(*shape), d),
        "fourier": MRI(mask(*sides)),
        "fourier complex": MRI(mask(*sides), complex_image=True),
        "fourier coils": MRI(mask(*sides), torch.complex(randn(2, *sides), randn(2, *sides))),
        "matrix": LinearMatrix(matrix, shape),
        "sparse": SparseMatrix.of(scipy.sparse.csr_array(matrix * (matrix > 0)), shape),
    }


ALL = [pytest.param(d, name, id=f"{d}-{name}") for d in SHAPES for name in cases(d)]


@pytest.mark.parametrize(("d", "name"), ALL)
def test_identities(d: int, name: str) -> None:
    """Shapes, adjoint, SVD, pseudo-inverse, solve and prox agree with the dense matrix."""
    operator, shape = cases(d)[name], SHAPES[d]
    A = operator.dense(shape)
    x = randn(3, *shape, seed=1)
    y = operator.apply(x)
    assert tuple(y.shape[1:]) == operator.output_shape(shape)
    assert operator.input_shape(tuple(y.shape[1:])) == shape
    torch.testing.assert_close(y.flatten(1), x.flatten(1) @ A.T)
    v = randn(*y.shape, seed=2)
    torch.testing.assert_close(operator.adjoint(v).flatten(1), v.flatten(1) @ A)
    torch.testing.assert_close(operator.vjp(x, v), operator.adjoint(v))
    if "svd" in operator.capabilities:
        svd = operator.svd(shape)
        torch.testing.assert_close(svd.U(svd.s * svd.Vt(x)), y)
        w = randn(*x.shape[:1], *svd.s.shape, seed=3)
        torch.testing.assert_close(svd.Vt(svd.V(w)), w)
        torch.testing.assert_close(
            operator.pinv(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(A).T
        )
    one = torch.eye(len(A), dtype=F64)
    expected = torch.linalg.solve(0.7 * one + 1.3 * A @ A.T, v.flatten(1).T).T
    torch.testing.assert_close(
        operator.solve(v, 0.7, 1.3).flatten(1), expected, rtol=1e-6, atol=1e-8
    )
    seen = operator.observed(v)
    data = torch.where(seen, v, 0)
    z = randn(*x.shape, seed=4)
    gain = 0.5 * A.T @ torch.linalg.inv(0.2 * one + 0.5 * A @ A.T)
    moved = z.flatten(1) + (data.flatten(1) - z.flatten(1) @ A.T) @ gain.T
    torch.testing.assert_close(
        operator.prox(z, data, 0.2, 0.5).flatten(1), moved, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(("d", "name"), ALL)
def test_half_precision_descriptions_and_copies(d: int, name: str) -> None:
    operator, shape = cases(d)[name], SHAPES[d]
    x = randn(2, *shape, seed=1)
    again = problem_from(InverseProblem(operator, GaussianNoise(0.1)).describe()).operator
    torch.testing.assert_close(again.apply(x), operator.apply(x), rtol=0, atol=0)
    low = operator.apply(x.to(torch.bfloat16))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), operator.apply(x), rtol=0.02, atol=0.1)
    single = operator.to(dtype=torch.float32).apply(x.float())
    torch.testing.assert_close(single.double(), operator.apply(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("d", SHAPES)
@pytest.mark.parametrize("boundary", list(SCIPY))
def test_convolution_is_that_of_scipy(d: int, boundary: Any) -> None:
    x = randn(1, *SHAPES[d])
    for side in (3, 2):
        k = kernel(d, side)
        # for an even kernel our middle is (n - 1) // 2, SciPy's n // 2
        origin = -1 if side == 2 else 0
        expected = [
            scipy.ndimage.convolve(one, k.numpy(), mode=SCIPY[boundary], origin=origin)
            for one in x[0].numpy()
        ]
        found = Blur(k, boundary, d).apply(x)
        np.testing.assert_allclose(found[0].numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_signal_is_an_image_of_one_row(boundary: Any) -> None:
    """A kernel of one row needs no (1, 1, 64) image to act on a signal, nor a square kernel."""
    x, k = randn(3, 2, 64), randn(5, seed=2)
    expected = Blur(k[None], boundary).apply(x[:, :, None])[:, :, 0]
    torch.testing.assert_close(Blur(k, boundary).apply(x), expected)
    seen = mask(64)
    expected = Inpainting(seen[None]).apply(x[:, :, None])[:, :, 0]
    torch.testing.assert_close(Inpainting(seen).apply(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("d", SHAPES)
def test_a_gaussian_blur_is_separable_with_the_variance_of_its_kernel(d: int) -> None:
    operator = GaussianBlur(1.3, dimensions=d, truncate=6)
    place = torch.arange(operator.kernel.shape[0], dtype=F64) - operator.kernel.shape[0] // 2
    for axis in range(d):
        line = operator.kernel.movedim(axis, 0).flatten(1).sum(1) if d > 1 else operator.kernel
        assert float((line * place.square()).sum()) == pytest.approx(1.3**2, rel=1e-6)
    assert float(operator.kernel.sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("d", SHAPES)
def test_resampling_of_a_volume_acts_on_every_axis(d: int) -> None:
    """Means over blocks, in the two ways that there are to compute them."""
    x = randn(2, *SHAPES[d])
    blocks = x
    for axis in range(2, d + 2):
        blocks = (blocks.unflatten(axis, (-1, 2))).mean(axis + 1)
    found = SuperResolution(2, "average", dimensions=d).apply(x)
    torch.testing.assert_close(found, blocks)
    # the kernel of two looks one entry ahead or behind, so that a shift may be left
    shifted = Decimation(torch.full([2] * d, 0.5**d, dtype=F64), 2, dimensions=d)
    both = [shifted.apply(x.roll(step, list(range(2, d + 2)))) for step in ([0] * d, [-1] * d)]
    assert any(torch.allclose(one, blocks) for one in both)


@pytest.mark.parametrize("d", SHAPES)
def test_a_fourier_subset_is_that_of_numpy(d: int) -> None:
    x, seen = randn(1, *SHAPES[d]), mask(*SHAPES[d][1:])
    axes = tuple(range(-d, 0))
    k = np.fft.fftshift(
        np.fft.fftn(np.fft.ifftshift(x.numpy(), axes=axes), axes=axes, norm="ortho"), axes=axes
    )
    found = MRI(seen).apply(x).unflatten(1, (-1, 2))
    np.testing.assert_allclose(found[:, :, 0].numpy(), k.real * seen.numpy(), atol=1e-12)
    np.testing.assert_allclose(found[:, :, 1].numpy(), k.imag * seen.numpy(), atol=1e-12)


class TestMatrices:
    @pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "lil", "dia"])
    @pytest.mark.parametrize("make", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
    def test_scipy_formats(self, kind: str, make: Any) -> None:
        dense = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, -3.0]])
        operator = SparseMatrix.of(make(dense).asformat(kind))
        x = randn(4, 3)
        torch.testing.assert_close(operator.apply(x), LinearMatrix(dense).apply(x))

    def test_entries_of_the_same_place_add_up(self) -> None:
        places = torch.tensor([0, 0, 1])
        operator = SparseMatrix(places, places, torch.tensor([1.0, 2.0, 4.0]), (2, 2))
        torch.testing.assert_close(operator.apply(torch.ones(1, 2)), torch.tensor([[3.0, 4.0]]))
        y = randn(3, 2)
        torch.testing.assert_close(
            operator.solve(y, 1.0, 1.0), y / torch.tensor([10.0, 17.0], dtype=F64)
        )

    @pytest.mark.slow
    def test_a_large_sparse_matrix_is_never_dense(self) -> None:
        """A second difference of 200,000 samples: dense it would be 320 GB."""
        n = 200_000
        D = scipy.sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(n - 2, n), format="csr")
        operator, x = SparseMatrix.of(D, (1, n)), torch.linspace(0, 1, n, dtype=F64).square()
        y = operator.apply(x[None, None])
        constant = torch.full((n - 2,), 2 / (n - 1) ** 2, dtype=F64)
        torch.testing.assert_close(y[0], constant, rtol=1e-3, atol=0)
        v = randn(1, n - 2)
        u = operator.solve(v, 1.0, 0.1)
        torch.testing.assert_close(u + 0.1 * operator.apply(operator.adjoint(u)), v)

    def test_numpy_arrays_are_copied_and_keep_their_precision(self) -> None:
        matrix = np.eye(3, dtype=np.float32)
        matrix.setflags(write=False)
        operator = LinearMatrix(matrix)
        assert operator.matrix.dtype == torch.float32
        whole = np.eye(3, dtype=np.int64)
        operator = LinearMatrix(whole)
        whole[:] = 7
        torch.testing.assert_close(operator.apply(torch.ones(1, 3)), torch.ones(1, 3))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: LinearMatrix(scipy.sparse.eye_array(3)), "SparseMatrix"),
            (lambda: LinearMatrix(torch.eye(3).to_sparse()), "SparseMatrix"),
            (lambda: LinearMatrix([[1.0]]), "a tensor or a NumPy array, got list"),
            (lambda: LinearMatrix(np.array([["a"]])), "numbers"),
            (lambda: LinearMatrix(np.eye(2) * 1j), "real"),
            (lambda: LinearMatrix(np.eye(2) * np.nan), "finite"),
            (lambda: SparseMatrix.of(np.eye(3)), "LinearMatrix"),
            (lambda: SparseMatrix.of(scipy.sparse.eye_array(3) * 1j), "real"),
            (lambda: SparseMatrix.of(scipy.sparse.eye_array(3) * np.inf), "finite"),
            (lambda: SparseMatrix.of(scipy.sparse.eye_array(3), (2,)), "3 entries"),
            (
                lambda: SparseMatrix(torch.tensor([2]), torch.tensor([0]), torch.ones(1), (2, 2)),
                "0 to 1",
            ),
            (
                lambda: SparseMatrix(torch.tensor([0]), torch.tensor([0]), torch.ones(2), (2, 2)),
                "same length",
            ),
            (lambda: SparseMatrix.of(torch.eye(3)).apply(torch.ones(1, 4)), "made for"),
            (lambda: SparseMatrix(*torch.zeros(3, 1).long(), (2,)), r"\(m, D\)"),
        ],
    )  # fmt: skip
    def test_what_is_no_matrix_is_named(self, make: Any, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: GaussianBlur(1.0).apply(x), r"an image \(C, H, W\) is needed"),
        (lambda x: GaussianBlur(1.0, dimensions=3).apply(x), r"a volume \(C, D, H, W\) is needed"),
        (lambda x: GaussianBlur(1.0, dimensions=4), "dimensions"),
        (lambda x: Blur(torch.ones(65)).apply(x), "too large for a signal of 64"),
        (lambda x: Inpainting(torch.ones(64)).apply(x[0]), r"a signal \(C, L\) is needed"),
        (lambda x: Inpainting(torch.ones(63)).apply(x), r"mask is \(63,\), the signal is \(64,\)"),
        (lambda x: Inpainting(torch.ones(4, 4), 3), r"\(D, H, W\)"),
        (lambda x: Decimation(torch.ones(3), 3).apply(x), "does not divide a signal of 64"),
        (lambda x: SuperResolution(2).apply(x), r"an image \(C, H, W\) is needed"),
        (lambda x: SuperResolution(2, shape=(8, 8), dimensions=1), r"shape \(L,\)"),
        (lambda x: MRI(torch.ones(63)).apply(x), r"\(63,\), the signal"),
    ],
)  # fmt: skip
def test_a_sample_of_the_wrong_kind_is_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(torch.zeros(2, 1, 64))
