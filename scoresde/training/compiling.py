"""Compilation of the objective: where it pays, and one clear line where it fails."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from scoresde.errors import InputError
from scoresde.priors.compiled import compiler_reason

__all__ = ["CompilerError", "clear_compiler_error", "compilation_pays"]

WORTHWHILE = 2000
"""Steps on a CPU that are worth the minutes of a compilation."""


class CompilerError(InputError):
    """The objective cannot be compiled here."""


def compilation_pays(device: torch.device, steps: int) -> bool:
    """Whether compiled steps save more time than the compilation takes.

    Args:
        device: Device of the training.
        steps: Steps that are left.

    Returns:
        True on a GPU with Triton, and on a CPU with a C++ compiler for more than 2000 steps.
    """
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    compilers = (os.environ.get("CXX"), "g++", "clang++")
    known = any(shutil.which(name) for name in compilers if name)
    return device.type == "cpu" and steps > WORTHWHILE and known


@contextmanager
def clear_compiler_error() -> Iterator[None]:
    """Raise one clear line instead of a compiler's many.

    Yields:
        Nothing.

    Raises:
        CompilerError: If torch.compile fails within the block.
    """
    try:
        yield
    except RuntimeError as error:
        reason = compiler_reason(error)
        if reason is None:
            raise
        raise CompilerError(
            f"torch.compile failed, so train without --compile ({reason})"
        ) from error
