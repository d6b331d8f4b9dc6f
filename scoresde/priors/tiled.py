"""Large images in bounded memory: the denoiser runs on overlapping tiles.

The result of each tile is weighted by a ramp that falls to zero towards the inner edges of the
tile, and is not used within a quarter of the overlap from them. Tiles begin at multiples of 8
pixels, so that a network that halves the resolution up to three times meets the same pixels in each
cell as in the whole image: without attention, and with a quarter of the overlap above the reach of
its convolutions, the result is that of the whole image.

Where gradients flow, a product with the Jacobian needs what the network computed on the way to its
result. It is kept for as many tiles as a given memory has room for. The other tiles are computed
again for each product (Chen et al. 2016), which then takes about twice as long. Without any room
memory is that of one tile and of two pictures in both directions. Small tiles are evaluated
together, as many as have the pixels of one large tile. The time is linear in the number of pixels
of the image, with gradients too.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from scoresde.defaults import TILE, TILE_OVERLAP
from scoresde.priors.base import Prior, Wrapper

__all__ = ["TiledPrior"]

_Box = tuple[slice, slice]
"""Rows and columns of a tile."""

_MULTIPLE = 8
"""Sides of tiles are multiples of it, so that networks need not pad them."""


class TiledPrior(Wrapper):
    """Prior whose denoiser sees at most ``tile`` x ``tile`` pixels at a time.

    Images up to that size are not cut. Larger ones are cut into as few tiles as that permits, and
    these are no larger than the overlap demands. The result differs from that of the whole image as
    far as the denoiser looks beyond a quarter of the overlap. Tile and overlap should be multiples
    of 8; otherwise the cells of a network that lowers the resolution differ from tile to tile.

    Args:
        prior: Prior of images (C, H, W) that takes any size.
        tile: Largest side of a tile, in pixels.
        overlap: Pixels that adjacent tiles share at least, between 0 and half of the tile.
        room: Bytes that may be kept of an evaluation for products with its Jacobian. The results do
            not depend on it.

    Raises:
        ValueError: If the overlap is negative or larger than half of the tile.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior
        >>> from scoresde.networks import UNet, UNetConfig
        >>> from scoresde.priors.tiled import TiledPrior
        >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
        >>> prior = TiledPrior(ScorePrior(network, EDMSDE(), (1, 8, 8)), tile=16, overlap=4)
        >>> x_t = torch.ones(1, 1, 40, 24)
        >>> torch.allclose(prior.denoise(x_t, 0.5), prior.prior.denoise(x_t, 0.5))
        True
    """

    def __init__(
        self, prior: Prior, tile: int = TILE, overlap: int = TILE_OVERLAP, room: int = 0
    ) -> None:
        super().__init__(prior)
        if not 0 <= 2 * overlap <= tile:
            raise ValueError(
                f"the overlap must be between 0 and half of the tile ({tile}), got {overlap}"
            )
        self.tile, self.overlap, self.room = tile, overlap, room

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Say whether samples may have a shape.

        Args:
            shape: Shape of one sample, without the batch axis.

        Returns:
            True for the shapes that the wrapped prior accepts, and, if that one has the size of a
            tile alone, for all larger pictures.
        """
        if self.prior.accepts(shape):
            return True
        larger = len(shape) == 3 and min(shape[1:]) >= self.tile
        return larger and self.prior.accepts((shape[0], self.tile, self.tile))

    def _length(self, size: int) -> int:
        """The side of the tiles along an axis: as many as there must be, all as small as can be."""
        if size <= self.tile:
            return size
        count = self._count(size)
        least = math.ceil((size + (count - 1) * self.overlap) / count)
        return min(self.tile, _rounded_up(least))

    def _count(self, size: int) -> int:
        return math.ceil((size - self.overlap) / (self.tile - self.overlap))

    def _spans(self, size: int, length: int, ragged: bool) -> list[slice]:
        """Where the tiles of an axis lie.

        Ragged ones begin at multiples of 8, and the last one may be up to 7 pixels shorter.
        """
        if size <= length:
            return [slice(0, size)]
        count, last = self._count(size), size - length
        if not ragged:
            starts = [round(i * last / (count - 1)) for i in range(count)]
        else:
            last = _rounded_up(last)
            starts = [i * last // (count - 1) // _MULTIPLE * _MULTIPLE for i in range(count)]
        return [slice(start, min(start + length, size)) for start in starts]

    def _ramp(self, span: slice, size: int, like: Tensor) -> Tensor:
        length, unused = span.stop - span.start, self.overlap // 4
        distance = torch.arange(length, dtype=like.dtype, device=like.device) + 0.5 - unused
        distance = distance.clamp_min(0) / max(self.overlap - 2 * unused, 1)
        ramp = torch.ones_like(distance)
        if span.start > 0:
            ramp = torch.minimum(ramp, distance)
        if span.stop < size:
            ramp = torch.minimum(ramp, distance.flip(0))
        return ramp

    def _boxes(self, shape: tuple[int, ...]) -> list[_Box]:
        """The tiles, those of one size after one another.

        A prior that takes no other sizes gets tiles of side ``tile``.
        """
        sizes, channels = shape[-2:], shape[-3]
        ragged = self.tile % _MULTIPLE == self.overlap % _MULTIPLE == 0
        boxes = self._grid(sizes, [self._length(size) for size in sizes], ragged)
        if not all(self.prior.accepts((channels, *_sides(box))) for box in boxes):
            boxes = self._grid(sizes, [min(self.tile, size) for size in sizes], ragged=False)
        return sorted(boxes, key=_sides, reverse=True)

    def _grid(self, sizes: Sequence[int], lengths: Sequence[int], ragged: bool) -> list[_Box]:
        rows, columns = (
            self._spans(size, length, ragged) for size, length in zip(sizes, lengths, strict=True)
        )
        return list(itertools.product(rows, columns))

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        height, width = x_t.shape[-2:]
        if max(height, width) <= self.tile:
            return self.prior._denoise(x_t, t)
        boxes = self._boxes(x_t.shape)
        ramps = [
            (self._ramp(rows, height, x_t)[:, None] * self._ramp(columns, width, x_t))[None, None]
            for rows, columns in boxes
        ]
        weights = _added_up(boxes, x_t[:1, :1].shape, ramps)
        groups = _groups(boxes, TILE**2 // len(x_t))

        if not (torch.is_grad_enabled() and x_t.requires_grad):
            return self._evaluated(x_t, t, boxes, ramps, groups) / weights
        if any(one.requires_grad for one in self.prior.parameters()):
            return self._recorded(x_t, t, boxes, ramps, groups) / weights
        tiles = _Tiles(self, t, boxes, ramps, groups)
        return cast(Tensor, _OneByOne.apply(x_t, tiles)) / weights  # type: ignore[no-untyped-call]

    def _evaluated(
        self,
        x_t: Tensor,
        t: Tensor,
        boxes: Sequence[_Box],
        ramps: Sequence[Tensor],
        groups: Sequence[slice],
    ) -> Tensor:
        """The weighted sum of the tiles, without gradients."""
        total = torch.zeros_like(x_t)
        for group in groups:
            tiles = self._tiles([x_t[..., *box] for box in boxes[group]], t)
            for box, ramp, D in zip(boxes[group], ramps[group], tiles, strict=True):
                total[..., *box] += ramp * D
        return total

    def _recorded(
        self,
        x_t: Tensor,
        t: Tensor,
        boxes: Sequence[_Box],
        ramps: Sequence[Tensor],
        groups: Sequence[slice],
    ) -> Tensor:
        """The same for gradients of any order, of the weights of a network too."""
        pieces = _cut(x_t, boxes)
        evaluated = [D for group in groups for D in self._tiles(pieces[group], t)]
        weighted = [ramp * D for ramp, D in zip(ramps, evaluated, strict=True)]
        return _paste(boxes, x_t.shape, weighted)

    def _tiles(
        self, pieces: Sequence[Tensor], t: Tensor, recompute: bool = True
    ) -> tuple[Tensor, ...]:
        """The denoiser on several tiles of one size, in one evaluation."""
        if len(pieces) == 1:
            return (self._inner(pieces[0], t, recompute),)
        D = self._inner(torch.cat(list(pieces)), t.repeat(len(pieces)), recompute)
        return D.chunk(len(pieces))


def _rounded_up(size: int) -> int:
    return -(-size // _MULTIPLE) * _MULTIPLE


def _sides(box: _Box) -> tuple[int, int]:
    rows, columns = box
    return rows.stop - rows.start, columns.stop - columns.start


def _groups(boxes: Sequence[_Box], pixels: int) -> list[slice]:
    """Tiles of one size that are evaluated together, of so many pixels at most."""
    groups, start = [], 0
    for (rows, columns), same in itertools.groupby(boxes, key=_sides):
        stop, together = start + len(list(same)), max(1, pixels // (rows * columns))
        groups += [slice(i, min(i + together, stop)) for i in range(start, stop, together)]
        start = stop
    return groups


@dataclass(frozen=True)
class _Group:
    """Tiles of one evaluation, and what autograd keeps of it: so many bytes."""

    pieces: Sequence[Tensor]
    results: Sequence[Tensor]
    size: int


@dataclass(frozen=True)
class _Tiles:
    """The tiles of an image.

    Args:
        prior: The prior.
        t: Times.
        boxes: Their places.
        ramps: Their weights.
        groups: Which are evaluated together.
        kept: What there was room for, by the number of the group.
    """

    prior: TiledPrior
    t: Tensor
    boxes: Sequence[_Box]
    ramps: Sequence[Tensor]
    groups: Sequence[slice]
    kept: dict[int, _Group] = field(default_factory=dict)

    def evaluate(self, x: Tensor) -> Tensor:
        """The weighted sum, of which as much is kept as there is room for.

        A group that is not kept is recorded, too: without gradients a network may choose other
        kernels, which round in another way.
        """
        total, used = torch.zeros_like(x), 0
        for i, group in enumerate(self.groups):
            found = self._recorded(x, group)
            if used + found.size <= self.prior.room:
                self.kept[i], used = found, used + found.size
            for box, ramp, D in zip(
                self.boxes[group], self.ramps[group], found.results, strict=True
            ):
                total[..., *box] += ramp * D.detach()
        return total

    def _recorded(self, x: Tensor, group: slice) -> _Group:
        """A group evaluated for products."""
        own = {one.untyped_storage().data_ptr() for one in self.prior.parameters()}
        sizes: dict[int, int] = {}

        def count(saved: Tensor) -> Tensor:
            storage = saved.untyped_storage()
            if storage.data_ptr() not in own:
                sizes[storage.data_ptr()] = storage.nbytes()
            return saved

        with torch.enable_grad(), saved_tensors_hooks(count, lambda saved: saved):
            pieces = [x[..., *box].detach().requires_grad_() for box in self.boxes[group]]
            results = self.prior._tiles(pieces, self.t, recompute=False)
        return _Group(pieces, results, sum(sizes.values()))

    def product(self, x: Tensor, v: Tensor) -> Tensor:
        """The product of v with the Jacobian of the sum at x, tile by tile."""
        total = torch.zeros_like(v)
        for i, group in enumerate(self.groups):
            boxes, ramps = self.boxes[group], self.ramps[group]
            found = self.kept.get(i) or self._recorded(x, group)
            along = [ramp * v[..., *box] for ramp, box in zip(ramps, boxes, strict=True)]
            products = torch.autograd.grad(
                found.results, found.pieces, along, retain_graph=i in self.kept
            )
            for box, product in zip(boxes, products, strict=True):
                total[..., *box] += product
        return total


class _OneByOne(torch.autograd.Function):
    """The sum of the tiles, of which those that are not kept are evaluated again for a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tiles: _Tiles) -> Tensor:
        ctx.save_for_backward(x)
        ctx.tiles = tiles
        return tiles.evaluate(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (x,), tiles, v = ctx.saved_tensors, ctx.tiles, gradients[0]
        if not torch.is_grad_enabled():
            return tiles.product(x, v), None
        # derivatives of higher order
        total = tiles.prior._recorded(x, tiles.t, tiles.boxes, tiles.ramps, tiles.groups)
        return torch.autograd.grad(total, x, v, create_graph=True)[0], None


def _added_up(boxes: Sequence[_Box], shape: torch.Size, tiles: Sequence[Tensor]) -> Tensor:
    """The sum of the tiles, each in its place."""
    total = tiles[0].new_zeros(shape)
    for box, tile in zip(boxes, tiles, strict=True):
        total[..., *box] += tile
    return total


# The slices of autograd would each make a gradient as large as the whole image. These two functions
# are the transposes of each other, and therefore have derivatives of any order.


def _cut(x: Tensor, boxes: Sequence[_Box]) -> tuple[Tensor, ...]:
    return cast(tuple[Tensor, ...], _Cut.apply(x, boxes))  # type: ignore[no-untyped-call]


def _paste(boxes: Sequence[_Box], shape: torch.Size, tiles: Sequence[Tensor]) -> Tensor:
    return cast(Tensor, _Paste.apply(boxes, shape, *tiles))  # type: ignore[no-untyped-call]


class _Cut(torch.autograd.Function):
    """Cuts an image into tiles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, boxes: Sequence[_Box]) -> tuple[Tensor, ...]:
        ctx.boxes, ctx.shape = boxes, x.shape
        return tuple(x[..., *box].clone() for box in boxes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return _paste(ctx.boxes, ctx.shape, gradients), None


class _Paste(torch.autograd.Function):
    """Adds tiles up in their places."""

    @staticmethod
    def forward(ctx: Any, boxes: Sequence[_Box], shape: torch.Size, *tiles: Tensor) -> Tensor:
        ctx.boxes = boxes
        return _added_up(boxes, shape, tiles)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return None, None, *_cut(gradients[0], ctx.boxes)
