r"""Gaussian mixture priors, whose denoiser, density and posteriors are known in closed form.

For :math:`p(x_0) = \sum_k w_k N(\mu_k, C_k)` the noisy marginal is
:math:`p_t(x) = \sum_k w_k N(\alpha\mu_k, \alpha^2 C_k + \sigma^2 I)`, and with its responsibilities
:math:`r_k(x)`

.. math:: E[x_0 | x_t] = \sum_k r_k(x_t)
          \left(\mu_k + \alpha C_k (\alpha^2 C_k + \sigma^2 I)^{-1}(x_t - \alpha\mu_k)\right).

A linear measurement with Gaussian noise turns a mixture into another mixture, so the exact
posterior is again a prior of this kind. All solvers are judged against it. (Bishop 2006, sections
2.3.3 and 2.3.9.)
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor

from problems.checks import check_number
from scoresde.priors.base import Prior
from scoresde.sde import EDMSDE, SDE

__all__ = ["ExactMixture", "GaussianMixturePrior", "GaussianPrior", "LinearGaussianProblem"]


class _Operator(Protocol):
    def dense(self, shape: tuple[int, ...], dtype: torch.dtype = ...) -> Tensor: ...


class LinearGaussianProblem(Protocol):
    """Linear problem with Gaussian noise, as the exact posterior needs it.

    ``problems.InverseProblem`` is one. This package defines only the interface, so that priors do
    not depend on a kind of problem.
    """

    @property
    def linear_operator(self) -> _Operator:
        """Operator with a method ``dense`` that returns its matrix."""
        ...

    def noise_covariance(self, shape: tuple[int, ...]) -> Tensor:
        """Compute the covariance matrix of the noise.

        Args:
            shape: Shape of one measurement, without the batch axis.

        Returns:
            Covariance, shape (M, M), where M is the number of entries of the measurement.
        """
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the properties of the problem; "linear" and "normal" are needed here."""
        ...


