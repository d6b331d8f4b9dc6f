r"""The residual check: can the measurement be what it is said to be?

If x is a draw of the posterior p(x | y) of the right problem, then (x, y) has the same law as
(truth, y). Every statistic of y and x therefore has the law that it has for the truth, on average
over measurements. For Gaussian noise of variance :math:`\sigma^2` on m observed entries

.. math:: E\, |y - A x|^2 = m \sigma^2 , \qquad T = |y - A x|^2 / (m \sigma^2) \approx 1 \pm
          \sqrt{2/m} .

The mean :math:`\bar y` of n predictions :math:`A x_i` is closer to y, because the draws scatter:

.. math:: E\, |y - \bar y|^2 = m \sigma^2 - (1 - \tfrac1n)\, E\, \mathrm{tr}\, A V A^T ,
          \qquad \mathrm{tr}\, A V A^T \approx \frac1{n-1} \sum_i |A x_i - \bar y|^2 .

The two say the same, since for any numbers

.. math:: \frac1n \sum_i |y - A x_i|^2 = |y - \bar y|^2 + \frac1n \sum_i |A x_i - \bar y|^2 .

Hence the test is made on the draws, and the mean is reported with its expectation. Of a single
estimate (hqs, pnp-admm) the residual may be anything up to about :math:`m \sigma^2`, and only its
upper side can be judged.

With :math:`10^5` entries T scatters by 0.4 %, while priors are learned and solvers approximate: at
sigma 0.05 right inputs have 0.2 to 3 (benchmarks/results/residual.md). A test at its nominal level
would always warn. The limits here are those that right inputs do not pass, and where the misfit of
a solver and that of a wrong input are alike, the shape of the residual decides (``evidence``).

The law of the residual is known better along single directions. ``scores`` tests the level of the
noise, widths, angles, boundaries, shifts and clipped highlights, each against the spread that the
posterior itself has along it. Where the draws are exact these tests have their nominal level; of
learned priors only those of the operator are used, at twice the threshold
(benchmarks/results/model_check.md).

What the residual cannot see: a wrong input under which some other picture explains the measurement.
The restoration is then wrong and consistent. Two such inputs show in what is known of photographs:
noise that is stated too small, which the draws keep as texture (``seen_noise``), and a kernel that
is too narrow (``seen_width``). A scale of super-resolution that is too small does not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from problems.random_numbers import BALANCED_SIGNS
from problems.storage import release
from scoresde.evaluation.residual.evidence import Evidence, gather
from scoresde.evaluation.residual.outliers import distances, outlying
from scoresde.evaluation.residual.scores import Score, score_tests
from scoresde.evaluation.residual.seen_noise import SeenNoise, seen_noise
from scoresde.evaluation.residual.seen_width import SeenWidth, seen_width
from scoresde.evaluation.residual.statistic import misfits
from scoresde.evaluation.residual.suspects import Finding, Known, Scene, suspect
from scoresde.evaluation.residual.values import Values
from scoresde.evaluation.residual.windows import Windows
from scoresde.priors.base import Prior

__all__ = ["ResidualCheck", "check_residual"]


@dataclass(frozen=True)
class ResidualCheck:
    """How the residual of the draws compares with the noise that was stated.

    Args:
        ratio: T, the squared residual of a typical draw over that of the noise; 1 is expected, and
            NaN if no draw is finite.
        ratios: T of each draw; NaN where it is not finite.
        scatter: Standard deviation of T for exact draws.
        mean_ratio: Squared residual of the mean prediction over that of the noise.
        mean_expected: What it would be if the draws were exact and scatter as they do.
        entries: Number m of observed entries of y that were looked at.
        evidence: What the residual looks like; None if no draw is finite.
        distances: Root mean square distance of each draw from the median draw; infinite for draws
            that are not finite.
        outliers: Numbers of the draws, from 0, that lie far from the others.
        scores: Along which departures from the stated problem y pulls, the largest z first; () if
            the noise is not Gaussian or there are fewer than 4 draws.
        seen_noise: The noise of a picture by the denoiser; None without a prior, and where the
            noise is not seen directly.
        seen_width: The width of the kernel by the spectrum of y; None without a prior, and where
            there is no kernel or the picture is small.
        findings: What cannot be right, the most telling first; () if nothing was found.
    """

    ratio: float
    ratios: tuple[float, ...]
    scatter: float
    mean_ratio: float
    mean_expected: float
    entries: int
    evidence: Evidence | None
    distances: tuple[float, ...]
    outliers: tuple[int, ...]
    scores: tuple[Score, ...]
    seen_noise: SeenNoise | None
    seen_width: SeenWidth | None
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each finding, with what to suspect."""
        return tuple(finding.message for finding in self.findings)

    def report(self) -> dict[str, Any]:
        """Give the result in plain values that JSON can hold.

        Returns:
            Numbers by name, None where there is none, and the findings. Draws count from 1, as the
            files of the draws do.
        """
        evidence = self.evidence
        return {
            "ratio": _plain(self.ratio),
            "ratios": [_plain(ratio) for ratio in self.ratios],
            "expected": 1.0,
            "expected_scatter": _plain(self.scatter),
            "mean_ratio": _plain(self.mean_ratio),
            "mean_expected": _plain(self.mean_expected),
            "entries": self.entries,
            "correlation": None if evidence is None else _plain(evidence.correlation),
            "finest_details": None if evidence is None else _plain(evidence.details),
            "distances": [_plain(distance) for distance in self.distances],
            "outliers": [i + 1 for i in self.outliers],
            "scores": [
                {"kind": one.kind, "of": one.words, "z": _plain(one.z)} for one in self.scores
            ],
            "seen_noise": None
            if self.seen_noise is None
            else {
                "at_stated": _plain(self.seen_noise.stated),
                "at_louder": _plain(self.seen_noise.louder),
                "louder": _plain(self.seen_noise.factor),
            },
            "seen_width": None
            if self.seen_width is None
            else {
                "factor": _plain(self.seen_width.factor),
                "nats": _plain(self.seen_width.nats),
                "added_variance": _plain(self.seen_width.added),
            },
            "warnings": [{"kind": one.kind, "message": one.message} for one in self.findings],
        }


