"""A search for a kernel keeps what explains the spectrum best."""

import pytest
import torch
from torch import Tensor

from problems import Blur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from scoresde.estimation.free_kernel import ExactMoments, KernelEstimate, framed, kernel_by_em
from scoresde.estimation.kernel_choice import BestKernel
from scoresde.priors.mixture import GaussianPrior
from scoresde.spectral_evidence import SpectralEvidence
from tests.conftest import seeded
from tests.fields import power_law_field

SIDE, SIGMA = 9, 0.01


def bent() -> Tensor:
    """A path with a corner, which is no line."""
    kernel = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    kernel[1:-1, 2] = kernel[1, 2:-1] = 1
    return kernel / kernel.sum()


def flatter(share: float) -> Tensor:
    """The path, mixed with a flat kernel."""
    return (1 - share) * bent() + share / SIDE**2


def evidence() -> SpectralEvidence:
    y = Blur(bent(), "reflect").apply(power_law_field(0, 64))
    return SpectralEvidence(y + SIGMA * torch.randn(y.shape, generator=seeded(9)), SIGMA)


def found(kernel: Tensor, error: float = 0.1) -> KernelEstimate:
    problem = InverseProblem(Blur(kernel, "reflect"), GaussianNoise(SIGMA))
    return KernelEstimate(kernel, error, SIGMA, "", (1.0,), problem)


def test_a_search_that_leaves_the_right_kernel_ends_and_is_not_believed() -> None:
    best = BestKernel(evidence(), Blur(bent(), "reflect"), SIDE)
    assert [best.watch(flatter(share)) for share in (0.1, 0.2, 0.3)] == [False, False, True]
    answer = best.of(found(flatter(0.2)))
    torch.testing.assert_close(answer.kernel, bent(), rtol=0, atol=1e-7)
    apart = found(flatter(0.2)).spread - found(bent()).spread
    assert apart > 0.1 and answer.error == pytest.approx(apart, rel=1e-5)


def test_a_round_that_is_better_than_the_start_and_the_average_is_the_answer() -> None:
    best = BestKernel(evidence(), Blur(flatter(0.4), "reflect"), SIDE)
    rounds = [flatter(0.2), bent(), flatter(0.1), flatter(0.2), flatter(0.3)]
    assert [best.watch(k) for k in rounds] == [False] * 4 + [True]
    assert torch.equal(best.of(found(flatter(0.2))).kernel, bent())


def test_the_average_is_the_answer_if_it_explains_the_spectrum_best() -> None:
    best = BestKernel(evidence(), Blur(flatter(0.4), "reflect"), SIDE)
    best.watch(flatter(0.2))
    average = found(bent())
    assert best.of(average) is average


@pytest.mark.parametrize("average_is_better", [False, True])
def test_a_kernel_of_known_kind_competes_with_the_average_alone(average_is_better: bool) -> None:
    """Of many free kernels one explains the spectrum by chance."""
    line = MotionBlur(7, 30.0, "reflect")
    y = (Blur(bent(), "reflect") if average_is_better else line).apply(power_law_field(0, 64))
    y = y + SIGMA * torch.randn(y.shape, generator=seeded(9))
    best = BestKernel(SpectralEvidence(y, SIGMA), line, SIDE)
    assert not any(best.watch(flatter(0.5)) for _ in range(8))
    average = found(flatter(0.0 if average_is_better else 0.5))
    expected = bent() if average_is_better else framed(line.taps[0].double(), SIDE)
    torch.testing.assert_close(best.of(average).kernel, expected)


def test_em_ends_when_it_is_told() -> None:
    prior = GaussianPrior(torch.zeros(1, 8, 8), torch.eye(64))
    y = torch.randn(1, 1, 8, 8, generator=seeded(0))
    source, start = ExactMoments(y, prior), GaussianBlur(0.6, truncate=1.7)
    kernels: list[Tensor] = []

    def watch(kernel: Tensor) -> bool:
        kernels.append(kernel)
        return len(kernels) == 5

    answer = kernel_by_em(source, start, 3, 0.1, "reflect", rounds=16, watch=watch)
    assert len(kernels) == len(answer.path) == 5
    torch.testing.assert_close(answer.kernel, torch.stack(kernels[3:]).mean(0))
