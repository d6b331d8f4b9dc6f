r"""Guidance: a prior and a measurement become a prior again.

By Bayes' rule the score of :math:`p(x_t | y)` is the prior's plus
:math:`\nabla_{x_t} \log p(y | x_t)`; by Tweedie's formula its denoiser is

.. math:: E[x_0 | x_t, y] = D(x_t) + \frac{\sigma_t^2}{\alpha_t} \nabla_{x_t} \log p(y | x_t).

The likelihood of :math:`x_t` is intractable; each method here is one approximation of it. All
methods work in :math:`u = x_t/\alpha_t,\ s = \sigma_t/\alpha_t`, where the shift is
:math:`s^2 \nabla_u \log p(y|u)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from problems import InverseProblem, take_logarithm
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior, Wrapper
from solvers.balanced import BalancedStream
from solvers.capabilities import Exactness, check_capabilities
from solvers.presets import Registered

__all__ = ["Guidance", "GuidedPrior", "Products", "simulated_misfit"]

Products = Callable[[Tensor], Tensor]
"""Maps v (B, ...) to J^T v (B, ...), with the Jacobian J = dD/du at the current point."""


def simulated_misfit(
    problem: InverseProblem,
    y: Tensor,
    x0: Tensor,
    x0_hat: Tensor,
    generators: Sequence[torch.Generator],
    balanced: BalancedStream | None = None,
) -> Tensor:
    """Compare measurements with simulated ones of draws, as Matheron's rule does.

    The rule is one of linear measurements, so a nonlinear operator is replaced by its linearisation
    at the mean of the draws. With the operator itself a draw would keep what the operator maps to
    the same measurement near the draw, though not near the mean: the finest detail under a
    quantisation.

    Args:
        problem: Operator and noise of the measurements.
        y: Measurements, shape (B, ...).
        x0: Draws, shape (B, *shape).
        x0_hat: Their means, shape (B, *shape), where a nonlinear operator is linearised.
        generators: B generators for the noise of the simulated measurements.
        balanced: What the noise is drawn from instead, if it is Gaussian; None for nothing.

    Returns:
        y minus the simulated measurements, shape of y, 0 where nothing is observed.
    """
    A = problem.operator
    linear = "linear" in problem.capabilities
    mean = A.apply(x0) if linear else A.unrounded(x0_hat)
    noise = problem.noise
    if balanced is not None and "gaussian_noise" in problem.capabilities:
        simulated = mean + balanced.combine(lambda source: noise.sample(mean, source) - mean)
    else:
        simulated = noise.sample(mean, generators)
    if not linear:
        simulated = simulated + A.linearise(x0_hat).apply(x0 - x0_hat)
    return A.mask_unobserved(y - simulated)


class Guidance(Registered, ABC):
    r"""Base of the guidance methods, which turn (prior, problem, y) into a :class:`GuidedPrior`.

    A subclass implements ``shift``, its approximation of :math:`s^2 \nabla_u \log p(y | u)`.

    Attributes:
        exactness: Law of the draws in the limit, see ``solvers.capabilities.Exactness``.
        requires: Capabilities that a problem must have.
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp"})

    def condition(self, prior: Prior, problem: InverseProblem, y: Tensor) -> "GuidedPrior":
        """Condition a prior on a measurement.

        Counts behind :class:`problems.Transmission` become line integrals, with the same likelihood
        (:func:`problems.take_logarithm`).

        Args:
            prior: Prior of x_0.
            problem: Operator and noise of the measurement.
            y: Measurements, shape (B, ...). The guided prior takes batches of B, or of a multiple
                of B; sample i of a batch goes with measurement i mod B.

        Returns:
            A prior whose denoiser approximates E[x_0 | x_t, y].

        Raises:
            ValueError: If the problem lacks a capability that the method requires, if its
                Gaussian noise has level 0, if y is no measurement of this problem or has NaN or
                infinite entries, or if the prior does not accept the x of such a measurement.

        Example:
            >>> import torch
            >>> from problems import Denoising, GaussianNoise, InverseProblem
            >>> from scoresde import GaussianPrior
            >>> from solvers import DDIM, MMPS
            >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
            >>> problem = InverseProblem(Denoising(), GaussianNoise(0.1))
            >>> guided = MMPS().condition(prior, problem, y=torch.full((1, 1, 2, 2), 2.0))
            >>> draws = DDIM(50, eta=1.0).sample(guided, 500, generator=torch.manual_seed(0))
            >>> round(float(draws.mean()), 1), round(float(draws.std()), 1)
            (2.0, 0.1)
        """
        problem, y = take_logarithm(problem, y)
        check_capabilities(self, problem)
        prior.check_shape(problem.check_measurement(y), "the x of this measurement")
        return GuidedPrior(self, prior, problem, y)

    @abstractmethod
    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift of the denoiser that the measurement causes.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y | u)`, the shape of x0_hat.
        """

    def draw(
        self,
        x0_hat: Tensor,
        vjp: Products,
        s: Tensor,
        problem: InverseProblem,
        y: Tensor,
        z: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor | None:
        r"""Draw :math:`x_0` given u and y, where the method takes it to be Gaussian.

        It is Matheron's rule: a draw of :math:`x_0` given u, with a measurement of it, is moved as
        the mean would be moved by the difference of that measurement to y.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).
            z: Standard normal numbers, shape (B, *shape).
            generators: B generators for the noise of the simulated measurements.

        Returns:
            The draws, shape (B, *shape), whose mean is x0_hat + shift; None if the method has no
            covariance of :math:`x_0` given u.
        """
        return None


class GuidedPrior(Wrapper):
    """The posterior p(x_0 | y) as a prior, in the approximation of a guidance method.

    Args:
        guidance: Method that computes the shift of the denoiser.
        prior: Prior of x_0.
        problem: Operator and noise of the measurements.
        y: Measurements, shape (B, ...). Entries that the operator does not observe are set to 0.

    Attributes:
        vjps: Number of products with the Jacobian of the prior so far, one per batch.
    """

    y: Tensor

    def __init__(
        self, guidance: Guidance, prior: Prior, problem: InverseProblem, y: Tensor
    ) -> None:
        super().__init__(prior, problem.input_shape(y))
        self.guidance, self.problem = guidance, problem
        self.register_buffer(
            "y", problem.operator.mask_unobserved(y).to(prior.device), persistent=False
        )
        self.vjps = 0
        self._keep = False
        self._last: tuple[Tensor, Tensor, Products, Tensor, Tensor] | None = None

    @property
    def _needs_signal(self) -> bool:
        return True

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shape that the operator takes to the measurements.
        """
        return tuple(shape) == self.shape

    def draw_after(
        self,
        x0: Tensor,
        x_t: Tensor,
        t: Tensor,
        z: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Draw x_0 given x_t and y, instead of its mean.

        It costs no evaluation of the network if the last one, after :meth:`keeping`, was at x_t.

        Args:
            x0: Means, E[x_0 | x_t, y] as :meth:`denoise` gives them, shape (B, *shape).
            x_t: Noisy samples, shape (B, *shape).
            t: Time, shape () or (B,).
            z: Standard normal numbers, shape (B, *shape).
            generators: B generators.

        Returns:
            The draws, shape (B, *shape); x0 if the guidance has no covariance.
        """
        if self._last is None or not torch.equal(self._last[0], x0):
            self.keeping().denoise(x_t, t)
        assert self._last is not None
        (_, x0_hat, vjp, s, y), self._last = self._last, None
        with torch.no_grad():
            drawn = self.guidance.draw(x0_hat, vjp, s, self.problem, y, z, generators)
        return x0 if drawn is None else drawn

    def keeping(self) -> "GuidedPrior":
        """Keep the last evaluation for :meth:`draw_after`, until the next one.

        Returns:
            This prior.
        """
        self._keep = True
        return self

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._last = None  # first, because its graph and that of this evaluation need memory
        repeats, rest = divmod(len(x_t), len(self.y))
        if rest:
            raise ValueError(
                f"{len(x_t)} samples for {len(self.y)} measurements: the first must be a multiple "
                "of the second"
            )
        y = self.y.to(x_t.dtype).repeat(repeats, *[1] * (self.y.ndim - 1))
        # keep the graph only if the caller differentiates through the guided prior
        outer = torch.is_grad_enabled() and x_t.requires_grad
        with torch.enable_grad():
            u = x_t / expand_like(self.sde.alpha(t), x_t)
            u = u if outer else u.detach().requires_grad_()
            D = self.prior._denoise(u * expand_like(self.sde.alpha(t), x_t), t)

            def vjp(v: Tensor) -> Tensor:
                self.vjps += 1
                return torch.autograd.grad(D, u, v, retain_graph=True, create_graph=outer)[0]

            x0_hat = D if outer else D.detach()
            s = self.sde.noise_to_signal(t)
            with torch.set_grad_enabled(outer):
                x0 = x0_hat + self.guidance.shift(x0_hat, vjp, s, self.problem, y)
            if self._keep and not outer:
                self._last = x0, x0_hat, vjp, s, y
            return x0
