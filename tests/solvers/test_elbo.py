"""The variational bound against closed forms and densities, and the coverage of its error bars."""

import math

import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch import Tensor, nn

from problems.linalg.broadcast import expand_like
from scoresde import (
    EDMSDE,
    SDE,
    VPSDE,
    CountingPrior,
    GaussianMixturePrior,
    GaussianPrior,
    Prior,
    ScorePrior,
)
from scoresde.families import Diffusion, DiffusionConfig
from scoresde.networks import UNet, UNetConfig
from solvers import GaussianReference, LowerBound, elbo, log_likelihood
from tests.conftest import F64, seeded
from tests.laws import each_sde


def ends(sde: SDE) -> tuple[float, float]:
    """The lowest and the highest noise-to-signal ratio."""
    low, high = sde.noise_to_signal(torch.tensor([sde.t_min, sde.t_max], dtype=F64)).tolist()
    return low, high


def gaussian(sde: SDE, d: int = 6) -> GaussianPrior:
    root = torch.randn(d, d, dtype=F64, generator=seeded(0))
    return GaussianPrior(
        torch.randn(d, dtype=F64, generator=seeded(1)), root @ root.T / d + 0.02 * torch.eye(d), sde
    )


def isotropic(d: int, variance: float = 0.5) -> GaussianReference:
    return GaussianReference(torch.zeros(d, dtype=F64), torch.full((d,), variance, dtype=F64))


def mixture(sde: SDE | None = None, d: int = 8) -> GaussianMixturePrior:
    """Three components with different full covariances."""
    g = seeded(0)
    roots = torch.randn(3, d, d, dtype=F64, generator=g)
    covariances = 0.3 * roots @ roots.mT / d + 0.02 * torch.eye(d, dtype=F64)
    return GaussianMixturePrior(
        torch.tensor([0.5, 0.3, 0.2]),
        0.7 * torch.randn(3, d, dtype=F64, generator=g),
        covariances,
        sde,
    )


def network(shape: tuple[int, ...] = (1, 4, 4)) -> ScorePrior:
    """A small network with random weights."""
    torch.manual_seed(0)
    net = UNet(
        UNetConfig(channels=shape[0], widths=(8, 16), blocks=1, attention=(1,), embedding=16)
    )
    for p in net.parameters():
        nn.init.normal_(p, std=0.15)
    return ScorePrior(net.double(), EDMSDE(0.01, 20.0), shape).requires_grad_(False).eval()


class Biased(Prior):
    """A denoiser that is off by -s b, so that its eps_hat is off by b at every noise level."""

    def __init__(self, prior: Prior, b: Tensor) -> None:
        super().__init__(prior.sde, prior.shape)
        self.prior, self.b = prior, b

    @property
    def dtype(self) -> torch.dtype:
        return self.prior.dtype

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.prior._denoise(x_t, t) - expand_like(self.sde.noise_to_signal(t), x_t) * self.b


class White(Prior):
    """N(0, variance) in d dimensions, for large d."""

    def __init__(self, variance: float, d: int) -> None:
        super().__init__(EDMSDE(), (d,))
        self.variance = variance

    @property
    def dtype(self) -> torch.dtype:
        return F64

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.variance / (self.variance + expand_like(t, x_t) ** 2) * x_t


def uncontrolled(prior: Prior, x: Tensor, nodes: int = 64) -> Tensor:
    """The integral alone, in strata of ln s, without control variates, for the EDM."""
    s_min, s_max = ends(prior.sde)
    width, generator = math.log(s_max / s_min) / nodes, seeded(2)
    s = (
        s_min
        * (
            width
            * (torch.arange(nodes) + torch.rand(len(x), nodes, dtype=F64, generator=generator))
        ).exp()
    )
    total = torch.zeros(len(x), dtype=F64)
    for s_i in s.unbind(1):
        x0_hat = prior.denoise(
            x + s_i[:, None] * torch.randn(x.shape, dtype=F64, generator=generator), s_i
        )
        total -= width * ((x0_hat - x) / s_i[:, None]).square().sum(1)
    return total


def repeated(prior: Prior, x: Tensor, n: int, **settings: object) -> tuple[Tensor, Tensor]:
    """Mean of n estimates of the bound at each x and the standard error by their scatter, (B,)."""
    got = elbo(prior, x.repeat_interleave(n, 0), batch=4000, **settings).value.reshape(len(x), n)
    return got.mean(1), got.std(1) / math.sqrt(n)


