"""Half precision is a format of storage: results are those of float32, rounded once.

Every example of the test sheet and every noise, in float16 and bfloat16. What is given is the same
number in both precisions, so the results must agree to the bit after rounding.
"""

import zlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from problems import (
    JPEG,
    CorrelatedNoise,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    LaplaceNoise,
    LinearOperator,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    Quantisation,
    SaltAndPepperNoise,
    UniformNoise,
)
from problems.operators.phase_retrieval import PhaseRetrieval
from tests.conftest import randn, seeded
from tests.problems.test_operators import CASES, Case, each, in_turn

HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
each_half = pytest.mark.parametrize("dtype", HALVES.values(), ids=HALVES)


def same(method: Callable[..., Tensor], *tensors: Tensor, dtype: torch.dtype) -> None:
    """The result in half precision is that in float32 at the same numbers, rounded."""
    halves = [x.to(dtype) for x in tensors]
    found = method(*halves)
    assert found.dtype == dtype
    expected = method(*(x.float() for x in halves)).to(dtype)
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@each_half
@each(in_turn(CASES))
def test_every_operator(case: Case, dtype: torch.dtype) -> None:
    op, x, y = case.operator, case.x(), case.y()
    same(op.apply, x, dtype=dtype)
    same(op.vjp, x, y, dtype=dtype)
    same(op.preview, y, dtype=dtype)
    same(op.linearise(x.to(dtype)).apply, x, dtype=dtype)
    if isinstance(op, LinearOperator):
        same(op.adjoint, y, dtype=dtype)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::problems.linalg.solve.SolveWarning")
