"""Gaussian mixtures: score, likelihood and posterior against scipy, autograd and Bayes' rule."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from problems import Blur, Denoising, GaussianNoise, Inpainting, InverseProblem, LinearMatrix
from scoresde import EDMSDE, SDE, VPSDE, CountingPrior, GaussianMixturePrior, GaussianPrior
from scoresde.priors.mixture import ExactMixture
from scoresde.priors.shared_mixture import SharedMixturePrior
from solvers.samplers import Heun
from solvers.streams import NormalStream
from tests.conftest import seeded
from tests.laws import each_of_three_sdes

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[-1.0, 0.5], [1.2, 1.0], [0.3, -1.4]], dtype=torch.float64)
COVARIANCES = torch.tensor(
    [[[0.20, 0.05], [0.05, 0.10]], [[0.15, -0.10], [-0.10, 0.30]], [[0.40, 0.00], [0.00, 0.05]]],
    dtype=torch.float64,
)


def mixture(sde: SDE | None = None, shape: tuple[int, ...] = (2,)) -> GaussianMixturePrior:
    return GaussianMixturePrior(WEIGHTS, MEANS.reshape(3, *shape), COVARIANCES, sde)


def density(x: np.ndarray, alpha: float = 1.0, sigma: float = 0.0) -> np.ndarray:
    """p_t(x) of the mixture by scipy, term by term."""
    terms = [
        w * scipy.stats.multivariate_normal(alpha * m, alpha**2 * c + sigma**2 * np.eye(2)).pdf(x)
        for w, m, c in zip(WEIGHTS.numpy(), MEANS.numpy(), COVARIANCES.numpy(), strict=True)
    ]
    return np.sum(terms, 0)


def noisy_points(sde: SDE, t: float, n: int = 32) -> Tensor:
    """Random x_t."""
    generator, time = seeded(1), torch.tensor(t, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return sde.alpha(time) * mixture().sample(n, generator) + sde.sigma(time) * noise


def fractions(sde: SDE) -> list[float]:
    return [sde.t_min + f * (sde.t_max - sde.t_min) for f in (0.0, 0.003, 0.1, 0.5, 1.0)]


class Grid:
    """Integrals over the plane by the rectangle rule.

    It is exact to rounding for smooth densities that vanish at the border.
    """

    def __init__(self, extent: float = 6.0, n: int = 601) -> None:
        line = np.linspace(-extent, extent, n)
        self.points = np.stack(np.meshgrid(line, line, indexing="ij"), -1)
        self.cell = (line[1] - line[0]) ** 2

    def integral(self, values: np.ndarray) -> np.ndarray:
        """Integrate over the first two axes."""
        return values.sum((0, 1)) * self.cell


class TestNoisyMarginal:
    @each_of_three_sdes
    def test_log_prob_agrees_with_scipy(self, sde: SDE) -> None:
        for t in fractions(sde):
            x, time = noisy_points(sde, t), torch.tensor(t, dtype=torch.float64)
            expected = np.log(density(x.numpy(), float(sde.alpha(time)), float(sde.sigma(time))))
            np.testing.assert_allclose(
                mixture(sde).log_prob(x, t).numpy(), expected, rtol=1e-10, atol=1e-10
            )

    def test_log_prob_of_the_data(self) -> None:
        x = mixture().sample(32, seeded())
        np.testing.assert_allclose(
            mixture().log_prob(x).numpy(), np.log(density(x.numpy())), rtol=1e-10, atol=1e-10
        )

    def test_log_prob_far_away_does_not_underflow(self) -> None:
        """Where all component densities underflow in double precision, the nearest still counts."""
        x = torch.tensor([[200.0, 0.0]], dtype=torch.float64)
        normals = [
            scipy.stats.multivariate_normal(m, c)
            for m, c in zip(MEANS.numpy(), COVARIANCES.numpy(), strict=True)
        ]
        expected = max(
            math.log(w) + n.logpdf(x[0].numpy())
            for w, n in zip(WEIGHTS.tolist(), normals, strict=True)
        )
        assert float(mixture().log_prob(x)) == pytest.approx(expected, rel=1e-12)

    @each_of_three_sdes
    def test_score_is_the_gradient_of_log_prob(self, sde: SDE) -> None:
        prior = mixture(sde)
        for t in fractions(sde):
            x = noisy_points(sde, t).requires_grad_()
            gradient = torch.autograd.grad(prior.log_prob(x, t).sum(), x)[0]
            # the denoiser is rounded at |x| eps, and the score divides that by sigma^2
            sigma = float(sde.sigma(torch.tensor(t, dtype=torch.float64)))
            atol = 100 * torch.finfo(torch.float64).eps * float(x.detach().abs().max()) / sigma**2
            torch.testing.assert_close(prior.score(x, t).detach(), gradient, rtol=1e-10, atol=atol)

    @each_of_three_sdes
    def test_denoiser_obeys_tweedie(self, sde: SDE) -> None:
        """E[x_0 | x_t] = (x_t + sigma^2 grad log p_t) / alpha."""
        prior = mixture(sde)
        for t in fractions(sde):
            x, time = noisy_points(sde, t).requires_grad_(), torch.tensor(t, dtype=torch.float64)
            gradient = torch.autograd.grad(prior.log_prob(x, t).sum(), x)[0]
            expected = ((x + sde.sigma(time) ** 2 * gradient) / sde.alpha(time)).detach()
            atol = (
                100
                * torch.finfo(torch.float64).eps
                * float(x.detach().abs().max() / sde.alpha(time))
            )
            torch.testing.assert_close(
                prior.denoise(x, t).detach(), expected, rtol=1e-10, atol=atol
            )

    def test_denoiser_is_the_posterior_mean_on_a_grid(self) -> None:
        """E[x_0 | x_t] by Bayes' rule, without any formula of a Gaussian posterior."""
        sde, grid = VPSDE(), Grid()
        time = torch.tensor(0.3, dtype=torch.float64)
        alpha, sigma = float(sde.alpha(time)), float(sde.sigma(time))
        for x_t in ([0.2, -0.4], [1.0, 1.0]):
            joint = density(grid.points) * np.exp(
                -0.5 * ((np.array(x_t) - alpha * grid.points) ** 2).sum(-1) / sigma**2
            )
            expected = grid.integral(joint[..., None] * grid.points) / grid.integral(joint)
            answer = mixture(sde).denoise(torch.tensor([x_t], dtype=torch.float64), 0.3)[0]
            np.testing.assert_allclose(answer.numpy(), expected, atol=1e-9)

    def test_time_per_sample(self) -> None:
        prior, x = mixture(VPSDE()), noisy_points(VPSDE(), 0.3, 3)
        t = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
        for method in (prior.denoise, prior.score, prior.log_prob):
            one_by_one = torch.cat([method(x[i : i + 1], float(t[i])) for i in range(3)])
            torch.testing.assert_close(method(x, t), one_by_one, rtol=1e-12, atol=1e-12)

    def test_shape_and_type_of_the_samples(self) -> None:
        prior = mixture(shape=(1, 1, 2))
        x = prior.sample(5, seeded()).float()
        assert x.shape == (5, 1, 1, 2)
        assert (
            prior.denoise(x, 0.5).shape == x.shape and prior.denoise(x, 0.5).dtype == torch.float32
        )
        torch.testing.assert_close(
            prior.denoise(x, 0.5).reshape(5, 2), mixture().denoise(x.reshape(5, 2), 0.5)
        )

    def test_one_component_is_a_gaussian(self) -> None:
        gaussian = GaussianPrior(MEANS[0], COVARIANCES[0])
        x = mixture().sample(8, seeded())
        expected = scipy.stats.multivariate_normal(MEANS[0].numpy(), COVARIANCES[0].numpy()).logpdf(
            x.numpy()
        )
        np.testing.assert_allclose(gaussian.log_prob(x).numpy(), expected, rtol=1e-11)

    def test_singular_covariance(self) -> None:
        """Data on a line through the origin.

        The denoiser projects onto it and shrinks by 1 / (1 + sigma^2 / 2).
        """
        ones = torch.ones(2, 2, dtype=torch.float64)
        answer = GaussianPrior(torch.zeros(2), ones, EDMSDE()).denoise(
            torch.tensor([[1.0, 3.0]], dtype=torch.float64), 0.5
        )
        np.testing.assert_allclose(answer.numpy(), np.full((1, 2), 2 / (1 + 0.25 / 2)), rtol=1e-12)


