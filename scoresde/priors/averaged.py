r"""Average of a prior over transformations that leave images equally likely.

For a group G of shifts, turns or flips,

.. math:: \bar D(x, t) = \frac{1}{|G|} \sum_{g \in G} g^{-1} D(g\,x, t) .

If g x is as likely as x, the exact denoiser commutes with every g, and averaging leaves it
unchanged. Averaging a network removes the part of its error in which its results for the g x
disagree, since at every x

.. math:: \frac{1}{|G|} \sum_g \|g^{-1} D(g\,x) - x_0\|^2
          = \|\bar D(x) - x_0\|^2 + \frac{1}{|G|} \sum_g \|g^{-1} D(g\,x) - \bar D(x)\|^2 .

Over shifts this is cycle spinning (Coifman and Donoho 1995): a network with a stem of p x p pixels
treats the p^2 positions of a pixel in it differently, and shifts within the stem average out the
differences. Over turns and flips it makes a prior equivariant (Terris et al. 2024). Photographs may
be turned and flipped, digits may not. Shifts are circular, so they suit images with a plain border.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.priors.base import Prior, Wrapper

__all__ = ["GROUPS", "Group", "EquivariantPrior", "Transform"]


@dataclass(frozen=True)
class Transform:
    """Transformation of an image: an optional flip, then quarter turns, then a circular shift.

    Args:
        shift: Rows and columns by which the image is shifted.
        turns: Number of counterclockwise quarter turns.
        flip: True to flip the image from left to right first.
    """

    shift: tuple[int, int] = (0, 0)
    turns: int = 0
    flip: bool = False

    def apply(self, x: Tensor) -> Tensor:
        """Apply the transformation g.

        Args:
            x: Images, shape (..., H, W).

        Returns:
            g x; an odd number of turns swaps H and W.
        """
        x = x.flip(-1) if self.flip else x
        return torch.roll(torch.rot90(x, self.turns, (-2, -1)), self.shift, (-2, -1))

    def invert(self, x: Tensor) -> Tensor:
        """Apply the inverse transformation.

        Args:
            x: Images, shape (..., H, W).

        Returns:
            g^-1 x; an odd number of turns swaps H and W.
        """
        back_y, back_x = self.shift
        x = torch.rot90(torch.roll(x, (-back_y, -back_x), (-2, -1)), -self.turns, (-2, -1))
        return x.flip(-1) if self.flip else x


@dataclass(frozen=True)
class Group:
    """Group of transformations with a description.

    Args:
        summary: Description, cost and use, as the command line prints them.
        members: Transformations of the group.
    """

    summary: str
    members: tuple[Transform, ...]


GROUPS: dict[str, Group] = {
    "shifts": Group(
        "circular shifts by 0 or 1 pixels, 4 times the cost; for pictures with a plain border, "
        "such as digits",
        tuple(Transform(shift=(y, x)) for y in range(2) for x in range(2)),
    ),
    "turns": Group(
        "quarter turns, 4 times the cost; for photographs and other pictures that are as likely "
        "when turned",
        tuple(Transform(turns=k) for k in range(4)),
    ),
    "turns-flips": Group(
        "quarter turns and mirror images, 8 times the cost; for the same pictures as turns",
        tuple(Transform(turns=k, flip=flip) for flip in (False, True) for k in range(4)),
    ),
}


class EquivariantPrior(Wrapper):
    """Image prior whose denoiser is the mean of another denoiser over a group.

    Each evaluation costs one network evaluation per member of the group.

    Args:
        prior: Prior of images (C, H, W).
        group: Name in ``GROUPS`` or the transformations. "shifts" are the four circular shifts by 0
            or 1 pixels, for networks with a stem of 2 x 2 pixels; "turns" the four quarter turns;
            "turns-flips" the eight symmetries of the square.
        recompute: True to evaluate each member again in the backward pass instead of keeping the
            activations of all (Chen et al. 2016). Memory is then that of one member, at a third
            more time, and ``torch.func`` cannot be used.

    Raises:
        ValueError: If the group is unknown or empty, or the prior is not one of images.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, EquivariantPrior, ScorePrior
        >>> from scoresde.networks import UNet, UNetConfig
        >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
        >>> _ = torch.nn.init.normal_(network.head.weight)
        >>> prior = EquivariantPrior(ScorePrior(network, EDMSDE(), (1, 8, 8)), "turns")
        >>> x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> turned = prior.denoise(torch.rot90(x_t, 1, (-2, -1)), 0.5)
        >>> torch.allclose(turned, torch.rot90(prior.denoise(x_t, 0.5), 1, (-2, -1)), atol=1e-5)
        True
        >>> prior.cost
        4
    """

    def __init__(
        self,
        prior: Prior,
        group: str | tuple[Transform, ...] = "shifts",
        *,
        recompute: bool = False,
    ) -> None:
        super().__init__(prior)
        if isinstance(group, str):
            check_choice("group", group, GROUPS)
        members = GROUPS[group].members if isinstance(group, str) else tuple(group)
        if not members:
            raise ValueError("a group needs at least one transformation")
        if len(prior.shape) != 3:
            raise ValueError(
                "only priors of images (C, H, W) can be shifted, turned or flipped; "
                f"samples of this one have shape {prior.shape}"
            )
        self.group, self.recompute, self.cost = members, recompute, len(members) * prior.cost

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        total = torch.zeros_like(x_t)
        for g in self.group:
            D = self._inner(g.apply(x_t), t, self.recompute)
            total = total + g.invert(D)
        return total / len(self.group)