def written_out(prior: GaussianPrior, one: Tensor, reference: GaussianReference) -> float:
    """The bound as the papers write it, with the exact denoiser of a Gaussian.

    Decoder, integral over lambda by SciPy, and KL divergence at the end.
    """
    s_min, s_max = ends(prior.sde)
    d, lam, c = len(one), prior.lam[0], (one - prior.means[0]) @ prior.Q[0]

    def loss(log_snr: float) -> float:
        s = math.exp(-log_snr / 2)
        # eps - eps_hat = (Lambda eps - s c) / (Lambda + s^2)
        return float(((lam**2 + s**2 * c**2) / (lam + s**2) ** 2).sum())

    integral = quad(
        loss, -2 * math.log(s_max), -2 * math.log(s_min), epsabs=1e-10, epsrel=1e-10, limit=500
    )[0]
    last, difference = reference.variances + s_max**2, reference.coordinates(one - reference.mean)
    kl = 0.5 * float((s_max**2 / last - 1 + difference**2 / last + (last / s_max**2).log()).sum())
    return -d / 2 * math.log(2 * math.pi * math.e * s_min**2) - integral / 2 - kl


def entropy(prior: GaussianPrior, s: float) -> float:
    return 0.5 * float((2 * math.pi * math.e * (prior.lam[0] + s**2)).log().sum())


class TestGaussian:
    @each_sde
    def test_exact_with_its_own_reference(self, sde: SDE) -> None:
        """The loss and the reference have the same noise, so that only the formula remains."""
        prior = gaussian(sde)
        x = torch.cat(
            [prior.sample(3, seeded(2)), 2 * torch.randn(2, 6, dtype=F64, generator=seeded(3))]
        )
        got = elbo(prior, x, nodes=8, generator=seeded(0))
        reference = GaussianReference.from_covariance(*prior.moments())
        expected = torch.tensor([written_out(prior, one, reference) for one in x], dtype=F64)
        torch.testing.assert_close(got.value, expected, rtol=0, atol=1e-6)
        assert float(got.std_error.max()) < 1e-6

    @each_sde
    def test_unbiased_with_another_reference(self, sde: SDE) -> None:
        """Few nodes and a wrong reference: control variates with large weights keep the mean."""
        prior, reference = gaussian(sde), isotropic(6)
        x = torch.cat(
            [prior.sample(3, seeded(2)), 2 * torch.randn(1, 6, dtype=F64, generator=seeded(3))]
        )
        mean, error = repeated(prior, x, 1500, nodes=12, reference=reference, generator=seeded(0))
        expected = torch.tensor([written_out(prior, one, reference) for one in x], dtype=F64)
        assert bool(((mean - expected).abs() < 4 * error).all())

    @pytest.mark.slow
    @pytest.mark.parametrize("d", [1, 2])
    def test_unbiased_in_few_dimensions(self, d: int) -> None:
        """|eps|^2 may be nearly zero, and ratios of losses arbitrarily large."""
        prior, reference = gaussian(EDMSDE(0.05, 20.0), d), isotropic(d, 0.3)
        x = prior.sample(2, seeded(2))
        mean, error = repeated(prior, x, 20_000, nodes=8, reference=reference, generator=seeded(0))
        expected = torch.tensor([written_out(prior, one, reference) for one in x], dtype=F64)
        assert bool(((mean - expected).abs() < 4 * error).all())

    def test_below_the_density_of_what_the_decoder_puts_out(self) -> None:
        sde = EDMSDE(0.1, 80.0)
        prior = gaussian(sde)
        x = torch.cat(
            [prior.sample(50, seeded(2)), 3 * torch.randn(50, 6, dtype=F64, generator=seeded(3))]
        )
        assert bool(
            (
                elbo(prior, x, nodes=8, generator=seeded(0)).value
                < prior.log_prob(x, math.sqrt(2) * 0.1)
            ).all()
        )

    def test_tight_in_the_mean_but_for_the_noise_of_the_decoder(self) -> None:
        """The mean bound is minus the entropy at the lowest noise.

        It is below E_p[ln p], minus the entropy of the data.
        """
        sde = EDMSDE(0.1, 80.0)
        prior = gaussian(sde)
        x = prior.sample(4000, seeded(2))
        value = elbo(prior, x, nodes=8, batch=4000, generator=seeded(0)).value
        # paired: the noise of x itself is mostly the same in both
        below = prior.log_prob(x) - value
        gap = entropy(prior, 0.1) - entropy(prior, 0.0)
        error = float(below.std()) / math.sqrt(len(x))
        assert gap > 20 * error and abs(float(below.mean()) - gap) < 4 * error
        assert abs(float(value.mean()) + entropy(prior, 0.1)) < 4 * float(value.std()) / math.sqrt(
            len(x)
        )


