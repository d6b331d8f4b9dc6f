"""Where a search for a kernel begins, and what is said where nothing can be found."""

import pytest
import torch
from torch import Tensor

from problems import Blur, DiskBlur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from scoresde.estimation import unknown_kernel
from scoresde.estimation.blur import motions
from scoresde.estimation.free_kernel import KernelEstimate
from scoresde.estimation.spectral_start import best_starts
from scoresde.estimation.unknown_kernel import estimate_kernel, first_kernels
from tests.conftest import seeded
from tests.fields import power_law_field


@pytest.mark.slow
@pytest.mark.parametrize(
    "true", [GaussianBlur(1.6), DiskBlur(3), MotionBlur(9, 30.0), MotionBlur(13, 100.0)], ids=repr
)
def test_the_spectrum_shows_the_kernel(true: GaussianBlur | DiskBlur | MotionBlur) -> None:
    right = 0
    for number in range(4):
        y = true.apply(power_law_field(number, 64)) + 0.01 * torch.randn(
            1, 3, 64, 64, generator=seeded(9)
        )
        right += repr(best_starts(y, 0.01, first_kernels(15), 1)[0].taps) == repr(true.taps)
    assert right >= 3


@pytest.mark.slow
@pytest.mark.parametrize("true", [MotionBlur(15, 45.0), MotionBlur(18, 93.0)], ids=repr)
def test_long_lines_have_directions_in_between(true: MotionBlur) -> None:
    """From lines every 10 degrees they are taken for others of half their length."""
    right = 0
    for number in range(3):
        y = true.apply(power_law_field(number, 144)) + 0.01 * torch.randn(
            1, 3, 144, 144, generator=seeded(9)
        )
        found = best_starts(y, 0.01, motions(30.0), 1)[0]
        assert isinstance(found, MotionBlur)
        right += (found.length, found.angle) == (true.length, true.angle)
    assert right >= 2


def test_there_has_to_be_a_kernel() -> None:
    with pytest.raises(ValueError, match="no kernel to begin with"):
        best_starts(power_law_field(0, 64), 0.01, [], 1)


@pytest.mark.parametrize("side", [3, 5, 15, 31])
def test_first_kernels_fit(side: int) -> None:
    assert max(one.taps.shape[-1] for one in first_kernels(side)) <= side


@pytest.mark.parametrize(
    ("y", "size", "message"),
    [
        (torch.zeros(1, 3, 64, 64), 8, "must be odd, got 8"),
        (torch.zeros(1, 3, 64, 64), 41, "at most 31"),
        (torch.zeros(1, 3, 40, 64), 15, "at least 45 pixels a side"),
        (torch.zeros(1, 64), 5, "at least 32 pixels a side"),
    ],
)
def test_what_cannot_be_estimated(y: Tensor, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_kernel(y, None, 0.02, size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (GaussianBlur(0.3, truncate=8.0).kernel, "the picture shows no blur"),
        (torch.full((7, 7), 1 / 49), "49% of the estimated kernel of 7x7 lie in its outermost"),
    ],
)
def test_kernels_that_are_no_answer(
    kernel: Tensor, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = InverseProblem(Blur(kernel, "reflect"), GaussianNoise(0.02))
    found = KernelEstimate(kernel.double(), 0.1, 0.02, "", (1.0,), problem)
    monkeypatch.setattr(unknown_kernel, "kernels_by_splitting", lambda *_: [])
    monkeypatch.setattr(unknown_kernel, "kernel_by_em", lambda *_, **__: found)
    monkeypatch.setattr(unknown_kernel, "best_starts", lambda *_: [problem.operator])
    with pytest.raises(ValueError, match=message):
        estimate_kernel(power_law_field(0, 64), None, 0.02, size=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("better", [False, True])
def test_a_line_is_kept_if_the_free_kernel_explains_no_more(
    better: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A free kernel of hundreds of taps follows the noise of a small picture."""
    line = MotionBlur(9, 30.0, "reflect")
    side = line.taps.shape[-1]
    bent = torch.zeros(side, side, dtype=torch.float64)
    bent[1:-1, 2] = bent[1, 2:-1] = 1
    bent /= bent.sum()
    free = torch.rand(side, side, generator=seeded(2)).double()
    free = bent if better else 0.5 * line.taps[0].double() + 0.5 * free / free.sum()
    true = Blur(bent, "reflect") if better else line
    y = true.apply(power_law_field(0, 64)) + 0.01 * torch.randn(1, 3, 64, 64, generator=seeded(9))
    problem = InverseProblem(Blur(free, "reflect"), GaussianNoise(0.01))
    found = KernelEstimate(free, 0.1, 0.01, "", (1.0,), problem)
    monkeypatch.setattr(unknown_kernel, "kernels_by_splitting", lambda *_: [])
    monkeypatch.setattr(unknown_kernel, "kernel_by_em", lambda *_, **__: found)
    monkeypatch.setattr(unknown_kernel, "best_starts", lambda *_: [line])
    kept = estimate_kernel(y, None, 0.01, size=side)  # type: ignore[arg-type]
    expected = free if better else line.taps[0].double()
    torch.testing.assert_close(kept.kernel, expected)
    operator = kept.problem.operator
    assert isinstance(operator, Blur)
    torch.testing.assert_close(operator.taps[0].double(), expected, rtol=0, atol=1e-6)
