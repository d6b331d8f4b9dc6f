"""A page for every name of the three packages, and one for each package or module within."""

import importlib
import inspect
import pkgutil
import re
import sys
from functools import cache
from types import ModuleType
from typing import Any

from docs.pages.markup import first_sentence, table

__all__ = ["api_pages", "page_of", "packages", "public_names"]

TOP = ("scoresde", "solvers", "problems")
BY_MODULE = ("scoresde.pipelines", "scoresde.data")
"""Packages that export nothing themselves: their modules have a page each."""
PRIVATE = ("scoresde.cli",)

_OUTSIDE = ":orphan:\n\n"
"""Head of a page that is in no list at the side: two hundred entries hide the others there, and are
drawn on every page. Tables lead to these pages."""


def packages() -> list[str]:
    """Find the packages that export names, those nearest to the top first."""
    found = list(TOP)
    for name in TOP:
        path = importlib.import_module(name).__path__
        within = pkgutil.walk_packages(path, f"{name}.")
        found += [one.name for one in within if one.ispkg and not one.name.startswith(PRIVATE)]
    exporting = [one for one in found if getattr(importlib.import_module(one), "__all__", None)]
    return sorted(exporting, key=lambda one: (one.count("."), found.index(one)))


@cache
def public_names() -> dict[str, list[str]]:
    """Collect the public names of each package.

    Returns:
        Names by package. A name that several packages export belongs to the first one.
    """
    seen: set[int] = set()
    found: dict[str, list[str]] = {}
    for package in packages():
        module = importlib.import_module(package)
        new = [name for name in module.__all__ if id(getattr(module, name)) not in seen]
        seen |= {id(getattr(module, name)) for name in new}
        if new:
            found[package] = sorted(new, key=lambda name: (name.lower(), name))
    return found


def _inner_file(name: str) -> str:
    """The file of the page of a package or module within, in folders, as its code is."""
    return f"api/{name.replace('.', '/')}.rst"


def page_of(package: str, name: str) -> str:
    """Name the file of the page of a public name.

    Names of the three packages have pages of their own, other names share that of their package.
    Names that differ in case alone must not have files that do.
    """
    if package not in TOP:
        return _inner_file(package)
    exported = public_names()[package]
    same = [other for other in exported if other.lower() == name.lower()]
    return f"api/{package}.{name}{'-' * same.index(name)}.rst"


def _home(name: str, thing: Any, package: ModuleType) -> str:
    """The module that defines a value: its docstring stands there and nowhere else."""
    for module in list(sys.modules.values()):
        top = getattr(module, "__name__", "").startswith(package.__name__.split(".")[0] + ".")
        if top and vars(module).get(name) is thing:
            try:
                source = inspect.getsource(module)
            except (OSError, TypeError):
                continue
            if re.search(rf"^{name}\b[^=\n]*=", source, flags=re.M):
                return module.__name__
    return package.__name__


def _heading(text: str, line: str = "=") -> str:
    return f"{text}\n{line * len(text)}\n"


def _entry(package: str, name: str) -> str:
    """The directive that shows a public name."""
    module = importlib.import_module(package)
    thing = getattr(module, name)
    full = f"{package}.{name}"
    if inspect.isclass(thing):
        return f".. autoclass:: {full}\n   :members:\n   :show-inheritance:\n"
    if inspect.isroutine(thing):
        return f".. autofunction:: {full}\n"
    return f".. autodata:: {_home(name, thing, module)}.{name}\n   :no-value:\n"


def _page(package: str, name: str) -> str:
    home = f"A name of :doc:`{package} </api/{package}>`: ``from {package} import {name}``"
    return f"{_OUTSIDE}{_heading(name)}\n{home}\n\n{_entry(package, name)}"


def _module_pages() -> dict[str, str]:
    """Pages of modules, which show all that a module exports."""
    found = {}
    for package in BY_MODULE:
        path = importlib.import_module(package).__path__
        for one in pkgutil.iter_modules(path, f"{package}."):
            if one.ispkg or not getattr(importlib.import_module(one.name), "__all__", None):
                continue
            body = f".. automodule:: {one.name}\n   :members:\n   :show-inheritance:\n"
            home = "A module of the :doc:`API </api/index>`."
            found[one.name] = f"{_OUTSIDE}{_heading(one.name)}\n{home}\n\n{body}"
    return found


def _inner_page(package: str, names: list[str]) -> str:
    """The page of a package within: all of its names, one after another."""
    intro = (importlib.import_module(package).__doc__ or "").split("\n\n")[0]
    entries = "\n".join(_entry(package, name) for name in names)
    return f"{_heading(package)}\n{intro}\n\n{entries}"


def _package_page(package: str, names: list[str]) -> str:
    module = importlib.import_module(package)
    rows, files = [], [page_of(package, name).removeprefix("api/") for name in names]
    for name, file in zip(names, files, strict=True):
        thing = getattr(module, name)
        known = inspect.isclass(thing) or inspect.isroutine(thing)
        rows.append([f"[{name}]({file})", first_sentence(thing) if known else ""])
    return f"# {package}\n\n{first_sentence(module)}\n\n{table(['Name', 'What it is'], rows)}\n"


def api_pages() -> dict[str, str]:
    """Write the pages of the API.

    Returns:
        Their text by file.
    """
    names = public_names()
    modules = _module_pages()
    pages = {_inner_file(name): text for name, text in modules.items()}
    files, rows = [], []
    for package, exported in names.items():
        if package in TOP:
            pages[f"api/{package}.md"] = _package_page(package, exported)
            pages |= {page_of(package, name): _page(package, name) for name in exported}
        else:
            pages[_inner_file(package)] = _inner_page(package, exported)
        files.append(f"{package}.md" if package in TOP else _inner_file(package)[4:])
        rows.append([f"[{package}]({files[-1]})", first_sentence(importlib.import_module(package))])
    module_rows = [
        [f"[{name}]({_inner_file(name)[4:]})", first_sentence(importlib.import_module(name))]
        for name in modules
    ]
    toctree = "\n".join(file.rpartition(".")[0] for file in files)
    pages["api/index.md"] = (
        "# API\n\nThree packages: `problems` measures, `scoresde` has the priors, `solvers` draws. "
        "Every name of theirs has a page, made of its docstring; packages within have one each."
        "\n\n"
        f"{table(['Package', 'What it holds'], rows)}\n"
        "What a command does can be called from Python, too, and files are read and written "
        "here:\n\n"
        f"{table(['Module', 'What it does'], module_rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    return pages
