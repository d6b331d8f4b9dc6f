"""A page for every named solver, made of its declaration, its docstrings and the kept tables."""

import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any

from docs.pages.api import page_of, public_names
from docs.pages.markup import arguments, as_markdown, module_text, sentence, table
from docs.pages.references import cited
from docs.pages.results import exact_rows, ratio, restored
from solvers import SAMPLERS, SOLVERS, make_solver
from solvers.verification import EXACT_PROBLEMS, FULL_PROBLEMS, VERIFIED

__all__ = ["api_link", "capability_list", "named_solvers", "solver_pages"]

CLASSES = {
    "gaussian": "exact for Gaussian priors: with a perfect denoiser and many steps the draws have "
    "the law of the posterior if the prior is Gaussian, the measurement linear and its noise "
    "Gaussian. For other priors they approximate it.",
    "asymptotic": "exact in the limit: with a perfect denoiser, many steps and (for particles) "
    "many particles the draws have the law of the posterior, whatever the prior.",
    "heuristic": "heuristic: the draws have some other law than the posterior, even in the limit. "
    "Their spread is no statement about uncertainty unless it is calibrated.",
    "estimate": "a point estimate: one picture for each measurement, and no uncertainty.",
}
TITLES = {
    "gaussian": "Exact for Gaussian priors",
    "asymptotic": "Exact in the limit",
    "heuristic": "Heuristic",
    "estimate": "Point estimates",
}

CAPABILITIES = {
    "linear": "the operator is linear",
    "adjoint": "its adjoint",
    "vjp": "products with the Jacobian of the operator (any differentiable one has them)",
    "solve": "solutions of $(c_0 I + c_1 A A^T)\\,x = b$",
    "prox": "the proximal map, which is the posterior mean under a white Gaussian prior",
    "pinv": "the pseudoinverse",
    "svd": "a singular value decomposition by fast transforms",
    "mask": "a mask: some entries are observed, the others are not",
    "gaussian_noise": "Gaussian noise of one level",
    "noise_covariance": "noise with a known covariance (Gaussian, Poisson, Laplace, uniform)",
    "prox_sample": "exact draws from that posterior",
    "apply": "measurements $A(x)$",
    "noise": "a model of the noise",
}

ADVICE = {
    "warm-start": "Take it first. It is the default of `scoresde restore`: it draws from the noise "
    "level that the uncertainty asks for, so that a draw is cheap. Where it cannot be right, such "
    "as several far modes, compare it with `predicted-twist` on a small version of the problem.",
    "mmps": "Take it as the careful reference for photographs: it starts from pure noise, has no "
    "step size to tune, and takes any differentiable measurement. It costs several times as much "
    "as `warm-start`.",
    "second-order": "Take it for exact priors and for few steps, where the spread of `mmps` is too "
    "small. With learned networks it may leave speckles.",
    "predicted-twist": "Take it when the answer must be right: small pictures, at most 1024 "
    "measured numbers, several modes. It is the yardstick for the other solvers.",
    "tds": "Take it for small problems in which the measurement is too large for "
    "`predicted-twist`, with as many particles as you can afford.",
    "mcgdiff": "Take it for small linear problems with an SVD and low noise, as a second opinion "
    "beside `predicted-twist`.",
    "split-gibbs": "Take it when the solves are cheap and a chain may run long. Draws that follow "
    "one another are dependent, so give it sweeps.",
    "diffpir": "Take it when a draw must be fast and no product with the network is affordable. "
    "The draws vary too little; calibrate them.",
    "ddrm": "Take it for blur and super-resolution where the SVD is cheap and twenty evaluations "
    "must do.",
    "ddnm": "Take it for holes and boxes with little noise: measured components are kept as they "
    "are.",
    "pigdm": "Take it to reproduce published results by pseudoinverse guidance. `mmps` replaces "
    "its constant covariance by the one that the network implies.",
    "tmpd": "Take it to reproduce published results; it is `mmps` with a variance for each pixel "
    "alone.",
    "dps": "Take it to reproduce published results, and for measurements of which only a gradient "
    "is known. Its step size `zeta` must be tuned to the problem.",
    "lgd-mc": "Take it for a loss of your own that is differentiable and nothing more. It is the "
    "least accurate of the guidances.",
    "mpgd": "Take it when products with the network do not fit into memory.",
    "daps": "Take it for measurements that are far from linear, such as phase retrieval, where "
    "linearising fails.",
    "annealed-gauss-newton": "Take it for measurements that are far from linear. It is the default "
    "for phase retrieval, with four starts for each draw.",
    "annealed-gauss-newton-noise": "Take it for phase retrieval of small objects in the dark.",
    "split-gibbs-mala": "Take it for small nonlinear problems where the spread must be right, and "
    "give it sweeps.",
    "red-diff": "Take it when one picture is enough and the measurement is differentiable but "
    "`hqs` does not take it.",
    "repaint": "Take it for inpainting alone, to compare with the literature.",
    "sitcom": "Take it to compare with the literature on optimisation in the input of the network.",
    "hqs": "Take it for a picture at once: eight evaluations, no uncertainty. It is what "
    "`--effort instant` runs.",
    "pnp-admm": "Take it for a picture at once where pixels are missing.",
}
"""When to take a solver. One that is not here shows its own summary alone."""


