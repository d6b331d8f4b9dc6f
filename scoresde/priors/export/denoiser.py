r"""The denoiser D(x, sigma) of a prior as one graph of tensor operations.

Every exported file holds the same function: x is :math:`x_0 + \sigma n` with white noise n, sigma
has one value per sample, and the result is an estimate of x_0. Noise levels beyond those of the
training are treated as the prior treats them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.priors.base import Prior, Wrapper
from scoresde.priors.score import ScorePrior
from scoresde.priors.tiled import TiledPrior
from scoresde.sde import EDMSDE

__all__ = ["TracedDenoiser", "trace", "trained_levels"]

_FAR = 1 << 14  # a side that only a prior of any size accepts
_BATCH = 2


class _Padded(nn.Module):
    """A network whose input is padded to multiples of a number, and whose output is cropped.

    Networks pad by themselves, with a branch for sizes that fit. A graph has no branches: here
    repeated edges and the cropped part are chosen by indices, which are computed of the size.
    """

    def __init__(self, network: Callable[..., Any], multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple
        self.dimensions = getattr(network, "dimensions", None)

    def forward(self, x: Tensor, *arguments: Tensor, **conditions: Any) -> Tensor:
        """Evaluate the network.

        Args:
            x: First argument of the network, shape (B, C, ...).
            *arguments: The others.
            **conditions: Keyword arguments of the network.

        Returns:
            Output of the network, with the sides of x.
        """
        sides = x.shape[2:]
        for axis, side in enumerate(sides, start=2):
            padded = (side + self.multiple - 1) // self.multiple * self.multiple
            index = torch.arange(padded, device=x.device).clamp(max=side - 1)
            x = x.index_select(axis, index)
        output: Tensor = self.network(x, *arguments, **conditions)
        for axis, side in enumerate(sides, start=2):
            output = output.index_select(axis, torch.arange(side, device=x.device))
        return output


class _Denoiser(nn.Module):
    """D(x, sigma) of a prior."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = _traceable(prior.precise()).with_sde(EDMSDE())

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Denoise x (B, ...) with noise of standard deviations sigma (B,)."""
        return self.prior._denoise(x, sigma)  # its time is sigma


@dataclass(frozen=True)
class TracedDenoiser:
    """The graph of a denoiser.

    Args:
        program: Program of ``torch.export`` that takes x (B, C, ...) and sigma (B,).
        shape: Shape of one sample; that of the training if the program takes any size.
        least: Smallest sides that the program takes; None if it takes one size alone.
    """

    program: torch.export.ExportedProgram
    shape: tuple[int, ...]
    least: tuple[int, ...] | None

    @property
    def sizes(self) -> str:
        """The sizes of samples in words."""
        if self.least is None:
            return f"{' x '.join(map(str, self.shape))} alone"
        return f"any sides of at least {' x '.join(map(str, self.least))}"


def trained_levels(prior: Prior) -> tuple[float, float]:
    """Find the noise levels that a prior was trained for.

    Args:
        prior: The prior.

    Returns:
        Smallest and largest noise-to-signal ratio of its training; those of its SDE if it was not
        trained. The largest may be infinite.
    """
    innermost = prior.nesting()[-1]
    if isinstance(innermost, ScorePrior | AdaptedPrior):
        return innermost.trained
    ends = torch.tensor([prior.sde.t_min, prior.sde.t_max], dtype=torch.float64)
    low, high = prior.sde.noise_to_signal(ends).tolist()
    return low, high


def trace(prior: Prior) -> TracedDenoiser:
    """Make a graph of the denoiser of a prior, in the precision of its weights.

    The batch has any size. So have the sides of a sample where the prior takes any and its network
    can be described in that way; else the graph is for the sides of ``prior.shape``. Sides of a
    picture so small that the coarsest feature map of the network is a single pixel are left out.

    Args:
        prior: The prior.

    Returns:
        The graph. It has derivatives of all orders.

    Raises:
        InputError: If the prior cannot be written as a graph; the message says why.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior
        >>> from scoresde.networks import Perceptron, PerceptronConfig
        >>> from scoresde.priors.export import trace
        >>> prior = ScorePrior(Perceptron(PerceptronConfig(size=2, widths=(8,))), EDMSDE(), (2,))
        >>> x, sigma = torch.ones(3, 2), torch.ones(3)
        >>> denoise = trace(prior).program.module()
        >>> torch.equal(denoise(x, sigma), prior.denoise(x, sigma))
        True
    """
    if any(isinstance(one, TiledPrior) for one in prior.nesting()):
        raise InputError(
            "a prior that cuts pictures into tiles chooses them by the size of the picture, which "
            "a graph cannot do; export the prior inside and cut where it is used"
        )
    denoiser = _Denoiser(prior).eval().requires_grad_(False)
    axes = len(prior.shape) - 1
    if axes and prior.accepts((prior.shape[0], *[_FAR] * axes)):
        multiple = _multiple(prior)
        sides = tuple(multiple * (2 + i) + 1 for i in range(axes))
        program, _ = _program(denoiser, (prior.shape[0], *sides), any_size=True)
        least = _least(program, prior.shape, multiple) if program is not None else None
        if program is not None and least is not None:
            return TracedDenoiser(program, prior.shape, least)
    program, failure = _program(denoiser, prior.shape, any_size=False)
    if program is None:
        raise InputError(
            f"this prior ({_kinds(prior)}) cannot be written as a graph of tensor operations, "
            f"which torch.export needs: {failure}"
        )
    return TracedDenoiser(program, prior.shape, None)


def _kinds(prior: Prior) -> str:
    return " of ".join(type(one).__name__ for one in prior.nesting())


def _traceable(prior: Prior) -> Prior:
    """A twin in full precision whose network pads without branches."""
    if isinstance(prior, Wrapper):
        other = prior._twin()
        other.prior = _traceable(prior.prior)
        return other
    if isinstance(prior, ScorePrior):
        plain = prior.in_precision("fp32")
        plain._compiled = None
        plain.network = (
            _Padded(prior.network, _multiple(prior)) if len(prior.shape) > 1 else (prior.network)
        )
        return plain
    if isinstance(prior, AdaptedPrior) and prior.convention.multiple > 1:
        adapted = prior.in_precision("fp32")
        adapted.network = _Padded(prior.network, prior.convention.multiple)
        adapted.convention = replace(prior.convention, multiple=1)
        return adapted
    return prior


def _multiple(prior: Prior) -> int:
    """The number of which the network makes all sides multiples."""
    innermost = prior.nesting()[-1]
    if isinstance(innermost, AdaptedPrior):
        return innermost.convention.multiple
    network = getattr(innermost, "network", None)
    patch = getattr(getattr(network, "config", None), "patch", 1)
    return int(getattr(network, "stride", patch))


def _program(
    denoiser: nn.Module, shape: tuple[int, ...], any_size: bool
) -> tuple[torch.export.ExportedProgram | None, str]:
    """The program, or the reason why there is none."""
    tensor = next((v for v in denoiser.parameters() if v.is_floating_point()), torch.zeros(1))
    x = torch.zeros(_BATCH, *shape, dtype=tensor.dtype, device=tensor.device)
    axes = (0, *range(2, x.ndim)) if any_size else (0,)
    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    try:
        # with gradients: without them networks overwrite their feature maps, and the program would
        # have no derivatives
        with torch.enable_grad():
            program = torch.export.export(
                denoiser,
                (x, torch.ones_like(x[:, 0].flatten(1)[:, 0] if x.ndim > 2 else x[:, 0])),
                dynamic_shapes=(dynamic, {0: torch.export.Dim.DYNAMIC}),
            )
    except Exception as error:  # of many kinds
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        return None, f"{type(error).__name__}: {' '.join(reason.split()):.200}"
    return program, ""


def _least(
    program: torch.export.ExportedProgram, shape: tuple[int, ...], multiple: int
) -> tuple[int, ...] | None:
    """Smallest sides that a program takes; None if it takes none but those of its tracing.

    What is known about a side is a bound, or a condition on the size of a feature map.
    """
    name = program.graph_signature.user_inputs[0]
    x = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    bounds = [1]
    for side in x.shape[2:]:
        known = program.range_constraints.get(getattr(getattr(side, "node", None), "expr", None))
        bounds += [] if known is None else [int(known.lower)]
    run = program.module()
    for side in sorted({max(bounds), multiple + 1, 2 * multiple + 1}):
        sides = (max(side, max(bounds)),) * (len(shape) - 1)
        zeros = torch.zeros(1, shape[0], *sides, dtype=x.dtype, device=x.device)
        try:
            with torch.no_grad():
                run(zeros, torch.ones(1, dtype=x.dtype, device=x.device))
        except (AssertionError, RuntimeError):
            continue
        return sides
    return None
