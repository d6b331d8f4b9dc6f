"""Error rates of the residual check where the posterior is known, and the law of its score tests.

A Gaussian field with a separable covariance has exact posterior draws at the cost of a few products
of small matrices, by Matheron's rule: a draw (x', y') of the prior and its measurement becomes
x' + C A^T (A C A^T + sigma^2 I)^-1 (y - y').
"""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from problems import (
    Blur,
    Clipping,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    InverseProblem,
    MotionBlur,
    PoissonNoise,
    Quantisation,
    stack,
)
from problems.operators.base import LinearOperator
from problems.random_numbers import BALANCED_SIGNS
from scoresde import GaussianPrior, load_prior
from scoresde.evaluation.residual import ResidualCheck, check_residual
from scoresde.evaluation.residual.departures import departures
from scoresde.evaluation.residual.missing_information import (
    missing_information,
    missing_information_of_groups,
)
from scoresde.evaluation.residual.scores import CLEAR, score_tests
from solvers import make_solver
from tests.conftest import F64, randn, seeded

SIGMA, SPREAD, CORRELATION, DRAWS = 0.03, 0.3, 4.0, 8
BLUR = GaussianBlur(1.5, "reflect")


def one_axis(side: int) -> Tensor:
    """Covariance along an axis; its spectrum falls as that of photographs does."""
    i = torch.arange(side, dtype=F64)
    return torch.exp(-(i[:, None] - i).abs() / CORRELATION)


class Field:
    """The prior N(0, SPREAD^2 k x k), and exact posterior draws for a separable operator."""

    def __init__(self, operator: LinearOperator = BLUR, side: int = 48) -> None:
        self.operator, self.side, self.k = operator, side, one_axis(side)
        self.a = torch.eye(side, dtype=F64)
        if isinstance(operator, GaussianBlur):
            line = GaussianBlur(operator.std, operator.boundary, dimensions=1)
            self.a = line.dense((1, side), F64)
        self.lam, self.Q = torch.linalg.eigh(self.a @ self.k @ self.a.T)

    def sample(self, n: int, g: torch.Generator) -> Tensor:
        root = torch.linalg.cholesky(self.k)
        white = torch.randn(n, 1, self.side, self.side, generator=g, dtype=F64)
        return SPREAD * root @ white @ root.T

    def posterior(
        self, y: Tensor, g: torch.Generator, n: int = DRAWS, balanced: bool = False
    ) -> Tensor:
        x = self.sample(n, g)
        simulated = noisy(self.a @ x @ self.a.T, g)
        if balanced:
            x, simulated = in_groups(x), in_groups(simulated)
        off = y - simulated
        inside = self.Q.T @ off @ self.Q / (SPREAD**2 * self.lam[:, None] * self.lam + SIGMA**2)
        back = self.a.T @ self.Q @ inside @ self.Q.T @ self.a
        return (x + SPREAD**2 * self.k @ back @ self.k)[:, None]

    def check(
        self, seed: int, measure: "Measure", balanced: bool = False, n: int = DRAWS
    ) -> ResidualCheck:
        g = seeded(seed)
        y = measure(self.sample(1, g), g)
        problem = InverseProblem(self.operator, GaussianNoise(SIGMA))
        draws = self.posterior(y, g, n, balanced)
        return check_residual(problem, y, draws, range_known=True, exact=True, balanced=balanced)


def in_groups(x: Tensor) -> Tensor:
    """Fields (n, ...) of the same law as x, every four of which sum to zero."""
    sources = x.unflatten(0, (-1, 4))[:, :3]
    return torch.einsum("jk,nk...->nj...", BALANCED_SIGNS.to(x), sources).flatten(0, 1) / 3**0.5


Measure = Callable[[Tensor, torch.Generator], Tensor]


def noisy(clean: Tensor, g: torch.Generator, sigma: float = SIGMA) -> Tensor:
    return clean + sigma * torch.randn(clean.shape, generator=g, dtype=F64)


def through(operator: LinearOperator, sigma: float = SIGMA) -> Measure:
    return lambda x, g: noisy(operator.apply(x), g, sigma)


@pytest.mark.parametrize("operator", [BLUR, Denoising()], ids=["blur", "denoise"])
def test_the_draws_of_this_file_are_exact(operator: LinearOperator) -> None:
    side = 13  # of the kernel
    field, g = Field(operator, side), seeded()
    y = SPREAD * randn(1, 1, side, side, seed=3)
    covariance = SPREAD**2 * torch.kron(field.k, field.k)
    prior = GaussianPrior(torch.zeros(1, side, side, dtype=F64), covariance)
    exact = prior.posterior(InverseProblem(operator, GaussianNoise(SIGMA)), y)
    mean, covariance = exact.moments()
    n = 4000
    draws = field.posterior(y, g, n).reshape(n, side**2)
    root = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(root, (draws - mean).T, upper=False)  # N(0, I)
    assert float(white.mean(1).abs().max()) < 4.5 / n**0.5
    assert float((white @ white.T / n - torch.eye(side**2)).abs().max()) < 5.5 * (2 / n) ** 0.5


