"""What holds for any settings: noise schedules, grids of times, operators, descriptions."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import Blur, Denoising, GaussianNoise, Inpainting, InverseProblem, problem_from
from scoresde.sde import EDMSDE, SDE, VESDE, VPSDE, CosineVPSDE, FlowMatchingSDE, SubVPSDE, sde_from
from solvers.samplers import TimeGrid
from tests.conftest import F64, seeded

QUICK = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@st.composite
def beta_sdes(draw: st.DrawFn) -> SDE:
    low = draw(st.floats(0.01, 1.0))
    kind = draw(st.sampled_from([VPSDE, SubVPSDE]))
    return kind(low, low + draw(st.floats(1.0, 40.0)))


@st.composite
def exploding_sdes(draw: st.DrawFn) -> SDE:
    low = draw(st.floats(1e-4, 0.1))
    kind = draw(st.sampled_from([VESDE, EDMSDE]))
    return kind(low, low * draw(st.floats(10.0, 1e5)))


SDES = st.one_of(beta_sdes(), exploding_sdes(), st.just(CosineVPSDE()), st.just(FlowMatchingSDE()))


@pytest.mark.slow
@given(SDES, st.floats(0.0, 1.0))
@QUICK
def test_schedules(sde: SDE, place: float) -> None:
    """alpha falls, sigma and sigma / alpha rise; the time of a log-SNR is that of its noise."""
    t = torch.linspace(sde.t_min, sde.t_max, 50, dtype=F64)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    assert bool(((alpha > 0) & (alpha <= 1) & (sigma > 0)).all())
    assert bool((alpha.diff() <= 0).all()) and bool((sigma.diff() > 0).all())
    assert torch.allclose(sde.log_snr(t), 2 * (alpha / sigma).log(), rtol=1e-9, atol=1e-9)
    one = torch.tensor([sde.t_min + place * (sde.t_max - sde.t_min)], dtype=F64)
    back = sde.t_from_log_snr(sde.log_snr(one))
    assert torch.allclose(sde.log_snr(back), sde.log_snr(one), rtol=0, atol=1e-6)
    if sde.sigma(one) < 0.999999:  # where alpha and sigma are flat, many times have one log-SNR
        assert torch.allclose(back, one, rtol=1e-6, atol=1e-6)


@given(SDES)
@QUICK
def test_descriptions_of_schedules(sde: SDE) -> None:
    assert sde_from(json.loads(json.dumps(sde.describe()))) == sde


@pytest.mark.slow
@given(
    SDES,
    st.integers(1, 60),
    st.sampled_from(["karras", "log_snr", "uniform"]),
    st.floats(0.5, 20.0),
)
@QUICK
def test_grids(sde: SDE, steps: int, spacing: str, rho: float) -> None:
    """Times fall from the largest noise to the smallest and stay within those of the SDE."""
    times = TimeGrid(spacing, rho).times(sde, steps)  # type: ignore[arg-type]
    assert len(times) == steps
    assert bool((times.diff() < 0).all())
    assert sde.t_min - 1e-9 <= float(times[-1]) and float(times[0]) <= sde.t_max + 1e-9


@st.composite
def problems_of_pictures(draw: st.DrawFn) -> tuple[InverseProblem, tuple[int, int, int]]:
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    g = seeded(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["denoise", "mask", "blur"]))
    if kind == "denoise":
        operator = Denoising()
    elif kind == "mask":
        mask = torch.rand(height, width, generator=g) < 0.6
        mask[0, 0] = True
        operator = Inpainting(mask)
    else:
        sides = [draw(st.integers(1, n)) for n in (height, width)]
        kernel = torch.rand(*sides, generator=g) + 0.01
        boundary = draw(st.sampled_from(["circular", "zero", "replicate"]))
        operator = Blur(kernel / kernel.sum(), boundary)
    noise = GaussianNoise(draw(st.floats(1e-3, 10.0)))
    return InverseProblem(operator, noise), (draw(st.sampled_from([1, 3])), height, width)


@given(problems_of_pictures(), st.integers(0, 1000))
@QUICK
def test_adjoints(case: tuple[InverseProblem, tuple[int, int, int]], seed: int) -> None:
    """<A x, y> = <x, A^T y> for shapes down to one pixel."""
    problem, shape = case
    g = seeded(seed)
    x = torch.randn(2, *shape, generator=g, dtype=F64)
    ax = problem.operator.apply(x)
    y = torch.randn(ax.shape, generator=g, dtype=F64)
    right = (x * problem.operator.adjoint(y)).sum()
    assert (ax * y).sum().item() == pytest.approx(right.item(), rel=1e-9, abs=1e-9)


@given(problems_of_pictures(), st.integers(0, 1000))
@QUICK
def test_descriptions(case: tuple[InverseProblem, tuple[int, int, int]], seed: int) -> None:
    """A problem that was written as JSON and read again measures the same to the bit."""
    problem, shape = case
    again = problem_from(json.loads(json.dumps(problem.describe())))
    x = torch.randn(1, *shape, generator=seeded(seed))
    assert torch.equal(again.operator.apply(x), problem.operator.apply(x))
    assert again.describe() == problem.describe()
