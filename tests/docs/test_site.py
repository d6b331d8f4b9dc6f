"""The pages of the site: everything public has one, links lead somewhere, and Sphinx builds it."""

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import problems
import scoresde
import solvers
from docs.pages import generated, stage, written
from docs.pages.api import public_names
from docs.pages.decision import answers
from docs.pages.problems import EXAMPLES, HOW_TO, MEASURED, TIMED, named_operators
from docs.pages.references import cited, keys
from docs.pages.results import exact_rows, operator_rows, ratio, read, restored, strongly_nonlinear
from docs.pages.site import TABLES, tables
from docs.pages.solvers import ADVICE, CAPABILITIES, named_solvers
from scoresde.pipelines.named_problems import PROBLEMS
from solvers import SOLVERS

ROOT = Path(__file__).parents[2]


@cache
def pages() -> dict[str, str]:
    return {**written(), **generated()}


# Everything has its page


@pytest.mark.slow
@pytest.mark.parametrize("package", [problems, scoresde, solvers], ids=lambda one: one.__name__)
def test_every_public_name_has_a_page(package: object) -> None:
    top = package.__name__
    text = "\n".join(text for name, text in pages().items() if name.startswith("api/"))
    for name in package.__all__:
        thing = getattr(package, name)
        # a name that another package exports, too, has its page there
        homes = [one for one, names in public_names().items() if name in names]
        assert homes, f"{top}.{name} has no page"
        assert any(getattr(importlib.import_module(home), name) is thing for home in homes)
        assert re.search(rf"^\.\. auto\w+:: \S*\.{name}$", text, flags=re.M), name


def test_packages_within_are_covered() -> None:
    found = public_names()
    assert {"problems", "scoresde", "solvers", "scoresde.families", "scoresde.training"} <= set(
        found
    )
    everything = [name for names in found.values() for name in names]
    assert len(everything) > 150
    lower = [name.lower() for name in pages()]
    assert len(lower) == len(set(lower)), "two pages differ in case alone"


def test_every_solver_has_a_page() -> None:
    assert len(named_solvers()) >= 21
    for name in named_solvers():
        text = pages()[f"solvers/{name}.md"]
        preset = SOLVERS[name]
        for capability in preset.requires:
            assert f"`{capability}`" in text, f"{name}: {capability}"
        assert f"--solver {name}" in text
        assert f"({name}.md)" in pages()["solvers/index.md"]
        for problem, row in exact_rows(name).items():
            assert problem in text and ratio(row["distance"]) in text


