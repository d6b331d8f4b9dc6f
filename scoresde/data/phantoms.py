r"""Random phantoms: slices of a head for MRI, of a trunk for CT, and filaments for a microscope.

They are made of ellipses, like the phantom of Shepp and Logan (1974), with random places, sizes and
contrasts. All of them are functions of position on :math:`[-1, 1]^2` that are averaged over pixels
(approximately, at the edges of an ellipse: by its distance). The same generator therefore gives the
same scenes at any number of pixels, and a fine one can be measured that is restored on a coarse
grid. They resemble anatomy in nothing but contrast and size, and serve to try methods, not to judge
them for patients.
"""

import math

import torch
from torch import Tensor

from problems.checks import check_number

__all__ = ["body_phantoms", "filaments", "head_phantoms"]

_TOGETHER = 256  # scenes that are drawn at once
_MOST = 10**7
_WAVES = 12


def head_phantoms(n: int, side: int = 64, generator: torch.Generator | None = None) -> Tensor:
    """Draw slices of a head, as a scanner sees them with one ideal coil.

    Scalp, skull, grey and white matter, ventricles and a few lesions have random magnitudes of up
    to about 1, with a weak texture. The phase is smooth, about a random constant.

    Args:
        n: Number of slices.
        side: Height and width in pixels.
        generator: Source of the random numbers, on the CPU; None for torch's global one.

    Returns:
        Complex images (n, 1, side, side), complex64.

    Raises:
        ValueError: If n or side is not a positive whole number.

    Example:
        >>> import torch
        >>> from scoresde.data.phantoms import head_phantoms
        >>> x = head_phantoms(2, 32, torch.Generator().manual_seed(0))
        >>> x.shape, x.dtype
        (torch.Size([2, 1, 32, 32]), torch.complex64)
    """
    return torch.cat([_heads(m, side, generator) for m in _parts(n, side)])


def body_phantoms(n: int, side: int = 64, generator: torch.Generator | None = None) -> Tensor:
    """Draw slices of a trunk in Hounsfield units.

    Air has -1000 HU, fat about -90, muscle about 50, a spine and ribs 200 to 1000; half of the
    slices have lungs. Organs, vessels and lesions differ from muscle by up to 250.

    Args:
        n: Number of slices.
        side: Height and width in pixels.
        generator: Source of the random numbers, on the CPU; None for torch's global one.

    Returns:
        Hounsfield units (n, 1, side, side), float32.

    Raises:
        ValueError: If n or side is not a positive whole number.

    Example:
        >>> import torch
        >>> from scoresde.data.phantoms import body_phantoms
        >>> x = body_phantoms(2, 32, torch.Generator().manual_seed(0))
        >>> x.shape, x[..., 0, 0].flatten().tolist()
        (torch.Size([2, 1, 32, 32]), [-1000.0, -1000.0])
    """
    return torch.cat([_bodies(m, side, generator) for m in _parts(n, side)])


def filaments(n: int, side: int = 64, generator: torch.Generator | None = None) -> Tensor:
    """Draw cells with bright filaments and vesicles on a dark background.

    Args:
        n: Number of pictures.
        side: Height and width in pixels.
        generator: Source of the random numbers, on the CPU; None for torch's global one.

    Returns:
        Brightness (n, 1, side, side), float32; the brightest pixel of each picture is 1.

    Raises:
        ValueError: If n or side is not a positive whole number.

    Example:
        >>> import torch
        >>> from scoresde.data.phantoms import filaments
        >>> x = filaments(2, 32, torch.Generator().manual_seed(0))
        >>> x.shape, x.amax((1, 2, 3)).tolist()
        (torch.Size([2, 1, 32, 32]), [1.0, 1.0])
    """
    return torch.cat([_cells(m, side, generator) for m in _parts(n, side)])


def _parts(n: int, side: int) -> list[int]:
    """Numbers of scenes that are drawn together."""
    count = int(check_number(n, "the number of phantoms", least=1, most=_MOST, whole=True))
    check_number(side, "the side of a phantom in pixels", least=1, most=1 << 14, whole=True)
    return [min(_TOGETHER, count - k) for k in range(0, count, _TOGETHER)]