def named_solvers() -> list[str]:
    """List the named solvers that this repository defines."""
    return [name for name, one in SOLVERS.items() if one.build.__module__.startswith("solvers.")]


def made(name: str) -> Any:
    """Make the guidance of a named solver, or its posterior sampler."""
    return SOLVERS[name].build(SOLVERS[name].steps)


def api_link(cls: type, depth: int = 1) -> str:
    """Link a class to its page, if it is public."""
    for package, names in public_names().items():
        if cls.__name__ in names and getattr(sys.modules[package], cls.__name__) is cls:
            page = f"{'../' * depth}{page_of(package, cls.__name__)}"
            return f"[`{package}.{cls.__name__}`]({page})"
    return f"`{cls.__module__}.{cls.__name__}`"


def capability_list(names: Iterable[str]) -> str:
    """Write a list of capabilities and what they mean."""
    return "".join(f"- `{name}`: {CAPABILITIES.get(name, name)}\n" for name in sorted(names))


def _settings(thing: Any) -> str:
    if not is_dataclass(thing):
        return ""
    described = arguments(type(thing))
    rows = [
        [f"`{one.name}`", f"`{getattr(thing, one.name)!r}`", described.get(one.name, "")]
        for one in fields(thing)
        if one.init and one.repr
    ]
    return table(["Setting", "Value", "Meaning"], rows)


def _documents(cls: type) -> str:
    return f"{sys.modules[cls.__module__].__doc__ or ''}\n{cls.__doc__ or ''}"


def _papers(cls: type) -> str:
    keys = cited(_documents(cls))
    return "".join(f"- {{footcite:t}}`{key}`\n" for key in keys)


def variants(name: str) -> list[str]:
    """List the rows of the table of exact problems that a solver has, under any setting."""
    cls = type(made(name))

    def same(one: Any) -> bool:
        return type(getattr(one, "guidance", one)) is cls

    found = [other for other, one in VERIFIED.items() if same(one)]
    return [one for one in ([name] if name in found else []) + found if exact_rows(one)]


def _exact_table(name: str) -> str:
    rows = []
    several = len(set(variants(name))) > 1
    for variant in dict.fromkeys(variants(name)):
        for problem, row in exact_rows(variant).items():
            text = {**EXACT_PROBLEMS, **FULL_PROBLEMS}.get(problem, ("",))[0]
            start = [f"`{variant}`"] if several else []
            rows.append(
                [
                    *start,
                    f"{problem}: {text}" if text else problem,
                    ratio(row["distance"]),
                    f"{100 * row['cover90']:.1f}",
                    f"{row['nfe']:.0f}",
                    f"{row['vjps']:.0f}",
                    f"{1e3 * row['seconds']:.1f}",
                ]
            )
    head = ["Problem", "SW2/floor", "90 % covers", "evaluations", "products", "ms / draw"]
    return table(["Setting", *head] if several else head, rows)


