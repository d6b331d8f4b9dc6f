"""The exact log-likelihood against closed forms, brute force, and the promise of its error bars."""

import importlib
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from problems import GaussianNoise, Inpainting, InverseProblem
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
from scoresde.data.toys import skew_mixture
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig
from solvers import MMPS, GaussianReference, bits_per_dim, elbo, log_likelihood
from solvers.likelihood.nodes import error_from_pairs, error_of_sum, quadrature_weights
from solvers.likelihood.probes import Probes, lattice_colours
from tests.conftest import F64, seeded
from tests.laws import each_sde


def mixture(sde: SDE | None = None, side: int = 4, smallest: float = 0.01) -> GaussianMixturePrior:
    """Three components with different full covariances in side^2 dimensions."""
    g, d = seeded(0), side**2
    roots = torch.randn(3, d, d, dtype=F64, generator=g)
    covariances = 0.3 * roots @ roots.mT / d + smallest * torch.eye(d, dtype=F64)
    means = 0.7 * torch.randn(3, 1, side, side, dtype=F64, generator=g)
    return GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2]), means, covariances, sde)


def network(shape: tuple[int, ...] = (1, 4, 4)) -> ScorePrior:
    """A small network with random weights and no symmetry."""
    torch.manual_seed(0)
    net = UNet(
        UNetConfig(channels=shape[0], widths=(8, 16), blocks=1, attention=(1,), embedding=16)
    )
    for p in net.parameters():
        nn.init.normal_(p, std=0.15)
    return ScorePrior(net.double(), EDMSDE(0.01, 20.0), shape).requires_grad_(False).eval()