def check_residual(
    problem: InverseProblem,
    y: Tensor,
    draws: Tensor,
    *,
    range_known: bool = False,
    sigma_stated: bool = True,
    faithful: bool = False,
    exact: bool = False,
    balanced: bool = False,
    prior: Prior | None = None,
    window: bool = False,
    generator: torch.Generator | None = None,
) -> ResidualCheck:
    """Check whether the draws explain the measurement, and name what to suspect if they do not.

    No network is evaluated, unless a prior is given. It costs one application of the operator for
    each draw, two more for each parameter of the operator that is tested, three or four more, one
    ``solve`` (one more for each test) or at most 15 products with A A^T where the operator is
    linear, and replicates of the noise where it is not Gaussian. Of pictures above 0.7 megapixels
    windows are looked at.

    Args:
        problem: Operator and noise as they are stated.
        y: Measurement (1, ...).
        draws: Posterior draws, or one estimate, (n, 1, C, H, W) on [-1, 1]. Draws of one channel
            stand for grey pictures with that channel in all channels of the operator.
        range_known: True if the values of y are known to have the right range, because y was
            simulated or read from a file of 8 bits. Pictures on [0, 1] are then not suspected.
        sigma_stated: False if the noise is a default and not a statement of the user. Less noise
            than that is then no finding.
        faithful: True if the solver aims at the law of the posterior (its ``exactness`` is
            "gaussian" or "asymptotic"). The residuals of other solvers may be far below
            the noise, or a few times above it and just as white: less is concluded from them.
        exact: True if the draws are known to have the law of the posterior: a closed form, or a
            sampler and a prior that are verified. Everything is then judged at the level of the
            score tests (``scores``), of which right problems fail at most 2 %.
        balanced: True if the noise of every four draws sums to zero (``balanced`` of the solver).
            The spread of the draws is then that within such groups, without those that are not
            whole.
        prior: Prior of the picture, with as many channels as the draws have. Where pixels are seen
            with noise (denoising, inpainting), its denoiser then tells whether that noise is as
            large as stated, which draws do not show (``seen_noise``). It is taken for a prior of
            photographs: where y is blurred, its spectrum tells whether the kernel is as wide as
            stated (``seen_width``).
        window: True if y is a window of a larger picture. It may lie out of focus, so that the
            width of the kernel is not looked at.
        generator: Random numbers for noises that are not Gaussian; None for a fixed seed.

    Returns:
        The result.

    Raises:
        ValueError: If the shapes do not fit, y has entries that are not finite, or the noise is 0.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde.evaluation.residual import check_residual
        >>> g = torch.Generator().manual_seed(0)
        >>> truth = 0.5 * torch.randn(1, 1, 64, 64, generator=g).clamp(-2, 2)
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.2))
        >>> y = problem.measure(truth, g)
        >>> shrunk, std = y * 0.25 / 0.29, (0.25 * 0.04 / 0.29) ** 0.5  # the posterior of N(0, 1/4)
        >>> draws = shrunk + std * torch.randn(8, 1, 1, 64, 64, generator=g)
        >>> check = check_residual(problem, y, draws)
        >>> abs(check.ratio - 1) < 0.1, check.warnings
        (True, ())
    """
    x = _pictures(problem, y, draws)
    y = problem.operator.mask_unobserved(y)
    if not bool(torch.isfinite(y).all()):
        raise ValueError(
            f"{int((~torch.isfinite(y)).sum())} observed entries of the measurement are not "
            "finite; leave them out with a mask"
        )
    seen, part, of_x = problem.operator.observed(y), Windows.of(y, problem.noise), Windows.of(x[0])
    looked = _looked_at(x, of_x)
    found = distances(looked)
    finite = torch.isfinite(found).nonzero()[:, 0].tolist()
    if not finite:
        return _nothing_finite(x, int(seen.sum()))
    generator = generator or torch.Generator().manual_seed(0)
    far = outlying(found)
    kept = [i for i in finite if i not in far]
    predictions, mean = _predictions(problem, x, finite, kept, part)
    y_part, seen_part = part(y), part(seen)
    result = misfits(problem, y_part, predictions, generator, seen_part)
    among = [finite.index(i) for i in kept]
    typical = _mean(x, kept)
    evidence = gather(problem, y, mean, typical, seen, generator, part)
    ratio = float(result.ratios[among].median())
    mean_ratio = float(misfits(problem, y_part, part(mean), generator, seen_part).ratios)
    scatter = float(result.ratios[among].mean()) - mean_ratio
    known = Known(
        range_known=range_known,
        sigma_stated=sigma_stated and not problem.operator.quantises,
        several=len(kept) > 1,
        faithful=faithful or exact,
        masked=not bool(seen.all()),
        exact=exact,
    )
    values = Values.of(looked, of_x(typical), far, found)
    pictures = [x[i] for i in kept]
    groups = _groups(kept) if balanced else None
    scores = score_tests(problem, y, pictures, predictions[among], seen, part, groups)
    noise = None
    if prior is not None and ((known.faithful and known.several) or not known.masked):
        noise = seen_noise(problem, y, draws[kept[0]], prior)
    width = None if prior is None or known.masked or window else seen_width(problem, y)
    scene = Scene(
        problem, ratio, scatter, result.entries, evidence, values, scores, known, noise, width
    )
    ratios = torch.full((len(x),), math.nan, dtype=torch.float64)
    ratios[finite] = result.ratios
    return ResidualCheck(
        ratio=ratio,
        ratios=tuple(ratios.tolist()),
        scatter=result.scatter,
        mean_ratio=mean_ratio,
        mean_expected=1 - scatter,
        entries=result.entries,
        evidence=evidence,
        distances=tuple(found.tolist()),
        outliers=far,
        scores=scores,
        seen_noise=noise,
        seen_width=width,
        findings=suspect(scene),
    )


