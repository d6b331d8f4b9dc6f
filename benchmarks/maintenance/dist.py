"""Build sdist and wheel, and try the wheel in an empty environment.

python benchmarks/maintenance/dist.py [--out dist] [--build-only]

The wheel is built from the sdist, so that the sdist holds all that is needed. It is installed
without extras, outside of the repository, with the versions of constraints.txt; then it restores
the photographs of `scoresde demo` and runs tests that need neither an extra nor files of the
repository.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]

NEEDED = (
    "scoresde/weights/natural.safetensors",
    "scoresde/weights/natural.md",
    "scoresde/weights/families/*.safetensors",
    "scoresde/samples/*.npz",
    "scoresde/reports/assets/*.css",
    "scoresde/schemas/restore-report.json",
    "scoresde/cli/names.json",
    "scoresde/py.typed",
    "problems/py.typed",
    "solvers/py.typed",
    "scoresde-*.dist-info/licenses/LICENSE",
)
FOREIGN = ("tests/*", "notebooks/*", "benchmarks/*", "docs/*", "runs/*", "out/*", "*.pyc")

FAST = (
    "tests/problems",
    "tests/solvers/test_samplers.py",
    "tests/solvers/test_gaussian_posterior.py",
    "tests/solvers/test_point_estimates.py",
    "tests/scoresde/test_sde.py",
    "tests/scoresde/test_files.py",
    "tests/scoresde/networks",
    "tests/scoresde/cli/test_cli.py",
    "tests/scoresde/cli/test_manners.py",
)
"""Tests of the core; the slow ones among them are left out."""
TRAINS = "tests/scoresde/cli/test_cli.py::test_bad_input_to_the_other_commands"
"""The one among them that needs the extra `train`."""


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its output; if it fails, show it and stop."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=None if environment is None else os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(map(str, command))} failed")
    return done.stdout


def environment(folder: Path) -> Path:
    """Make an empty environment and return its Python."""
    run(sys.executable, "-m", "venv", folder)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def install(python: Path, *what: str | Path) -> None:
    """Install with the versions that were tested."""
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *what)


def build(out: Path, work: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it, into a folder."""
    python = environment(work / "build")
    install(python, "build")
    for old in [*out.glob("scoresde-*.tar.gz"), *out.glob("scoresde-*.whl")]:
        old.unlink()
    run(python, "-m", "build", "--outdir", out, ROOT)
    (sdist,), (wheel,) = out.glob("scoresde-*.tar.gz"), out.glob("scoresde-*.whl")
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """Stop if a file is missing, or does not belong there."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [one for one in NEEDED if not any(fnmatch(name, one) for name in names)]
    foreign = [name for name in names for one in FOREIGN if fnmatch(name, one)]
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in ("scoresde", "problems", "solvers")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    missing += sorted(tree - set(names))
    if missing or foreign:
        sys.exit(f"{wheel.name} lacks {missing}, and should not have {foreign}")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    if lacking := {"pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md"} - inside:
        sys.exit(f"{sdist.name} lacks {sorted(lacking)}")


def sizes(python: Path) -> tuple[int, float]:
    """Number of packages beside scoresde and pip, and megabytes of all that is installed."""
    code = (
        "import importlib.metadata as m, sysconfig, pathlib\n"
        "names = {d.name.lower() for d in m.distributions()} - {'scoresde', 'pip', 'setuptools'}\n"
        "home = pathlib.Path(sysconfig.get_path('purelib'))\n"
        "files = [f for f in home.rglob('*') if f.is_file() and f.suffix != '.pyc']\n"
        "print(len(names), sum(f.stat().st_size for f in files) / 1e6)\n"
    )
    number, megabytes = run(python, "-c", code, cwd=Path(tempfile.gettempdir())).split()
    return int(number), float(megabytes)


def try_out(wheel: Path, work: Path) -> None:
    """Install the wheel, restore photographs, run tests."""
    python = environment(work / "empty")
    install(python, wheel)
    number, megabytes = sizes(python)
    print(f"installed without extras: {number} packages, {megabytes:.0f} MB", flush=True)

    place = work / "place"
    place.mkdir()
    code = "import scoresde, problems, solvers; print(scoresde.__file__)"
    home = run(python, "-c", code, cwd=place).strip()
    if ROOT in Path(home).parents or "site-packages" not in home:
        sys.exit(f"the package was imported from {home}, not from the wheel")
    one_thread = {"OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    demo = run(python, "-m", "scoresde", "demo", "--out", "demo", cwd=place, environment=one_thread)
    if not (place / "demo/sheet.png").stat().st_size:
        sys.exit("scoresde demo wrote no sheet.png")
    print(f"demo: {time.perf_counter() - start:.0f} s\n{demo.rstrip()}", flush=True)

    # the repository itself is not beside the tests: only the wheel can be imported
    install(python, "pytest", "pytest-xdist", "jsonschema")  # the marker of xdist
    shutil.copytree(ROOT / "tests", place / "tests")
    shutil.copy(ROOT / "pyproject.toml", place)
    which = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--deselect", TRAINS)
    start = time.perf_counter()
    result = run(python, *which, *FAST, cwd=place, environment=one_thread)
    print(f"tests: {time.perf_counter() - start:.0f} s\n{result.rstrip().splitlines()[-1]}")


def main() -> None:
    """Build, check the contents, and try the wheel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--build-only", action="store_true", help="do not install the wheel")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sdist, wheel = build(arguments.out.resolve(), Path(folder))
        check_contents(sdist, wheel)
        for one in (sdist, wheel):
            print(f"{one.name}: {one.stat().st_size / 1e6:.1f} MB", flush=True)
        if not arguments.build_only:
            try_out(wheel, Path(folder))


if __name__ == "__main__":
    main()