@pytest.mark.slow
class TestAgainstClosedForms:
    @each_sde
    def test_mixture(self, sde: SDE) -> None:
        """Within 1e-3 nats of ln p_0, and of ln p_t at t_min.

        At t_min also for points far from any sample.
        """
        prior = mixture(sde)
        x = prior.sample(5, seeded(1))
        far = torch.cat([x, torch.randn(3, *prior.shape, dtype=F64, generator=seeded(2))])
        assert float(prior.log_prob(far)[5:].max()) < float(prior.log_prob(x).min()) - 10
        clean = log_likelihood(prior, x, nodes=64)
        noisy = log_likelihood(prior, far, nodes=300, end="t_min")
        torch.testing.assert_close(clean.value, prior.log_prob(x), rtol=0, atol=1e-3)
        torch.testing.assert_close(noisy.value, prior.log_prob(far, sde.t_min), rtol=0, atol=1e-3)
        assert not clean.std_error.any()

    def test_both_ends_differ_where_the_data_are_not_smooth(self) -> None:
        """If t_min did not matter, the check above would not test the continuation to 0."""
        prior = mixture(VPSDE(eps=1e-2), smallest=0.003)
        x = prior.sample(4, seeded(0))
        assert float((prior.log_prob(x) - prior.log_prob(x, 1e-2)).abs().mean()) > 0.1
        raw = log_likelihood(prior, x, nodes=96, end="t_min").value - prior.log_prob(x)
        continued = log_likelihood(prior, x, nodes=96, end="data").value - prior.log_prob(x)
        assert float(continued.abs().max()) < 0.2 * float(raw.abs().max())

    def test_gaussian_is_exact_on_any_grid(self) -> None:
        root = torch.randn(9, 9, dtype=F64, generator=seeded(0))
        prior = GaussianPrior(
            torch.randn(1, 3, 3, dtype=F64, generator=seeded(1)),
            root @ root.T + 0.1 * torch.eye(9),
            VPSDE(),
        )
        x = prior.sample(4, seeded(2))
        for settings in ({"divergence": "exact"}, {"divergence": "hutchinson", "probes": 1}):
            got = log_likelihood(prior, x, nodes=8, generator=seeded(0), **settings)
            torch.testing.assert_close(got.value, prior.log_prob(x), rtol=0, atol=1e-8)
            assert float(got.std_error.max()) < 1e-8

    def test_isotropic_reference_reaches_the_same_answer(self) -> None:
        prior = mixture(EDMSDE())
        x = prior.sample(3, seeded(1))
        isotropic = GaussianReference(prior.moments()[0], torch.full((16,), 0.5, dtype=F64))
        got = log_likelihood(prior, x, reference=isotropic, nodes=96, end="t_min")
        torch.testing.assert_close(got.value, prior.log_prob(x, prior.sde.t_min), rtol=0, atol=1e-3)

    def test_integrates_to_one_in_two_dimensions(self) -> None:
        means = torch.tensor([[-1.0, 0.3], [0.8, -0.4]], dtype=F64)
        covariances = torch.tensor(
            [[[0.2, 0.1], [0.1, 0.15]], [[0.1, -0.05], [-0.05, 0.3]]], dtype=F64
        )
        prior = GaussianMixturePrior(torch.tensor([0.6, 0.4]), means, covariances, VPSDE())
        axis = torch.linspace(-4.5, 4.5, 61, dtype=F64)
        points = torch.cartesian_prod(axis, axis)
        ll = log_likelihood(prior, points, nodes=40, batch=4000)
        assert float(ll.value.exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-3)

    # Two SDEs, one that shrinks the data and one that does not; the prior itself has all of them
    @pytest.mark.parametrize("sde", [VPSDE(), EDMSDE()], ids=lambda sde: type(sde).__name__)
    def test_a_guided_prior_has_a_likelihood_too(self, sde: SDE) -> None:
        """MMPS is exact on a Gaussian, so the flow must give the exact posterior density."""
        full = mixture(sde)
        prior = GaussianPrior(full.means[0].reshape(full.shape), full.covariances[0], sde)
        problem = InverseProblem(
            Inpainting(torch.rand(4, 4, generator=seeded(3)) < 0.5), GaussianNoise(0.3)
        )
        y = problem.measure(prior.sample(1, seeded(4)), seeded(5))
        posterior = prior.posterior(problem, y)
        x = posterior.sample(3, seeded(6))
        guided = MMPS(iterations=16, rtol=1e-12).condition(prior, problem, y)
        exact = posterior.log_prob(x)
        got = log_likelihood(guided, x, tol=1e-3)
        torch.testing.assert_close(got.value, exact, rtol=0, atol=1e-3)
        full_set = log_likelihood(
            guided,
            x,
            divergence="hutchinson",
            probes=16,
            basis="pixel",
            nodes=64,
            end="data",
            generator=seeded(7),
        )
        # as many probes as pixels give the exact trace
        torch.testing.assert_close(full_set.value, exact, rtol=0, atol=1e-2)

    def test_a_network_is_evaluated_once_a_node_when_guided_too(self) -> None:
        inner = CountingPrior(network())
        problem = InverseProblem(
            Inpainting(torch.rand(4, 4, generator=seeded(3)) < 0.5), GaussianNoise(0.3)
        )
        guided = MMPS().condition(
            inner, problem, problem.measure(torch.zeros(1, 1, 4, 4, dtype=F64), seeded(0))
        )
        x, reference = (
            torch.zeros(2, 1, 4, 4, dtype=F64),
            GaussianReference.of(network(), (1, 4, 4)),
        )
        got = log_likelihood(guided, x, nodes=12, solver="ab4", reference=reference)
        assert inner.nfe == got.nfe

    def test_several_measurements_are_refused(self) -> None:
        prior = mixture()
        problem = InverseProblem(Inpainting(torch.ones(4, 4, dtype=torch.bool)), GaussianNoise(0.3))
        guided = MMPS().condition(prior, problem, torch.zeros(2, 1, 4, 4, dtype=F64))
        with pytest.raises(ValueError, match="guided by 2 measurements"):
            log_likelihood(guided, torch.zeros(2, 1, 4, 4, dtype=F64))

    @each_sde
    def test_a_tolerance_is_kept(self, sde: SDE) -> None:
        """Nodes are doubled until the values change by less than the tolerance.

        The values are then right to that tolerance, on the mixture in 64 dimensions too.
        """
        prior = mixture(sde, side=8)
        x = prior.sample(4, seeded(3))
        got = log_likelihood(prior, x, tol=1e-3, nodes=8)
        error = (got.value - prior.log_prob(x)).abs()
        assert float(got.ode_error.max()) <= 1e-3 and float(error.max()) <= 1e-3
        coarse = log_likelihood(prior, x, nodes=8)
        # so there was an error to reduce
        assert float((coarse.value - prior.log_prob(x)).abs().max()) > 1e-3
        assert (
            bool(coarse.ode_error.isnan().all())
            and got.nfe > 2 * coarse.nfe
            and got.vjps > 2 * coarse.vjps
        )

    def test_a_tolerance_out_of_reach_is_said_to_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.import_module("solvers.likelihood.exact"), "_MOST_NODES", 64)
        prior = mixture()
        with pytest.warns(UserWarning, match="is not reached"):
            got = log_likelihood(prior, prior.sample(1, seeded(0)), tol=1e-13, nodes=8)
        assert float(got.ode_error) > 1e-13

    @pytest.mark.parametrize(("solver", "order"), [("rk4", 4), ("ab4", 4)])
    def test_order_of_convergence(self, solver: str, order: int) -> None:
        """Halving the steps lowers the error of the end point by about 2^order."""
        prior = mixture(EDMSDE())
        x = prior.sample(4, seeded(1))
        z = {
            n: log_likelihood(prior, x, nodes=n + 1, end="t_min", solver=solver).z
            for n in (120, 240, 960)
        }  # type: ignore[arg-type]
        errors = [float((z[n] - z[960]).norm()) for n in (120, 240)]
        assert math.log2(errors[0] / errors[1]) > order - 0.3


