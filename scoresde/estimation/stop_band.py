r"""The noise level of a blurred measurement, from frequencies that the blur stops.

The power of y at a frequency is that of the blurred picture and of the noise. Where the transfer
function :math:`\hat k` of the blur is next to nothing, in its stop band, the noise is all that is
left. White noise has the power :math:`\sigma^2` at each frequency, so that its mean over the N
frequencies of the stop band is the estimate, and no prior has a say in it. A frequency belongs to
it if :math:`|\hat k|^2 P < q\,\sigma^2` with the mean power P of y and a small q. Pictures have
less than P at high frequencies, so that q bounds the bias from above.

A taper (Tukey's window) takes y to zero at the frame, where its values do not meet. It smears the
spectrum over some frequencies, which must be in the stop band, too. It also makes neighbouring
powers depend on one another. For a window w over n pixels the relative standard error of
:math:`\sigma` is therefore :math:`\sqrt{c / 2N}` with
:math:`c = n \sum w^4 / (\sum w^2)^2`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from problems import InverseProblem
from problems.operators.convolution import Convolution

__all__ = ["noise_in_stop_band"]

_BIAS = 0.01  # q, of the variance
_WORST = 0.02  # relative standard error; draws are better than a narrower band
_ROUNDS = 3
_TAPER = 0.5  # share of each side over which y fades
_REACH = 3  # frequencies over which the taper smears a spectrum


def noise_in_stop_band(
    problem: InverseProblem, y: Tensor, start: float, channels: int = 1
) -> tuple[Tensor, Tensor, int] | None:
    """Estimate the standard deviation of the noise where a blur leaves nothing else.

    Args:
        problem: Its operator may be any; only convolutions have a stop band.
        y: Measurement (1, C, ...) without holes.
        start: First guess of the level, above 0.
        channels: 1 for one level, C for one in each channel.

    Returns:
        Levels (channels,), their standard errors, both float64, and the number of coefficients;
        None if the operator is no convolution, or stops so few frequencies that the level would be
        uncertain by more than 2 %.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(GaussianBlur(2.0, "reflect"), GaussianNoise(0.1))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = problem.measure(torch.rand(1, 1, 64, 64, generator=g), g)
        >>> sigma, error, count = noise_in_stop_band(problem, y, 0.2)
        >>> abs(float(sigma) - 0.1) < 3 * float(error) < 0.006
        True
    """
    operator = problem.operator
    if not isinstance(operator, Convolution):
        return None
    values = y[0].detach().double().cpu()
    power = float((values - values.mean()).square().mean())
    sides = values.shape[1:]
    axes = tuple(range(1, values.ndim))
    window, spread = _window(sides)
    squares = torch.fft.fftn((values - values.mean()) * window, dim=axes).abs().square()
    squares = squares / window.square().sum()
    passed = torch.fft.fftn(operator.taps.double().cpu(), s=list(sides), dim=axes).abs().square()
    passed = _largest_near(passed, axes).expand_as(squares)
    level = torch.full((channels,), start, dtype=torch.float64)
    for _ in range(_ROUNDS):
        noise = level.square().reshape(-1, *[1] * len(sides))
        stopped = (passed * power < _BIAS * noise).expand_as(squares)
        count = stopped.reshape(channels, -1).sum(1)
        error = (spread / (2.0 * count)).sqrt()
        if not float(error.max()) < _WORST:
            return None
        sums = torch.where(stopped, squares, 0.0).reshape(channels, -1).sum(1)
        level = (sums / count).sqrt()
    return level, level * error, int(count.sum())


def _window(sides: torch.Size) -> tuple[Tensor, float]:
    """Taper, and by how much it raises the variance of a mean over neighbouring frequencies."""
    from scipy.signal.windows import tukey  # slow to import

    window, spread = torch.ones(()).double(), 1.0
    for axis, n in enumerate(sides):
        w = torch.from_numpy(tukey(n + 2, _TAPER)[1:-1])
        spread *= float(n * w.pow(4).sum() / w.square().sum() ** 2)
        window = window * w.reshape(-1, *[1] * (len(sides) - 1 - axis))
    return window, spread


def _largest_near(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The largest value within the reach of the taper's spectrum, around the borders."""
    for axis in axes:
        x = torch.stack([torch.roll(x, i, axis) for i in range(-_REACH, _REACH + 1)]).amax(0)
    return x
