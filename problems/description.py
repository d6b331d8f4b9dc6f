"""A problem as JSON and back: enough to repeat a run exactly.

Numbers, strings and lists stand for themselves; a tensor is the base64 text of its compressed bytes (a mask one bit a pixel), so that
nothing is rounded; an operator or a noise is an object with its name and its settings.
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

__all__ = ["Described", "concrete", "decode", "encode", "moved_to"]

_KINDS = "bool uint8 int8 int16 int32 int64 float16 float32 float64 complex64 complex128"
_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in _KINDS.split()}


K = TypeVar("K", bound="Described")

_BIRTHS = itertools.count(1)


class Described:
    """Something made of settings: a frozen dataclass. ``kind`` is the key under which its name stands in the description."""

    kind: str
    _birth: ClassVar[int] = 0

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls._birth = next(_BIRTHS)

    def describe(self) -> dict[str, Any]:
        """A dictionary of plain values that ``json`` writes and ``problem_from`` turns back into an equal object."""
        assert is_dataclass(self)
        return {self.kind: type(self).__name__} | {
            f.name: encode(getattr(self, f.name)) for f in fields(self)
        }

    def __repr__(self) -> str:
        assert is_dataclass(self)
        return f"{type(self).__name__}({', '.join(f'{f.name}={_short(getattr(self, f.name))}' for f in fields(self))})"


def concrete(cls: type[K]) -> list[type[K]]:
    """Every class below this one that can be made and is not private, the user's own too, in the order of their making: of two that share
    a name, as after a cell of a notebook has run again, the later one comes last and is the one that a description means."""
    below = {kind for sub in cls.__subclasses__() for kind in (sub, *concrete(sub))}
    kept = (
        kind for kind in below if not inspect.isabstract(kind) and not kind.__name__.startswith("_")
    )
    return sorted(kept, key=lambda kind: kind._birth)


def _short(value: Any) -> str:
    return f"tensor{tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def encode(value: Any) -> Any:
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
    """The inverse of ``encode``. known: the classes of each kind, by name."""
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
                raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(sorted(classes))}")
            settings = {key: decode(item, known) for key, item in value.items() if key != kind}
            try:
                return classes[name](**settings)
            except (TypeError, AttributeError) as error:
                raise ValueError(f"the description of {name} does not fit it: {error}") from None
    raise ValueError(
        f"a description needs one of the keys {', '.join(known)} or tensor, got {', '.join(map(str, value)) or 'nothing'}"
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
    """A setting with its tensors on another device, and the floating ones in another precision."""
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
