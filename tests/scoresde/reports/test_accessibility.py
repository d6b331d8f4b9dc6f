"""No page of a report keeps people out: axe-core finds nothing serious, in both themes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from scoresde.reports import comparison_page, restoration_page
from tests.axe import axe_source, violations
from tests.browser import chromium, open_page
from tests.scoresde.reports import test_restoration_page as restoration
from tests.scoresde.reports import test_tables as tables

pytestmark = pytest.mark.slow

SCREENS = {"desktop": (1280, False), "phone": (390, False), "dark": (1280, True)}


def comparison() -> str:
    folder = Path(__file__).parents[3] / "benchmarks/results/comparison"
    report = json.loads((folder / "comparison.json").read_text())
    return comparison_page(report, folder, "scoresde compare", tables.MADE)


def restored(**more: object) -> str:
    given = restoration.pictures(restoration.DENOISING)
    path = restoration.walked(given.draws, (4.0, 2.0, 1.0, 0.5))
    return restoration_page(
        restoration.page(**more),
        restoration.replace(given, path=path),  # type: ignore[arg-type]
    )


PAGES: dict[str, Callable[[], str]] = {
    "restore": restored,
    "restore, a warning": lambda: restored(warnings=("2 of 3 draws",)),
    "compare": comparison,
    **tables.PAGES,
}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_people_out(tmp_path: Path, name: str) -> None:
    axe_source()
    chromium()
    file = tmp_path / "report.html"
    file.write_text(PAGES[name](), encoding="utf-8")
    with open_page(file) as page:
        for screen, (width, dark) in SCREENS.items():
            page.show(width, 900, dark)
            assert violations(page) == [], screen


def test_what_keeps_people_out_is_found(tmp_path: Path) -> None:
    axe_source()
    chromium()
    file = tmp_path / "bad.html"
    file.write_text("<!doctype html><html lang=en><title>t</title><img src='data:,'>", "utf-8")
    with open_page(file) as page:
        assert any(one.startswith("image-alt (critical)") for one in violations(page))
