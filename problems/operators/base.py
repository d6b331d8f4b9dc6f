r"""What a measurement can be asked.

Every operator answers ``apply`` (A x) and ``vjp`` (J^T v). A linear one also answers, by name of its capabilities,

- ``adjoint``: :math:`A^T y`;  ``pinv``: :math:`A^+ y`;  ``svd``: :math:`A = U\,\mathrm{diag}(s)\,V^T` as transforms;
- ``solve``: :math:`(c_0 I + c_1 A A^T)^{-1} v`, and ``solve_primal`` with :math:`A^T A`, which is Woodbury's identity

.. math:: (c_0 I + c_1 A^T A)^{-1} z = \bigl(z - c_1 A^T (c_0 I + c_1 A A^T)^{-1} A z\bigr)/c_0 ;

- ``prox``: the posterior mean of x under a prior :math:`N(z, \rho^2 I)`;  ``prox_sample``: a draw of that posterior.

A new operator writes ``_apply``, ``_adjoint``, two shapes and ``examples``; the rest follows, by its ``_svd`` if it has one and by
conjugate gradients if not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

import torch
from torch import Tensor

from problems.description import Described, concrete, moved_to
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients
from problems.linalg.svd import SVD, dense_svd, identity
from problems.random_numbers import Generators, randn_like

__all__ = [
    "LinearOperator",
    "MissingCapability",
    "Operator",
    "Shape",
    "check_image",
    "derives",
    "examples_of",
    "known_operators",
]

Shape = tuple[int, ...]
T = TypeVar("T")

_DENSE = 1 << 12  # columns of a matrix that may be decomposed outright
_CACHED = 16


_DERIVED: dict[str, Callable[..., Any]] = {}
_EXAMPLES: dict[type, Callable[[Shape], dict[str, Any]]] = {}


def derives(name: Literal["linearise", "compose"]) -> Callable[[T], T]:
    """Decorator: this makes the operators that :meth:`Operator.linearise` or ``outer @ inner`` return.

    They are operators themselves, so that their modules import this one, which cannot import them.
    """

    def register(make: T) -> T:
        _DERIVED[name] = cast(Callable[..., Any], make)
        return make

    return register


def examples_of(cls: type[Operator]) -> Callable[[T], T]:
    """Decorator: this function of a shape (C, H, W) gives the :meth:`Operator.examples` of ``cls``."""

    def register(make: T) -> T:
        _EXAMPLES[cls] = cast(Callable[[Shape], dict[str, Any]], make)
        return make

    return register


class MissingCapability(ValueError, AttributeError):
    """An operator was asked for what it cannot do. (An AttributeError too, so that ``hasattr`` answers.)"""


class Operator(Described, ABC):
    """A map from batches x (B, *shape) to batches y (B, ...), real tensors. A frozen dataclass: nothing about it ever changes.

    It computes in the precision and on the device of what it is given. Shapes are checked here, by ``output_shape`` and ``input_shape``,
    before the methods with an underscore run.
    """

    kind = "operator"
    base_capabilities: ClassVar[frozenset[str]] = frozenset({"apply", "vjp"})

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do, by name."""
        return self.base_capabilities

    @property
    def quantises(self) -> bool:
        """Whether ``apply`` rounds to a grid. Its ``vjp`` is then that of the chain without the rounding, and the error of the rounding is
        the noise of y: a file measured like this carries no other, and the problem's noise says how large that error is taken to be."""
        return False

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Shape of A x for x of this shape, both without batch; ValueError if x cannot have it."""

    @abstractmethod
    def input_shape(self, shape: Shape) -> Shape:
        """Shape of x for a measurement of this shape, both without batch; ValueError if y cannot have it."""

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor: ...

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Typical instances for images of this shape (C, H, W), by name; {} if none fits. The tests hold each of them to every identity.

        A class writes its own, or :func:`examples_of` does, where examples need operators of other modules.
        """
        return _EXAMPLES[cls](shape) if cls in _EXAMPLES else {}

    def apply(self, x: Tensor) -> Tensor:
        """A x for x (B, *shape)."""
        self.output_shape(_shape(x))
        return self._apply(x)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """J^T v, J the Jacobian of ``apply`` at x (B, *shape), v of the shape of the measurement."""
        outer = torch.is_grad_enabled() and (
            x.requires_grad or v.requires_grad
        )  # keep the graph only for a caller who needs it
        with torch.inference_mode(False), torch.enable_grad():
            x, v = (t.clone() if t.is_inference() else t for t in (x, v))
            u = x if outer and x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(
                self.apply(u), u, v, create_graph=outer, materialize_grads=True
            )[0]

    def linearise(self, x: Tensor) -> LinearOperator:
        """The Jacobian at x (B, *shape), as an operator on batches of B."""
        return _DERIVED["linearise"](self, x)

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """y with the entries zeroed that A can never reach (the holes of a mask), which carry no noise either."""
        return y

    def preview(self, y: Tensor) -> Tensor:
        """y as a picture (B, 1 or 3, h, w) on [-1, 1], for people to look at."""
        if y.ndim == 4 and y.shape[1] in (1, 3):
            return y
        x = self.vjp(y.new_zeros(len(y), *self.input_shape(tuple(y.shape[1:]))), y)
        x = x if x.shape[1] in (1, 3) else x.mean(1, keepdim=True)
        return x / expand_like(x.abs().flatten(1).amax(1).clamp_min(1), x)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """A copy whose tensors live there. ``apply`` goes where x is anyway; this spares it the transfer."""
        return moved_to(self, device, dtype)

    def __matmul__(self, inner: Operator) -> Operator:
        """self after inner."""
        return _DERIVED["compose"](self, inner)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def _constant(self, key: object, like: Tensor, make: Callable[[], T]) -> T:
        """What make() gives for the precision and device of ``like``, kept for the next call."""
        cache = self.__dict__.setdefault("_cache", {})
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
            f"{type(self).__name__} has no {name}; operators that have: {', '.join(able)}"
        )

    def __getattr__(self, name: str) -> Any:
        if name in LinearOperator.base_capabilities | {"svd"}:
            raise self._lacks(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _shape(x: Tensor) -> Shape:
    if x.is_complex() or not x.is_floating_point():
        advice = (
            "give a complex image as two channels, real and imaginary part"
            if x.is_complex()
            else "convert it, say by .float()"
        )
        raise ValueError(f"operators work on real floating-point tensors, got {x.dtype}; {advice}")
    if x.ndim < 2:
        raise ValueError(
            f"a batch (B, ...) is needed, got a tensor of shape {tuple(x.shape)}; add an axis by x[None]"
        )
    return tuple(x.shape[1:])


def check_image(shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(
            f"an image (C, H, W) is needed, got shape {tuple(shape)} without its batch"
        )


def known_operators() -> list[type[Operator]]:
    """Every concrete class of operators that is known, the user's own too."""
    return concrete(Operator)  # type: ignore[type-abstract]


class LinearOperator(Operator):
    """A linear map A on batches (B, ...)."""

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
    """Of {"svd", "closed_form"}, what the structure gives: a decomposition by fast transforms; a solve without iterations."""
    tight_constant: float | None = None
    """c if A A^T = c I, else None."""

    @property
    def capabilities(self) -> frozenset[str]:
        return self.base_capabilities | self.structure

    @abstractmethod
    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        """A^T y, of shape (B, *shape)."""

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        """The decomposition for x of this shape, in the precision and on the device of ``like``."""
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
        """A^T y for y (B, ...), in the shape that ``input_shape`` gives."""
        return self._adjoint(y, self.input_shape(_shape(y)))

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.adjoint(v)

    def linearise(self, x: Tensor) -> LinearOperator:
        return self

    def svd(self, shape: Shape, like: Tensor | None = None) -> SVD:
        """A = U diag(s) V^T for x of this shape. Where the structure gives no fast one, a dense one for small x."""
        like = torch.empty(0, dtype=torch.float64) if like is None else like
        shape = tuple(shape)
        output = self.output_shape(shape)
        if "svd" in self.capabilities:
            return self._constant(("svd", shape), like, lambda: self._svd(shape, like))
        if torch.Size(shape).numel() > _DENSE:
            raise MissingCapability(
                f"{self._lacks('svd')}; a dense one is made for at most {_DENSE} pixels, not for {shape}"
            )
        return self._constant(
            ("svd", shape), like, lambda: dense_svd(self.dense(shape).to(like), shape, output)
        )

    def pinv(self, y: Tensor, rtol: float | None = None) -> Tensor:
        """A^+ y: of all x with the least |y - A x| the one of least norm. rtol: singular values below this share of the largest are zero.

        Without an SVD by conjugate gradients on the normal equations, which take rtol as the residual to reach.
        """
        shape = self.input_shape(_shape(y))
        if "svd" in self.capabilities:
            return self.svd(shape, y).pinv(y, rtol)
        return conjugate_gradients(
            lambda x: self._gram(x, shape), self._adjoint(y, shape), iterations=1000, rtol=rtol
        )

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """(c0 I + c1 A A^T)^{-1} v. c0 > 0, c1 >= 0: numbers or one per sample (B,)."""
        return self._solve(v, c0, c1, self.input_shape(_shape(v)))

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
        """Something near to (c0 I + c1 A A^T)^{-1} r that is cheap, symmetric and positive definite."""
        return r

    def solve_primal(self, z: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """(c0 I + c1 A^T A)^{-1} z."""
        if self._tall(_shape(z)):
            shape = _shape(z)
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
        """Whether an iterative solve is cheaper for x, of this shape, than for y: y is larger, and nothing preconditions."""
        larger = torch.Size(self.output_shape(shape)).numel() > torch.Size(shape).numel()
        return (
            larger
            and "closed_form" not in self.capabilities
            and type(self)._precondition is LinearOperator._precondition
        )

    def prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        """argmin_x |y - A x|^2 / (2 noise_variance) + |x - z|^2 / (2 prior_variance).

        Also the posterior mean of x under the prior N(z, prior_variance I).
        """
        residual = y - self.apply(z)
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
        """A draw from the posterior of x under the prior N(z, prior_variance I) and y = A x + noise.

        Perturb and solve: the prox of z and y with their own noise added once more has exactly this law (Papandreou and Yuille 2010).
        generator: one, or one per sample, so that a draw does not depend on its batch.
        """
        z = z + _root(prior_variance, z) * randn_like(z, generator)
        y = y + _root(noise_variance, y) * randn_like(y, generator)
        return self.prox(z, y, noise_variance, prior_variance)

    def dense(self, shape: Shape, dtype: torch.dtype = torch.float64) -> Tensor:
        """The matrix of A for x of this shape, (m, D). For tests and exact posteriors of small problems."""
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