@pytest.mark.slow
class TestMixture:
    @each_sde
    def test_pointwise(self, sde: SDE) -> None:
        """With the exact denoiser the bound is E ln p_s(x + s eps) at the lowest noise, for all x.

        Without that noise it is ln p(x).
        """
        prior, (s_min, s_max), n = mixture(sde), ends(sde), 20_000
        x = torch.cat(
            [prior.sample(3, seeded(1)), torch.randn(2, 8, dtype=F64, generator=seeded(2))]
        )
        eps = torch.randn(n, 8, dtype=F64, generator=seeded(3))
        reference = GaussianPrior(*prior.moments(), EDMSDE())

        def log_prob(s: float, t: float) -> Tensor:
            """ln p_s(x + s eps), (B, n)."""
            alpha = float(sde.alpha(torch.tensor(t, dtype=F64)))
            u = (x[:, None] + s * eps).flatten(0, 1)
            return (prior.log_prob(alpha * u, t) + 8 * math.log(alpha)).reshape(len(x), n)

        first, last = log_prob(s_min, sde.t_min), log_prob(s_max, sde.t_max)
        # the prior at the highest noise is not exactly Gaussian
        swap = (
            reference.log_prob((x[:, None] + s_max * eps).flatten(0, 1), s_max).reshape(len(x), n)
            - last
        )
        expected, variance = first.mean(1) + swap.mean(1), (first + swap).var(1) / n
        assert float(swap.mean(1).abs().max()) < 1e-3
        mean, error = repeated(prior, x, 400, generator=seeded(4))
        assert bool(((mean - expected).abs() < 4 * (error**2 + variance).sqrt()).all())
        mean, error = repeated(prior, x, 400, end="data", generator=seeded(5))
        assert bool(((mean - prior.log_prob(x)).abs() < 4 * error + 1e-3).all())

    def test_the_continuation_to_no_noise_matters(self) -> None:
        """Here the noise of the decoder costs a tenth of a nat or more.

        The check above uses so little noise that it would not notice.
        """
        prior = mixture(EDMSDE(0.05, 80.0))
        x = prior.sample(4, seeded(1))
        chi = {}
        for end in ("t_min", "data"):
            mean, error = repeated(prior, x, 2000, end=end, generator=seeded(4))
            chi[end] = float(((mean - prior.log_prob(x)) / error).norm())
        limit = math.sqrt(stats.chi2.isf(1e-4, 4))
        assert chi["t_min"] > 3 * limit and chi["data"] < limit

    def test_beside_the_exact_likelihood(self) -> None:
        """Two ways to the same number: the trace of the flow, and denoising losses."""
        prior = mixture(VPSDE())
        x = prior.sample(4, seeded(1))
        flow = log_likelihood(prior, x, nodes=64).value
        mean, error = repeated(prior, x, 400, end="data", generator=seeded(4))
        assert bool(((mean - flow).abs() < 4 * error + 2e-3).all())


@pytest.mark.slow
class TestWrongDenoiser:
    def test_a_constant_error_costs_what_it_should(self) -> None:
        """A constant error b lowers the bound by |b|^2 (lambda_max - lambda_min) / 2.

        Over the data E[(eps - eps_hat) . b] = 0, so there is no mixed term.
        """
        prior = mixture(EDMSDE(0.01, 20.0))
        b = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.2, 0.0, -0.1, 0.1], dtype=F64)
        x = prior.sample(3000, seeded(1))
        reference = GaussianReference.from_covariance(*prior.moments())
        right, wrong = (
            elbo(p, x, reference=reference, nodes=32, batch=3000, generator=seeded(2)).value
            for p in (prior, Biased(prior, b))
        )
        gap = float(b.square().sum()) * math.log(20.0 / 0.01)
        error = float((right - wrong).std()) / math.sqrt(len(x))
        assert gap > 20 * error and abs(float((right - wrong).mean()) - gap) < 4 * error

    def test_another_law_costs_its_divergence(self) -> None:
        """A shrunken and shifted law: half the integral of |eps_hat' - eps_hat|^2.

        With its own end it is KL(p_s

        p'_s) at the lowest noise.
        """
        sde, lam, lam_wrong = (
            EDMSDE(0.05, 40.0),
            torch.tensor([1.0, 0.3, 0.05], dtype=F64),
            torch.tensor([0.5, 0.3, 0.1], dtype=F64),
        )
        shift = torch.tensor([0.2, -0.1, 0.1], dtype=F64)
        prior, other = (
            GaussianPrior(torch.zeros(3, dtype=F64), lam.diag(), sde),
            GaussianPrior(shift, lam_wrong.diag(), sde),
        )
        x = prior.sample(8000, seeded(1))

        def difference(s: float) -> float:
            """E |eps_hat' - eps_hat|^2 over p_s, eps_hat = s (Lambda + s^2)^-1 (u - mu)."""
            q, q_wrong = lam + s**2, lam_wrong + s**2
            return float((s**2 * ((1 / q - 1 / q_wrong) ** 2 * q + shift**2 / q_wrong**2)).sum())

        # half of it in lambda = -2 ln s
        integral = quad(lambda log_s: difference(math.exp(log_s)), math.log(0.05), math.log(40.0))[
            0
        ]
        q, q_wrong = lam + 0.05**2, lam_wrong + 0.05**2
        divergence = 0.5 * float((q / q_wrong - 1 + shift**2 / q_wrong + (q_wrong / q).log()).sum())
        for reference, gap in ((isotropic(3), integral), (None, divergence)):
            right, wrong = (
                elbo(p, x, reference=reference, nodes=24, batch=8000, generator=seeded(2)).value
                for p in (prior, other)
            )
            error = float((right - wrong).std()) / math.sqrt(len(x))
            assert gap > 10 * error and abs(float((right - wrong).mean()) - gap) < 4 * error


