"""The layers of ARCHITECTURE.md, checked against every import of the three packages."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("problems", "scoresde", "solvers")


@dataclass(frozen=True)
class Import:
    """One import statement: its place, and the module it names."""

    path: Path
    line: int
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} ({self.source} imports {self.target})"


def layers() -> list[str]:
    """The ordered list of layers in ARCHITECTURE.md.

    The first imports nothing, and the last may import everything.
    """
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found = re.search(r"```layers\n(.*?)```", text, re.DOTALL)
    assert found, "ARCHITECTURE.md has no block of layers"
    return [
        line.split("#")[0].strip() for line in found[1].splitlines() if line.split("#")[0].strip()
    ]


def modules() -> dict[str, Path]:
    """The file of every module of the three packages, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(
    module: str, path: Path, known: dict[str, Path], *, type_checking: bool = True
) -> Iterator[Import]:
    """Every import of one of the three packages.

    Also those inside of functions and under ``if TYPE_CHECKING``.
    """
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    if not type_checking:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {inner for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: a relative import"
            names = [
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}" in known
                else node.module
                for alias in node.names
            ]
        else:
            continue
        for name in dict.fromkeys(names):
            if name.split(".")[0] in PACKAGES:
                yield Import(path, node.lineno, module, name)


def all_imports() -> list[Import]:
    known = modules()
    return [one for module, path in known.items() for one in imports(module, path, known)]


def layer_of(module: str, order: list[str]) -> int:
    """The index of the longest entry of the list that contains the module."""
    under = [entry for entry in order if module == entry or module.startswith(entry + ".")]
    assert under, f"{module} lies in no layer of ARCHITECTURE.md"
    return order.index(max(under, key=len))


def facade(module: str) -> bool:
    """Whether the module is the front of a package.

    The fronts problems, scoresde and solvers export the names of all their modules.
    """
    return module in PACKAGES


def violations(found: list[Import], order: list[str]) -> list[str]:
    """The imports that go up the list."""
    return [
        str(one)
        for one in found
        if not facade(one.source) and layer_of(one.target, order) > layer_of(one.source, order)
    ]


def circles(found: list[Import]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan 1972).

    Also modules that import themselves.
    """
    graph: dict[str, set[str]] = {}
    for one in found:
        graph.setdefault(one.source, set()).add(one.target)
        graph.setdefault(one.target, set())
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = [stack.pop()]
            while component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1 or node in graph[node]:
                components.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return components


def test_no_import_goes_up_the_list() -> None:
    assert not (found := violations(all_imports(), layers())), "\n".join(found)


def test_solvers_see_the_prior_side_alone() -> None:
    """Of scoresde they import only the SDEs and the priors.

    So they work with any package that has these.
    """
    seen = {
        one.target
        for one in all_imports()
        if one.source.startswith("solvers") and one.target.startswith("scoresde")
    }
    assert not (
        found := {name for name in seen if not name.startswith(("scoresde.sde", "scoresde.priors"))}
    ), found


def test_there_is_no_circle_of_modules() -> None:
    assert not (found := circles(all_imports())), found


@pytest.mark.parametrize("entry", layers())
def test_every_layer_exists(entry: str) -> None:
    assert any(module == entry or module.startswith(entry + ".") for module in modules()), entry


def test_the_check_sees_an_import_upwards_wherever_it_stands(tmp_path: Path) -> None:
    """A lazy import, one for types alone and a plain one are found with their lines."""
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from solvers import Sampler\n"
        "def f():\n    import scoresde.cli.main\nfrom scoresde.sde import SDE\n"
    )
    path = ROOT / "scoresde" / "priors" / "new.py"  # never written
    file = tmp_path / "new.py"
    file.write_text(text)
    found = [
        Import(path, one.line, one.source, one.target)
        for one in imports("scoresde.priors.new", file, modules())
    ]
    assert [line.split(" ")[0] for line in violations(found, layers())] == [
        "scoresde/priors/new.py:3",
        "scoresde/priors/new.py:5",
    ]


def test_the_check_sees_circles() -> None:
    path = ROOT / "x.py"
    arrows = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "e")]
    assert sorted(circles([Import(path, 1, *arrow) for arrow in arrows])) == [
        ["a", "b", "c"],
        ["e"],
    ]
