"""The contract of all solvers: draws depend on the seed alone, not on the batch.

Nothing is mutated, and evaluations are counted.
"""

import pytest
import torch
from torch import Tensor, nn

from problems import (
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearMatrix,
    SuperResolution,
)
from scoresde import EDMSDE, VPSDE, CountingPrior, GaussianMixturePrior, ScorePrior
from scoresde.networks import UNet, UNetConfig
from scoresde.priors.tiled import TiledPrior
from solvers import (
    DDIM,
    DPS,
    MMPS,
    SOLVERS,
    DiffPIR,
    Guided,
    Heun,
    PiGDM,
    PosteriorSampler,
    SecondOrderAncestral,
    make_solver,
    solve,
)
from solvers.posterior import ParticleSampler, PointEstimator
from tests.conftest import F64, seeded

ALL: dict[str, PosteriorSampler] = {
    "diffpir": DiffPIR(8),
    "mmps-heun": Guided(MMPS(), Heun(6)),
    "mmps-ancestral": Guided(MMPS(), DDIM(8, eta=1.0)),
    "pigdm-ddim": Guided(PiGDM(), DDIM(8)),
    "dps-ancestral": Guided(DPS(zeta=0.1), DDIM(8, eta=1.0)),
    "dps-likelihood": Guided(DPS(weight="likelihood"), DDIM(8)),
    "second-order": SecondOrderAncestral(6, lanczos=2),
}
solvers = pytest.mark.parametrize("solver", ALL.values(), ids=ALL.keys())


def mixture() -> GaussianMixturePrior:
    g = seeded(0)
    roots = 0.3 * torch.randn(3, 48, 48, dtype=F64, generator=g)
    covariances = roots @ roots.mT / 48 + 0.02 * torch.eye(48, dtype=F64)
    return GaussianMixturePrior(
        torch.ones(3), torch.randn(3, 3, 4, 4, dtype=F64, generator=g), covariances
    )


