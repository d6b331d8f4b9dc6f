"""Order, normalised densities, cached draws, and posteriors against a list of all images."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from problems import (
    Clipping,
    Denoising,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LaplaceNoise,
    LinearFunction,
    LinearMatrix,
    SuperResolution,
)
from scoresde.families.autoregressive.conditional_smc import is_ancestral
from scoresde.families.autoregressive.logistic import sample_discretised_logistic_mixture
from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.autoregressive.posterior import RestoreSettings, likelihood_table
from scoresde.families.autoregressive.potentials import GaussianLookahead, LookaheadFactors
from scoresde.families.autoregressive.raster import Raster
from solvers import Posterior
from tests.conftest import seeded

MODELS = {
    "grey": AutoregressiveConfig((1, 5, 4), widths=(4,), blocks=1, components=2, levels=4),
    "grey, three resolutions, odd": AutoregressiveConfig(
        (1, 7, 5), widths=(4, 5, 3), blocks=1, components=2
    ),
    "colour, two resolutions": AutoregressiveConfig(
        (3, 4, 5), widths=(4, 5), blocks=2, components=2
    ),
    "vector": AutoregressiveConfig((4,), widths=(12, 12), components=2),
}
each_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


def built(config: AutoregressiveConfig, spread: float = 0.3, seed: int = 0) -> Autoregressive:
    """A model with larger random weights than a fresh one, so that entries depend on each other."""
    torch.manual_seed(seed)  # for the weights of the fresh model
    model, g = Autoregressive(config).double(), seeded(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += spread * torch.randn(p.shape, generator=g, dtype=p.dtype)
    return model.requires_grad_(False)


def order(shape: tuple[int, ...]) -> list[int]:
    """Flat indices of the entries in the order of the factors.

    Pixels are in raster order, and the channels of a pixel last.
    """
    index = torch.arange(math.prod(shape)).reshape(shape)
    return (index.movedim(0, -1) if len(shape) == 3 else index).flatten().tolist()


class TestCausality:
    @each_model
    def test_every_entry_sees_those_before_it_and_no_other(
        self, config: AutoregressiveConfig
    ) -> None:
        model = built(config)
        x = model.sample(1, seeded(1)).requires_grad_(True)
        # (entries, 3 components)
        entries = torch.cat([p.flatten(1, -2)[0] for p in model.mixture(x)], -1)
        sequence, weights = (
            order(config.shape),
            torch.randn(entries.shape[1], generator=seeded(2), dtype=torch.float64),
        )
        for position, k in enumerate(sequence):
            gradient = torch.autograd.grad(
                entries[k] @ weights, x, retain_graph=True, materialize_grads=True
            )[0].flatten()
            assert torch.equal(
                gradient[sequence[position:]],
                torch.zeros(len(sequence) - position, dtype=torch.float64),
            )
            neighbour = position - 1
            if len(config.shape) == 3 and position % (config.shape[0] * config.shape[2]) == 0:
                # at the beginning of a row: the pixel above
                neighbour = position - config.shape[0] * config.shape[2]
            if neighbour >= 0:
                assert float(gradient[sequence[neighbour]]) != 0

    def test_nothing_before_a_pixel_is_in_a_blind_spot(self) -> None:
        model = built(AutoregressiveConfig((1, 5, 5), widths=(4,), blocks=4, components=2))
        x = model.sample(1, seeded(1)).requires_grad_(True)
        means = model.mixture(x)[1].sum(-1).flatten()
        for k in range(25):
            gradient = torch.autograd.grad(means[k], x, retain_graph=True, materialize_grads=True)[
                0
            ].flatten()
            assert bool((gradient[:k] != 0).all()) and bool((gradient[k:] == 0).all())


class TestDensity:
    @pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2), (1, 4, 1)])
    def test_probabilities_of_all_images_sum_to_one(self, shape: tuple[int, ...]) -> None:
        model = built(
            AutoregressiveConfig(shape, widths=(4, 3), blocks=1, components=3, levels=4), spread=0.6
        )
        found = model.log_prob(states(shape, 4))
        assert found.kind == "exact" and found.discrete and found.value.dtype == torch.float64
        assert float(found.value.exp().sum()) == pytest.approx(1, abs=1e-10)
        assert float(found.value.exp().std()) > 0.001  # not the uniform distribution

    def test_factors_are_the_conditionals_of_the_joint_probability(self) -> None:
        model = built(
            AutoregressiveConfig((2, 1, 2), widths=(4,), blocks=1, components=2, levels=3),
            spread=0.6,
        )
        x = states((2, 1, 2), 3)
        # axes: (c0, j0), (c0, j1), (c1, j0), (c1, j1)
        p = model.log_prob(x).value.exp().reshape(3, 3, 3, 3)
        p = p.permute(0, 2, 1, 3)  # the order of the factors
        # p(c0 of pixel 1 | both of pixel 0)
        third = (p.sum(3) / p.sum((2, 3))[..., None]).permute(0, 2, 1).flatten()
        entry = model.entry_log_prob(x)[:, 0, 0, 1].exp().reshape(3, 3, 3, 3)[..., 0].flatten()
        torch.testing.assert_close(entry, third)

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 1])
    def test_of_a_vector_integrates_to_one(self, seed: int) -> None:
        model = built(
            AutoregressiveConfig((2,), widths=(16, 16), components=3), spread=0.2, seed=seed
        )
        axis = torch.linspace(-30, 30, 601, dtype=torch.float64)
        found = model.log_prob(torch.cartesian_prod(axis, axis))
        assert not found.discrete
        assert float(found.value.exp().sum()) * float(axis[1] - axis[0]) ** 2 == pytest.approx(
            1, abs=1e-3
        )

    @pytest.mark.slow
    def test_draws_of_a_vector_have_the_density(self) -> None:
        model = built(AutoregressiveConfig((2,), widths=(16, 16), components=3))
        x = model.sample(40000, seeded(3))
        axis = torch.linspace(-30, 30, 601, dtype=torch.float64)
        p = model.log_prob(torch.cartesian_prod(axis, axis)).value.exp().reshape(601, 601) * 0.1**2
        mean, product = (p.sum(1) @ axis, p.sum(0) @ axis), float(axis.tanh() @ p @ axis.tanh())
        assert float(x[:, 0].mean()) == pytest.approx(
            float(mean[0]), abs=5 * float(x[:, 0].std()) / 200
        )
        assert float(x[:, 1].mean()) == pytest.approx(
            float(mean[1]), abs=5 * float(x[:, 1].std()) / 200
        )
        assert float((x[:, 0].tanh() * x[:, 1].tanh()).mean()) == pytest.approx(
            product, abs=5 / 200
        )

    @pytest.mark.slow
    def test_gradients_of_the_loss_reach_every_parameter(self) -> None:
        for config in MODELS.values():
            model = Autoregressive(config)
            loss = model.loss(model.sample(3, seeded()), seeded())
            loss.backward()
            dead = [name for name, p in model.named_parameters() if p.grad is None]
            assert loss.ndim == 0 and not dead

    @pytest.mark.slow
    def test_learns_a_toy(self) -> None:
        """Stripes: x_1 = -x_0.

        The entropy is ln 2, from the first entry; the other three add nothing.
        """
        torch.manual_seed(0)
        model = Autoregressive(
            AutoregressiveConfig((1, 2, 2), widths=(8,), blocks=1, components=2, levels=2)
        )
        sign = 2 * torch.randint(2, (64, 1, 1, 1), generator=seeded()).float() - 1
        x = sign * torch.tensor([[1.0, -1.0], [1.0, -1.0]])
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(150):
            optimizer.zero_grad()
            model.loss(x).backward()
            optimizer.step()
        assert float(-model.log_prob(x).value.detach().mean()) == pytest.approx(
            math.log(2), abs=0.05
        )


class TestSampling:
    @pytest.mark.parametrize("name", [name for name in MODELS if name != "vector"])
    def test_cached_draws_are_those_of_the_whole_network(self, name: str) -> None:
        model, n = built(MODELS[name]), 3
        C, H, W = model.shape
        x, g, evaluated = torch.zeros(n, C, H, W, dtype=torch.float64), seeded(5), 0
        for i, j, c in itertools.product(range(H), range(W), range(C)):
            logits, means, log_scales = (p[:, c, i, j] for p in model.mixture(x))
            evaluated += H * W
            x[:, c, i, j] = sample_discretised_logistic_mixture(
                logits, means, log_scales, g, model.config.levels
            )
        torch.testing.assert_close(model.sample(n, seeded(5)), x, rtol=0, atol=1e-12)
        raster = Raster(model.network, n, model.shape, x)  # type: ignore[arg-type]
        whole = model.network(x)
        for i, j in itertools.product(range(H), range(W)):
            torch.testing.assert_close(raster.outputs(i, j), whole[:, i, j], rtol=1e-10, atol=1e-12)
            for c in range(C):
                raster.put(i, j, c, x[:, c, i, j])
        assert torch.equal(raster.x, x)
        assert raster.evaluated == H * W == model.nfe_per_sample and evaluated == C * (H * W) ** 2

    def test_an_image_that_is_chosen_anew_brings_its_cache(self) -> None:
        model = built(MODELS["grey, three resolutions, odd"])
        x = model.sample(3, seeded(5))
        index = torch.tensor([2, 2, 0])
        raster, whole = Raster(model.network, 3, model.shape, x), model.network(x[index])
        for i, j in itertools.product(range(7), range(5)):
            if (i, j) == (3, 2):
                raster.select(index)
                x = x[index]
            out = raster.outputs(i, j)
            if (i, j) >= (3, 2):
                torch.testing.assert_close(out, whole[:, i, j], rtol=1e-10, atol=1e-12)
            raster.put(i, j, 0, x[:, 0, i, j])

    def test_draws_have_the_probabilities(self) -> None:
        model = built(
            AutoregressiveConfig((2, 1, 2), widths=(4,), blocks=1, components=2, levels=3),
            spread=0.5,
        )
        everything = states(model.shape, 3)
        assert fits(model.sample(20000, seeded(3)), everything, model.log_prob(everything).value)


def states(shape: tuple[int, ...], levels: int) -> Tensor:
    """All images of these levels."""
    axis = torch.linspace(-1, 1, levels, dtype=torch.float64)
    return torch.cartesian_prod(*[axis] * math.prod(shape)).reshape(-1, *shape)


def statistic(draws: Tensor, everything: Tensor, log_p: Tensor) -> tuple[float, int]:
    """Pearson's chi-squared of draws against probabilities, and its degrees of freedom.

    Rare states count as one.
    """
    nearest = torch.cdist(draws.double().flatten(1), everything.flatten(1)).min(1)
    assert float(nearest.values.max()) < 1e-5, "a draw is not on the levels"
    counts = torch.bincount(nearest.indices, minlength=len(everything)).double()
    expected = torch.softmax(log_p, 0) * len(draws)
    common = expected >= 5
    counts, expected = (torch.cat([v[common], v[~common].sum()[None]]) for v in (counts, expected))
    if float(expected[-1]) < 5:
        counts = torch.cat([counts[:-2], counts[-2:].sum()[None]])
        expected = torch.cat([expected[:-2], expected[-2:].sum()[None]])
    return float(((counts - expected).square() / expected).sum()), len(counts) - 1


def fits(draws: Tensor, everything: Tensor, log_p: Tensor) -> bool:
    value, freedom = statistic(draws, everything, log_p)
    return bool(freedom >= 1 and chi2.sf(value, freedom) > 1e-3)


SMALL = AutoregressiveConfig(
    (1, 2, 2), widths=(4, 3), blocks=1, components=2, levels=4, min_log_scale=-1.0
)
MASK = torch.tensor([[False, True], [True, False]])
POINTWISE = {
    "noisy holes": InverseProblem(Inpainting(MASK), GaussianNoise(0.5)),
    "noise-free holes before what is seen": InverseProblem(
        Inpainting(~torch.tensor([[True, False], [False, True]])), GaussianNoise(0.0)
    ),
    "the last pixel alone": InverseProblem(
        Inpainting(torch.tensor([[0, 0], [0, 1]])), GaussianNoise(0.2)
    ),
    "denoising": InverseProblem(Denoising(), GaussianNoise(0.7)),
    "clipping": InverseProblem(Clipping(2.0), GaussianNoise(0.3)),
}


def truth(model: Autoregressive, problem: InverseProblem, y: Tensor) -> tuple[Tensor, Tensor]:
    """All images, and the log posterior of each up to a constant."""
    everything = states(model.shape, model.config.levels)
    log_prior = model.log_prob(everything).value
    table = likelihood_table(problem, y, model.shape, model.config.levels)
    if isinstance(problem.noise, GaussianNoise) and problem.noise.std == 0:
        allowed = (
            problem.residual(y.expand(len(everything), *y.shape[1:]), everything)
            .abs()
            .flatten(1)
            .amax(1)
            < 1e-6
        ).double()
        return everything, log_prior + allowed.log()
    assert table is None or bool(torch.isfinite(table).all())
    return everything, log_prior + problem.log_likelihood(
        y.expand(len(everything), *y.shape[1:]), everything
    )


@pytest.mark.slow
class TestRestore:
    @pytest.mark.parametrize("problem", POINTWISE.values(), ids=POINTWISE)
    def test_particles_draw_the_enumerated_posterior(self, problem: InverseProblem) -> None:
        model = built(SMALL, spread=0.5)
        y = problem.measure(model.sample(1, seeded(11)), seeded(12))
        posterior = model.restore(problem, y, 2000, generator=seeded(13), particles=8, sweeps=2)
        assert posterior.diagnostics["method"] == "particles" and not posterior.diagnostics["exact"]
        assert fits(posterior.draws[:, 0], *truth(model, problem, y))

    def test_particles_without_weights_would_not(self) -> None:
        """The power of the test above.

        A single particle follows the tilted factors and ignores the information of the last pixel.
        """
        model, problem = built(SMALL, spread=0.5), POINTWISE["the last pixel alone"]
        y = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
        wrong = model.restore(problem, y, 6000, generator=seeded(13), particles=1, sweeps=0)
        right = model.restore(problem, y, 2000, generator=seeded(13), particles=8, sweeps=2)
        assert fits(right.draws[:, 0], *truth(model, problem, y)) and not fits(
            wrong.draws[:, 0], *truth(model, problem, y)
        )

    def test_sweeps_alone_correct_a_population_of_two(self) -> None:
        """Particle Gibbs leaves the posterior invariant with any number of particles."""
        model, problem = built(SMALL, spread=0.5), POINTWISE["denoising"]
        y = problem.measure(model.sample(1, seeded(11)), seeded(12))
        posterior = model.restore(problem, y, 2000, generator=seeded(13), particles=2, sweeps=20)
        assert posterior.diagnostics["moved"] > 0.05
        assert fits(posterior.draws[:, 0], *truth(model, problem, y))

    def test_a_noise_free_beginning_is_continued_exactly(self) -> None:
        model = built(SMALL, spread=0.5)
        problem = InverseProblem(Inpainting(torch.tensor([[1, 1], [0, 0]])), GaussianNoise(0.0))
        y = problem.measure(model.sample(2, seeded(11)))
        posterior = model.restore(problem, y, 2000, generator=seeded(13))
        assert posterior.diagnostics["exact"] and posterior.nfe == 1
        for b in range(2):
            torch.testing.assert_close(posterior.draws[:, b, :, 0], y[b, :, 0].expand(2000, 1, 2))
            assert fits(posterior.draws[:, b], *truth(model, problem, y[b : b + 1]))

    def test_which_measurements_are_exact(self) -> None:
        free, noisy, known = (torch.tensor(v) for v in ([0.0, 0.0], [0.0, -1.0], [0.0, -torch.inf]))

        def exact(*entries: Tensor) -> bool:
            return is_ancestral(torch.stack(entries).reshape(1, 1, 1, -1, 2))

        assert (
            exact(known, known, free)
            and exact(known, noisy, free)
            and exact(noisy, free)
            and exact(free, free)
        )
        assert not exact(free, known) and not exact(noisy, noisy) and not exact(noisy, known)

    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize(("particles", "sweeps"), [(32, 0), (8, 2), (2, 20)])
    def test_looking_ahead_draws_the_enumerated_posterior(
        self, particles: int, sweeps: int, channels: int
    ) -> None:
        """Measurements that mix all entries.

        The draws are right whichever Gaussian stands for the entries to come.
        """
        model = built(
            replace(SMALL, shape=(channels, 2, 2), levels=3 if channels == 2 else SMALL.levels),
            spread=0.5,
        )
        A = torch.randn(3, 4 * channels, generator=seeded(5), dtype=torch.float64)
        problem = InverseProblem(LinearMatrix(A, model.shape), GaussianNoise(0.7))
        y = problem.measure(model.sample(1, seeded(11)).double(), seeded(12))
        posterior = model.restore(
            problem, y, 2000, generator=seeded(13), particles=particles, sweeps=sweeps
        )
        assert posterior.diagnostics["method"] == "particles that look ahead"
        assert fits(posterior.draws[:, 0], *truth(model, problem, y))

    def test_the_factors_are_ratios_of_gaussian_likelihoods(self) -> None:
        """psi_i is N(y; E[A x | x_<=i], cov), against dense algebra.

        For every level of every entry.
        """
        g = seeded(3)
        draws = torch.rand(40, 1, 2, 3, generator=g, dtype=torch.float64)
        A = torch.randn(6, 4, generator=g, dtype=torch.float64)
        y = torch.randn(1, 4, generator=g, dtype=torch.float64)
        given = LookaheadFactors.of(draws, A, 0.3)
        C = given.L @ torch.diag(given.variances) @ given.L.T
        assert not torch.allclose(C, torch.diag(C.diagonal()), atol=1e-3)
        potential = GaussianLookahead(given, y, levels=5)
        potential.begin(1)
        placed: list[float] = []

        def log_psi(values: list[float]) -> Tensor:
            k, noise = len(values), 0.3 * torch.eye(4, dtype=torch.float64)
            gain = C[k:, :k] @ torch.linalg.inv(C[:k, :k])
            x = torch.tensor(values, dtype=torch.float64)
            mean = torch.cat((x, given.mean[k:] + gain @ (x - given.mean[:k])))
            left = C[k:, k:] - gain @ C[:k, k:]
            S = A[k:].T @ left @ A[k:] + noise
            return torch.distributions.MultivariateNormal(mean @ A, S).log_prob(y[0])

        for place in range(6):
            i, j = divmod(place, 3)
            found = potential.factors(0, i, j)
            assert found is not None
            expected = torch.stack(
                [log_psi([*placed, float(v)]) for v in potential.grid]
            ) - log_psi(placed)
            torch.testing.assert_close(found[0, 0], expected, rtol=1e-9, atol=1e-9)
            placed.append(float(potential.grid[(2 * place) % 5]))
            potential.put(0, i, j, torch.tensor([placed[-1]], dtype=torch.float64))

    def test_langevin_draws_the_enumerated_posterior(self) -> None:
        """With enough steps for its modes.

        A chain a tenth as long has visibly not converged.
        """
        model = built(SMALL, spread=0.5)
        problem = InverseProblem(SuperResolution(2), LaplaceNoise(0.6))
        y = problem.measure(model.sample(1, seeded(11)), seeded(12))

        def run(steps: int) -> Posterior:
            return model.restore(problem, y, 600, generator=seeded(13), steps=steps)

        long, short = run(250), run(15)
        assert (
            long.diagnostics["method"] == "discrete Langevin"
            and 0.2 < long.diagnostics["acceptance"] < 0.95
        )
        assert fits(long.draws[:, 0], *truth(model, problem, y)) and not fits(
            short.draws[:, 0], *truth(model, problem, y)
        )

    def test_of_a_vector_is_the_posterior_on_a_grid(self) -> None:
        model = built(AutoregressiveConfig((2,), widths=(16, 16), components=3))
        problem = InverseProblem(
            LinearFunction(lambda x: x[:, :1] + 0.5 * x[:, 1:], (2,)), GaussianNoise(0.3)
        )
        y = torch.tensor([[0.7], [-0.4]], dtype=torch.float64)
        posterior = model.restore(problem, y, 2000, generator=seeded(13), steps=30)
        axis = torch.linspace(-30, 30, 601, dtype=torch.float64)
        grid = torch.cartesian_prod(axis, axis)
        prior = model.log_prob(grid).value
        assert posterior.draws.shape == (2000, 2, 2) and posterior.diagnostics["share"] > 0.01
        for b in range(2):
            p = torch.softmax(
                prior + problem.log_likelihood(y[b : b + 1].expand(len(grid), 1), grid), 0
            )
            for f in (torch.tanh, lambda x: torch.tanh(x).square()):
                value = f(posterior.draws[:, b])
                torch.testing.assert_close(
                    value.mean(0),
                    p @ f(grid),
                    rtol=0,
                    atol=5 * float(value.std(0).max()) / math.sqrt(2000),
                )

    def test_draws_repeat_and_report(self) -> None:
        model, seen = built(SMALL), list[float]()
        y = POINTWISE["denoising"].measure(model.sample(2, seeded(1)), seeded(2))
        a, b = (
            model.restore(POINTWISE["denoising"], y, 3, generator=seeded(3), progress=seen.append)
            for _ in range(2)
        )
        assert torch.equal(a.draws, b.draws) and a.draws.shape == (3, 2, 1, 2, 2)
        assert seen[-1] == pytest.approx(1) and max(seen) <= 1 + 1e-9


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"shape": (2, 3)}, "vectors"),
            ({"shape": (1, 4, 4), "widths": ()}, "positive"),
            ({"shape": (1, 4, 4), "blocks": 0}, "positive"),
            ({"shape": (1, 4, 4), "levels": 1}, "grey levels"),
            ({"shape": (1, 4, 4), "min_log_scale": math.nan}, "min_log_scale"),
        ],
    )
    def test_of_a_configuration(self, settings: dict, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            AutoregressiveConfig(**settings)

    def test_of_calls(self) -> None:
        model = built(SMALL)
        problem = POINTWISE["denoising"]
        with pytest.raises(ValueError, match=r"samples \(1, 2, 2\)"):
            model.log_prob(torch.zeros(1, 1, 3, 3))
        with pytest.raises(ValueError, match="NaN"):
            model.loss(torch.full((1, 1, 2, 2), math.nan))
        with pytest.raises(ValueError, match="n must be"):
            model.sample(0)
        with pytest.raises(ValueError, match="n must be"):
            model.restore(problem, torch.zeros(1, 1, 2, 2), 0)
        with pytest.raises(ValueError, match="measures as"):
            model.restore(problem, torch.zeros(1, 1, 3, 3))
        with pytest.raises(ValueError, match="particles"):
            RestoreSettings(particles=1)
        with pytest.raises(ValueError, match="noise level above 0"):
            model.restore(
                InverseProblem(SuperResolution(2), GaussianNoise(0.0)), torch.zeros(1, 1, 1, 1)
            )
