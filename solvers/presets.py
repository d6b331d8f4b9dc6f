"""Named settings of solvers, which the classes of solvers declare themselves.

A class of guidance or of posterior samplers that defines ``presets`` or ``verified`` is found by
the registry, the command line, the contract tests and the verification table; it is listed nowhere
else.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, ClassVar, TypeVar

from solvers.samplers.grid import TimeGrid
from solvers.scale import OfData

__all__ = [
    "DRAWING_GRID",
    "RESTORATION_GRID",
    "Declared",
    "Preset",
    "Registered",
    "discover",
    "presets",
    "registered_class",
    "verified",
]

Value = TypeVar("Value")

RESTORATION_GRID = TimeGrid(s_max=OfData(10.0), s_min=OfData(0.06), finest=0.5)
"""Time grid of restorations, in standard deviations of the data: 5 to 0.03 for photographs.

It begins where the noise hides the picture, and ends at half of the width with which y determines x
in its best direction, if that is smaller. What a denoised mean as the last step then omits is at
most a fifth of the variance in that direction.
"""

DRAWING_GRID = replace(RESTORATION_GRID, finest=2.0)
"""The same for solvers whose last step is a draw of x_0.

At twice the width of the likelihood this draw is accurate, and the steps are not spent on levels
below it.
"""


@dataclass(frozen=True)
class Preset:
    """The settings of a named solver for photographs.

    Args:
        summary: One line for the list of solvers.
        build: Makes a posterior sampler, or a guidance that ``sampler`` runs, for a number of
            steps.
        steps: Default number of steps.
        sampler: Name of the default sampler of a guidance; None for a posterior sampler, which has
            its own loop.
        least: Fewest steps that a budget may leave it. With a learned network the draws of few
            steps fall apart; one who asks for fewer by number gets them.
    """

    summary: str
    build: Callable[[int], Any]
    steps: int
    sampler: str | None = None
    least: int = 1

    @property
    def requires(self) -> frozenset[str]:
        """Capabilities that a problem must have."""
        requires: frozenset[str] = self.build(self.steps).requires
        return requires

    @property
    def exactness(self) -> str:
        """Law of the draws in the limit, see ``solvers.capabilities.Exactness``."""
        exactness: str = self.build(self.steps).exactness
        return exactness

    @property
    def is_estimate(self) -> bool:
        """Whether the solver gives one estimate, and no draws."""
        return self.exactness == "estimate"


class Registered:
    """Base of the classes whose presets are found by name. It keeps a list of its subclasses."""

    _classes: ClassVar[list[type[Registered]]] = []

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        Registered._classes.append(cls)

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name. A class without any has no name on the command line.
        """
        return {}

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Declare the settings of the verification table, for problems with exact posteriors.

        Returns:
            Posterior samplers, or pairs of a guidance and the sampler that runs it, by name.
        """
        return {}


def _collect(method: str) -> dict[str, Any]:
    """Collect the declarations of all classes by one of their methods.

    A class that is defined again, as in a notebook, replaces the earlier one.
    """
    found: dict[str, Any] = {}
    for cls in Registered._classes:
        if method in vars(cls):
            found |= getattr(cls, method)()
    return found


_ORDER = ("gaussian", "asymptotic", "heuristic", "estimate")


def presets() -> dict[str, Preset]:
    """Collect every named solver, as declared by ``presets`` of its class.

    Returns:
        Presets by name, sorted by exactness ("gaussian", "asymptotic", "heuristic", "estimate"),
        then by name.
    """
    found: dict[str, Preset] = _collect("presets")
    return dict(sorted(found.items(), key=lambda item: (_ORDER.index(item[1].exactness), item[0])))


def verified() -> dict[str, Any]:
    """Collect every solver of the verification table, as declared by ``verified`` of its class.

    Returns:
        Posterior samplers, or pairs of a guidance and its sampler, by name, sorted as in
        ``presets``.
    """
    found = _collect("verified")
    return dict(
        sorted(found.items(), key=lambda item: (_ORDER.index(_solver(item[1]).exactness), item[0]))
    )


def _solver(made: Any) -> Any:
    """Return the guidance of a pair of guidance and sampler: it decides the pair's exactness."""
    return made[0] if isinstance(made, tuple) else made


class Declared(Mapping[str, Value]):
    """What the classes declare at this moment, those that users define too.

    Args:
        collect: Gives the values by name, such as :func:`presets`.
    """

    def __init__(self, collect: Callable[[], dict[str, Value]]) -> None:
        self._collect = collect

    def __getitem__(self, name: str) -> Value:
        return self._collect()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._collect())

    def __len__(self) -> int:
        return len(self._collect())


def discover(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that its classes are registered.

    Args:
        package: Dotted name of the package.
        path: Its ``__path__``.
    """
    for module in pkgutil.walk_packages(path, f"{package}."):
        import_module(module.name)


def registered_class(name: str) -> type[Registered] | None:
    """Find a class of guidance or of posterior samplers by its name.

    Args:
        name: Name of the class.

    Returns:
        The class defined last under this name, or None.
    """
    found = [cls for cls in Registered._classes if cls.__name__ == name]
    return found[-1] if found else None
