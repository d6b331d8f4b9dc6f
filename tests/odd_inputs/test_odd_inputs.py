"""Odd inputs end in the right values or in one line: a selection of the cases, and the judge.

All cases: python benchmarks/odd_inputs.py
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.odd_inputs.case import Case, Command
from tests.odd_inputs.catalogue import FAMILIES, KEPT, Workshop, recipe_of
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.running import run_case

_CASES = 256  # all that were ever kept, one of each family, and some more
_CHUNK = 16
SEED = int(os.environ.get("SCORESDE_ODD_SEED", "0"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("odd"), SEED)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, _CASES, _CHUNK))
def test_odd_inputs(workshop: Workshop, first: int) -> None:
    results = [workshop.run(number) for number in range(first, first + _CHUNK)]
    faults = [str(one) for one in results if one.verdict.fault]
    assert not faults, "\n".join(faults)


def test_the_selection_has_one_of_each_family() -> None:
    found = {recipe_of(number) for number in range(_CASES)}
    assert FAMILIES <= _CASES == len(found)
    assert set(KEPT) <= found


@pytest.mark.slow
def test_a_case_is_a_function_of_seed_and_number(workshop: Workshop, tmp_path: Path) -> None:
    number = next(n for n in range(_CASES) if recipe_of(n).startswith("photographs/png"))
    for folder in ("one", "two"):
        workshop.run(number, tmp_path / folder)
    one, two = ((tmp_path / folder / "photo.png").read_bytes() for folder in ("one", "two"))
    assert one == two


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((9, 11, 3), 90, np.uint8)).save(path)
    return path


def _denoise(workshop: Workshop, photo: Path, *more: str) -> Command:
    out = str(photo.parent / "out")
    prior = str(workshop.colour)
    start = ("restore", str(photo), "--problem", "denoise", "--prior", prior, "--out", out)
    quick = ("--sigma", "0.002", "--solver", "hqs", "--steps", "2", "--device", "cpu")
    return (*start, *quick, *more)


@pytest.mark.slow
def test_the_judge_knows_right_from_wrong(workshop: Workshop, photo: Path) -> None:
    command, out = _denoise(workshop, photo), photo.parent / "out"
    right = picture_is(out, np.full((9, 11, 3), 90.0))
    wrong = picture_is(out, np.full((9, 11, 3), 93.0))
    turned = picture_is(out, np.full((11, 9, 3), 90.0))
    words = [
        run_case(Case(command, "right", (), check), photo.parent).word
        for check in (right, wrong, turned)
    ]
    assert words == ["RIGHT", "WRONG", "WRONG"]
    assert run_case(Case(command, "refused"), photo.parent).word == "SILENT"


def test_the_judge_of_refusals(workshop: Workshop, photo: Path) -> None:
    command, out = _denoise(workshop, photo, "--sigma", "-1"), photo.parent / "out"
    folder = photo.parent
    assert (
        run_case(Case(command, "refused", ("--sigma",), outputs=(out,)), folder).word == "REFUSED"
    )
    assert run_case(Case(command, "either", ("--SIGMA",)), folder).word == "REFUSED"
    assert run_case(Case(command, "right"), folder).word == "NEEDLESS"
    assert run_case(Case(command, "refused", ("--steps",)), folder).word == "UNNAMED"
    left = Case(command, "refused", ("--sigma",), outputs=(photo,))
    assert run_case(left, folder).word == "LEFTOVER"


@pytest.mark.parametrize(
    ("word", "body"),
    [
        ("TRACEBACK", "raise RuntimeError('storage')"),
        ("STATUS", "sys.exit(130)"),
        ("LINES", "sys.stderr.write('scoresde: error: one\\ntwo\\n'); sys.exit(2)"),
        ("LINES", "sys.stderr.write('wrong\\n'); sys.exit(2)"),
        ("NOISE", "warnings.warn('division', RuntimeWarning)"),
        ("NOISE", "os.write(2, b'TIFFReadDirectory: Warning\\n')"),
        ("NOISE", "logging.getLogger('tifffile').error('no page')"),
        ("RIGHT", "sys.stderr.write('scoresde: warning: dark\\n')"),
    ],
)
def test_the_judge_of_what_is_heard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str, body: str
) -> None:
    def main() -> None:
        exec(f"import logging, os, sys, warnings\n{body}")
        raise SystemExit(0)

    monkeypatch.setattr("tests.odd_inputs.running.main", main)
    assert run_case(Case((), "clean"), tmp_path).word == word
