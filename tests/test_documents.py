"""The documents: citations, links, commands and examples agree with the package."""

import ast
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from solvers import EFFORTS, SOLVERS
from tests.conftest import seeded

ROOT = Path(__file__).parent.parent
PACKAGES = ("problems", "scoresde", "solvers")
CARDS = sorted([*ROOT.glob("scoresde/weights/**/*.md"), *ROOT.glob("scoresde/samples/*.md")])
RESULTS = sorted(ROOT.glob("benchmarks/results/**/*.md"))
PAGES = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")]


# Citations


NAME = r"(?:(?:[Vv]an|[Vv]on|de|den|der|Le|Ver) )*(?:O')?[^\W\d_a-z][^\W\d_]+(?:-[^\W\d_]+)*"
CITATION = re.compile(
    rf"(?P<names>{NAME}(?:, {NAME})*(?:,? and {NAME})?)(?P<more> et al\.)?"
    r"(?:'s\b[^.;()]{0,40})? \(?(?P<year>1[89]\d\d|20[0-3]\d)(?!\d|\.\d|%)"
)


@dataclass(frozen=True)
class Citation:
    """A citation in author-year form: the surnames, whether there are more, and the year."""

    names: tuple[str, ...]
    more: bool
    year: str

    def __str__(self) -> str:
        *first, last = self.names
        names = ", ".join(first) + (" and " if first else "") + last
        return f"{names}{' et al.' if self.more else ''} {self.year}"

    @property
    def key(self) -> str:
        return plain(self.names[0]) + self.year


def plain(name: str) -> str:
    """A name in lower case, without accents, spaces and hyphens."""
    decomposed = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("ł", "l"))
    return re.sub(r"[^a-z]", "", decomposed.encode("ascii", "ignore").decode().lower())


def citations(text: str) -> Iterator[Citation]:
    """The citations of a text. Et al. follows one name: what precedes is the name of a method."""
    for found in CITATION.finditer(" ".join(text.split())):
        names = re.split(r",? and |, ", found["names"])
        more = bool(found["more"])
        yield Citation(tuple(names[-1:] if more else names), more, found["year"])


