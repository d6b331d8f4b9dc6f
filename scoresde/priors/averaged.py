r"""A prior averaged over transformations that leave its pictures as likely as they were.

For a group G of shifts, turns or flips, :math:`\bar D(x, t) = \frac{1}{|G|} \sum_{g \in G} g^{-1} D(g\,x, t)`. If g x is as likely as x,
the exact denoiser commutes with every g, so averaging takes nothing from it; of a network it takes the part of the error in which the
answers for g x disagree, for at every x

.. math:: \frac{1}{|G|} \sum_g \|g^{-1} D(g\,x) - x_0\|^2 = \|\bar D(x) - x_0\|^2 + \frac{1}{|G|} \sum_g \|g^{-1} D(g\,x) - \bar D(x)\|^2 .

Over shifts this is cycle spinning (Coifman and Donoho 1995): a network with a stem of p x p pixels treats the p^2 places of a pixel in
it as different, and the shifts within it even that out. Over turns and flips it makes a prior equivariant (Terris et al. 2024).
Photographs may be turned and flipped, digits may not. Shifts go around the edges, and so suit pictures with a plain border.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.priors.base import Prior, Wrapper

__all__ = ["GROUPS", "Group", "EquivariantPrior", "Transform"]


@dataclass(frozen=True)
class Transform:
    """First a flip from left to right if asked for, then quarter turns, then a shift by so many rows and columns, around the edges."""

    shift: tuple[int, int] = (0, 0)
    turns: int = 0
    flip: bool = False

    def apply(self, x: Tensor) -> Tensor:
        """g x for pictures x (..., H, W); an odd number of turns swaps H and W."""
        x = x.flip(-1) if self.flip else x
        return torch.roll(torch.rot90(x, self.turns, (-2, -1)), self.shift, (-2, -1))

    def invert(self, x: Tensor) -> Tensor:
        """g^-1 x."""
        back_y, back_x = self.shift
        x = torch.rot90(torch.roll(x, (-back_y, -back_x), (-2, -1)), -self.turns, (-2, -1))
        return x.flip(-1) if self.flip else x


@dataclass(frozen=True)
class Group:
    """What it is for, and its members."""

    summary: str
    members: tuple[Transform, ...]


GROUPS: dict[str, Group] = {
    "shifts": Group(
        "by 0 and 1 pixels around the edges, 4 times the cost; for pictures with a plain border, such as digits",
        tuple(Transform(shift=(y, x)) for y in range(2) for x in range(2)),
    ),
    "turns": Group(
        "by quarters, 4 times the cost; for photographs and other pictures as likely when turned",
        tuple(Transform(turns=k) for k in range(4)),
    ),
    "turns-flips": Group(
        "by quarters and mirrored, 8 times the cost; as turns",
        tuple(Transform(turns=k, flip=flip) for flip in (False, True) for k in range(4)),
    ),
}


class EquivariantPrior(Wrapper):
    """The image prior whose denoiser is the mean of another's over a group; each evaluation costs as many of the network as it has members.

    group: a name of ``GROUPS``, or the transformations themselves. "shifts" are the four by 0 and 1 pixels, for networks with a stem
    of 2 x 2 pixels; "turns" the four quarter turns; "turns-flips" the eight of the square. recompute: where gradients flow, compute each
    member again on the way back instead of keeping all of them (Chen et al. 2016): memory as for one, a third more time, and no
    ``torch.func``.
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
                f"only priors of images (C, H, W) can be shifted, turned or flipped; this one is of shape {prior.shape}"
            )
        self.group, self.recompute, self.cost = members, recompute, len(members) * prior.cost

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        total = torch.zeros_like(x_t)
        for g in self.group:
            D = self._inner(g.apply(x_t), t, self.recompute)
            total = total + g.invert(D)
        return total / len(self.group)
