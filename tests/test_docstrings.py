"""Docstrings that tools can read: griffe finds parameters and returns of public callables."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import griffe
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("problems", "scoresde", "solvers")
SHARE = 0.95


@cache
def package(name: str) -> griffe.Module:
    loaded = griffe.load(name, search_paths=[ROOT], docstring_parser="google")
    assert isinstance(loaded, griffe.Module)
    return loaded


def functions(node: griffe.Object) -> Iterator[griffe.Function]:
    """Public functions and methods, properties excepted, that are defined in this package."""
    for name, member in node.members.items():
        if name.startswith("_") or member.is_alias:
            continue
        if isinstance(member, griffe.Function):
            yield member
        elif isinstance(member, griffe.Module | griffe.Class):
            yield from functions(member)


def sections(function: griffe.Function) -> dict[str, list[str]]:
    """Kinds of the sections that griffe finds in the docstring, and the names in them."""
    if function.docstring is None:
        return {}
    found: dict[str, list[str]] = {}
    for section in function.docstring.parse("google", warnings=False):
        kind = section.kind.value
        names = [one.name for one in section.value] if kind == "parameters" else []
        found[kind] = [name.lstrip("*") for name in names]
    return found


def documented(function: griffe.Function) -> tuple[list[str], list[str]]:
    """Parameters of the signature, and those of them that the docstring describes."""
    wanted = [p.name for p in function.parameters if p.name not in ("self", "cls")]
    found = sections(function).get("parameters", [])
    return wanted, [name for name in wanted if name in found]


def returns(function: griffe.Function) -> bool:
    """Whether the annotation says that something comes back."""
    return function.returns is not None and str(function.returns) not in ("None", "NoReturn")


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_parameters_are_found(name: str) -> None:
    callables = [f for f in functions(package(name)) if documented(f)[0]]
    lacking = [f.path for f in callables if len(documented(f)[0]) != len(documented(f)[1])]
    assert len(callables) > 50
    assert len(lacking) <= (1 - SHARE) * len(callables), (len(lacking), len(callables), lacking)


@pytest.mark.parametrize("name", PACKAGES)
def test_returns_are_found(name: str) -> None:
    callables = [f for f in functions(package(name)) if returns(f)]
    lacking = [f.path for f in callables if not {"returns", "yields"} & set(sections(f))]
    assert len(callables) > 50
    assert len(lacking) <= (1 - SHARE) * len(callables), (len(lacking), len(callables), lacking)


@pytest.mark.parametrize("name", PACKAGES)
def test_everything_public_has_a_docstring(name: str) -> None:
    assert not [f.path for f in functions(package(name)) if f.docstring is None]