class TestSamples:
    N = 40_000

    def test_moments_formula(self) -> None:
        grid = Grid()
        p = density(grid.points)
        mean = grid.integral(p[..., None] * grid.points)
        second = grid.integral(
            p[..., None, None] * grid.points[..., None] * grid.points[..., None, :]
        )
        answer_mean, answer_covariance = mixture().moments()
        np.testing.assert_allclose(answer_mean.numpy(), mean, atol=1e-9)
        np.testing.assert_allclose(
            answer_covariance.numpy(), second - np.outer(mean, mean), atol=1e-9
        )

    def test_sample_moments(self) -> None:
        """Means, and means of products, within 5 standard errors estimated from the draws."""
        x = mixture().sample(self.N, seeded())
        mean, covariance = mixture().moments()
        d = x - mean
        assert bool((d.mean(0).abs() < 5 * d.std(0) / self.N**0.5).all())
        products = d[:, :, None] * d[:, None, :]
        assert bool(
            ((products.mean(0) - covariance).abs() < 5 * products.std(0) / self.N**0.5).all()
        )

    def test_sample_fills_space_as_the_density_does(self) -> None:
        """Share of the draws in each cell of a 6 x 6 grid.

        The counts are binomial and within 5 standard errors (and half a draw).
        """
        x = mixture().sample(self.N, seeded(1)).numpy()
        edges = np.linspace(-3, 3, 7)
        share = np.histogram2d(x[:, 0], x[:, 1], (edges, edges))[0] / self.N
        fine = np.linspace(-3, 3, 601)[:-1] + 0.005
        values = density(np.stack(np.meshgrid(fine, fine, indexing="ij"), -1)) * 1e-4
        expected = values.reshape(6, 100, 6, 100).sum((1, 3))
        assert (
            np.abs(share - expected)
            < 5 * np.sqrt(expected * (1 - expected) / self.N) + 0.5 / self.N
        ).all()

    def test_the_seed_decides(self) -> None:
        assert torch.equal(mixture().sample(9, seeded(0)), mixture().sample(9, seeded(0)))
        assert not torch.equal(mixture().sample(9, seeded(0)), mixture().sample(9, seeded(1)))

    def test_responsibilities(self) -> None:
        x = mixture().sample(16, seeded())
        joint = np.stack(
            [
                w * scipy.stats.multivariate_normal(m, c).pdf(x.numpy())
                for w, m, c in zip(
                    WEIGHTS.tolist(), MEANS.numpy(), COVARIANCES.numpy(), strict=True
                )
            ],
            -1,
        )
        np.testing.assert_allclose(
            mixture().responsibilities(x).numpy(), joint / joint.sum(-1, keepdims=True), atol=1e-12
        )