@pytest.mark.slow
class TestAgainstBruteForce:
    def test_network(self) -> None:
        """The plain ODE of the EDM in sigma, with the dense Jacobian, by SciPy at tight tolerance.

        Without a reference and without a change of time.
        """
        prior = network()
        x = 0.5 * torch.randn(1, 1, 4, 4, dtype=F64, generator=seeded(0))
        sde: EDMSDE = prior.sde  # type: ignore[assignment]
        d = x[0].numel()

        def field(log_s: float, state: np.ndarray) -> np.ndarray:
            u = torch.from_numpy(state[:-1]).reshape(1, 1, 4, 4)
            s = torch.tensor(math.exp(log_s), dtype=F64)
            J = torch.autograd.functional.jacobian(lambda v: prior.denoise(v, s), u).reshape(d, d)
            slope = (u - prior.denoise(u, s)).flatten()
            return np.append(slope.numpy(), d - float(J.trace()))

        got = log_likelihood(prior, x, nodes=100, end="t_min")
        for one, value in zip(x, got.value, strict=True):
            ends = (math.log(sde.sigma_min), math.log(sde.sigma_max))
            solution = solve_ivp(
                field, ends, np.append(one.flatten().numpy(), 0.0), rtol=1e-6, atol=1e-6
            )
            end, change = torch.from_numpy(solution.y[:-1, -1]), solution.y[-1, -1]
            # d ln p / d ln s = tr J - d, so ln p at sigma_min is ln p at sigma_max plus the
            # integral of d - tr J
            reference = GaussianReference.of(prior, prior.shape)
            variance = reference.variances + sde.sigma_max**2
            last = (
                -0.5
                * ((end - reference.mean) ** 2 / variance + (2 * math.pi * variance).log()).sum()
            )
            assert float(value) == pytest.approx(float(last) + change, abs=2e-3)

    def test_probes_estimate_the_trace(self) -> None:
        """For each kind of probe E[v^T J v] is the trace, by the standard error of many draws."""
        d, n = 12, 4000
        J = torch.randn(d, d, dtype=F64, generator=seeded(0))
        reference = GaussianReference.from_covariance(torch.zeros(d, dtype=F64), J @ J.T)
        for eigen, structured in ((False, False), (False, True), (True, True)):
            v = Probes((1, 3, 4), 4, reference, eigen, structured).draw(
                [seeded(s) for s in range(n)], F64, torch.device("cpu")
            )
            v = v.flatten(2)
            forms = torch.einsum("kbi,ij,kbj->kb", v, J, v).mean(0)
            assert abs(float(forms.mean() - J.trace())) < 4 * float(forms.std()) / math.sqrt(n)
            torch.testing.assert_close(v.square().sum(2), torch.full((4, n), float(d), dtype=F64))

    def test_structured_probes_cancel_all_pairs_of_different_colours(self) -> None:
        shape, k = (3, 6, 8), 16
        colours = lattice_colours(shape, k)
        reference = GaussianReference(torch.zeros(144, dtype=F64), torch.ones(144, dtype=F64))
        v = (
            Probes(shape, k, reference, False, True)
            .draw([seeded(0)], F64, torch.device("cpu"))[:, 0]
            .flatten(1)
        )
        gram = v.T @ v / k
        same = colours[:, None] == colours[None]
        assert torch.equal(gram.abs() > 0.5, same) and not gram[~same].any()
        # neighbours within a tile of 4 x 4 pixels differ
        plane = colours.reshape(shape)[0]
        assert len(plane[:4, :4].unique()) == 16

    def test_full_structured_probes_are_the_exact_trace(self) -> None:
        prior = network()
        x = 0.5 * torch.randn(2, 1, 4, 4, dtype=F64, generator=seeded(0))
        exact = log_likelihood(prior, x, nodes=24, end="t_min")
        full = log_likelihood(
            prior, x, divergence="hutchinson", probes=16, nodes=24, end="t_min", generator=seeded(1)
        )
        torch.testing.assert_close(full.value, exact.value, rtol=0, atol=1e-9)

    def test_quadrature_is_exact_for_polynomials(self) -> None:
        nodes = torch.arange(12, dtype=F64)
        for power in range(6):
            assert float(quadrature_weights(12) @ nodes**power) == pytest.approx(
                11 ** (power + 1) / (power + 1), rel=1e-12
            )


