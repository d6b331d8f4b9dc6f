"""Averaging a prior over a group: its identity, equivariance, invariant priors, costs, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from scoresde import (
    EDMSDE,
    VPSDE,
    CountingPrior,
    EquivariantPrior,
    GaussianPrior,
    Prior,
    ScorePrior,
    save_prior,
)
from scoresde.cli import app
from scoresde.networks import UNet, UNetConfig
from scoresde.priors.averaged import GROUPS, Transform
from solvers import MMPS, GaussianReference, Guided, Heun, log_likelihood
from tests.conftest import seeded


class Patterned(Prior):
    """A denoiser with different weights in a block of 2 x 2: D(x) = w x, w of period 2."""

    def __init__(self, weights: Tensor, size: int = 8) -> None:
        super().__init__(EDMSDE(), (1, size, size))
        self.register_buffer("weights", weights.repeat(size // 2, size // 2))

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.weights * x_t


def stationary(size: int = 6) -> GaussianPrior:
    """N(m 1, C) with C a circulant on both axes.

    Cyclic shifts, turns and flips leave it unchanged.
    """
    ring = torch.arange(size).minimum(size - torch.arange(size)).double()
    kernel = torch.exp(-(ring[:, None] ** 2) - ring**2)
    index = torch.arange(size)
    apart = (index[:, None] - index) % size
    covariance = kernel[apart[:, None, :, None], apart[None, :, None, :]].reshape(size**2, size**2)
    return GaussianPrior(
        torch.full((1, size, size), 0.3).double(), covariance + 0.1 * torch.eye(size**2), EDMSDE()
    )


def network(seed: int = 0) -> ScorePrior:
    torch.manual_seed(seed)
    net = UNet(
        UNetConfig(channels=1, patch=2, widths=(8, 16), blocks=1, attention=(1,), embedding=16)
    )
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    return ScorePrior(net, EDMSDE(), (1, 8, 8), sigma_data=0.5).requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
class TestEveryGroup:
    def test_transforms_undo_themselves_and_differ(self, group: str) -> None:
        x = torch.randn(2, 3, 5, 7)
        images = [g.apply(x) for g in GROUPS[group].members]
        assert all(
            torch.equal(g.invert(y), x) for g, y in zip(GROUPS[group].members, images, strict=True)
        )
        square = [
            g.apply(torch.randn(1, 1, 6, 6, generator=seeded(0))) for g in GROUPS[group].members
        ]
        assert not any(torch.equal(a, b) for i, a in enumerate(square) for b in square[:i])

    def test_the_error_falls_by_the_scatter(self, group: str) -> None:
        """The error of the average is the average error minus the scatter.

        Mean over g of |g^-1 D(g x) - x_0|^2 = |mean - x_0|^2 + scatter about the mean, at every x.
        """
        prior = network().double()
        x_0 = torch.randn(4, 1, 8, 8, dtype=torch.float64)
        x_t, t = x_0 + 0.5 * torch.randn_like(x_0), torch.tensor(0.5, dtype=torch.float64)
        answers = torch.stack(
            [g.invert(prior.denoise(g.apply(x_t), t)) for g in GROUPS[group].members]
        )
        mean = EquivariantPrior(prior, group).denoise(x_t, t)
        each = (answers - x_0).square().flatten(2).sum(2).mean(0)
        scatter = (answers - mean).square().flatten(2).sum(2).mean(0)
        assert scatter.min() > 1e-3  # the results do differ
        torch.testing.assert_close((mean - x_0).square().flatten(1).sum(1), each - scatter)

    def test_an_invariant_prior_is_left_alone(self, group: str) -> None:
        prior = stationary()
        averaged = EquivariantPrior(prior, group)
        x, t = torch.randn(3, 1, 6, 6, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
        torch.testing.assert_close(averaged.denoise(x, t), prior.denoise(x, t))
        torch.testing.assert_close(averaged.score(x, t), prior.score(x, t))

    def test_its_likelihood(self, group: str) -> None:
        prior = stationary()
        x = prior.sample(3, generator=seeded(1))
        value = log_likelihood(EquivariantPrior(prior, group), x, nodes=64).value
        torch.testing.assert_close(value, prior.log_prob(x).double(), atol=1e-3, rtol=0)

    def test_under_another_sde(self, group: str) -> None:
        averaged = EquivariantPrior(network(), group)
        moved = averaged.with_sde(VPSDE())
        x, s = torch.randn(2, 1, 8, 8), torch.tensor(0.8)
        t = moved.sde.t_from_noise_to_signal(s)
        torch.testing.assert_close(
            moved.denoise(moved.sde.alpha(t) * x, t), averaged.denoise(x, s), atol=1e-4, rtol=1e-4
        )
        assert isinstance(averaged.prior.sde, EDMSDE)


class TestEquivariance:
    @pytest.mark.parametrize("group", ["turns", "turns-flips"])
    def test_turns_and_flips_commute_with_it(self, group: str) -> None:
        """These are groups, so the average commutes with each member.

        This holds for pictures that are not square too.
        """
        prior = network().double()
        averaged = EquivariantPrior(prior, group)
        x, t = torch.randn(2, 1, 8, 12, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
        for g in GROUPS[group].members:
            torch.testing.assert_close(
                averaged.denoise(g.apply(x), t), g.apply(averaged.denoise(x, t))
            )
        quarter = GROUPS[group].members[1]
        assert (
            prior.denoise(quarter.apply(x), t) - quarter.apply(prior.denoise(x, t))
        ).abs().max() > 1e-2

    def test_shifts_even_out_a_stem_of_two_pixels(self) -> None:
        weights = torch.tensor([[0.1, 0.4], [0.7, 0.2]], dtype=torch.float64)
        averaged = EquivariantPrior(Patterned(weights))
        x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(averaged.denoise(x, 1.0), weights.mean() * x)


class TestAsAPrior:
    def test_gradients_and_products(self) -> None:
        prior = EquivariantPrior(
            Patterned(torch.tensor([[0.1, 0.4], [0.7, 0.2]], dtype=torch.float64))
        )
        x, v = (
            torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True),
            torch.randn(1, 1, 8, 8, dtype=torch.float64),
        )
        (vjp,) = torch.autograd.grad(prior.denoise(x, 1.0), x, v)
        _, jvp = torch.func.jvp(lambda z: prior.denoise(z, 1.0), (x.detach(),), (v,))
        torch.testing.assert_close(vjp, 0.35 * v)
        torch.testing.assert_close(jvp, 0.35 * v)

    def test_what_it_costs(self) -> None:
        counted = CountingPrior(network())
        averaged = EquivariantPrior(counted, "turns-flips")
        averaged.denoise(torch.randn(3, 1, 8, 8), 1.0)
        assert counted.nfe == averaged.cost == 8
        assert EquivariantPrior(averaged, "shifts").cost == 32 and CountingPrior(averaged).cost == 8

    def test_recomputing_changes_nothing_but_the_memory(self) -> None:
        """Recomputing gives the same value and gradient.

        The graph of only one member at a time is kept, which saves the memory of the others.
        """
        x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
        results = []
        for recompute in (False, True):
            prior, z = (
                EquivariantPrior(network().double(), "turns-flips", recompute=recompute),
                x.clone().requires_grad_(),
            )
            kept: list[int] = []
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t, kept=kept: (kept.append(t.numel()), t)[1], lambda t: t
            ):  # type: ignore[misc]
                D = prior.denoise(z, 0.5)
            results.append((D.detach(), torch.autograd.grad(D.square().sum(), z)[0], sum(kept)))
        torch.testing.assert_close(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1])
        assert results[1][2] < 0.2 * results[0][2]

    def test_the_reference_knows_the_network(self) -> None:
        """The likelihood's reference takes the variance of the data from the network inside."""
        reference = GaussianReference.of(CountingPrior(EquivariantPrior(network())), (1, 8, 8))
        assert torch.equal(reference.variances, torch.full((64,), 0.25, dtype=torch.float64))

    def test_posterior_of_an_invariant_prior(self) -> None:
        """With the same random numbers a guided sampler draws the same as without the average."""
        from problems import GaussianNoise, Inpainting, InverseProblem

        prior = stationary()
        problem = InverseProblem(
            Inpainting(torch.rand(1, 6, 6, generator=seeded(0)) < 0.5),
            GaussianNoise(0.1),
        )
        y = problem.measure(
            prior.sample(1, generator=seeded(1)),
            generator=seeded(2),
        )
        plain, averaged = (
            Guided(MMPS(), Heun(steps=5)).sample(p, problem, y, n=4, generator=seeded(3)).draws
            for p in (prior, EquivariantPrior(prior))
        )
        torch.testing.assert_close(plain, averaged, atol=1e-6, rtol=1e-6)