def shared_mixture(sde: SDE | None = None) -> SharedMixturePrior:
    rows = torch.tensor([[1.5, -0.7]], dtype=torch.float64)
    return SharedMixturePrior(WEIGHTS, MEANS, 0.3, rows, sde)


def dense(shared: SharedMixturePrior) -> GaussianMixturePrior:
    """The same law with full covariances v (I - V diag(h) V^T)."""
    eye = torch.eye(2, dtype=torch.float64)
    covariance = shared.variance * (eye - shared.V * shared.h @ shared.V.T)
    return GaussianMixturePrior(
        shared.weights, shared.means, covariance.expand(3, 2, 2), shared.sde
    )


class TestSharedCovariance:
    @each_of_three_sdes
    def test_log_prob_of_the_noisy_marginal_is_that_of_the_dense_mixture(self, sde: SDE) -> None:
        prior = shared_mixture(sde)
        for t in fractions(sde):
            x = noisy_points(sde, t)
            torch.testing.assert_close(
                prior.log_prob(x, t), dense(prior).log_prob(x, t), rtol=1e-10, atol=1e-10
            )

    def test_log_prob_of_a_time_per_sample_and_of_the_data(self) -> None:
        prior, x = shared_mixture(VPSDE()), noisy_points(VPSDE(), 0.3, 3)
        t = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
        for time in (t, t[0], 0.4, None):
            torch.testing.assert_close(
                prior.log_prob(x, time), dense(prior).log_prob(x, time), rtol=1e-10, atol=1e-10
            )

    def test_score_is_the_gradient_of_log_prob(self) -> None:
        prior, x = shared_mixture(VPSDE()), noisy_points(VPSDE(), 0.4).requires_grad_()
        gradient = torch.autograd.grad(prior.log_prob(x, 0.4).sum(), x)[0]
        torch.testing.assert_close(prior.score(x, 0.4).detach(), gradient, rtol=1e-9, atol=1e-9)

    def test_bad_input_is_named_as_for_the_dense_mixture(self) -> None:
        with pytest.raises(ValueError, match="positive"):
            SharedMixturePrior(torch.tensor([1.0, 0.0, 1.0]), MEANS, 0.3)
        with pytest.raises(ValueError, match="finite"):
            SharedMixturePrior(WEIGHTS, MEANS * NAN, 0.3)
        with pytest.raises(ValueError, match=r"has 2 entries, got y of shape \(1, 1\)"):
            shared_mixture().posterior(PROBLEM, torch.zeros(1, 1))


