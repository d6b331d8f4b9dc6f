"""An adaptive Runge-Kutta method with a separate step size for each sample.

Dormand and Prince's pair of orders 5 and 4 (1980; table 5.2 of Hairer, Nørsett and Wanner 1993) on
a whole batch at once. Each sample has its own error, step size and time, so that its path does not
depend on the other samples of the batch; a sample that has reached the end waits for the rest.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like

__all__ = ["dopri5"]

_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
# fifth minus fourth order
_E = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def dopri5(
    f: Callable[[Tensor, Tensor], Tensor],
    z: Tensor,
    start: float,
    end: float,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 10_000,
    on_step: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Solve dz/dw = f(w, z) from ``start`` to ``end``.

    A step of a sample is accepted if the root mean square of error / (atol + rtol |z|) over the
    sample is at most 1. Every round, in which each sample tries one step, calls f six times on the
    whole batch; the first slope costs one call more.

    Args:
        f: Right-hand side: w (B,) float64 and z (B, ...) to dz/dw (B, ...).
        z: State at ``start``, shape (B, ...).
        start: First value of w.
        end: Last value of w, above or below ``start``.
        rtol: Relative tolerance of the local error.
        atol: Absolute tolerance of the local error, in the units of z.
        max_steps: Largest number of rounds.
        on_step: Called as on_step(w, z, dz/dw) before each round; None for no call.

    Returns:
        The state at ``end``, shape (B, ...).

    Raises:
        FloatingPointError: If f returns NaN or infinity.
        RuntimeError: If ``max_steps`` rounds do not reach ``end``.
    """
    span = end - start
    tiny = 1e-12 * abs(span)
    w = torch.full((len(z),), start, dtype=torch.float64, device=z.device)
    h = torch.full_like(w, 0.02 * span)

    def wide(value: Tensor) -> Tensor:
        return expand_like(value.to(z.dtype), z)

    k_first = f(w, z)
    for _ in range(max_steps):
        left = end - w
        active = left.abs() > tiny
        if not bool(active.any()):
            return z
        if on_step:
            on_step(w, z, k_first)
        h = torch.where(h.abs() > left.abs(), left, h)
        k = [k_first]
        z_new = z
        for a, c in zip(_A, _C, strict=True):
            z_new = z + wide(h) * sum(
                weight * slope for weight, slope in zip(a, k, strict=True) if weight
            )
            k.append(f(w + c * h, z_new))
        error = wide(h) * sum(weight * slope for weight, slope in zip(_E, k, strict=True) if weight)
        scale = atol + rtol * torch.maximum(z.abs(), z_new.abs())
        size = (error / scale).flatten(1).double().square().mean(1).sqrt()
        if not bool(torch.isfinite(size[active]).all()):
            raise FloatingPointError(
                "the state of the ODE is not finite: the denoiser returned NaN or infinity"
            )
        accept = active & (size <= 1)
        w = torch.where(accept, torch.where((h == left), torch.full_like(w, end), w + h), w)
        z = torch.where(wide(accept) > 0, z_new, z)
        k_first = torch.where(wide(accept) > 0, k[-1], k_first)
        h = torch.where(active, h * (0.9 * size.clamp_min(1e-10) ** -0.2).clamp(0.2, 5.0), h)
    raise RuntimeError(
        f"the ODE needs more than {max_steps} steps; loosen rtol and atol (now {rtol} and {atol})"
    )