class TestErrors:
    def test_unknown_group(self) -> None:
        with pytest.raises(
            ValueError, match="unknown group 'mirrors'; known: shifts, turns, turns-flips"
        ):
            EquivariantPrior(network(), "mirrors")

    def test_no_members(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            EquivariantPrior(network(), ())

    def test_vectors(self) -> None:
        prior = GaussianPrior(torch.zeros(4), torch.eye(4), EDMSDE())
        with pytest.raises(ValueError, match="only priors of images"):
            EquivariantPrior(prior, "turns")

    def test_members_of_ones_own(self) -> None:
        weights = torch.tensor([[0.2, 0.4], [0.2, 0.4]], dtype=torch.float64)
        averaged = EquivariantPrior(Patterned(weights), (Transform(), Transform(shift=(0, 1))))
        x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(averaged.denoise(x, 1.0), 0.3 * x)


@pytest.mark.slow
class TestCommandLine:
    @pytest.fixture
    def paths(self, tmp_path: Path) -> tuple[str, str]:
        save_prior(network(), tmp_path / "prior.safetensors")
        pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "picture.png")
        return str(tmp_path / "prior.safetensors"), str(tmp_path / "picture.png")

    def run(self, *arguments: str) -> dict:
        result = CliRunner().invoke(app, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def test_restore(self, paths: tuple[str, str], tmp_path: Path) -> None:
        how = (
            "restore",
            paths[1],
            "--problem",
            "denoise",
            "--simulate",
            "--prior",
            paths[0],
            "--solver",
            "mmps",
            "--samples",
            "2",
            "--steps",
            "3",
            "--out",
        )
        plain, averaged = (
            self.run(*how, str(tmp_path / "a")),
            self.run(*how, str(tmp_path / "b"), "--average", "turns-flips"),
        )
        assert averaged["nfe"] == 8 * plain["nfe"]
        assert averaged["average"] == "turns-flips" and plain["average"] is None
        assert averaged["mean"]["psnr"] != plain["mean"]["psnr"]

    def test_sample_and_likelihood(self, paths: tuple[str, str], tmp_path: Path) -> None:
        how = (
            "sample",
            "--prior",
            paths[0],
            "--n",
            "1",
            "--steps",
            "2",
            "--out",
            str(tmp_path / "draw.png"),
        )
        plain, averaged = self.run(*how), self.run(*how, "--average", "shifts")
        assert averaged["nfe"] == 4 * plain["nfe"]
        score = ("likelihood", paths[1], "--prior", paths[0], "--nodes", "8", "--probes", "1")
        plain, averaged = self.run(*score), self.run(*score, "--average", "shifts")
        assert (averaged["nfe"], averaged["vjps"]) == (4 * plain["nfe"], 4 * plain["vjps"])
        assert averaged["mean"] != plain["mean"]

    def test_an_unknown_group_is_named(self, paths: tuple[str, str]) -> None:
        result = CliRunner().invoke(
            app, ["likelihood", paths[1], "--prior", paths[0], "--average", "mirrors"]
        )
        assert result.exit_code != 0 and "unknown group 'mirrors'" in str(result.exception)
