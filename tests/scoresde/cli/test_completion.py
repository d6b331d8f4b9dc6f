"""Completion as a shell asks for it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scoresde.cli.main import app
from scoresde.cli.names import NAMES, stored_names
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.pipelines.names import registered_names
from scoresde.priors.checkpoint import embedded_priors
from solvers import SAMPLERS, SOLVERS
from tests.commands import run


def test_stored_names_are_those_of_the_registries() -> None:
    stored = json.loads(NAMES.read_text())["names"]
    assert stored == registered_names(), "run python -m scoresde.pipelines.names"
    assert stored_names("priors") == list(embedded_priors())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an executable `scoresde` that tells what it has imported."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "scoresde"
    script.write_text(
        f"#!{sys.executable}\n"
        "import atexit, pathlib, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        f"note = pathlib.Path({str(folder / 'imported')!r})\n"
        "atexit.register(lambda: note.write_text(' '.join(sys.modules)))\n"
        "from scoresde.cli import main\n"
        "main()\n"
    )
    script.chmod(0o755)
    return folder


def completions(installed: Path, line: str) -> list[str]:
    """What bash offers for a line: its own call of the function that the script defines."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f'PATH="{installed}:$PATH"\n'
        'eval "$(scoresde completion bash)"\n'
        "found=$(complete -p scoresde) && set -- $found\n"
        'while [ "$1" != -F ]; do shift; done\n'
        f"COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\n"
        f"\"$2\" scoresde '{words[-1]}' '{words[-2]}'\n"
        "printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    imported = set((installed / "imported").read_text().split())
    assert "typer" in imported and not {"torch", "numpy", "scipy"} & imported
    return done.stdout.split()


WITHIN = "scoresde restore photo.png --problem inpaint"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("scoresde re", ["restore"]),
        ("scoresde restore --prob", ["--problem"]),
        ("scoresde restore photo.png --problem ", list(PROBLEMS)),
        (f"{WITHIN} --solver dd", [name for name in SOLVERS if name.startswith("dd")]),
        (f"{WITHIN} --sampler ", list(SAMPLERS)),
        (f"{WITHIN} --prior n", ["natural"]),
        ("scoresde restore x --problem jpeg --set ", ["quality=", "subsampling="]),
        ("scoresde train photographs --recipe natural-", ["natural-gpu"]),
        ("scoresde compare --families vae,fl", ["vae,flow"]),
        ("scoresde verify --learned --law la", ["laplace"]),
        ("scoresde completion f", ["fish"]),
        ("scoresde restore pho", []),  # bash completes files then
    ],
)
def test_bash_completes(installed: Path, line: str, expected: list[str]) -> None:
    found = completions(installed, line)
    assert found == expected or (line.endswith(" n") and set(expected) <= set(found))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_ask_the_command(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, err = run(capsys, "completion", shell)
    assert code == 0 and not err
    assert f"_SCORESDE_COMPLETE=complete_{shell}" in out and "scoresde" in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out, text=True, check=True)


def test_every_option_that_takes_a_name_is_completed() -> None:
    """Every option of a kind that any command completes is completed in all commands."""
    from typer.main import get_command

    names = "solver sampler prior problem recipe weighting average precision law effort set filter"
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = [
        (command, parameter)
        for command, one in commands.items()
        for parameter in one.params
        if parameter.name in names.split() and (command, parameter.name) != ("train", "precision")
    ]
    assert len(options) > 20
    for command, parameter in options:
        assert parameter._custom_shell_complete is not None, (command, parameter.name)


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "completion", "tcsh")
    assert code == 2 and not out and "known: bash, zsh, fish" in err


def test_without_the_stored_names_nothing_is_offered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a damaged installation: a completion has no place for an error."""
    for content in (None, "{", '{"format": "scoresde.names/2", "names": {"solvers": ["x"]}}'):
        path = tmp_path / "names.json"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr("scoresde.cli.names.NAMES", path)
        assert stored_names("solvers") == []
