"""Named settings of solvers, which the classes of solvers declare themselves.

A class of guidance or of posterior samplers that writes ``presets`` or ``verified`` is found by the registry, the command line,
the contract tests and the verification table without a line anywhere else.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from solvers.samplers.grid import TimeGrid

__all__ = ["RESTORATION_GRID", "Preset", "Registered", "discover", "presets", "verified"]

RESTORATION_GRID = TimeGrid(s_max=5.0, s_min=0.03)
"""Where restorations step: from where the noise hides the picture to below the noise of most measurements."""


@dataclass(frozen=True)
class Preset:
    """A solver by name, with settings for photographs.

    build: steps -> a posterior sampler, or a guidance that ``sampler`` runs. steps: its default. sampler: the name of the default
    sampler of a guidance; None for a posterior sampler, which has a loop of its own.
    """

    summary: str
    build: Callable[[int], Any]
    steps: int
    sampler: str | None = None

    @property
    def requires(self) -> frozenset[str]:
        """The capabilities that it asks of a problem."""
        return self.build(self.steps).requires

    @property
    def exactness(self) -> str:
        """What its draws become in the limit, see ``solvers.capabilities.Exactness``."""
        return self.build(self.steps).exactness


class Registered:
    """Base of the classes whose presets are found by name."""

    _classes: ClassVar[list[type[Registered]]] = []

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        Registered._classes.append(cls)

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Name -> settings for photographs. A class without any has no name on the command line."""
        return {}

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Name -> settings for exact problems: a posterior sampler, or a guidance and the sampler that runs it."""
        return {}


def _collect(method: str) -> dict[str, Any]:
    """What the classes declare; a class defined again, as in a notebook, takes the place of the earlier one."""
    found: dict[str, Any] = {}
    for cls in Registered._classes:
        if method in vars(cls):
            found |= getattr(cls, method)()
    return found


_ORDER = ("gaussian", "asymptotic", "heuristic")


def presets() -> dict[str, Preset]:
    """Every named solver, as declared by ``presets`` of its class: exact for Gaussian priors first, then by name."""
    found: dict[str, Preset] = _collect("presets")
    return dict(sorted(found.items(), key=lambda item: (_ORDER.index(item[1].exactness), item[0])))


def verified() -> dict[str, Any]:
    """Every solver of the verification table, as declared by ``verified`` of its class, in the order of ``presets``."""
    found = _collect("verified")
    return dict(
        sorted(found.items(), key=lambda item: (_ORDER.index(_solver(item[1]).exactness), item[0]))
    )


def _solver(made: Any) -> Any:
    """Of a guidance and its sampler the guidance, which decides what the pair promises."""
    return made[0] if isinstance(made, tuple) else made


def discover(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that the classes in them are known."""
    for module in pkgutil.walk_packages(path, f"{package}."):
        import_module(module.name)
