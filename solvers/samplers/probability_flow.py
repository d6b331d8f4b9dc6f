r"""The probability-flow ODE (Song et al. 2021, eq. 13) by general solvers.

In :math:`u = x_t/\alpha_t` and :math:`s = \sigma_t/\alpha_t` it reads :math:`du/ds = (u - D(u, s))/s` under every SDE. Here it is solved
for :math:`z = u/\sqrt{1 + s^2}`, of order one throughout, in the clock :math:`w = -\ln(1/s + 1)`: the log signal-to-noise ratio where
there is signal, standing still where there is only noise. At t_min the denoiser takes the last noise away.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torchdiffeq import odeint

from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.ode import dopri5
from solvers.samplers.base import Callback, Sampler
from solvers.streams import NormalStream

__all__ = ["ProbabilityFlowODE"]

Method = Literal["adaptive", "euler", "midpoint", "heun3", "rk4", "dopri5", "dopri8", "scipy"]
_FIXED = ("euler", "midpoint", "heun3", "rk4")

Field = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ProbabilityFlowODE(Sampler):
    """Deterministic given the start.

    method: "adaptive": Dormand-Prince with error control for each sample by itself; "euler", "midpoint", "heun3", "rk4": torchdiffeq's
    fixed-step methods on the time grid; "dopri5", "dopri8": torchdiffeq's adaptive methods, "scipy": SciPy's RK45, each draw alone, for
    their step sizes belong to all that they solve at once; these three report the last state only. rtol, atol: of the adaptive ones, where
    ``steps`` has no meaning.
    """

    method: Method = "adaptive"
    rtol: float = 1e-4
    atol: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("method", self.method, Method)
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"rtol and atol must be positive, got {self.rtol} and {self.atol}")

    def _run(
        self,
        prior: Prior,
        x_t: Tensor,
        times: Tensor,
        noise: NormalStream,
        callback: Callback | None,
    ) -> Tensor:
        sde = prior.sde
        if self.method not in _FIXED:
            times = self.grid.times(sde, 2).to(times)
        precise = times.double()
        s_grid = sde.noise_to_signal(precise)
        w_grid = -(1 / s_grid + 1).log()
        ends = float(w_grid[0]), float(w_grid[-1])

        def x_of(w: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """(u, s, t) at the clock w (B,)."""
            s = 1 / torch.expm1(-w)
            t = sde.t_from_noise_to_signal(s).clamp(min(sde.t_min, sde.t_max), sde.t_max)
            return z * expand_like((1 + s**2).sqrt(), z).to(z.dtype), s, t

        def field(w: Tensor, z: Tensor) -> Tensor:
            u, s, t = x_of(w, z)
            x0_hat = prior.denoise(expand_like(sde.alpha(t), u).to(u.dtype) * u, t.to(u.dtype))
            r2, rate = factors(s, u)
            return rate * (u / r2 - x0_hat) / r2.sqrt()

        def factors(s: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
            """1 + s^2, and 1 + s, for ds/dw = s (1 + s)."""
            return expand_like(1 + s**2, u).to(u.dtype), expand_like(1 + s, u).to(u.dtype)

        told: list[Tensor] = []

        def report(w: Tensor, z: Tensor, slope: Tensor) -> None:
            if callback and not (
                told and torch.equal(told[-1], w)
            ):  # after a step that no sample accepted the state is the same
                told[:] = [w]
                fraction = float((w.mean() - ends[0]) / (ends[1] - ends[0]))
                u, s, t = x_of(w, z)
                r2, rate = factors(s, u)
                x0_hat = (
                    u / r2 - slope * r2.sqrt() / rate
                )  # the slope at (w, z) is known; no evaluation more
                callback(
                    min(99, int(100 * fraction)),
                    100,
                    t.to(u.dtype),
                    expand_like(sde.alpha(t), u).to(u.dtype) * u,
                    x0_hat,
                )

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
            return torch.as_tensor(solution.y[:, -1], dtype=z.dtype).reshape(z.shape).to(z.device)
        clock = torch.tensor([start, end], dtype=torch.float64, device=z.device)
        return odeint(
            lambda w, z: field(w.reshape(1), z),
            z,
            clock,
            method=self.method,
            rtol=self.rtol,
            atol=self.atol,
        )[-1]
