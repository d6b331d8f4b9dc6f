"""A page for every named problem and every operator, made of their declarations and docstrings."""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch

from docs.pages.markup import arguments, as_markdown, first_sentence, module_text, sentence, table
from docs.pages.references import cited
from docs.pages.results import operator_rows, restored
from docs.pages.solvers import api_link, capability_list, named_solvers
from problems import GaussianNoise, InverseProblem, Operator, known_operators
from scoresde.errors import InputError
from scoresde.pipelines.named_problems import PROBLEMS, ImageContext, build_operator
from scoresde.pipelines.settings import ProblemOptions
from solvers import SOLVERS

__all__ = ["named_operators", "operator_pages", "problem_pages"]

EXAMPLES: dict[str, dict[str, Any]] = {
    "inpaint": {"random": 0.7},
    "deblur": {"gaussian": 1.6},
    "gamma-blur": {"gaussian": 1.6},
}
"""Options without which a problem cannot be built."""

HOW_TO = {
    "inpaint": "inpaint",
    "deblur": "deblur",
    "gamma-blur": "deblur",
    "super-resolve": "upscale",
    "denoise": "denoise",
    "jpeg": "jpeg-and-clipping",
    "quantise": "jpeg-and-clipping",
    "hdr": "jpeg-and-clipping",
    "colourise": "colour",
    "demosaic": "colour",
    "mri": "mri",
    "tomography": "ct",
    "compressed-sensing": "compressed-sensing",
    "phase-retrieval": "phase-retrieval",
}
"""Page of the how-to by problem; a problem that is not here has none."""

MEASURED = {
    "random 70 %": "inpaint",
    "box 40×40": "inpaint",
    "Gaussian blur 1.6": "deblur",
    "motion blur 15": "deblur",
    "×4 bicubic": "super-resolve",
}
"""Named problem by its title in benchmarks/results/restoration.json."""

TIMED = {
    "Denoising": ("denoising",),
    "Inpainting": ("inpainting, random",),
    "GaussianBlur": ("Gaussian blur 2, circular", "Gaussian blur 2, reflect"),
    "MotionBlur": ("motion kernel",),
    "Decimation": ("×4, Gaussian filter",),
    "SuperResolution": ("×4, bicubic",),
    "Grayscale": ("colourisation",),
    "Demosaicing": ("demosaicing",),
    "CompressedSensing": ("compressed sensing",),
    "MRI": ("MRI",),
    "Tomography": ("tomography",),
    "PhaseRetrieval": ("phase retrieval",),
    "JPEG": ("JPEG",),
    "Clipping": ("clipping",),
    "Gamma": ("gamma",),
    "Quantisation": ("quantisation",),
}
"""Beginnings of the rows of benchmarks/results/operators.json by operator."""


def built(name: str) -> Operator | None:
    """Build the operator of a named problem for a small picture; None if it needs more options."""
    options = ProblemOptions(name, **EXAMPLES.get(name, {}))
    context = ImageContext(32, 32, True, torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return build_operator(options, context)[0]
    except (InputError, ValueError):
        return None


def parts(operator: Any) -> Iterator[type]:
    """The classes of an operator and of those that it is composed of."""
    yield type(operator)
    if is_dataclass(operator):
        for one in fields(operator):
            value = getattr(operator, one.name, None)
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, Operator):
                    yield from parts(part)


def _able(operator: Operator) -> list[str]:
    """The solvers that take a problem with this operator and Gaussian noise."""
    capabilities = InverseProblem(operator, GaussianNoise(0.05)).capabilities
    return [name for name in named_solvers() if SOLVERS[name].requires <= capabilities]


def _solver_links(names: list[str]) -> str:
    return ", ".join(f"[{name}](../solvers/{name}.md)" for name in names)


def _command(name: str) -> str:
    words = [f"--{key} {value}" for key, value in EXAMPLES.get(name, {}).items()]
    return " ".join(["scoresde restore photo.png --problem", name, *words, "--simulate"])


def _restored_table(name: str) -> str:
    rows = []
    for (problem, solver), one in restored().items():
        if MEASURED.get(problem) == name:
            draw = "" if one.draw is None else f"{one.draw:.2f}"
            row = [problem, f"[{solver}](../solvers/{solver}.md)", str(one.pictures)]
            seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
            rows.append([*row, f"{one.mean:.2f}", draw, seconds])
    rows.sort(key=lambda row: (row[0], -int(row[2]), -float(row[3])))
    head = ["Measurement", "Solver", "pictures", "mean of 8, dB", "one draw, dB", "s / picture"]
    return table(head, rows)


