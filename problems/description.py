"""A problem as JSON and back: enough to repeat a run exactly.

Numbers, strings and lists are written as they are. A tensor becomes the base64 text of its
compressed bytes (a mask takes one bit per pixel), so that nothing is rounded. An operator or a
noise becomes an object with its name and its settings.
"""

import base64
import inspect
import itertools
import math
import zlib
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from problems.checks import unknown

__all__ = ["Described", "concrete", "decode", "encode", "moved_to"]

_KINDS = "bool uint8 int8 int16 int32 int64 float16 float32 float64 complex64 complex128"
_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _KINDS.split()}


K = TypeVar("K", bound="Described")

_BIRTHS = itertools.count(1)  # orders classes by their definition, see `concrete`


class Described:
    """Base class of frozen dataclasses that are described by their settings.

    Attributes:
        kind: Key of the class name in the description, such as "operator" or "noise".
    """

    kind: str
    _birth: ClassVar[int] = 0

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls._birth = next(_BIRTHS)

    def describe(self) -> dict[str, Any]:
        """Describe the object by plain values that ``json`` can write.

        Returns:
            Dictionary that ``problems.problem_from`` turns back into an equal object.

        Raises:
            ValueError: If a setting cannot be written as JSON, such as a Python function.
        """
        assert is_dataclass(self)
        return {self.kind: type(self).__name__} | {
            f.name: encode(getattr(self, f.name)) for f in fields(self)
        }

    def __repr__(self) -> str:
        assert is_dataclass(self)
        settings = (f"{f.name}={_short(getattr(self, f.name))}" for f in fields(self))
        return f"{type(self).__name__}({', '.join(settings)})"


def concrete(cls: type[K]) -> list[type[K]]:
    """List the public subclasses that can be instantiated, including those of users.

    They are sorted by the order of their definition. If two share a name, as after a cell of a
    notebook has run twice, the later one comes last, and a description refers to that one.

    Args:
        cls: Base class; it is not part of the list.

    Returns:
        Subclasses at any depth that are neither abstract nor private.
    """
    below = {kind for sub in cls.__subclasses__() for kind in (sub, *concrete(sub))}
    kept = (
        kind for kind in below if not inspect.isabstract(kind) and not kind.__name__.startswith("_")
    )
    return sorted(kept, key=lambda kind: kind._birth)


def _short(value: Any) -> str:
    return f"tensor{tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def encode(value: Any) -> Any:
    """Turn a setting into plain values that ``json`` can write.

    Args:
        value: Number, string, None, tensor, operator, noise, or a list or tuple of these.

    Returns:
        Plain value; ``decode`` is the inverse.

    Raises:
        ValueError: If the value is of another type.
    """
    if isinstance(value, Described):
        return value.describe()
    if isinstance(value, Tensor):
        array = value.detach().cpu().contiguous().numpy()
        raw = np.packbits(array).tobytes() if array.dtype == bool else array.tobytes()
        text = base64.b64encode(zlib.compress(raw, 9)).decode()
        return {
            "tensor": text,
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
        }
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{value!r} cannot be written as JSON; keep the code that made it")


def decode(value: Any, known: dict[str, dict[str, type]]) -> Any:
    """Turn plain values back into a setting; the inverse of ``encode``.

    Args:
        value: Plain value as read from JSON.
        known: Classes by kind ("operator", "noise") and name.

    Returns:
        Number, string, None, tensor, operator, noise, or a tuple of these.

    Raises:
        ValueError: If a class is unknown, or settings or a tensor cannot be read.
    """
    if isinstance(value, list):
        return tuple(decode(item, known) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return _tensor(value)
    for kind, classes in known.items():
        if kind in value:
            name = value[kind]
            if not isinstance(name, str) or name not in classes:
                raise ValueError(unknown(kind, name, sorted(classes)))
            settings = {key: decode(item, known) for key, item in value.items() if key != kind}
            try:
                return classes[name](**settings)
            except (TypeError, AttributeError) as error:
                raise ValueError(f"the description of {name} does not fit it: {error}") from None
    raise ValueError(
        f"a description needs one of the keys {', '.join(known)} or tensor, "
        f"got {', '.join(map(str, value)) or 'nothing'}"
    )


def _tensor(value: dict[str, Any]) -> Tensor:
    try:
        dtype, shape = _DTYPES[value["dtype"]], tuple(value["shape"])
        raw = zlib.decompress(base64.b64decode(value["tensor"], validate=True))
        if dtype == torch.bool:
            count = math.prod(shape)
            if len(raw) != -(-count // 8):
                raise ValueError(f"{len(raw)} bytes for {count} bits")
            flat = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).astype(bool)
        else:
            flat = np.frombuffer(raw, str(dtype).removeprefix("torch.")).copy()
        return torch.from_numpy(flat).reshape(shape)
    except (KeyError, TypeError, ValueError, zlib.error, RuntimeError) as error:
        raise ValueError(f"a tensor in the description cannot be read ({error})") from None


def moved_to(value: Any, device: torch.device | str | None, dtype: torch.dtype | None) -> Any:
    """Move the tensors within a setting to another device or precision.

    Args:
        value: Tensor, operator, noise or tuple of these; any other value is returned unchanged.
        device: New device; None to keep it.
        dtype: New precision of the floating-point tensors; None to keep it.

    Returns:
        Setting of the same type.
    """
    if isinstance(value, Described):
        assert is_dataclass(value) and not isinstance(value, type)
        return replace(
            value,
            **{f.name: moved_to(getattr(value, f.name), device, dtype) for f in fields(value)},
        )
    if isinstance(value, Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    return (
        tuple(moved_to(item, device, dtype) for item in value)
        if isinstance(value, tuple)
        else value
    )
