"""What goes into a prior is checked where it enters: times, shapes, dtypes and precisions."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from problems import Denoising, GaussianNoise, InverseProblem
from scoresde import (
    EDMSDE,
    SDE,
    VESDE,
    VPSDE,
    CosineVPSDE,
    CountingPrior,
    EquivariantPrior,
    FlowMatchingSDE,
    GaussianMixturePrior,
    GaussianPrior,
    Prior,
    ScorePrior,
    SubVPSDE,
)
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig
from scoresde.priors.shared_mixture import SharedMixturePrior
from scoresde.priors.tiled import TiledPrior
from solvers import DDIM, MMPS, log_likelihood
from tests.conftest import F64, randn, seeded

SDES: dict[str, SDE] = {
    "VP": VPSDE(),
    "sub-VP": SubVPSDE(),
    "cosine": CosineVPSDE(),
    "VE": VESDE(),
    "EDM": EDMSDE(),
    "flow": FlowMatchingSDE(),
}
ENDS_IN_NOISE = ("cosine", "flow")  # no signal is left at t = 1
CONFIG = UNetConfig(channels=3, widths=(8,), blocks=1, attention=(), embedding=8)
SHAPE = (3, 8, 8)
NAN, INF = float("nan"), float("inf")


def network(sde: SDE) -> ScorePrior:
    torch.manual_seed(0)
    net = UNet(CONFIG)
    torch.nn.init.normal_(net.head.weight, std=0.02)
    return ScorePrior(net, sde, SHAPE).requires_grad_(False).eval()


def gaussian(sde: SDE) -> GaussianPrior:
    return GaussianPrior(torch.zeros(SHAPE), 0.3 * torch.eye(192), sde)


def guided(sde: SDE) -> Prior:
    problem = InverseProblem(Denoising(), GaussianNoise(0.1))
    return MMPS().condition(network(sde), problem, torch.zeros(1, *SHAPE))


PRIORS: dict[str, Callable[[SDE], Prior]] = {
    "network": network,
    "tiled": lambda sde: TiledPrior(network(sde), tile=8, overlap=2),
    "averaged": lambda sde: EquivariantPrior(network(sde), "turns"),
    "counted": lambda sde: CountingPrior(network(sde)),
    "guided": guided,
    "gaussian": gaussian,
    "counted gaussian": lambda sde: CountingPrior(gaussian(sde)),
}
each_prior = pytest.mark.parametrize("name", PRIORS)
each_sde = pytest.mark.parametrize("kind", SDES)
X = (randn(2, *SHAPE) / 3).float()


def forms(t: float) -> list[Tensor | float]:
    """A time as a number, one tensor, and among times of a batch that are right."""
    middle = 0.5
    return [t, torch.tensor(t), torch.tensor([middle, t]), torch.tensor([t, middle], dtype=F64)]


@each_prior
@each_sde
class TestTimes:
    def test_outside_of_the_process(self, name: str, kind: str) -> None:
        prior = PRIORS[name](SDES[kind])
        outside = {"VE": [1.001, 500.0, INF], "EDM": [-1e-3, -INF, INF]}
        for t in outside.get(kind, [-1e-3, 1.001, 500.0, -INF, INF]):
            for method in (prior.denoise, prior.score):
                for time in forms(t):
                    with pytest.raises(ValueError, match=r"run from .* to .*, got t|finite number"):
                        method(X, time)

    def test_no_number(self, name: str, kind: str) -> None:
        prior = PRIORS[name](SDES[kind])
        for time in forms(NAN):
            with pytest.raises(ValueError, match="nan"):
                prior.denoise(X, time)
        for bad in ("soon", None, True):
            with pytest.raises(ValueError, match="the time must be a finite number"):
                prior.denoise(X, bad)  # type: ignore[arg-type]

    def test_where_there_is_no_noise(self, name: str, kind: str) -> None:
        """The denoiser at t = 0 returns x_t, and there is no score."""
        prior = PRIORS[name](SDES[kind])
        if kind == "VE":
            assert bool(torch.isfinite(prior.score(X, 0.0)).all())
            return
        for time in forms(0.0):
            with pytest.raises(ValueError, match=r"adds no noise at t = 0, take .* t_min = 0\.00"):
                prior.score(X, time)
        torch.testing.assert_close(prior.denoise(X, 0.0), X, rtol=1e-5, atol=1e-6)

    def test_where_there_is_no_signal(self, name: str, kind: str) -> None:
        """A closed form gives the mean of the data there, a network divides by zero."""
        prior = PRIORS[name](SDES[kind])
        if kind not in ENDS_IN_NOISE or "gaussian" in name:
            D = prior.denoise(X, 1.0)
            assert bool(torch.isfinite(D).all())
            if kind in ENDS_IN_NOISE:
                torch.testing.assert_close(D, torch.zeros_like(D), rtol=0, atol=1e-6)
            return
        for time in forms(1.0):
            with pytest.raises(ValueError, match=r"no signal at t = 1, take .* t_max = 0\.999"):
                prior.denoise(X, time)

    def test_all_times_between_work(self, name: str, kind: str) -> None:
        prior, sde = PRIORS[name](SDES[kind]), SDES[kind]
        for t in torch.linspace(sde.t_min, sde.t_max, 5, dtype=F64).tolist():
            for method in (prior.denoise, prior.score):
                assert bool(torch.isfinite(method(X, t)).all())


def test_times_within_torch_func_are_not_looked_at() -> None:
    prior = gaussian(VPSDE())
    times = torch.tensor([0.2, 0.7], dtype=F64)
    found = torch.vmap(lambda x, t: prior.denoise(x[None], t)[0])(X.double(), times)
    torch.testing.assert_close(found, prior.denoise(X.double(), times))


@each_prior
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 1, 8, 8), r"\(3, .*, x_t has \(1, 8, 8\) without its batch"),
        (torch.zeros(2, 4, 8, 8), r"\(3, .*, x_t has \(4, 8, 8\) without its batch"),
        (torch.zeros(3, 8, 8), r"\(3, .*, x_t has \(8, 8\) without its batch"),
        (torch.zeros(2, 192), r"\(3, .*, x_t has \(192,\) without its batch"),
        (torch.zeros(2, 3, 0, 8), r"\(3, .*, x_t has \(3, 0, 8\) without its batch"),
        (
            torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
            "real floating-point tensors, got torch.uint8",
        ),
        (torch.zeros(2, 3, 8, 8, dtype=torch.complex64), "real floating-point.*complex64"),
        ([0.0], "real floating-point tensors, got list"),
        (torch.zeros(2, 3, 8, 8, device="meta"), "x_t is on meta, the prior on cpu"),
    ],
)
def test_other_samples_are_refused(name: str, bad: Tensor, message: str) -> None:
    prior = PRIORS[name](VPSDE())
    for method in (prior.denoise, prior.score):
        with pytest.raises(ValueError, match=message):
            method(bad, 0.5)


def test_other_numbers_of_times_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one for each of the 2 samples, got shape \(3,\)"):
        gaussian(VPSDE()).denoise(X, torch.full((3,), 0.5))


def test_images_of_any_size_and_vectors_of_one() -> None:
    assert network(VPSDE()).denoise(torch.zeros(1, 3, 5, 7), 0.5).shape == (1, 3, 5, 7)
    vectors = ScorePrior(Perceptron(PerceptronConfig(size=4, widths=(8,))), VPSDE(), (4,))
    with pytest.raises(ValueError, match=r"shape \(4,\), x_t has \(5,\)"):
        vectors.denoise(torch.zeros(1, 5), 0.5)
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\), x_t has \(3, 9, 8\)"):
        gaussian(VPSDE()).denoise(torch.zeros(1, 3, 9, 8), 0.5)


HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
class TestHalfPrecision:
    @each_prior
    def test_samples_are_computed_in_more(self, name: str, half: torch.dtype) -> None:
        """What is given in half precision is the result for the same numbers, rounded once."""
        prior = PRIORS[name](VPSDE())
        wide = F64 if "gaussian" in name else torch.float32
        for method in (prior.denoise, prior.score):
            found = method(X.to(half), 0.3)
            expected = method(X.to(half).to(wide), 0.3)
            assert found.dtype == half
            assert torch.equal(found, expected.to(half))

    def test_weights_of_half_precision_work(self, half: torch.dtype) -> None:
        """Samplers run in float32, and the draws are those of the rounded weights, nearly."""
        prior = network(EDMSDE())
        rounded = copy.deepcopy(prior).to(half)
        assert rounded.dtype == torch.float32
        exact = copy.deepcopy(rounded).float()
        found = DDIM(5).sample(rounded, 2, generator=seeded())
        expected = DDIM(5).sample(exact, 2, generator=seeded())
        assert found.dtype == torch.float32
        # Two roundings of the network's input, features and output, with at most sigma_data = 0.5
        # of c_out in front, added over five steps
        torch.testing.assert_close(
            found, expected, rtol=0, atol=5 * 2 * 0.5 * torch.finfo(half).eps * 4
        )

    def test_closed_forms_sample_as_in_float32(self, half: torch.dtype) -> None:
        """Half precision once made the first time of flow matching 1, where nothing is left."""
        mixture = GaussianMixturePrior(
            torch.ones(2), randn(2, 4), 0.1 * torch.eye(4).expand(2, 4, 4), FlowMatchingSDE()
        )
        single = copy.deepcopy(mixture).float()
        found = DDIM(20).sample(copy.deepcopy(mixture).to(half), 3, generator=seeded())
        assert torch.equal(found, DDIM(20).sample(single, 3, generator=seeded()))


@pytest.mark.parametrize("given", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("own", [torch.float32, F64], ids=str)
def test_mixed_precision_is_that_of_the_samples(own: torch.dtype, given: torch.dtype) -> None:
    """A network computes in the precision of its weights, everything else in that of x_t."""
    for prior in (network(EDMSDE()), gaussian(EDMSDE())):
        converted = copy.deepcopy(prior).to(own)
        found = converted.denoise(X.to(given), 0.4)
        assert found.dtype == given
        expected = copy.deepcopy(prior).double().denoise(X.double(), 0.4)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


class TestMixtures:
    def test_a_singular_one_needs_noise(self) -> None:
        prior = GaussianPrior(torch.zeros(2), torch.diag(torch.tensor([1.0, 0.0])))
        x = torch.ones(1, 2, dtype=F64)
        for attempt in (
            lambda: prior.denoise(x, 0.0),
            lambda: prior.log_prob(x, 0.0),
        ):
            with pytest.raises(ValueError, match="EDMSDE adds no noise at t = 0"):
                attempt()
        for attempt in (lambda: prior.log_prob(x), lambda: prior.responsibilities(x)):
            with pytest.raises(ValueError, match="mixture with a singular covariance has no"):
                attempt()
        assert bool(torch.isfinite(prior.denoise(x, 0.1)).all())

    @pytest.mark.parametrize(
        ("attempt", "message"),
        [
            (lambda p: p.sample(0), "number of draws must be a whole number of at least 1, got 0"),
            (lambda p: p.sample(2.5), "number of draws .*got 2.5"),
            (lambda p: p.log_prob(torch.zeros(1, 3)), r"shape \(B, \*\(2,\)\), got \(1, 3\)"),
            (lambda p: p.log_prob(torch.zeros(1, 2), -1.0), "run from 0 to inf, got t = -1"),
            (lambda p: p.log_prob(torch.zeros(1, 2).int()), "real floating-point"),
            (
                lambda p: GaussianMixturePrior(torch.ones(1), [[0.0, 0.0]], torch.eye(2)[None]),
                "means of a mixture are a tensor of real numbers",
            ),
            (
                lambda p: GaussianMixturePrior(
                    torch.tensor([1.0, INF]), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2)
                ),
                "weights of a mixture must be positive and finite",
            ),
            (
                lambda p: SharedMixturePrior(torch.ones(1), torch.zeros(1, 2), NAN),
                "variance of a mixture must be positive, got nan",
            ),
            (
                lambda p: SharedMixturePrior(torch.ones(1), torch.zeros(1, 2), 1.0, torch.ones(3)),
                r"rows of a shared mixture .*\(r, 2\), got \(3,\)",
            ),
        ],
    )
    def test_bad_arguments_are_named(
        self, attempt: Callable[[GaussianPrior], object], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            attempt(GaussianPrior(torch.zeros(2), torch.eye(2)))


def test_likelihoods_name_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 8, 8\).*got \(2, 1, 8, 8\)"):
        log_likelihood(network(VPSDE()), torch.zeros(2, 1, 8, 8))
