"""Noise against scipy.stats: densities, draws and moments."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from problems import (
    Blur,
    CorrelatedNoise,
    CountNoise,
    Decimation,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    LaplaceNoise,
    LinearMatrix,
    LogCountNoise,
    LogPoissonNoise,
    Noise,
    PoissonGaussianNoise,
    PoissonNoise,
    RicianNoise,
    SaltAndPepperNoise,
    SpeckleNoise,
    UniformNoise,
    problem_from,
)
from problems.noise import known_noises
from tests.conftest import randn, seeded

MEAN = 0.25
SCALAR: dict[str, Noise] = {
    "gaussian": GaussianNoise(0.3),
    "laplace": LaplaceNoise(0.3),
    "uniform": UniformNoise(0.3),
    "poisson": PoissonNoise(12.0),
    "poisson-gaussian": PoissonGaussianNoise(12.0, 0.1),
    "salt-and-pepper": SaltAndPepperNoise(0.2, 0.3),
}
PHYSICAL: dict[str, Noise] = {
    "rician": RicianNoise(0.3),
    "speckle": SpeckleNoise(9.0),
    "counts": CountNoise(0.05),
    "counts-read": CountNoise(0.05, 0.1),
    "log-poisson": LogPoissonNoise(50.0, 0.7),
    "log-counts": LogCountNoise(50.0, background=3.0, gain=2.0),
    "log-counts-read": LogCountNoise(50.0, std=2.0),
}
"""Tested by themselves in test_physical_noise.py, and here where all noises are alike."""
EACH: dict[str, Noise] = (
    SCALAR
    | PHYSICAL
    | {
        "gaussian-each": GaussianNoise(
            torch.rand(1, 4, 5, generator=seeded(3), dtype=torch.float64) + 0.1
        ),
        "correlated": CorrelatedNoise(GaussianBlur(0.5, "circular", 2.0)),
    }
)


def poisson_gaussian(y: np.ndarray, mean: np.ndarray, peak: float, std: float) -> np.ndarray:
    """ln sum_k Poisson(k) N(y; 2 k / peak - 1, std^2), for all k at once."""
    k = np.arange(int(8 * peak + 200))
    rate = peak * np.maximum((mean + 1) / 2, 1e-6)
    terms = scipy.stats.poisson(rate[..., None]).logpmf(k) + scipy.stats.norm(
        2 * k / peak - 1, std
    ).logpdf(y[..., None])
    return scipy.special.logsumexp(terms, -1)


class TestDensity:
    @pytest.mark.parametrize("std", [0.05, 1.0, 7.0])
    def test_gaussian(self, std: float) -> None:
        y, mean = randn(3, 2, 4, 5), randn(3, 2, 4, 5, seed=1)
        expected = scipy.stats.norm(mean.numpy(), std).logpdf(y.numpy()).sum((1, 2, 3))
        np.testing.assert_allclose(GaussianNoise(std).log_prob(y, mean), expected, rtol=1e-12)

    @pytest.mark.parametrize("shape", [(2, 4, 5), (2, 1, 1), (4, 5), ()])
    def test_gaussian_with_a_level_for_each_entry(self, shape: tuple[int, ...]) -> None:
        y, mean = randn(3, 2, 4, 5), randn(3, 2, 4, 5, seed=1)
        std = torch.rand(shape, generator=seeded(), dtype=torch.float64) + 0.1
        expected = scipy.stats.norm(mean.numpy(), std.numpy()).logpdf(y.numpy()).sum((1, 2, 3))
        np.testing.assert_allclose(GaussianNoise(std).log_prob(y, mean), expected, rtol=1e-12)

    @pytest.mark.parametrize("scale", [0.05, 1.0])
    def test_laplace(self, scale: float) -> None:
        y, mean = randn(3, 2, 4, 5), randn(3, 2, 4, 5, seed=1)
        expected = scipy.stats.laplace(mean.numpy(), scale).logpdf(y.numpy()).sum((1, 2, 3))
        np.testing.assert_allclose(LaplaceNoise(scale).log_prob(y, mean), expected, rtol=1e-12)

    @pytest.mark.parametrize("step", [0.1, 2.0])
    def test_uniform(self, step: float) -> None:
        y, mean = randn(3, 2, 4, 5) * step / 2, torch.zeros(3, 2, 4, 5, dtype=torch.float64)
        expected = scipy.stats.uniform(-step / 2, step).logpdf(y.numpy())
        np.testing.assert_allclose(UniformNoise(step).log_density(y, mean), expected, rtol=1e-12)
        # both ends are included, however they are rounded
        ends = torch.tensor([[0.7 - step / 2, 0.7 + step / 2]], dtype=torch.float64)
        assert bool(
            torch.isfinite(UniformNoise(step).log_density(ends, torch.full_like(ends, 0.7))).all()
        )

    @pytest.mark.parametrize("peak", [0.5, 12.0, 1000.0])
    def test_poisson(self, peak: float) -> None:
        """torch's lgamma, like scipy's, is exact to about 1e-14 of a value of up to 1e4 here."""
        mean = torch.linspace(-0.9, 1.2, 30, dtype=torch.float64)[None]
        counts = torch.poisson(peak * (mean + 1) / 2, generator=seeded())
        expected = scipy.stats.poisson(peak * (mean.numpy() + 1) / 2).logpmf(counts.numpy())
        np.testing.assert_allclose(
            PoissonNoise(peak).log_density(2 * counts / peak - 1, mean), expected, atol=1e-9
        )

    def test_poisson_never_counts_less_than_nothing(self) -> None:
        y = torch.tensor([[-1.0, -1.2]], dtype=torch.float64)
        density = PoissonNoise(10.0).log_density(y, torch.zeros_like(y))
        assert float(density[0, 0]) == pytest.approx(-5.0) and float(density[0, 1]) == -math.inf

    @pytest.mark.parametrize(
        ("peak", "std"),
        [
            (0.5, 0.1),
            (0.5, 2.0),
            (12.0, 0.01),
            (12.0, 0.1),
            (12.0, 1.0),
            (300.0, 0.02),
            (300.0, 0.5),
        ],
    )
    def test_poisson_gaussian_against_the_sum_over_all_counts(
        self, peak: float, std: float
    ) -> None:
        """Where y is likely, and where it is not: far from the mean, and below black.

        The terms left out of the sum are below exp(-32).
        """
        y, mean = torch.meshgrid(
            torch.linspace(-2, 2, 17, dtype=torch.float64),
            torch.linspace(-1.2, 2, 9, dtype=torch.float64),
            indexing="ij",
        )
        expected = poisson_gaussian(y.numpy(), mean.numpy(), peak, std)
        np.testing.assert_allclose(
            PoissonGaussianNoise(peak, std).log_density(y, mean), expected, rtol=1e-11, atol=1e-11
        )

    @pytest.mark.parametrize(
        "root",
        [
            GaussianBlur(0.5, "reflect", 2.0),
            Blur(torch.tensor([[0.1, 1.0, 0.3]], dtype=torch.float64)),
            LinearMatrix(randn(12, 20), (20,)),
        ],
        ids=["gaussian", "circular", "matrix"],
    )
    def test_correlated_against_its_dense_covariance(self, root: LinearMatrix) -> None:
        shape = (20,) if isinstance(root, LinearMatrix) else (2, 4, 5)
        L = root.dense(shape)
        mean, y = randn(3, *root.output_shape(shape)), randn(3, *root.output_shape(shape), seed=1)
        normal = scipy.stats.multivariate_normal(cov=(L @ L.T).numpy())
        expected = normal.logpdf((y - mean).flatten(1).numpy())
        np.testing.assert_allclose(CorrelatedNoise(root).log_prob(y, mean), expected, rtol=1e-9)

    def test_correlated_needs_a_covariance_of_full_rank(self) -> None:
        for root in (
            LinearMatrix(randn(4, 3)),
            Blur(torch.tensor([[0.5, 0.5]], dtype=torch.float64)),
        ):
            shape = (4,) if isinstance(root, LinearMatrix) else (1, 4, 4)
            with pytest.raises(ValueError, match="singular"):
                CorrelatedNoise(root).log_prob(randn(1, *shape), randn(1, *shape))

    def test_correlated_has_no_density_of_single_entries(self) -> None:
        with pytest.raises(ValueError, match="log_prob"):
            CorrelatedNoise(Denoising()).log_density(randn(1, 1, 4, 4), randn(1, 1, 4, 4))

    def test_salt_and_pepper(self) -> None:
        """Half the amount at each atom, the normal density times what is left elsewhere."""
        y = torch.tensor([[-1.0, 1.0, -0.9, 0.3, 1.4]], dtype=torch.float64)
        mean = torch.full_like(y, 0.25)
        expected = np.log([0.1, 0.1, *(0.8 * scipy.stats.norm(0.25, 0.3).pdf([-0.9, 0.3, 1.4]))])
        np.testing.assert_allclose(
            SaltAndPepperNoise(0.2, 0.3).log_density(y, mean)[0], expected, rtol=1e-12
        )

    @pytest.mark.parametrize(
        "name", ["gaussian", "laplace", "uniform", "poisson-gaussian", "salt-and-pepper"]
    )
    def test_densities_integrate_to_one(self, name: str) -> None:
        """Densities integrate to 1 by the trapezoidal rule on a grid of spacing 5e-5.

        The grid covers 6 standard deviations of 0.3 and 20 times the Laplace scale, which leaves
        out 1e-9. A kink or a step of the density, at most 1 / 0.3 high, costs at most one cell.
        """
        # an even number of points: none is an atom
        y = torch.linspace(-6, 6, 240_002, dtype=torch.float64)[None]
        density = SCALAR[name].log_density(y, torch.full_like(y, MEAN)).exp()
        total = float(torch.trapezoid(density, y)) + (0.2 if name == "salt-and-pepper" else 0)
        assert total == pytest.approx(1, abs=5e-5 / 0.3 + 1e-8)

    @pytest.mark.parametrize("peak", [0.5, 12.0, 1000.0])
    def test_probabilities_of_counts_sum_to_one(self, peak: float) -> None:
        k = torch.arange(int(2 * peak) + 100, dtype=torch.float64)[None]
        density = PoissonNoise(peak).log_density(2 * k / peak - 1, torch.full_like(k, MEAN)).exp()
        assert float(density.sum()) == pytest.approx(1, abs=1e-10)


def cdf(name: str) -> Callable[[np.ndarray], np.ndarray]:
    return {
        "gaussian": scipy.stats.norm(MEAN, 0.3),
        "laplace": scipy.stats.laplace(MEAN, 0.3),
        "uniform": scipy.stats.uniform(MEAN - 0.15, 0.3),
    }[name].cdf


class TestSample:
    N = 100_000

    def draw(self, noise: Noise, n: int | None = None) -> Tensor:
        return noise.sample(torch.full((1, n or self.N), MEAN, dtype=torch.float64), seeded())[0]

    @pytest.mark.parametrize("name", [name for name in SCALAR if name != "salt-and-pepper"])
    def test_moments(self, name: str) -> None:
        """Mean and variance of the draws.

        The mean is within 5 standard errors, std / sqrt(n). The sample variance is within 5 of its
        standard errors, from its fourth moment, of that of ``covariance_matvec``.
        """
        draw = self.draw(SCALAR[name])
        one = torch.ones(1, 1, dtype=torch.float64)
        variance = float(SCALAR[name].covariance_matvec(MEAN * one, one))
        squares = (draw - MEAN).square()
        assert abs(float(draw.mean()) - MEAN) < 5 * (variance / self.N) ** 0.5
        assert abs(float(squares.mean()) - variance) < 5 * float(squares.std()) / self.N**0.5

    @pytest.mark.parametrize("name", ["gaussian", "laplace", "uniform"])
    def test_distribution(self, name: str) -> None:
        assert scipy.stats.kstest(self.draw(SCALAR[name]).numpy(), cdf(name)).pvalue > 1e-6

    def test_distribution_of_counts(self) -> None:
        counts = (self.draw(PoissonNoise(12.0)) + 1) / 2 * 12
        k = counts.round()
        torch.testing.assert_close(counts, k, atol=1e-12, rtol=0)
        law = scipy.stats.poisson(12 * (MEAN + 1) / 2)
        expected = np.array([law.cdf(2), *law.pmf(np.arange(3, 16)), law.sf(15)]) * self.N
        observed = np.bincount(k.clamp(2, 16).long(), minlength=17)[2:]
        assert scipy.stats.chisquare(observed, expected).pvalue > 1e-6

    @pytest.mark.slow
    def test_distribution_of_photons_that_are_read(self) -> None:
        law = scipy.stats.poisson(12 * (MEAN + 1) / 2)
        k = np.arange(60)

        def mixture(y: np.ndarray) -> np.ndarray:
            return (law.pmf(k) * scipy.stats.norm(2 * k / 12 - 1, 0.1).cdf(y[..., None])).sum(-1)

        assert (
            scipy.stats.kstest(self.draw(PoissonGaussianNoise(12.0, 0.1)).numpy(), mixture).pvalue
            > 1e-6
        )

    def test_salt_and_pepper(self) -> None:
        """Two atoms of half the amount each, as counted, and the others normal."""
        draw = self.draw(SaltAndPepperNoise(0.2, 0.3)).numpy()
        salt, pepper = (draw == 1).sum(), (draw == -1).sum()
        assert (
            scipy.stats.chisquare(
                [salt, pepper, self.N - salt - pepper], [0.1 * self.N, 0.1 * self.N, 0.8 * self.N]
            ).pvalue
            > 1e-6
        )
        assert (
            scipy.stats.kstest(draw[np.abs(draw) != 1], scipy.stats.norm(MEAN, 0.3).cdf).pvalue
            > 1e-6
        )

    def test_salt_and_pepper_alone(self) -> None:
        draw = self.draw(SaltAndPepperNoise(0.2))
        assert set(draw.unique().tolist()) == {-1.0, MEAN, 1.0}

    def test_a_level_for_each_entry(self) -> None:
        std = torch.tensor([0.1, 1.0, 0.0], dtype=torch.float64)[:, None, None]
        mean = torch.zeros(1, 3, 200, 200, dtype=torch.float64)
        draw = GaussianNoise(std).sample(mean, seeded())[0]
        assert bool((draw[2] == 0).all())
        for channel in range(2):
            assert (
                scipy.stats.kstest(
                    draw[channel].flatten().numpy() / float(std[channel]), "norm"
                ).pvalue
                > 1e-6
            )

    @pytest.mark.parametrize(
        "root",
        [
            GaussianBlur(0.5, "reflect", 2.0),
            Decimation(torch.tensor([[0.2, 1.0, -0.4]], dtype=torch.float64), 2),
        ],
        ids=["square", "wide"],
    )
    def test_covariance_of_correlated_noise(self, root: GaussianBlur) -> None:
        """Sample covariance of correlated noise.

        Each entry has a standard error of sqrt((C_ii C_jj + C_ij^2) / n); the worst of 16 x 16 may
        be 6 of them off.
        """
        n = 40_000
        y = (
            CorrelatedNoise(root)
            .sample(torch.zeros(n, 1, 4, 4, dtype=torch.float64), seeded())
            .flatten(1)
        )
        unit = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
        C = CorrelatedNoise(root).covariance_matvec(torch.zeros_like(unit), unit).flatten(1)
        variance = C.diagonal()
        error = ((variance[:, None] * variance + C.square()) / n).sqrt()
        assert float(((y.T @ y / n - C).abs() / error).max()) < 6
        assert float((y.mean(0).abs() / (variance / n).sqrt()).max()) < 5

    @pytest.mark.parametrize("name", EACH)
    def test_the_seed_decides(self, name: str) -> None:
        mean, noise = torch.full((2, 1, 4, 5), 0.5), EACH[name]
        first, again = noise.sample(mean, seeded(0)), noise.sample(mean, seeded(0))
        assert torch.equal(first, again)
        assert not torch.equal(first, noise.sample(mean, seeded(1)))
        assert not torch.equal(first[0], first[1])
        assert (
            first.dtype == torch.float32
            and noise.sample(mean.double(), seeded()).dtype == torch.float64
        )

    @pytest.mark.parametrize("name", EACH)
    def test_a_generator_for_each_sample(self, name: str) -> None:
        """The noise of a sample depends on its own generator alone, not on its batch."""
        mean, noise = torch.full((3, 1, 4, 5), 0.5, dtype=torch.float64), EACH[name]
        together = noise.sample(mean, [seeded(i) for i in range(3)])
        for i in range(3):
            torch.testing.assert_close(
                together[i : i + 1], noise.sample(mean[:1], [seeded(i)]), atol=1e-15, rtol=0
            )
        with pytest.raises(ValueError, match="2 generators for 3 samples"):
            noise.sample(mean, [seeded(0), seeded(1)])


class TestScore:
    @pytest.mark.parametrize("name", EACH)
    def test_is_the_slope_of_the_density(self, name: str) -> None:
        """The score against central differences of the log density.

        With step h = 1e-5 they are wrong by h^2 f''' / 6 (f''' is below 1e3 at these widths) and by
        the rounding of f (1e2) over h.
        """
        noise, h = EACH[name], 1e-5
        mean = torch.rand(2, 1, 4, 5, generator=seeded(), dtype=torch.float64) * 1.2 - 0.6
        y = noise.sample(mean, seeded(1))
        score = noise.score(y, mean)
        direction = torch.eye(20, dtype=torch.float64).reshape(20, 1, 1, 4, 5)
        for d in direction:
            slope = (noise.log_prob(y, mean + h * d) - noise.log_prob(y, mean - h * d)) / (2 * h)
            torch.testing.assert_close((score * d).flatten(1).sum(1), slope, atol=1e-7, rtol=1e-7)

    def test_of_what_is_stuck_is_nothing(self) -> None:
        y = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
        score = SaltAndPepperNoise(0.2, 0.5).score(y, torch.zeros_like(y))
        torch.testing.assert_close(
            score, torch.tensor([[0.0, 0.0, 2.0]], dtype=torch.float64), atol=1e-14, rtol=0
        )

    def test_is_finite_far_away(self) -> None:
        y, mean = torch.meshgrid(
            torch.linspace(-3, 3, 13), torch.linspace(-1.5, 3, 10), indexing="ij"
        )
        for noise in (
            PoissonGaussianNoise(12.0, 0.1),
            PoissonGaussianNoise(300.0, 0.02),
            PoissonNoise(12.0),
        ):
            assert bool(torch.isfinite(noise.score(y, mean)).all())

    def test_carries_on_the_gradient(self) -> None:
        mean = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        score = GaussianNoise(0.5).score(torch.ones(1, 3, dtype=torch.float64), mean)
        (curvature,) = torch.autograd.grad(score.sum(), mean)
        torch.testing.assert_close(curvature, torch.full_like(curvature, -4.0), atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    "kind", [k for k in known_noises() if k.__module__.startswith("problems.")]
)
def test_declared_capabilities_are_those_of_the_methods(kind: type[Noise]) -> None:
    """Every noise declares its own, and declares what its methods can do."""
    noise = next(noise for noise in EACH.values() if type(noise) is kind)
    assert "capabilities" in vars(kind)
    assert noise.capabilities <= {"covariance", "joint_density"}
    overridden = kind.covariance_matvec is not Noise.covariance_matvec
    assert ("covariance" in noise.capabilities) == overridden
    assert ("joint_density" in noise.capabilities) == (kind.log_prob is not Noise.log_prob)


class TestCovariance:
    def test_of_a_level_for_each_entry(self) -> None:
        std, v = torch.rand(1, 4, 5, generator=seeded(), dtype=torch.float64), randn(2, 1, 4, 5)
        torch.testing.assert_close(
            GaussianNoise(std).covariance_matvec(v, v), std**2 * v, atol=1e-15, rtol=0
        )

    def test_grows_with_the_light(self) -> None:
        mean = torch.tensor([[-0.5, 0.0, 1.0]], dtype=torch.float64)
        variances = 4 / 10**2 * scipy.stats.poisson(10 * (mean.numpy() + 1) / 2).var()
        one = torch.ones_like(mean)
        np.testing.assert_allclose(
            PoissonNoise(10.0).covariance_matvec(mean, one), variances, rtol=1e-14
        )
        np.testing.assert_allclose(
            PoissonGaussianNoise(10.0, 0.2).covariance_matvec(mean, one),
            variances + 0.04,
            rtol=1e-14,
        )

    def test_of_salt_and_pepper_is_none(self) -> None:
        with pytest.raises(ValueError, match="SaltAndPepperNoise has no Gaussian approximation"):
            SaltAndPepperNoise(0.1, 0.1).covariance_matvec(randn(1, 4), randn(1, 4))

    def test_variance(self) -> None:
        assert GaussianNoise(0.3).variance == pytest.approx(0.09)
        with pytest.raises(ValueError, match="a level for each entry"):
            _ = GaussianNoise(torch.ones(3)).variance


class TestDescription:
    @pytest.mark.parametrize("name", EACH)
    def test_round_trip(self, name: str) -> None:
        """A noise written to JSON and read back gives the same draws, bit by bit."""
        problem = InverseProblem(Denoising(), EACH[name])
        again = problem_from(json.loads(json.dumps(problem.describe())))
        mean = torch.zeros(2, 1, 4, 5)
        assert type(again.noise) is type(EACH[name]) and repr(again) == repr(problem)
        assert torch.equal(again.noise.sample(mean, seeded()), EACH[name].sample(mean, seeded()))

    def test_every_noise_is_tested_here(self) -> None:
        assert {type(noise) for noise in EACH.values()} == {
            kind for kind in known_noises() if kind.__module__.startswith("problems.")
        }

    def test_levels_are_copied(self) -> None:
        std = torch.ones(3)
        noise = GaussianNoise(std)
        std[:] = 7
        assert isinstance(noise.std, Tensor) and noise.std.tolist() == [1, 1, 1]