# ---- right models


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operator", "side", "balanced"),
    [
        pytest.param(BLUR, 32, False, id="blur-32-independent"),
        pytest.param(BLUR, 24, False, id="blur-24-independent"),
        pytest.param(Denoising(), 32, False, id="denoise-32-independent"),
        pytest.param(Denoising(), 16, False, id="denoise-16-independent"),
        # for balanced draws a blur and none
        pytest.param(BLUR, 24, True, id="blur-24-balanced"),
        pytest.param(Denoising(), 32, True, id="denoise-32-balanced"),
    ],
)
def test_at_most_two_in_a_hundred_right_models_are_suspected(
    operator: LinearOperator, side: int, balanced: bool
) -> None:
    """600 in all. The score tests of right models also have the variance that is stated."""
    field = Field(operator, side)
    checks = [field.check(seed, through(operator), balanced) for seed in range(100)]
    assert sum(bool(check.warnings) for check in checks) <= 2
    z: dict[str, list[float]] = {}
    for check in checks:
        for one in check.scores:
            z.setdefault(one.words, []).append(one.z)
    for words, values in z.items():
        # standard normal at most, as what is missing is taken low; 100 squares scatter by 14 %
        assert sum(v**2 for v in values) / 100 < 1 + 4 * 0.14, words
        assert abs(sum(values) / 100) < 0.4, words


# ---- wrong ones


def clipped(x: Tensor, g: torch.Generator) -> Tensor:
    y = noisy(BLUR.apply(x), g)
    return y.clamp(max=float(y.quantile(0.95)))


WRONG: dict[str, tuple[Measure, str]] = {
    "sigma doubled": (through(BLUR, 2 * SIGMA), "--sigma"),
    "sigma halved": (through(BLUR, SIGMA / 2), "--sigma"),
    "kernel 15 % too wide": (through(GaussianBlur(1.5 / 1.15, "reflect")), "too wide"),
    "kernel 15 % too narrow": (through(GaussianBlur(1.5 * 1.15, "reflect")), "too narrow"),
    "circular boundary": (through(GaussianBlur(1.5, "circular")), "the boundary"),
    "zeros beyond the boundary": (through(GaussianBlur(1.5, "zero")), "the boundary"),
    "clipped highlights": (clipped, "clipped highlights"),
}
ONE_OF_EACH_KIND = (
    "sigma halved",
    "kernel 15 % too wide",
    "circular boundary",
    "clipped highlights",
)
"""For balanced draws: the level, the kernel, the boundary, and the highlights."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "balanced"),
    [
        *(pytest.param(name, False, id=f"{name}-independent") for name in WRONG),
        *(pytest.param(name, True, id=f"{name}-balanced") for name in ONE_OF_EACH_KIND),
    ],
)
def test_nine_of_ten_wrong_models_are_named(name: str, balanced: bool) -> None:
    measure, word = WRONG[name]
    field, runs = Field(side=64), 30
    # of 8 balanced draws, 6 are independent, and the wider kernel is named in 77 % of the cases
    n = 2 * DRAWS if balanced else DRAWS
    found = [field.check(seed, measure, balanced, n).warnings for seed in range(runs)]
    assert sum(len(one) == 1 and word in one[0] for one in found) >= 0.9 * runs


SIDE = 20
TWO = stack(GaussianBlur(0.7, "reflect"), GaussianBlur(1.0, "reflect"), shape=(1, SIDE, SIDE))


def moved(y: Tensor, pixels: float) -> Tensor:
    """A shift to the right, by the Fourier transform."""
    turn = torch.exp(-2j * math.pi * torch.fft.rfftfreq(y.shape[-1]) * pixels)
    return torch.fft.irfft(torch.fft.rfft(y) * turn, n=y.shape[-1])


@pytest.mark.slow
def test_two_pictures_that_are_half_a_pixel_apart_are_named() -> None:
    """A single one that is shifted is as likely as before under a stationary prior."""
    side = one_axis(SIDE)
    prior = GaussianPrior(torch.zeros(1, SIDE, SIDE), SPREAD**2 * torch.kron(side, side))
    problem, runs, named, right = InverseProblem(TWO, GaussianNoise(SIGMA)), 20, 0, 0
    posterior = exact_posterior(prior, problem)
    for seed in range(runs):
        g = seeded(seed)
        x = prior.sample(1, g)
        first, second = TWO.parts(TWO.apply(x))
        for pixels in (0.0, 0.5):
            both = torch.cat([first.flatten(1), moved(second, pixels).flatten(1)], 1)
            y = noisy(both, g)
            draws = posterior(y, g)
            warnings = check_residual(problem, y, draws, range_known=True, exact=True).warnings
            if pixels:
                named += len(warnings) == 1 and "shifted to the right" in warnings[0]
            else:
                right += bool(warnings)
    assert named >= 0.9 * runs
    assert right <= 1


def exact_posterior(
    prior: GaussianPrior, problem: InverseProblem
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Draws for a measurement by Matheron's rule with dense matrices, which are made once."""
    A, C = problem.linear_operator.dense(prior.shape, F64), prior.covariances[0]
    S = A @ C @ A.T + problem.noise_variance * torch.eye(len(A), dtype=F64)
    gain = torch.linalg.solve(S, A @ C)

    def draws(y: Tensor, g: torch.Generator) -> Tensor:
        x = prior.sample(DRAWS, g)
        off = y - noisy((x.flatten(1) @ A.T), g)
        return (x.flatten(1) + off @ gain).reshape(DRAWS, 1, *prior.shape)

    return draws