@pytest.mark.slow
def test_a_new_solver_has_a_page_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made of the declaration alone: it is in no list of docs/."""
    from docs.pages.solvers import solver_pages
    from solvers.posterior import DiffPIR
    from solvers.presets import Preset, Registered

    class Fresh(DiffPIR):
        @classmethod
        def presets(cls) -> dict[str, Preset]:
            return {"fresh": Preset("a solver of this test", lambda steps: cls(steps), steps=7)}

    Fresh.presets.__func__.__module__ = "solvers.posterior.fresh"
    monkeypatch.setattr("docs.pages.solvers.named_solvers", lambda: list(SOLVERS))
    try:
        found = solver_pages()
        assert "A solver of this test." in found["solvers/fresh.md"]
        assert "steps=7" in found["solvers/fresh.md"]
        assert "(fresh.md)" in found["solvers/index.md"]
    finally:
        Registered._classes.remove(Fresh)


def test_every_problem_and_operator_has_a_page() -> None:
    for name in PROBLEMS:
        text = pages()[f"problems/{name}.md"]
        assert f"--problem {name}" in text
        assert "## Operator" in text, f"the operator of {name} could not be built"
        for setting in PROBLEMS[name].settings:
            assert f"--set {setting}=" in text
    for cls in named_operators():
        text = pages()[f"operators/{cls.__name__}.md"]
        assert f"automodule:: {cls.__module__}\n" in text


def test_lists_of_the_site_name_what_exists() -> None:
    """Advice, examples and titles do not outlive what they are about."""
    assert set(ADVICE) <= set(named_solvers())
    assert {*EXAMPLES, *HOW_TO, *MEASURED.values()} <= set(PROBLEMS)
    assert set(TIMED) <= {cls.__name__ for cls in named_operators()}
    assert set(answers()) <= set(named_solvers())
    needed = frozenset().union(*(SOLVERS[name].requires for name in named_solvers()))
    assert needed <= set(CAPABILITIES)
    for page in HOW_TO.values():
        assert f"how-to/{page}.md" in pages()


# Numbers


def test_numbers_of_strongly_nonlinear_problems_are_those_of_their_table() -> None:
    text = (ROOT / "benchmarks/results/nonlinear.md").read_text().split("\n## ")
    page = next(part for part in text if part.startswith("Phase retrieval of photographs"))
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()[4:] if line
    ]
    assert len(rows) > 5
    for solver, _, aligned, _, best, *_ in rows:
        found = strongly_nonlinear("phase retrieval of photographs", solver)
        assert f"{found['draw']:.1f}" == aligned and f"{found['best']:.1f}" == best, solver
    assert strongly_nonlinear("phase retrieval of photographs", "nobody") == {}


def test_numbers_come_from_the_tables() -> None:
    default = restored()["Gaussian blur 1.6", "warm-start"]
    table = (ROOT / "benchmarks/results/restoration.md").read_text()
    row = re.search(r"Gaussian blur 1\.6.*?\*\*warm start\*\* \| ([\d.]+)", table, flags=re.S)
    assert row and f"{default.mean:.2f}" == row[1]
    assert f"mean {default.mean:.2f} dB" in pages()["which-solver.md"]
    exact = exact_rows("predicted-twist")["ambiguous"]["distance"]
    assert f"{exact:.2f} ×" in pages()["which-solver.md"]
    assert len(operator_rows()) > 20


@pytest.mark.slow
def test_missing_tables_leave_their_sections_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docs.pages.solvers import solver_pages

    monkeypatch.setattr("docs.pages.results.RESULTS", tmp_path)
    read.cache_clear()
    restored.cache_clear()
    try:
        text = solver_pages()["solvers/mmps.md"]
        assert "Against exact posteriors" not in text and "On photographs" not in text
    finally:
        monkeypatch.undo()
        read.cache_clear()
        restored.cache_clear()


def test_tables_have_titles() -> None:
    found = set(tables())
    assert {"restoration", "verification", "calibration"} <= found
    for name in found:
        assert pages()[f"tables/{name}.md"].startswith(f"# {TABLES.get(name, '')}")


# Links and words


def prose_pages() -> dict[str, str]:
    """The pages that are text; notebooks are JSON, and tests/test_notebooks.py reads them."""
    return {page: text for page, text in pages().items() if not page.endswith(".ipynb")}


def links(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'href="([^"]+)"', prose)


def test_links_lead_to_pages() -> None:
    known = set(pages())
    pictures = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.png")}
    results = ROOT / "benchmarks/results"
    pictures |= {f"tables/{path.relative_to(results)}" for path in results.rglob("*.png")}
    wrong = []
    for page, text in prose_pages().items():
        for target in links(text):
            if target.startswith(("http://", "https://", "#")):
                continue
            path = os.path.normpath(os.path.join(os.path.dirname(page), target.split("#")[0]))
            if path.removesuffix(".html") + ".md" not in known and path not in known | pictures:
                wrong.append(f"{page}: {target}")
    assert not wrong, "\n".join(wrong)


def test_every_page_stands_in_a_toctree_or_in_a_table_of_the_api() -> None:
    listed = set()
    for page, text in pages().items():
        for block in re.findall(r"```\{toctree\}\n(.*?)```", text, flags=re.S):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    folder = "" if line.startswith("/") else os.path.dirname(page)
                    listed.add(os.path.normpath(os.path.join(folder, line.lstrip("/"))))
    tables = [page for page in pages() if page.startswith("api/") and page.endswith(".md")]
    linked = {
        os.path.normpath(os.path.join("api", target))
        for page in tables
        for target in re.findall(r"\]\(([^)#]+)\)", pages()[page])
    }
    for page, text in pages().items():
        stem = re.sub(r"\.(md|rst|ipynb)$", "", page)
        if text.startswith(":orphan:"):
            assert page in linked and stem not in listed, f"no table leads to {page}"
        else:
            assert stem in listed or page == "index.md", f"{page} is in no toctree"


def test_citations_of_the_pages_have_entries() -> None:
    for page, text in pages().items():
        for group in re.findall(r"\{(?:foot)?cite:\w+\}`([^`]+)`", text):
            for key in group.split(","):
                assert key in keys(), f"{page} cites {key}"
    assert "rozet2024" in cited("Moment matching posterior sampling (Rozet et al. 2024).")
    assert cited("Song, Meng and Ermon 2021") == ["song2021ddim"]
    assert cited("in 2024 nothing was cited") == []


def test_pages_name_no_place_of_a_machine() -> None:
    pattern = re.compile(r"(?<![\w.])/(?:home|root|work|tmp|Users|usr|opt)/|\.pyenv|localhost")
    for page, text in pages().items():
        assert not (found := pattern.search(text)), f"{page}: {found and found[0]}"


def test_lines_that_are_written_are_short() -> None:
    """At most 100 columns; tables, pictures and commands excepted."""
    for page, text in written().items():
        if page == "levy.md":
            continue
        for number, line in enumerate(text.splitlines(), 1):
            long = len(line) > 100 and not line.startswith(("|", "![", "scoresde "))
            assert not long, f"{page}:{number}"


def test_the_site_says_nothing_of_a_network() -> None:
    """Scripts, fonts and formulas come with the site."""
    text = "\n".join((ROOT / "docs").joinpath(name).read_text() for name in ("conf.py",))
    assert "http" not in text
    assert "url(" not in (ROOT / "docs/_static/site.css").read_text()


# Building


@pytest.mark.slow
def test_a_second_staging_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.md").write_text("gone")
    files = stage(tmp_path)
    assert not (tmp_path / "old.md").exists()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files}
    assert stage(tmp_path) == files
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in files}


BUILT_BY = ("sphinx", "furo", "myst_nb", "sphinx_copybutton", "sphinxcontrib.bibtex")


def missing() -> list[str]:
    def there(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    return [name for name in BUILT_BY if not there(name)]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=f"make docs installs {', '.join(missing())}")
def test_sphinx_builds_the_site_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/build.py", "--out", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    start = (tmp_path / "site/index.html").read_text()
    assert (tmp_path / "site/searchindex.js").exists()
    assert not re.findall(r'(?:src|href)="https?://[^"]*\.(?:js|css)', start)
    mathematics = (tmp_path / "site/mathematics.html").read_text()
    assert "<math" in mathematics
    assert not re.findall(r"<script[^>]*mathjax", mathematics.lower())
