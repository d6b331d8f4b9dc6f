r"""A causal network on images: entry (i, j) of the output sees pixels before (i, j) in raster order, and no other.

Gated PixelCNN (van den Oord et al. 2016) with the shifted convolutions and the resolutions of PixelCNN++ (Salimans et al. 2017). Two
stacks of features run through all layers: v (i, j) of the rows above i, to the left and to the right; h (i, j) of v and of row i left of
j. Since v sees a whole cone above the pixel there is no blind spot in it. Half resolution keeps the order: at (I, J) it holds what (2I,
2J) may see, which all of the four pixels (2I..2I+1, 2J..2J+1) may see too.

Each layer also runs in pieces, ``row`` (v of one row) and ``pixel`` (h of one pixel), for draws pixel by pixel. What it must remember for
the next piece it keeps in a :class:`Cache`, so that every feature is computed once (Ramachandran et al. 2017).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Cache", "PixelCNN"]


class Cache:
    """Tensors (B, ...) by module and name. Batch rows may be chosen anew, as resampling does."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], Tensor] = {}

    def get(self, module: nn.Module, name: str, otherwise: Tensor | None = None) -> Tensor:
        kept = self._kept.get((id(module), name))
        if kept is None:
            assert otherwise is not None
            return torch.zeros_like(otherwise)
        return kept

    def put(self, module: nn.Module, name: str, value: Tensor) -> None:
        self._kept[id(module), name] = value

    def forget(self, module: nn.Module, name: str) -> None:
        self._kept.pop((id(module), name), None)

    def select(self, index: Tensor) -> None:
        self._kept = {key: value[index] for key, value in self._kept.items()}


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


def _pair(conv: nn.Conv2d, left: Tensor, here: Tensor) -> Tensor:
    """A (1, 2) convolution at one place: left, here (B, c) -> (B, c')."""
    weight = conv.weight[:, :, 0]
    return F.linear(
        torch.cat([left, here], 1), torch.cat([weight[..., 0], weight[..., 1]], 1), conv.bias
    )


class Gated(nn.Module):
    """v <- v + gate(conv(v)), rows i-1 and i; h <- h + W gate(conv(h) + W' v), columns j-1 and j. All features of c channels."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(c, 2 * c, (2, 3))
        self.across = nn.Conv2d(c, 2 * c, 1)
        self.horizontal = nn.Conv2d(c, 2 * c, (1, 2))
        self.out = nn.Conv2d(c, c, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        v = v + _gate(self.vertical(F.pad(v, (1, 1, 1, 0))))
        return v, h + self.out(_gate(self.horizontal(F.pad(h, (1, 0))) + self.across(v)))

    def row(self, cache: Cache, v: Tensor) -> Tensor:
        """v (B, c, 1, W), the next row."""
        above = cache.get(self, "above", v)
        cache.put(self, "above", v)
        v = v + _gate(self.vertical(F.pad(torch.cat([above, v], 2), (1, 1))))
        cache.put(self, "across", self.across(v))
        cache.forget(self, "left")
        return v

    def pixel(self, cache: Cache, j: int, h: Tensor) -> Tensor:
        """h (B, c), the next pixel of that row."""
        a = (
            _pair(self.horizontal, cache.get(self, "left", h), h)
            + cache.get(self, "across")[:, :, 0, j]
        )
        cache.put(self, "left", h)
        return h + F.linear(_gate(a), self.out.weight[:, :, 0, 0], self.out.bias)


class Resolution(nn.Module):
    """Gated layers, a level of half the resolution between them, gated layers."""

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
    """x (B, C, H, W) -> (B, H, W, outputs), causal in the pixels. widths: channels of each resolution; blocks: gated layers on each way."""

    def __init__(self, channels: int, outputs: int, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.stem_v = nn.Conv2d(channels + 1, widths[0], (2, 3))
        self.stem_h = nn.Conv2d(channels + 1, widths[0], (1, 2))
        self.body = Resolution(widths, blocks)
        self.head = nn.Linear(widths[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        padded = self.pad(x)
        v = self.stem_v(padded[:, :, :-1, 1:])
        h = self.stem_h(padded[:, :, 2:, :-2])
        return self._outputs(self.body(v, h)[1].movedim(1, -1))

    def row(self, cache: Cache, padded: Tensor, i: int) -> None:
        """Prepare row i. padded: what ``pad`` makes of an image whose first i rows are known."""
        self.body.row(cache, i, self.stem_v(padded[:, :, i : i + 2, 1:]))

    def pixel(self, cache: Cache, padded: Tensor, i: int, j: int) -> Tensor:
        """The output at (i, j), (B, outputs), of an image known before it. Rows and pixels must come in their order."""
        seen = padded[:, :, i + 2, j : j + 2]
        return self._outputs(
            self.body.pixel(cache, i, j, _pair(self.stem_h, seen[..., 0], seen[..., 1]))
        )

    @staticmethod
    def pad(x: Tensor) -> Tensor:
        """A channel of ones, which marks the border, and zeros: two rows above, two columns left, one right. (i, j) goes to (i+2, j+2)."""
        return F.pad(torch.cat([x, torch.ones_like(x[:, :1])], 1), (2, 1, 2, 0))

    def _outputs(self, h: Tensor) -> Tensor:
        with torch.autocast(
            h.device.type, enabled=False
        ):  # means in bfloat16 would be wrong by a grey level
            return self.head(F.elu(h.to(self.head.weight.dtype)))
