"""A prior that tells when it is evaluated, for work whose length is not known beforehand."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from scoresde.priors.base import Prior, Wrapper

__all__ = ["watched_prior"]


class _WatchedPrior(Wrapper):
    """Prior that calls a function before each evaluation."""

    def __init__(self, prior: Prior, before: Callable[[], None]) -> None:
        super().__init__(prior)
        self._before = before

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._before()
        return self.prior._denoise(x_t, t)


def watched_prior(prior: Prior, progress: Callable[[float], None] | None) -> Prior:
    """Report a fraction of 0 before each evaluation of a prior.

    Args:
        prior: Prior of pictures.
        progress: Called with 0; it may raise an error that ends the work. None for nothing.

    Returns:
        A prior of the same law.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> prior = watched_prior(GaussianPrior(torch.zeros(2), torch.eye(2)), print)
        >>> _ = prior.denoise(torch.ones(5, 2), 0.5)
        0.0
    """
    return prior if progress is None else _WatchedPrior(prior, lambda: progress(0.0))