EXACT: dict[str, ExactMixture] = {
    "mixture": mixture(VPSDE()),
    "Gaussian": GaussianPrior(MEANS[0], COVARIANCES[0], VPSDE()),
    "shared": shared_mixture(VPSDE()),
}
each_exact = pytest.mark.parametrize("name", EXACT)
CONVERSIONS: dict[str, Callable[[ExactMixture], ExactMixture]] = {
    "float": lambda prior: prior.float(),
    "half": lambda prior: prior.half(),
    "bfloat16": lambda prior: prior.to(torch.bfloat16),
    "with a device": lambda prior: prior.to("cpu", torch.float32),
}


class _SameNoise(NormalStream):
    """Normal numbers in float64, rounded to the dtype wanted, so that all samplers start alike."""

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        return super().__call__(shape, torch.float64, device).to(dtype)


class TestPrecision:
    """A prior in closed form computes in float64, whatever dtype it is converted to."""

    @each_exact
    @pytest.mark.parametrize("conversion", CONVERSIONS)
    def test_the_denoiser_is_that_of_float64_rounded(self, name: str, conversion: str) -> None:
        """At the same x_t and t, to the bit."""
        prior = copy.deepcopy(EXACT[name])
        converted = CONVERSIONS[conversion](prior)
        dtype = converted.dtype
        assert converted is prior and dtype != torch.float64
        x_t = noisy_points(VPSDE(), 0.5).to(dtype)
        for t in (0.01, 0.5, torch.linspace(0.05, 0.95, len(x_t))):
            time = torch.as_tensor(t).to(dtype)
            expected = EXACT[name].denoise(x_t.double(), time.double())
            answer = converted.denoise(x_t, t)
            assert answer.dtype == dtype
            assert torch.equal(answer, expected.to(dtype))

    @each_exact
    @pytest.mark.parametrize("conversion", CONVERSIONS)
    def test_no_digit_is_lost(self, name: str, conversion: str) -> None:
        prior = CONVERSIONS[conversion](copy.deepcopy(EXACT[name]))
        x = noisy_points(VPSDE(), 0.5)
        for before, after in zip(EXACT[name].buffers(), prior.buffers(), strict=True):
            assert torch.equal(before, after) and before.dtype == after.dtype
        assert torch.equal(prior.log_prob(x, 0.3), EXACT[name].log_prob(x, 0.3))
        assert torch.equal(prior.denoise(x, 0.3), EXACT[name].denoise(x, 0.3))
        samples = prior.sample(5, seeded())
        assert torch.equal(samples, EXACT[name].sample(5, seeded()).to(prior.dtype))

    @each_exact
    def test_dtype_is_the_one_set_last(self, name: str) -> None:
        prior = copy.deepcopy(EXACT[name])
        assert prior.dtype == torch.float64
        assert prior.float().dtype == torch.float32
        assert prior.to("cpu").dtype == torch.float32  # a move alone sets no dtype
        assert prior.with_sde(EDMSDE()).dtype == torch.float32
        posterior = prior.posterior(PROBLEM, torch.zeros(1, 2))
        assert posterior.dtype == torch.float32 and posterior.means.dtype == torch.float64
        assert prior.double().dtype == torch.float64
        # through a wrapper too; what is lower than float32 counts as float32
        assert CountingPrior(prior).bfloat16().dtype == torch.float32

    @each_exact
    def test_moves_between_devices_happen(self, name: str) -> None:
        prior = copy.deepcopy(EXACT[name]).to("meta", torch.float32)
        assert prior.device.type == "meta" and prior.dtype == torch.float32
        assert all(b.device.type == "meta" and b.dtype == torch.float64 for b in prior.buffers())

    @each_exact
    def test_a_sampler_runs_in_it(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the same start, single precision changes the draws of Heun's method by rounding."""
        monkeypatch.setattr("solvers.samplers.base.NormalStream", _SameNoise)
        single, double = (
            Heun(20).sample(prior, 64, generator=seeded())
            for prior in (copy.deepcopy(EXACT[name]).float(), EXACT[name])
        )
        assert single.dtype == torch.float32 and double.dtype == torch.float64
        torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)


