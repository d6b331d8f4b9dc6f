"""VAEs against a linear-Gaussian one whose evidence, encoder and posterior are known.

Latent HMC is compared with a Gaussian posterior.
"""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from problems import (
    Denoising,
    GaussianNoise,
    InverseProblem,
    LaplaceNoise,
    LinearMatrix,
    SuperResolution,
)
from scoresde.families.latent.posterior import latent_posterior
from scoresde.families.vae.model import VAE, VAEConfig, kl_to_standard_normal
from scoresde.priors.mixture import GaussianPrior
from tests.conftest import seeded

IMAGE = VAEConfig(shape=(1, 8, 8), latent=4, widths=(6, 8))


def shaken(config: VAEConfig, size: float = 0.1) -> VAE:
    torch.manual_seed(0)
    model = VAE(config).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, dtype=p.dtype, generator=seeded(p.numel())))
    return model


def linear_vae(std: float = 0.5, optimal: bool = True) -> tuple[VAE, GaussianPrior]:
    """x = W z + b + std e, and the law of x.

    The columns of W are orthogonal, so that the posterior of z has independent entries.
    """
    torch.manual_seed(0)
    model = (
        VAE(VAEConfig(shape=(4,), latent=2, widths=(), likelihood="gaussian", std=std))
        .double()
        .eval()
    )
    W = (
        torch.linalg.qr(torch.randn(4, 2, generator=seeded(1), dtype=torch.float64))[0]
        * torch.tensor([1.5, 0.4]).double()
    )
    b = torch.tensor([0.3, -0.2, 0.0, 1.0], dtype=torch.float64)
    variance = 1 / (1 + (W**2).sum(0) / std**2)
    with torch.no_grad():
        model.likelihood.log_std.fill_(math.log(std))  # type: ignore[operator, union-attr]
        model.decoder[-1].weight.copy_(W)  # type: ignore[index]
        model.decoder[-1].bias.copy_(b)  # type: ignore[index]
        G = variance[:, None] * W.T / std**2
        model.encoder[-1].weight.copy_(torch.cat((G, torch.zeros_like(G))))  # type: ignore[index]
        model.encoder[-1].bias.copy_(torch.cat((-G @ b, variance.log() / 2)))  # type: ignore[index]
        if not optimal:
            model.encoder[-1].bias.add_(torch.tensor([0.3, -0.2, 0.2, 0.3], dtype=torch.float64))
    return model, GaussianPrior(b, W @ W.T + std**2 * torch.eye(4))


@pytest.mark.slow
def test_the_elbo_is_the_evidence_if_the_encoder_is_the_posterior() -> None:
    """Then every weight of the IWAE is p(x) as well, without any noise."""
    model, law = linear_vae()
    x = law.sample(6, seeded())
    one = model.log_prob(x, k=7, generator=seeded())
    torch.testing.assert_close(one.value, law.log_prob(x), rtol=0, atol=1e-6)
    assert one.std_error is not None and float(one.std_error.max()) < 1e-6 and one.kind == "IWAE"
    values = torch.stack([model.log_prob(x, generator=seeded(i)).value for i in range(300)])
    error = values.std(0) / 300**0.5
    assert float(((values.mean(0) - law.log_prob(x)) / error).abs().max()) < 4


@pytest.mark.slow
def test_the_elbo_lies_below_by_the_divergence_and_iwae_closes_the_gap() -> None:
    model, law = linear_vae(optimal=False)
    best, _ = linear_vae()
    x = law.sample(200, seeded())
    q, p = (torch.distributions.Normal(m, s.exp()) for m, s in (model.encode(x), best.encode(x)))
    gap = torch.distributions.kl_divergence(q, p).sum(1).mean()
    truth = law.log_prob(x)
    gaps = []
    for k in (1, 2, 8, 64):
        runs = torch.stack(
            [(truth - model.log_prob(x, k=k, generator=seeded(i)).value).mean() for i in range(10)]
        )
        gaps.append(float(runs.mean()))
        if k == 1:
            assert (runs.mean() - gap).item() == pytest.approx(
                0, abs=4 * float(runs.std()) / 10**0.5
            )
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] > -0.01
    assert gaps[3] < 0.1 * gaps[0]
    found = model.log_prob(x, k=64, generator=seeded())
    assert found.std_error is not None
    assert float(((found.value - truth) / found.std_error).std()) == pytest.approx(1, abs=0.25)
    elbo = model.log_prob(x, generator=seeded())
    many = torch.stack([model.log_prob(x, generator=seeded(i)).value for i in range(60)])
    assert elbo.kind == "ELBO" and elbo.std_error is not None
    assert float(elbo.std_error.mean() / many.std(0).mean()) == pytest.approx(1, abs=0.15)


def test_kl_against_torch() -> None:
    mean, log_std = torch.randn(2, 5, 3, generator=seeded(), dtype=torch.float64)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(mean, log_std.exp()), normal(torch.zeros(3).double(), torch.ones(3).double())
    )
    torch.testing.assert_close(kl_to_standard_normal(mean, log_std), expected)


