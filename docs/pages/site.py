"""All pages of the site: those that are written, those that are made, and where they come from."""

import json
import re
import shutil
from pathlib import Path

from docs.pages.api import api_pages
from docs.pages.decision import decision_page
from docs.pages.markup import retarget, table
from docs.pages.problems import operator_pages, problem_pages
from docs.pages.schemas import json_page
from docs.pages.solvers import solver_pages

__all__ = ["FROM_ROOT", "TABLES", "generated", "stage", "written"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

FROM_ROOT = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "ARCHITECTURE.md": "architecture.md",
    "scoresde/weights/natural.md": "models/natural.md",
    "scoresde/weights/mnist.md": "models/mnist.md",
    "scoresde/samples/mnist_digits.md": "models/mnist_digits.md",
}
"""Pages that are files of the repository."""

TABLES = {
    "restoration": "Restorations of photographs",
    "verification": "Solvers against exact posteriors",
    "posterior": "Posterior samplers beside azula",
    "calibration": "Coverage of calibrated intervals",
    "coverage_split": "Coverage: the part of the solver and of the prior",
    "residual": "What the residual check finds",
    "model_check": "Is the model right?",
    "kernel_width": "Kernels that are stated too narrow",
    "noise_level": "Estimated noise levels",
    "photons": "Estimated numbers of photons",
    "blind": "Estimated blurs",
    "samplers": "Samplers",
    "likelihood": "Likelihood with error bars",
    "bits_per_dim": "Bits per dimension of MNIST",
    "operators": "Operators beside deepinv",
    "science": "Worked examples: MRI, CT, microscope",
    "odd_inputs": "Odd inputs",
    "nonlinear": "Strongly nonlinear problems",
    "foreign": "A foreign denoiser as a prior",
    "levy": "Sums of independent increments",
    "folders": "Folders of pictures",
    "large_pictures": "Large pictures",
    "picture_windows": "Pictures in windows",
    "interrupted_training": "Interrupted trainings, and two processes",
    "comparison/comparison": "Five families",
    "comparison/toys": "Five families on the plane",
    "speed": "Speed",
    "denoising": "Denoising",
    "ablation": "What each part is worth",
}
"""Titles of the tables in benchmarks/results, in the order of the site."""

COURSE = (
    "score_matching_and_sdes",
    "inverse_problems",
    "is_my_posterior_right",
    "exact_likelihood",
    "families_and_the_trilemma",
    "signals",
    "bring_your_own",
    "medical_and_microscopy",
)
"""Order in which the notebooks are read; new ones follow."""


def tables() -> list[str]:
    """List the tables that are there: those with a title in its order, then new ones by name."""
    results = ROOT / "benchmarks/results"
    found = [
        str(path.relative_to(results).with_suffix("")) for path in sorted(results.rglob("*.md"))
    ]
    return [name for name in TABLES if name in found] + [x for x in found if x not in TABLES]


def notebooks() -> list[Path]:
    """List the notebooks in the order of the course."""
    found = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    known = [name for name in COURSE if name in found]
    return [found[name] for name in [*known, *(x for x in found if x not in COURSE)]]


def _title(name: str, text: str) -> str:
    heading = re.match(r"# (.+)\n", text)
    if name in TABLES:
        return TABLES[name]
    return heading[1] if heading else name.replace("_", " ").capitalize()


def _links() -> dict[str, str]:
    """Pages of the site by file of the repository."""
    pages = dict(FROM_ROOT)
    pages["README.md"] = "index.md"
    pages["references.bib"] = "references.md"
    pages |= {f"benchmarks/results/{name}.md": f"tables/{name}.md" for name in tables()}
    pages |= {f"notebooks/{path.name}": f"course/{path.name}" for path in notebooks()}
    pages |= {f"docs/{path}": str(path) for path in _sources()}
    return pages


