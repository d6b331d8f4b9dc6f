"""Scripts of benchmarks as modules."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a benchmark as it is run, with its folder on the path, and forgets it afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    own = {path.stem for path in FOLDER.glob("*.py")}
    for name in (set(sys.modules) - before) & own:
        del sys.modules[name]
