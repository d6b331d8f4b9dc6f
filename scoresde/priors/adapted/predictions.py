r"""What a network predicts: a linear combination of the data and of the noise.

A network sees :math:`z = \alpha x_0 + \sigma n`. Every parametrisation in use has a target
:math:`F = p\,x_0 + q\,n` with coefficients that depend on the noise level alone. The denoiser
follows by elimination of n:

.. math:: x_0 = \frac{q z - \sigma F}{\alpha q - \sigma p} .

A parametrisation is therefore defined by its two coefficients and by nothing else. The same is true
of conditional means, because the relations are linear.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PREDICTIONS", "Prediction"]

Coefficients = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""(alpha, sigma, sigma_data) -> (p, q), where p and q have the shape of alpha and sigma."""


@dataclass(frozen=True)
class Prediction:
    """Target of a network, p x_0 + q n.

    Args:
        coefficients: Function of alpha, sigma and sigma_data that returns p and q. Alpha and sigma
            are tensors of one shape, and so are p and q; sigma_data is the standard deviation of
            the data in the units of the network.
        preconditioned: Whether the network sees the state divided by
            sqrt(alpha^2 sigma_data^2 + sigma^2), as an EDM network does.

    Example:
        The target of rectified flow is n - x_0:

        >>> import torch
        >>> from scoresde.priors.adapted import PREDICTIONS
        >>> t = torch.tensor([0.25])
        >>> k_z, k_F = PREDICTIONS["velocity"].inverse(1 - t, t)
        >>> x_0, n = 2.0, -1.0
        >>> z = (1 - t) * x_0 + t * n
        >>> k_z * z + k_F * (n - x_0)
        tensor([2.])
    """

    coefficients: Coefficients
    preconditioned: bool = False

    def inverse(
        self, alpha: Tensor, sigma: Tensor, sigma_data: float = 0.5
    ) -> tuple[Tensor, Tensor]:
        """Compute the denoiser from the state and the output of the network.

        Args:
            alpha: Scale of the data in the state, any shape.
            sigma: Scale of the noise in the state, positive, shape of alpha.
            sigma_data: Standard deviation of the data in the units of the network.

        Returns:
            The factors of the state and of the output whose sum is x_0, shape of alpha.
        """
        p, q = self.coefficients(alpha, sigma, sigma_data)
        determinant = alpha * q - sigma * p
        return q / determinant, -sigma / determinant

    @property
    def needs_signal(self) -> bool:
        """Whether the denoiser does not follow from the output where no signal is left."""
        zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        return not all(bool(torch.isfinite(k)) for k in self.inverse(zero, one))


def _edm(alpha: Tensor, sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    # F = (x_0 - c_skip u) / c_out with u = x_0 + s n (Karras et al. 2022, table 1)
    s = sigma / alpha
    norm = (s**2 + sigma_data**2).sqrt()
    return s / (norm * sigma_data), -sigma_data / norm


def _edm_v(alpha: Tensor, sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    p, q = _edm(alpha, sigma, sigma_data)
    return -p, -q


PREDICTIONS: dict[str, Prediction] = {
    "x0": Prediction(lambda alpha, sigma, _: (torch.ones_like(alpha), torch.zeros_like(sigma))),
    "eps": Prediction(lambda alpha, sigma, _: (torch.zeros_like(alpha), torch.ones_like(sigma))),
    "v": Prediction(lambda alpha, sigma, _: (-sigma, alpha)),
    "score": Prediction(lambda alpha, sigma, _: (torch.zeros_like(alpha), -1 / sigma)),
    "velocity": Prediction(
        lambda alpha, sigma, _: (-torch.ones_like(alpha), torch.ones_like(sigma))
    ),
    "velocity_to_data": Prediction(
        lambda alpha, sigma, _: (torch.ones_like(alpha), -torch.ones_like(sigma))
    ),
    "residual": Prediction(lambda alpha, sigma, _: (torch.zeros_like(alpha), sigma)),
    "edm": Prediction(_edm, preconditioned=True),
    "edm_v": Prediction(_edm_v, preconditioned=True),
}
"""Parametrisations by name.

- "x0": the data.
- "eps": the noise n, of standard deviation 1 (Ho et al. 2020).
- "v": alpha n - sigma x_0 (Salimans and Ho 2022).
- "score": the gradient of the log-density of the state, -E[n] / sigma.
- "velocity": n - x_0, for x_t = (1 - t) x_0 + t n (Liu et al. 2023).
- "velocity_to_data": x_0 - n, for flows whose time runs from noise to data (Lipman et al. 2023).
- "residual": the noise as it is in the state, sigma n (DnCNN).
- "edm": the output F of the preconditioned network of Karras et al. (2022).
- "edm_v": -F, the convention of `v_prediction` in EDM schedulers of diffusers.
"""
