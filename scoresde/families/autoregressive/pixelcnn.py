"""A causal network on images.

Entry (i, j) of the output depends only on the pixels before (i, j) in raster order.

It is a gated PixelCNN (van den Oord et al. 2016) with the shifted convolutions and the resolutions
of PixelCNN++ (Salimans et al. 2017). Two stacks of features run through all layers. v at (i, j)
depends on the rows above i, to the left and to the right. h at (i, j) depends on v and on row i
left of j. v depends on a whole cone above the pixel, so there is no blind spot in it. Half
resolution keeps the order: at (I, J) it holds features that pixel (2I, 2J) may depend on. All of
the four pixels (2I..2I+1, 2J..2J+1) may depend on them too.

For draws pixel by pixel, each layer also runs in pieces: ``row`` (v of one row) and ``pixel`` (h of
one pixel). A :class:`Cache` keeps what the next pieces need, so that every feature is computed once
(Ramachandran et al. 2017).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Cache", "PixelCNN"]


class Cache:
    """Tensors (B, ...) by module and name, whose batch rows can be reselected for resampling."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], Tensor] = {}

    def get(self, module: nn.Module, name: str, otherwise: Tensor | None = None) -> Tensor:
        """Look up a tensor.

        Args:
            module: Module that stored it.
            name: Name under which it was stored.
            otherwise: Tensor whose shape gives the zeros to return if nothing is stored; None if
                something must be stored.

        Returns:
            The stored tensor, or zeros.
        """
        kept = self._kept.get((id(module), name))
        if kept is None:
            assert otherwise is not None
            return torch.zeros_like(otherwise)
        return kept

    def put(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Store a tensor.

        Args:
            module: Module that stores it.
            name: Name under which it is stored.
            value: The tensor, shape (B, ...).
        """
        self._kept[id(module), name] = value

    def forget(self, module: nn.Module, name: str) -> None:
        """Remove a tensor, if it is stored.

        Args:
            module: Module that stored it.
            name: Name under which it was stored.
        """
        self._kept.pop((id(module), name), None)

    def select(self, index: Tensor) -> None:
        """Replace batch row k of every tensor by row index[k].

        Args:
            index: Indices of rows, shape (B,), int64.
        """
        self._kept = {key: value[index] for key, value in self._kept.items()}


def _gate(x: Tensor) -> Tensor:
    """Compute tanh of the first half of the channels times sigmoid of the second half."""
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def _pair(conv: nn.Conv2d, left: Tensor, here: Tensor) -> Tensor:
    """Apply a (1, 2) convolution at one place: left, here (B, c) -> (B, c')."""
    weight = conv.weight[:, :, 0]
    return F.linear(
        torch.cat([left, here], 1), torch.cat([weight[..., 0], weight[..., 1]], 1), conv.bias
    )


class Gated(nn.Module):
    """Gated layer of both stacks, all features with c channels.

    v <- v + gate(conv(v)), over rows i-1 and i; h <- h + W gate(conv(h) + W' v), over columns j-1
    and j.

    Args:
        c: Channels of v and of h.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(c, 2 * c, (2, 3))
        self.across = nn.Conv2d(c, 2 * c, 1)
        self.horizontal = nn.Conv2d(c, 2 * c, (1, 2))
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of whole images.

        Args:
            v: Vertical stack, shape (B, c, H, W).
            h: Horizontal stack, shape (B, c, H, W).

        Returns:
            The new v and h, same shapes.
        """
        v = v + _gate(self.vertical(F.pad(v, (1, 1, 1, 0))))
        return v, h + self.out(_gate(self.horizontal(F.pad(h, (1, 0))) + self.across(v)))

    def row(self, cache: Cache, v: Tensor) -> Tensor:
        """Compute v of the next row.

        Args:
            cache: Features of the rows and pixels before; it is updated.
            v: Vertical stack of the row, shape (B, c, 1, W).

        Returns:
            The new v of the row, shape (B, c, 1, W).
        """
        above = cache.get(self, "above", v)
        cache.put(self, "above", v)
        v = v + _gate(self.vertical(F.pad(torch.cat([above, v], 2), (1, 1))))
        cache.put(self, "across", self.across(v))
        cache.forget(self, "left")
        return v

    def pixel(self, cache: Cache, j: int, h: Tensor) -> Tensor:
        """Compute h of the next pixel of the row.

        Args:
            cache: Features of the rows and pixels before; it is updated.
            j: Column of the pixel.
            h: Horizontal stack at the pixel, shape (B, c).

        Returns:
            The new h at the pixel, shape (B, c).
        """
        a = (
            _pair(self.horizontal, cache.get(self, "left", h), h)
            + cache.get(self, "across")[:, :, 0, j]
        )
        cache.put(self, "left", h)
        return h + F.linear(_gate(a), self.out.weight[:, :, 0, 0], self.out.bias)


class Resolution(nn.Module):
    """Gated layers, then a level of half the resolution, then gated layers.

    Args:
        widths: Channels of this resolution and of all coarser ones, finest first.
        blocks: Gated layers before the coarser level, and again after it.
    """

    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        fine = widths[0]
        self.before = nn.ModuleList(Gated(fine) for _ in range(blocks))
        self.coarse = len(widths) > 1
        if self.coarse:
            self.down_v = nn.Conv2d(fine, widths[1], (2, 3), stride=2)
            self.down_h = nn.Conv2d(fine, widths[1], (1, 2), stride=2)
            self.inner = Resolution(widths[1:], blocks)
            self.up_v = nn.ConvTranspose2d(widths[1], fine, 2, stride=2)
            self.up_h = nn.ConvTranspose2d(widths[1], fine, 2, stride=2)
            self.after = nn.ModuleList(Gated(fine) for _ in range(blocks))

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of whole images.

        Args:
            v: Vertical stack, shape (B, c, H, W).
            h: Horizontal stack, shape (B, c, H, W).

        Returns:
            The new v and h, same shapes.
        """
        for layer in self.before:
            v, h = layer(v, h)
        if not self.coarse:
            return v, h
        height, width = v.shape[-2:]
        a, b = self.inner(self.down_v(F.pad(v, (1, 1, 1, 0))), self.down_h(F.pad(h, (1, 0))))
        v, h = v + self.up_v(a)[..., :height, :width], h + self.up_h(b)[..., :height, :width]
        for layer in self.after:
            v, h = layer(v, h)
        return v, h

    def row(self, cache: Cache, i: int, v: Tensor) -> Tensor:
        """Compute v of the next row.

        Args:
            cache: Features of the rows and pixels before; it is updated.
            i: Number of the row at this resolution.
            v: Vertical stack of the row, shape (B, c, 1, W).

        Returns:
            The new v of the row, shape (B, c, 1, W).
        """
        for layer in self.before:
            v = layer.row(cache, v)  # type: ignore[operator]
        if not self.coarse:
            return v
        if i % 2 == 0:
            pair = torch.cat([cache.get(self, "above", v), v], 2)
            cache.put(self, "v", self.inner.row(cache, i // 2, self.down_v(F.pad(pair, (1, 1)))))
            cache.forget(self, "h")
        cache.put(self, "above", v)
        cache.forget(self, "left")
        coarse, up = cache.get(self, "v"), self.up_v
        v = (
            v
            + F.conv_transpose2d(coarse, up.weight[:, :, i % 2, None], up.bias, stride=(1, 2))[
                ..., : v.shape[-1]
            ]
        )
        for layer in self.after:
            v = layer.row(cache, v)  # type: ignore[operator]
        return v

    def pixel(self, cache: Cache, i: int, j: int, h: Tensor) -> Tensor:
        """Compute h of the next pixel of the row.

        Args:
            cache: Features of the rows and pixels before; it is updated.
            i: Row of the pixel at this resolution.
            j: Column of the pixel at this resolution.
            h: Horizontal stack at the pixel, shape (B, c).

        Returns:
            The new h at the pixel, shape (B, c).
        """
        for layer in self.before:
            h = layer.pixel(cache, j, h)  # type: ignore[operator]
        if not self.coarse:
            return h
        if i % 2 == 0 and j % 2 == 0:
            b = self.inner.pixel(
                cache, i // 2, j // 2, _pair(self.down_h, cache.get(self, "left", h), h)
            )
            known = [cache.get(self, "h")] if j else []
            cache.put(self, "h", torch.cat([*known, b[..., None]], -1))
        cache.put(self, "left", h)
        h = h + F.linear(
            cache.get(self, "h")[..., j // 2],
            self.up_h.weight[:, :, i % 2, j % 2].T,
            self.up_h.bias,
        )
        for layer in self.after:
            h = layer.pixel(cache, j, h)  # type: ignore[operator]
        return h


class PixelCNN(nn.Module):
    """Network from x (B, C, H, W) to (B, H, W, outputs), causal in the pixels.

    Args:
        channels: Number C of channels of an image.
        outputs: Numbers that the network returns for each pixel.
        widths: Channels of the features at each resolution, finest first.
        blocks: Gated layers per resolution, before the coarser level and again after it.
    """

    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.stem_v = nn.Conv2d(channels + 1, widths[0], (2, 3))
        self.stem_h = nn.Conv2d(channels + 1, widths[0], (1, 2))
        self.body = Resolution(widths, blocks)
        self.head = nn.Linear(widths[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs of every pixel.

        Args:
            x: Images, shape (B, C, H, W).

        Returns:
            Outputs, shape (B, H, W, outputs).
        """
        padded = self.pad(x)
        v = self.stem_v(padded[:, :, :-1, 1:])
        h = self.stem_h(padded[:, :, 2:, :-2])
        return self._outputs(self.body(v, h)[1].movedim(1, -1))

    def row(self, cache: Cache, padded: Tensor, i: int) -> None:
        """Prepare row i: compute the vertical stack, which depends only on the rows above.

        Args:
            cache: Features of the rows and pixels before; it is updated.
            padded: Result of :meth:`pad` for images whose first i rows are known.
            i: Number of the row. Rows must come in order.
        """
        self.body.row(cache, i, self.stem_v(padded[:, :, i : i + 2, 1:]))

    def pixel(self, cache: Cache, padded: Tensor, i: int, j: int) -> Tensor:
        """Compute the output of one pixel of images known before it.

        Args:
            cache: Features of the rows and pixels before; it is updated.
            padded: Result of :meth:`pad` for images known before the pixel.
            i: Row of the pixel; ``row`` must have been called for it.
            j: Column of the pixel. Pixels must come in order.

        Returns:
            Outputs, shape (B, outputs).
        """
        seen = padded[:, :, i + 2, j : j + 2]
        return self._outputs(
            self.body.pixel(cache, i, j, _pair(self.stem_h, seen[..., 0], seen[..., 1]))
        )

    @staticmethod
    def pad(x: Tensor) -> Tensor:
        """Append a channel of ones, which marks the border, and pad with zeros.

        The padding is two rows above, two columns on the left and one on the right, so pixel (i, j)
        moves to (i+2, j+2).

        Args:
            x: Images, shape (B, C, H, W).

        Returns:
            Padded images, shape (B, C + 1, H + 2, W + 3).
        """
        return F.pad(torch.cat([x, torch.ones_like(x[:, :1])], 1), (2, 1, 2, 0))

    def _outputs(self, h: Tensor) -> Tensor:
        # Means in bfloat16 would be wrong by a grey level.
        with torch.autocast(h.device.type, enabled=False):
            return self.head(F.elu(h.to(self.head.weight.dtype)))
