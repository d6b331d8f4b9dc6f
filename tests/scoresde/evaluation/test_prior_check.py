"""The check of priors: every classic mistake is made on purpose and named, right priors pass.

The priors are exact, so the right answer is known: Gaussian pictures with a power-law spectrum and
correlated colours, and a mixture in the plane. A mistake is made by a wrapper that does what a user
would do wrong, in the words of the network: its units, its steps, its prediction.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scoresde import EDMSDE, SDE, VPSDE, GaussianMixturePrior, GaussianPrior, Prior
from scoresde.data.images import write_image
from scoresde.evaluation.prior_check import (
    OUTPUTS,
    SCHEDULES,
    Denoiser,
    PriorCheck,
    Schedule,
    Wiener,
    check_prior,
    linear_denoised,
    noise_levels,
)
from scoresde.evaluation.prior_check.repairs import repairs
from scoresde.pipelines import devices, prior_check
from scoresde.pipelines.prior_check import accepted_sizes, look_over, samples_like
from tests.commands import run
from tests.conftest import F64, randn, seeded
from tests.pages import parsed


class Pictures(Prior):
    """Gaussian pictures of any size: spectrum 1/f^6, channels of different means and variances.

    The covariance is the product of that of the colours and that of places on a torus.
    """

    def __init__(self, side: int = 16, sde: SDE | None = None) -> None:
        super().__init__(sde or EDMSDE(), (3, side, side))
        colour = 0.2 * torch.tensor([[1.0, 0.7, 0.4], [0.7, 0.8, 0.5], [0.4, 0.5, 0.6]], dtype=F64)
        lam, Q = torch.linalg.eigh(colour)
        f = torch.fft.fftfreq(side, dtype=F64) * side
        power = (1 + f[:, None] ** 2 + f**2) ** -3.0
        self.register_buffer("Q", Q)
        self.register_buffer("variances", lam[:, None, None] * power / power.mean())
        mean = torch.tensor([0.1, 0.0, -0.2], dtype=F64)[:, None, None].expand(self.shape)
        self.register_buffer("mean", mean.contiguous())

    def _filtered(self, x: Tensor, gain: Tensor) -> Tensor:
        X = gain * torch.fft.fft2(torch.einsum("ck,nchw->nkhw", self.Q, x))
        return torch.einsum("ck,nkhw->nchw", self.Q, torch.fft.ifft2(X).real)

    def at(self, u: Tensor, s: float) -> Tensor:
        gain = self.variances / (self.variances + s**2)
        return self.mean + self._filtered(u - self.mean, gain)

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.at(x_t / self.sde.alpha(t[0]), float(self.sde.noise_to_signal(t[0])))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, *self.shape, dtype=F64, generator=generator)
        return self.mean + self._filtered(z, self.variances.sqrt())

    def error(self, s: float) -> float:
        """The mean squared error of the denoiser, the sum of its posterior variances."""
        return float((self.variances * s**2 / (self.variances + s**2)).sum())


def plane() -> GaussianMixturePrior:
    means = torch.tensor([[-0.6, 0.2], [0.5, 0.5], [0.2, -0.7]], dtype=F64)
    covariances = 0.02 * torch.eye(2, dtype=F64).expand(3, 2, 2)
    return GaussianMixturePrior(torch.tensor([0.5, 0.3, 0.2]), means, covariances)


Denoise = Callable[[Tensor, float], Tensor]
Rule = Callable[[Denoise, Tensor, float], Tensor]


class Connected(Prior):
    """The denoiser that a user gets who connects a network by the given rule.

    The network is exact: it is the denoiser of ``prior`` in other terms.
    """

    def __init__(self, prior: Pictures, rule: Rule) -> None:
        super().__init__(EDMSDE(sigma_min=0.002, sigma_max=80.0), prior.shape)
        self.prior, self.rule = prior, rule

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.rule(self.prior.at, x_t, float(t[0]))


def in_units(low: float, high: float) -> Callable[[Denoise], Denoise]:
    """A network whose values are on [low, high], and its noise level in these units."""
    scale, offset = (high - low) / 2, (high + low) / 2

    def network(D: Denoise) -> Denoise:
        return lambda w, sigma: scale * D((w - offset) / scale, sigma / scale) + offset

    return network


def taken_for(right: tuple[float, float], assumed: tuple[float, float]) -> Rule:
    """Values of the network on ``right``, converted as if they were on ``assumed``."""
    scale, offset = (assumed[1] - assumed[0]) / 2, (assumed[1] + assumed[0]) / 2

    def rule(D: Denoise, u: Tensor, s: float) -> Tensor:
        return (in_units(*right)(D)(scale * u + offset, scale * s) - offset) / scale

    return rule


def read_as(right: str, assumed: str) -> Rule:
    def rule(D: Denoise, u: Tensor, s: float) -> Tensor:
        return OUTPUTS[assumed].denoised(u, OUTPUTS[right].predicted(u, D(u, s), s), s)

    return rule


def told_step(which: Callable[[float], float], output: str, schedule: int) -> Rule:
    """A network of 1000 steps that is told another one than that of its input."""
    steps, kind = SCHEDULES[schedule], OUTPUTS[output]

    def network(x_t: Tensor, index: float, D: Denoise) -> Tensor:
        s = steps.level(min(max(index, 0), 999))
        assert s is not None
        u = x_t / kind.alpha(s)
        return kind.predicted(u, D(u, s), s)

    def rule(D: Denoise, u: Tensor, s: float) -> Tensor:
        last = steps.level(999)
        assert last is not None
        index = steps.index(s)
        if index is None:  # the steps end at these levels
            index = 0.0 if s < 1 else 999.0
        return kind.denoised(u, network(kind.alpha(s) * u, which(index), D), s)

    return rule


def swapped(before: bool, after: bool) -> Rule:
    def rule(D: Denoise, u: Tensor, s: float) -> Tensor:
        found = D(u.flip(1) if before else u, s)
        return found.flip(1) if after else found

    return rule


UNIT, SIGNED, BYTES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)

MISTAKES: dict[str, tuple[Rule, str, str]] = {
    "[0,1] taken for [-1,1]": (taken_for(UNIT, SIGNED), "range", "takes values on [0, 1]"),
    "[-1,1] taken for [0,1]": (taken_for(SIGNED, UNIT), "range", "takes values on [-1, 1]"),
    "[0,255] taken for [-1,1]": (taken_for(BYTES, SIGNED), "range", "takes values on [0, 255]"),
    "[0,255] taken for [0,1]": (taken_for(BYTES, UNIT), "range", "takes values on [0, 255]"),
    "one step late": (told_step(lambda i: i + 1, "eps", 0), "step", "one step too late"),
    "one step early": (told_step(lambda i: i - 1, "eps", 0), "step", "one step too early"),
    "one step late, v": (told_step(lambda i: i + 1, "v", 0), "step", "one step too late"),
    "one step late, cosine": (told_step(lambda i: i + 1, "eps", 2), "step", "one step too late"),
    "64 steps late": (told_step(lambda i: i + 64, "eps", 0), "step", "64 steps too late"),
    "100 steps early": (told_step(lambda i: i - 100, "x0", 0), "step", "100 steps too early"),
    "reversed steps": (told_step(lambda i: 999 - i, "eps", 0), "step", "in reverse"),
    "eps taken for v": (read_as("eps", "v"), "prediction", "predicts eps and is read as v"),
    "v taken for eps": (read_as("v", "eps"), "prediction", "predicts v and is read as eps"),
    "x0 taken for eps": (read_as("x0", "eps"), "prediction", "predicts x0 and is read as eps"),
    "eps taken for x0": (read_as("eps", "x0"), "prediction", "predicts eps and is read as x0"),
    "score taken for eps": (read_as("score", "eps"), "prediction", "predicts score"),
    "sigma / 2": (lambda D, u, s: D(u, s / 2), "sigma", "half as large"),
    "sigma of [-1,1] for [0,1]": (lambda D, u, s: D(u, 2 * s), "sigma", "twice as large"),
    "sigma in units of 255": (lambda D, u, s: D(u, 255 * s), "sigma", "255 times too large"),
    "sigma of 8 bits": (lambda D, u, s: D(u, 127.5 * s), "sigma", "127.5 times too large"),
    "sigma of [0,1] for 8 bits": (lambda D, u, s: D(u, s / 255), "sigma", "255 times too small"),
    "BGR": (swapped(True, True), "channels", "at its input and output: BGR"),
    "BGR in": (swapped(True, False), "channels", "at its input alone"),
    "BGR out": (swapped(False, True), "channels", "at its output alone"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str) -> None:
    rule, kind, words = MISTAKES[name]
    # where the sides are small, one step of the cosine schedule changes the error by 0.4 % only
    prior = Pictures(32 if "cosine" in name else 16)
    found = check_prior(Connected(prior, rule), prior.sample(32, seeded(1)))
    assert [one.kind for one in found.findings] == [kind], found.findings
    assert words in found.findings[0].text, found.findings


@pytest.mark.slow
@pytest.mark.parametrize("sde", [EDMSDE(), VPSDE()], ids=["EDM", "VP"])
@pytest.mark.parametrize("kind", ["pictures", "mixture", "gaussian"])
def test_right_priors_pass(kind: str, sde: SDE) -> None:
    """The probability that chance fails one of these checks is at most LEVEL, by construction."""
    prior: Pictures | GaussianMixturePrior
    if kind == "pictures":
        prior = Pictures(sde=sde)
    elif kind == "mixture":
        prior = plane().with_sde(sde)
    else:
        prior = GaussianPrior(torch.zeros(3, dtype=F64), torch.diag(torch.tensor([1.0, 0.1, 0.01])))
        prior = prior.with_sde(sde)
    found = check_prior(prior, prior.sample(64, seeded(2)))
    assert found.fine, found.findings
    for row in found.rows():
        assert row["asymmetry"] < 1e-6 and row["lowest"] > -1e-9
        assert abs(row["slope"] - 1) <= 5 * row["slope_error"] + 1e-9
        assert row["error"] <= row["linear"] * 1.1


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_stated() -> None:
    """40 checks of a right prior at a level of 1 %: more than 3 findings have probability 7e-4."""
    prior = plane()
    alarms = sum(
        not check_prior(prior, prior.sample(32, seeded(i)), seed=i, levels=4).fine
        for i in range(40)
    )
    assert alarms <= 3, alarms


@pytest.mark.slow
def test_the_numbers_of_a_level_are_those_of_theory() -> None:
    """Error and s^2 tr J of Gaussian pictures are both the sum of the posterior variances."""
    prior = Pictures(8)
    for check in check_prior(prior, prior.sample(256, seeded(3)), levels=5).levels:
        assert check.trace is not None
        for values in (check.error, check.trace):
            error = values.std() / math.sqrt(len(values))
            assert abs(float(values.mean()) - prior.error(check.s)) < 5 * float(error)


def test_the_linear_filter_is_the_best_one_for_its_samples() -> None:
    """With many samples its error is that of the exact denoiser of Gaussian pictures."""
    prior, s = Pictures(8), 0.3
    x0 = prior.sample(2000, seeded(4))
    u = x0 + s * torch.randn(x0.shape, dtype=F64, generator=seeded(5))
    error = (linear_denoised(x0, u, s) - x0).flatten(1).square().sum(1)
    # the spectrum within a shell of frequencies is not constant, so the filter is a little worse
    assert 0.98 < float(error.mean()) / prior.error(s) < 1.1
    exact = (prior.at(u, s) - x0).flatten(1).square().sum(1)
    assert float((error - exact).mean()) > 0


def test_the_linear_filter_of_vectors_uses_their_covariance() -> None:
    root = randn(3, 3, seed=6)
    prior = GaussianPrior(torch.ones(3, dtype=F64), root @ root.T)
    x = prior.sample(100_000, seeded(7))
    u = randn(10, 3, seed=8)
    filtered = Wiener.fit(x)(u, 0.7)
    assert torch.allclose(filtered, prior.denoise(u, 0.7), atol=0.03)


@pytest.mark.parametrize("s", [0.02, 0.7, 30.0])
@pytest.mark.parametrize("name", OUTPUTS)
def test_predictions_are_inverted(name: str, s: float) -> None:
    """F of the exact x_0 is what the kind is defined as, and gives x_0 back."""
    kind, x0, n = OUTPUTS[name], randn(4, 2, seed=1), randn(4, 2, seed=2)
    u, alpha = x0 + s * n, kind.alpha(s)
    sigma = alpha * s
    right = {
        "x0": x0,
        "eps": n,
        "score": -n / sigma,
        "v": alpha * n - sigma * x0,
        "velocity": n - x0,
    }[name]
    F = kind.predicted(u, x0, s)
    assert torch.allclose(F, right, rtol=1e-9, atol=1e-9)
    assert torch.allclose(kind.denoised(u, F, s), x0, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda one: one.name)
def test_steps_and_levels_are_inverses(schedule: Schedule) -> None:
    for index in (0.0, 0.5, 17.25, 998.0):
        level = schedule.level(index)
        assert level is not None and abs((schedule.index(level) or 0.0) - index) < 1e-6
    assert schedule.level(-1) is None and schedule.level(1000) is None
    assert schedule.index(1e-4) is None and schedule.index(1e7) is None


def test_a_right_repair_undoes_its_mistake() -> None:
    """At a level that the repair reaches the exact denoiser comes back to rounding."""
    prior = Pictures(8)
    u, s = prior.sample(4, seeded(9)) + 0.3 * randn(4, 3, 8, 8), 0.3
    exact = prior.at(u, s)
    for name, (rule, _, words) in MISTAKES.items():
        denoiser, errors = Denoiser(Connected(prior, rule)), []
        for repair in repairs((3, 8, 8)):
            asked = repair.question.asked(u, s) if repair.question else (u, s)
            if words in repair.mistake and asked is not None and denoiser.knows(asked[1]):
                errors.append(float((repair.repaired(u, s, denoiser(*asked)) - exact).abs().max()))
        if name != "100 steps early":  # it is among the finer repairs
            assert min(errors) < 1e-6, name


@pytest.mark.slow
def test_a_network_outside_of_its_training_is_found() -> None:
    """A denoiser of weak noise alone: what lies above its training, and what to do."""
    prior = Pictures(8)
    found = check_prior(
        Connected(prior, lambda D, u, s: D(u, s) if s < 0.5 else u), prior.sample(32, seeded(1))
    )
    texts = [one.text for one in found.findings]
    assert any("worse than a linear filter" in text and "70.8" in text for text in texts), texts
    assert not any("0.02," in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("noisy", [True, False])
def test_a_jacobian_that_is_no_covariance_is_found(noisy: bool) -> None:
    """Rotated vectors: the error grows, and the Jacobian is antisymmetric."""
    prior = GaussianPrior(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))
    angle = math.pi / 2 if noisy else 0.0
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=F64
    )

    class Turned(Prior):
        dtype = F64  # type: ignore[assignment]

        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            return prior._denoise(x_t, t) @ turn.T

    found = check_prior(Turned(EDMSDE(), (2,)), prior.sample(200, seeded(1)))
    assert ("jacobian" in {one.kind for one in found.findings}) == noisy
    assert found.fine != noisy


@pytest.mark.slow
def test_an_error_beyond_the_own_variance_is_found() -> None:
    """A posterior that is too sure: samples of three times the variance of the prior."""
    prior = GaussianPrior(torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64))
    found = check_prior(prior, 3 * prior.sample(300, seeded(1)))
    assert "calibration" in {one.kind for one in found.findings}, found.findings


@pytest.mark.slow
def test_values_that_are_not_finite_are_found() -> None:
    prior = Pictures(8)
    rule: Rule = lambda D, u, s: D(u, s) / (0 if s > 1 else 1)  # noqa: E731
    found = check_prior(Connected(prior, rule), prior.sample(16, seeded(1)))
    assert any("not finite" in one.text for one in found.findings)


@pytest.mark.slow
def test_a_prior_without_derivatives_is_checked_without_its_jacobian() -> None:
    prior = plane()

    class Opaque(Prior):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            return prior._denoise(x_t.detach(), t)

    found: PriorCheck = check_prior(Opaque(EDMSDE(), (2,)), prior.sample(64, seeded(1)))
    assert found.fine
    assert all(row["asymmetry"] is None and row["calibration"] is None for row in found.rows())


@pytest.mark.parametrize(
    ("samples", "levels", "words"),
    [
        (torch.zeros(4, 2), 13, "at least 8 samples"),
        (torch.zeros(9, 2), 13, "all the same"),
        (torch.full((9, 2), math.nan), 13, "NaN"),
        (torch.randn(9, 3), 13, "samples of shape"),
        (torch.randn(9, 2), 2, "at least 3 noise levels"),
        (1e9 * torch.randn(9, 2), 13, "check their units"),
    ],
)
def test_bad_samples_are_refused(samples: Tensor, levels: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_prior(plane(), samples, levels=levels)


def test_noise_levels_end_where_the_process_does() -> None:
    levels = noise_levels(Denoiser(plane().with_sde(EDMSDE(sigma_min=0.1, sigma_max=5.0))), 1.0)
    assert levels[0] == pytest.approx(0.1) and levels[-1] == 5.0 and len(levels) == 13


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "natural"])
def test_embedded_priors_pass(name: str) -> None:
    """With the samples that `scoresde check-prior` takes."""
    from scoresde import load_prior

    prior = load_prior(name)
    report = look_over(prior)
    assert report["findings"] == [] and report["sizes"] == "any"
    assert len(report["levels"]) == 13


@pytest.mark.slow
def test_swapped_channels_of_a_network_are_found() -> None:
    """`natural` with the channels of its input and output reversed, on photographs."""
    from scoresde import load_prior

    prior = load_prior("natural")

    class Swapped(Prior):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            return prior._denoise(x_t.flip(1), t).flip(1)

    samples = samples_like(prior, None, 0)[0]
    found = check_prior(Swapped(prior.sde, prior.shape), samples, levels=4)
    assert [one.kind for one in found.findings] == ["channels"], found.findings


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (plane(), "vectors of 2 entries"),
        (GaussianPrior(torch.zeros(1, 4, 4), torch.eye(16)), "4x4 alone"),
        (Pictures(8), "8x8 alone"),
    ],
)
def test_sizes_are_tried(prior: Prior, words: str) -> None:
    assert accepted_sizes(prior) == words


def test_sizes_that_are_multiples_are_found() -> None:
    class Halving(Prior):
        def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
            if any(side % 4 for side in x_t.shape[2:]):
                raise RuntimeError("sizes do not match")
            return x_t

    assert accepted_sizes(Halving(EDMSDE(), (1, 8, 8))) == "sides that are multiples of 4"


@pytest.mark.slow
def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 0 and 1, the table, JSON and a file, with pictures of a folder."""
    monkeypatch.setattr(prior_check, "_VALUES", 0)  # 16 samples: the mistake is a gross one
    good = Pictures(16)
    for i, x in enumerate(good.sample(12, seeded(1))):
        write_image(x.clamp(-1, 1), tmp_path / f"{i}.png")
    for name, wanted in ((None, 0), ("eps taken for v", 1)):
        prior = good if name is None else Connected(good, MISTAKES[name][0])
        monkeypatch.setattr(devices, "load_prior", lambda *_, prior=prior: prior)
        file = tmp_path / "out" / "report.json"
        command = ("check-prior", "mine", "--images", tmp_path, "--out", file)
        code, out, err = run(capsys, *command)
        assert code == wanted, out + err
        assert ("fine" in out) == (wanted == 0)
        assert name is None or "predicts eps and is read as v" in out
        page = tmp_path / "out" / "report.html"
        code, out, err = run(capsys, *command, "--json", "--report", page)
        assert code == wanted
        text = parsed(page.read_text()).text
        assert ("No findings" in text) == (wanted == 0)
        assert name is None or "predicts eps and is read as v" in text
        report = json.loads(out)
        kept = json.loads(file.read_text())
        assert report["findings"] == kept["findings"] and report["prior"] == "mine"
        assert report["kinds"] == ([] if name is None else ["prediction"])


@pytest.mark.slow
def test_bad_input_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "check-prior", "nonsense")
    assert code == 2 and "unknown prior" in err
    code, _, err = run(capsys, "check-prior", "mnist", "--report", tmp_path / "check.pdf")
    assert code == 2 and "ends with .html" in err
    code, _, err = run(capsys, "check-prior", "mnist", "--images", tmp_path / "none")
    assert code == 2 and "not a folder of images" in err
    write_image(torch.zeros(1, 5, 5), tmp_path / "small.png")
    code, _, err = run(capsys, "check-prior", "mnist", "--images", tmp_path)
    assert code == 2 and "5x5" in err
