r"""Base classes of operators, and the methods that every operator has.

Every operator has ``apply``, which computes A x, and ``vjp``, which computes J^T v. A linear
operator also has these methods, each listed by its name in ``capabilities``:

- ``adjoint``: :math:`A^T y`.
- ``pinv``: :math:`A^+ y`.
- ``svd``: :math:`A = U\,\mathrm{diag}(s)\,V^T`, with U and V as transforms.
- ``solve``: :math:`(c_0 I + c_1 A A^T)^{-1} v`.
- ``solve_primal``: the same with :math:`A^T A`, by Woodbury's identity

.. math:: (c_0 I + c_1 A^T A)^{-1} z = \bigl(z - c_1 A^T (c_0 I + c_1 A A^T)^{-1} A z\bigr)/c_0 .

- ``prox``: the posterior mean of x under a prior :math:`N(z, \rho^2 I)`.
- ``prox_sample``: a draw from that posterior.

A new operator defines ``_apply``, ``_adjoint``, two shapes and ``examples``. The rest follows: from
its ``_svd`` if it has one, and otherwise by conjugate gradients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from functools import reduce
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

import torch
from torch import Tensor

from problems.description import Described, concrete, moved_to
from problems.linalg.broadcast import expand_like
from problems.linalg.precision import HALVES, widened
from problems.linalg.solve import conjugate_gradients
from problems.linalg.svd import SVD, dense_svd, identity
from problems.operators.rounding import without_rounding
from problems.random_numbers import Generators, randn_like

__all__ = [
    "LinearOperator",
    "MissingCapability",
    "Operator",
    "Shape",
    "check_image",
    "check_sample",
    "derives",
    "examples_of",
    "known_operators",
]

Shape = tuple[int, ...]
T = TypeVar("T")

_DENSE = 1 << 12  # largest number of columns for a dense SVD
_CACHED = 16  # constants that an operator keeps


_DERIVED: dict[str, Callable[..., Any]] = {}
_EXAMPLES: dict[type, Callable[[Shape], dict[str, Any]]] = {}


def derives(name: Literal["linearise", "compose"]) -> Callable[[T], T]:
    """Register the class or function that :meth:`Operator.linearise` or ``outer @ inner`` calls.

    Both return operators, so their modules import this one, and this one cannot import them.

    Args:
        name: "linearise": the decorated object maps (operator, x) to the Jacobian at x. "compose":
            it maps (outer, inner) to their composition.

    Returns:
        Decorator that registers its argument and returns it unchanged.
    """

    def register(make: T) -> T:
        _DERIVED[name] = cast(Callable[..., Any], make)
        return make

    return register


def examples_of(cls: type[Operator]) -> Callable[[T], T]:
    """Register a function that builds the :meth:`Operator.examples` of a class.

    Args:
        cls: Class of operators that the examples belong to.

    Returns:
        Decorator for a function that maps a shape (C, H, W) to operators by name. It returns the
        function unchanged.
    """

    def register(make: T) -> T:
        _EXAMPLES[cls] = cast(Callable[[Shape], dict[str, Any]], make)
        return make

    return register


class MissingCapability(ValueError, AttributeError):
    """Error for a method that an operator does not have.

    It is also an AttributeError, so that ``hasattr`` returns False for such a method.
    """


class Operator(Described, ABC):
    """Map from batches x (B, *shape) to batches y (B, ...) of real floating-point tensors.

    An operator is a frozen dataclass and never changes. It computes with the dtype and on the
    device of its input; half precision is computed in float32 and rounded at the end. The public
    methods check shapes with ``output_shape`` and ``input_shape``, then call the methods with a
    leading underscore.

    Attributes:
        kind: Key of the class name in ``describe()``, "operator".
        base_capabilities: Names of the methods that every instance of the class has.

    Example:
        >>> import torch
        >>> from problems import Clipping
        >>> operator = Clipping(1.0)
        >>> operator.apply(torch.tensor([[-2.0, 0.5, 3.0]]))
        tensor([[-1.0000,  0.5000,  1.0000]])
        >>> sorted(operator.capabilities)
        ['apply', 'vjp']
        >>> hasattr(operator, "adjoint")
        False
    """

    kind = "operator"
    base_capabilities: ClassVar[frozenset[str]] = frozenset({"apply", "vjp"})

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the methods and properties that this operator has."""
        return self.base_capabilities

    @property
    def quantises(self) -> bool:
        """True if ``apply`` rounds to a grid.

        ``vjp`` is then the derivative of the operator without its rounding. The rounding error
        counts as the noise of y: a file that was measured like this has no other noise, and the
        noise of the problem states how large that error is assumed to be.
        """
        return False

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (C, H, W) for images.

        Returns:
            Shape of y without its batch, for example (C, h, w) or (m,).

        Raises:
            ValueError: If x cannot have this shape.
        """

    @abstractmethod
    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, for example (C, h, w) or (m,).

        Returns:
            Shape of x without its batch, (C, H, W) for images.

        Raises:
            ValueError: If y cannot have this shape.
        """

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor: ...

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances of the class; the tests check every identity on each of them.

        A class overrides this method. Where the examples need operators of other modules,
        :func:`examples_of` registers a function instead.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        return _EXAMPLES[cls](shape) if cls in _EXAMPLES else {}

    def apply(self, x: Tensor) -> Tensor:
        """Compute the measurement A x.

        Args:
            x: Batch (B, *shape), floating-point.

        Returns:
            Measurement y, shape (B, ...), without noise.

        Raises:
            ValueError: If x is not a real floating-point batch or has the wrong shape.
        """
        self.output_shape(_shape(x))
        return _like(self._apply(widened(x)), x)

    def unrounded(self, x: Tensor) -> Tensor:
        """Compute the measurement without the roundings of the operator, where it has some.

        ``vjp`` and ``linearise`` are those of this function. Where a rounding is described as
        noise, it is what the noise is added to: near a point, ``apply`` does not change at all.

        Args:
            x: Batch (B, *shape), floating-point.

        Returns:
            Shape of the measurement, (B, ...); ``apply(x)`` for operators that do not quantise.

        Raises:
            ValueError: If x is not a real floating-point batch or has the wrong shape.
        """
        if not self.quantises:
            return self.apply(x)
        with without_rounding():
            return self.apply(x)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Compute J^T v, where J is the Jacobian of ``apply`` at x.

        Args:
            x: Points at which the Jacobian is taken, shape (B, *shape).
            v: Vectors in the shape of the measurement, (B, ...).

        Returns:
            Products, shape (B, *shape).

        Raises:
            ValueError: If x or v has the wrong shape or dtype.
        """
        output = self.output_shape(_shape(x))
        if _shape(v) != output or len(v) != len(x):
            raise ValueError(
                f"x of shape {tuple(x.shape)} has measurements of shape {(len(x), *output)}, "
                f"got v of shape {tuple(v.shape)}"
            )
        # The graph is kept only if the caller can need it.
        outer = torch.is_grad_enabled() and (x.requires_grad or v.requires_grad)
        with torch.inference_mode(False), torch.enable_grad():
            x, v = (t.clone() if t.is_inference() else t for t in (x, v))
            u = x if outer and x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(
                self.apply(u), u, v.to(x.dtype), create_graph=outer, materialize_grads=True
            )[0]

    def linearise(self, x: Tensor) -> LinearOperator:
        """Return the Jacobian at x as a linear operator.

        Args:
            x: Points, shape (B, *shape).

        Returns:
            Linear operator for batches of this B only.
        """
        self.output_shape(_shape(x))
        jacobian: LinearOperator = _DERIVED["linearise"](self, widened(x))
        return jacobian

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """Set the entries of y to zero that A never reaches, such as the holes of a mask.

        Args:
            y: Measurement (B, ...).

        Returns:
            Tensor in the shape of y. These entries carry no noise either.
        """
        return y

    def observed(self, y: Tensor) -> Tensor:
        """Mark the entries of y that A reaches.

        Args:
            y: Measurement (B, ...).

        Returns:
            Mask of the shape of y, bool.
        """
        return self.mask_unobserved(torch.ones_like(y)) != 0

    def preview(self, y: Tensor) -> Tensor:
        """Turn a measurement into a picture to look at.

        Args:
            y: Measurement (B, ...).

        Returns:
            Picture (B, 1 or 3, h, w) on [-1, 1]: y itself if it has 1 or 3 channels, otherwise the
            ``vjp`` of y at x = 0, averaged to one channel if need be and scaled down to [-1, 1].
        """
        if y.ndim == 4 and y.shape[1] in (1, 3):
            return y
        v = widened(y)
        x = self.vjp(v.new_zeros(len(v), *self.input_shape(_shape(v))), v)
        x = x if x.shape[1] in (1, 3) else x.mean(1, keepdim=True)
        return _like(x / expand_like(x.abs().flatten(1).amax(1).clamp_min(1), x), y)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Copy the operator to another device or dtype.

        ``apply`` works on the device of x in any case. The copy saves the transfer of the settings.

        Args:
            device: Device of the tensors of the copy; None to keep theirs.
            dtype: Dtype of the floating-point tensors of the copy; None to keep theirs.

        Returns:
            Operator of the same class and settings.
        """
        copy: Self = moved_to(self, device, dtype)
        return copy

    def __matmul__(self, inner: Operator) -> Operator:
        """Return the operator x -> self(inner(x))."""
        composition: Operator = _DERIVED["compose"](self, inner)
        return composition

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def _constant(self, key: object, like: Tensor, make: Callable[[], T]) -> T:
        """Return make() for the dtype and device of ``like``, cached for the next call."""
        cache: dict[object, T] = self.__dict__.setdefault("_cache", {})
        full = (key, like.dtype, like.device)
        if full not in cache:
            if len(cache) >= _CACHED:
                cache.pop(next(iter(cache)))
            with torch.inference_mode(False), torch.no_grad():
                cache[full] = make()
        return cache[full]

    def _lacks(self, name: str) -> MissingCapability:
        able = [
            other.__name__
            for other in known_operators()
            if any(name in op.capabilities for op in other.examples((3, 8, 8)).values())
        ]
        return MissingCapability(
            f"{type(self).__name__} has no {name}; operators that have it: {', '.join(able)}"
        )

    def __getattr__(self, name: str) -> Any:
        if name in LinearOperator.base_capabilities | {"svd"}:
            raise self._lacks(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _like(result: Tensor, *given: Tensor) -> Tensor:
    """The result of a computation in float32 in the dtype of what was given in half precision."""
    dtype = reduce(torch.promote_types, (x.dtype for x in given))
    return result.to(dtype) if dtype in HALVES else result


def _shape(x: Tensor) -> Shape:
    if not isinstance(x, Tensor) or x.is_complex() or not x.is_floating_point():
        if not isinstance(x, Tensor):
            found, advice = type(x).__name__, "convert it with torch.as_tensor"
        elif x.is_complex():
            found, advice = (
                str(x.dtype),
                "give a complex image as two channels, real and imaginary part",
            )
        else:
            found, advice = (
                str(x.dtype),
                "convert it to floating point on [-1, 1], for bytes with x / 127.5 - 1",
            )
        raise ValueError(f"operators work on real floating-point tensors, got {found}; {advice}")
    if x.ndim < 2:
        raise ValueError(
            f"a batch (B, ...) is needed, got a tensor of shape {tuple(x.shape)}; "
            "add a batch axis with x[None]"
        )
    return tuple(x.shape[1:])


def check_image(shape: Shape) -> None:
    """Check that a shape is that of an image.

    Args:
        shape: Shape without its batch.

    Raises:
        ValueError: If the shape does not have three axes (C, H, W).
    """
    check_sample(shape, 2)


_SAMPLES = {1: "a signal (C, L)", 2: "an image (C, H, W)", 3: "a volume (C, D, H, W)"}


def check_sample(shape: Shape, axes: int) -> None:
    """Check that a shape is that of a signal, an image or a volume.

    Args:
        shape: Shape without its batch.
        axes: Number of axes after the channels, 1 to 3.

    Raises:
        ValueError: If the shape has another number of axes.
    """
    if len(shape) != axes + 1:
        raise ValueError(f"{_SAMPLES[axes]} is needed, got shape {tuple(shape)} without its batch")


def known_operators() -> list[type[Operator]]:
    """List every concrete public class of operators, including classes that users define.

    Returns:
        Classes in the order of their definition.
    """
    return concrete(Operator)  # type: ignore[type-abstract]


class LinearOperator(Operator):
    """Linear map A from batches x (B, *shape) to batches y (B, ...).

    Variances and the factors c0, c1 are numbers, or tensors (B,) with one value per sample.

    Example:
        >>> import torch
        >>> from problems import Inpainting
        >>> operator = Inpainting(torch.tensor([[1.0, 0.0]]))
        >>> y = operator.apply(torch.tensor([[[[2.0, 5.0]]]]))
        >>> y
        tensor([[[[2., 0.]]]])
        >>> operator.prox(torch.zeros(1, 1, 1, 2), y, noise_variance=1.0, prior_variance=1.0)
        tensor([[[[1., 0.]]]])
        >>> "svd" in operator.capabilities
        True
    """

    base_capabilities: ClassVar[frozenset[str]] = Operator.base_capabilities | {
        "linear",
        "adjoint",
        "pinv",
        "solve",
        "solve_primal",
        "prox",
        "prox_sample",
    }
    structure: ClassVar[frozenset[str]] = frozenset()
    """Subset of {"svd", "closed_form"} that the structure of A gives.

    "svd" is a decomposition by fast transforms, "closed_form" a solve without iterations.
    """
    tight_constant: float | None = None
    """c if A A^T = c I, else None."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the methods and properties that this operator has."""
        return self.base_capabilities | self.structure

    @abstractmethod
    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        """A^T y, of shape (B, *shape)."""

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        """Return the SVD for x of this shape, with the dtype and device of ``like``."""
        if self.tight_constant is None:
            raise NotImplementedError
        scale, output = self.tight_constant**0.5, self.output_shape(shape)
        return SVD(  # A A^T = c I: U = I, s = sqrt(c), V = A^T / sqrt(c)
            torch.full(output, scale, dtype=like.dtype, device=like.device),
            V=lambda w: self._adjoint(w, shape) / scale,
            Vt=lambda x: self._apply(x) / scale,
            U=identity,
            Ut=identity,
            complete_v=torch.Size(output).numel() == torch.Size(shape).numel(),
            complete_u=True,
        )

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^T y.

        Args:
            y: Measurement (B, ...).

        Returns:
            Tensor (B, *shape), with the shape that ``input_shape`` gives.

        Raises:
            ValueError: If y is not a real floating-point batch or has the wrong shape.
        """
        return _like(self._adjoint(widened(y), self.input_shape(_shape(y))), y)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Compute A^T v, which is J^T v at every x.

        Args:
            x: Not used, because the Jacobian of a linear operator is constant.
            v: Vectors in the shape of the measurement, (B, ...).

        Returns:
            Products, shape (B, *shape).
        """
        return self.adjoint(v)

    def linearise(self, x: Tensor) -> LinearOperator:
        """Return this operator, which is its own Jacobian.

        Args:
            x: Not used, because the Jacobian of a linear operator is constant.

        Returns:
            This operator.
        """
        return self

    def svd(self, shape: Shape, like: Tensor | None = None) -> SVD:
        """Return A = U diag(s) V^T for x of one shape.

        Args:
            shape: Shape of x without its batch.
            like: Tensor whose dtype and device the SVD has, float32 for half precision; None for
                float64 on the CPU.

        Returns:
            Decomposition by fast transforms where the structure of A gives one, otherwise a dense
            one. It is cached.

        Raises:
            MissingCapability: If the structure gives no SVD and x has more than 4096 entries.
        """
        like = torch.empty(0, dtype=torch.float64) if like is None else widened(like)
        shape = tuple(shape)
        output = self.output_shape(shape)
        if "svd" in self.capabilities:
            return self._constant(("svd", shape), like, lambda: self._svd(shape, like))
        if torch.Size(shape).numel() > _DENSE:
            raise MissingCapability(
                f"{self._lacks('svd')}; a dense SVD is computed for at most {_DENSE} pixels, "
                f"not for x of shape {shape}"
            )
        return self._constant(
            ("svd", shape), like, lambda: dense_svd(self.dense(shape).to(like), shape, output)
        )

    def pinv(self, y: Tensor, rtol: float | None = None) -> Tensor:
        """Compute A^+ y: among all x with the least |y - A x|, the one with the least norm.

        Without an SVD, conjugate gradients solve the normal equations. They warn with
        ``SolveWarning`` if the residual stays large.

        Args:
            y: Measurement (B, ...).
            rtol: With an SVD: singular values below rtol times the largest count as zero; None for
                their number times the machine epsilon. Without one: relative residual at which the
                conjugate gradients stop; None for 1e-12 in float64 and 1e-6 otherwise.

        Returns:
            Tensor (B, *shape).
        """
        shape, wide = self.input_shape(_shape(y)), widened(y)
        if "svd" in self.capabilities:
            return _like(self.svd(shape, wide).pinv(wide, rtol), y)
        found = conjugate_gradients(
            lambda x: self._gram(x, shape), self._adjoint(wide, shape), iterations=1000, rtol=rtol
        )
        return _like(found, y)

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute (c0 I + c1 A A^T)^{-1} v.

        Args:
            v: Right-hand side in the shape of the measurement, (B, ...).
            c0: Factor of the identity, above 0; a number or shape (B,).
            c1: Factor of A A^T, at least 0; a number or shape (B,).

        Returns:
            Solution in the shape of v.

        Raises:
            ValueError: If v is not a real floating-point batch or has the wrong shape.
        """
        return _like(self._solve(widened(v), c0, c1, self.input_shape(_shape(v))), v)

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        if self.tight_constant is not None:
            return v / (expand_like(c0, v) + expand_like(c1, v) * self.tight_constant)
        if "svd" in self.capabilities:
            return self.svd(shape, v).solve(v, c0, c1)
        return self._iterate(v, c0, c1, shape)

    def _iterate(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        return conjugate_gradients(
            lambda u: (
                expand_like(c0, u) * u + expand_like(c1, u) * self._apply(self._adjoint(u, shape))
            ),
            v,
            precondition=lambda r: self._precondition(r, c0, c1),
        )

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Approximate (c0 I + c1 A A^T)^{-1} r by a cheap symmetric positive definite map."""
        return r

    def solve_primal(self, z: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute (c0 I + c1 A^T A)^{-1} z.

        Args:
            z: Right-hand side in the shape of x, (B, *shape).
            c0: Factor of the identity, above 0; a number or shape (B,).
            c1: Factor of A^T A, at least 0; a number or shape (B,).

        Returns:
            Solution in the shape of z.

        Raises:
            ValueError: If z is not a real floating-point batch or has the wrong shape.
        """
        shape, u = _shape(z), widened(z)
        self.output_shape(shape)
        return _like(self._solve_primal(u, c0, c1, shape), z)

    def _solve_primal(
        self, z: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape
    ) -> Tensor:
        if self._tall(shape):
            return conjugate_gradients(
                lambda u: expand_like(c0, u) * u + expand_like(c1, u) * self._gram(u, shape), z
            )
        return (
            z - expand_like(c1, z) * self.adjoint(self.solve(self.apply(z), c0, c1))
        ) / expand_like(c0, z)

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        """A^T A x."""
        return self._adjoint(self._apply(x), shape)

    def _tall(self, shape: Shape) -> bool:
        """Return True if an iterative solve is cheaper for x of this shape than for y.

        That is the case if y is larger than x and the operator has neither a closed form nor a
        preconditioner.
        """
        larger = torch.Size(self.output_shape(shape)).numel() > torch.Size(shape).numel()
        return (
            larger
            and "closed_form" not in self.capabilities
            and type(self)._precondition is LinearOperator._precondition
        )

    def prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        """Compute the posterior mean of x under the prior N(z, prior_variance I).

        It is argmin_x |y - A x|^2 / (2 noise_variance) + |x - z|^2 / (2 prior_variance).

        Args:
            z: Prior mean, shape (B, *shape).
            y: Measurement (B, ...).
            noise_variance: Variance of the Gaussian noise of y; a number or shape (B,).
            prior_variance: Variance of the prior; a number or shape (B,).

        Returns:
            Posterior mean, shape (B, *shape).

        Raises:
            ValueError: If z has the wrong shape or dtype, or y is not a measurement of its shape.
        """
        self._check_pair(z, y)
        return _like(self._prox(widened(z), widened(y), noise_variance, prior_variance), z, y)

    def _check_pair(self, z: Tensor, y: Tensor) -> None:
        """Check that y can be a measurement of z."""
        shape = _shape(z)
        output = self.output_shape(shape)
        if _shape(y) != output or (len(y) != len(z) and 1 not in (len(y), len(z))):
            raise ValueError(
                f"z of shape {tuple(z.shape)} has measurements of shape {(len(z), *output)}, "
                f"got y of shape {tuple(y.shape)}"
            )
        if (back := self.input_shape(output)) != shape:
            raise ValueError(
                f"y of shape {tuple(y.shape)} stands for x of shape {back}, got z of {shape}; "
                "give the operator the size of x"
            )

    def _prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        residual = y - self.apply(z)
        if (
            "svd" in self.capabilities
            and self.tight_constant is None
            and type(self)._solve is LinearOperator._solve
        ):
            # The part of y that no x explains would be divided by the variance of the noise on the
            # way to zero, and its rounding with it.
            svd = self.svd(_shape(z), z)
            w = svd.Ut(residual)
            gain = expand_like(prior_variance, w) * svd.s
            return z + svd.V(gain * w / (expand_like(noise_variance, w) + gain * svd.s))
        if self._tall(_shape(z)):
            return z + expand_like(prior_variance, z) * self.solve_primal(
                self.adjoint(residual), noise_variance, prior_variance
            )
        return z + expand_like(prior_variance, z) * self.adjoint(
            self.solve(residual, noise_variance, prior_variance)
        )

    def prox_sample(
        self,
        z: Tensor,
        y: Tensor,
        noise_variance: Tensor | float,
        prior_variance: Tensor | float,
        generator: Generators = None,
    ) -> Tensor:
        """Draw x from its posterior under the prior N(z, prior_variance I) and Gaussian noise.

        Perturb and solve: noise with the variance of each is added to z and to y, and the prox of
        the two sums has exactly this law (Papandreou and Yuille 2010).

        Args:
            z: Prior mean, shape (B, *shape).
            y: Measurement (B, ...), y = A x + noise.
            noise_variance: Variance of the noise; a number or shape (B,).
            prior_variance: Variance of the prior; a number or shape (B,).
            generator: One generator, or a sequence of B, so that a draw does not depend on its
                batch; None for the global generator of torch.

        Returns:
            One exact draw for each sample, shape (B, *shape).
        """
        self._check_pair(z, y)
        mean, seen = widened(z), widened(y)
        mean = mean + _root(prior_variance, mean) * randn_like(mean, generator)
        seen = seen + _root(noise_variance, seen) * randn_like(seen, generator)
        return _like(self.prox(mean, seen, noise_variance, prior_variance), z, y)

    def dense(self, shape: Shape, dtype: torch.dtype = torch.float64) -> Tensor:
        """Compute the matrix of A, for tests and for exact posteriors of small problems.

        Args:
            shape: Shape of x without its batch, with D entries in all.
            dtype: Dtype of the matrix.

        Returns:
            Matrix (m, D).

        Raises:
            ValueError: If D is above 16384.
        """
        size = int(torch.Size(shape).numel())
        if size > 1 << 14:
            raise ValueError(
                f"a dense matrix with {size} columns is too large; use apply and adjoint"
            )
        return (
            self.apply(torch.eye(size, dtype=dtype).reshape(size, *shape))
            .reshape(size, -1)
            .T.contiguous()
        )


def _root(variance: Tensor | float, x: Tensor) -> Tensor | float:
    return expand_like(variance**0.5, x)
