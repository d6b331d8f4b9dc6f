"""Helpers that tests of every part share."""

import os
import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from solvers.presets import Registered

__all__ = ["F64", "device", "randn", "seeded"]

F64 = torch.float64


OPTIONAL = ("astra", "astropy", "h5py", "nibabel", "pydicom", "sigpy", "zarr")
"""Libraries of the extras that tests write files with, or compare with."""

_EXTRAS = {"astra": "astra"}  # extras other than "test", for what is large or rarely needed


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """Skip what needs a library of an extra that is not installed, as beside a bare wheel."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL and find_spec(error.name) is None:
            extra = _EXTRAS.get(error.name, "test")
            pytest.skip(f"{error.name} is not installed: pip install 'scoresde[{extra}]'")
        raise


@pytest.fixture
def device() -> torch.device:
    """The device of `make test DEVICE=cuda`; the CPU if none is given."""
    return torch.device(os.environ.get("SCORESDE_TEST_DEVICE") or "cpu")


@pytest.fixture(autouse=True)
def own_classes() -> Iterator[None]:
    """A solver or guidance that a test defines has no name in the tests after it."""
    before = list(Registered._classes)
    yield
    Registered._classes[:] = before + [
        cls
        for cls in Registered._classes[len(before) :]
        if "<locals>" not in cls.__qualname__ and cls.__module__ in sys.modules
    ]


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU that starts from this seed."""
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in double precision."""
    return torch.randn(shape, generator=seeded(seed), dtype=F64)
