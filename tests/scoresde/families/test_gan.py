"""Losses and penalties by their formulas, the average, a ring of modes, and the diagnostics."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem, LinearFunction
from scoresde.evaluation.collapse import ModeReport, SpreadReport, collapse_report
from scoresde.families.gan.losses import discriminator_game, generator_game, gradient_penalty
from scoresde.families.gan.model import GAN, GANConfig
from tests.conftest import seeded


def built(config: GANConfig, seed: int = 0) -> GAN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GAN(config).double()


PICTURES = GANConfig((1, 6, 5), latent=4, widths=(4, 6), r1=0.3, r2=0.7)
VECTORS = GANConfig((2,), latent=3, widths=(16, 16))


def bent(model: GAN) -> GAN:
    """A model moved away from the zeros that some weights start at."""
    with torch.no_grad():
        for p in model.parameters():
            p += 0.2 * torch.randn(p.shape, generator=seeded(9), dtype=p.dtype)
    return model


class TestLosses:
    real = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    fake = torch.tensor([-0.5, 0.8, 0.1], dtype=torch.float64)

    def test_relativistic(self) -> None:
        d = self.real.numpy() - self.fake.numpy()
        assert float(discriminator_game("relativistic", self.real, self.fake)) == pytest.approx(
            np.log1p(np.exp(-d)).mean()
        )
        assert float(generator_game("relativistic", self.real, self.fake)) == pytest.approx(
            np.log1p(np.exp(d)).mean()
        )

    def test_non_saturating(self) -> None:
        a, b = (1 / (1 + np.exp(-v.numpy())) for v in (self.real, self.fake))
        assert float(discriminator_game("non-saturating", self.real, self.fake)) == pytest.approx(
            -np.log(a).mean() - np.log(1 - b).mean()
        )
        assert float(generator_game("non-saturating", self.real, self.fake)) == pytest.approx(
            -np.log(b).mean()
        )

    def test_penalty_of_functions_that_are_known(self) -> None:
        x, w = (
            torch.randn(5, 3, dtype=torch.float64, requires_grad=True),
            torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64),
        )
        assert float(gradient_penalty(x @ w, x).detach()) == pytest.approx(float(w.square().sum()))
        expected = 4 * x.detach().square().sum(1).mean()
        torch.testing.assert_close(gradient_penalty(x.square().sum(1), x).detach(), expected)

    @pytest.mark.parametrize("config", [PICTURES, VECTORS])
    def test_penalties_of_the_discriminator_by_differences(self, config: GANConfig) -> None:
        """L_D minus the game is r1/2 E|grad D(x)|^2 + r2/2 E|grad D(G(z))|^2."""
        model, x = (
            bent(built(config)),
            torch.randn(3, *config.shape, generator=seeded(1), dtype=torch.float64),
        )
        with torch.no_grad():
            draws = model.generator(model.latents(3, seeded(2)))
            game = discriminator_game(
                config.game, model.discriminator(x), model.discriminator(draws)
            )
            slopes = []
            for v in (x, draws):
                step = 1e-6 * torch.eye(v[0].numel(), dtype=torch.float64).reshape(
                    -1, 1, *config.shape
                )
                up, down = (model.discriminator((v + s * step).flatten(0, 1)) for s in (1, -1))
                slopes.append(((up - down) / 2e-6).square().sum() / 3)
        expected = game + 0.5 * config.r1 * slopes[0] + 0.5 * config.r2 * slopes[1]
        assert float(slopes[0]) > 1e-3
        torch.testing.assert_close(
            model.discriminator_loss(x, seeded(2)).detach(), expected, rtol=1e-6, atol=0
        )
        with torch.no_grad():
            torch.testing.assert_close(
                model.discriminator_loss(x, seeded(2)), expected, rtol=1e-6, atol=0
            )

    @pytest.mark.parametrize("config", [PICTURES, VECTORS])
    def test_each_has_gradients_of_its_own_player_only(self, config: GANConfig) -> None:
        model, x = (
            bent(built(config)),
            torch.randn(4, *config.shape, generator=seeded(1), dtype=torch.float64),
        )
        ours, theirs = model.losses(x, seeded(2))
        g, d = list(model.generator.parameters()), list(model.discriminator.parameters())
        assert all(
            v is None for v in torch.autograd.grad(ours, d, allow_unused=True, retain_graph=True)
        )
        assert all(
            v is None for v in torch.autograd.grad(theirs, g, allow_unused=True, retain_graph=True)
        )
        alone = torch.autograd.grad(ours, g) + torch.autograd.grad(
            theirs, d, materialize_grads=True, allow_unused=True
        )
        moved = sum(bool(v.abs().max() > 0) for v in alone)
        assert moved >= len(alone) - 1  # in the relativistic game the last bias cancels

    def test_the_sum_has_the_gradients_of_both(self) -> None:
        model, x = bent(built(VECTORS)), torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
        g, d = list(model.generator.parameters()), list(model.discriminator.parameters())
        ours, theirs = model.losses(x, seeded(2))
        together = torch.autograd.grad(
            model.loss(x, seeded(2)), g + d, allow_unused=True, materialize_grads=True
        )
        alone = torch.autograd.grad(ours, g) + torch.autograd.grad(
            theirs, d, allow_unused=True, materialize_grads=True
        )
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b)

    def test_players(self) -> None:
        model, x = built(VECTORS), torch.randn(4, 2, generator=seeded(1), dtype=torch.float64)
        ours, theirs = model.generator_loss(x, seeded(2)), model.discriminator_loss(x, seeded(2))
        assert list(model.players()) == ["discriminator", "generator"]
        assert torch.equal(model.player_loss("generator", x, seeded(2)), ours)
        assert torch.equal(model.player_loss("discriminator", x, seeded(2)), theirs)
        with pytest.raises(ValueError, match="players"):
            model.player_loss("referee", x)


class TestAverage:
    def test_arithmetic(self) -> None:
        model = built(GANConfig((2,), latent=3, widths=(4,), ema=0.25))
        expected = [b.clone() for b in model.average.buffers()]
        for k in range(12):
            with torch.no_grad():
                for p in model.generator.parameters():
                    p += torch.randn(p.shape, generator=seeded(k), dtype=p.dtype)
            decay = min(0.25, (1 + k) / (10 + k))
            expected = [
                decay * a + (1 - decay) * p.detach()
                for a, p in zip(expected, model.generator.parameters(), strict=True)
            ]
            model.after_step()
            for a, b in zip(model.average.buffers(), expected, strict=True):
                torch.testing.assert_close(a, b)
        assert int(model.taken) == 12

    def test_is_state_and_draws_and_is_no_parameter(self) -> None:
        model = bent(built(PICTURES))
        assert not any("average" in name for name, _ in model.named_parameters())
        assert model.parameter_count == sum(
            p.numel() for m in (model.generator, model.discriminator) for p in m.parameters()
        )
        model.update_average()
        other = built(PICTURES, seed=5)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.sample(3, seeded(1)), model.sample(3, seeded(1)))
        z = model.latents(3, seeded(1))
        assert not torch.allclose(model.generator(z), model.sample(3, seeded(1)))

    def test_a_step_moves_all_three(self) -> None:
        model = built(VECTORS)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        players = [
            torch.optim.SGD(m.parameters(), 0.1) for m in (model.generator, model.discriminator)
        ]
        values = model.step(
            torch.randn(8, 2, generator=seeded(1), dtype=torch.float64), *players, seeded(2)
        )
        changed = {
            name.split(".")[0]
            for name, value in model.state_dict().items()
            if not torch.equal(value, before[name])
        }
        assert changed == {"generator", "discriminator", "average", "taken"} and all(
            math.isfinite(v) for v in values
        )


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14), (2,)])
def test_draws_have_the_shape_and_repeat(shape: tuple[int, ...]) -> None:
    model = built(GANConfig(shape, latent=4, widths=(4, 6, 8)))
    x = model.sample(3, seeded(1))
    assert (
        x.shape == (3, *shape)
        and torch.equal(x, model.sample(3, seeded(1)))
        and not x.requires_grad
    )
    assert len(shape) == 1 or float(x.abs().max()) <= 1
    assert model.discriminator(x).shape == (3,)


CENTRES = 4 * torch.tensor(
    [[math.cos(a), math.sin(a)] for a in (2 * math.pi * k / 8 for k in range(8))]
)


def ring(n: int, generator: torch.Generator) -> Tensor:
    return CENTRES[torch.randint(8, (n,), generator=generator)] + 0.2 * torch.randn(
        n, 2, generator=generator
    )


@pytest.mark.slow
class TestCollapse:
    @staticmethod
    def report(model: GAN) -> ModeReport:
        found = collapse_report(model.sample(2000, seeded(7)), centres=CENTRES)
        assert isinstance(found, ModeReport)
        return found

    @staticmethod
    def trained(rate: float, betas: tuple[float, float], **settings: Any) -> GAN:
        model, g = (
            built(GANConfig((2,), latent=2, widths=(64, 64, 64), ema=0.95, **settings)).float(),
            seeded(),
        )
        players = [
            torch.optim.Adam(m.parameters(), rate, betas=betas)
            for m in (model.generator, model.discriminator)
        ]
        for _ in range(500):
            model.step(ring(64, g), *players, g)
        return model

    def test_of_exact_draws(self) -> None:
        found = collapse_report(ring(4000, seeded(1)), centres=CENTRES)
        assert isinstance(found, ModeReport) and (found.found, found.modes, found.collapsed) == (
            8,
            8,
            False,
        )
        assert (
            found.kl < 0.01
            and found.outside < 0.001
            and float(found.shares.sum()) == pytest.approx(1)
        )

    def test_of_missing_modes(self) -> None:
        x = CENTRES[torch.tensor([0, 0, 0, 3])] + 0.1
        found = collapse_report(torch.cat([x, 10 * torch.ones(4, 2)]), centres=CENTRES)
        assert (
            isinstance(found, ModeReport)
            and found.found == 2
            and found.collapsed
            and found.outside == 0.5
        )
        assert found.kl == pytest.approx(0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8))
        assert float(found.shares[0]) == 0.75

    def test_of_unequal_weights(self) -> None:
        weights, x = torch.tensor([3.0, 1.0]), CENTRES[torch.tensor([0, 0, 0, 4])]
        found = collapse_report(x, centres=CENTRES[[0, 4]], weights=weights)
        assert isinstance(found, ModeReport) and found.kl == pytest.approx(0) and found.found == 2

    def test_of_images(self) -> None:
        data = torch.randn(400, 1, 4, 4, generator=seeded(1), dtype=torch.float64)
        good = collapse_report(
            torch.randn(200, 1, 4, 4, generator=seeded(2), dtype=torch.float64), reference=data
        )
        few = data[torch.randint(10, (200,), generator=seeded(3))] + 1e-3 * torch.randn(
            200, 1, 4, 4, generator=seeded(4)
        )
        bad = collapse_report(few, reference=data)
        assert isinstance(good, SpreadReport) and isinstance(bad, SpreadReport)
        assert (
            not good.collapsed
            and 0.8 < good.nearest < 1.25
            and good.vendi == pytest.approx(good.vendi_data, rel=0.1)
            and good.recall > 0.5
        )
        assert bad.collapsed and bad.nearest < 0.05 and bad.vendi < 11 and bad.recall < 0.3
        assert 7 < bad.support < 13  # the birthday test finds the ten

    def test_a_ring_is_found_with_pairs_and_penalties(self) -> None:
        """Draws of the circle without its modes would miss them with probability 0.35."""
        found = self.report(self.trained(8e-3, (0.0, 0.9), r1=0.3, r2=0.3))
        assert found.found == 8 and found.kl < 0.05 and found.outside < 0.33

    def test_is_unbalanced_without(self) -> None:
        found = self.report(self.trained(8e-3, (0.0, 0.9), game="non-saturating", r1=0.0, r2=0.0))
        assert found.kl > 0.1

    def test_and_lost_with_momentum_too(self) -> None:
        found = self.report(self.trained(1e-2, (0.9, 0.999), game="non-saturating", r1=0.0, r2=0.0))
        assert found.collapsed and found.found < 7 and found.kl > 0.3

    def test_errors(self) -> None:
        x = torch.zeros(4, 2)
        with pytest.raises(ValueError, match="either"):
            collapse_report(x)
        with pytest.raises(ValueError, match="either"):
            collapse_report(x, centres=x, reference=x)
        with pytest.raises(ValueError, match="finite"):
            collapse_report(x * math.nan, centres=x)
        with pytest.raises(ValueError, match="entries"):
            collapse_report(x, centres=torch.zeros(2, 3))
        with pytest.raises(ValueError, match="positive weights"):
            collapse_report(x, centres=CENTRES, weights=torch.ones(3))
        with pytest.raises(ValueError, match="at least 4 samples"):
            collapse_report(x, reference=x[:2])


@pytest.mark.slow
class TestRestore:
    def test_is_the_posterior_over_the_latents(self) -> None:
        """Against importance sampling with many latents, which uses only the generator."""
        model = bent(built(GANConfig((2,), latent=2, widths=(8,))))
        for _ in range(30):
            model.update_average()
        problem = InverseProblem(
            LinearFunction(lambda x: x[:, :1] - x[:, 1:], (2,)), GaussianNoise(0.5)
        )
        z = model.latents(200_000, seeded(1))
        x = model.average(z)
        y = problem.measure(x[:1], seeded(2))
        w = torch.softmax(problem.log_likelihood(y.expand(len(x), 1), x), 0)
        posterior = model.restore(problem, y, 600, generator=seeded(3))
        assert posterior.draws.shape == (600, 1, 2) and posterior.nfe > 1
        for f in (torch.tanh, torch.square):
            value = f(posterior.draws[:, 0])
            assert bool(
                ((value.mean(0) - w @ f(x)).abs() < 6 * value.std(0) / math.sqrt(600)).all()
            )

    def test_errors(self) -> None:
        model = built(PICTURES)
        problem = InverseProblem(Denoising(), GaussianNoise(0.1))
        with pytest.raises(ValueError, match="n must be"):
            model.restore(problem, torch.zeros(1, 1, 6, 5), 0)
        with pytest.raises(ValueError, match="measures as"):
            model.restore(problem, torch.zeros(1, 1, 6, 6))


class TestErrors:
    def test_there_is_no_density(self) -> None:
        with pytest.raises(
            ValueError,
            match="GAN is an implicit model: it draws samples and has no density to evaluate",
        ):
            built(VECTORS).log_prob(torch.zeros(1, 2))
        assert GAN.density == "implicit"

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"shape": (2, 3)}, "vectors"),
            ({"shape": (2,), "widths": ()}, "positive"),
            ({"shape": (2,), "latent": 0}, "positive"),
            ({"shape": (2,), "game": "chess"}, "relativistic, non-saturating"),
            ({"shape": (2,), "r1": -1.0}, "penalties"),
            ({"shape": (2,), "ema": 1.0}, "decay"),
        ],
    )
    def test_of_a_configuration(self, settings: dict, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            GANConfig(**settings)

    def test_of_samples(self) -> None:
        model = built(VECTORS)
        with pytest.raises(ValueError, match=r"samples \(2,\)"):
            model.loss(torch.zeros(4, 3))
        with pytest.raises(ValueError, match="NaN"):
            model.loss(torch.full((4, 2), math.nan))
        with pytest.raises(ValueError, match="n must be"):
            model.sample(0)