def _pictures(problem: InverseProblem, y: Tensor, draws: Tensor) -> Tensor:
    """The draws as the operator takes them."""
    if y.ndim < 2 or len(y) != 1:
        raise ValueError(f"one measurement (1, ...) is needed, got shape {tuple(y.shape)}")
    shape = problem.input_shape(y)
    if draws.ndim < 2 or not len(draws) or draws.shape[1] != 1:
        raise ValueError(f"draws (n, 1, C, H, W) are needed, got shape {tuple(draws.shape)}")
    x = draws.detach().to(y)
    if tuple(draws.shape[2:]) == tuple(shape):
        return x
    if draws.ndim == 5 and draws.shape[2] == 1 and draws.shape[3:] == shape[1:]:
        return x.expand(-1, -1, shape[0], -1, -1)
    raise ValueError(
        f"the operator takes pictures of shape {tuple(shape)}, the draws have "
        f"{tuple(draws.shape[2:])}"
    )


def _looked_at(x: Tensor, part: Windows) -> Tensor:
    """The windows of the draws; those of a draw that has lost a value anywhere are lost."""
    if part.all:
        return x
    found = torch.stack([part(one) for one in x])
    for i, one in enumerate(x):
        if not bool(torch.isfinite(one).all()):
            found[i] = torch.nan
        release(one)
    return found


def _predictions(
    problem: InverseProblem, x: Tensor, finite: list[int], kept: list[int], part: Windows
) -> tuple[Tensor, Tensor]:
    """Windows of A x of the finite draws, and the mean of A x, (1, ...), of the kept ones."""
    predictions, total = [], None
    for i in finite:
        prediction = problem.operator.apply(x[i])
        predictions.append(part(prediction))
        if i in kept:
            total = prediction.clone() if total is None else total.add_(prediction)
        release(x)
    assert total is not None
    return torch.cat(predictions), total.div_(len(kept))


def _groups(kept: list[int]) -> list[list[int]]:
    """Where among the kept draws the whole groups are."""
    place = {number: position for position, number in enumerate(kept)}
    size = len(BALANCED_SIGNS)
    groups = [range(i, i + size) for i in kept if i % size == 0]
    return [[place[i] for i in group] for group in groups if all(i in place for i in group)]


def _mean(x: Tensor, kept: list[int]) -> Tensor:
    total = torch.zeros_like(x[0])
    for i in kept:
        total += x[i]
        release(x)
    return total.div_(len(kept))


def _nothing_finite(x: Tensor, entries: int) -> ResidualCheck:
    """The result where all draws are lost."""
    finding = Finding(
        "solver", "no draw has finite values: the solver diverged; try more --steps or another"
    )
    nan = math.nan
    return ResidualCheck(
        nan,
        (nan,) * len(x),
        nan,
        nan,
        nan,
        entries,
        None,
        (math.inf,) * len(x),
        (),
        (),
        None,
        None,
        (finding,),
    )


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
