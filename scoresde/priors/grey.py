r"""A prior of grey pictures from a prior of colour pictures.

A grey picture g is the colour picture with g in each of its C channels. Noise of level s on it
leaves two things: the mean of the channels, which is g with noise of level :math:`s / \sqrt C`, and
their differences, which are noise alone. Hence g at level s is denoised by the colour denoiser D at
level :math:`\sqrt C s`,

.. math:: \hat g(g_s, s) = \operatorname{mean}_c D\bigl(g_s + \sqrt C s\,(n_c - \bar n),
          \sqrt C s\bigr),

with white noise n for the differences. D then sees what it was trained on, and knows from the
differences that the picture is grey. Where mean and differences of the channels are independent
under the prior, :math:`\hat g` is the exact denoiser of the mean for any n. Otherwise it depends on
n, which is therefore kept the same.

To restore a grey picture as the mean of unknown colours would leave the colours without any
measurement: a solver would spend its steps on them.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior, Wrapper

__all__ = ["GreyPrior"]


class GreyPrior(Wrapper):
    """Prior of pictures with one channel, made from one of pictures with several.

    Args:
        prior: Prior of images (C, H, W).

    Raises:
        ValueError: If the prior is not one of images.

    Example:
        >>> import torch
        >>> from scoresde import GreyPrior, load_prior
        >>> prior = GreyPrior(load_prior("natural"))
        >>> prior.denoise(torch.zeros(1, 1, 16, 16), 0.5).shape
        torch.Size([1, 1, 16, 16])
    """

    def __init__(self, prior: Prior) -> None:
        if len(prior.shape) != 3:
            raise ValueError(
                f"a grey prior is made of a prior of images (C, H, W), got one of {prior.shape}"
            )
        super().__init__(prior, (1, *prior.shape[1:]))
        self.channels = prior.shape[0]

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for one channel of a size that the wrapped prior accepts.
        """
        return len(shape) == 3 and shape[0] == 1 and self.prior.accepts((self.channels, *shape[1:]))

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        s = math.sqrt(self.channels) * self.sde.noise_to_signal(t)
        time = self.sde.t_from_noise_to_signal(s)
        n = _differences(self.channels, tuple(x_t.shape[2:]), x_t.dtype, x_t.device)
        u = x_t / expand_like(self.sde.alpha(t), x_t) + expand_like(s, x_t) * n
        D = self.prior._denoise(expand_like(self.sde.alpha(time), x_t) * u, time)
        return D.mean(1, keepdim=True)


@lru_cache(maxsize=4)  # a run asks for the same numbers at every evaluation
def _differences(
    channels: int, size: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    # noise (C, H, W) of mean 0 over the channels, always the same one for a size;
    # of numpy: random numbers of torch may not be drawn within torch.func.vmap
    n = np.random.default_rng(0).standard_normal((channels, *size))
    return torch.from_numpy(n - n.mean(0)).to(device, dtype)