def docstrings(path: Path) -> Iterator[str]:
    """Strings that stand alone: those of modules, classes and functions, and of attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


@cache
def references() -> dict[str, dict[str, str]]:
    """Fields of the entries of references.bib, by key."""
    found: dict[str, dict[str, str]] = {}
    for entry in re.split(r"^@", (ROOT / "references.bib").read_text(), flags=re.M)[1:]:
        kind, key = re.match(r"(\w+)\{(\w+),\n", entry).groups()  # type: ignore[union-attr]
        assert key not in found, f"{key} stands twice in references.bib"
        fields = re.findall(r"^\s+(\w+)\s*=\s*\{(.*)\},?$", entry, flags=re.M)
        found[key] = {"kind": kind, **dict(fields)}
    return found


LATEX = {r"{\o}": "ø", r"{\l}": "ł", r"{\O}": "Ø"}


def surnames(key: str) -> list[str]:
    """The surnames of the authors of an entry, as plain as in a key."""
    authors = references()[key]["author"]
    for code, letter in LATEX.items():
        authors = authors.replace(code, letter)
    without = re.sub(r"\\[^a-zA-Z]|\\[a-zA-Z]\b|[{}]", "", authors)
    return [plain(author.split(",")[0]) for author in without.split(" and ")]


def resolve(citation: Citation) -> str:
    """The key of the entry that a citation refers to.

    Raises AssertionError if there is none, or its authors are not those that the citation names.
    """
    keys = [key for key in references() if re.fullmatch(citation.key + "[a-z]*", key)]
    if not keys and len(citation.names) > 2:  # "MALA, Zhang, Liu and Liu 2022"
        return resolve(replace(citation, names=citation.names[1:]))
    assert keys, f"{citation} has no entry {citation.key} in references.bib"
    if len(keys) > 1:
        keys = [key for key in keys if references()[key].get("citedas") == str(citation)]
        assert len(keys) == 1, f"{citation} is ambiguous: give the entries the field citedas"
    authors, named = surnames(keys[0]), [plain(name) for name in citation.names]
    agrees = (
        authors[: len(named)] == named and len(authors) > len(named) + 1
        if citation.more
        else authors == named
    )
    assert agrees, f"{citation} names other authors than {keys[0]}: {', '.join(authors)}"
    return keys[0]


def cited_in_docstrings() -> list[tuple[Path, Citation]]:
    return [
        (path, citation)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in docstrings(path)
        for citation in citations(text)
    ]


@pytest.mark.slow
def test_every_citation_has_an_entry() -> None:
    found = cited_in_docstrings()
    found += [(path, one) for path in [*PAGES, *CARDS] for one in citations(path.read_text())]
    assert len(found) > 100
    wrong = []
    for path, citation in found:
        try:
            resolve(citation)
        except AssertionError as error:
            wrong.append(f"{path.relative_to(ROOT)}: {str(error).splitlines()[0]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_every_entry_is_cited() -> None:
    """In docstrings, comments, cards, results or the pages; and each has its fields."""
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    cited = set()
    for path in [*sources, *PAGES, *CARDS, *RESULTS]:
        for citation in citations(re.sub(r"\n\s*#", "\n", path.read_text())):
            try:
                cited.add(resolve(citation))
            except AssertionError:
                continue  # comments and tables of results may say anything
    assert not (unused := set(references()) - cited), unused
    for key, fields in references().items():
        assert {"author", "title", "year"} <= set(fields), key
        assert re.fullmatch(surnames(key)[0] + fields["year"] + "[a-z]*", key), key
        assert re.fullmatch(r"\d{4}\.\d{5}|\d{4}\.\d{4}", fields.get("eprint", "2001.00001")), key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DDIM (Song, Meng and Ermon 2021, eq. 12)", "Song, Meng and Ermon 2021"),
        ("the SDE of Karras et al. (2022).", "Karras et al. 2022"),
        ("are Satterthwaite's (1946), with", "Satterthwaite 1946"),
        ("Dormand and Prince's pair of orders 5 and 4 (1980;", "Dormand and Prince 1980"),
        ("(Zhang, Van Gool and\n    Timofte 2020)", "Zhang, Van Gool and Timofte 2020"),
        ("gated PixelCNN (van den Oord et al. 2016)", "van den Oord et al. 2016"),
    ],
)
def test_citations_are_read(text: str, expected: str) -> None:
    (found,) = citations(text)
    assert str(found) == expected
    assert resolve(found)


def test_wrong_citations_are_named() -> None:
    with pytest.raises(AssertionError, match="no entry nobody1999"):
        resolve(Citation(("Nobody",), False, "1999"))
    with pytest.raises(AssertionError, match="other authors"):
        resolve(Citation(("Karras",), False, "2022"))
    with pytest.raises(AssertionError, match="ambiguous"):
        resolve(Citation(("Song",), False, "2021"))


# Links


@pytest.mark.parametrize("page", [*PAGES, *CARDS], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_point_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_named_files_exist(page: Path) -> None:
    """Paths in backticks that start at the root, except those of the recipes' own files."""
    own = {path for path, _ in recipes()}
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    pattern = r"`((?:problems|scoresde|solvers|tests|benchmarks|notebooks)/[\w./-]*)`"
    for path in re.findall(pattern, text) if page.name != "CHANGELOG.md" else ():
        assert path in own or (ROOT / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_lines_are_short(page: Path) -> None:
    """At most 100 columns, tables and pictures excepted."""
    lines = enumerate(page.read_text().splitlines(), 1)
    long = [n for n, line in lines if len(line) > 100 and not line.startswith(("|", "!["))]
    assert not long, f"{page.name}: lines {long}"


# Commands


def commands() -> list[list[str]]:
    """The command lines of `scoresde` in README.md, as words without comments."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(scoresde [^`]+)`", text.replace("\n", " "))
    words = [line.split(" #")[0].split() for line in lines]
    return [line for line in words if line[:1] == ["scoresde"]]


def parse(words: list[str]) -> None:
    """Parse a command line without running it; values are not opened."""
    from scoresde.cli.main import app

    group: Any = get_command(app)
    assert words[1] in group.commands, f"there is no command {words[1]}"
    command = group.commands[words[1]]
    command.make_context(words[1], list(words[2:]), resilient_parsing=False).close()


@pytest.mark.slow
def test_commands_of_the_readme_parse() -> None:
    found = commands()
    assert len(found) > 10
    assert {"restore", "calibrate", "list", "sample", "likelihood", "train", "demo"} <= {
        words[1] for words in found
    }
    for words in found:
        known = set(options(words[1]))
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{' '.join(words)}: no {', '.join(used - known)}"
        if len(words) > 2:
            parse(words)


def test_options_named_in_the_pages_exist() -> None:
    """`--option` in backticks belongs to some command or benchmark script."""
    known = {name for command in group().commands for name in options(command)}
    for script in (ROOT / "benchmarks").rglob("*.py"):
        known |= set(re.findall(r"\"(--[\w-]+)\"", script.read_text()))
    for page in [*PAGES, *CARDS]:
        if page.name in ("CHANGELOG.md", "CONTRIBUTING.md"):
            continue
        text = page.read_text()
        spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
        for span in spans:
            if not re.match(r"(scoresde|python|--)", span):
                continue
            for option in re.findall(r"(?<!\S)(--[a-z][\w-]*)", span):
                assert option in known, f"{page.name}: {option} in {span}"


def group() -> Any:
    from scoresde.cli.main import app

    return get_command(app)


def options(command: str) -> list[str]:
    """The options of a command, as its help lists them."""
    return [opt for one in group().commands[command].params for opt in one.opts] + ["--help"]


def test_the_effort_help_states_the_budgets() -> None:
    effort = next(one for one in group().commands["restore"].params if "--effort" in one.opts)
    share = {0.5: "half the steps where that is enough", 1.0: "", 2.0: "twice the steps"}
    parts = [
        f"{name} (one estimate by {one.solver}, no uncertainty)"
        if one.solver
        else f"{name} ({', '.join(filter(None, (share[one.steps], f'{one.draws} draws')))})"
        for name, one in EFFORTS.items()
    ]
    assert f"{', '.join(parts[:-1])} or {parts[-1]}" in effort.help


def test_the_readme_counts_what_is_listed() -> None:
    from scoresde.pipelines.named_problems import PROBLEMS
    from solvers import SAMPLERS

    text = " ".join((ROOT / "README.md").read_text().split())
    for count, kind in ((len(PROBLEMS), "problems"), (len(SAMPLERS), "samplers")):
        assert f"{count} {kind}" in text
    # classes that other tests define may have names, too
    named = [one for one in SOLVERS.values() if defined_here(one.build)]
    assert f"{len(named)} solvers" in text


def defined_here(build: Any) -> bool:
    return build.__module__.startswith("solvers.")


# Examples


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_examples_compile(page: str) -> None:
    found = blocks(page)
    assert found
    for block in found:
        compile(block, page, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("README.md"), ids=lambda text: text[-40:-20].strip())
def test_examples_of_the_readme_run(block: str) -> None:
    """With a small picture for the x that they assume."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(block, {"x": 2 * torch.rand(1, 3, 16, 16, generator=seeded()) - 1})


def recipes() -> list[tuple[str, str]]:
    """The files of CONTRIBUTING.md's recipes, and their text or the lines to add."""
    found = []
    for block in blocks("CONTRIBUTING.md"):
        path, text = block.removeprefix("# ").split("\n", 1)
        assert re.fullmatch(r"[\w/]+\.py", path), f"a recipe begins with its file, not {path!r}"
        found.append((path, text))
    return found


@pytest.mark.slow
def test_the_recipes_work(tmp_path: Path) -> None:
    """In a copy of the repository, each recipe is applied and its tests are run."""
    for name in (*PACKAGES, "tests"):
        skipped = shutil.ignore_patterns("__pycache__", "comparison.json")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skipped)
    for name in ("pyproject.toml", "ARCHITECTURE.md"):
        shutil.copy(ROOT / name, tmp_path)
    for path, text in recipes():
        before = (ROOT / path).read_text() + "\n" if (ROOT / path).exists() else ""
        (tmp_path / path).write_text(before + text)
    new = [path for path, _ in recipes() if not (ROOT / path).exists()]
    assert len(new) >= 8

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    pytest_run = ("pytest", "-q", "-p", "no:cacheprovider")
    tests = [path for path in new if path.startswith("tests/")]
    run(*pytest_run, *tests, "tests/test_layers.py", "problems/operators/line_camera.py")
    others = ("problems/test_operators.py", "solvers/test_contract.py", "solvers/test_samplers.py")
    named = "line-camera or renoise or midpoint"
    ran = run(*pytest_run, "-rA", *(f"tests/{one}" for one in others), "-k", named)
    assert all(f"PASSED tests/{one}" in ran for one in others)
    run("ruff", "check", *new)
    run("ruff", "format", "--check", *new)
    listed = run("scoresde", "list")
    assert {"renoise", "midpoint"} <= set(listed.split())
    run("scoresde", "verify", "--solver", "renoise", "--problem", "gaussian", "--draws", "20")


# Citation file


def test_the_citation_file_names_this_version() -> None:
    import scoresde

    text = (ROOT / "CITATION.cff").read_text()
    assert f"version: {scoresde.__version__}\n" in text
    assert "license: MIT\n" in text and "title: scoresde" in text
