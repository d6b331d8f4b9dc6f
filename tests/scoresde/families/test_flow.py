"""Flows: dense determinants, inverses, the integral of the density, and a linear posterior."""

import math

import pytest
import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem, LinearMatrix
from scoresde.families.flow.couplings import Coupling, SplineCoupling, Split
from scoresde.families.flow.layers import ActNorm, Bijection, Logit, Mixing, Squeeze
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.priors.mixture import GaussianPrior
from tests.conftest import seeded


def shaken(module: torch.nn.Module, size: float = 0.3, seed: int = 0) -> torch.nn.Module:
    """A flow in float64 with every parameter moved away from the identity it starts at."""
    torch.manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, dtype=p.dtype, generator=seeded(p.numel())))
    return module.eval()


def image_flow(**changes: object) -> Flow:
    torch.manual_seed(0)
    config = FlowConfig(**({"shape": (1, 8, 4), "levels": 2, "steps": 2, "hidden": 6} | changes))
    flow = shaken(Flow(config), 0.1)
    assert isinstance(flow, Flow)
    return flow


def dense_log_det(f: object, x: Tensor) -> Tensor:
    """ln|det| of the Jacobian of f at one x."""
    jacobian = torch.autograd.functional.jacobian(lambda v: f(v[None]).flatten(), x)
    return torch.linalg.slogdet(jacobian.reshape(-1, x.numel())).logabsdet