def network_prior() -> ScorePrior:
    """A small untrained network with random weights and no symmetry."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    for p in network.parameters():
        nn.init.normal_(p, std=0.1)
    return ScorePrior(network.double(), EDMSDE(), (3, 16, 16)).requires_grad_(False).eval()


def measurement(prior: GaussianMixturePrior, batch: int = 2) -> tuple[InverseProblem, Tensor]:
    mask = torch.rand(4, 4, generator=seeded(1)) < 0.6
    problem = InverseProblem(Inpainting(mask), GaussianNoise(0.1))
    g = seeded(2)
    return problem, problem.measure(prior.sample(batch, g), g)


@solvers
def test_same_seed_same_draws_and_seed_zero_counts(solver: PosteriorSampler) -> None:
    prior = mixture()
    problem, y = measurement(prior)
    draws = [
        solver.sample(prior, problem, y, 3, generator=seeded(seed)).draws for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])
    assert draws[0].shape == (3, 2, 3, 4, 4)


@pytest.mark.slow
@solvers
@pytest.mark.parametrize("kind", ["mixture", "network"])
def test_a_draw_does_not_depend_on_its_batch(solver: PosteriorSampler, kind: str) -> None:
    prior = mixture() if kind == "mixture" else network_prior()
    if kind == "mixture":
        problem, y = measurement(mixture())
    else:
        problem = InverseProblem(
            Inpainting(torch.rand(16, 16, generator=seeded(1)) < 0.6),
            GaussianNoise(0.1),
        )
        y = problem.measure(torch.rand(2, 3, 16, 16, dtype=F64) * 2 - 1)

    def draw(n: int, batch: int | None) -> Tensor:
        return solver.sample(prior, problem, y, n, generator=seeded(0), batch=batch).draws

    together = draw(3, None)
    # alone in a batch, with its own measurement
    torch.testing.assert_close(draw(3, 1), together, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(draw(3, 4), together, rtol=1e-7, atol=1e-7)
    # fewer draws are the first of many
    torch.testing.assert_close(draw(2, None), together[:2], rtol=1e-7, atol=1e-7)


@solvers
def test_nothing_is_mutated(solver: PosteriorSampler) -> None:
    prior = mixture()
    problem, y = measurement(prior)
    before = {k: v.clone() for k, v in prior.state_dict().items()}
    kept, global_state = y.clone(), torch.get_rng_state()
    solver.sample(prior, problem, y, 2, generator=seeded(0))
    assert torch.equal(y, kept)
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    # a given generator is the only source of randomness
    assert torch.equal(torch.get_rng_state(), global_state)


def test_costs_are_counted() -> None:
    prior = mixture()
    problem, y = measurement(prior)
    for solver, nfe, vjps in [
        (DiffPIR(8), 8, 0),
        (Guided(MMPS(iterations=2, rtol=0.0), Heun(6)), 11, 22),
        (Guided(PiGDM(), DDIM(8)), 8, 8),
        (Guided(DPS(), DDIM(8)), 8, 8),
    ]:
        for batch in (None, 2):
            posterior = solver.sample(prior, problem, y, 2, generator=seeded(0), batch=batch)
            assert (posterior.nfe, posterior.vjps) == (nfe, vjps)


def test_posterior_statistics() -> None:
    prior = mixture()
    problem, y = measurement(prior, 1)
    posterior = solve(
        prior,
        problem,
        y,
        50,
        solver=Guided(MMPS(), Heun(12)),
        generator=seeded(0),
    )
    assert posterior.mean.shape == posterior.std.shape == (1, 3, 4, 4)
    lower, upper = posterior.interval(0.8)
    inside = ((posterior.draws >= lower) & (posterior.draws <= upper)).double().mean(0)
    # 40 of 50 draws; interpolation may change that by one
    assert bool((inside >= 0.78).all()) and bool((inside <= 0.84).all())
    assert bool(posterior.draws.isfinite().all())
    with pytest.raises(ValueError, match="level"):
        posterior.interval(1.5)


def test_one_draw_says_nothing_about_spread() -> None:
    prior = mixture()
    problem, y = measurement(prior, 1)
    assert bool(solve(prior, problem, y, 1, solver=DiffPIR(3)).std.isnan().all())


@pytest.mark.slow
def test_a_guided_prior_is_a_prior() -> None:
    """It can be sampled, differentiated and conditioned on a second, independent measurement."""
    prior = mixture()
    first, y1 = measurement(prior, 1)
    matrix = torch.randn(5, 48, dtype=F64, generator=seeded(3))
    second = InverseProblem(LinearMatrix(matrix, (3, 4, 4)), GaussianNoise(0.2))
    y2 = second.measure(prior.sample(1, seeded(4)), seeded(5))
    guided = MMPS(iterations=60).condition(
        MMPS(iterations=60).condition(prior, first, y1), second, y2
    )
    assert Heun(4).sample(guided, 3, generator=seeded(0)).shape == (
        3,
        3,
        4,
        4,
    )
    exact = prior.posterior(first, y1).posterior(second, y2)
    x = exact.sample(2, seeded(6))
    # so little noise that the one remaining component is Gaussian and moment matching is exact
    t = 0.01
    x_t = x + t * torch.randn(x.shape, dtype=F64, generator=seeded(7))
    torch.testing.assert_close(guided.denoise(x_t, t), exact.denoise(x_t, t), rtol=0, atol=1e-4)


def test_wrapped_priors_change_their_clock_together() -> None:
    """Wrapped priors give the same results under another SDE.

    A guided, counted, tiled prior is evaluated at the same noise-to-signal ratio.
    """
    prior = mixture()
    problem, y = measurement(prior, 1)
    guided = CountingPrior(TiledPrior(MMPS().condition(prior, problem, y)))
    u, sde = torch.randn(2, 3, 4, 4, dtype=F64, generator=seeded(1)), VPSDE()
    t = sde.t_from_noise_to_signal(torch.tensor(0.5, dtype=F64))
    torch.testing.assert_close(
        guided.with_sde(sde).denoise(sde.alpha(t) * u, t), guided.denoise(u, 0.5)
    )


def test_capabilities_are_asked_for_by_name() -> None:
    class Opaque(Denoising):
        base_capabilities = frozenset({"apply", "vjp", "linear", "adjoint"})
        structure = frozenset()

    prior = mixture()
    problem = InverseProblem(Opaque(), GaussianNoise(0.1))
    y = torch.zeros(1, 3, 4, 4, dtype=F64)
    with pytest.raises(
        ValueError,
        match=r"DiffPIR needs a problem with solve; solvers that can do this one: .*mmps.*dps",
    ):
        DiffPIR(3).sample(prior, problem, y, 1)
    Guided(MMPS(), Heun(3)).sample(prior, problem, y, 1)


@pytest.mark.slow
def test_every_named_solver_runs_and_declares_itself() -> None:
    prior = mixture()
    problem, y = measurement(prior, 1)
    assert len(SOLVERS) >= 18
    for name, entry in SOLVERS.items():
        solver = make_solver(name, steps=3)
        kinds = ("asymptotic", "gaussian", "heuristic", "estimate")
        assert solver.exactness == entry.exactness in kinds
        assert solver.requires == entry.requires
        n = 1 if isinstance(solver, PointEstimator) else 2
        assert solver.sample(prior, problem, y, n).draws.shape == (n, 1, 3, 4, 4)
    with pytest.raises(ValueError, match="unknown solver 'nope'; known: "):
        make_solver("nope")
    with pytest.raises(ValueError, match="unknown sampler"):
        make_solver("mmps", sampler="nope")
    with pytest.raises(ValueError, match="takes no sampler"):
        make_solver("diffpir", sampler="heun")


def test_bad_measurements_are_named() -> None:
    prior = mixture()
    problem, y = measurement(prior, 1)
    with pytest.raises(ValueError, match="NaN"):
        DiffPIR(3).sample(prior, problem, torch.full_like(y, torch.nan), 1)
    with pytest.raises(ValueError, match="at least 1"):
        DiffPIR(3).sample(prior, problem, y, 0)
    with pytest.raises(ValueError, match="multiple"):
        MMPS().condition(prior, problem, y.repeat(2, 1, 1, 1)).denoise(
            torch.zeros(3, 3, 4, 4, dtype=F64), 1.0
        )


@solvers
@pytest.mark.parametrize(
    "operator",
    [GaussianBlur(1.0), GaussianBlur(1.0, "reflect"), SuperResolution(2)],
    ids=["circular", "reflect", "sr"],
)
def test_networks_and_odd_images(
    solver: PosteriorSampler, operator: GaussianBlur | SuperResolution
) -> None:
    """Every solver accepts sizes that are no multiple of anything."""
    if isinstance(operator, SuperResolution):
        operator = SuperResolution(2, shape=(19, 22))
    problem = InverseProblem(operator, GaussianNoise(0.05))
    y = problem.measure(torch.rand(1, 3, 19, 22, dtype=F64) * 2 - 1)
    posterior = solver.sample(network_prior(), problem, y, 2, generator=seeded(0))
    assert posterior.draws.shape == (2, 1, 3, 19, 22)


def test_tiles_join_and_carry_gradients() -> None:
    """Tiles change neither values nor gradients of a denoiser that acts pixel by pixel."""
    g = seeded(0)
    pixel = nn.Conv2d(3, 3, 1).double()
    for p in pixel.parameters():
        nn.init.normal_(p, generator=g)

    class PerPixel(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return torch.tanh(pixel(x))

    prior = ScorePrior(PerPixel(), EDMSDE(), (3, 16, 16)).requires_grad_(False)
    tiled = TiledPrior(prior, tile=16, overlap=5)
    x = torch.randn(2, 3, 37, 50, dtype=F64, generator=g)
    torch.testing.assert_close(tiled.denoise(x, 0.7), prior.denoise(x, 0.7))
    problem = InverseProblem(GaussianBlur(1.0), GaussianNoise(0.1))
    y = problem.measure(torch.zeros(1, 3, 37, 50, dtype=F64), g)
    torch.testing.assert_close(
        MMPS().condition(tiled, problem, y).denoise(x, 0.7),
        MMPS().condition(prior, problem, y).denoise(x, 0.7),
    )


def applicable(name: str) -> tuple[PosteriorSampler, GaussianMixturePrior, InverseProblem, Tensor]:
    """A named solver with few steps, and an inpainting problem, which every solver can do."""
    prior = mixture()
    return make_solver(name, steps=4), prior, *measurement(prior, 1)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_named_solver_keeps_the_promises(name: str) -> None:
    """Same seed, same draws; another seed, others; nothing is mutated; no other random numbers.

    An estimate is the same for every seed.

    A solver in a new file of ``solvers/posterior`` or ``solvers/guidance`` is tested here without a
    line in this file.
    """
    solver, prior, problem, y = applicable(name)
    weights = {k: v.clone() for k, v in prior.state_dict().items()}
    kept, state = y.clone(), torch.get_rng_state()
    estimate = isinstance(solver, PointEstimator)
    n = 1 if estimate else 3
    runs = [
        solver.sample(prior, problem, y, n, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0].draws, runs[1].draws)
    assert torch.allclose(runs[0].draws, runs[2].draws) == estimate
    assert runs[0].draws.shape == (n, 1, 3, 4, 4) and bool(runs[0].draws.isfinite().all())
    assert runs[0].nfe > 0 and runs[0].vjps >= 0
    assert torch.equal(y, kept)
    assert all(torch.equal(v, weights[k]) for k, v in prior.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", SOLVERS)
def test_draws_of_named_solvers_do_not_depend_on_their_number(name: str) -> None:
    """But for particle methods, whose draws share a population."""
    solver, prior, problem, y = applicable(name)
    if isinstance(solver, ParticleSampler):
        pytest.skip("the draws of a population depend on one another")
    if isinstance(solver, PointEstimator):
        pytest.skip("an estimate is one, see test_point_estimates.py")

    def draw(n: int, batch: int | None) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return solver.sample(prior, problem, y, n, generator=generator, batch=batch).draws

    together = draw(3, None)
    torch.testing.assert_close(draw(3, 1), together, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(draw(2, None), together[:2], rtol=1e-7, atol=1e-7)