class _Scene:
    """n pictures that are painted with ellipses, one over the other."""

    def __init__(self, n: int, side: int, generator: torch.Generator | None, ground: float) -> None:
        place = (torch.arange(side) + 0.5) / side * 2 - 1
        self.x, self.y = place[None, None, :], place[None, :, None]
        self.n, self.pixel, self.generator = n, 2 / side, generator
        self.image = torch.full((n, side, side), ground)

    def uniform(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        """One number for each picture."""
        return low + (high - low) * torch.rand(self.n, generator=self.generator)

    def chance(self, probability: float) -> Tensor:
        """1 with this probability for each picture, else 0."""
        return (torch.rand(self.n, generator=self.generator) < probability).float()

    def inside(self, cx: Tensor, cy: Tensor, a: Tensor, b: Tensor, turn: Tensor) -> Tensor:
        """The part of each pixel that an ellipse covers, (n, side, side)."""
        cx, cy, a, b, turn = (v[:, None, None] for v in (cx, cy, a, b, turn))
        c, s = turn.cos(), turn.sin()
        u = ((self.x - cx) * c + (self.y - cy) * s) / a
        v = ((self.y - cy) * c - (self.x - cx) * s) / b
        q = (u**2 + v**2).sqrt()
        slope = ((u / a) ** 2 + (v / b) ** 2).sqrt() / q.clamp_min(1e-6)
        distance = (q - 1) / slope.clamp_min(1e-6)  # to the edge, to first order
        return (0.5 - distance / self.pixel).clamp(0, 1)

    def paint(self, value: Tensor, covered: Tensor) -> None:
        """Put a value where an ellipse is."""
        self.image = self.image + covered * (value[:, None, None] - self.image)

    def waves(self, finest: float) -> Tensor:
        """A texture of variance 1 with at most so many periods across the picture."""
        total = torch.zeros_like(self.image)
        for _ in range(_WAVES):
            k, angle = self.uniform(1, finest), self.uniform(0, 2 * math.pi)
            phase = self.uniform(0, 2 * math.pi)[:, None, None]
            kx, ky = ((math.pi * k * f)[:, None, None] for f in (angle.cos(), angle.sin()))
            total = total + (kx * self.x + ky * self.y + phase).cos()
        return total * math.sqrt(2 / _WAVES)

    def lesions(self, count: int, reach: Tensor, low: float, high: float) -> None:
        """Small ellipses within a radius, each there with probability 0.7."""
        for _ in range(count):
            r, angle = reach * self.uniform(0, 1).sqrt(), self.uniform(0, 2 * math.pi)
            a, b = self.uniform(0.03, 0.16), self.uniform(0.03, 0.16)
            covered = self.inside(r * angle.cos(), r * angle.sin(), a, b, angle)
            self.paint(self.uniform(low, high), covered * self.chance(0.7)[:, None, None])


def _heads(n: int, side: int, generator: torch.Generator | None) -> Tensor:
    s = _Scene(n, side, generator, 0.0)
    cx, cy, turn = s.uniform(-0.05, 0.05), s.uniform(-0.05, 0.05), s.uniform(-0.3, 0.3)
    a, b = s.uniform(0.62, 0.78), s.uniform(0.75, 0.92)
    s.paint(s.uniform(0.5, 1.0), s.inside(cx, cy, a, b, turn))
    s.paint(s.uniform(0.0, 0.12), s.inside(cx, cy, a - 0.06, b - 0.06, turn))
    brain = s.inside(cx, cy, a - 0.12, b - 0.12, turn)
    s.paint(s.uniform(0.35, 0.8), brain)
    white, inner = s.uniform(0.3, 0.9), s.uniform(0.65, 0.8)
    for sign in (-1.0, 1.0):  # two hemispheres
        shift = sign * 0.3 * a
        half = s.inside(
            cx + shift * turn.cos(), cy + shift * turn.sin(), 0.42 * a, inner * (b - 0.12), turn
        )
        s.paint(white, half)
    fluid, gap = s.uniform(0.0, 1.0), s.uniform(0.08, 0.16)
    p, q, lean = s.uniform(0.04, 0.1), s.uniform(0.14, 0.3), s.uniform(0.1, 0.4)
    for sign in (-1.0, 1.0):  # two ventricles
        s.paint(fluid, s.inside(cx + sign * gap, cy - 0.05, p, q, turn + sign * lean))
    s.lesions(4, 0.7 * a, 0.0, 1.0)
    s.image = s.image * (1 + 0.04 * brain * s.waves(12)) * (1 + 0.05 * s.waves(1.5))
    phase = s.uniform(0, 2 * math.pi)[:, None, None] + 0.6 * s.waves(1.5)
    return torch.polar(s.image.clamp_min(0), phase)[:, None]


def _bodies(n: int, side: int, generator: torch.Generator | None) -> Tensor:
    s = _Scene(n, side, generator, -1000.0)
    none = torch.zeros(n)
    a, b, tilt = s.uniform(0.75, 0.92), s.uniform(0.5, 0.68), s.uniform(-0.1, 0.1)
    body = s.inside(none, none, a, b, tilt)
    s.paint(s.uniform(-110, -70), body)
    fat = s.uniform(0.04, 0.12)
    s.paint(s.uniform(35, 65), s.inside(none, none, a - fat, b - fat, tilt))
    lungs = s.chance(0.5)[:, None, None]
    for sign in (-1.0, 1.0):  # lungs, or liver and spleen
        cx, cy = sign * s.uniform(0.38, 0.45) * a, s.uniform(-0.08, 0.05)
        wide, high, turn = s.uniform(0.28, 0.36) * a, s.uniform(0.5, 0.66) * b, s.uniform(-0.3, 0.3)
        covered = s.inside(cx, cy, wide, high, turn)
        s.paint(s.uniform(-880, -780), covered * lungs)
        s.paint(s.uniform(50, 150), covered * (1 - lungs))
    s.paint(s.uniform(30, 200), s.inside(none, s.uniform(-0.2, 0), *_twice(s, 0.1, 0.22), none))
    for _ in range(3):  # vessels, with a contrast agent in some
        x, y, r = s.uniform(-0.4, 0.4), s.uniform(-0.25, 0.25), s.uniform(0.03, 0.07)
        s.paint(s.uniform(40, 300), s.inside(x, y, r, r, none))
    s.lesions(3, 0.6 * b, -40, 130)
    wide, low = s.uniform(0.1, 0.15), b - fat
    spine = low - s.uniform(0.16, 0.22)
    s.paint(s.uniform(500, 1000), s.inside(none, spine, wide, wide * 0.8, none))
    s.paint(s.uniform(150, 350), s.inside(none, spine, wide - 0.04, wide * 0.8 - 0.04, none))
    for sign in (-1.0, 1.0):  # ribs
        for angle in (0.5, 1.1, -0.6):
            turn = torch.full((n,), angle) + s.uniform(-0.2, 0.2)
            out = 1 - fat / 2 - 0.09
            x, y = sign * out * a * turn.cos(), out * b * turn.sin()
            rib = s.inside(
                x, y, s.uniform(0.04, 0.08), s.uniform(0.025, 0.04), sign * (turn + 1.57)
            )
            s.paint(s.uniform(300, 900), rib)
    s.image = s.image + 8 * body * s.waves(14)
    return s.image[:, None]


def _twice(scene: _Scene, low: float, high: float) -> tuple[Tensor, Tensor]:
    return scene.uniform(low, high), scene.uniform(low, high)


def _cells(n: int, side: int, generator: torch.Generator | None) -> Tensor:
    s = _Scene(n, side, generator, 0.0)
    for _ in range(2):  # cell bodies
        x, y = s.uniform(-0.8, 0.8), s.uniform(-0.8, 0.8)
        covered = s.inside(x, y, *_twice(s, 0.3, 0.6), s.uniform(0, 3.14))
        s.paint(s.uniform(0.05, 0.2), covered)
    length, points = 1.6, 96
    for _ in range(9):  # lines whose direction turns at a random, slowly changing rate
        x, y = s.uniform(-1, 1), s.uniform(-1, 1)
        start, bend = s.uniform(0, 2 * math.pi), s.uniform(-2.0, 2.0)
        wave, phase = s.uniform(1, 5), s.uniform(0, 2 * math.pi)
        t = torch.linspace(-1, 1, points)[None]
        swing = (wave[:, None] * t + phase[:, None]).sin()
        heading = start[:, None] + bend[:, None] * t + 0.7 * swing
        step = length / points
        px = x[:, None] + step * heading.cos().cumsum(1)
        py = y[:, None] + step * heading.sin().cumsum(1)
        width, level = s.uniform(0.02, 0.035), s.uniform(0.25, 0.9)
        rows = _bump(s.y[0, :, 0] - py[..., None], width)
        columns = _bump(s.x[0, 0] - px[..., None], width)
        # a straight line has the brightness `level` in its middle
        weight = level * step / (math.sqrt(2 * math.pi) * width)
        line = torch.einsum("npi,npj->nij", rows, columns)
        s.image = s.image + weight[:, None, None] * line
    for _ in range(6):  # vesicles
        r = s.uniform(0.025, 0.07)
        spot = s.inside(s.uniform(-1, 1), s.uniform(-1, 1), r, r, r)
        s.paint(s.uniform(0.4, 1.2), spot * s.chance(0.7)[:, None, None])
    return (s.image / s.image.amax((1, 2), keepdim=True))[:, None]


def _bump(distance: Tensor, width: Tensor) -> Tensor:
    return (-0.5 * (distance / width[:, None, None]) ** 2).exp()