@pytest.mark.parametrize("likelihood", ["logistic", "gaussian"])
def test_the_gradient_of_the_loss_by_finite_differences(likelihood: str) -> None:
    model = shaken(dataclasses.replace(IMAGE, likelihood=likelihood, beta=0.7))
    x = 2 * torch.rand(3, 1, 8, 8, generator=seeded(), dtype=torch.float64) - 1
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(model.loss(x, seeded(1)), parameters)
    directions = [
        torch.randn(p.shape, generator=seeded(i), dtype=p.dtype) for i, p in enumerate(parameters)
    ]
    e, ends = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, directions, strict=True):
                p.add_(sign * e * d)
            ends.append(float(model.loss(x, seeded(1))))
    expected = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert (ends[0] - ends[1]) / (2 * e) == pytest.approx(expected, rel=1e-5)


def test_loss_and_bound_are_the_same_number_and_beta_and_free_bits_do_as_said() -> None:
    model = shaken(IMAGE)
    x = 2 * torch.rand(64, 1, 8, 8, generator=seeded(), dtype=torch.float64) - 1
    with torch.no_grad():
        mean, log_std = model.encode(x)
        kl = kl_to_standard_normal(mean, log_std).mean(0)
        loss = float(model.loss(x, seeded(1)))
        average = sum(float(model.loss(x, seeded(i))) for i in range(40)) / 40
        assert average == pytest.approx(
            -float(model.log_prob(x, generator=seeded(2)).value.mean()) / 64, rel=0.01
        )
        for config, change in (
            (dataclasses.replace(IMAGE, beta=3.0), 2 * kl.sum()),
            (
                dataclasses.replace(IMAGE, free_bits=float(kl.median())),
                (kl.clamp_min(kl.median()) - kl).sum(),
            ),
        ):
            other = VAE(config).double()
            other.load_state_dict(model.state_dict())
            assert float(other.loss(x, seeded(1))) - loss == pytest.approx(
                float(change) / 64, abs=1e-9
            )


@pytest.mark.slow
def test_probabilities_of_tiny_pictures_sum_to_one() -> None:
    """Pictures of one pixel, by IWAE with many draws."""
    model = shaken(VAEConfig(shape=(1,), latent=1, widths=(8,), components=2), 0.3)
    x = (torch.arange(256, dtype=torch.float64) * 2 / 255 - 1)[:, None]
    found = model.log_prob(x, k=1000, generator=seeded())
    assert found.discrete and float(found.value.exp().sum()) == pytest.approx(1, abs=0.02)
    counts = torch.bincount(
        ((model.sample(40000, seeded())[:, 0] + 1) * 127.5).round().long(), minlength=256
    )
    expected = 40000 * found.value.exp()
    common = expected > 20
    assert float(((counts - expected)[common] ** 2 / expected[common]).mean()) == pytest.approx(
        1, abs=0.5
    )


@pytest.mark.slow
def test_the_mean_picture_is_the_mean_of_the_draws() -> None:
    model = shaken(IMAGE)
    raw = model.raw_outputs(torch.randn(1, 4, generator=seeded(), dtype=torch.float64)).detach()
    draws = model.likelihood.sample(raw.expand(20000, *raw.shape[1:]), seeded())
    z = (draws.mean(0) - model.likelihood.mean(raw)[0]) / (draws.std(0) / 20000**0.5)
    assert float(z.abs().max()) < 5


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["logistic", "gaussian"])
def test_it_learns_and_a_seed_decides(likelihood: str) -> None:
    torch.manual_seed(0)
    model = VAE(dataclasses.replace(IMAGE, likelihood=likelihood)).train()  # type: ignore[arg-type]
    g, losses = seeded(), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(80):
        level = torch.randint(2, (32, 1, 1, 1), generator=g) * 1.2 - 0.6
        loss = model.loss(
            level.expand(32, 1, 8, 8) + 0.05 * torch.randn(32, 1, 8, 8, generator=g), g
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    a, b, c = (model.sample(3, seeded(seed)) for seed in (1, 1, 2))
    assert (
        torch.equal(a, b)
        and not torch.equal(a, c)
        and a.shape == (3, 1, 8, 8)
        and model.nfe_per_sample == 1
    )
    assert torch.equal(*(model.log_prob(a, k=3, generator=seeded(4)).value for _ in range(2)))


def gaussian_toy() -> tuple[Tensor, InverseProblem, GaussianPrior]:
    W = torch.randn(4, 3, generator=seeded(1), dtype=torch.float64)
    problem = InverseProblem(
        LinearMatrix(torch.randn(2, 4, generator=seeded(2), dtype=torch.float64)),
        GaussianNoise(0.3),
    )
    in_z = InverseProblem(LinearMatrix(problem.linear_operator.matrix @ W), problem.noise)
    return (
        W,
        problem,
        GaussianPrior(torch.zeros(3), torch.eye(3)).posterior(in_z, torch.tensor([[0.5, -1.0]])),
    )


@pytest.mark.slow
@pytest.mark.parametrize("chains", [None, 250])
def test_latent_hmc_against_the_exact_posterior(chains: int | None) -> None:
    W, problem, exact = gaussian_toy()
    y, n = torch.tensor([[0.5, -1.0]], dtype=torch.float64), 1000
    settings = {"steps": 60, "leapfrog": 6, "climb": 20, "chains": chains}
    z, found = latent_posterior(lambda z: z @ W.T, (3,), problem, y, n, seeded(), **settings)
    mean, covariance = exact.moments()
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), (z[:, 0] - mean).T, upper=False
    )
    assert z.shape == (n, 1, 3)
    assert float(white.mean(1).abs().max()) * n**0.5 < 4
    assert float((torch.cov(white) - torch.eye(3)).abs().max()) * n**0.5 < 6
    assert 0.5 < found["acceptance"][0] < 0.99 and found["rhat"][0] < 1.1
    evaluations = (chains or n) * (120 * 6 + 1) + 4 * 21
    assert found["nfe"] == found["vjps"] == math.ceil(evaluations / n)