@pytest.mark.slow
class TestErrorBars:
    @pytest.mark.parametrize("reference", [None, isotropic(8)], ids=["own", "isotropic"])
    @pytest.mark.parametrize("draws", [1, 2])
    def test_intervals_cover_as_often_as_they_say(
        self, reference: GaussianReference | None, draws: int
    ) -> None:
        """Over 1000 runs; 3.3 standard errors of a proportion (a level of 1e-3) are allowed."""
        prior, n = mixture(EDMSDE(0.01, 1000.0)), 1000
        x = prior.sample(n, seeded(1))
        u = x[:, None] + 0.01 * torch.randn(n, 400, 8, dtype=F64, generator=seeded(3))
        expected = prior.log_prob(u.flatten(0, 1), 0.01).reshape(n, -1).mean(1)
        got = elbo(prior, x, draws=draws, reference=reference, batch=n, generator=seeded(2))
        for level in (0.68, 0.95):
            half = torch.from_numpy(stats.t.ppf((1 + level) / 2, got.dof.numpy())) * got.std_error
            covered = float(((got.value - expected).abs() <= half).double().mean())
            assert abs(covered - level) < 3.3 * math.sqrt(level * (1 - level) / n)

    def test_draws_are_averaged(self) -> None:
        prior = mixture()
        x = prior.sample(1, seeded(1)).expand(400, -1)
        one, four = (elbo(prior, x, draws=k, batch=400, generator=seeded(2)) for k in (1, 4))
        assert float(four.value.std() / one.value.std()) == pytest.approx(
            0.5, abs=4 * 0.5 / math.sqrt(400)
        )
        assert float(
            (four.std_error.square().mean() / one.std_error.square().mean()).sqrt()
        ) == pytest.approx(0.5, abs=0.05)
        assert four.nfe == 4 * one.nfe == 256 and float(four.dof.mean()) > 2 * float(one.dof.mean())

    def test_the_controls_lower_the_variance(self) -> None:
        """Control variates lower the variance within the same strata.

        In few dimensions they remove the variance of the noise; in many, that of the place in the
        stratum.
        """
        prior = mixture(EDMSDE())
        x = prior.sample(1, seeded(1)).expand(400, -1)
        controlled = elbo(prior, x, reference=isotropic(8), batch=400, generator=seeded(3)).value
        assert float(controlled.var()) < 0.5 * float(uncontrolled(prior, x).var())
        white = White(0.1, 5000)
        x = math.sqrt(0.1) * torch.randn(1, 5000, dtype=F64, generator=seeded(1)).expand(40, -1)
        error = elbo(white, x, reference=isotropic(5000), generator=seeded(3)).std_error
        assert float(error.square().mean()) < 0.05 * float(uncontrolled(white, x).var())