@each([case for case in in_turn(CASES) if isinstance(case.operator, LinearOperator)])
def test_every_linear_operator(case: Case) -> None:
    """In one of the two formats, chosen by the name: solves take long, and round as others do."""
    # another digit than the one by which in_turn chooses
    dtype = list(HALVES.values())[zlib.crc32(case.name.encode()) // 8 % 2]
    op, x, y = case.operator, case.x(), case.y()
    same(op.pinv, y, dtype=dtype)
    same(lambda v: op.solve(v, 0.5, 2.0), y, dtype=dtype)
    same(lambda z: op.solve_primal(z, 0.5, 2.0), x, dtype=dtype)
    same(lambda z, v: op.prox(z, v, 0.1, 0.3), x, y, dtype=dtype)
    same(lambda z, v: op.prox_sample(z, v, 0.1, 0.3, seeded()), x, y, dtype=dtype)
    if "svd" in op.capabilities:
        assert op.svd(case.shape, x.to(dtype)).s.dtype == torch.float32


@each_half
def test_levels_are_those_of_the_grid(dtype: torch.dtype) -> None:
    """A level is the nearest number of half precision, and no level is skipped."""
    x = torch.linspace(-1, 1, 400, dtype=torch.float64)[None].to(dtype)
    levels = (2 * torch.arange(8, dtype=torch.float64) / 7 - 1).float().to(dtype)
    assert torch.equal(Quantisation(8).apply(x).unique(), levels)


@each_half
def test_a_measurement_of_mixed_precision_keeps_the_better(dtype: torch.dtype) -> None:
    z, y = randn(2, 1, 8, 8).float(), randn(2, 1, 8, 8, seed=1).to(dtype)
    operator = GaussianBlur(0.7, "reflect", 2.0)
    found = operator.prox(z, y, 0.1, 0.3)
    assert found.dtype == torch.float32
    assert torch.equal(found, operator.prox(z, y.float(), 0.1, 0.3))


NOISES: dict[str, Noise] = {
    "gaussian": GaussianNoise(0.1),
    "levels": GaussianNoise(torch.full((1, 8, 8), 0.2)),
    "correlated": CorrelatedNoise(GaussianBlur(0.5, "circular", 2.0)),
    "laplace": LaplaceNoise(0.1),
    "poisson": PoissonNoise(50.0),
    "poisson-gaussian": PoissonGaussianNoise(50.0, 0.1),
    "salt-and-pepper": SaltAndPepperNoise(0.1, 0.2),
    "uniform": UniformNoise(0.5),
}


@each_half
@pytest.mark.parametrize("name", NOISES)
def test_every_noise(name: str, dtype: torch.dtype) -> None:
    noise = NOISES[name]
    mean = (randn(2, 1, 8, 8) / 3).clamp(-0.9, 0.9).to(dtype)
    same(lambda m: noise.sample(m, seeded()), mean, dtype=dtype)
    y = noise.sample(mean, seeded())
    same(noise.score, y, mean, dtype=dtype)
    if "covariance" in noise.capabilities:
        same(noise.covariance_matvec, mean, y, dtype=dtype)
    densities = [noise.log_prob]
    if "joint_density" not in noise.capabilities:
        densities.append(noise.log_density)
    for density in densities:
        found = density(y, mean)
        assert found.dtype == torch.float32
        assert torch.equal(found, density(y.float(), mean.float()))


def test_a_likelihood_of_a_large_image_does_not_overflow() -> None:
    """The sum is 3 * 128 * 128 ln(20), above the largest number of float16."""
    problem = InverseProblem(GaussianBlur(1.0), GaussianNoise(0.01))
    x = torch.zeros(1, 3, 128, 128, dtype=torch.float16)
    expected = -x.numel() * (0.01 * (2 * torch.pi) ** 0.5 * torch.ones(1).double()).log()
    found = problem.log_likelihood(problem.operator.apply(x), x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    assert float(found) > torch.finfo(torch.float16).max


BAD = [torch.uint8, torch.int64, torch.bool, torch.complex64]


@pytest.mark.parametrize("dtype", BAD, ids=str)
def test_other_numbers_are_refused(dtype: torch.dtype) -> None:
    bad, good = torch.ones(1, 1, 8, 8).to(dtype), torch.ones(1, 1, 8, 8)
    blur = GaussianBlur(0.7)
    attempts: list[Callable[[], object]] = [
        lambda: JPEG(50).apply(bad),
        lambda: PhaseRetrieval().vjp(bad, torch.ones(1, 1, 16, 16)),
        lambda: JPEG(50).vjp(good, bad),
        lambda: JPEG(50).linearise(bad),
        lambda: blur.adjoint(bad),
        lambda: blur.pinv(bad),
        lambda: blur.solve(bad, 1.0, 1.0),
        lambda: blur.solve_primal(bad, 1.0, 1.0),
        lambda: blur.prox(bad, good, 1.0, 1.0),
        lambda: blur.prox(good, bad, 1.0, 1.0),
        lambda: blur.prox_sample(bad, good, 1.0, 1.0),
        lambda: GaussianNoise(0.1).sample(bad),
        lambda: GaussianNoise(0.1).log_prob(good, bad),
        lambda: PoissonNoise(9.0).score(bad, good),
        lambda: InverseProblem(blur, GaussianNoise(0.1)).measure(bad),
        lambda: InverseProblem(blur, GaussianNoise(0.1)).log_likelihood(bad, good),
        lambda: InverseProblem(blur, GaussianNoise(0.1)).check_measurement(bad),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="real floating-point"):
            attempt()


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: GaussianBlur(0.7).prox(torch.ones(2, 3, 8, 8), torch.ones(2, 1, 8, 8), 1.0, 1.0),
        lambda: GaussianBlur(0.7).prox(torch.ones(2, 3, 8, 8), torch.ones(3, 3, 8, 8), 1.0, 1.0),
        lambda: JPEG(50).vjp(torch.ones(2, 3, 8, 8), torch.ones(2, 1, 8, 8)),
        lambda: JPEG(50).vjp(torch.ones(2, 3, 8, 8), torch.ones(1, 3, 8, 8)),
    ],
)
def test_shapes_that_would_be_spread_are_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"measurements of shape \(2, 3, 8, 8\), got"):
        attempt()


def test_noise_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape \(B, ...\), got \(1, 1, 8, 8\) and \(1, 3"):
        GaussianNoise(0.1).log_prob(torch.ones(1, 1, 8, 8), torch.ones(1, 3, 8, 8))