@pytest.mark.slow
def test_a_shift_of_a_stationary_field_cannot_be_seen() -> None:
    """Both pictures have the same law, apart from their frames."""
    field = Field(GaussianBlur(1.5, "circular"), 32)

    def shifted(x: Tensor, g: torch.Generator) -> Tensor:
        return noisy(moved(field.operator.apply(x), 0.5), g)

    assert sum(bool(field.check(seed, shifted).warnings) for seed in range(20)) <= 1


# ---- the score tests


def test_the_missing_information_is_the_variance_of_the_slopes() -> None:
    """Of Gaussian e and h with means: Var(e^T h), estimated without bias from 8 draws."""
    m, n, repeats = 30, 8, 2000
    g = seeded()
    mean = torch.randn(2, m, generator=g, dtype=F64)
    mix = torch.randn(2, 2, m, generator=g, dtype=F64)
    white = torch.randn(repeats, n, 2, m, generator=g, dtype=F64)
    e, h = (mean[i] + (white * mix[i]).sum(2) for i in (0, 1))
    exact = (
        (mean[0] ** 2 * (mix[1] ** 2).sum(0)).sum()
        + (mean[1] ** 2 * (mix[0] ** 2).sum(0)).sum()
        + 2 * (mean[0] * mean[1] * (mix[0] * mix[1]).sum(0)).sum()
        + ((mix[0] ** 2).sum(0) * (mix[1] ** 2).sum(0)).sum()
        + ((mix[0] * mix[1]).sum(0) ** 2).sum()
    )
    found = torch.tensor([missing_information(a, b).variance for a, b in zip(e, h, strict=True)])
    # the linear part is cut off at zero, and freed of the noise of the mean to first order in 1/n
    assert abs(float(found.mean() / exact) - 1) < 0.05
    slopes = (e * h).sum(-1)
    assert float(slopes.var()) == pytest.approx(float(exact), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.3], ids=["Gaussian", "groups that differ"])
def test_groups_of_draws_have_the_same_missing_information(groups: int, share: float) -> None:
    """Draws c + d_j with c and d independent and Gaussian; c is known if share is 0."""
    m, repeats = 30, 4000
    g = seeded()
    mean = torch.randn(2, 1, 1, 1, m, generator=g, dtype=F64)
    mix = torch.randn(2, 1, 1, 1, 2, m, generator=g, dtype=F64)

    def correlated(*shape: int) -> Tensor:
        """Two fields of the same numbers, (2, *shape, m)."""
        return (torch.randn(*shape, 2, m, generator=g, dtype=F64) * mix).sum(-2)

    c = mean + share**0.5 * correlated(repeats, groups, 1)
    d = BALANCED_SIGNS.double() @ correlated(repeats, groups, 3) / 3**0.5
    e, h = c + (1 - share) ** 0.5 * d  # (repeats, groups, 4, m)
    slopes = (e * h).sum(-1).flatten(1)
    found = [missing_information_of_groups(*one) for one in zip(e, h, strict=True)]
    exact = float(slopes.flatten().var())
    estimate = sum(one.variance for one in found) / repeats
    of_mean = sum(one.of_mean for one in found) / repeats
    if share == 0:
        assert estimate == pytest.approx(exact, rel=0.05)
        assert of_mean == pytest.approx(float(slopes.mean(1).var()), rel=0.1)
    elif groups == 4:
        assert estimate == pytest.approx(exact, rel=0.06)
        assert of_mean == pytest.approx(float(slopes.mean(1).var()), rel=0.1)
    else:  # the means of the groups, and the products of their deviations, are known too little
        assert 0.4 < estimate / exact < 1.06


