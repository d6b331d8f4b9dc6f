"""Tables of the comparison, as Markdown."""

from collections.abc import Sequence
from typing import Any

from scoresde.families.comparison.judge import Judged
from scoresde.families.comparison.restoration import SIGMA

__all__ = ["PUBLISHED", "density_table", "quality_table", "restoration_table", "training_table"]

PUBLISHED = {
    "Real NVP (Dinh et al. 2017)": 1.06,
    "Glow (Kingma and Dhariwal 2018)": 1.05,
    "FFJORD (Grathwohl et al. 2019)": 0.99,
    "Residual Flow (Chen et al. 2019)": 0.97,
}
"""Published bits per dimension on MNIST 28x28 with uniform dequantisation.

The numbers are those that the Residual Flow paper quotes.
"""


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def quality_table(judged: Sequence[Judged], data: Judged) -> str:
    """Tabulate the quality of the draws.

    Args:
        judged: Results of the entrants.
        data: Scores of other data, the last row.

    Returns:
        The table in Markdown.
    """
    head = (
        "model",
        "FID",
        "KID",
        "precision",
        "recall",
        "density",
        "coverage",
        "classes",
        "KL of classes",
        "copies",
        "evaluations",
        "pictures / s",
    )
    rows = []
    for one in (*judged, data):
        q, s = one.scores["quality"], one.scores
        classes = (f"{q['classes']}", f"{q['class_kl']:.4f}") if "classes" in q else ("", "")
        speed = (
            (f"{s['nfe_per_sample']}", _three_digits(1 / s["seconds_per_sample"]))
            if "seconds_per_sample" in s
            else ("", "")
        )
        rows.append(
            (
                one.title,
                f"{q['fid']:.2f}",
                f"{q['kid']:.3f} ± {q['kid_error']:.3f}",
                f"{q['precision']:.3f}",
                f"{q['recall']:.3f}",
                f"{q['density']:.2f}",
                f"{q['coverage']:.3f}",
                *classes,
                f"{100 * q['copies']:.1f} %",
                *speed,
            )
        )
    return _rows(head, rows)


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{float(f'{value:.3g}'):,.0f}"


def training_table(judged: Sequence[Judged]) -> str:
    """Tabulate the size of the models and the cost of their training.

    Args:
        judged: Results of the entrants.

    Returns:
        The table in Markdown.
    """
    rows = []
    for one in judged:
        card = one.scores["training"]
        samples, cpu, memory = (
            card.get("samples"),
            card.get("cpu_seconds"),
            one.scores.get("training_memory"),
        )
        rows.append(
            (
                one.title,
                f"{one.scores['parameters'] / 1e6:.2f} M",
                f"{samples:,}" if samples else "",
                f"{cpu / 60:.1f}" if cpu else "",
                f"{card['seconds'] / 60:.1f}" if card.get("seconds") else "",
                f"{memory / 2**20:.0f}" if memory else "",
            )
        )
    return _rows(
        ("model", "parameters", "pictures seen", "processor, min", "clock, min", "memory, MiB"),
        rows,
    )


def density_table(judged: Sequence[Judged], published: bool) -> str:
    """Tabulate the bits per dimension of held-out pictures.

    Args:
        judged: Results of the entrants.
        published: True to add the published results on MNIST.

    Returns:
        The table in Markdown.
    """
    rows = []
    for one in judged:
        bits: dict[str, Any] = dict(one.scores.get("bits_per_dim") or {})
        bits.pop("pictures", None)
        for kind, value in bits.items():
            rows.append((one.title, kind, f"{value['mean']:.3f} ± {value['error']:.3f}"))
        if not bits and one.scores.get("density_kind") == "implicit":
            rows.append((one.title, "none: an implicit model", ""))
    if published:
        rows += [(name, "published", f"{value:.2f}") for name, value in PUBLISHED.items()]
    return _rows(("model", "what it is", "bits/dim"), rows)


def restoration_table(judged: Sequence[Judged]) -> str:
    """Tabulate the scores of the restorations.

    Args:
        judged: Results of the entrants, all with restorations.

    Returns:
        The table in Markdown, under a line with the number of pictures and the noise.
    """
    problems = list(judged[0].scores["restoration"])
    rows = []
    for problem in problems:
        for one in judged:
            r = one.scores["restoration"][problem]
            rows.append(
                (
                    problem,
                    one.title,
                    f"{r['psnr_mean']:.2f}",
                    f"{r['psnr_draw']:.2f}",
                    f"{100 * r['range']:.0f} %",
                    f"{r['misfit']:.2f}",
                    f"{r['rhat']:.2f}" if r.get("rhat") else "",
                    f"{r['nfe']} + {r['vjps']}",
                    f"{r['seconds']:.1f}",
                )
            )
    first = judged[0].scores["restoration"][problems[0]]
    head = (
        "problem",
        "model",
        f"PSNR, mean of {first['draws']}",
        "PSNR, a draw",
        f"truth in range ({100 * first['range_expected']:.0f} %)",
        "misfit",
        "R-hat",
        "evaluations + products / draw",
        "s / picture",
    )
    return f"{first['pictures']} pictures, noise σ = {SIGMA} on [−1, 1].\n\n" + _rows(head, rows)
