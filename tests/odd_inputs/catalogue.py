"""All recipes, and the cases that they make: a case is a function of a seed and a number."""

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scoresde import EDMSDE, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from tests.odd_inputs.case import Case, Desk, Recipe
from tests.odd_inputs.running import Verdict, run_case

__all__ = ["FAMILIES", "KEPT", "KINDS", "RECIPES", "Result", "Workshop", "recipe_of"]

KINDS = (
    "modes",
    "photographs",
    "ranges",
    "damage",
    "masks",
    "wrong_masks",
    "kernels",
    "compressed",
    "arrays",
    "options",
    "descriptions",
    "calibrations",
    "checkpoints",
    "datasets",
    "commands",
    "command_options",
    "instruments",
    "instrument_heads",
    "many",
    "paths",
    "newer_options",
    "windows",
)
"""Modules of recipes."""

RECIPES: dict[str, Recipe] = {
    f"{kind}/{name}": recipe
    for kind in KINDS
    for name, recipe in importlib.import_module(f"tests.odd_inputs.{kind}").RECIPES.items()
}
"""Recipes by "kind/name"."""


KEPT = (
    # each showed a fault of this project that was mended
    "instruments/flipped-0-nii",
    "instrument_heads/nifti-slope-huge",
    "instrument_heads/nifti-dtype-unknown",
    "instrument_heads/dicom-slope-huge",
    "instrument_heads/dicom-deflated-zeros",
    "instrument_heads/zeros-fits.gz",
    "instrument_heads/zeros-behind-fits.gz",
    "instrument_heads/zarr-zip-bomb",
    "many/beside-newline",
    "many/beside-not-utf8",
    "many/bad-table-null-in-name",
    "many/bad-table-the-folder",
    "many/row-negative-seed",
    "many/row-device",
    "many/row-mask-device",
    "paths/photo-pipe",
    "paths/likelihood-pipe",
    "paths/train-pipe",
    "paths/kernel-pipe",
    "paths/mask-pipe",
    "paths/problem-pipe",
    "paths/problem-link-to-device",
    "paths/calibration-pipe",
    "paths/calibration-device",
    "paths/name-18",
    "paths/sparse-problem",
    "newer_options/torch-export-deep",
    "newer_options/torch-export-pickle",
)
"""Cases that are always among the first."""


def _family(name: str) -> str:
    """Recipes that one function makes: all pairs of format and mode, all damages of masks, ..."""
    recipe = RECIPES[name]
    function = getattr(recipe, "func", recipe)
    return f"{name.split('/')[0]}.{function.__name__}"


def _order() -> list[str]:
    """One of each family, those that are kept, then the others, in an order that mixes kinds."""
    names = [list(RECIPES)[i] for i in np.random.default_rng(0).permutation(len(RECIPES))]
    first = {_family(name): name for name in names}
    leading = [*first.values(), *(name for name in KEPT if name not in first.values())]
    ahead = set(leading)
    return [*leading, *(name for name in names if name not in ahead)]


_ORDER = _order()
FAMILIES = len({_family(name) for name in RECIPES})
"""So many first cases have one of each family."""


def recipe_of(number: int) -> str:
    """Name of the recipe of a case: all of them in turn, one of each family first.

    Args:
        number: Number of the case, from 0.

    Returns:
        "kind/name".
    """
    return _ORDER[number % len(_ORDER)]


@dataclass(frozen=True)
class Result:
    """A case that was run.

    Args:
        number: Its number.
        name: Its recipe.
        case: What was run.
        verdict: How it ended.
        seed: Seed of the cases.
    """

    number: int
    name: str
    case: Case
    verdict: Verdict
    seed: int = 0

    def __str__(self) -> str:
        """What happened, and how to repeat it."""
        seed = f" --seed {self.seed}" if self.seed else ""
        return (
            f"{self.verdict.word} {self.name} (must be {self.case.expect}): {self.verdict.detail}\n"
            f"    scoresde {' '.join(self.case.command)}\n"
            f"    python benchmarks/odd_inputs.py --case {self.number}{seed} --keep DIR"
        )


class Workshop:
    """Two small priors, and the running of cases in folders of their own.

    Args:
        folder: Folder for the priors and, by default, the cases.
        seed: Seed of all cases.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.seed = folder, seed
        self.colour, self.grey = (self._prior(channels) for channels in (3, 1))

    def _prior(self, channels: int) -> Path:
        torch.manual_seed(0)
        sizes = UNetConfig(channels=channels, widths=(8,), blocks=1, attention=())
        path = self.folder / f"prior-{channels}.safetensors"
        save_prior(ScorePrior(UNet(sizes), EDMSDE(), (channels, 16, 16)), path)
        return path

    def run(self, number: int, keep: Path | None = None) -> Result:
        """Make a case and run it.

        Args:
            number: Number of the case.
            keep: Folder in which its files stay; None to remove them.

        Returns:
            The case and its verdict.
        """
        name = recipe_of(number)
        rng = np.random.default_rng([self.seed, number])
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            return self._run_in(keep.resolve(), number, name, rng)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self._run_in(Path(folder), number, name, rng)

    def _run_in(self, folder: Path, number: int, name: str, rng: np.random.Generator) -> Result:
        case = RECIPES[name](Desk(folder, rng, self.colour, self.grey))
        return Result(number, name, case, run_case(case, folder), self.seed)
