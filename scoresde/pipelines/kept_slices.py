"""Slices of a stack that are restored already, kept until the whole stack is.

If a run is interrupted, the next one of the same content takes them over. Each is a safetensors
file of its draws, with what was found in its header. All else follows from the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from problems import Denoising, InverseProblem, problem_from
from scoresde.errors import InputError
from scoresde.files import json_safe, read_tensors, write_tensors
from scoresde.pipelines.task import Solved, Task
from solvers import Posterior
from solvers.posterior.path import DenoisingPath

__all__ = ["KEPT", "KeptSlices"]

KEPT = ".slices"
"""Name of their folder, in the folder of the results."""

_FORMAT = "scoresde.slice/1"


@dataclass(frozen=True)
class KeptSlices:
    """The finished slices of one stack.

    Args:
        folder: Their folder.
        key: Hash of all that they depend on, see
            :func:`scoresde.pipelines.content_hash.restoration_key`.
    """

    folder: Path
    key: str

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.safetensors"

    def read(self, task: Task, index: int) -> Solved | None:
        """Take over a slice.

        Args:
            task: The task.
            index: Number of the slice.

        Returns:
            The slice; None if it is not there, not whole, or was made of anything else.
        """
        try:
            tensors, header = read_tensors(self._path(index))
        except InputError:
            return None
        if header.get("format") != _FORMAT or header.get("key") != self.key:
            return None
        measured = task.measurements[index]
        # the noise may have been estimated; there is no other part of a problem to read alone
        described = InverseProblem(Denoising(), measured.problem.noise).describe()
        noise = problem_from(described | {"noise": header["noise"]}).noise
        posterior = Posterior(
            tensors["draws"],
            header["nfe"],
            header["vjps"],
            header["seconds"],
            header["diagnostics"],
        )
        path = None
        if index == task.shown:
            path = DenoisingPath()
            for number, (s, kind) in enumerate(header["path"]):
                path.add(s, tensors[f"path_{number}"], kind)
        return Solved(
            posterior,
            measured.y,
            measured.truth,
            header["report"],
            replace(measured.problem, noise=noise),
            path,
            tuple(header["warnings"]),
        )

    def write(self, index: int, one: Solved) -> None:
        """Keep a slice.

        Args:
            index: Number of the slice.
            one: The slice, finished.

        Raises:
            InputError: If the file cannot be written.
        """
        estimates = () if one.path is None else one.path.estimates
        header: dict[str, Any] = {
            "format": _FORMAT,
            "key": self.key,
            "noise": one.problem.noise.describe(),
            "nfe": one.posterior.nfe,
            "vjps": one.posterior.vjps,
            "seconds": one.posterior.seconds,
            "diagnostics": one.posterior.diagnostics,
            "report": one.report,
            "path": [(estimate.s, estimate.kind) for estimate in estimates],
            "warnings": one.warnings,
        }
        tensors = {f"path_{number}": e.x0 for number, e in enumerate(estimates)}
        tensors["draws"] = one.posterior.draws.to(torch.float32)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(self._path(index), tensors, json_safe(header))

    def remove(self) -> None:
        """Remove all slices, of other content too: the results of the stack are written."""
        for path in self.folder.glob("*.safetensors"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
