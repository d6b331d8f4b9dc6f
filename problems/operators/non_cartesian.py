r"""MRI along spokes, spirals and other curves: samples of the Fourier transform anywhere.

With pixels q counted from the middle, the size N of the image, and k in cycles per field of view,

.. math:: y_{c,m} = \frac{1}{\sqrt{|N|}} \sum_q S_c(q)\, x(q)\, e^{-2\pi i\, k_m \cdot q / N} ,

so that points on the grid give :class:`problems.MRI`. The sum is computed in one of two ways. The
exponential is a product over the axes, so that a sum over one axis after the other is a matrix
product, exact to rounding, on any device. With FINUFFT (Barnett et al. 2019), of the extra "nufft",
samples are interpolated from an oversampled FFT, which takes far less time for many of them. Its
two transforms of the same kernel are adjoint to each other up to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor

from problems.checks import check_choice, check_number, check_sizes, check_tensor
from problems.linalg.precision import widened
from problems.linalg.solve import complex_dtype
from problems.operators.base import LinearOperator, Operator, Shape
from problems.operators.mri import birdcage_maps

__all__ = ["NonCartesianMRI", "radial_trajectory"]

Method = Literal["auto", "sums", "nufft"]

_FEW = 1 << 24  # products of samples and pixels, for which sums take about as long as FINUFFT
_AT_ONCE = 1 << 23  # complex numbers that a sum holds
_ITERATIONS = 5  # of the density; after many more, errors of neighbouring weights grow
_ACCURACY = {torch.complex64: 1e-6, torch.complex128: 1e-13}
_GOLDEN = math.pi * (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False, repr=False)
class NonCartesianMRI(LinearOperator):
    """Fourier transform of an image at any points, seen through the coils.

    y has shape (B, 2 coils images, ...), real and imaginary parts innermost, with the axes of the
    trajectory.

    Args:
        trajectory: Points (..., axes) in cycles per field of view, from -n/2 to n/2 along an axis
            of n pixels; the axes in the order of the image, rows first. This is the convention of
            sigpy.
        size: Size (H, W) of the image; (L,) of a signal, (D, H, W) of a volume.
        sensitivities: Sensitivities (coils, *size), complex; None for one ideal coil.
        complex_image: If True the channels of x come in pairs, real and imaginary part; if False
            each channel of x is a real image.
        method: "nufft" for FINUFFT, "sums" for matrix products, "auto" for FINUFFT on the CPU where
            it is installed and there are many samples. They differ by rounding: 1e-6 in single
            precision.

    Raises:
        ValueError: If the trajectory is not real, finite, of shape (..., axes) and within the
            limits, the sensitivities do not fit, or FINUFFT was named and is not installed.

    Example:
        >>> import torch
        >>> from problems import NonCartesianMRI, birdcage_maps, radial_trajectory
        >>> operator = NonCartesianMRI(radial_trajectory(9, 32), (32, 32), birdcage_maps(4, 32, 32))
        >>> operator.apply(torch.ones(1, 1, 32, 32)).shape
        torch.Size([1, 8, 9, 32])
    """

    trajectory: Tensor
    size: tuple[int, ...]
    sensitivities: Tensor | None = None
    complex_image: bool = False
    method: Method = "auto"

    def __post_init__(self) -> None:
        size = check_sizes(self.size, "the size of the image")
        object.__setattr__(self, "size", size)
        points = check_tensor(self.trajectory, "the trajectory").detach().clone()
        axes = len(size)
        if not 1 <= axes <= 3:
            raise ValueError(f"the size must have one to three sides, got {size}")
        sound = points.is_floating_point() and points.ndim >= 2 and points.shape[-1] == axes
        if not sound or not points.numel() or not bool(torch.isfinite(points).all()):
            raise ValueError(
                f"the trajectory must be real, finite and of shape (..., {axes}), "
                f"got {points.dtype} {tuple(points.shape)}"
            )
        limits = torch.tensor(size, dtype=torch.float64) / 2
        if bool((points.double().abs() > limits + 1e-3).any()):
            farthest = points.double().abs().flatten(0, -2).amax(0).tolist()
            raise ValueError(
                f"the trajectory is in cycles per field of view, at most {limits.tolist()} for "
                f"images of {size}, and reaches {farthest}; scale it, or give a larger size"
            )
        object.__setattr__(self, "trajectory", points)
        check_choice("method", self.method, get_args(Method))
        if self.method == "nufft":
            _finufft()
        maps = self.sensitivities
        if maps is None:
            return
        if not isinstance(maps, Tensor) or not maps.is_complex() or maps.shape[1:] != size:
            found = f"{maps.dtype} {tuple(maps.shape)}" if isinstance(maps, Tensor) else type(maps)
            raise ValueError(
                f"sensitivities must be complex and of shape (coils, {', '.join(map(str, size))}), "
                f"got {found}"
            )
        if not len(maps) or not bool(torch.isfinite(torch.view_as_real(maps)).all()):
            raise ValueError("sensitivities must be finite, of one coil at least")
        object.__setattr__(self, "sensitivities", maps.detach().clone())

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Random points, with one and with three coils, by name; complex images if C is even.
        """
        size = (shape[1], shape[2])
        generator = torch.Generator().manual_seed(7)
        unit = torch.rand(3, 5, 2, generator=generator, dtype=torch.float64) - 0.5
        points = unit * torch.tensor(size)
        maps = birdcage_maps(3, *size)
        found: dict[str, Operator] = {
            "mri-curves": cls(points, size, method="sums"),
            "mri-curves-coils": cls(points, size, maps, method="sums"),
        }
        if shape[0] % 2 == 0:
            found["mri-curves-complex"] = cls(points, size, maps, True, method="sums")
        return found

    @property
    def coils(self) -> int:
        """Number of coils."""
        return 1 if self.sensitivities is None else len(self.sensitivities)

    @property
    def _readout(self) -> tuple[int, ...]:
        return tuple(self.trajectory.shape[:-1])

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y.

        Args:
            shape: Shape (C, *size) of x, without the batch.

        Returns:
            Shape (2 coils images, ...).

        Raises:
            ValueError: If the image has another size, or is complex with an odd number of channels.
        """
        if tuple(shape[1:]) != self.size:
            raise ValueError(f"the image must have the size {self.size}, got {tuple(shape)}")
        if self.complex_image and shape[0] % 2:
            raise ValueError(
                "a complex image has two channels, real and imaginary part; "
                f"got {shape[0]} channels"
            )
        return (shape[0] * self.coils * (1 if self.complex_image else 2), *self._readout)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x.

        Args:
            shape: Shape (2 coils images, ...) of y, without the batch.

        Returns:
            Shape (C, *size).

        Raises:
            ValueError: If y does not fit the trajectory or the coils.
        """
        if tuple(shape[1:]) != self._readout or shape[0] % (2 * self.coils):
            raise ValueError(
                f"samples of {self.coils} coils have a multiple of {2 * self.coils} channels "
                f"(real, imaginary) and the axes {self._readout} of the trajectory, "
                f"got {tuple(shape)}"
            )
        return (shape[0] // self.coils // (1 if self.complex_image else 2), *self.size)

    def preview(self, y: Tensor) -> Tensor:
        """Turn a measurement into a picture to look at.

        Args:
            y: Measurement (B, 2 coils images, ...).

        Returns:
            Picture (B, 1, *size): the mean magnitude of :meth:`gridded`, from -1 for 0 to 1 for the
            largest one.
        """
        x = self.gridded(widened(y))
        if self.complex_image:
            x = torch.complex(*x.unflatten(1, (-1, 2)).unbind(2))
        size = x.abs().mean(1, keepdim=True)
        largest = size.flatten(1).amax(1).clamp_min(torch.finfo(size.dtype).tiny)
        return (2 * size / largest.reshape(-1, *[1] * (size.ndim - 1)) - 1).to(y.dtype)

    def _apply(self, x: Tensor) -> Tensor:
        z = torch.complex(*x.unflatten(1, (-1, 2)).unbind(2)) if self.complex_image else x
        z = z[:, :, None] * self._maps(x)
        k = self._transform(z.flatten(0, 2).to(complex_dtype(x)))
        k = k.reshape(*z.shape[:3], *self._readout)
        y: Tensor = rearrange(torch.stack([k.real, k.imag], 3), "b i c p ... -> b (i c p) ...")
        return y

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        parts = rearrange(y, "b (i c p) ... -> p b i c (...)", c=self.coils, p=2)
        k = torch.complex(*parts.unbind(0))
        z = self._back(k.flatten(0, 2)).reshape(*k.shape[:3], *self.size)
        z = (z * self._maps(y).conj()).sum(2)
        if not self.complex_image:
            return z.real
        x: Tensor = rearrange(torch.stack([z.real, z.imag], 2), "b i p ... -> b (i p) ...")
        return x

    def _maps(self, like: Tensor) -> Tensor:
        """Sensitivities (coils, *size)."""

        def make() -> Tensor:
            one = torch.ones(1, *self.size, dtype=torch.complex128)
            maps = one if self.sensitivities is None else self.sensitivities
            return maps.to(like.device, complex_dtype(like))

        return self._constant("maps", like, make)

    def _is_fast(self, z: Tensor) -> bool:
        """Whether FINUFFT is used."""
        if self.method != "auto":
            return self.method == "nufft"
        points = self.trajectory.shape[:-1].numel()
        many = points * math.prod(self.size) > _FEW
        return many and z.device.type == "cpu" and find_spec("finufft") is not None

    def _transform(self, z: Tensor) -> Tensor:
        """The samples (n, points) of images (n, *size)."""
        if self._is_fast(z):
            found: Tensor = _Nufft.apply(z, self._angles, self.size, False)  # type: ignore[no-untyped-call]
            return found / math.sqrt(math.prod(self.size))
        chunks = []
        for phases in self._phases(z):
            last = torch.tensordot(z, phases[-1], dims=([-1], [0]))
            for phase in reversed(phases[:-1]):
                last = (last * phase).sum(-2)
            chunks.append(last)
        return torch.cat(chunks, -1) / math.sqrt(math.prod(self.size))

    def _back(self, k: Tensor) -> Tensor:
        """The adjoint: images (n, *size) of samples (n, points)."""
        scale = math.sqrt(math.prod(self.size))
        if self._is_fast(k):
            found: Tensor = _Nufft.apply(k, self._angles, self.size, True)  # type: ignore[no-untyped-call]
            return found / scale
        total: Tensor | None = None
        place = 0
        mirrored = k.conj().resolve_conj()  # smaller than the phases, whose conjugates are needed
        for phases in self._phases(k):
            count = phases[0].shape[-1]
            part = mirrored[:, place : place + count]
            place += count
            for phase in phases[:-1]:
                part = part[..., None, :] * phase
            image = torch.tensordot(part, phases[-1], dims=([-1], [1]))
            total = image if total is None else total + image
        assert total is not None
        return total.conj().resolve_conj() / scale

    def _phases(self, like: Tensor) -> list[list[Tensor]]:
        """e^(-2 pi i k q / N) of some points at a time: a matrix (n, points) for each axis."""

        def make() -> list[list[Tensor]]:
            matrices = []
            for n, angle in zip(self.size, self._angles, strict=True):
                q = torch.arange(n, dtype=torch.float64) - n // 2
                turn = -torch.outer(q, angle)
                phase = torch.polar(torch.ones_like(turn), turn)
                matrices.append(phase.to(like.device, like.dtype))
            count = max(1, _AT_ONCE // max(1, math.prod(self.size[:-1])))
            return [list(part) for part in zip(*(m.split(count, 1) for m in matrices), strict=True)]

        return self._constant("phases", like, make)

    @cached_property
    def _angles(self) -> tuple[Tensor, ...]:
        """2 pi k / n of each axis, (points,), float64."""
        points = self.trajectory.detach().cpu().double().flatten(0, -2)
        return tuple(
            (2 * math.pi / n * line).contiguous()
            for n, line in zip(self.size, points.unbind(-1), strict=True)
        )

    @cached_property
    def density(self) -> Tensor:
        r"""Area of k-space that each sample stands for, up to a factor, with the mean 1.

        Found by w <- w / abs(A A* w) (Pipe and Menon 1999), of the shape of the readout, float64.
        It plays no part in A: as weights it makes A* a rough inverse, see :meth:`gridded`.
        """
        w = torch.ones(1, self.trajectory.shape[:-1].numel(), dtype=torch.complex128)
        for _ in range(_ITERATIONS):
            blurred = self._transform(self._back(w)).abs()
            w = w / blurred.clamp_min(1e-6 * float(blurred.max()))
        w = w.real / w.real.mean()
        return w.reshape(self._readout)

    def gridded(self, y: Tensor) -> Tensor:
        """Compute the usual start: A^T of the samples weighted by their density, in units of x.

        Args:
            y: Measurement (B, 2 coils images, ...).

        Returns:
            Image (B, *shape), scaled so that its samples are as near to y as any multiple's.
        """
        wide = widened(y)
        x = self.adjoint(wide * self.density.to(wide))
        found = self.apply(x)
        fit, power = (found * wide).flatten(1).sum(1), found.square().flatten(1).sum(1)
        scale = torch.where(power > 0, fit / power.clamp_min(torch.finfo(wide.dtype).tiny), 0)
        return (x * scale.reshape(-1, *[1] * (x.ndim - 1))).to(y.dtype)


class _Nufft(torch.autograd.Function):
    """A transform by FINUFFT, and its adjoint as derivative."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, angles: tuple[Tensor, ...], size: tuple[int, ...], back: bool
    ) -> Tensor:
        ctx.more = angles, size, back
        finufft = _finufft()
        values = z.detach().cpu().contiguous()
        single = values.dtype == torch.complex64
        points = [a.to(torch.float32 if single else torch.float64).numpy() for a in angles]
        how: dict[str, Any] = {
            "eps": _ACCURACY[values.dtype],
            "isign": 1 if back else -1,
            "nthreads": torch.get_num_threads(),
        }
        name = f"nufft{len(size)}d{1 if back else 2}"
        if back:
            how["n_modes"] = size if len(size) > 1 else size[0]
        found = getattr(finufft, name)(*points, values.numpy(), **how)
        shape = (len(values), *(size if back else angles[0].shape))
        return torch.from_numpy(found).reshape(shape).to(z.device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        angles, size, back = ctx.more
        found = _Nufft.apply(gradient, angles, size, not back)  # type: ignore[no-untyped-call]
        return found, None, None, None


def _finufft() -> Any:
    try:
        import finufft
    except ImportError:
        raise ValueError(
            'method "nufft" needs finufft: pip install "scoresde[nufft]", or say method="sums"'
        ) from None
    return finufft


def radial_trajectory(spokes: int, samples: int, *, golden: bool = True) -> Tensor:
    """Make the points of a radial scan: straight lines through the middle of k-space.

    Args:
        spokes: Number of lines.
        samples: Samples of a line, and pixels along a side of the image. The middle of k-space is
            sample number samples // 2.
        golden: If True neighbouring lines are a golden angle apart, so that any number of them is
            spread evenly; if False the angles are equally spaced over 180 degrees.

    Returns:
        Points (spokes, samples, 2), rows first, in cycles per field of view, float64.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> from problems import radial_trajectory
        >>> radial_trajectory(2, 4, golden=False)[0]
        tensor([[-0., -2.],
                [-0., -1.],
                [ 0.,  0.],
                [ 0.,  1.]], dtype=torch.float64)
    """
    check_number(spokes, "the number of spokes", least=1, most=1 << 20, whole=True)
    check_number(samples, "the number of samples", least=1, most=1 << 20, whole=True)
    step = _GOLDEN if golden else math.pi / spokes
    angle = step * torch.arange(spokes, dtype=torch.float64)
    radius = torch.arange(samples, dtype=torch.float64) - samples // 2
    return torch.stack([torch.outer(angle.sin(), radius), torch.outer(angle.cos(), radius)], -1)
