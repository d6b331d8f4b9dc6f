r"""Phase retrieval without a learned prior: the hybrid input-output algorithm (Fienup 1982).

"Phase retrieval algorithms: a comparison". The light g is replaced in turn by

- g', which has the measured magnitudes and the phases of g, and then
- g' where g' lies in the frame and between black and white, and :math:`g - \beta g'` elsewhere,

which leaves stationary points that are no solutions. A few steps of error reduction, with zero
instead of :math:`g - \beta g'`, end the run. What comes out depends on the random phases of the
start, so that several starts are made and compared by their residuals.
"""

import torch
from torch import Tensor

from problems.checks import check_number
from problems.linalg.precision import widened
from problems.operators.phase_retrieval import PhaseRetrieval

__all__ = ["hybrid_input_output"]


def hybrid_input_output(
    operator: PhaseRetrieval,
    y: Tensor,
    start: Tensor,
    iterations: int = 150,
    reduction: int = 30,
    beta: float = 0.9,
) -> Tensor:
    """Estimate images from their magnitudes alone, between black and white.

    Args:
        operator: Magnitudes, or intensities, of the padded images.
        y: Measurements (B, C, H', W').
        start: Random numbers (B, C, H', W'), whose Fourier phases are those of the start.
        iterations: Steps of hybrid input-output, at least 0.
        reduction: Steps of error reduction afterwards, at least 1.
        beta: Feedback, above 0 and at most 2.

    Returns:
        Images (B, C, H, W) on [-1, 1].

    Raises:
        ValueError: If y is no measurement of the operator, start has another shape than y, or a
            number is out of its range.

    Example:
        >>> import torch
        >>> from problems import PhaseRetrieval, hybrid_input_output
        >>> operator = PhaseRetrieval()
        >>> g = torch.Generator().manual_seed(0)
        >>> x = 2 * torch.rand(1, 1, 6, 6, generator=g) - 1
        >>> y = operator.apply(x)
        >>> starts = torch.randn(8, 1, 12, 12, generator=g)
        >>> found = hybrid_input_output(operator, y.expand(8, -1, -1, -1), starts)
        >>> misfit = (operator.apply(found) - y).square().sum((1, 2, 3))
        >>> best = operator.align(found[misfit.argmin()], x[0])
        >>> (best - x[0]).abs().max().item() < 0.05
        True
    """
    check_number(iterations, "the iterations", least=0, whole=True)
    check_number(reduction, "the steps of error reduction", least=1, whole=True)
    check_number(beta, "beta", above=0, most=2)
    height, width = operator.input_shape(tuple(y.shape[1:]))[-2:]
    if start.shape != y.shape:
        raise ValueError(f"the start has shape {tuple(start.shape)}, y has {tuple(y.shape)}")
    wide, size = widened(y).clamp_min(0), tuple(y.shape[-2:])
    magnitude = (wide.sqrt() if operator.squared else wide)[..., : size[1] // 2 + 1]
    frame = torch.zeros(size, dtype=torch.bool, device=y.device)
    frame[:height, :width] = True
    g = widened(start)
    for step in range(-1, iterations + reduction):
        spectrum = torch.fft.rfft2(g, norm="ortho")
        measured = torch.fft.irfft2(magnitude * torch.sgn(spectrum), s=size, norm="ortho")
        if step < 0:  # the random numbers lend their phases alone
            g = measured
        elif step < iterations:
            allowed = frame & (measured >= 0) & (measured <= 1)
            g = torch.where(allowed, measured, g - beta * measured)
        else:
            g = measured.clamp(0, 1) * frame
    return (2 * g[..., :height, :width] - 1).to(y.dtype)