def _restored_table(name: str) -> str:
    rows = []
    for (problem, solver), one in restored().items():
        if solver == name:
            rows.append(
                [
                    problem,
                    str(one.pictures),
                    f"{one.mean:.2f}",
                    "" if one.draw is None else f"{one.draw:.2f}",
                    "" if one.seconds is None else f"{one.seconds:.1f}",
                    f"{one.nfe:.0f} + {one.vjps:.0f}",
                ]
            )
    head = ["Problem", "pictures", "mean of 8, dB", "one draw, dB", "s / picture"]
    return table([*head, "evaluations + products"], rows)


def _page(name: str) -> str:
    preset, thing = SOLVERS[name], made(name)
    cls = type(thing)
    parts = [f"# {name}\n\n{sentence(as_markdown(preset.summary))}\n"]
    if name in ADVICE:
        parts.append(f"## When to use it\n\n{ADVICE[name]}\n")
    parts.append(f"## What it promises\n\nIt is {CLASSES[preset.exactness]}\n")
    parts.append(f"## What it needs\n\n{capability_list(preset.requires)}")
    sampler = "" if preset.sampler is None else f', sampler="{preset.sampler}"'
    parts.append(
        "## How to call it\n\n"
        f"```bash\nscoresde restore photo.png --problem inpaint --mask mask.png --solver {name}\n"
        "```\n\n"
        f'```python\nfrom solvers import make_solver\n\nsolver = make_solver("{name}", '
        f"steps={preset.steps}{sampler})\n```\n"
    )
    parts.append(
        f"## Settings\n\nThe class is {api_link(cls)}. As a named solver it has "
        f"{preset.steps} steps and these settings:\n\n{_settings(thing)}"
    )
    if preset.sampler is not None:
        sampler_cls = type(SAMPLERS[preset.sampler]())
        parts.append(
            f"It is a guidance: the sampler `{preset.sampler}` ({api_link(sampler_cls)}) runs it, "
            "and `--sampler` takes another one.\n"
        )
    if type(make_solver(name)).__name__ != "Guided" or preset.sampler is not None:
        parts.append(f"## How it works\n\n{module_text(cls.__module__)}")
    if exact := _exact_table(name):
        parts.append(
            "## Against exact posteriors\n\nSW2/floor is the sliced Wasserstein distance to the "
            "posterior over that of exact draws: 1 is right. The middle column should be 90. From "
            "[the table of all solvers](../tables/verification.md).\n\n"
            f"{exact}"
        )
    if photographs := _restored_table(name):
        parts.append(
            "## On photographs\n\nBSDS500's validation part, crops of 160×160, noise 0.05 on "
            "[-1, 1], from [the table of all solvers](../tables/restoration.md).\n\n"
            f"{photographs}"
        )
    if papers := _papers(cls):
        parts.append(f"## Papers\n\n{papers}\n```{{footbibliography}}\n```\n")
    return "\n".join(parts)


def solver_pages() -> dict[str, str]:
    """Write the pages of the solvers.

    Returns:
        Their text by file.
    """
    names = named_solvers()
    pages = {f"solvers/{name}.md": _page(name) for name in names}
    sections = []
    for exactness, title in TITLES.items():
        rows = [
            [f"[{name}]({name}.md)", as_markdown(SOLVERS[name].summary), str(SOLVERS[name].steps)]
            for name in names
            if SOLVERS[name].exactness == exactness
        ]
        if rows:
            text = CLASSES[exactness]
            sections.append(
                f"## {title}\n\n{text[0].upper()}{text[1:]}\n\n"
                f"{table(['Solver', 'What it does', 'Steps'], rows)}"
            )
    toctree = "\n".join(names)
    pages["solvers/index.md"] = (
        f"# Solvers\n\nA solver draws from p(x | y). There are {len(names)}. "
        "[Which one should I use?](../which-solver.md) has the decision and the numbers; this list "
        "is sorted by what they promise.\n\n"
        + "\n".join(sections)
        + "\nA class of your own appears in `scoresde list` as soon as it declares a preset: "
        "[own solver](../how-to/own-solver.md).\n"
        + f"\n```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    return pages
