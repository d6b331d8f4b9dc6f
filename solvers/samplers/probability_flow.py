r"""The probability-flow ODE (Song et al. 2021, eq. 13) by general solvers.

In :math:`u = x_t/\alpha_t` and :math:`s = \sigma_t/\alpha_t` it reads
:math:`du/ds = (u - D(u, s))/s` under every SDE. Here it is solved for :math:`z = u/\sqrt{1 + s^2}`,
which is of order one throughout, in the clock :math:`w = -\ln(1/s + 1)`:

.. math:: \frac{dz}{dw} = \frac{1 + s}{\sqrt{1 + s^2}} \left(\frac{u}{1 + s^2} - D(u, s)\right).

The clock follows the log signal-to-noise ratio where there is signal, and stands still where there
is only noise. At t_min the denoiser removes the remaining noise.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torchdiffeq import odeint

from problems.checks import check_choice, check_number
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from scoresde.sde import SDE
from solvers.ode import dopri5
from solvers.samplers.base import Callback, Sampler
from solvers.streams import NormalStream

__all__ = ["ProbabilityFlowODE"]

Method = Literal["adaptive", "euler", "midpoint", "heun3", "rk4", "dopri5", "dopri8", "scipy"]
_FIXED = ("euler", "midpoint", "heun3", "rk4")

Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Clock:
    """The coordinates of the ODE under an SDE: w (B,), float64, and z, u and x_t (B, ...)."""

    sde: SDE

    def w(self, s: Tensor) -> Tensor:
        return -(1 / s + 1).log()

    def s(self, w: Tensor) -> Tensor:
        return 1 / torch.expm1(-w)

    def t(self, w: Tensor) -> Tensor:
        first = min(self.sde.t_min, self.sde.t_max)
        return self.sde.t_from_noise_to_signal(self.s(w)).clamp(first, self.sde.t_max)

    def u(self, w: Tensor, z: Tensor) -> Tensor:
        return z * _wide((1 + self.s(w) ** 2).sqrt(), z)

    def x_t(self, t: Tensor, u: Tensor) -> Tensor:
        return _wide(self.sde.alpha(t), u) * u

    def slope(self, w: Tensor, u: Tensor, x0_hat: Tensor) -> Tensor:
        """dz/dw from the denoised estimate."""
        s = self.s(w)
        r2, rate = _wide(1 + s**2, u), _wide(1 + s, u)
        return rate * (u / r2 - x0_hat) / r2.sqrt()

    def x0_hat(self, w: Tensor, u: Tensor, slope: Tensor) -> Tensor:
        """The denoised estimate from dz/dw: the inverse of ``slope``."""
        s = self.s(w)
        r2, rate = _wide(1 + s**2, u), _wide(1 + s, u)
        return u / r2 - slope * r2.sqrt() / rate


_Clocked = TypeVar("_Clocked", float, Tensor)


def _check_clock(w: _Clocked) -> _Clocked:
    """Stop a solver whose step became NaN, which comes from NaN in its state."""
    if not math.isfinite(w):
        raise FloatingPointError("the ODE's step is not finite: the denoiser returned NaN")
    return w


def _wide(value: Tensor, like: Tensor) -> Tensor:
    """Values (B,) in the shape and dtype of ``like`` (B, ...)."""
    return expand_like(value, like).to(like.dtype)


@dataclass(frozen=True)
class ProbabilityFlowODE(Sampler):
    """The probability-flow ODE, by a choice of solvers; deterministic given the start.

    Args:
        steps: Number of points of the time grid, at least 1. The methods that choose their own
            steps, all but "euler", "midpoint", "heun3" and "rk4", use its ends only.
        grid: Time grid.
        start: Law of the first state, "noise" or "mean", see :class:`Sampler`.
        method: "adaptive": Dormand-Prince with error control for each sample separately; "euler",
            "midpoint", "heun3", "rk4": torchdiffeq's fixed-step methods on the time grid;
            "dopri5", "dopri8": torchdiffeq's adaptive methods; "scipy": SciPy's RK45. The last
            three have one step size for all that they solve at once, so they solve each draw alone,
            and report the last state only.
        rtol: Relative tolerance of the adaptive methods, positive.
        atol: Absolute tolerance of the adaptive methods, in the units of z, positive.

    Raises:
        ValueError: If steps < 1, the start or the method is unknown, or a tolerance is not
            positive.

    Example:
        For the prior N(0, I) the solution shrinks the start to the variance of the data.

        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import ProbabilityFlowODE
        >>> prior = GaussianPrior(torch.zeros(3), torch.eye(3))
        >>> x = ProbabilityFlowODE().sample(prior, 1, generator=torch.manual_seed(0))
        >>> z = torch.randn(1, 3, dtype=torch.float64, generator=torch.manual_seed(0))
        >>> torch.allclose(x, z, atol=1e-3)
        True
    """

    method: Method = "adaptive"
    rtol: float = 1e-4
    atol: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("method", self.method, Method)
        try:
            check_number(self.rtol, "rtol", above=0)
            check_number(self.atol, "atol", above=0)
        except ValueError:
            raise ValueError(
                f"rtol and atol must be positive, got {self.rtol!s:.40} and {self.atol!s:.40}"
            ) from None

    def _run(
        self,
        prior: Prior,
        x_t: Tensor,
        times: Tensor,
        noise: NormalStream,
        callback: Callback | None,
    ) -> Tensor:
        sde, clock = prior.sde, _Clock(prior.sde)
        if self.method not in _FIXED:
            times = self.grid.times(sde, 2).to(times)
        s_grid = sde.noise_to_signal(times.double())
        w_grid = clock.w(s_grid)
        ends = float(w_grid[0]), float(w_grid[-1])
        last_w: Tensor | None = None

        def field(w: Tensor, z: Tensor) -> Tensor:
            t, u = clock.t(w), clock.u(w, z)
            return clock.slope(w, u, prior.denoise(clock.x_t(t, u), t.to(u.dtype)))

        def report(w: Tensor, z: Tensor, slope: Tensor) -> None:
            nonlocal last_w
            # after a round in which no sample accepted its step the state is the same
            if callback is None or (last_w is not None and torch.equal(last_w, w)):
                return
            last_w = w
            percent = int(100 * float((w.mean() - ends[0]) / (ends[1] - ends[0])))
            t, u = clock.t(w), clock.u(w, z)
            # the slope at (w, z) is known, so the estimate costs no evaluation
            x0_hat = clock.x0_hat(w, u, slope)
            callback(min(99, percent), 100, t.to(u.dtype), clock.x_t(t, u), x0_hat)

        z = x_t / (sde.alpha(times[0]) * (1 + s_grid[0].to(x_t.dtype) ** 2).sqrt())
        if self.method == "adaptive":
            z = dopri5(field, z, *ends, rtol=self.rtol, atol=self.atol, on_step=report)
        elif self.method in _FIXED:
            z = self._fixed(field, z, w_grid, report)
        else:
            z = torch.cat([self._alone(field, one[None], *ends) for one in z])
        u = z * (1 + s_grid[-1].to(z.dtype) ** 2).sqrt()
        x_t = sde.alpha(times[-1]) * u
        x0_hat = prior.denoise(x_t, times[-1])
        if callback:
            callback(100, 100, times[-1], x_t, x0_hat)
        return x0_hat

    def _fixed(
        self,
        field: Field,
        z: Tensor,
        w_grid: Tensor,
        report: Callable[[Tensor, Tensor, Tensor], None],
    ) -> Tensor:
        for start, end in itertools.pairwise(w_grid):
            slopes: list[Tensor] = []

            def slope(w: Tensor, z: Tensor, slopes: list[Tensor] = slopes) -> Tensor:
                slopes.append(field(w.expand(len(z)), z))
                return slopes[-1]

            path = odeint(slope, z, torch.stack([start, end]), method=self.method)
            report(start.expand(len(z)), z, slopes[0])
            z = path[-1]
        return z

    def _alone(self, field: Field, z: Tensor, start: float, end: float) -> Tensor:
        if self.method == "scipy":

            def flat(w: float, values: object) -> object:
                _check_clock(w)
                state = torch.as_tensor(values, dtype=z.dtype).reshape(z.shape).to(z.device)
                return (
                    field(torch.tensor([w], dtype=torch.float64, device=z.device), state)
                    .double()
                    .flatten()
                    .cpu()
                    .numpy()
                )

            solution = solve_ivp(
                flat,
                (start, end),
                z.double().flatten().cpu().numpy(),
                rtol=self.rtol,
                atol=self.atol,
                method="RK45",
            )
            if not solution.success:
                raise FloatingPointError(f"SciPy stopped before the end: {solution.message}")
            return torch.as_tensor(solution.y[:, -1], dtype=z.dtype).reshape(z.shape).to(z.device)
        clock = torch.tensor([start, end], dtype=torch.float64, device=z.device)
        try:
            path: Tensor = odeint(
                lambda w, z: field(_check_clock(w).reshape(1), z),
                z,
                clock,
                method=self.method,
                rtol=self.rtol,
                atol=self.atol,
            )
        except AssertionError as error:  # how torchdiffeq says that no step is small enough
            raise FloatingPointError(f"torchdiffeq stopped before the end: {error}") from None
        return path[-1]
