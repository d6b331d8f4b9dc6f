"""The discretised logistic against SciPy, its sum, its tails, and draws against both."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from scoresde.families.autoregressive.logistic import (
    BIN,
    GREY_LEVELS,
    discretised_logistic_log_prob,
    discretised_logistic_mixture_log_prob,
    logistic_mixture_log_prob,
    sample_discretised_logistic_mixture,
    sample_logistic_mixture,
    to_levels,
)
from tests.conftest import seeded

GRID = torch.arange(GREY_LEVELS, dtype=torch.float64) * BIN - 1


def mixture(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(
        torch.tensor(v, dtype=dtype)
        for v in ([0.3, -0.5, 1.0], [-0.9, 0.2, 1.3], [-3.0, -1.5, -2.0])
    )  # type: ignore[return-value]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mean", [-3.0, -1.0, 0.1234, 1.0])
@pytest.mark.parametrize("log_scale", [-7.0, -4.0, -1.0, 3.0])
def test_the_levels_sum_to_one(mean: float, log_scale: float, dtype: torch.dtype) -> None:
    total = torch.logsumexp(
        discretised_logistic_log_prob(
            GRID.to(dtype), torch.tensor(mean, dtype=dtype), torch.tensor(log_scale, dtype=dtype)
        ),
        0,
    )
    assert abs(float(total)) < (1e-4 if dtype == torch.float32 else 1e-12)  # -> ln 1


@pytest.mark.parametrize(("mean", "scale"), [(0.1, 0.3), (-0.95, 0.02), (2.0, 0.5)])
def test_levels_against_scipy(mean: float, scale: float) -> None:
    law = scipy.stats.logistic(mean, scale)
    edges = np.concatenate([[-np.inf], (GRID[:-1] + BIN / 2).numpy(), [np.inf]])
    expected = np.where(
        edges[1:] > mean,
        law.sf(edges[:-1]) - law.sf(edges[1:]),
        law.cdf(edges[1:]) - law.cdf(edges[:-1]),
    )
    found = (
        discretised_logistic_log_prob(
            GRID, *torch.tensor([mean, np.log(scale)], dtype=torch.float64)
        )
        .exp()
        .numpy()
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-290)


def test_density_of_the_line_against_scipy() -> None:
    logits, means, log_scales = mixture()
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    weights = logits.softmax(0).numpy()
    expected = sum(
        w * scipy.stats.logistic(float(m), float(s.exp())).pdf(x.numpy())
        for w, m, s in zip(weights, means, log_scales, strict=True)
    )
    np.testing.assert_allclose(
        logistic_mixture_log_prob(x, logits, means, log_scales).exp().numpy(), expected, rtol=1e-10
    )


def test_far_tails_and_narrow_scales_keep_their_digits_and_gradients() -> None:
    """In the tail ln P = -distance/scale + ln(1 - e^(-h/s)).

    There the naive difference of two sigmoids is 0 - 0.
    """
    mean = torch.tensor(-1.0, requires_grad=True)
    log_scale = torch.tensor(-7.0, requires_grad=True)
    value = discretised_logistic_log_prob(torch.tensor(BIN * 200 - 1), mean, log_scale)
    value.backward()
    s = np.exp(-7.0)
    assert value.item() == pytest.approx(
        -(200 * BIN - BIN / 2) / s + np.log1p(-np.exp(-BIN / s)), rel=1e-5
    )
    assert mean.grad is not None and log_scale.grad is not None
    assert mean.grad.item() == pytest.approx(1 / s, rel=1e-4)
    assert bool(torch.isfinite(log_scale.grad))
    wide = discretised_logistic_log_prob(torch.tensor(0.5), torch.tensor(0.5), torch.tensor(6.0))
    assert wide.item() == pytest.approx(np.log(BIN / 4) - 6, abs=1e-4)


def test_gradients_against_finite_differences() -> None:
    parts = [v.requires_grad_(True) for v in mixture()]
    x = GRID[[0, 1, 100, 254, 255]]
    assert torch.autograd.gradcheck(lambda *p: discretised_logistic_mixture_log_prob(x, *p), parts)
    assert torch.autograd.gradcheck(lambda *p: logistic_mixture_log_prob(x, *p), parts)


def test_draws_have_the_law() -> None:
    n, parts = 40000, mixture()
    wide = [v.expand(n, 3) for v in parts]
    x = sample_logistic_mixture(*wide, seeded(0))
    weights = parts[0].softmax(0).numpy()
    laws = [
        scipy.stats.logistic(float(m), float(s.exp()))
        for m, s in zip(parts[1], parts[2], strict=True)
    ]
    assert (
        scipy.stats.kstest(
            x.numpy(), lambda t: sum(w * law.cdf(t) for w, law in zip(weights, laws, strict=True))
        ).pvalue
        > 1e-3
    )
    levels = sample_discretised_logistic_mixture(*wide, seeded(0))
    assert torch.equal(levels, to_levels(x))
    counts = torch.bincount(((levels + 1) / BIN).round().long(), minlength=GREY_LEVELS).double()
    expected = n * discretised_logistic_mixture_log_prob(GRID, *parts).exp()
    common = expected > 5
    z = (counts - expected)[common] / expected[common].sqrt()
    assert float(z.square().mean()) == pytest.approx(1, abs=5 * (2 / int(common.sum())) ** 0.5)


def test_a_seed_decides_and_float32_stays() -> None:
    parts = mixture(torch.float32)
    a, b, c = (sample_logistic_mixture(*parts, seeded(seed)) for seed in (1, 1, 2))
    assert (
        torch.equal(a, b) and not torch.equal(a, c) and a.dtype == torch.float32 and a.shape == ()
    )


def test_pictures_are_rounded_to_their_level() -> None:
    assert torch.equal(to_levels(torch.tensor([-2.0, 1.0, 3.0])), torch.tensor([-1.0, 1.0, 1.0]))
    near = GRID[100] + 0.4 * BIN
    assert discretised_logistic_log_prob(
        near, torch.tensor(0.0), torch.tensor(0.0)
    ) == discretised_logistic_log_prob(GRID[100], torch.tensor(0.0), torch.tensor(0.0))