LAYERS = {
    "actnorm": lambda: ActNorm(4),
    "mixing": lambda: Mixing(4),
    "coupling": lambda: Coupling(4, 5, 3, 2.0),
    "coupling of odd channels": lambda: Coupling(3, 5, 1, 2.0),
    "spline coupling": lambda: SplineCoupling(4, 5, 3, 6),
    "squeeze": Squeeze,
    "logit": lambda: Logit(0.05),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_against_the_dense_jacobian(name: str) -> None:
    torch.manual_seed(0)
    layer = shaken(LAYERS[name]())
    assert isinstance(layer, Bijection)
    x = (
        2 * torch.rand(3, 3 if "odd" in name else 4, 2, 4, generator=seeded(), dtype=torch.float64)
        - 1
    )
    z, log_det = layer(x)
    assert log_det.shape == (3,)
    for i in range(3):
        assert log_det[i].item() == pytest.approx(
            float(dense_log_det(lambda v: layer(v)[0], x[i])), abs=1e-10
        )
    torch.testing.assert_close(layer.inverse(z), x, rtol=0, atol=1e-12)


def test_split_against_the_dense_jacobian() -> None:
    split = shaken(Split(4, 5, 2.0))
    x = torch.randn(2, 4, 2, 2, generator=seeded(), dtype=torch.float64)
    kept, z, log_det = split(x)
    assert log_det[0].item() == pytest.approx(
        float(dense_log_det(lambda v: torch.cat(split(v)[:2], 1), x[0])), abs=1e-10
    )
    torch.testing.assert_close(split.inverse(kept, z), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coupling", ["affine", "spline"])
@pytest.mark.parametrize(("shape", "levels"), [((1, 8, 4), 2), ((3, 4, 4), 1), ((3,), 0)])
def test_the_whole_flow_against_the_dense_jacobian(
    shape: tuple[int, ...], levels: int, coupling: str
) -> None:
    flow = image_flow(shape=shape, levels=levels, coupling=coupling)
    x = 2 * torch.rand(2, *shape, generator=seeded(1), dtype=torch.float64) - 1
    z, log_det = flow(x)
    assert z.shape == (2, flow.dimension)
    for i in range(2):
        assert log_det[i].item() == pytest.approx(
            float(dense_log_det(lambda v: flow(v)[0], x[i])), abs=1e-8
        )
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(flow.log_prob(x).value, normal + log_det)
    assert flow.log_prob(x).kind == "exact" and not flow.log_prob(x).discrete


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("alpha", "coupling"), [(0.0, "affine"), (0.05, "affine"), (0.0, "spline")]
)
def test_the_inverse_both_ways(
    alpha: float, coupling: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Both directions of the inverse at realistic sizes.

    The actnorms have seen data, so that z is of order one. The logit of numbers near 0 and 1 loses
    digits in float32, so z is mapped back and forth without it.
    """
    flow = image_flow(
        shape=(1, 28, 28),
        hidden=16,
        steps=4 if coupling == "affine" else 2,
        alpha=alpha,
        coupling=coupling,
    )
    x = 2 * torch.rand(8, 1, 28, 28, generator=seeded(), dtype=torch.float64) - 1
    flow.train().loss(x)
    flow, x = flow.eval().to(dtype), x.to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(x)[0]), x, rtol=0, atol=tolerance)
        if not alpha:
            z = torch.randn(2, 784, generator=seeded(), dtype=dtype)
            torch.testing.assert_close(flow(flow.inverse(z))[0], z, rtol=0, atol=10 * tolerance)


def two_moons(n: int, g: torch.Generator) -> Tensor:
    angle = math.pi * torch.rand(n, generator=g)
    side = torch.randint(2, (n,), generator=g) * 2 - 1
    x = torch.stack((side * (angle.cos() - 0.5), side * (angle.sin() - 0.25)), 1)
    return x + 0.1 * torch.randn(n, 2, generator=g)


def trained() -> tuple[Flow, list[float]]:
    torch.manual_seed(0)
    flow, g, losses = (
        Flow(
            FlowConfig(shape=(2,), levels=0, steps=4, hidden=32, coupling="spline", alpha=0.0)
        ).train(),
        seeded(),
        [],
    )
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    for _ in range(150):
        loss = flow.loss(two_moons(128, g))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return flow.eval(), losses


@pytest.mark.slow
def test_a_trained_flow_learns_and_its_density_integrates_to_one() -> None:
    flow, losses = trained()
    assert sum(losses[-20:]) / 20 < losses[0] - 0.25  # nats per dimension
    axis = torch.linspace(-4, 4, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow.double().log_prob(grid).value.exp()
    assert float(density.sum()) * 0.02**2 == pytest.approx(1, abs=1e-3)
    draws = flow.sample(4000, seeded(1))
    truth = two_moons(4000, seeded(2)).double()
    assert float((draws.mean(0) - truth.mean(0)).abs().max()) < 0.15
    # draws and density have the same law: E[-ln p] over both agree
    entropy = -flow.log_prob(draws).value.mean().item()
    assert entropy == pytest.approx(
        float(-(density * density.clamp_min(1e-300).log()).sum()) * 0.02**2, abs=0.06
    )


def test_outside_the_support_of_the_logit_the_density_is_zero() -> None:
    flow = image_flow()
    x = torch.zeros(2, 1, 8, 4, dtype=torch.float64)
    x[1, 0, 0, 0] = 1.2
    value = flow.log_prob(x).value
    assert bool(value[0].isfinite()) and float(value[1]) == -math.inf
    assert float(flow.sample(5, seeded()).abs().max()) <= 1 / 0.9
    assert FlowConfig(shape=(2,), levels=0).alpha == 0 and FlowConfig().alpha == 0.05


def test_the_first_batch_sets_the_actnorms_and_is_remembered() -> None:
    torch.manual_seed(0)
    flow = Flow(FlowConfig(shape=(1, 4, 4), levels=1, steps=2, hidden=4, alpha=0.0)).train()
    x = 3 + 5 * torch.randn(500, 1, 4, 4, generator=seeded())
    flow.log_prob(x)
    assert not any(bool(m.initialised) for m in flow.modules() if isinstance(m, ActNorm))
    flow.loss(x)
    z, _ = flow(x)
    assert float(z.mean().abs()) < 0.05 and float(z.std()) == pytest.approx(1, abs=0.05)
    before = flow.loss(x).item()
    flow.loss(10 * x)
    assert flow.loss(x).item() == before
    torch.manual_seed(1)
    again = Flow(flow.config)
    again.load_state_dict(flow.state_dict())
    assert again.loss(x).item() == before


def test_half_precision_is_kept_to_the_couplings() -> None:
    flow = image_flow().float()
    x = 2 * torch.rand(2, 1, 8, 4, generator=seeded()) - 1
    full = flow.log_prob(x).value
    with torch.autocast("cpu", torch.bfloat16):
        half = flow.log_prob(x).value
    assert not torch.equal(full, half) and float((full - half).abs().max()) < 0.02 * 32


def test_a_seed_decides_the_draws() -> None:
    flow = image_flow()
    a, b, c = (flow.sample(3, seeded(seed)) for seed in (1, 1, 2))
    assert (
        torch.equal(a, b)
        and not torch.equal(a, c)
        and a.shape == (3, 1, 8, 4)
        and flow.nfe_per_sample == 1
    )


def linear_flow() -> tuple[Flow, Tensor, Tensor]:
    """A flow whose couplings are the identity, so that x = W z + shift."""
    torch.manual_seed(3)
    flow = Flow(FlowConfig(shape=(3,), levels=0, steps=2, hidden=4, alpha=0.0)).double().eval()
    with torch.no_grad():
        for m in flow.modules():
            if isinstance(m, ActNorm):
                m.shift.copy_(torch.randn(3, 1, 1, generator=seeded(1)))
                m.log_scale.copy_(0.4 * torch.randn(3, 1, 1, generator=seeded(2)))
        shift = flow.inverse(torch.zeros(1, 3, dtype=torch.float64))[0]
        W = (flow.inverse(torch.eye(3, dtype=torch.float64)) - shift).T
    return flow, W, shift


@pytest.mark.slow
def test_a_linear_flow_restores_by_the_exact_gaussian_posterior() -> None:
    flow, W, shift = linear_flow()
    prior, n = GaussianPrior(shift, W @ W.T), 800
    x = torch.randn(2, 3, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(flow.log_prob(x).value, prior.log_prob(x))
    A = torch.randn(2, 3, generator=seeded(4), dtype=torch.float64)
    problem = InverseProblem(LinearMatrix(A), GaussianNoise(0.4))
    y = problem.measure(flow.sample(2, seeded(5)), seeded(6))
    fractions: list[float] = []
    posterior = flow.restore(
        problem, y, n, generator=seeded(7), progress=fractions.append, steps=50, leapfrog=5
    )
    assert posterior.draws.shape == (n, 2, 3) and posterior.nfe > posterior.vjps > 500
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    for i in range(2):
        mean, covariance = prior.posterior(problem, y[i : i + 1]).moments()
        factor = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(factor, (posterior.draws[:, i] - mean).T, upper=False)
        assert float(white.mean(1).abs().max()) < 4 / n**0.5
        assert float((torch.cov(white) - torch.eye(3)).abs().max()) < 6 / n**0.5


@pytest.mark.slow
def test_restore_of_an_image_agrees_with_its_measurement() -> None:
    flow = image_flow(shape=(1, 4, 4), levels=1).float()
    x = flow.sample(2, seeded())
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    y = problem.measure(x, seeded(1))
    a, b = (
        flow.restore(problem, y, 3, generator=seeded(2), steps=40, leapfrog=5).draws
        for _ in range(2)
    )
    assert torch.equal(a, b) and a.shape == (3, 2, 1, 4, 4)
    assert float((a - y).square().mean().sqrt()) < 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (28, 28)},
        {"coupling": "additive"},
        {"bins": 1},
        {"shape": (1, 30, 28)},
        {"shape": (2,)},
        {"shape": (1,), "levels": 0},
        {"steps": 0},
        {"alpha": 0.5},
        {"bound": 0.0},
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        FlowConfig(**changes)  # type: ignore[arg-type]


def test_samples_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 4\)"):
        image_flow().log_prob(torch.zeros(2, 1, 4, 8, dtype=torch.float64))


@pytest.mark.parametrize(
    "layer",
    [Coupling(4, 8, 3, 2.0), SplineCoupling(4, 8, 3, 4), Split(4, 8, 2.0)],
    ids=lambda layer: type(layer).__name__,
)
def test_what_lies_far_off_is_not_answered_with_more(layer: torch.nn.Module) -> None:
    """Channels far beyond the data have no more influence than channels at its edge.

    Otherwise layers could amplify each other.
    """
    torch.manual_seed(0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 4, 4, 4)
    kept, moved = x.chunk(2, dim=1)
    far, further = (layer(torch.cat((scale * kept.sign(), moved), 1)) for scale in (1e3, 1e6))
    torch.testing.assert_close(far[-1], further[-1])
    torch.testing.assert_close(
        far[1] if isinstance(layer, Split) else far[0][:, 2:],
        further[1] if isinstance(layer, Split) else further[0][:, 2:],
    )