ROW = torch.tensor([[0.8, -0.5]], dtype=torch.float64)
SQUARE = torch.tensor([[1.0, 0.4], [-0.3, 0.7]], dtype=torch.float64)
TALL = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 2.0]], dtype=torch.float64)
POSTERIORS = {
    "one number of two": (LinearMatrix(ROW), [0.6], 0.3),
    "sharp": (LinearMatrix(ROW), [-0.2], 0.1),
    "two of two": (LinearMatrix(SQUARE), [0.1, 0.4], 0.4),
    "three of two": (LinearMatrix(TALL), [0.1, 0.4, -0.3], 0.5),
    "unlikely": (LinearMatrix(ROW), [4.0], 0.5),
    "denoising": (Denoising(), [0.2, 0.3], 0.5),
}
each_posterior = pytest.mark.parametrize("name", POSTERIORS)


class Bayes:
    """The posterior by Bayes' rule on a grid.

    Prior density times likelihood, divided by its integral.
    """

    def __init__(self, matrix: np.ndarray, y: list[float], std: float) -> None:
        self.grid = Grid()
        residual = np.array(y) - self.grid.points @ matrix.T
        self.likelihood = scipy.stats.norm(0, std).pdf(residual).prod(-1)
        joint = density(self.grid.points) * self.likelihood
        self.values = joint / self.grid.integral(joint)
        self.mean = self.grid.integral(self.values[..., None] * self.grid.points)
        d = self.grid.points - self.mean
        self.covariance = self.grid.integral(
            self.values[..., None, None] * d[..., None] * d[..., None, :]
        )

    def weights(self) -> np.ndarray:
        """Posterior probability of each component: its weight times its own evidence."""
        evidence = [
            w
            * self.grid.integral(
                scipy.stats.multivariate_normal(m, c).pdf(self.grid.points) * self.likelihood
            )
            for w, m, c in zip(WEIGHTS.numpy(), MEANS.numpy(), COVARIANCES.numpy(), strict=True)
        ]
        return np.array(evidence) / sum(evidence)


