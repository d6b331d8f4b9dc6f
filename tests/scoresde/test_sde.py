"""The forward SDEs: coefficients from alpha and sigma, and simulated transition kernels."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, SDE, VESDE, VPSDE, CosineVPSDE, FlowMatchingSDE, SubVPSDE
from scoresde.sde import sde_from
from tests.conftest import seeded

SDES: list[SDE] = [
    VPSDE(),
    VPSDE(beta_min=0.5, beta_max=12.0, eps=1e-2),
    SubVPSDE(),
    SubVPSDE(beta_min=0.5, beta_max=12.0, eps=1e-2),
    CosineVPSDE(),
    CosineVPSDE(eps=0.05),
    VESDE(),
    VESDE(sigma_min=0.1, sigma_max=5.0),
    EDMSDE(),
    EDMSDE(sigma_min=0.05, sigma_max=10.0),
    FlowMatchingSDE(),
    FlowMatchingSDE(eps=0.05),
]
each_sde = pytest.mark.parametrize("sde", SDES, ids=str)


def times(sde: SDE, n: int = 41) -> Tensor:
    return torch.linspace(sde.t_min, sde.t_max, n, dtype=torch.float64)


def derivative(function, t: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """df/dt at each t; also for a function that does not depend on t."""
    t = t.clone().requires_grad_()
    return torch.autograd.grad((function(t) + 0 * t).sum(), t)[0]


@pytest.mark.slow
@each_sde
class TestEverySDE:
    def test_drift_is_the_derivative_of_log_alpha(self, sde: SDE) -> None:
        t = times(sde)
        torch.testing.assert_close(
            sde.drift(t), derivative(lambda t: sde.alpha(t).log(), t), rtol=1e-12, atol=1e-14
        )

    def test_diffusion_balances_the_variance(self, sde: SDE) -> None:
        """g^2 = d sigma^2/dt - 2 f sigma^2."""
        t = times(sde)
        expected = derivative(lambda t: sde.sigma(t) ** 2, t) - 2 * sde.drift(t) * sde.sigma(t) ** 2
        torch.testing.assert_close(sde.diffusion(t) ** 2, expected, rtol=1e-12, atol=0)

    def test_log_snr_and_its_inverse(self, sde: SDE) -> None:
        t = times(sde)
        log_snr = sde.log_snr(t)
        torch.testing.assert_close(
            log_snr, (sde.alpha(t) ** 2 / sde.sigma(t) ** 2).log(), rtol=1e-11, atol=1e-11
        )
        assert bool((log_snr.diff() < 0).all())
        torch.testing.assert_close(sde.t_from_log_snr(log_snr), t, rtol=1e-11, atol=1e-13)

    def test_noise_to_signal_and_its_inverse(self, sde: SDE) -> None:
        t = times(sde)
        ratio = sde.noise_to_signal(t)
        torch.testing.assert_close(ratio, sde.sigma(t) / sde.alpha(t), rtol=1e-14, atol=0)
        torch.testing.assert_close(sde.t_from_noise_to_signal(ratio), t, rtol=1e-11, atol=1e-13)

    def test_single_precision_loses_nothing_but_rounding(self, sde: SDE) -> None:
        """At small times sigma must not come from a difference of numbers near 1."""
        t = times(sde).float()
        for name in ("alpha", "sigma", "drift", "diffusion"):
            function = getattr(sde, name)
            value, exact = function(t), function(t.double())
            assert value.dtype == torch.float32
            # The exponents reach 10 in size, and so does the factor by which their rounding enters
            # the value. Where alpha falls to 0 at t = 1, rounding pi t / 2 shifts the time itself,
            # which the condition number t f' / f multiplies
            condition = (
                (t.double() * derivative(function, t.double()) / exact).nan_to_num(0.0).abs()
            )
            assert bool(
                (
                    (value.double() - exact).abs()
                    <= torch.finfo(torch.float32).eps * (20 + 2 * condition) * exact.abs()
                ).all()
            ), name

    @pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3)])
    def test_times_of_any_shape(self, sde: SDE, shape: tuple[int, ...]) -> None:
        t = torch.full(shape, 0.5 * (sde.t_min + sde.t_max), dtype=torch.float64)
        for method in (
            sde.alpha,
            sde.sigma,
            sde.drift,
            sde.diffusion,
            sde.log_snr,
            sde.noise_to_signal,
        ):
            assert method(t).shape == shape
        assert sde.t_from_log_snr(sde.log_snr(t)).shape == shape

    def test_time_runs_from_data_to_noise(self, sde: SDE) -> None:
        first, *_, last = sde.noise_to_signal(times(sde)).tolist()
        assert 0 < first < 0.2 and last >= 5

    def test_frozen(self, sde: SDE) -> None:
        name = dataclasses.fields(sde)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(sde, name, 1.0)

    def test_describe_round_trip_through_json(self, sde: SDE) -> None:
        assert sde_from(json.loads(json.dumps(sde.describe()))) == sde

    @pytest.mark.parametrize("part", [(0.0, 0.5), (0.5, 0.95)], ids=["early", "late"])
    def test_simulation_gives_the_transition_kernel(
        self, sde: SDE, part: tuple[float, float]
    ) -> None:
        r"""Simulated paths have the mean and variance of the transition kernel.

        x_t given x_s is N(a x_s, b^2) with a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2
        sigma_s^2.

        Euler-Maruyama with the coefficients at the middle of each step h: its variance is then
        second order in h, and its mean is off by a factor of exp(-h/2 \int f^2). Mean and variance
        of n paths have standard errors sqrt(v/n) and v sqrt(2/n); 5 of them are allowed. The late
        part stops short of t_max, where some drifts are infinite.
        """
        n, steps, start = 10_000, 2000, 2.0
        s, t = (sde.t_min + fraction * (sde.t_max - sde.t_min) for fraction in part)
        generator = seeded(0)
        h = (t - s) / steps
        middle = s + h * (torch.arange(steps, dtype=torch.float64) + 0.5)
        drift, diffusion = sde.drift(middle), sde.diffusion(middle)
        x = torch.full((n,), start, dtype=torch.float64)
        for f, g in zip(drift.tolist(), diffusion.tolist(), strict=True):
            x = (
                x
                + f * h * x
                + g * math.sqrt(h) * torch.randn(n, dtype=torch.float64, generator=generator)
            )

        ends = torch.tensor([s, t], dtype=torch.float64)
        (alpha_s, alpha_t), (sigma_s, sigma_t) = sde.alpha(ends).tolist(), sde.sigma(ends).tolist()
        a = alpha_t / alpha_s
        mean, variance = a * start, sigma_t**2 - (a * sigma_s) ** 2
        assert [float(v) for v in sde.transition(*ends)] == pytest.approx(
            [a, math.sqrt(variance)], rel=1e-12
        )
        bias = float(h**2 * (drift**2).sum())  # twice the leading relative error of the mean
        assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n) + bias * abs(mean)
        assert abs(float(x.var()) - variance) < 5 * variance * math.sqrt(2 / n) + bias * variance
        # neither error is small against the tolerance
        assert bias < 0.01

    def test_transitions_chain(self, sde: SDE) -> None:
        """Chapman-Kolmogorov: r -> s -> t equals r -> t; and no time changes nothing."""
        grid = times(sde, 9)
        for r, s, t in [(0, 1, 2), (0, 4, 8), (3, 7, 8)]:
            (a, b), (c, d) = sde.transition(grid[r], grid[s]), sde.transition(grid[s], grid[t])
            torch.testing.assert_close(
                sde.transition(grid[r], grid[t]),
                (a * c, (d**2 + (c * b) ** 2).sqrt()),
                rtol=1e-10,
                atol=0,
            )
        a, b = sde.transition(grid, grid)
        assert torch.equal(a, torch.ones_like(a)) and torch.equal(b, torch.zeros_like(b))

    def test_the_density_from_which_sampling_starts(self, sde: SDE) -> None:
        assert sde.terminal_std() == float(sde.sigma(torch.tensor(sde.t_max, dtype=torch.float64)))
        x = sde.terminal_std() * torch.randn(5, 1, 3, 4, generator=seeded(0))
        std = torch.tensor(sde.terminal_std(), dtype=torch.float64)
        expected = torch.distributions.Normal(0 * std, std).log_prob(x.double()).flatten(1).sum(1)
        log_prob = sde.terminal_log_prob(x)
        # a sum over many entries, so always in double precision
        assert log_prob.shape == (5,) and log_prob.dtype == torch.float64
        torch.testing.assert_close(log_prob, expected, rtol=1e-12, atol=0)


def test_published_values() -> None:
    """Values from two papers.

    Song et al. 2021: alpha^2 = exp(-(beta_min + beta_max)/2) at t = 1; sigma from 0.01 to 50.
    Karras et al. 2022: sigma = t.
    """
    one = torch.ones((), dtype=torch.float64)
    assert float(VPSDE().alpha(one) ** 2) == pytest.approx(math.exp(-10.05), rel=1e-12)
    assert float(VPSDE().alpha(one) ** 2 + VPSDE().sigma(one) ** 2) == pytest.approx(1, abs=1e-15)
    assert float(VESDE().sigma(0 * one)) == pytest.approx(0.01) and float(
        VESDE().sigma(one)
    ) == pytest.approx(50)
    assert float(EDMSDE().sigma(3 * one)) == 3
    assert VESDE().terminal_std() == pytest.approx(50) and EDMSDE().terminal_std() == 80
    assert VPSDE().terminal_std() == pytest.approx(math.sqrt(-math.expm1(-10.05)), rel=1e-12)
    assert SubVPSDE().terminal_std() == pytest.approx(-math.expm1(-10.05), rel=1e-12)


def test_sub_vp_is_vp_with_less_noise() -> None:
    """Song et al. 2021, eqs. 38 and 29.

    g^2 = beta (1 - exp(-2 int beta)), alpha as VP, sigma = 1 - alpha^2, the square of VP's
    variance.
    """
    t, sub, vp = times(VPSDE()), SubVPSDE(), VPSDE()
    torch.testing.assert_close(sub.sigma(t), 1 - sub.alpha(t) ** 2, rtol=0, atol=1e-15)
    torch.testing.assert_close(sub.sigma(t), vp.sigma(t) ** 2, rtol=1e-13, atol=0)
    assert torch.equal(sub.alpha(t), vp.alpha(t)) and torch.equal(sub.drift(t), vp.drift(t))
    integral = 0.1 * t + 9.95 * t**2
    torch.testing.assert_close(
        sub.diffusion(t) ** 2, (0.1 + 19.9 * t) * (1 - (-2 * integral).exp()), rtol=1e-11, atol=0
    )
    assert bool((sub.diffusion(t) < vp.diffusion(t)).all())
    assert float(sub.alpha(t[-1]) ** 2) == pytest.approx(4.3e-5, rel=0.01)


def test_cosine_preserves_the_variance() -> None:
    """alpha^2 + sigma^2 = 1, equal parts at t = 1/2, log SNR = -2 ln tan(pi t / 2)."""
    sde, t = CosineVPSDE(), times(CosineVPSDE())
    torch.testing.assert_close(
        sde.alpha(t) ** 2 + sde.sigma(t) ** 2, torch.ones_like(t), rtol=1e-14, atol=0
    )
    torch.testing.assert_close(
        sde.log_snr(t), -2 * (math.pi / 2 * t).tan().log(), rtol=1e-11, atol=1e-11
    )
    assert float(sde.log_snr(torch.tensor(0.5, dtype=torch.float64))) == pytest.approx(0, abs=1e-15)
    # as for every VP SDE, beta = -2 f
    torch.testing.assert_close(sde.diffusion(t) ** 2, -2 * sde.drift(t), rtol=1e-12, atol=0)


def test_the_flow_goes_straight_from_data_to_noise() -> None:
    """x_t = (1 - t) x_0 + t eps has velocity eps - x_0.

    So has the probability-flow ODE of a single data point, with score -eps / sigma.
    """
    sde, t = FlowMatchingSDE(), times(FlowMatchingSDE())
    x0, eps = 1.7, -0.6
    x = sde.alpha(t) * x0 + sde.sigma(t) * eps
    velocity = sde.drift(t) * x + sde.diffusion(t) ** 2 / 2 * eps / sde.sigma(t)
    torch.testing.assert_close(velocity, torch.full_like(t, eps - x0), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("log_snr", [-30.0, -21.0, -5.0, 0.0, 20.0])
@pytest.mark.parametrize(
    "sde",
    [VPSDE(beta_max=80.0), SubVPSDE(beta_max=80.0), CosineVPSDE(), FlowMatchingSDE()],
    ids=str,
)
def test_inverse_far_from_the_middle(sde: SDE, log_snr: float) -> None:
    """A schedule that ends in much deeper noise than the default is inverted just as well."""
    t = sde.t_from_log_snr(torch.tensor(log_snr, dtype=torch.float64))
    assert float(sde.log_snr(t)) == pytest.approx(log_snr, abs=1e-8)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: VPSDE(beta_min=0.0), "beta_min"),
        (lambda: VPSDE(beta_min=3.0, beta_max=2.0), "3.0 and 2.0"),
        (lambda: VPSDE(beta_min=float("nan")), "nan"),
        (lambda: VPSDE(eps=0.0), "eps"),
        (lambda: VPSDE(eps=1.0), "eps"),
        (lambda: VESDE(sigma_min=0.0), "sigma_min"),
        (lambda: VESDE(sigma_min=2.0, sigma_max=1.0), "2.0 and 1.0"),
        (lambda: EDMSDE(sigma_min=-1.0), "sigma_min"),
        (lambda: EDMSDE(sigma_min=1.0, sigma_max=1.0), "1.0 and 1.0"),
        (lambda: SubVPSDE(beta_min=3.0, beta_max=2.0), "3.0 and 2.0"),
        (lambda: SubVPSDE(eps=0.0), "eps"),
        (lambda: CosineVPSDE(eps=0.0), "0 < eps < 0.5, got 0.0"),
        (lambda: CosineVPSDE(eps=0.5), "0 < eps < 0.5, got 0.5"),
        (lambda: FlowMatchingSDE(eps=-0.1), "0 < eps < 0.5, got -0.1"),
        (lambda: FlowMatchingSDE(eps=float("nan")), "nan"),
        (
            lambda: sde_from({"kind": "Ornstein"}),
            "'Ornstein'; known: VPSDE, SubVPSDE, CosineVPSDE, VESDE, EDMSDE, FlowMatchingSDE",
        ),
        (
            lambda: sde_from({"kind": "CosineVPSDE", "beta_min": 1.0}),
            "bad settings for CosineVPSDE: .*beta_min",
        ),
        (lambda: sde_from({}), "None"),
        (lambda: sde_from({"kind": "VPSDE", "gamma": 1.0}), "gamma"),
    ],
)
def test_bad_settings_are_named(attempt, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        attempt()


def test_sde_from_leaves_its_argument_as_it_is() -> None:
    description = VPSDE().describe()
    sde_from(description)
    assert description == VPSDE().describe()


BAD = [
    *(float("nan"), float("inf"), -float("inf"), 0, -1, 1e-30, 1e12, 1e60, 10**400, 1 - 1e-12),
    *("text", None, True, [1], 1j),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad)[:12])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, f.name)
        for kind in sorted({type(sde) for sde in SDES}, key=str)
        for f in dataclasses.fields(kind)
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_settings_out_of_range(kind: type[SDE], name: str, bad: object) -> None:
    """An SDE that can be made has finite, increasing noise levels in single precision."""
    try:
        sde = kind(**{name: bad})  # type: ignore[arg-type]
    except ValueError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        return
    t = torch.linspace(sde.t_min, sde.t_max, 9)
    assert all(
        bool(torch.isfinite(f(t)).all())
        for f in (sde.alpha, sde.sigma, sde.drift, sde.diffusion, sde.log_snr)
    )
    assert bool((sde.noise_to_signal(t).diff() >= 0).all())


@each_sde
class TestDomain:
    def test_it_holds_the_times_of_sampling(self, sde: SDE) -> None:
        first, last = sde.domain
        assert first <= sde.t_min < sde.t_max <= last
        for t in times(sde):
            sde.check_time(t, signal=True, noise=True)
            sde.check_time(float(t), signal=True, noise=True)
        sde.check_time(times(sde).float(), signal=True, noise=True, dtype=torch.float32)

    def test_sigma_and_alpha_are_right_inside_and_at_the_ends(self, sde: SDE) -> None:
        """sigma(0) = 0 but for VE, and alpha(1) = 0 where the signal vanishes."""
        first, last = (torch.tensor(end, dtype=torch.float64) for end in sde.domain)
        assert float(sde.sigma(first)) == 0 and not math.isnan(float(sde.alpha(last)))
        with pytest.raises(ValueError, match=r"adds no noise|finite|got t = -inf"):
            sde.check_time(float(first), noise=True)

    def test_rounding_past_the_end_is_no_error(self, sde: SDE) -> None:
        sde.check_time(
            sde.domain[1] * (1 + 1e-7) if sde.domain[1] < math.inf else 1e9, dtype=torch.float32
        )

    def test_no_times_are_no_error(self, sde: SDE) -> None:
        sde.check_time(torch.empty(0))