class TestContract:
    def test_batches_and_seeds(self) -> None:
        prior = mixture()
        x = prior.sample(5, seeded(0))
        whole, parts = (
            elbo(prior, x, draws=2, batch=batch, generator=seeded(0)) for batch in (64, 2)
        )
        alone = elbo(prior, x[:1], draws=2, generator=seeded(0))
        for name in ("value", "std_error", "dof"):
            torch.testing.assert_close(
                getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-9
            )
            torch.testing.assert_close(
                getattr(alone, name), getattr(whole, name)[:1], rtol=0, atol=1e-9
            )
        assert torch.equal(
            elbo(prior, x, generator=seeded(0)).value, elbo(prior, x, generator=seeded(0)).value
        )
        assert not torch.allclose(
            elbo(prior, x, generator=seeded(1)).value, elbo(prior, x, generator=seeded(0)).value
        )

    @pytest.mark.parametrize("draws", [1, 3])
    def test_evaluations_are_counted(self, draws: int) -> None:
        prior = CountingPrior(network())
        reference = GaussianReference.of(prior, prior.shape)
        prior.nfe = 0
        got: LowerBound = elbo(
            prior, torch.zeros(2, 1, 4, 4, dtype=F64), nodes=16, draws=draws, reference=reference
        )
        assert got.nfe == prior.nfe == 16 * draws
        assert got.s.shape == got.integrand.shape == (draws, 16, 2) and bool(
            (got.s.diff(dim=1) > 0).all()
        )

    def test_noise_levels_are_those_of_the_likelihood(self) -> None:
        prior = mixture(VPSDE())
        x = prior.sample(200, seeded(0))
        levels = log_likelihood(prior, x[:1], nodes=8, end="t_min").s
        s = elbo(prior, x, nodes=200, batch=200).s
        assert float(levels[0]) < float(s.min()) < 1.01 * float(levels[0]) and 0.9 * float(
            levels[-1]
        ) < float(s.max()) < float(levels[-1])
        assert float(elbo(prior, x[:1], s_max=5.0).s.max()) < 5

    def test_single_precision(self) -> None:
        """x and the network in single precision; sums are in double precision."""
        prior = network()
        x = 0.5 * torch.randn(3, 1, 4, 4, generator=seeded(0))
        exact = elbo(prior, x.double(), generator=seeded(1)).value
        single = ScorePrior(prior.network.float(), prior.sde, prior.shape)
        got = elbo(single, x, generator=seeded(1)).value
        assert got.dtype == F64
        torch.testing.assert_close(got, exact, rtol=0, atol=1e-2)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_device(self) -> None:
        prior = mixture()
        x = prior.sample(3, seeded(0))
        there = elbo(mixture().to("cuda"), x.cuda(), generator=seeded(0)).value
        torch.testing.assert_close(
            there.cpu(), elbo(prior, x, generator=seeded(0)).value, rtol=0, atol=1e-8
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"x": torch.full((1, 8), math.nan, dtype=F64)}, "NaN"),
            ({"x": torch.full((1, 8), math.inf, dtype=F64)}, "infinite"),
            ({"x": torch.zeros(8)}, r"\(B, 8\)"),
            ({"x": torch.zeros(1, 9)}, r"got \(1, 9\)"),
            ({"x": torch.zeros(0, 8)}, r"got \(0, 8\)"),
            ({"x": torch.zeros(1, 8, dtype=torch.uint8)}, "floating point"),
            ({"end": "t_max"}, "data, t_min"),
            ({"nodes": 4}, "at least 8"),
            ({"draws": 0}, "at least 1"),
            ({"s_max": 1e-9}, "s_max"),
            ({"reference": isotropic(7)}, "7 dimensions"),
        ],
    )
    def test_bad_input_is_named(self, change: dict, message: str) -> None:
        arguments = {"x": torch.zeros(1, 8, dtype=F64), **change}
        with pytest.raises(ValueError, match=message):
            elbo(mixture(), arguments.pop("x"), **arguments)


@pytest.mark.slow
def test_of_a_diffusion_model() -> None:
    """The bound is below the exact density in the mean.

    A network with random weights is far from exact, so the gap is large.
    """
    model = Diffusion(network(), DiffusionConfig(nodes=24))
    x = model.sample(16, seeded(0))
    found = model.elbo(x, draws=4, generator=seeded(1))
    expected = elbo(model.prior, x, nodes=24, draws=4, generator=seeded(1))
    assert found.kind == "ELBO" and not found.discrete and found.std_error is not None
    assert torch.equal(found.value, expected.value) and torch.equal(
        found.std_error, expected.std_error
    )
    exact = model.log_prob(x, k=16, generator=seeded(1))
    gap = exact.value - found.value
    assert exact.kind == "exact" and float(gap.mean()) > 4 * float(gap.std()) / math.sqrt(len(x))
    with pytest.raises(ValueError, match=r"\(1, 4, 4\)"):
        model.elbo(torch.zeros(2, 1, 5, 5))
