"""Programs of torch.export with a stored convention.

The file is that of ``torch.export.save``, with a further entry "scoresde.json" that holds the
convention and the shape of a sample. A program is a graph of tensor operations; the pickles that
such a file may also contain are looked at first and refused if they hold more than tensors.
"""

import copy
import io
import itertools
import json
import math
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from problems.checks import check_sizes
from scoresde.errors import InputError
from scoresde.files import write_atomically
from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.priors.adapted.weights import is_plain_pickle
from scoresde.sde import SDE, sde_from

__all__ = ["load_exported", "save_exported"]

_ENTRY = "scoresde.json"
_FORMAT = "scoresde.exported/1"
_PLACES = (  # of the entries of a .pt2 archive, below its root
    "data/weights/",
    "data/constants/",
    "data/sample_inputs/",
    "models/",
    "extra/",
    ".data/",
    "archive_format",
    "archive_version",
    "byteorder",
    "version",
)


class _Program(nn.Module):
    """Module of an exported program, which has no training mode to leave."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.program, self.graph = program, program.module()

    def forward(self, *arguments: Tensor) -> Tensor:
        """Evaluate the program."""
        try:
            output: Tensor = self.graph(*arguments)
        except AssertionError as error:  # of the sizes for which it was exported
            raise ValueError(
                f"the exported program does not take the shape {tuple(arguments[0].shape)}: "
                f"{' '.join(str(error).split()):.120}"
            ) from None
        return output

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Program":
        # a graph names the device of every tensor that it makes
        before = next(itertools.chain(self.parameters(), self.buffers()), torch.zeros(0)).device
        after = fn(torch.zeros(0, device=before)).device
        if after != before:
            # the pass changes the program that it is given, and other priors may share this one
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch of its own code
                self.program = move_to_device_pass(copy.deepcopy(self.program), str(after))
            self.graph = self.program.module().requires_grad_(False)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def train(self, mode: bool = True) -> "_Program":
        """Keep the mode in which the program was exported."""
        return self


def save_exported(
    program: torch.export.ExportedProgram,
    convention: Convention,
    shape: tuple[int, ...],
    path: str | Path,
    *,
    sde: SDE | None = None,
    trained: tuple[float, float] | None = None,
    card: dict[str, Any] | None = None,
) -> None:
    """Write a program of torch.export with the convention that makes it a prior.

    Args:
        program: Program that takes the state and the label, as the convention says. Its first axis
            should be dynamic, so that it takes batches of any size.
        convention: What the program predicts, from what, and in which units.
        shape: Shape of one sample.
        path: Path of the file; the usual suffix is .pt2.
        sde: Forward process of the prior that is read back; None for ``EDMSDE()``.
        trained: Smallest and largest noise level of the training, in the units of the prior, for a
            program that is told all levels and holds labels itself; None for those of the
            convention.
        card: What is known about the network, as plain values.

    Raises:
        InputError: If the file cannot be written.
        ValueError: If the convention has a schedule that is made of functions.
    """
    header = {
        "format": _FORMAT,
        "convention": convention.describe(),
        "shape": list(check_sizes(shape, "shape")),
        "sde": None if sde is None else sde.describe(),
        "trained": None
        if trained is None
        else [end if math.isfinite(end) else None for end in trained],
        "card": card or {},
    }
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # of weights with the channels last, which are written whole
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, buffer, extra_files={_ENTRY: json.dumps(header)})
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(buffer.getvalue()))


def load_exported(path: str | Path) -> AdaptedPrior:
    """Read a prior that :func:`save_exported` wrote.

    Args:
        path: Path of the file.

    Returns:
        The prior, frozen.

    Raises:
        InputError: If the file is missing, damaged, without a convention, or holds pickled objects
            that are not tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no exported program {path}")
    header = _header(path)
    try:
        convention, shape = (
            Convention.of(header["convention"]),
            check_sizes(header["shape"], "shape"),
        )
        sde = None if header.get("sde") is None else sde_from(header["sde"])
        trained = _ends(header.get("trained"))
        card = dict(header.get("card") or {})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the convention in {path} is wrong: {error}") from None
    try:
        program = torch.export.load(path)
    except Exception as error:  # of many kinds, for a file of another version of torch
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} cannot be read by torch {torch.__version__} ({reason:.100}); export it again"
        ) from None
    card = {"source": path.name} | card
    prior = AdaptedPrior(_Program(program), convention, shape, sde, card=card)
    prior.trained = trained or prior.trained
    return prior.requires_grad_(False)


def _ends(given: Any) -> tuple[float, float] | None:
    """The noise levels of the training in a header."""
    if given is None:
        return None
    low, high = given
    ends = float(low), math.inf if high is None else float(high)
    if not 0 <= ends[0] <= ends[1]:
        raise ValueError(f"trained is (smallest, largest noise level), got {given!r:.80}")
    return ends


def _header(path: Path) -> dict[str, Any]:
    """The stored convention, after a check that reading the file runs no code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in names:
                _check_entry(path, name, archive)
            entry = next((n for n in names if n.endswith(f"/extra/{_ENTRY}")), None)
            header = json.loads(archive.read(entry)) if entry else None
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a file of torch.export.save ({error!s:.80})") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise InputError(
            f"{path} has no stored convention; write it with "
            "scoresde.priors.adapted.save_exported(program, convention, shape, path)"
        )
    return header


def _check_entry(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    """Refuse an entry that torch would unpickle without limits."""
    place = name.split("/", 1)[-1]
    if not place.startswith(_PLACES):
        raise InputError(
            f"{path} is not a file of torch.export.save of this version of torch (it has "
            f"{name!r:.60}); export the network again"
        )
    content = archive.read(name) if name.endswith((".pt", "_config.json")) else b""
    refused = False
    if name.endswith("_config.json"):
        entries = json.loads(content).get("config", {}).values()
        refused = any(entry.get("use_pickle") is not False for entry in entries)
    elif content and "/data/" in name:
        refused = not is_plain_pickle(content)
    if refused:
        raise InputError(
            f"{path} holds pickled objects ({name}), and reading them could run code; export the "
            "network with plain tensors alone"
        )
