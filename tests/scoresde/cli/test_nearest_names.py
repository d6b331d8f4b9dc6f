"""A misspelt name of any registry is answered with the nearest one."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from problems.checks import unknown
from scoresde.cli.main import COMMANDS
from scoresde.families.comparison.families import FAMILIES
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.priors.averaged import GROUPS
from scoresde.priors.checkpoint import embedded_priors
from scoresde.training import RECIPES
from scoresde.training.objective import WEIGHTINGS
from solvers import EFFORTS, SAMPLERS, SOLVERS
from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, VERIFIED
from solvers.verification.levy import LEARNED, MEASUREMENTS
from tests.commands import run

# No file is read before these names are checked: neither photo.png nor data.npz exists.
RESTORE = ("restore", "photo.png", "--problem")


def misspelt(name: str, known: Iterable[str]) -> str:
    """Another spelling: the first letter that can be doubled without giving another known name."""
    wrong = (name[: i + 1] + name[i:] for i in range(len(name)))
    return next(word for word in wrong if word not in set(known))


def photograph(folder: Path) -> Path:
    from PIL import Image

    path = folder / "photo.png"
    Image.new("RGB", (32, 32), (90, 120, 150)).save(path)
    return path


SHEET: dict[str, tuple[Iterable[str], tuple[str, ...]]] = {
    "problem": (PROBLEMS, (*RESTORE, "?")),
    "solver": (SOLVERS, (*RESTORE, "denoise", "--solver", "?")),
    "sampler": (SAMPLERS, (*RESTORE, "denoise", "--solver", "mmps", "--sampler", "?")),
    "effort": (EFFORTS, (*RESTORE, "denoise", "--effort", "?")),
    "prior": (embedded_priors(), (*RESTORE, "denoise", "--prior", "?")),
    "average": (GROUPS, (*RESTORE, "denoise", "--average", "?")),
    "solver of the demo": (SOLVERS, ("demo", "--solver", "?")),
    "sampler of a prior": (SAMPLERS, ("sample", "--sampler", "?")),
    "prior that is looked over": (embedded_priors(), ("check-prior", "?")),
    "recipe": (RECIPES, ("train", "FOLDER", "--out", "OUT", "--recipe", "?")),
    "weighting": (WEIGHTINGS, ("train", "FOLDER", "--out", "OUT", "--weighting", "?")),
    "family": (FAMILIES, ("compare", "--dataset", "data.npz", "--families", "?")),
    "verified solver": (VERIFIED, ("verify", "--solver", "?")),
    "exact problem": ([*EXACT_PROBLEMS, *FULL_PROBLEMS], ("verify", "--problem", "?")),
    "learned law": (LEARNED, ("verify", "--learned", "--law", "?")),
    "learned measurement": (MEASUREMENTS, ("verify", "--learned", "--problem", "?")),
    "solver for signals": (SOLVERS, ("verify", "--learned", "--solver", "?")),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHEET)
def test_every_registry_suggests_the_nearest_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    """All names of the registry, each with a letter doubled."""
    known, line = SHEET[kind]
    known = list(known)
    places = {"photo.png": photograph(tmp_path), "FOLDER": tmp_path, "OUT": tmp_path / "out"}
    for name in known:
        wrong = misspelt(name, known)
        given = [wrong if word == "?" else places.get(word, word) for word in line]
        code, out, err = run(capsys, *given)
        assert code == 2 and not out, (code, out, err)
        assert f"{wrong!r}; did you mean {name!r}?" in err and len(err.splitlines()) == 1
        assert all(other in err for other in known)


@pytest.mark.parametrize("problem", [name for name, one in PROBLEMS.items() if one.settings])
def test_settings_suggest_the_nearest_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, problem: str
) -> None:
    image = photograph(tmp_path)
    for name in PROBLEMS[problem].settings:
        wrong = misspelt(name, PROBLEMS[problem].settings)
        code, _, err = run(capsys, "restore", image, "--problem", problem, "--set", f"{wrong}=1")
        assert code == 2 and f"did you mean {name}?" in err


@pytest.mark.slow
def test_commands_and_options_suggest_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {one.__name__.rsplit(".", 1)[1].replace("_", "-") for one in COMMANDS}
    for name in commands:
        code, _, err = run(capsys, misspelt(name, commands))
        assert code == 2 and f"'{name}'" in err, err
    code, _, err = run(capsys, "restore", "photo.png", "--problm", "denoise")
    assert code == 2 and "--problem" in err


def test_a_name_like_no_other_is_answered_with_the_list() -> None:
    assert unknown("solver", "zzz", ("dps", "ddrm")) == "unknown solver 'zzz'; known: dps, ddrm"
    assert unknown("solver", 3, ("dps",)) == "unknown solver 3; known: dps"
    assert unknown("law", "x", ()) == "unknown law 'x'; known: none"
    assert "did you mean 'DPS'?" in unknown("solver", "dps", ("DPS", "ddrm"))


def test_a_long_name_is_answered_at_once() -> None:
    """Texts are compared in quadratic time: a megabyte would take minutes."""
    assert len(unknown("solver", "dps" * 400_000, SOLVERS)) < 1000