@pytest.mark.slow
class TestErrorBars:
    @pytest.mark.parametrize("repeat", [0, 1, 2])
    def test_intervals_cover_as_often_as_they_say(self, repeat: int) -> None:
        """Over 600 runs; 3.3 standard errors of a proportion (a level of 1e-3) are allowed."""
        prior, n = mixture(VPSDE()), 600
        x = prior.sample(n, seeded(1))
        got = log_likelihood(
            prior,
            x,
            divergence="hutchinson",
            probes=2,
            nodes=64,
            paired_every=repeat,
            batch=n,
            generator=seeded(2),
        )
        exact = prior.log_prob(x)
        for level in (0.68, 0.95):
            low, high = got.interval(level)
            covered = float(((low <= exact) & (exact <= high)).double().mean())
            assert abs(covered - level) < 3.3 * math.sqrt(level * (1 - level) / n)
        errors = got.value - exact
        assert float(errors.square().mean() / got.std_error.square().mean()) == pytest.approx(
            1, abs=0.35
        )
        assert abs(float(errors.mean())) < 4 * float(errors.std()) / math.sqrt(n)

    def test_only_pairs_tell_noise_from_a_curve_that_is_rough(self) -> None:
        g, n = seeded(3), 96
        nodes = torch.arange(n, dtype=F64)
        rough = 5 * torch.cos(2.3 * nodes)
        size = 0.3 + (-((nodes - 40) / 12).square() / 2).exp()
        noise = size * torch.randn(2, 4000, n, generator=g, dtype=F64)
        weights, twice = torch.linspace(0.5, 1.5, n, dtype=F64), list(range(1, n, 2))
        measured = noise[0].clone()
        measured[:, twice] = noise[:, :, twice].mean(0)
        true_error = float((measured @ weights).std())
        pairs, dof = error_from_pairs(noise[0][:, twice] - noise[1][:, twice], twice, weights)
        assert float(pairs.square().mean().sqrt()) == pytest.approx(true_error, rel=0.05)
        assert 10 < float(dof.median()) <= len(twice)
        quantile = torch.as_tensor(stats.t.ppf(0.975, dof.numpy()))
        covered = float(((measured @ weights).abs() < quantile * pairs).double().mean())
        assert abs(covered - 0.95) < 0.015
        assert float(error_of_sum(rough + measured, weights)[0].mean()) > 2 * true_error
        # where the curve is smooth both are right
        smooth = error_of_sum(5 * torch.cos(0.05 * nodes) + noise[0], weights)[0]
        assert float(smooth.square().mean().sqrt()) == pytest.approx(
            float((noise[0] @ weights).std()), rel=0.05
        )

    @pytest.mark.parametrize("end", ["data", "t_min"])
    def test_they_cover_on_the_plane_with_one_probe(self, end: str) -> None:
        prior, n = skew_mixture().prior, 1500
        x = prior.sample(n, seeded(0))
        settings = {"end": end, "nodes": 72}
        exact = log_likelihood(prior, x, solver="ab4", **settings).value  # type: ignore[arg-type]
        got = log_likelihood(
            prior, x, divergence="hutchinson", probes=1, generator=seeded(1), **settings
        )  # type: ignore[arg-type]
        for level in (0.68, 0.95):
            low, high = got.interval(level)
            covered = float(((low <= exact) & (exact <= high)).double().mean())
            assert abs(covered - level) < 3.3 * math.sqrt(level * (1 - level) / n)

    def test_they_cover_on_a_network(self) -> None:
        """A network with random weights, with structured probes."""
        torch.manual_seed(0)
        net = Perceptron(PerceptronConfig(8, (32, 32)))
        torch.nn.init.normal_(net.layers[-1].weight, std=0.6)
        for layer in net.layers[:-1]:
            if isinstance(layer, nn.Linear):
                torch.nn.init.normal_(layer.weight, std=0.6)
        prior = ScorePrior(net.double().requires_grad_(False), EDMSDE(0.02, 20.0), (8,))
        x = 0.5 * torch.randn(400, 8, generator=seeded(1), dtype=F64)
        exact = log_likelihood(prior, x, nodes=64, end="t_min").value
        got = log_likelihood(
            prior, x, divergence="hutchinson", probes=4, nodes=64, end="t_min", generator=seeded(2)
        )
        low, high = got.interval(0.68)
        share = float(((low <= exact) & (exact <= high)).double().mean())
        assert abs(share - 0.68) < 3.3 * math.sqrt(0.68 * 0.32 / 400)

    def test_structure_beats_independent_probes(self) -> None:
        prior = mixture(VPSDE())
        x = prior.sample(100, seeded(1))
        rmse = {
            probing: (
                log_likelihood(
                    prior,
                    x,
                    divergence="hutchinson",
                    probes=8,
                    probing=probing,
                    basis=basis,
                    paired_every=0,
                    generator=seeded(0),
                    batch=100,  # type: ignore[arg-type]
                ).value
                - prior.log_prob(x)
            )
            .square()
            .mean()
            .sqrt()
            .item()
            for probing, basis in (("rademacher", "pixel"), ("hadamard", "eigen"))
        }
        assert rmse["hadamard"] < 0.5 * rmse["rademacher"]