def test_chains_that_disagree_are_found_out() -> None:
    """|z| is measured precisely: two modes, and no chain gets from one to the other."""
    problem = InverseProblem(Denoising(), GaussianNoise(0.02))
    y = torch.full((1, 1), 1.0, dtype=torch.float64)
    z, found = latent_posterior(torch.abs, (1,), problem, y, 40, seeded(), steps=20, restarts=8)
    assert float((z.abs() - 1).abs().max()) < 0.1 and float(z.min()) < 0 < float(z.max())
    assert found["rhat"][0] > 2


@pytest.mark.slow
def test_restore_of_a_linear_vae_is_the_exact_posterior_noise_of_the_decoder_included() -> None:
    model, law = linear_vae()
    problem = InverseProblem(
        LinearMatrix(torch.randn(3, 4, generator=seeded(3), dtype=torch.float64)),
        GaussianNoise(0.3),
    )
    y, n = problem.measure(law.sample(2, seeded(4)), seeded(5)), 1000
    posterior = model.restore(problem, y, n, generator=seeded(6), steps=60, leapfrog=6)
    assert (
        posterior.diagnostics["decoder_noise"]
        and posterior.draws.shape == (n, 2, 4)
        and posterior.nfe > posterior.vjps
    )
    for i in range(2):
        mean, covariance = law.posterior(problem, y[i : i + 1]).moments()
        white = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), (posterior.draws[:, i] - mean).T, upper=False
        )
        assert float(white.mean(1).abs().max()) * n**0.5 < 4.5
        assert float((torch.cov(white) - torch.eye(4)).abs().max()) * n**0.5 < 6.5


@pytest.mark.slow
def test_elsewhere_draws_are_means_of_the_decoder() -> None:
    """Draws are decoder means near the picture of a known z.

    y is a measurement of that picture, so draws in the range of the decoder explain it.
    """
    model = shaken(IMAGE, 0.15)
    x = model.decode(torch.randn(2, 4, generator=seeded(), dtype=torch.float64)).detach()
    problem = InverseProblem(SuperResolution(2), LaplaceNoise(0.02))
    y = problem.measure(x, seeded(1))
    a, b = (
        model.restore(problem, y, 3, generator=seeded(2), steps=30, leapfrog=4, restarts=8)
        for _ in range(2)
    )
    assert torch.equal(a.draws, b.draws) and not a.diagnostics["decoder_noise"]
    assert float((a.draws - x).square().mean()) < 0.2 * float(x.var(0).mean())


def test_what_cannot_be_restored_says_why() -> None:
    model, _ = linear_vae()
    y = torch.zeros(1, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="noise level above 0"):
        model.restore(InverseProblem(Denoising(), GaussianNoise(0.0)), y)
    with pytest.raises(ValueError, match="NaN"):
        model.restore(InverseProblem(Denoising(), GaussianNoise(0.1)), y * math.nan)
    with pytest.raises(ValueError, match="at least 1"):
        model.restore(InverseProblem(Denoising(), GaussianNoise(0.1)), y, 0)
    with pytest.raises(ValueError, match="transitions or more"):
        model.restore(InverseProblem(Denoising(), GaussianNoise(0.1)), y, 30, chains=2, steps=10)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (28, 28)},
        {"shape": (1, 30, 28)},
        {"widths": ()},
        {"latent": 0},
        {"likelihood": "poisson"},
        {"std": 0.0},
        {"beta": -1.0},
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        VAEConfig(**changes)  # type: ignore[arg-type]


def test_samples_of_another_shape_and_no_draws_are_refused() -> None:
    model = VAE(IMAGE)
    with pytest.raises(ValueError, match=r"\(1, 8, 8\)"):
        model.log_prob(torch.zeros(2, 1, 8, 4))
    with pytest.raises(ValueError, match="k must be"):
        model.log_prob(torch.zeros(2, 1, 8, 8), k=0)