class ExactMixture(Prior):
    r"""Base class of Gaussian mixtures in closed form, :math:`\sum_k w_k N(\mu_k, C_k)`.

    Everything is computed in float64, and the buffers stay float64: ``.to(dtype)``, ``.float()``
    and ``.half()`` do not round them. They set :attr:`dtype`, the dtype in which samplers run and
    in which :meth:`sample` returns its draws; a lower precision than float32 counts as float32.
    ``denoise`` returns the dtype of its input.

    Args:
        weights: Weights, shape (K,), positive; they are normalised here.
        means: Means, shape (K, *shape), finite.
        sde: Forward process; None for ``EDMSDE()``.

    Raises:
        ValueError: If a shape does not fit, a weight is not positive, or a mean is not finite.
    """

    log_weights: Tensor
    means: Tensor
    _lowest = torch.float64

    def __init__(self, weights: Tensor, means: Tensor, sde: SDE | None = None) -> None:
        for name, value in (("weights", weights), ("means", means)):
            if not isinstance(value, Tensor) or value.is_complex():
                raise ValueError(f"the {name} of a mixture are a tensor of real numbers")
        super().__init__(sde or EDMSDE(), tuple(means.shape[1:]))
        if tuple(weights.shape) != (len(means),):
            raise ValueError(
                f"with means {tuple(means.shape)}, weights must be ({len(means)},), "
                f"got {tuple(weights.shape)}"
            )
        if not bool(torch.isfinite(means).all()):
            raise ValueError("the means of a mixture must be finite")
        if not bool(((weights > 0) & torch.isfinite(weights)).all()):
            raise ValueError("the weights of a mixture must be positive and finite")
        self._dtype = torch.float64
        self.register_buffer("log_weights", torch.log_softmax(weights.double().log(), 0))
        self.register_buffer("means", means.double().flatten(1))

    @property
    def weights(self) -> Tensor:
        """Weights of the components, shape (K,), float64, with sum 1."""
        return self.log_weights.exp()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype in which samplers run: the last one set by ``.to(dtype)``, float64 at first."""
        return self._dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply a conversion of ``.to()`` to the buffers, but keep them in float64."""

        def keep_precision(value: Tensor) -> Tensor:
            converted = fn(value)
            if value.is_floating_point() and converted.dtype != value.dtype:
                return value.to(converted.device)
            return converted

        asked = fn(torch.empty(0, dtype=self._dtype, device=self.device)).dtype
        if asked.is_floating_point:
            self._dtype = torch.promote_types(asked, torch.float32)
        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]
        return self

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shape of the prior alone.
        """
        return tuple(shape) == self.shape

    @abstractmethod
    def _log_joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Joint log w_k p_k(x), (B, K), of x (B, D) at the noise level alpha, sigma (B,)."""

    def log_prob(self, x: Tensor, t: Tensor | float | None = None) -> Tensor:
        """Compute the log-density of the data or of the noisy marginal.

        Args:
            x: Samples, shape (B, *shape).
            t: Time, a number, shape () or (B,), in the time of ``sde``; None for the data itself,
                without noise.

        Returns:
            ln p_t(x) in nats, shape (B,), float64.

        Raises:
            ValueError: If x are no floating-point samples of this prior, a time lies outside of
                ``sde.domain``, or a covariance is singular and there is no noise.
        """
        flat = self._flat(x)
        if t is None and self._needs_noise:
            raise ValueError(
                "a mixture with a singular covariance has no density without noise; give a time "
                "at which sigma is above 0"
            )
        if t is None:
            alpha = torch.ones(len(x), dtype=torch.float64, device=x.device)
            sigma = torch.zeros_like(alpha)
        else:
            self.sde.check_time(t, noise=self._needs_noise)
            time = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x))
            alpha, sigma = self.sde.alpha(time), self.sde.sigma(time)
        return self._log_joint(flat, alpha, sigma).logsumexp(-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Compute the posterior probabilities of the components given a sample.

        Args:
            x: Samples without noise, shape (B, *shape).

        Returns:
            p(component k | x_0 = x), shape (B, K), float64.

        Raises:
            ValueError: If x are no floating-point samples of this prior, or a covariance is
                singular.
        """
        flat = self._flat(x)
        if self._needs_noise:
            raise ValueError("a mixture with a singular covariance has no responsibilities")
        zero = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return self._log_joint(flat, zero + 1, zero).softmax(-1)

    def _flat(self, x: Tensor) -> Tensor:
        """Samples, or samples that are flat already, as (B, D) in float64."""
        D = self.means.shape[1]
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise ValueError("samples of a mixture are real floating-point tensors")
        if x.ndim < 2 or tuple(x.shape[1:]) not in (self.shape, (D,)):
            raise ValueError(f"samples have shape (B, *{self.shape}), got {tuple(x.shape)}")
        return x.double().flatten(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw exact samples.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape), in the dtype of the prior.

        Raises:
            ValueError: If n is no whole number of at least 1.
        """
        n = int(check_number(n, "the number of draws", least=1, whole=True))
        device = generator.device if generator is not None else self.means.device
        k = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        z = torch.randn(
            n, self.means.shape[1], dtype=torch.float64, generator=generator, device=device
        )
        k, z = k.to(self.means.device), z.to(self.means.device)
        return (self.means[k] + self._colour(k, z)).reshape(n, *self.shape).to(self.dtype)

    @abstractmethod
    def _colour(self, k: Tensor, z: Tensor) -> Tensor:
        """C_k^(1/2) z for components k (n,) and white noise z (n, D)."""

    def _matrix(self, problem: LinearGaussianProblem, y: Tensor) -> Tensor:
        """Matrix of the operator, (M, D), after a check that p(x_0 | y) is again a mixture."""
        if missing := {"linear", "normal"} - problem.capabilities:
            raise ValueError(
                "the exact posterior of a mixture needs a linear problem with Gaussian noise; "
                f"missing: {', '.join(sorted(missing))}"
            )
        if len(y) != 1:
            raise ValueError(
                f"one measurement at a time: y must have a leading axis of 1, got {tuple(y.shape)}"
            )
        A = problem.linear_operator.dense(self.shape).to(self.means)
        if y.numel() != len(A):
            raise ValueError(
                f"the measurement of a sample {self.shape} has {len(A)} entries, "
                f"got y of shape {tuple(y.shape)}"
            )
        return A


class GaussianMixturePrior(ExactMixture):
    r"""Gaussian mixture with full covariances, :math:`\sum_k w_k N(\mu_k, C_k)`.

    Args:
        weights: Weights, shape (K,), positive; they are normalised here.
        means: Means, shape (K, *shape), finite.
        covariances: Covariances, shape (K, D, D), symmetric and positive semi-definite. D is the
            number of entries of one sample, flattened in C order.
        sde: Forward process; None for ``EDMSDE()``.

    Raises:
        ValueError: If a shape does not fit, a weight is not positive, a mean or covariance is not
            finite, or a covariance is not positive semi-definite.

    Example:
        >>> import torch
        >>> from scoresde import GaussianMixturePrior
        >>> means = torch.tensor([[-1.0], [1.0]])
        >>> prior = GaussianMixturePrior(torch.ones(2), means, 0.01 * torch.ones(2, 1, 1))
        >>> x_t = torch.tensor([[-0.5], [0.0], [3.0]])
        >>> [round(v, 3) for v in prior.denoise(x_t, 0.1).flatten().tolist()]
        [-0.75, 0.0, 2.0]
        >>> prior.dtype, prior.float().dtype
        (torch.float64, torch.float32)
    """

    lam: Tensor
    Q: Tensor
    Q_flat: Tensor
    means_in_Q: Tensor

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, sde: SDE | None = None
    ) -> None:
        super().__init__(weights, means, sde)
        K, D = self.means.shape
        if tuple(covariances.shape) != (K, D, D):
            raise ValueError(
                f"with means {tuple(means.shape)}, covariances must be ({K}, {D}, {D}), "
                f"got {tuple(covariances.shape)}"
            )
        if not bool(torch.isfinite(covariances).all()):
            raise ValueError("the covariances of a mixture must be finite")
        covariances = covariances.double()
        lam, Q = torch.linalg.eigh((covariances + covariances.mT) / 2)
        if bool((lam < -1e-8 * lam.amax(-1, keepdim=True)).any()):
            raise ValueError("the covariances of a mixture must be positive semi-definite")
        self._singular = not bool((lam > 0).all())
        self.register_buffer("lam", lam.clamp_min(0))
        self.register_buffer("Q", Q)
        # all eigenbases side by side: one matrix product serves all components
        self.register_buffer("Q_flat", Q.transpose(0, 1).reshape(D, K * D))
        self.register_buffer("means_in_Q", torch.einsum("kde,kd->ke", Q, self.means))

    @property
    def _needs_noise(self) -> bool:
        return self._singular

    @property
    def covariances(self) -> Tensor:
        """Covariances of the components, shape (K, D, D), float64."""
        return (self.Q * self.lam[:, None]) @ self.Q.mT

    def _joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Components at noise level (alpha, sigma), both (B,), for x (B, D).

        Returns log w_k p_k(x), (B, K); x - alpha mu_k in each eigenbasis, (B, K, D); and its
        variances, (B, K, D) or (1, K, D).
        """
        if alpha.stride() == (0,):  # all times are equal: one set of variances serves the batch
            alpha, sigma = alpha[:1], sigma[:1]
        K, D = self.lam.shape
        u = (x @ self.Q_flat).reshape(-1, K, D) - alpha[:, None, None] * self.means_in_Q
        variance = alpha[:, None, None] ** 2 * self.lam + sigma[:, None, None] ** 2
        log_normal = -0.5 * ((u**2 / variance).sum(-1) + (2 * math.pi * variance).log().sum(-1))
        return self.log_weights + log_normal, u, variance

    def _log_joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return self._joint(x, alpha, sigma)[0]

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        # a stride of 0 marks equal times; elementwise functions lose it, so it is restored below
        if t.stride() == (0,):
            t = t[:1]
        alpha, sigma = (
            v.expand(len(x_t)) for v in (self.sde.alpha(t.double()), self.sde.sigma(t.double()))
        )
        joint, u, variance = self._joint(x_t.double().flatten(1), alpha, sigma)
        r = joint.softmax(-1)
        pull = r[..., None] * (alpha[: len(variance), None, None] * self.lam / variance) * u
        return (r @ self.means + pull.flatten(1) @ self.Q_flat.T).reshape(x_t.shape).to(x_t.dtype)

    def _colour(self, k: Tensor, z: Tensor) -> Tensor:
        # the symmetric root is unique; eigenvectors have signs that differ between processors
        Q = self.Q[k]
        return torch.einsum(
            "nde,ne->nd", Q * self.lam[k].sqrt()[:, None], torch.einsum("nde,nd->ne", Q, z)
        )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Compute the mean and the covariance of the mixture.

        Returns:
            Mean, shape (D,), and covariance, shape (D, D), of x_0, float64.
        """
        mean = self.weights @ self.means
        d = self.means - mean
        return mean, torch.einsum(
            "k,kij->ij", self.weights, self.covariances + d[:, :, None] * d[:, None, :]
        )

    def posterior(self, problem: LinearGaussianProblem, y: Tensor) -> "GaussianMixturePrior":
        r"""Compute the exact posterior of a linear problem with Gaussian noise.

        With :math:`S_k = A C_k A^T + \Sigma_y` and the gain :math:`G_k = C_k A^T S_k^{-1}`, its
        means are :math:`\mu_k + G_k(y - A\mu_k)`, its covariances
        :math:`(I - G_k A) C_k (I - G_k A)^T + G_k \Sigma_y G_k^T` (Joseph's form) and its weights
        :math:`w_k N(y; A\mu_k, S_k)`.

        Args:
            problem: Operator and noise of the measurement.
            y: One measurement, shape (1, ...).

        Returns:
            p(x_0 | y), with the SDE and the dtype of this prior.

        Raises:
            ValueError: If the problem is not linear with Gaussian noise, y is not one measurement
                of the right size, or the covariance of y is singular.
        """
        A = self._matrix(problem, y)
        C, noise = self.covariances, problem.noise_covariance(tuple(y.shape[1:])).to(A)
        S = A @ C @ A.T + noise
        r = y.double().reshape(1, -1) - self.means @ A.T
        try:
            G = torch.linalg.solve(S, A @ C).mT
        except torch.linalg.LinAlgError:
            raise ValueError(
                "the covariance of y is singular, since some of its entries are certain without "
                "noise; give the problem a noise level above 0"
            ) from None
        means = self.means + torch.einsum("kdm,km->kd", G, r)
        rest = torch.eye(A.shape[1], dtype=A.dtype, device=A.device) - G @ A
        covariances = rest @ C @ rest.mT + G @ noise @ G.mT
        evidence = -0.5 * (
            (r * torch.linalg.solve(S, r)).sum(-1) + torch.linalg.slogdet(S).logabsdet
        )
        log_weights = torch.log_softmax(self.log_weights + evidence, 0).clamp_min(-700)
        return GaussianMixturePrior(
            log_weights.exp(), means.reshape(-1, *self.shape), covariances, self.sde
        ).to(self.dtype)


class GaussianPrior(GaussianMixturePrior):
    """Gaussian prior N(mean, covariance), a mixture of one component.

    Args:
        mean: Mean, shape (*shape), finite.
        covariance: Covariance, shape (D, D), symmetric and positive semi-definite. D is the number
            of entries of one sample, flattened in C order.
        sde: Forward process; None for ``EDMSDE()``.

    Raises:
        ValueError: If the shapes do not fit, an entry is not finite, or the covariance is not
            positive semi-definite.

    Example:
        The denoiser shrinks towards the mean by C (C + sigma^2 I)^-1:

        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(2), torch.tensor([[1.0, 0.0], [0.0, 0.25]]))
        >>> prior.denoise(torch.ones(1, 2), 0.5)
        tensor([[0.8000, 0.5000]])
    """

    def __init__(self, mean: Tensor, covariance: Tensor, sde: SDE | None = None) -> None:
        super().__init__(torch.ones(1), mean[None], covariance[None], sde)