class TestContract:
    @pytest.mark.slow
    def test_batches_and_seeds(self) -> None:
        prior = mixture()
        x = prior.sample(5, seeded(0))
        for settings in (
            {"divergence": "exact", "chunk": 5},
            {"divergence": "hutchinson", "probes": 4},
        ):
            whole = log_likelihood(prior, x, generator=seeded(0), **settings)
            parts = log_likelihood(prior, x, batch=2, generator=seeded(0), **settings)
            first = log_likelihood(prior, x[:2], generator=seeded(0), **settings)
            torch.testing.assert_close(parts.value, whole.value, rtol=0, atol=1e-9)
            torch.testing.assert_close(first.value, whole.value[:2], rtol=0, atol=1e-9)
        a, b = (
            log_likelihood(prior, x, divergence="hutchinson", probes=4, generator=seeded(s)).value
            for s in (0, 1)
        )
        assert not torch.allclose(a, b)

    @pytest.mark.slow
    def test_generators_and_chunks(self) -> None:
        """The generator of a sample alone decides its value.

        The exact trace is the same computed by one row, five rows or all at a time.
        """
        prior = mixture()
        x = prior.sample(3, seeded(0))
        settings = {"divergence": "hutchinson", "probes": 4}
        together = log_likelihood(prior, x, generator=[seeded(s) for s in (5, 6, 7)], **settings)
        alone = log_likelihood(prior, x[1:2], generator=[seeded(6)], **settings)
        torch.testing.assert_close(alone.value, together.value[1:2], rtol=0, atol=1e-9)
        with pytest.raises(ValueError, match="2 generators for 3 samples"):
            log_likelihood(prior, x, generator=[seeded(0), seeded(1)], **settings)
        values = [log_likelihood(prior, x, nodes=12, chunk=chunk).value for chunk in (1, 5, None)]
        for value in values[1:]:
            torch.testing.assert_close(value, values[0], rtol=0, atol=1e-9)

    @pytest.mark.slow
    def test_the_end_suits_the_prior(self) -> None:
        """Networks end at their smallest noise, guided or not; closed forms at the data."""
        net, x = network(), torch.zeros(1, 1, 4, 4, dtype=F64)
        problem = InverseProblem(
            Inpainting(torch.rand(4, 4, generator=seeded(3)) < 0.5), GaussianNoise(0.3)
        )
        y = problem.measure(x, seeded(0))
        exact = mixture(EDMSDE(0.01, 20.0))
        for prior, end in (
            (net, "t_min"),
            (CountingPrior(net), "t_min"),
            (MMPS().condition(net, problem, y), "t_min"),
            (exact, "data"),
            (MMPS().condition(exact, problem, y), "data"),
        ):
            values = {e: log_likelihood(prior, x, nodes=10, end=e).value for e in ("t_min", "data")}
            assert torch.equal(log_likelihood(prior, x, nodes=10).value, values[end])
            assert not torch.equal(values["t_min"], values["data"])

    @pytest.mark.parametrize(
        "settings",
        [{"divergence": "exact"}, {"divergence": "hutchinson", "probes": 2}, {"end": "t_min"}],
        ids=str,
    )
    def test_evaluations_are_counted(self, settings: dict) -> None:
        prior = CountingPrior(network())
        x = torch.zeros(2, 1, 4, 4, dtype=F64)
        reference = GaussianReference.of(prior, prior.shape)
        prior.nfe = 0
        got = log_likelihood(prior, x, nodes=16, reference=reference, **{"end": "data", **settings})
        # every second node twice, and the two that end the integral
        assert got.nfe == prior.nfe and got.vjps == (
            (16 + 8 + 2) * 2 if "probes" in settings else 16 * 16
        )

    def test_single_precision(self) -> None:
        prior = mixture()
        x = prior.sample(3, seeded(0)).float()
        got = log_likelihood(prior, x)
        assert got.value.dtype == F64
        torch.testing.assert_close(got.value, prior.log_prob(x.double()), rtol=0, atol=1e-2)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_device(self) -> None:
        prior = mixture()
        x = prior.sample(3, seeded(0))
        there = log_likelihood(mixture().to("cuda"), x.cuda())
        torch.testing.assert_close(
            there.value.cpu(), log_likelihood(prior, x).value, rtol=0, atol=1e-8
        )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"x": torch.full((1, 1, 4, 4), math.nan, dtype=F64)}, "NaN"),
            ({"x": torch.zeros(1, 4, 4)}, r"\(B, 1, 4, 4\)"),
            ({"x": torch.zeros(1, 3, 4, 4)}, r"got \(1, 3, 4, 4\)"),
            ({"x": torch.zeros(1, 1, 4, 4, dtype=torch.uint8)}, "bits_per_dim"),
            ({"divergence": "skilling"}, "exact, hutchinson"),
            ({"end": "t_max"}, "data, t_min"),
            ({"solver": "euler"}, "rk4, ab4"),
            ({"nodes": 4}, "at least 8"),
            ({"divergence": "hutchinson", "probes": 3}, "power of 2"),
            ({"divergence": "hutchinson", "probes": 0}, "at least 1"),
            ({"s_max": 1e-9}, "s_max"),
            ({"s_max": 0.0}, "s_max"),
            ({"nodes": 0}, "at least 8"),
            ({"chunk": 0}, "at least 1"),
            ({"node_density": (0.5, 0.5)}, "0 <= a < c"),
            ({"tol": 0.0}, "positive"),
            ({"tol": 0.1, "divergence": "hutchinson"}, "exact"),
            ({"x": torch.zeros(1, 1, 2, 8, dtype=F64)}, r"\(B, 1, 4, 4\)"),
        ],
    )
    def test_bad_input_is_named(self, change: dict, message: str) -> None:
        arguments = {"x": torch.zeros(1, 1, 4, 4, dtype=F64), **change}
        with pytest.raises(ValueError, match=message):
            log_likelihood(mixture(), arguments.pop("x"), **arguments)

    def test_a_mixture_wants_its_own_shape(self) -> None:
        """A prior that is no image model has one shape: others raise, and do not broadcast."""
        with pytest.raises(ValueError, match=r"\(B, 1, 4, 4\)"):
            log_likelihood(mixture(), torch.zeros(1, 1, 5, 5, dtype=F64))


def test_grey_levels_as_floats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reaches 255, but images are on \[-1, 1\]"):
        log_likelihood(network(), torch.full((1, 1, 4, 4), 255.0))


class OneLevel(nn.Module):
    """The exact network for pixels that are uniform on the level [0, w), w = 1/128.

    Its input is the picture and the features of exponent 7. At its smallest noise, a thousandth of
    w, it depends only on the features: an edge and the distance to it, in units of the noise.
    """

    W = 1 / 128

    def __init__(self, smallest: float, sigma_data: float) -> None:
        super().__init__()
        self.smallest, self.sigma_data = smallest, sigma_data
        # makes the prior one of double precision
        self.register_buffer("_", torch.zeros((), dtype=F64))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        s = (4 * label).exp()[:, None, None, None]
        scaled, sine, cosine = x.split(1, dim=1)
        z = torch.atanh(sine.clamp(-1 + 1e-15, 1 - 1e-15))  # positive within the level
        at_an_edge = cosine.sign() * _hazard(z)
        norm = (s**2 + self.sigma_data**2).sqrt()
        u = scaled * norm
        low, high = -u / s, (self.W - u) / s
        pull = _density(low) - _density(high)
        D = u + s * pull / (torch.special.ndtr(high) - torch.special.ndtr(low)).clamp_min(1e-300)
        with_picture = (D - self.sigma_data**2 / norm**2 * u) * norm / (s * self.sigma_data)
        return torch.where(s > self.smallest * (1 + 1e-9), with_picture, at_an_edge)


