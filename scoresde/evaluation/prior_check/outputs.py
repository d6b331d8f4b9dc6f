r"""What a network predicts, and the denoiser that follows from it.

With :math:`u = x_0 + s n` and the scales of a schedule, :math:`x_t = \alpha u`,
:math:`\sigma = \alpha s`, a network predicts one of these quantities F:

- x0;
- eps, the noise n;
- score, :math:`-n/\sigma` (Song et al. 2021);
- v, :math:`\alpha n - \sigma x_0` (Salimans and Ho 2022), for :math:`\alpha^2 + \sigma^2 = 1`;
- velocity, :math:`n - x_0` (Lipman et al. 2023), for :math:`\alpha + \sigma = 1`.

All are linear in x_0 for a given x_t. So what one has taken for another can be undone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["OUTPUTS", "Output"]


@dataclass(frozen=True)
class Output:
    """One kind of prediction.

    Args:
        name: Its name.
        alpha: Scale of the data at a noise-to-signal ratio.
        to_x0: Computes x_0 from x_t, F, alpha and sigma.
        of_x0: Computes F from x_t, x_0, alpha and sigma.

    Example:
        >>> import torch
        >>> u, x0 = torch.tensor([3.0]), torch.tensor([1.0])
        >>> eps = OUTPUTS["eps"]
        >>> F = eps.predicted(u, x0, 2.0)
        >>> round(F.item(), 5), round(eps.denoised(u, F, 2.0).item(), 5)
        (1.0, 1.0)
    """

    name: str
    alpha: Callable[[float], float]
    to_x0: Callable[[Tensor, Tensor, float, float], Tensor]
    of_x0: Callable[[Tensor, Tensor, float, float], Tensor]

    def predicted(self, u: Tensor, x0: Tensor, s: float) -> Tensor:
        """Compute what a network predicts if its denoiser gives x_0.

        Args:
            u: Noisy samples x_0 + s n.
            x0: Denoised samples, shape of u.
            s: Noise-to-signal ratio.

        Returns:
            F, shape of u.
        """
        alpha = self.alpha(s)
        return self.of_x0(alpha * u, x0, alpha, alpha * s)

    def denoised(self, u: Tensor, F: Tensor, s: float) -> Tensor:
        """Compute the denoised samples of a prediction.

        Args:
            u: Noisy samples x_0 + s n.
            F: What the network predicts, shape of u.
            s: Noise-to-signal ratio.

        Returns:
            Denoised samples, shape of u.
        """
        alpha = self.alpha(s)
        return self.to_x0(alpha * u, F, alpha, alpha * s)


def _preserving(s: float) -> float:
    return float(1 / (1 + s * s) ** 0.5)


def _straight(s: float) -> float:
    return 1 / (1 + s)


OUTPUTS = {
    one.name: one
    for one in (
        Output("x0", _preserving, lambda x, F, a, b: F, lambda x, D, a, b: D),
        Output(
            "eps",
            _preserving,
            lambda x, F, a, b: (x - b * F) / a,
            lambda x, D, a, b: (x - a * D) / b,
        ),
        Output(
            "score",
            _preserving,
            lambda x, F, a, b: (x + b * b * F) / a,
            lambda x, D, a, b: (a * D - x) / b**2,
        ),
        Output(
            "v",
            _preserving,
            lambda x, F, a, b: a * x - b * F,
            lambda x, D, a, b: (a * x - D) / b,
        ),
        Output(
            "velocity",
            _straight,
            lambda x, F, a, b: x - b * F,
            lambda x, D, a, b: (x - D) / b,
        ),
    )
}
"""Kinds of predictions by name."""
