"""Variables of MATLAB files, versions 4 to 7.2, by SciPy's reader."""

import math
import warnings
from pathlib import Path

import numpy as np

from problems.reading.refusal import RefusalError

__all__ = ["mat_variables", "read_mat"]

# deflate shrinks to 1/1032 at best, and MATLAB stores whole numbers in one byte each
_MOST_ENTRIES_PER_BYTE = 1032


def mat_variables(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """List the variables of a .mat file without reading them.

    Args:
        path: Path of the file.

    Returns:
        Name, shape and MATLAB's class ("double", "cell", "sparse", ...) of each variable.

    Raises:
        RefusalError: If the file is of version 7.3, which is HDF5, or claims more entries than a
            file of its size can hold. On damaged files SciPy raises errors of many types.
    """
    from scipy.io import whosmat

    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise RefusalError("MATLAB 7.3 wrote it as HDF5; save it in MATLAB with save(..., '-v7')")
    if start.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        raise RefusalError("it is a file of NumPy; give it the suffix .npy or .npz")
    most = _MOST_ENTRIES_PER_BYTE * path.stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # SciPy warns of two variables of one name, and reads one
        variables: list[tuple[str, tuple[int, ...], str]] = whosmat(path, appendmat=False)
    for name, shape, kind in variables:
        if min(shape, default=0) < 0 or (kind != "sparse" and math.prod(shape) > most):
            raise RefusalError(f"{name} claims the shape {shape} in a file of so few bytes")
    return variables


def read_mat(path: Path, name: str) -> np.ndarray:
    """Read one variable of a .mat file.

    Args:
        path: Path of the file.
        name: Name of the variable, an array of numbers.

    Returns:
        The array; MATLAB has two axes at least.

    Raises:
        KeyError: If there is no such variable.
        RefusalError: If the variable is not what the list of variables said.
    """
    from scipy.io import loadmat

    array = loadmat(path, appendmat=False, variable_names=[name])[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
        raise RefusalError(f"{name} is no array of numbers")
    return array