def _problem_page(name: str) -> str:
    entry, operator = PROBLEMS[name], built(name)
    lines = [f"# {name}\n\n{sentence(as_markdown(entry.summary))}\n"]
    if name in HOW_TO:
        lines.append(f"[How to do it](../how-to/{HOW_TO[name]}.md), step by step.\n")
    lines.append(
        f"```bash\n{_command(name)}\n```\n\nWith `--simulate` the picture is the truth, and is "
        "measured first; without it the file is the measurement.\n"
    )
    rows = [[f"`--set {key}={value}`", "default"] for key, value in entry.settings.items()]
    used = [f"`--{one.replace('_', '-')}`" for one in entry.uses]
    if used:
        lines.append(f"## Options\n\nIt uses {', '.join(used)}.\n")
    if rows:
        lines.append(f"## Settings\n\n{table(['Setting', ''], rows)}")
    measured = "a picture" if entry.picture else "an array (`.npy`, `.npz` or `.mat`)"
    lines.append(f"## The measurement\n\nThe file is {measured}.\n")
    if operator is not None:
        classes = dict.fromkeys(parts(operator))
        links = ", ".join(
            f"[{one.__name__}](../operators/{one.__name__}.md)"
            for one in classes
            if one in named_operators()
        )
        lines.append(f"## Operator\n\n{links}. It has:\n\n{capability_list(operator.capabilities)}")
        able = _able(operator)
        lines.append(
            f"## Solvers that can do it\n\n{_solver_links(able)}.\n\n"
            "[Which one?](../which-solver.md)\n"
        )
    if numbers := _restored_table(name):
        lines.append(
            "## Measured\n\nBSDS500's validation part, crops of 160×160, noise 0.05 on [-1, 1]. "
            "Rows over 20 pictures and over the first 2 do not compare with one another. From "
            f"[the whole table](../tables/restoration.md).\n\n{numbers}"
        )
    return "\n".join(lines)


def problem_pages() -> dict[str, str]:
    """Write the pages of the named problems.

    Returns:
        Their text by file.
    """
    pages = {f"problems/{name}.md": _problem_page(name) for name in PROBLEMS}
    rows = [[f"[{name}]({name}.md)", as_markdown(one.summary)] for name, one in PROBLEMS.items()]
    toctree = "\n".join(PROBLEMS)
    pages["problems/index.md"] = (
        f"# Problems\n\nThe {len(rows)} measurements that the command line knows by name. Others "
        "are made in Python from [operators](../operators/index.md) and noise, and come back to "
        "the command line as a JSON file (`--problem problem.json`).\n\n"
        f"{table(['Problem', 'What is measured'], rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    return pages


def named_operators() -> list[type[Operator]]:
    """List the operators that this repository defines."""
    return [one for one in known_operators() if one.__module__.startswith("problems.")]


def _timing(cls: type) -> str:
    rows = []
    for row in operator_rows():
        if row["name"].startswith(TIMED.get(cls.__name__, ())):
            mine = row["sides"]["ours"]
            other = next((side for key, side in row["sides"].items() if key != "ours"), None)
            cells = [row["name"]]
            for what in ("apply", "adjoint", "prox"):
                ms = [f"{side[what]:.2f}" if what in side else "–" for side in (mine, other or {})]
                cells.append(" / ".join(ms))
            rows.append(cells)
    return table(["Operator", "apply", "adjoint", "prox"], rows)


def _operator_page(cls: type[Operator]) -> str:
    examples = cls.examples((3, 8, 8))
    lines = [f"# {cls.__name__}\n\n{first_sentence(cls)}\n"]
    lines.append(f"The class is {api_link(cls)}.\n")
    rows = [[f"`{name}`", text] for name, text in arguments(cls).items()]
    if rows:
        lines.append(f"## Settings\n\n{table(['Argument', 'Meaning'], rows)}")
    lines.append(f"## How it works\n\n{module_text(cls.__module__)}")
    if examples:
        common = frozenset.intersection(*(frozenset(one.capabilities) for one in examples.values()))
        some = frozenset().union(*(one.capabilities for one in examples.values())) - common
        lines.append(f"## What it can do\n\n{capability_list(common)}")
        if some:
            lines.append(f"With some settings also:\n\n{capability_list(some)}")
        able = _able(next(iter(examples.values())))
        lines.append(f"## Solvers that can do it\n\n{_solver_links(able)}.\n")
    users = [name for name in PROBLEMS if (operator := built(name)) and cls in set(parts(operator))]
    if users:
        links = ", ".join(f"[{name}](../problems/{name}.md)" for name in users)
        lines.append(f"## Named problems\n\n{links}.\n")
    if timing := _timing(cls):
        lines.append(
            "## Speed\n\nMilliseconds for a picture of 256×256 in float32 on two threads, ours / "
            f"deepinv's, from [the whole table](../tables/operators.md).\n\n{timing}"
        )
    keys = cited(f"{sys.modules[cls.__module__].__doc__ or ''}\n{cls.__doc__ or ''}")
    if keys:
        works = "".join(f"- {{footcite:t}}`{key}`\n" for key in keys)
        lines.append(f"## Papers\n\n{works}\n```{{footbibliography}}\n```\n")
    return "\n".join(lines)


def operator_pages() -> dict[str, str]:
    """Write the pages of the operators.

    Returns:
        Their text by file.
    """
    pages = {f"operators/{cls.__name__}.md": _operator_page(cls) for cls in named_operators()}
    rows = [
        [f"[{cls.__name__}]({cls.__name__}.md)", first_sentence(cls)] for cls in named_operators()
    ]
    toctree = "\n".join(cls.__name__ for cls in named_operators())
    pages["operators/index.md"] = (
        "# Operators\n\nWhat an instrument does to a scene. Each is a small frozen object that "
        "works on any batch, size, precision and device; `A @ B` composes two, `stack(A, B)` "
        "measures with both. Noise is described in [the API](../api/problems.md).\n\n"
        f"{table(['Operator', 'What it does'], rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    return pages
