"""The residual check: its law for exact draws, and wrong inputs that it names."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from scipy import stats
from torch import Tensor

from problems import (
    JPEG,
    MRI,
    Clipping,
    CompressedSensing,
    CorrelatedNoise,
    Denoising,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Inpainting,
    InverseProblem,
    LaplaceNoise,
    LinearMatrix,
    LinearOperator,
    MotionBlur,
    Noise,
    Operator,
    PoissonGaussianNoise,
    PoissonNoise,
    Quantisation,
    SaltAndPepperNoise,
    SparseMatrix,
    Tomography,
    UniformNoise,
    angles_between,
    box_mask,
    cartesian_mask,
    random_mask,
)
from problems.operators.base import known_operators
from scoresde.evaluation.residual import ResidualCheck, check_residual
from scoresde.evaluation.residual.flat_edge import plain_beside_holes
from scoresde.evaluation.residual.noise_level import finest_details
from scoresde.evaluation.residual.settings import settings_of
from scoresde.evaluation.residual.statistic import misfits
from tests.conftest import F64, randn, seeded

SIDE = 48
SHAPE = (3, SIDE, SIDE)
SPREAD = 0.3  # of the white prior


# ---- the law of T for exact posterior draws


@dataclass(frozen=True)
class Linear:
    """A Gaussian prior N(0, C), a random matrix A, and the exact posterior of its measurements."""

    sigma: float = 0.4
    d: int = 8
    m: int = 12

    @property
    def A(self) -> Tensor:
        return randn(self.m, self.d, seed=1) / self.d**0.5

    @property
    def root(self) -> Tensor:
        return torch.tril(randn(self.d, self.d, seed=2)) + torch.eye(self.d, dtype=F64)

    @property
    def posterior_covariance(self) -> Tensor:
        precision = (self.root @ self.root.T).inverse() + self.A.T @ self.A / self.sigma**2
        return precision.inverse()

    def checks(self, n: int, repeats: int, wrong: float = 1.0) -> list[ResidualCheck]:
        """Truths, measurements and n exact draws; the noise is ``wrong`` times the stated one."""
        g, problem = seeded(3), InverseProblem(LinearMatrix(self.A), GaussianNoise(self.sigma))
        V = self.posterior_covariance
        half = torch.linalg.cholesky(V)
        found = []
        for _ in range(repeats):
            x = self.root @ torch.randn(self.d, generator=g, dtype=F64)
            noise = torch.randn(self.m, generator=g, dtype=F64)
            y = self.A @ x + wrong * self.sigma * noise
            mean = V @ self.A.T @ y / self.sigma**2
            draws = mean + torch.randn(n, self.d, generator=g, dtype=F64) @ half.T
            found.append(check_residual(problem, y[None], draws[:, None]))
        return found


REPEATS = 800


@pytest.mark.slow
def test_a_draw_has_the_law_of_chi_squared() -> None:
    """(x, y) is exchangeable with (truth, y), so that m T is chi-squared with m degrees."""
    problem = Linear()
    T = [check.ratios[0] for check in problem.checks(1, REPEATS)]
    assert stats.kstest([problem.m * t for t in T], stats.chi2(problem.m).cdf).pvalue > 1e-3
    assert problem.checks(1, 1)[0].scatter == pytest.approx(math.sqrt(2 / problem.m))


@pytest.mark.slow
def test_other_noise_than_stated_has_another_law() -> None:
    problem = Linear()
    T = [check.ratios[0] for check in problem.checks(1, 300, wrong=1.3)]
    assert stats.kstest([problem.m * t for t in T], stats.chi2(problem.m).cdf).pvalue < 1e-6


@pytest.mark.slow
def test_the_mean_is_closer_by_the_trace_of_its_spread() -> None:
    problem, n = Linear(), 5
    trace = float(torch.trace(problem.A @ problem.posterior_covariance @ problem.A.T))
    expected = 1 - (1 - 1 / n) * trace / (problem.m * problem.sigma**2)
    checks = problem.checks(n, REPEATS)
    for values in ([c.mean_ratio for c in checks], [c.mean_expected for c in checks]):
        found = torch.tensor(values, dtype=F64)
        assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / REPEATS**0.5
    assert expected < 0.9  # otherwise the correction could be left out unnoticed


def test_of_one_estimate_only_the_residual_is_reported() -> None:
    check = Linear().checks(1, 1)[0]
    assert check.mean_ratio == pytest.approx(check.ratio, rel=1e-12)
    assert check.mean_expected == pytest.approx(1.0)


NOISES: dict[str, Noise] = {
    "Gaussian": GaussianNoise(0.3),
    "a level for each pixel": GaussianNoise(torch.linspace(0.1, 0.6, 400).reshape(1, 20, 20)),
    "Laplace": LaplaceNoise(0.2),
    "uniform": UniformNoise(0.5),
    "Poisson": PoissonNoise(20.0),
    "photons": PoissonGaussianNoise(20.0, 0.1),
    "salt and pepper": SaltAndPepperNoise(0.2, 0.1),
    "correlated": CorrelatedNoise(GaussianBlur(0.6, "circular", 2.0)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISES)
def test_the_truth_has_a_ratio_of_one_under_every_noise(name: str) -> None:
    noise, mean = NOISES[name], 1.6 * torch.rand(1, 1, 20, 20, generator=seeded(), dtype=F64) - 0.8
    problem, g = InverseProblem(Denoising(), noise), seeded(1)
    found = [misfits(problem, noise.sample(mean, g), mean, g) for _ in range(60)]
    T = torch.cat([one.ratios for one in found])
    # the reference is the mean of 20 replicates, which scatters too
    assert abs(float(T.mean()) - 1) < 4 * float(T.std()) / 60**0.5
    # a standard deviation of 60 values scatters by 9 %, the mean of 60 of 20 values by 2 %, and the
    # reference widens T by 2.5 %
    scatter = sum(one.scatter for one in found) / 60
    assert abs(float(T.std()) / scatter - 1.025) < 4 * (0.092 + 0.021)
    assert found[0].entries == 400


@pytest.mark.parametrize("name", NOISES)
def test_three_times_the_noise_shows_under_every_noise(name: str) -> None:
    noise, mean = NOISES[name], torch.zeros(1, 1, 20, 20, dtype=F64)
    far = mean + 3 * (noise.sample(mean, seeded()) - mean)
    found = misfits(InverseProblem(Denoising(), noise), far, mean, seeded(1))
    assert float(found.ratios) > 1 + 10 * found.scatter


def test_holes_do_not_count() -> None:
    mask = random_mask(20, 20, 0.5, seeded())
    problem = InverseProblem(Inpainting(mask), GaussianNoise(0.1))
    x = randn(1, 1, 20, 20)
    y = problem.measure(x, seeded(1))
    expected = float(((y - x) / 0.1).square()[..., mask].mean())
    found = misfits(problem, y, problem.operator.apply(x), seeded())
    assert found.entries == int(mask.sum())
    assert float(found.ratios) == pytest.approx(expected)
    y[..., ~mask] = math.nan
    assert check_residual(problem, y, x[None]).ratio == pytest.approx(expected)


# ---- right inputs


def picture(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    """A smooth picture (1, *shape) from -0.9 to 0.9 with texture."""
    rough = torch.randn(1, *shape, generator=seeded(seed))
    soft = GaussianBlur(min(3.0, shape[-1] / 8), "circular", 2.0).apply(rough)
    return 0.9 * soft / soft.abs().max() + 0.02 * rough.clamp(-2, 2)


EXAMPLES: dict[str, Operator] = {
    name: operator
    for cls in known_operators()
    if cls.__module__.startswith("problems.") and cls not in (LinearMatrix, SparseMatrix)  # large
    for name, operator in cls.examples(SHAPE).items()
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_truth_is_never_suspected(name: str) -> None:
    operator, x = EXAMPLES[name], picture()
    for sigma in (0.02, 0.1):
        problem = InverseProblem(operator, GaussianNoise(sigma))
        y = operator.apply(x) if operator.quantises else problem.measure(x, seeded(1))
        draws = x + 1e-3 * torch.randn(4, 1, *SHAPE, generator=seeded(2))
        check = check_residual(problem, y, draws, faithful=True)
        assert check.warnings == ()
        if not operator.quantises:
            off = (operator.apply(draws[:, 0]) - operator.apply(x)) / sigma
            spread = float(off[:, None][:, operator.observed(y)].square().mean())
            assert abs(check.ratio - 1) < 5 * check.scatter + 0.01 + spread


def white_draws(problem: InverseProblem, y: Tensor, n: int = 6) -> Tensor:
    """Exact draws of the posterior under the prior N(0, SPREAD^2 I)."""
    operator: LinearOperator = problem.linear_operator
    z = torch.zeros(n, *problem.input_shape(y))
    return operator.prox_sample(
        z, y.expand(n, *y.shape[1:]), problem.noise_variance, SPREAD**2, seeded(5)
    )[:, None]


def white_check(
    stated: Operator,
    truth: Operator | None = None,
    sigma: float = 0.05,
    stated_sigma: float | None = None,
    change: Callable[[Tensor], Tensor] = torch.clone,
    x: Tensor | None = None,
) -> ResidualCheck:
    """Measure a picture of the white prior, and check exact draws under what is stated."""
    if x is None:
        x = SPREAD * torch.randn(1, *SHAPE, generator=seeded(7)).clamp(-3, 3)
    clean = (truth or stated).apply(x)
    y = change(clean + sigma * torch.randn(clean.shape, generator=seeded(8)))
    problem = InverseProblem(stated, GaussianNoise(stated_sigma or sigma))
    y = stated.mask_unobserved(y)
    return check_residual(problem, y, white_draws(problem, y), faithful=True)


RANDOM = Inpainting(random_mask(SIDE, SIDE, 0.5, seeded(2)))
BOX = Inpainting(box_mask(SIDE, SIDE, 14, 14, 20, 20))
COLUMNS = cartesian_mask(SIDE, SIDE, 3.0, generator=seeded(3))
LINEAR: dict[str, LinearOperator] = {
    "denoise": Denoising(),
    "inpaint": RANDOM,
    "box": BOX,
    "gaussian": GaussianBlur(1.6, "reflect"),
    "motion": MotionBlur(9, 30.0, "reflect"),
    "grey": Grayscale(),
    "mri": MRI(COLUMNS),
    "tomography": Tomography(angles_between(20), (SIDE, SIDE)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_exact_draws_of_right_inputs_are_not_suspected(name: str) -> None:
    check = white_check(LINEAR[name])
    assert check.warnings == ()
    assert abs(check.ratio - 1) < 5 * check.scatter


def test_a_plain_picture_of_few_levels_is_not_suspected() -> None:
    """The noise stands for the rounding and is not in y, which may vary less than it."""
    x = 0.1 * picture() + 0.52  # on both sides of the edge of a level
    problem = InverseProblem(Quantisation(8), GaussianNoise(0.1))
    y = problem.operator.apply(x)
    assert 0 < float(y.var()) < 0.25 * 0.1**2
    assert check_residual(problem, y, x.expand(4, 1, *SHAPE), range_known=True).warnings == ()


def test_a_loose_fit_of_coefficients_is_no_sign_of_noise() -> None:
    """It looks white whatever it is; only a solver that aims at the law is held to it."""
    x, g = picture(), seeded()
    problem = InverseProblem(CompressedSensing(0.5, (SIDE, SIDE)), GaussianNoise(0.02))
    y = problem.measure(x, g)
    loose = x + 0.03 * torch.randn(1, *SHAPE, generator=g)
    draws = loose + 0.001 * torch.randn(4, 1, *SHAPE, generator=g)
    check = check_residual(problem, y, draws)
    assert check.ratio > 2.5
    assert check.warnings == ()
    assert kind(check_residual(problem, y, draws, faithful=True)) == "noise"


# ---- wrong inputs


def kind(check: ResidualCheck) -> str:
    assert len(check.findings) == 1, check.warnings
    return check.findings[0].kind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "motion"])
def test_too_small_a_sigma_is_named_with_its_size(name: str) -> None:
    check = white_check(LINEAR[name], sigma=0.06, stated_sigma=0.02, x=picture())
    assert kind(check) == "noise"
    assert "--sigma" in check.warnings[0]
    found = float(check.warnings[0].split("looks like noise of ")[1].split(",")[0])
    assert 0.045 < found < 0.065  # the draws follow a part of it


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "motion", "tomography"])
def test_too_large_a_sigma_is_named_with_its_size(name: str) -> None:
    check = white_check(LINEAR[name], sigma=0.05, stated_sigma=0.15, x=picture())
    assert kind(check) == "noise"
    assert "less noise than stated, about noise of 0.05 in place of noise of 0.15" in (
        check.warnings[0].replace("0.051", "0.05").replace("0.049", "0.05")
    )


def test_without_details_the_residual_tells_of_too_large_a_sigma() -> None:
    """Random coefficients are no picture; the solver has to aim at the posterior."""
    operator, x, g = CompressedSensing(0.5, (SIDE, SIDE)), picture(), seeded()
    y = InverseProblem(operator, GaussianNoise(0.05)).measure(x, g)
    problem = InverseProblem(operator, GaussianNoise(0.3))
    draws = x + 0.001 * torch.randn(4, 1, *SHAPE, generator=g)
    check = check_residual(problem, y, draws, faithful=True)
    assert kind(check) == "noise"
    assert "about noise of 0.05 in place of noise of 0.3" in check.warnings[0]
    assert check_residual(problem, y, draws).warnings == ()


def test_less_noise_than_a_default_is_no_finding() -> None:
    problem = InverseProblem(GaussianBlur(1.6), GaussianNoise(0.15))
    y = InverseProblem(GaussianBlur(1.6), GaussianNoise(0.03)).measure(picture(), seeded())
    draws = white_draws(problem, y)
    assert kind(check_residual(problem, y, draws)) == "noise"
    assert check_residual(problem, y, draws, sigma_stated=False).warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stated", "truth"),
    [
        (MotionBlur(9, 120.0, "reflect"), MotionBlur(9, 30.0, "reflect")),
        (GaussianBlur(3.0, "reflect"), GaussianBlur(1.0, "reflect")),
        (GaussianBlur(1.6, "reflect"), Denoising()),
    ],
    ids=["turned", "too wide", "no blur"],
)
def test_a_wrong_kernel_is_named(stated: Operator, truth: Operator) -> None:
    # of a smooth picture: what a wrong kernel leaves of a white one is white, as noise is
    check = white_check(stated, truth, sigma=0.02, x=picture(seed=4))
    assert kind(check) in ("operator", "noise")
    assert check.evidence is not None and check.evidence.unreachable > 0.3
    rough = picture(seed=4).sign() * 0.5
    check = white_check(stated, truth, sigma=0.02, x=rough)
    assert kind(check) == "operator"
    assert "kernel" in check.warnings[0]


def test_a_narrow_kernel_explains_the_measurement_and_its_score_names_it() -> None:
    """The residual is as small as that of noise; only its pattern tells."""
    check = white_check(GaussianBlur(0.8, "reflect"), GaussianBlur(1.6, "reflect"), x=picture())
    assert check.ratio < 1  # the draws follow what the kernel allows
    assert kind(check) == "operator"
    assert "too narrow" in check.warnings[0]


def bytes_of(y: Tensor) -> Tensor:
    return 127.5 * (y + 1)


@pytest.mark.parametrize("name", ["denoise", "inpaint", "gaussian", "grey"])
def test_bytes_are_named(name: str) -> None:
    check = white_check(LINEAR[name], sigma=0.02, change=bytes_of)
    assert kind(check) == "range"
    assert "0..255" in check.warnings[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", LINEAR)
def test_pictures_on_0_1_are_named_unless_the_range_is_known(name: str) -> None:
    g, x = seeded(), (picture(seed=3) + 1) / 2
    x = (x - x.min()) / (x.max() - x.min())
    problem = InverseProblem(LINEAR[name], GaussianNoise(0.02))
    y = problem.measure(x, g)
    draws = x + 0.005 * torch.randn(5, 1, *SHAPE, generator=g)
    check = check_residual(problem, y, draws)
    assert kind(check) == "range"
    assert "[0, 1]" in check.warnings[0]
    assert check_residual(problem, y, draws, range_known=True).warnings == ()


@pytest.mark.slow
def test_units_of_sinograms_and_k_space_are_named() -> None:
    tomography = LINEAR["tomography"]
    pixels = Tomography(angles_between(20), (SIDE, SIDE), 1.0)
    assert kind(white_check(tomography, pixels, x=(picture() + 1) / 2)) == "range"
    for scale in (1e-5, 100.0):
        check = white_check(LINEAR["mri"], change=lambda y, s=scale: s * y, x=picture())  # type: ignore[misc]
        assert kind(check) == "range"
        assert "units" in check.warnings[0]


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("mask", [RANDOM, BOX], ids=["random", "box"])
def test_an_inverted_mask_is_named(mask: Inpainting, value: float) -> None:
    def paint(y: Tensor) -> Tensor:
        return torch.where(mask.mask, y, value)

    check = white_check(Inpainting(~mask.mask), Denoising(), change=paint)
    assert kind(check) == "operator"
    assert "mask" in check.warnings[0]


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_mask_that_does_not_cover_its_hole_is_named(value: float) -> None:
    def paint(y: Tensor) -> Tensor:
        return torch.where(BOX.mask, y, value)

    for stated in (
        Inpainting(box_mask(SIDE, SIDE, 17, 17, 14, 14)),
        Inpainting(BOX.mask.roll(5, -1)),
    ):
        check = white_check(stated, Denoising(), change=paint)
        assert kind(check) == "operator"
        assert "mask" in check.warnings[0]


def test_another_mask_of_k_space_is_named() -> None:
    other = MRI(cartesian_mask(SIDE, SIDE, 3.0, generator=seeded(11)))
    check = white_check(MRI(COLUMNS), other, change=other.mask_unobserved)
    assert kind(check) == "operator"
    assert "k-space mask" in check.warnings[0]


@pytest.mark.parametrize(
    ("stated", "truth", "word"),
    [
        (JPEG(10), JPEG(90), "quality"),
        (JPEG(30), JPEG(60), "quality"),
        (JPEG(10) @ Grayscale(), JPEG(90) @ Grayscale(), "quality"),
        (Quantisation(8), Quantisation(5), "levels"),
        (Quantisation(4), Quantisation(8), "levels"),
    ],
    ids=["10 for 90", "30 for 60", "grey", "8 for 5", "4 for 8"],
)
def test_a_file_that_another_rounding_made_is_named(
    stated: Operator, truth: Operator, word: str
) -> None:
    x, sigma = picture(), GaussianNoise(0.1)
    draws = x.expand(4, 1, *SHAPE) + 0.01 * torch.randn(4, 1, *SHAPE, generator=seeded())
    check = check_residual(InverseProblem(stated, sigma), truth.apply(x), draws)
    assert kind(check) == "operator"
    assert word in check.warnings[0]
    assert check_residual(InverseProblem(truth, sigma), truth.apply(x), draws).warnings == ()


def test_a_solver_that_diverges_is_named_and_the_input_too() -> None:
    """What `--effort quick` did to overexposed pictures."""
    x = picture()
    problem = InverseProblem(Clipping(2.0), GaussianNoise(0.05))
    y = problem.measure(x, seeded())
    draws = x + 2 * torch.randn(4, 1, *SHAPE, generator=seeded(1))
    check = check_residual(problem, y, draws)
    assert kind(check) == "solver"
    assert "--steps" in check.warnings[0] and "gain" in check.warnings[0]


def test_draws_that_miss_a_rounded_file_are_named() -> None:
    """The truth has no residual at all, so that less misfit is needed than with real noise."""
    x = picture()
    problem = InverseProblem(Quantisation(8), GaussianNoise(0.1))
    y = problem.operator.apply(x)
    noise = torch.randn(4, 1, *SHAPE, generator=seeded())
    assert check_residual(problem, y, x + 0.05 * noise).warnings == ()
    check = check_residual(problem, y, x + 0.2 * noise)
    assert 2 < check.ratio < 8
    assert kind(check) == "solver"


# ---- draws


def test_values_that_the_measurement_does_not_hold_back_are_named() -> None:
    problem, x = InverseProblem(BOX, GaussianNoise(0.05)), picture()
    y = problem.measure(x, seeded())
    draws = x + 0.03 * torch.randn(4, 1, *SHAPE, generator=seeded(1))
    hole = ~BOX.mask
    check = check_residual(problem, y, torch.where(hole, draws + 3, draws))
    assert kind(check) == "solver"
    assert "draws 1, 2, 3, 4 have values far outside of [-1, 1]" in check.warnings[0]
    assert check.ratio == pytest.approx(check_residual(problem, y, draws).ratio)


def test_a_wild_draw_is_named_by_its_number() -> None:
    problem = InverseProblem(BOX, GaussianNoise(0.05))
    x = picture()
    y = problem.measure(x, seeded())
    draws = x + 0.03 * torch.randn(8, 1, *SHAPE, generator=seeded(1))
    assert check_residual(problem, y, draws).warnings == ()
    hole = ~BOX.mask
    draws[2, 0] = torch.where(hole, draws[2, 0] + 0.5, draws[2, 0])
    check = check_residual(problem, y, draws)
    assert kind(check) == "outlier"
    assert "draw 3 lies" in check.warnings[0]
    assert check.outliers == (2,)
    assert check.ratios[2] == pytest.approx(check.ratios[3], rel=0.1)  # the residual cannot see it


def test_two_modes_are_no_outliers_but_a_lonely_one_is() -> None:
    problem, y = InverseProblem(Denoising(), GaussianNoise(1.0)), torch.zeros(1, *SHAPE)
    noise = 0.02 * torch.randn(8, 1, *SHAPE, generator=seeded())
    halves = noise + 0.5 * torch.tensor([1.0, -1.0] * 4).reshape(8, 1, 1, 1, 1)
    assert check_residual(problem, y, halves).outliers == ()
    three = noise.clone()
    three[[1, 4, 6]] += 0.5
    assert check_residual(problem, y, three).outliers == ()
    lonely = noise.clone()
    lonely[5] += 0.5
    assert check_residual(problem, y, lonely).outliers == (5,)


@pytest.mark.slow
def test_gaussian_draws_are_never_outliers() -> None:
    """Not even with a few directions: at 20 the ratio of two distances rarely exceeds 2."""
    problem = InverseProblem(Denoising(), GaussianNoise(1.0))
    for seed in range(50):
        draws = torch.randn(8, 1, 20, generator=seeded(seed))
        assert check_residual(problem, torch.zeros(1, 20), draws).outliers == ()


def test_lost_draws_are_named_and_the_others_judged() -> None:
    problem, x = InverseProblem(Denoising(), GaussianNoise(0.1)), picture()
    y = problem.measure(x, seeded())
    draws = x.expand(5, 1, *SHAPE).clone()
    draws[1, 0, 0, 0, 0] = math.nan
    check = check_residual(problem, y, draws)
    assert kind(check) == "solver"
    assert check.warnings[0].startswith("draw 2 has values that are not finite")
    assert math.isnan(check.ratios[1])
    assert abs(check.ratio - 1) < 5 * check.scatter
    lost = check_residual(problem, y, draws * math.nan)
    assert kind(lost) == "solver" and math.isnan(lost.ratio)
    for one in (check, lost):
        json.dumps(one.report(), allow_nan=False)


def test_the_report_counts_draws_from_one() -> None:
    problem = InverseProblem(Denoising(), GaussianNoise(1.0))
    draws = 0.02 * torch.randn(6, 1, *SHAPE, generator=seeded())
    draws[0] += 0.5
    report = check_residual(problem, torch.zeros(1, *SHAPE), draws).report()
    assert report["outliers"] == [1]
    assert report["warnings"][-1]["kind"] == "outlier"
    assert report["entries"] == math.prod(SHAPE)


# ---- the parts, the cost and errors


def test_details_estimate_noise_and_texture_only_adds() -> None:
    noise, seen = randn(1, 1, 200, 200), torch.ones(1, 1, 200, 200) == 1
    ramp = torch.arange(200, dtype=F64) * 0.3
    for signal in (0 * ramp, ramp, ramp[:, None] ** 2):
        estimate, error = finest_details(noise + signal, seen)  # type: ignore[misc]
        assert abs(estimate - 1) < 4 * error < 0.05
    textured = finest_details(noise + 2 * randn(1, 1, 200, 200, seed=1), seen)
    assert textured is not None and textured[0] > 2
    assert finest_details(noise, seen & False) is None


def test_the_error_of_the_details_is_their_scatter() -> None:
    seen = torch.ones(1, 1, 24, 24) == 1
    found = [finest_details(randn(1, 1, 24, 24, seed=s), seen) for s in range(200)]
    values = torch.tensor([f[0] for f in found if f])
    stated = sum(f[1] for f in found if f) / 200
    # blocks overlap, so that the stated error is an upper bound, by a factor below 2
    assert float(values.std()) < stated < 2.2 * float(values.std())


def test_clipped_pixels_are_not_taken_for_a_hole() -> None:
    y, seen = picture(), BOX.mask.expand(1, *SHAPE)
    y = torch.where(torch.arange(SIDE) < 24, y, 1.0)
    assert plain_beside_holes(torch.where(seen, y, 0), seen) < 0.1


def test_a_grey_draw_stands_for_equal_channels() -> None:
    x = picture((1, SIDE, SIDE))
    problem = InverseProblem(Denoising() @ Grayscale(), GaussianNoise(0.1))
    y = InverseProblem(Denoising(), GaussianNoise(0.1)).measure(x, seeded())
    draws = x.expand(4, 1, 1, SIDE, SIDE)
    grey = check_residual(problem, y, draws)
    assert grey.ratio == pytest.approx(float(((y - x) / 0.1).square().mean()), rel=1e-4)


def test_settings_name_every_part() -> None:
    words = settings_of(JPEG(50) @ GaussianBlur(1.0) @ Grayscale())
    assert all(word in words for word in ("quality", "kernel", "weights"))
    unknown = settings_of(LinearMatrix(torch.eye(2)))
    assert unknown == "the settings of LinearMatrix"


APPLIED: list[int] = []


@dataclass(frozen=True, eq=False, repr=False)
class _Counted(Denoising):
    def _apply(self, x: Tensor) -> Tensor:
        APPLIED.append(len(x))
        return super()._apply(x)


def test_its_cost_is_an_application_per_draw_and_a_few() -> None:
    problem = InverseProblem(_Counted(), GaussianNoise(0.1))
    y = problem.measure(picture(), seeded())
    APPLIED.clear()
    check_residual(problem, y, picture().expand(7, 1, *SHAPE))
    assert sum(APPLIED) <= 7 + 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y, x: (p, y[0], x), "one measurement"),
        (lambda p, y, x: (p, y, x[:, 0]), "draws .n, 1, C, H, W. are needed"),
        (lambda p, y, x: (p, y, x[:0]), "draws .n, 1, C, H, W. are needed"),
        (lambda p, y, x: (p, y, x[..., :-1]), "the operator takes pictures of shape"),
        (lambda p, y, x: (p, y + math.inf, x), "not finite; leave them out with a mask"),
        (
            lambda p, y, x: (InverseProblem(p.operator, GaussianNoise(0.0)), y, x),
            "standard deviation of 0",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    change: Callable[[InverseProblem, Tensor, Tensor], tuple[InverseProblem, Tensor, Tensor]],
    message: str,
) -> None:
    problem, x = InverseProblem(Denoising(), GaussianNoise(0.1)), picture()
    with pytest.raises(ValueError, match=message):
        check_residual(*change(problem, x, x.expand(4, 1, *SHAPE)))