def _table_pages() -> dict[str, str]:
    results = ROOT / "benchmarks/results"
    pages, rows = {}, []
    for name in tables():
        text = (results / f"{name}.md").read_text()
        title = _title(name, text)
        body = re.sub(r"\A# .+\n", "", text)
        pages[f"tables/{name}.md"] = f"# {title}\n\n{body}"
        rows.append([f"[{title}]({name}.md)"])
    extra = [path.stem for path in sorted(DOCS.glob("levy.md"))]
    rows += [[f"[{_first_title(DOCS / f'{name}.md')}](../{name}.md)"] for name in extra]
    toctree = "\n".join([*tables(), *(f"/{name}" for name in extra)])
    pages["tables/index.md"] = (
        "# Tables\n\nEvery number of this site stands in one of these tables, with the command "
        "that makes it. They are kept in the repository, so that a change of a number is seen.\n\n"
        f"{table(['Table'], rows)}\n```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    return pages


def _first_title(path: Path) -> str:
    found = re.search(r"^# (.+)$", path.read_text(), flags=re.M)
    return found[1] if found else path.stem


def _course_page() -> str:
    lines = []
    for number, path in enumerate(notebooks(), 1):
        first = "".join(json.loads(path.read_text())["cells"][0]["source"])
        title, _, rest = first.partition("\n")
        paragraph = " ".join(rest.strip().split("\n\n")[0].split())
        lines.append(f"{number}. [{title.lstrip('# ')}]({path.name}): {paragraph}")
    toctree = "\n".join(path.stem for path in notebooks())
    return (
        "# Course\n\nThe mathematics beside the code, in notebooks. They are shown with the "
        "results of their last run; to run one, `pip install scoresde[notebooks]` and open it "
        "from `notebooks/`.\n\n"
        + "\n".join(lines)
        + f"\n\n```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )


def _notebook(path: Path) -> str:
    """A notebook whose code is read as IPython's, with `!` and `%`."""
    content = json.loads(path.read_text())
    content["metadata"].setdefault("language_info", {})["pygments_lexer"] = "ipython3"
    return json.dumps(content)


def _sources() -> list[Path]:
    """The files of docs/ that are pages or pictures."""
    return [
        path.relative_to(DOCS)
        for path in sorted(DOCS.rglob("*"))
        if path.suffix in (".md", ".png", ".svg") and "_static" not in path.parts
    ]


def written() -> dict[str, str]:
    """Read the pages that are written by hand.

    Returns:
        Their text by file.
    """
    return {str(path): (DOCS / path).read_text() for path in _sources() if path.suffix == ".md"}


def generated() -> dict[str, str]:
    """Make the pages that come from code, tables, notebooks and files of the repository.

    Returns:
        Their text by file.
    """
    links = _links()
    pages = {
        **api_pages(),
        **solver_pages(),
        **problem_pages(),
        **operator_pages(),
        **_table_pages(),
        "which-solver.md": decision_page(),
        "course/index.md": _course_page(),
        "json.md": json_page(),
    }
    pages |= {f"course/{path.name}": _notebook(path) for path in notebooks()}
    for source, page in FROM_ROOT.items():
        text = (ROOT / source).read_text()
        pages[page] = retarget(_from_root(text, source), links, page.count("/"))
    return pages


def _from_root(text: str, source: str) -> str:
    """Links of a file, from the root of the repository."""
    folder = Path(source).parent

    def change(found: re.Match[str]) -> str:
        target = found[2]
        if target.startswith(("http://", "https://", "#")):
            return found[0]
        return f"{found[1]}({(folder / target).as_posix()})"

    text = re.sub(r"((?<!!)\[[^\]]+\])\(([^)\s]+)\)", change, text)
    return text.replace("```layers", "```text")


def stage(target: Path) -> list[str]:
    """Put all sources of the site into a folder; files that did not change stay as they are.

    Args:
        target: Folder, made if need be. What is in it and not of the site is removed.

    Returns:
        The files, relative to the folder.
    """
    texts = {**written(), **generated()}
    copies = {str(path): DOCS / path for path in _sources() if path.suffix != ".md"}
    for picture in sorted((ROOT / "benchmarks/results").rglob("*.png")):
        copies[f"tables/{picture.relative_to(ROOT / 'benchmarks/results')}"] = picture
    for name, text in texts.items():
        path = target / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name, source in copies.items():
        path = target / name
        if not path.exists() or path.read_bytes() != source.read_bytes():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
    known = {*texts, *copies}
    for path in target.rglob("*"):
        if path.is_file() and str(path.relative_to(target)) not in known:
            path.unlink()
    return sorted(known)
