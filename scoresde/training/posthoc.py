r"""Averages of the weights whose length is chosen after the training.

Karras et al. (2024, section 3) follow a few averages of the weights with power-function profiles,

.. math:: \hat\theta_\gamma(t) = \int_0^t p_{t,\gamma}(\tau)\,\theta(\tau)\,d\tau,\quad
    p_{t,\gamma}(\tau) = \frac{\gamma + 1}{t^{\gamma + 1}}\,\tau^\gamma,

by the recursion with decay :math:`(1 - 1/t)^{\gamma + 1}`, and store them now and then. Any other
profile is then the combination of the stored ones that is nearest to it in the mean square. The
length of an average is the standard deviation of its profile over t,
:math:`\sigma_{rel} = \sqrt{\gamma + 1} / ((\gamma + 2)\sqrt{\gamma + 3})`.

Weights are constant during a step, so the recursion is the integral, exactly. Here the coefficients
also sum to one: weights that stay as they are come out as they are.
"""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["coefficients", "inner_product", "power_decay", "power_exponent", "relative_width"]


def relative_width(gamma: float) -> float:
    """Compute the standard deviation of a power-function profile, over its end t.

    Args:
        gamma: Exponent, at least 0.

    Returns:
        The length sigma_rel.

    Example:
        >>> round(relative_width(0) * 12**0.5, 6)  # the uniform distribution
        1.0
    """
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


def power_exponent(sigma_rel: float) -> float:
    """Find the exponent of a profile from its length.

    Args:
        sigma_rel: Standard deviation of the profile over its end, above 0 and at most 1/sqrt(12).

    Returns:
        The exponent gamma, at least 0.

    Raises:
        ValueError: If there is no such profile.

    Example:
        >>> round(power_exponent(0.05), 2), round(power_exponent(0.10), 2)
        (16.97, 6.94)
    """
    longest = relative_width(0.0)
    if not 0 < sigma_rel <= longest:
        raise ValueError(f"sigma_rel must be above 0 and at most {longest:.4f}, got {sigma_rel}")
    precision = sigma_rel**-2
    roots = np.roots([1.0, 7.0, 16.0 - precision, 12.0 - precision])
    return max(0.0, float(roots.real[np.abs(roots.imag) < 1e-6].max()))


def power_decay(gamma: float, step: int) -> float:
    """Compute the decay of a power-function average.

    Args:
        gamma: Exponent of the profile.
        step: Number t of the update, from 1.

    Returns:
        The decay (1 - 1/t)^(gamma + 1).
    """
    return (1 - 1 / step) ** (gamma + 1)


def inner_product(
    step_a: np.ndarray | float,
    gamma_a: np.ndarray | float,
    step_b: np.ndarray | float,
    gamma_b: np.ndarray | float,
) -> np.ndarray:
    r"""Compute the inner product of two profiles.

    .. math:: \int p_{a} p_{b}\,d\tau = \frac{(\gamma_a + 1)(\gamma_b + 1)}{\gamma_a + \gamma_b + 1}
        \cdot \frac{\min(t_a, t_b)^{\gamma_a + \gamma_b + 1}}{t_a^{\gamma_a + 1} t_b^{\gamma_b + 1}}

    Args:
        step_a: End of the first profile.
        gamma_a: Exponent of the first profile.
        step_b: End of the second profile.
        gamma_b: Exponent of the second profile.

    Returns:
        The products, of the common shape of the arguments.

    Example:
        >>> float(inner_product(2.0, 0.0, 4.0, 0.0))  # 1/2 and 1/4 on [0, 2]
        0.25
    """
    t_a, g_a, t_b, g_b = (np.asarray(v, float) for v in (step_a, gamma_a, step_b, gamma_b))
    end = np.minimum(t_a, t_b)
    # as a product of ratios, since powers of large steps overflow
    ratio = (end / t_a) ** g_a * (end / t_b) ** g_b * end / (t_a * t_b)
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * ratio


def coefficients(stored: Sequence[tuple[float, float]], step: float, gamma: float) -> np.ndarray:
    """Find the combination of stored averages that is nearest to a new one.

    Args:
        stored: End and exponent of each stored profile.
        step: End of the wanted profile.
        gamma: Exponent of the wanted profile.

    Returns:
        A coefficient for each stored average. They sum to one and minimise the integral of the
        squared difference of the profiles.

    Raises:
        ValueError: If nothing is stored.

    Example:
        >>> coefficients([(10, 2.0), (20, 2.0), (20, 6.0)], 20, 6.0).tolist()
        [0.0, 0.0, 1.0]
    """
    if not stored:
        raise ValueError("no averages are stored")
    ends, exponents = np.array(stored, float).T
    known = (ends == step) & (exponents == gamma)
    if known.any():  # exact, whatever the rounding of a solve
        return np.eye(len(stored))[int(known.argmax())]
    gram = inner_product(ends[:, None], exponents[:, None], ends, exponents)
    # profiles of norm one make the system as well conditioned as it can be
    norm, scale = np.sqrt(np.diag(gram)), math.sqrt(inner_product(step, gamma, step, gamma))
    system = np.zeros((len(stored) + 1,) * 2)
    system[:-1, :-1] = gram / np.outer(norm, norm)
    # the last unknown is the Lagrange multiplier of the sum
    system[:-1, -1] = system[-1, :-1] = norm.min() / norm
    wanted = inner_product(ends, exponents, step, gamma) / (norm * scale)
    target = np.append(wanted, norm.min() / scale)
    solution = np.linalg.lstsq(system, target, rcond=None)[0][:-1]
    found: np.ndarray = solution * scale / norm
    return found / found.sum()
