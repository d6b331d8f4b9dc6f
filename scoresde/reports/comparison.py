"""The page of `scoresde compare`."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoresde.reports.tables import Column, Picture, Section, TablePage, table_page

__all__ = ["comparison_page"]

_MODEL = Column("title", "Model", "The family, or the sampler of the diffusion model.")
_QUALITY = (
    _MODEL,
    Column("fid", "FID", "Fréchet distance of draws and test pictures; 0 for equal laws.", ".2f"),
    Column("kid", "KID", "Kernel distance, without bias; 0 for equal laws.", ".3f"),
    Column("precision", "Precision", "Share of draws among the test pictures.", ".3f"),
    Column("recall", "Recall", "Share of test pictures among the draws.", ".3f"),
    Column("density", "Density", "How many test pictures' neighbourhoods hold a draw.", ".2f"),
    Column("coverage", "Coverage", "Share of test pictures with a draw near them.", ".3f"),
    Column("copies", "Copies", "Draws as near to a training picture as 1 % of new data.", ".1%"),
    Column("nfe", "Evaluations", "Network evaluations for a draw.", ".0f"),
    Column("speed", "Draws / s", "Draws in a second of processor time.", ".3g"),
)
_DENSITY = (
    _MODEL,
    Column("kind", "What it is", "Exact, or a bound."),
    Column("mean", "Bits per dimension", "Of held-out pictures; lower is better.", ".3f"),
    Column("error", "Standard error", "Over the pictures.", ".3f"),
)
_RESTORATION = (
    Column("problem", "Problem", "The measurement, the same for all."),
    _MODEL,
    Column("psnr_mean", "PSNR of the mean", "Closeness of the mean to the truth, in dB.", ".2f"),
    Column("psnr_draw", "PSNR of a draw", "The same of one draw.", ".2f"),
    Column("range", "Truth in range", "Share of pixels with the truth among the draws.", ".3f"),
    Column("range_expected", "Expected", "The same for draws of the right posterior.", ".3f"),
    Column("misfit", "Misfit", "Squared residual over that of the truth; 1 if right.", ".3g"),
    Column("seconds", "Seconds", "Time for the draws of one picture.", ".2f"),
)
_PICTURES = {
    "trilemma.png": ("Quality, coverage, speed", "Plot of quality and coverage against speed"),
    "draws.png": ("Draws", "Rows of draws, one row for each model"),
    "restoration.png": ("Restorations", "The same measurements restored by every family"),
}


def comparison_page(
    report: Mapping[str, Any], folder: Path, command: str, environment: dict[str, str]
) -> str:
    """Make the page of a comparison.

    Args:
        report: Report of :func:`scoresde.pipelines.compare.compare`.
        folder: Folder of its pictures.
        command: The command that made it.
        environment: Versions and device, by name.

    Returns:
        One self-contained HTML file.
    """
    entrants = report["entrants"]
    pictures = {name: _picture(folder / name, *words) for name, words in _PICTURES.items()}
    sections = [
        Section(
            "Draws",
            f"Against held-out pictures, by {report['features']}. Other data stand for a perfect "
            "model.",
            _QUALITY,
            [*map(_quality, entrants.values()), _quality({"title": "other data"} | report["data"])],
            pictures=[pictures[name] for name in ("trilemma.png", "draws.png")],
        ),
        Section("Density", "How many bits a value of a new picture takes.", _DENSITY,
                [row for one in entrants.values() for row in _densities(one)]),
        Section(
            "Restoration",
            "The same measurements for all.",
            _RESTORATION,
            [
                {"problem": problem, "title": one["title"], **scores}
                for one in entrants.values()
                for problem, scores in one.get("restoration", {}).items()
            ],
            pictures=[pictures["restoration.png"]],
        ),
    ]  # fmt: skip
    best = min(entrants.values(), key=lambda one: one["quality"]["fid"])
    page = TablePage(
        f"Generative models on {report['dataset']}",
        f"{len(entrants)} models and samplers; the nearest draws to the data are those of "
        f"{best['title']}, at a Fréchet distance of {best['quality']['fid']:.2f}.",
        sections,
        command,
        environment,
        {"minutes of training": report["minutes"], "features": report["features"]},
    )
    return table_page(page)


def _quality(one: Mapping[str, Any]) -> dict[str, Any]:
    seconds = one.get("seconds_per_sample")
    return {
        **one["quality"],
        "title": one["title"],
        "nfe": one.get("nfe_per_sample"),
        "speed": 1 / seconds if seconds else None,
    }


def _densities(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = one.get("bits_per_dim") or {}
    return [
        {"title": one["title"], "kind": kind, **value}
        for kind, value in found.items()
        if isinstance(value, Mapping)
    ]


def _picture(path: Path, title: str, alt: str) -> Picture:
    uri = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return Picture(title, uri, alt, f"The file {path.name} beside this page.")