def test_directions_are_derivatives_of_the_measurement() -> None:
    y = torch.zeros(1, 1, 24, 24, dtype=F64) + torch.rand(24, dtype=F64)
    seen, x = torch.ones_like(y) == 1, randn(2, 1, 24, 24)
    for operator, other, kind, step in (
        (GaussianBlur(1.5), GaussianBlur(1.5 * 1.001), "width", 0.001),
        (MotionBlur(7.4, 20.0), MotionBlur(7.4, 20.1), "angle", 0.1),
        (BLUR, GaussianBlur(1.5, "zero"), "boundary", 1.0),
    ):
        found = [one for one in departures(operator, y, seen) if one.kind == kind]
        one = found[-1]
        h = one.direction(x, operator.apply(x))
        expected = (other.apply(x) - operator.apply(x)) / step
        # steps of 2 % have an error of second order, 0.02; kernels of lines are drawn on a grid of
        # points, so that their derivative is rough
        bound = 0.3 if kind == "angle" else 0.03
        assert float((h - expected).norm() / expected.norm()) < bound, kind
    ramp = torch.arange(24, dtype=F64).expand(1, 1, 24, 24)
    right = departures(Denoising(), y, seen)[-1]
    assert right.words == "the measurement shifted to the right"
    inner = right.direction(ramp, ramp)[..., 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, -1.0))


def test_no_departure_changes_the_shape_of_the_measurement() -> None:
    x = randn(1, 1, 32, 32)
    for operator in (
        MotionBlur(9, 30.0, "valid"),
        GaussianBlur(1.5, "valid"),
        Blur(torch.ones(3, 3) / 9),
        MotionBlur(5, 0.0, "reflect") @ GaussianBlur(1.0),
        stack(Denoising(), BLUR, shape=(1, 32, 32)),
    ):
        y = operator.apply(x)
        for one in departures(operator, y, torch.ones_like(y) == 1):
            assert one.direction(x, y).shape == y.shape


def test_only_white_gaussian_noise_is_tested() -> None:
    x = 0.3 * randn(8, 1, 16, 16)
    seen = torch.ones(1, 1, 16, 16) == 1
    for problem, draws in (
        (InverseProblem(Denoising(), PoissonNoise(20.0)), x),
        (InverseProblem(Quantisation(8), GaussianNoise(0.1)), x),
        (InverseProblem(Denoising(), GaussianNoise(0.1)), x[:3]),
    ):
        assert score_tests(problem, x[:1], draws, draws, seen) == ()


def test_a_stated_clipping_is_not_suspected() -> None:
    g, x = seeded(), 0.3 * randn(1, 1, 32, 32).clamp(-3, 3)
    for operator, expected in ((Clipping(1.0), False), (Denoising(), True)):
        y = noisy(x, g).clamp(max=0.3)
        problem = InverseProblem(operator, GaussianNoise(SIGMA))
        draws = noisy(x.expand(8, 1, 1, 32, 32), g, 0.01)
        warnings = check_residual(problem, y, draws, range_known=True).warnings
        assert any("exactly its largest value" in one for one in warnings) == expected


def test_colours_and_grey_draws_are_tested_too() -> None:
    g = seeded()
    problem = InverseProblem(Grayscale(), GaussianNoise(SIGMA))
    x = SPREAD * torch.randn(1, 3, 32, 32, generator=g)
    draws = x + 0.001 * torch.randn(8, 1, 3, 32, 32, generator=g)
    check = check_residual(problem, problem.measure(x, g), draws, exact=True)
    assert {one.kind for one in check.scores} >= {"noise", "highlights", "shift"}
    assert all(abs(one.z) < CLEAR for one in check.scores)
    assert check.report()["scores"][0]["kind"] == check.scores[0].kind


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.02, 0.05])
def test_boundaries_stand_out_from_the_misfit_of_a_learned_prior(sigma: float) -> None:
    """At little noise, too, where that misfit has the pattern of other widths."""
    import skimage.data

    x = torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1)[None] / 127.5 - 1
    x = torch.nn.functional.avg_pool2d(x, 2)[..., 60:156, 90:186]
    prior, solver = load_prior("natural"), make_solver("warm-start")
    problem = InverseProblem(GaussianBlur(1.5, "reflect"), GaussianNoise(sigma))
    for boundary, named in (("reflect", False), ("circular", True), ("zero", True)):
        g = seeded()
        true = replace(problem, operator=GaussianBlur(1.5, boundary))  # type: ignore[arg-type]
        y = true.measure(x, g)
        draws = solver.sample(prior, problem, y, 8, generator=g).draws
        how = {"range_known": True, "faithful": True, "balanced": solver.balanced}
        warnings = check_residual(problem, y, draws, prior=prior, **how).warnings
        assert ["the boundary (" in one for one in warnings] == [True] * named, boundary
