"""The page "Which solver should I use?": questions, and numbers from the kept tables."""

from dataclasses import dataclass, field

from docs.pages.markup import table
from docs.pages.results import Restored, exact_rows, ratio, restored, strongly_nonlinear
from docs.pages.solvers import named_solvers
from solvers import SOLVERS

__all__ = ["decision_page"]


@dataclass(frozen=True)
class Answer:
    """A solver, why, and sentences with its numbers, those that are known."""

    solver: str
    why: str
    numbers: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question, and what follows from each reply."""

    text: str
    replies: dict[str, "Question | Answer"] = field(default_factory=dict)


def _exact(solver: str, problem: str, what: str) -> str | None:
    row = exact_rows(solver).get(problem)
    return row and (
        f"{ratio(row['distance'])} × the distance of exact draws {what} ({row['nfe']:.0f} "
        f"evaluations, {row['vjps']:.0f} products a draw)"
    )


def _photograph(solver: str, problem: str) -> str | None:
    one: Restored | None = restored().get((problem, solver))
    if one is None:
        return None
    draw = "" if one.draw is None else f", one draw {one.draw:.2f} dB"
    seconds = "" if one.seconds is None else f", {one.seconds:.0f} s for 8 draws"
    held = "" if one.coverage is None else f", raw 90 % intervals hold {one.coverage:.0%}"
    return f"{problem}: mean {one.mean:.2f} dB{draw}{seconds}{held}"


def _nonlinear(problem: str, solver: str, note: str = "") -> str | None:
    found = strongly_nonlinear(problem, solver)
    if not found:
        return None
    return (
        f"{problem}{note and ', ' + note}: one draw {found['draw']:.1f} dB, the one of 4 with the "
        f"smallest residual {found['best']:.1f} dB"
    )


def _tree() -> Question:
    """The questions, in the order in which they are asked."""
    modes = "with several modes"
    one_mode = "with one mode"
    photographs = Question(
        "How is the picture measured?",
        {
            "Linear, or nearly so: holes, blur, few pixels, colours, MRI, CT, JPEG": Question(
                "How long may a draw take?",
                {
                    "The usual time": Answer(
                        "warm-start",
                        "It starts from a point estimate at the noise level that the uncertainty "
                        "asks for. The default.",
                        (
                            _photograph("warm-start", "Gaussian blur 1.6"),
                            _photograph("warm-start", "random 70 %"),
                            _exact("warm-start", "informative", one_mode),
                        ),
                    ),
                    "A few times as long, with nothing taken for granted": Answer(
                        "mmps",
                        "It starts from pure noise and solves for the whole covariance at each "
                        "step.",
                        (
                            _photograph("mmps", "Gaussian blur 1.6"),
                            _photograph("mmps", "random 70 %"),
                            _exact("mmps", "informative", one_mode),
                        ),
                    ),
                    "As short as it can be": Answer(
                        "diffpir",
                        "One evaluation a step and no products. Its draws vary too little: "
                        "calibrate them.",
                        (
                            _photograph("diffpir", "Gaussian blur 1.6"),
                            _photograph("diffpir", "random 70 %"),
                            _exact("diffpir", "informative", one_mode),
                        ),
                    ),
                },
            ),
            "Holes alone, with little noise": Answer(
                "ddnm",
                "It keeps what was measured and fills in the rest.",
                (_photograph("ddnm", "box 40×40"), _exact("ddnm", "box", "around a hole")),
            ),
            "Magnitudes alone, phase retrieval": Answer(
                "annealed-gauss-newton",
                "It starts from a classical estimate and keeps the best of several starts. The "
                "default of `--problem phase-retrieval`.",
                (
                    _nonlinear("phase retrieval of photographs", "annealed-gauss-newton"),
                    _nonlinear("phase retrieval of photographs", "daps, 100 steps", "by `daps`"),
                ),
            ),
            "Clipped lights": Answer(
                "dps",
                "It follows the gradient of the likelihood through the network. The default of "
                "`--problem hdr`.",
                (_nonlinear("hdr", "dps"), _nonlinear("hdr", "warm-start", "by `warm-start`")),
            ),
            "Another one far from linear, or a loss of my own": Answer(
                "daps",
                "It anneals by Langevin steps instead of linearising. Run it from several seeds "
                "and keep the draws with the smallest residual.",
                (_exact("daps", "ambiguous", modes),),
            ),
        },
    )
    small = Question(
        "Is the posterior known to have one mode?",
        {
            "Yes": Answer(
                "second-order",
                "It has the right spread in few steps.",
                (
                    _exact("second-order", "informative", one_mode),
                    _exact("second-order", "gaussian", "with a Gaussian prior"),
                ),
            ),
            "No, or I do not know": Question(
                "Are there at most 1024 measured numbers?",
                {
                    "Yes": Answer(
                        "predicted-twist",
                        "It weighs and resamples particles, and reports whether they can be "
                        "trusted.",
                        (
                            _exact("predicted-twist", "ambiguous", modes),
                            _exact("predicted-twist", "grid-80", "with 25 far modes"),
                        ),
                    ),
                    "No": Answer(
                        "tds",
                        "It has no such limit, and needs more particles.",
                        (
                            _exact("tds", "ambiguous", modes),
                            _exact("tds", "grid-80", "with 25 far modes"),
                        ),
                    ),
                },
            ),
        },
    )
    return Question(
        "Do you need to know how sure the answer is?",
        {
            "No, one picture is enough": Question(
                "Are pixels missing?",
                {
                    "No": Answer("hqs", "Eight evaluations, at once: `--effort instant`."),
                    "Yes": Answer("pnp-admm", "Twice the time, ahead where pixels are missing."),
                },
            ),
            "Yes": Question(
                "How large is the problem, and what is the prior?",
                {
                    "Photographs or other data with a trained network": photographs,
                    "A small problem, or a prior whose score is exact": small,
                },
            ),
        },
    )


def _code(text: str) -> str:
    pieces = text.split("`")
    return "".join(f"<code>{one}</code>" if i % 2 else one for i, one in enumerate(pieces))


def _html(node: Question | Answer) -> str:
    if isinstance(node, Answer):
        numbers = "".join(f"<li>{_code(one)}</li>" for one in node.numbers if one)
        measured = f"<ul>{numbers}</ul>" if numbers else ""
        link = f'<a href="solvers/{node.solver}.html"><code>{node.solver}</code></a>'
        return f'<div class="answer">{link} <span>{_code(node.why)}</span>{measured}</div>'
    replies = "".join(
        f"<details open><summary>{_code(reply)}</summary>{_html(then)}</details>"
        for reply, then in node.replies.items()
    )
    return f'<div class="question"><p>{node.text}</p>{replies}</div>'


def answers(node: Question | Answer | None = None) -> list[str]:
    """List the solvers that the tree ends in."""
    node = _tree() if node is None else node
    if isinstance(node, Answer):
        return [node.solver]
    return [name for then in node.replies.values() for name in answers(then)]


def _overview() -> str:
    rows = []
    for name in named_solvers():
        preset = SOLVERS[name]
        cells = [f"[{name}](solvers/{name}.md)", preset.exactness]
        for problem in ("gaussian", "informative", "ambiguous"):
            row = exact_rows(name).get(problem)
            cells.append(ratio(row["distance"]) if row else "–")
        for problem in ("random 70 %", "Gaussian blur 1.6"):
            one = restored().get((problem, name))
            cells.append("–" if one is None or one.pictures < 3 else f"{one.mean:.2f}")
        one = restored().get(("Gaussian blur 1.6", name))
        cells.append("–" if one is None or one.seconds is None else f"{one.seconds:.1f}")
        cells.append("yes" if preset.requires <= {"vjp", "noise_covariance"} else "no")
        rows.append(cells)
    head = ["Solver", "promises", "Gaussian", "one mode", "several modes", "70 % missing, dB"]
    return table([*head, "blur, dB", "s / picture", "nonlinear"], rows)


def decision_page() -> str:
    """Write the page."""
    return (
        "# Which solver should I use?\n\nIf in doubt, name none: the default, `warm-start`, is "
        "meant for photographs. Otherwise answer the questions from the top.\n\n"
        f'<div class="decision">{_html(_tree())}</div>\n\n'
        "Whichever it is, the spread of its draws is a promise only after "
        "[calibration](how-to/calibrate.md), and `scoresde verify` shows how far it is from a "
        "known posterior ([how](how-to/verify.md)).\n\n"
        "## All of them in numbers\n\nGaussian, one mode, several modes: distance to the posterior "
        "over that of exact draws, on problems whose posterior is known "
        "([all problems](tables/verification.md)); 1 is right, and a few per cent are chance. PSNR "
        "of the mean of 8 draws over 20 pictures "
        "([all measures](tables/restoration.md)); the time is for 8 draws of 160×160 pixels on "
        "two cores. A dash: not measured in that table.\n\n"
        f"{_overview()}\n"
        "A high PSNR does not make the draws right. The mean of the posterior has the highest "
        "PSNR that there is, and a solver may be near it with draws that are all alike.\n"
    )
