r"""Magnetic resonance imaging: :math:`y_c = M F (S_c x)` for each coil c.

It is the masked Fourier transform of the image seen through each coil's sensitivity.

F is unitary and centred, fftshift(fft(ifftshift(x), norm="ortho")): the zero frequency is in the
middle of mask and k-space, as in the fastMRI data and in sigpy. Sensitivities of a scanner are
estimated by :func:`problems.espirit_maps`. With one coil the SVD is known. For complex images
V = F^*, s = M. A real image has :math:`A^T A = H\,\mathrm{diag}\tfrac12(M_k + M_{-k})\,H`, with H
the Hartley transform, because each of its frequencies occurs at k and at -k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor
from torch.fft import fftn, fftshift, ifftn, ifftshift

from problems.checks import check_number, check_sizes
from problems.linalg.precision import widened
from problems.linalg.solve import complex_dtype
from problems.linalg.svd import SVD, identity
from problems.linalg.transforms import hartley
from problems.operators.base import LinearOperator, Operator, Shape
from problems.operators.inpainting import binary

__all__ = ["MRI", "birdcage_maps", "cartesian_mask"]

_MOST_COILS = 1024


def _last(axes: int) -> tuple[int, ...]:
    return tuple(range(-axes, 0))


def _fourier(z: Tensor, axes: int) -> Tensor:
    dim = _last(axes)
    k: Tensor = fftshift(fftn(ifftshift(z, dim=dim), dim=dim, norm="ortho"), dim=dim)
    return k


def _inverse(k: Tensor, axes: int) -> Tensor:
    dim = _last(axes)
    z: Tensor = fftshift(ifftn(ifftshift(k, dim=dim), dim=dim, norm="ortho"), dim=dim)
    return z


def _hartley(x: Tensor, axes: int) -> Tensor:
    h: Tensor = fftshift(hartley(ifftshift(x, dim=_last(axes)), axes), dim=_last(axes))
    return h


@dataclass(frozen=True, eq=False, repr=False)
class MRI(LinearOperator):
    """Masked Fourier transform of an image, seen through the sensitivities of one or more coils.

    y has shape (B, 2 coils images, H, W), real and imaginary parts innermost, with zeros where
    nothing was sampled. The mask decides whether x is an image, a signal or a volume.

    Args:
        mask: Mask (H, W) for images, (L,) for signals, (D, H, W) for volumes; True or 1 where
            k-space is sampled; the zero frequency is in the middle.
        sensitivities: Sensitivities (coils, H, W), complex, with the sides of the mask; None for
            one ideal coil.
        complex_image: If True the channels of x come in pairs, real and imaginary part; if False
            each channel of x is a real image.

    Raises:
        ValueError: If the mask is not binary, has no axis or more than three, or is empty, or the
            sensitivities are not complex, finite and of fitting shape.

    Example:
        >>> import torch
        >>> from problems import MRI, cartesian_mask
        >>> mask = cartesian_mask(32, 32, 4.0, generator=torch.Generator().manual_seed(0))
        >>> operator = MRI(mask)
        >>> operator.apply(torch.ones(1, 1, 32, 32)).shape
        torch.Size([1, 2, 32, 32])
        >>> "svd" in operator.capabilities
        True
    """

    mask: Tensor
    sensitivities: Tensor | None = None
    complex_image: bool = False

    def __post_init__(self) -> None:
        mask = binary(self.mask)
        if not 1 <= mask.ndim <= 3 or not mask.any():
            raise ValueError(
                "a k-space mask must have shape (H, W), (L,) or (D, H, W) and sample something, "
                f"got {tuple(mask.shape)}"
            )
        object.__setattr__(self, "mask", mask)
        if self.sensitivities is not None:
            if not isinstance(self.sensitivities, Tensor):
                raise ValueError(
                    "sensitivities must be a complex tensor, got "
                    f"{type(self.sensitivities).__name__}"
                )
            maps = self.sensitivities.detach().clone()
            if (
                not maps.is_complex()
                or maps.ndim != mask.ndim + 1
                or maps.shape[1:] != mask.shape
                or not torch.isfinite(torch.view_as_real(maps)).all()
            ):
                raise ValueError(
                    "sensitivities must be complex, finite and of shape "
                    f"(coils, {', '.join(map(str, mask.shape))}), "
                    f"got {maps.dtype} {tuple(maps.shape)}"
                )
            object.__setattr__(self, "sensitivities", maps)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Masks of columns and points, one or three coils, by name; complex images if C is even.
        """
        height, width = shape[-2:]
        mask = cartesian_mask(height, width, 2.0, generator=torch.Generator().manual_seed(5))
        points = torch.rand(height, width, generator=torch.Generator().manual_seed(6)) < 0.5
        points[height // 2, width // 2] = True
        maps = birdcage_maps(3, height, width)
        found: dict[str, Operator] = {
            "mri": cls(mask),
            "mri-points": cls(points),
            "mri-coils": cls(mask, maps),
        }
        if shape[0] % 2 == 0:
            found |= {
                "mri-complex": cls(points, complex_image=True),
                "mri-complex-coils": cls(mask, maps, complex_image=True),
            }
        return found

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Structure {"svd", "closed_form"} with one ideal coil, else none."""
        return frozenset({"svd", "closed_form"}) if self.sensitivities is None else frozenset()

    @property
    def coils(self) -> int:
        """Number of coils."""
        return 1 if self.sensitivities is None else len(self.sensitivities)

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y.

        Args:
            shape: Shape (C, H, W) of x, without the batch.

        Returns:
            Shape (2 coils images, H, W).

        Raises:
            ValueError: If the image has not the size of the mask, or is complex with an odd
                number of channels.
        """
        self._check(shape)
        if self.complex_image and shape[0] % 2:
            raise ValueError(
                "a complex image has two channels, real and imaginary part; "
                f"got {shape[0]} channels"
            )
        return (shape[0] * self.coils * (1 if self.complex_image else 2), *shape[1:])

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x.

        Args:
            shape: Shape (2 coils images, H, W) of y, without the batch.

        Returns:
            Shape (C, H, W).

        Raises:
            ValueError: If y has not the size of the mask, or its channels do not fit the coils.
        """
        self._check(shape)
        if shape[0] % (2 * self.coils):
            raise ValueError(
                f"k-space of {self.coils} coils has a multiple of {2 * self.coils} channels "
                f"(real, imaginary), got {shape[0]}"
            )
        return (shape[0] // self.coils // (1 if self.complex_image else 2), *shape[1:])

    def _check(self, shape: Shape) -> None:
        if tuple(shape[1:]) != tuple(self.mask.shape):
            axes, one = {1: ("", "signal"), 2: (" (height, width)", "image")}.get(
                self.mask.ndim, (" (depth, height, width)", "volume")
            )
            raise ValueError(
                f"the k-space mask is {tuple(self.mask.shape)}{axes}, the {one} is {tuple(shape)}"
            )

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """Set the entries of k-space that are not sampled to zero, even where they hold NaN.

        Args:
            y: Measurements (B, 2 coils images, H, W).

        Returns:
            Measurements of the same shape.
        """
        return torch.where(self.mask.to(y.device), y, 0)

    def preview(self, y: Tensor) -> Tensor:
        """Turn a measurement into a picture to look at.

        Args:
            y: Measurement (B, 2 coils images, H, W).

        Returns:
            Picture as of :meth:`problems.Operator.preview`. Of complex images it is the root of the
            sum of squares of the coils (B, 1, H, W), with zeros for what was not measured, from -1
            for the magnitude 0 to 1 for the largest one.
        """
        if not self.complex_image:
            return super().preview(y)
        axes = self.mask.ndim
        k = _join(self.mask_unobserved(widened(y)))
        size = _inverse(k, axes).abs().square().sum(1, keepdim=True).sqrt()
        largest = size.flatten(1).amax(1).clamp_min(torch.finfo(size.dtype).tiny)
        return (2 * size / largest.reshape(-1, *[1] * (axes + 1)) - 1).to(y.dtype)

    def _weights(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the factors of the image, (coils or 1, *sides), and of k-space, of the mask.

        They multiply the image before a plain Fourier transform, and k-space after it. A shift by
        half the length on one side of the transform is a phase factor on the other; it alternates
        between 1 and -1 where the length is even.
        """

        def make() -> tuple[Tensor, Tensor]:
            one = torch.ones([1] * self.mask.ndim, dtype=torch.complex128)
            before, after = one, one
            for axis, n in enumerate(self.mask.shape):
                place = torch.arange(n, dtype=torch.float64)
                line = [1] * self.mask.ndim
                line[axis] = n
                turn = torch.stack([place, place - n // 2]) * (2 * math.pi * (n // 2) / n)
                first, second = torch.polar(torch.ones_like(turn), turn)
                before, after = before * first.reshape(line), after * second.reshape(line)
            if all(n % 2 == 0 for n in self.mask.shape):
                before, after = before.real.round(), after.real.round()
            maps = (
                before[None]
                if self.sensitivities is None
                else self.sensitivities.cpu().to(torch.complex128) * before
            )
            dtypes = {True: complex_dtype(like), False: like.dtype}
            pair = (maps, after * self.mask.cpu())
            first, second = (part.to(like.device, dtypes[part.is_complex()]) for part in pair)
            return first, second

        return self._constant("weights", like, make)

    def _apply(self, x: Tensor) -> Tensor:
        before, after = self._weights(x)
        axes = self.mask.ndim
        z = (_join(x) if self.complex_image else x)[:, :, None] * before
        k = fftn(z, dim=_last(axes), norm="ortho")
        y: Tensor = rearrange(_parts(k * after, axes), "b i c p ... -> b (i c p) ...")
        return y

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        before, after = self._weights(y)
        axes = self.mask.ndim
        k = _join(rearrange(y, "b (i c p) ... -> b (i p) c ...", c=self.coils, p=2), axis=1)
        z: Tensor = ifftn(k * after.conj(), dim=_last(axes), norm="ortho") * before.conj()
        z = z[:, :, 0] if len(before) == 1 else z.sum(2)
        if not self.complex_image:
            return z.real
        x: Tensor = rearrange(_parts(z, axes), "b i p ... -> b (i p) ...")
        return x

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        output, axes = self.output_shape(shape), self.mask.ndim
        if self.complex_image:

            def split(z: Tensor) -> Tensor:
                return rearrange(_parts(z, axes), "b i p ... -> b (i p) ...")

            return SVD(
                self.mask.to(like).expand(output),
                V=lambda w: split(_inverse(_join(w), axes)),
                Vt=lambda x: split(_fourier(_join(x), axes)),
                U=identity,
                Ut=identity,
                complete_v=True,
                complete_u=True,
            )
        mask = ifftshift(self.mask.double(), dim=_last(axes))
        mirrored = mask.flip(_last(axes)).roll([1] * axes, _last(axes))
        s = fftshift(((mask + mirrored) / 2).sqrt(), dim=_last(axes)).to(like)
        inverse = torch.where(s > 0, 1 / s, 0)
        return SVD(
            s.expand(shape),
            V=lambda w: _hartley(w, axes),
            Vt=lambda x: _hartley(x, axes),
            U=lambda w: self._apply(_hartley(w * inverse, axes)),
            Ut=lambda y: _hartley(self._adjoint(y, shape), axes) * inverse,
            complete_v=True,
        )


def _join(x: Tensor, axis: int = 1) -> Tensor:
    """Combine channels (real, imaginary, real, ...) into complex numbers."""
    return torch.complex(*x.unflatten(axis, (-1, 2)).unbind(axis + 1))


def _parts(z: Tensor, axes: int) -> Tensor:
    """Split complex numbers into an axis of two before the last ones."""
    return torch.stack([z.real, z.imag], -1 - axes)


def cartesian_mask(
    height: int,
    width: int,
    acceleration: float,
    centre: float = 0.08,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Make a k-space mask of whole columns: all in the middle, and others at random.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        acceleration: Ratio of all columns to sampled ones, at least 1.
        centre: Fraction of the columns, in the middle, that is always sampled; at least one column.
        generator: Source of the positions, on the CPU; None for the global one.

    Returns:
        Mask (H, W), bool, True where sampled.

    Raises:
        ValueError: If the acceleration is below 1 or the centre not in [0, 1].
    """
    check_sizes((height, width), "a k-space mask")
    try:
        check_number(acceleration, "the acceleration", least=1)
        check_number(centre, "the centre", least=0, most=1)
    except ValueError:
        raise ValueError(
            "the acceleration must be at least 1 and the centre in [0, 1], "
            f"got {acceleration!s:.40} and {centre!s:.40}"
        ) from None
    low = max(1, round(centre * width))
    start = width // 2 - low // 2
    columns = torch.zeros(width, dtype=torch.bool)
    columns[start : start + low] = True
    rest = (~columns).nonzero()[:, 0]
    more = max(0, round(width / acceleration) - low)
    columns[rest[torch.randperm(len(rest), generator=generator)[:more]]] = True
    return columns.expand(height, width).clone()


def birdcage_maps(coils: int, height: int, width: int) -> Tensor:
    """Make sensitivities of coils around the image, each stronger near the coil.

    Args:
        coils: Number of coils, at least 1.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Sensitivities (coils, H, W), complex128; their squared magnitudes sum to 1 at every pixel.

    Raises:
        ValueError: If there is no coil.
    """
    check_number(coils, "the number of coils", least=1, most=_MOST_COILS, whole=True)
    check_sizes((height, width), "the sensitivities")
    row = (torch.arange(height, dtype=torch.float64) + 0.5) / height * 2 - 1
    column = (torch.arange(width, dtype=torch.float64) + 0.5) / width * 2 - 1
    angle = 2 * math.pi * torch.arange(coils, dtype=torch.float64) / coils
    dy = row[None, :, None] - 1.5 * angle.sin()[:, None, None]
    dx = column[None, None, :] - 1.5 * angle.cos()[:, None, None]
    maps = torch.polar(1 / (dx**2 + dy**2).sqrt(), torch.atan2(dy, dx))
    return maps / maps.abs().square().sum(0).sqrt()
