r"""The probability flow of a prior, relative to that of a Gaussian reference.

With :math:`q = \sqrt{\Lambda + s^2}` and :math:`z = U^T(u - \mu)/q` the flow is
:math:`dz/d\ln s = -U^T(D - D_G)/q`, where D is the denoiser of the prior and :math:`D_G` that of
the reference :math:`N(\mu, U \Lambda U^T)`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.jacobian import value_and_products
from solvers.likelihood.reference import GaussianReference

__all__ = ["RelativeFlow"]


@dataclass(frozen=True)
class RelativeFlow:
    """Right-hand sides of the flow and of its change of density, in the coordinates z.

    Args:
        prior: Prior whose flow it is.
        shape: Shape of one sample.
        reference: Gaussian in d dimensions, d the number of entries of one sample.
    """

    prior: Prior
    shape: tuple[int, ...]
    reference: GaussianReference

    def slope(self, z: Tensor, s: Tensor) -> Tensor:
        """Compute dz/d ln s, by one evaluation of the denoiser.

        Args:
            z: Points, (B, d), float64.
            s: Noise-to-signal ratio, ().

        Returns:
            The derivative, (B, d), float64.
        """
        u, q = self._point(z, s)
        with torch.no_grad():
            return self._difference(self._denoised(u.to(self.prior.dtype), s), z, q)

    def slope_and_traces(
        self, z: Tensor, s: Tensor, vectors: Sequence[Iterable[tuple[Tensor, float]]]
    ) -> tuple[Tensor, Tensor]:
        """Compute dz/d ln s and the difference of the traces, by one evaluation of the denoiser.

        Args:
            z: Points, (B, d), float64.
            s: Noise-to-signal ratio, ().
            vectors: One entry for each measurement of the trace. An entry yields pairs of vectors v
                (k, B, *shape) and the factor of their quadratic forms v^T J v in the trace.

        Returns:
            The derivative, (B, d), and tr J_G - tr J, (len(vectors), B), both float64.
        """
        u, q = self._point(z, s)
        D, products = value_and_products(lambda v: self._denoised(v, s), u.to(self.prior.dtype))
        trace_G = (self.reference.variances / q**2).sum()
        traces = torch.zeros(len(vectors), len(z), dtype=torch.float64, device=z.device)
        for trace, pairs in zip(traces, vectors, strict=True):
            for v, factor in pairs:
                trace += factor * (v * products(v)).flatten(2).double().sum((0, 2))
        return self._difference(D, z, q), trace_G - traces

    def _denoised(self, u: Tensor, s: Tensor) -> Tensor:
        """D(u, s) for u (B, *shape) in the prior's precision."""
        t = self.prior.sde.t_from_noise_to_signal(s).clamp(
            self.prior.sde.t_min, self.prior.sde.t_max
        )
        return self.prior.denoise(
            (self.prior.sde.alpha(t) * u).to(self.prior.dtype), t.to(self.prior.dtype)
        )

    def _point(self, z: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Point u (B, *shape) at z, and q (d,)."""
        q = (self.reference.variances + s**2).sqrt()
        return (self.reference.mean + self.reference.from_coordinates(q * z)).reshape(
            len(z), *self.shape
        ), q

    def _difference(self, D: Tensor, z: Tensor, q: Tensor) -> Tensor:
        """dz/d ln s = -U^T (D - D_G) / q."""
        return (
            self.reference.variances / q**2 * z
            - self.reference.coordinates(D.double().flatten(1) - self.reference.mean) / q
        )