def _density(z: Tensor) -> Tensor:
    return (-z.square() / 2).exp() / math.sqrt(2 * math.pi)


def _hazard(z: Tensor) -> Tensor:
    return _density(z) / torch.special.ndtr(z)


def one_level() -> ScorePrior:
    smallest = 1e-3 * OneLevel.W
    return ScorePrior(OneLevel(smallest, 0.5), EDMSDE(smallest, 10.0), (1, 2, 2), 0.5, fourier=(7,))


@pytest.mark.slow
class TestEdgesOfLevels:
    """Where the density has edges, noise blurs them.

    A network with Fourier features is followed to any noise below its smallest.
    """

    d = 4
    reference = GaussianReference(
        torch.full((d,), OneLevel.W / 2, dtype=F64), torch.full((d,), OneLevel.W**2 / 12, dtype=F64)
    )

    @pytest.mark.parametrize(
        "end", ["t_min", 1e-2 * OneLevel.W, 1e-4 * OneLevel.W, 1e-5 * OneLevel.W]
    )
    def test_the_density_at_any_noise(self, end: str | float) -> None:
        W, s = OneLevel.W, 1e-3 * OneLevel.W if end == "t_min" else end
        assert isinstance(s, float)
        places = torch.tensor(
            [0.003, 0.01, 0.02, 0.3, 0.5, 0.97, 0.99, 0.9995, 1e-4, 1e-5, 3e-6, 0.99999], dtype=F64
        )
        x = W * places.reshape(3, 1, 2, 2)
        got = log_likelihood(one_level(), x, end=end, nodes=256, reference=self.reference)
        p = (torch.special.ndtr((W - x) / s) - torch.special.ndtr(-x / s)) / W
        torch.testing.assert_close(got.value, p.log().flatten(1).sum(1), rtol=0, atol=1e-3)
        assert float(got.s[0]) == pytest.approx(s)

    def test_bits_per_dim_goes_as_far_as_the_network_sees(self) -> None:
        """A level that is certain costs nothing.

        Blurred by s it costs 2 s / w times the integral of -ln Phi over z > 0.
        """
        q = torch.full((100, 1, 2, 2), 128, dtype=torch.uint8)
        settings = {"nodes": 128, "reference": self.reference, "divergence": "exact"}
        free, blurred = (
            bits_per_dim(one_level(), q, generator=seeded(0), **settings, **end)
            for end in ({}, {"end": 0.01 * OneLevel.W})
        )  # type: ignore[arg-type]
        assert free.end == pytest.approx(1e-4 * OneLevel.W) and blurred.end == pytest.approx(
            1e-2 * OneLevel.W
        )
        z = np.linspace(0, 12, 100_001)
        loss = 2 * 0.01 * np.trapezoid(-stats.norm.logcdf(z), z) / math.log(2)
        assert loss == pytest.approx(0.955 * 0.01 / math.log(2), rel=1e-3)
        assert abs(blurred.mean - loss) < 4 * blurred.mean_std_error
        # a hundredth of it, if any of these pixels is at an edge at all
        assert abs(free.mean) < loss / 20
        assert bits_per_dim(
            network(), q[:1, :, :, :].repeat(1, 1, 2, 2), **{**settings, "reference": None}
        ).end == pytest.approx(0.01)

    def test_only_a_network_that_sees_the_edges_is_followed_beyond_its_training(self) -> None:
        """Conditions for going below the smallest noise of the training.

        Fourier features finer than the levels, and training down to a noise at which an edge is
        alone.
        """
        W, q, settings = (
            OneLevel.W,
            torch.full((1, 1, 2, 2), 128, dtype=torch.uint8),
            {"nodes": 8, "reference": self.reference},
        )
        for smallest, exponent, end in (
            (1e-3 * W, 7, 1e-4 * W),
            (0.02 * W, 7, 1e-4 * W),
            (0.05 * W, 7, 0.05 * W),
            (1e-3 * W, 6, 1e-3 * W),
            (1e-5 * W, 7, 1e-5 * W),
        ):
            prior = ScorePrior(
                OneLevel(smallest, 0.5), EDMSDE(smallest, 10.0), (1, 2, 2), 0.5, fourier=(exponent,)
            )
            counted = CountingPrior(prior)
            for given in ({}, {"end": None}):
                assert bits_per_dim(counted, q, **settings, **given).end == pytest.approx(end)
            assert counted.nfe > 0  # evaluations are counted under another SDE too
        assert bits_per_dim(normal_prior(0.0, 0.5), q, nodes=8, end="data").end == 0

    @each_sde
    def test_a_noise_of_ones_own(self, sde: SDE) -> None:
        prior, x = mixture(sde), mixture().sample(4, seeded(1))
        got = log_likelihood(prior, x, end=0.05, nodes=96)
        torch.testing.assert_close(
            got.value, mixture(EDMSDE(0.05, 80.0)).log_prob(x, 0.05), rtol=0, atol=1e-3
        )
        bound = elbo(prior, x, end=0.05, s_max=20.0, generator=seeded(0))
        same = elbo(mixture(EDMSDE(0.05, 20.0)), x, generator=seeded(0))
        torch.testing.assert_close(bound.value, same.value, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("end", [0.0, -1.0, 1e4, math.nan])
    def test_an_end_that_is_no_noise(self, end: float) -> None:
        with pytest.raises(ValueError, match=r"'data', 't_min' or a noise between 0 and"):
            log_likelihood(mixture(EDMSDE()), torch.zeros(1, 1, 4, 4, dtype=F64), end=end)


def normal_prior(mean: float, std: float, shape: tuple[int, ...] = (1, 2, 2)) -> GaussianPrior:
    d = math.prod(shape)
    return GaussianPrior(
        torch.full(shape, mean, dtype=F64), std**2 * torch.eye(d, dtype=F64), EDMSDE(1e-4, 80.0)
    )


@pytest.mark.slow
class TestBitsPerDim:
    def test_bins_of_a_wide_gaussian(self) -> None:
        """Where the density is flat over a bin, the bound is the discrete entropy.

        It equals -log2 of the mass of the bin.
        """
        prior = normal_prior(-0.2, 0.5)
        q = torch.randint(0, 256, (6, 1, 2, 2), generator=seeded(0), dtype=torch.uint8)
        edges = -1 + (q.double() + torch.arange(2, dtype=F64).reshape(2, 1, 1, 1, 1)) / 128
        mass = torch.from_numpy(
            stats.norm.cdf(edges[1], -0.2, 0.5) - stats.norm.cdf(edges[0], -0.2, 0.5)
        )
        expected = -mass.log2().flatten(1).mean(1)
        got = bits_per_dim(prior, q, divergence="exact", nodes=16, generator=seeded(1))
        torch.testing.assert_close(got.value, expected, rtol=0, atol=0.01)
        as_float = bits_per_dim(
            prior, q.double() / 127.5 - 1, divergence="exact", nodes=16, generator=seeded(1)
        )
        torch.testing.assert_close(as_float.value, got.value)

    def test_the_importance_bound_is_tighter_and_converges(self) -> None:
        """Bins as wide as the density: the plain bound is loose by a known amount.

        The importance bound converges to the mass.
        """
        prior = normal_prior(0.0, 0.4, (1, 1, 1))
        q = torch.tensor([1, 2], dtype=torch.uint8).reshape(2, 1, 1, 1)
        edges = -1 + q.double().flatten() * 0.5
        exact = -np.log2(stats.norm.cdf(edges + 0.5, 0, 0.4) - stats.norm.cdf(edges, 0, 0.4))
        loose = [
            -stats.norm.logpdf(np.linspace(e, e + 0.5, 20001), 0, 0.4).mean() / math.log(2)
            - math.log2(0.5)
            for e in edges.tolist()
        ]
        settings = {"levels": 4, "divergence": "exact", "nodes": 8, "k": 20_000, "batch": 40_000}
        plain = bits_per_dim(prior, q, generator=seeded(0), **settings)  # type: ignore[arg-type]
        tight = bits_per_dim(prior, q, importance=True, generator=seeded(0), **settings)
        for got, expected in ((plain, loose), (tight, exact)):
            assert bool(
                (
                    (got.value - torch.tensor(np.array(expected))).abs() < 4 * got.std_error + 1e-4
                ).all()
            )
        assert float((plain.value - tight.value).min()) > 4 * float(tight.std_error.max())

    def test_the_data_range_is_a_choice_of_units(self) -> None:
        q = torch.randint(0, 256, (3, 1, 2, 2), generator=seeded(0), dtype=torch.uint8)
        ours = bits_per_dim(
            normal_prior(0.0, 0.5), q, divergence="exact", nodes=16, generator=seeded(1)
        )
        unit = bits_per_dim(
            normal_prior(0.5, 0.25),
            q,
            data_range=(0.0, 1.0),
            divergence="exact",
            nodes=16,
            generator=seeded(1),
        )
        torch.testing.assert_close(ours.value, unit.value, rtol=0, atol=1e-3)

    def test_the_error_of_the_importance_bound(self) -> None:
        """Over 400 runs, 95 % of the intervals of 1.96 errors contain the mean of all.

        3.3 standard errors of a proportion are allowed.
        """
        prior, runs = normal_prior(0.0, 0.4, (1, 1, 1)), 400
        q = torch.full((runs, 1, 1, 1), 1, dtype=torch.uint8)
        settings = {"levels": 4, "divergence": "exact", "nodes": 8, "k": 256}
        got = bits_per_dim(prior, q, importance=True, generator=seeded(0), **settings)
        inside = float(
            ((got.value - got.value.mean()).abs() < 1.96 * got.std_error).double().mean()
        )
        assert abs(inside - 0.95) < 3.3 * math.sqrt(0.95 * 0.05 / runs)

    def test_noise_of_probes_does_not_sharpen_the_importance_bound(self) -> None:
        """The noise of probes is corrected, so that the bound agrees with the exact trace.

        The mean of k noisy densities is too large by half the variance of their logarithms.
        """
        prior, n, k = mixture(EDMSDE(0.01, 80.0)), 40, 64
        q = torch.randint(100, 156, (n, 1, 4, 4), generator=seeded(0), dtype=torch.uint8)
        settings = {"k": k, "importance": True, "nodes": 24, "solver": "ab4", "batch": n * k}
        exact = bits_per_dim(prior, q, generator=seeded(1), divergence="exact", **settings)
        for probes, right in ((16, True), (4, False)):
            probed = {
                "divergence": "hutchinson",
                "probes": probes,
                "probing": "rademacher",
                "basis": "pixel",
            }
            with pytest.warns(UserWarning, match="too large for an importance bound"):
                noisy = bits_per_dim(prior, q, generator=seeded(1), **settings, **probed)
            # in nats, above the value by the exact trace
            gain = (exact.value - noisy.value) * 16 * math.log(2)
            standard_error = float(gain.std()) / math.sqrt(n)
            assert float(gain.mean()) < 4 * standard_error  # never too good a bound
            # and the right one where errors are below a nat
            assert not right or float(gain.mean()) > -4 * standard_error
            x = (q[:1].double() + 0.5) / 128 - 1
            same = x.repeat(200, 1, 1, 1)
            many = log_likelihood(
                prior, same, end="t_min", nodes=24, solver="ab4", generator=seeded(2), **probed
            )  # type: ignore[arg-type]
            # a bias that would have been noticed
            assert float(many.value.var()) / 2 > 8 * standard_error

    def test_an_image_has_its_own_noise(self) -> None:
        """The value of an image does not depend on the batch.

        With one generator for all images and with one for each.
        """
        prior = mixture(EDMSDE())
        q = torch.randint(80, 180, (3, 1, 4, 4), generator=seeded(0), dtype=torch.uint8)
        settings = {"divergence": "hutchinson", "probes": 2, "k": 2}
        whole = bits_per_dim(prior, q, generator=seeded(1), **settings)  # type: ignore[arg-type]
        first = bits_per_dim(prior, q[:1], generator=seeded(1), **settings)
        torch.testing.assert_close(first.value, whole.value[:1], rtol=0, atol=1e-9)
        each = bits_per_dim(prior, q, generator=[seeded(s) for s in (3, 4, 5)], **settings)
        last = bits_per_dim(prior, q[2:], generator=[seeded(5)], **settings)
        torch.testing.assert_close(last.value, each.value[2:], rtol=0, atol=1e-9)

    def test_standard_errors(self) -> None:
        prior = mixture(EDMSDE())
        q = torch.randint(80, 180, (4, 1, 4, 4), generator=seeded(0), dtype=torch.uint8)
        got = bits_per_dim(prior, q, divergence="hutchinson", probes=1, k=3, generator=seeded(1))
        assert bool((got.std_error > 0).all()) and got.mean_std_error == pytest.approx(
            float(got.value.std()) / 2
        )
        assert got.mean == pytest.approx(float(got.value.mean()))

    def test_an_importance_bound_on_noise_is_warned_of(self) -> None:
        prior = network()
        q = torch.full((1, 1, 16, 16), 100, dtype=torch.uint8)
        with pytest.warns(UserWarning, match="exact trace"):
            bits_per_dim(
                prior,
                q,
                divergence="hutchinson",
                probes=1,
                nodes=8,
                k=2,
                importance=True,
                generator=seeded(0),
            )

    @pytest.mark.parametrize(
        ("x", "settings", "message"),
        [
            (torch.full((1, 1, 2, 2), 2.0), {}, "outside"),
            (torch.full((1, 1, 2, 2), math.nan), {}, "NaN"),
            (torch.full((1, 1, 2, 2), 0.502), {"levels": 4}, "not on the grid"),
            (torch.full((1, 1, 2, 2), 300), {}, "outside"),
            (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), {"k": 0}, "at least 1"),
            (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), {"data_range": (1.0, -1.0)}, "low < high"),
        ],
    )
    def test_bad_input_is_named(self, x: Tensor, settings: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            bits_per_dim(normal_prior(0.0, 0.5), x, **settings)


class TestReference:
    def test_of_other_priors(self) -> None:
        """Other priors: mean and variance come from the denoiser at the highest noise."""

        class Wrapped(Prior):
            def __init__(self, inner: Prior) -> None:
                super().__init__(inner.sde, inner.shape)
                self.inner = inner

            def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
                return self.inner._denoise(x_t, t)

        inner = normal_prior(0.3, 0.7)
        reference = GaussianReference.of(Wrapped(inner), inner.shape)
        assert reference.basis is None
        torch.testing.assert_close(
            reference.mean, torch.full((4,), 0.3, dtype=F64), rtol=0, atol=1e-3
        )
        torch.testing.assert_close(
            reference.variances, torch.full((4,), 0.49, dtype=F64), rtol=1e-3, atol=0
        )

    def test_from_data(self) -> None:
        x = torch.randn(500, 1, 2, 2, dtype=F64, generator=seeded(0)) * 2 + 1
        reference = GaussianReference.from_data(x)
        covariance = (reference.basis * reference.variances) @ reference.basis.T
        torch.testing.assert_close(covariance, torch.cov(x.flatten(1).T))
        torch.testing.assert_close(reference.mean, x.flatten(1).mean(0))

    def test_bad_input_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"mean \(D,\)"):
            GaussianReference(torch.zeros(3), torch.ones(2))
        with pytest.raises(ValueError, match="not negative"):
            GaussianReference(torch.zeros(3), -torch.ones(3))