class TestPosterior:
    @each_posterior
    def test_agrees_with_bayes_on_a_grid(self, name: str) -> None:
        operator, y, std = POSTERIORS[name]
        bayes = Bayes(operator.dense((2,)).numpy(), y, std)
        posterior = mixture().posterior(
            InverseProblem(operator, GaussianNoise(std)), torch.tensor([y], dtype=torch.float64)
        )
        density = posterior.log_prob(
            torch.from_numpy(bayes.grid.points[::12, ::12].reshape(-1, 2))
        ).exp()
        np.testing.assert_allclose(
            density.numpy(), bayes.values[::12, ::12].ravel(), rtol=1e-9, atol=1e-12
        )
        mean, covariance = posterior.moments()
        np.testing.assert_allclose(mean.numpy(), bayes.mean, atol=1e-10)
        np.testing.assert_allclose(covariance.numpy(), bayes.covariance, atol=1e-10)
        np.testing.assert_allclose(posterior.weights.numpy(), bayes.weights(), atol=1e-10)

    def test_of_an_image_with_a_hole(self) -> None:
        """Two pixels, the second missing: only the likelihood of the first counts.

        The value of y in the hole has no influence.
        """
        bayes = Bayes(np.array([[1.0, 0.0]]), [0.7], 0.25)
        problem = InverseProblem(Inpainting(torch.tensor([[1, 0]])), GaussianNoise(0.25))
        for filling in (0.0, 9.0):
            y = torch.tensor([[[[0.7, filling]]]], dtype=torch.float64)
            posterior = mixture(shape=(1, 1, 2)).posterior(problem, y)
            assert posterior.shape == (1, 1, 2)
            np.testing.assert_allclose(posterior.moments()[0].numpy(), bayes.mean, atol=1e-9)
            np.testing.assert_allclose(posterior.weights.numpy(), bayes.weights(), atol=1e-9)

    def test_of_denoising_is_the_denoiser(self) -> None:
        """The EDM's x_t is a measurement of x_0 with noise t: two ways to the same mean."""
        x_t = torch.tensor([[0.3, -0.6]], dtype=torch.float64)
        posterior = mixture(EDMSDE()).posterior(
            InverseProblem(Denoising(), GaussianNoise(0.8)), x_t
        )
        torch.testing.assert_close(
            posterior.moments()[0], mixture(EDMSDE()).denoise(x_t, 0.8)[0], rtol=1e-12, atol=1e-12
        )

    def test_one_measurement_after_another(self) -> None:
        """Conditioning on two rows at once equals conditioning on one and then on the other."""
        noise = GaussianNoise(0.4)
        y = torch.tensor([[0.1, 0.4]], dtype=torch.float64)
        at_once = mixture().posterior(InverseProblem(LinearMatrix(SQUARE), noise), y)
        first = mixture().posterior(InverseProblem(LinearMatrix(SQUARE[:1]), noise), y[:, :1])
        then = first.posterior(InverseProblem(LinearMatrix(SQUARE[1:]), noise), y[:, 1:])
        torch.testing.assert_close(then.weights, at_once.weights, rtol=1e-10, atol=0)
        torch.testing.assert_close(then.means, at_once.means, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(then.covariances, at_once.covariances, rtol=1e-10, atol=1e-12)

    def test_without_noise_the_measurement_is_kept(self) -> None:
        posterior = mixture().posterior(
            InverseProblem(LinearMatrix(ROW), GaussianNoise(0.0)), torch.tensor([[0.6]])
        )
        draws = posterior.sample(100, seeded())
        # eigenvalues of the singular covariances are 0 up to rounding, and draws contain their root
        np.testing.assert_allclose((draws @ ROW.T).numpy(), 0.6, atol=1e-6)

    def test_of_a_blurred_image(self) -> None:
        """One Gaussian with nine pixels, by the information form (C^-1 + A^T A / s^2)^-1.

        It has no step in common with the gain form.
        """
        generator = seeded()
        root = torch.randn(9, 9, generator=generator, dtype=torch.float64)
        mean, covariance = (
            torch.randn(1, 3, 3, generator=generator, dtype=torch.float64),
            root @ root.T + 0.1 * torch.eye(9),
        )
        operator = Blur(torch.rand(2, 3, generator=generator, dtype=torch.float64), "replicate")
        y = torch.randn(1, 1, 3, 3, generator=generator, dtype=torch.float64)
        posterior = GaussianPrior(mean, covariance).posterior(
            InverseProblem(operator, GaussianNoise(0.3)), y
        )
        A, C = operator.dense((1, 3, 3)).numpy(), covariance.numpy()
        expected = np.linalg.inv(np.linalg.inv(C) + A.T @ A / 0.09)
        centre = expected @ (
            np.linalg.inv(C) @ mean.numpy().ravel() + A.T @ y.numpy().ravel() / 0.09
        )
        np.testing.assert_allclose(posterior.covariances[0].numpy(), expected, atol=1e-9)
        np.testing.assert_allclose(posterior.means[0].numpy(), centre, atol=1e-9)

    def test_keeps_the_sde(self) -> None:
        assert (
            mixture(VPSDE())
            .posterior(InverseProblem(LinearMatrix(ROW), GaussianNoise(0.1)), torch.zeros(1, 1))
            .sde
            == VPSDE()
        )


EYE, ZERO = torch.eye(2), torch.zeros(2)
NAN = float("nan")
PROBLEM = InverseProblem(LinearMatrix(SQUARE), GaussianNoise(0.1))


class _NonLinear:
    capabilities: frozenset[str] = frozenset({"adjoint"})


BAD_INPUT = {
    "weights of other length": (
        lambda: GaussianMixturePrior(torch.ones(2), MEANS, COVARIANCES),
        r"\(3,\)",
    ),
    "covariances of other size": (
        lambda: GaussianMixturePrior(WEIGHTS, MEANS, COVARIANCES[:, :1]),
        r"\(3, 2, 2\)",
    ),
    "weight 0": (
        lambda: GaussianMixturePrior(torch.tensor([1.0, 0.0, 1.0]), MEANS, COVARIANCES),
        "positive",
    ),
    "weight NaN": (
        lambda: GaussianMixturePrior(torch.tensor([1.0, NAN, 1.0]), MEANS, COVARIANCES),
        "positive",
    ),
    "covariance negative": (lambda: GaussianPrior(ZERO, -EYE), "semi-definite"),
    "covariance indefinite": (
        lambda: GaussianPrior(ZERO, torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
        "semi-definite",
    ),
    "covariance NaN": (lambda: GaussianPrior(ZERO, torch.full((2, 2), NAN)), "finite"),
    "mean NaN": (lambda: GaussianPrior(ZERO + NAN, EYE), "finite"),
    "two measurements": (lambda: mixture().posterior(PROBLEM, torch.zeros(2, 2)), r"\(2, 2\)"),
    "measurement of other size": (
        lambda: mixture().posterior(PROBLEM, torch.zeros(1, 1)),
        r"\(1, 1\)",
    ),
    "nonlinear": (
        lambda: mixture().posterior(
            InverseProblem(_NonLinear(), GaussianNoise(0.1)), torch.zeros(1, 2)
        ),
        "linear",
    ),  # type: ignore[arg-type]
    "no noise in a hole": (
        lambda: mixture(shape=(1, 1, 2)).posterior(
            InverseProblem(Inpainting(torch.tensor([[1, 0]])), GaussianNoise(0.0)),
            torch.zeros(1, 1, 1, 2),
        ),
        "noise",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_named(name: str) -> None:
    attempt, message = BAD_INPUT[name]
    with pytest.raises(ValueError, match=message):
        attempt()
