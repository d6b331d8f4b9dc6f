"""Pages of tables: whole, escaped, with all digits, and with plots that follow the theme."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scoresde.reports import (
    audit_page,
    calibration_page,
    comparison_page,
    learned_verification_page,
    likelihood_page,
    prior_check_page,
    read_log,
    training_page,
    verification_page,
)
from scoresde.reports.figures import ACCENT, SECOND, inline_svg, new_figure
from scoresde.reports.tables import Column, Section, TablePage, table_page
from tests.browser import open_page
from tests.pages import faults, parsed

NASTY = "<script>alert('x')</script>\"&.png"
MADE = {"scoresde": "0.1.0", "device": NASTY}

CALIBRATION = {
    "file": NASTY,
    "problem": "denoise",
    "pictures": 11,
    "crop": 64,
    "floor": 1 / 255,
    "levels": [
        {
            "level": level,
            "scale": 2.123456789 * level,
            "coverage_before": 0.7 * level,
            "coverage_after": None if level == 0.95 else level + 0.012345678,
            "mean_width_before": 0.02,
            "mean_width_after": 0.05,
        }
        for level in (0.5, 0.9, 0.95)
    ],
}
VERDICT = {"distance": 1.25, "floor_scatter": 0.1, "mean": 0.1, "cov": 0.2, "modes": 0.0}
VERDICT |= {"cover50": 0.5, "cover90": 0.9, "cover95": 0.95, "seen": 1.0, "unseen": float("nan")}
VERDICT |= {"nfe": 20.0, "vjps": 0.0, "seconds": 0.0123456}
ROWS: list[dict[str, Any]] = [
    {"problem": "box", "solver": "mmps", **VERDICT},
    {"problem": "box", "solver": NASTY, **VERDICT, "distance": 43.4},
    {"problem": "blur", "solver": "repaint", "refused": NASTY},
]
LEARNED: list[dict[str, Any]] = [
    {"law": NASTY, "problem": "fourier", "solver": "mmps", "r_hat": 1.01, "gap": 0.123456789}
    | {"coverage": 0.88, "distance": 1.5, "nfe": 20.0, "seconds": 0.01, "warned": 0.25}
    | {"warnings": (NASTY,)},
    {"law": NASTY, "problem": "fourier", "solver": NASTY, "r_hat": 1.01, "refused": NASTY},
]
LIKELIHOOD = {
    "images": [NASTY, "b.png", "c.png"],
    "bits_per_dim": [3.123456789, 2.5, 2.9],
    "std_error": [0.01, 0.02, 0.03],
    "mean": 2.84,
    "mean_std_error": 0.18,
    "prior": NASTY,
}
TRAINING = {"prior": NASTY, "steps": 900, "of": 1000, "log": NASTY}
CURVES = {
    "loss": [(step, 1 / (1 + step)) for step in range(0, 5000, 2)],
    NASTY: [(1, 2.0), (2, 3.0)],
    "single": [(1, 2.0)],
}
COVERAGE = {"found": 0.8123456789, "expected": 0.9, "chance": 0.04, "p": 0.0004, "rejected": True}
AUDIT = {
    "passed": False,
    "rows": [
        {"name": "ranks: mean", "found": 21.5, "expected": 9.0, "chance": float("nan"), "p": 0.01}
        | {"rejected": False},
        {"name": "coverage of 90% intervals", **COVERAGE},
        {"name": "ranks: residual", "found": 60.25, "expected": 9.0, "chance": None, "p": 1e-9}
        | {"rejected": True},
    ],
    "histograms": {"mean": [20, 30, 25, 25], "residual": [70, 10, 10, 10]},
    "runs": 100,
    "draws": 19,
    "problem": {"problem": "denoise", "file": NASTY},
    "sigma": 0.5,
    "prior": NASTY,
    "solver": "dps",
    "truths": "exact draws",
}
PASSED = AUDIT | {"rows": [row | {"rejected": False} for row in AUDIT["rows"]]}  # type: ignore[attr-defined]
LEVEL = {"error": 0.123456789, "linear": 0.5, "slope": 1.01, "slope_error": 0.01, "bias": 1e-4}
LEVEL |= {"bias_error": 2e-4, "calibration": 1.1, "calibration_error": 0.02, "asymmetry": 0.01}
UNKNOWN = {"calibration": None, "calibration_error": None, "asymmetry": None}
PRIOR_CHECK = {
    "prior": NASTY,
    "findings": [f"it adds noise {NASTY}"],
    "levels": [
        {"s": 0.1, **LEVEL, "words": []},
        {"s": 1.0, **LEVEL, **UNKNOWN, "words": ["it adds noise", NASTY]},
        {"s": 10.0, **LEVEL, "error": float("nan"), "slope": float("nan"), "words": []},
    ],
    "samples": f"pictures of {NASTY}",
    "shape": [3, 8, 8],
    "count": 16,
    "notes": [NASTY],
    "sizes": "any",
    "seconds_per_megapixel": 1.5,
    "megabytes": None,
    "seed": 0,
}
PAGES = {
    "audit": lambda: audit_page(AUDIT, NASTY, MADE),
    "audit, passed": lambda: audit_page(PASSED, NASTY, MADE),
    "check-prior": lambda: prior_check_page(PRIOR_CHECK, NASTY, MADE),
    "check-prior, fine": lambda: prior_check_page(PRIOR_CHECK | {"findings": []}, NASTY, MADE),
    "calibrate": lambda: calibration_page(CALIBRATION, NASTY, MADE),
    "verify": lambda: verification_page(ROWS, NASTY, MADE, {"draws": 100}),
    "verify, all refused": lambda: verification_page(ROWS[2:], NASTY, MADE, {}),
    "verify, learned": lambda: learned_verification_page(LEARNED, NASTY, MADE, {"draws": 50}),
    "verify, learned, refused": lambda: learned_verification_page(LEARNED[1:], NASTY, MADE, {}),
    "likelihood": lambda: likelihood_page(LIKELIHOOD, NASTY, MADE),
    "train": lambda: training_page(TRAINING, CURVES, NASTY, MADE, {"images": 400}),
    "train, nothing logged": lambda: training_page(TRAINING, {}, NASTY, MADE, {}),
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_whole_and_escaped(name: str) -> None:
    html = PAGES[name]()
    root = parsed(html)
    assert faults(html) == []
    assert "alert('x')" not in "".join(one.text for one in root.all("script"))
    shown = next(one.text for one in root.all("pre") if one.get("id") == "command")
    assert shown == NASTY


def values(html: str, key: str) -> list[float]:
    found = parsed(html).all("data")
    return [float(one.get("value")) for one in found if one.get("data-key") == key]


@pytest.mark.slow
def test_numbers_keep_all_their_digits() -> None:
    html = PAGES["calibrate"]()
    levels = CALIBRATION["levels"]
    assert isinstance(levels, list)
    for key in ("level", "scale", "coverage_before"):
        assert values(html, key) == [row[key] for row in levels]
    assert values(html, "coverage_after") == [row["coverage_after"] for row in levels[:2]]
    assert values(PAGES["likelihood"](), "bits") == LIKELIHOOD["bits_per_dim"]
    assert values(PAGES["verify"](), "distance") == [1.25, 43.4]
    assert values(PAGES["verify, learned"](), "gap") == [LEARNED[0]["gap"]]
    assert values(PAGES["audit"](), "found") == [21.5, COVERAGE["found"], 60.25]
    assert values(PAGES["check-prior"](), "linear") == [LEVEL["linear"]] * 3
    assert values(PAGES["check-prior"](), "calibration") == [LEVEL["calibration"]] * 2


def test_what_a_solver_refuses_is_told() -> None:
    text = parsed(PAGES["verify"]()).text
    assert "Not applicable" in text and NASTY in text


def test_the_verdict_counts_what_chance_allows() -> None:
    """1.25 is within three deviations of 0.1 of an exact solver, 43.4 is not."""
    assert "1 of 2 pairs" in PAGES["verify"]()


def test_what_fails_an_audit_is_named_and_marked() -> None:
    html, passed = PAGES["audit"](), PAGES["audit, passed"]()
    assert "Fails: coverage of 90% intervals, ranks: residual." in parsed(html).text
    assert "Passes: chance explains" in parsed(passed).text
    cells = [one.text for one in parsed(html).all("td")]
    assert [cell for cell in cells if cell in ("passes", "fails")] == ["passes", "fails", "fails"]
    plot = parsed(html).all("svg")[0].get("aria-label")
    assert "mean 20 30 25 25" in plot and "residual 70 10 10 10" in plot
    # the bars of the failing function alone have the other colour
    assert html.count(f"fill: {SECOND}") == 4 and html.count(f"fill: {ACCENT}") == 4
    assert passed.count(f"fill: {SECOND}") == 0 and passed.count(f"fill: {ACCENT}") == 8


@pytest.mark.slow
def test_findings_on_a_prior_are_warnings() -> None:
    root = parsed(PAGES["check-prior"]())
    box = next(one for one in root.all("div") if "warning" in one.get("class").split())
    assert f"it adds noise {NASTY}" in box.text and "1 finding on the prior" in root.text
    fine = parsed(PAGES["check-prior, fine"]())
    assert not [one for one in fine.all("div") if "warning" in one.get("class").split()]
    assert "No findings" in fine.text


@pytest.mark.slow
def test_steps_that_are_left_are_a_warning() -> None:
    root = parsed(PAGES["train"]())
    box = next(one for one in root.all("div") if "warning" in one.get("class").split())
    assert "100 steps are left" in box.text


@pytest.mark.slow
def test_long_curves_are_thinned_and_keep_their_end() -> None:
    html = PAGES["train"]()
    assert "from 1 at step 0 to 0.0002 at step 4998" in html
    assert len(html) < 200_000


def test_plots_take_the_colour_and_the_font_of_the_page() -> None:
    figure = new_figure()
    figure.axes[0].plot([1, 2], [3, 4], label="a < b")
    figure.axes[0].legend()
    figure.axes[0].set(xlabel="x", ylabel="y")
    one, two = (inline_svg(figure, NASTY, name) for name in ("one", "two"))
    assert "currentColor" in one and "#000001" not in one
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]+)"', one)) <= ids[0]
    assert not re.search(r"<metadata|(href|resource)=\"https?:", one)
    assert parsed(one).all("svg")[0].get("aria-label") == NASTY and not parsed(one).all("script")


def test_a_log_is_read_with_the_later_of_two_values(tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    for start, value in ((100.0, 1.0), (200.0, 2.0)):
        writer = EventFileWriter(str(tmp_path / "log"), filename_suffix=f".{start}")
        for step in (1, 2) if value == 1 else (2, 3):
            summary = Summary(value=[Summary.Value(tag="loss", simple_value=value)])
            writer.add_event(Event(step=step, wall_time=start + step, summary=summary))
        writer.close()
    assert read_log(tmp_path) == {"loss": [(1, 1.0), (2, 2.0), (3, 2.0)]}


def test_a_comparison_that_was_made_is_shown() -> None:
    folder = Path(__file__).parents[3] / "benchmarks" / "results" / "comparison"
    report = json.loads((folder / "comparison.json").read_text())
    html = comparison_page(report, folder, "scoresde compare", MADE)
    assert faults(html) == []
    wanted = [one["quality"]["fid"] for one in report["entrants"].values()]
    assert values(html, "fid")[:-1] == wanted
    assert len(parsed(html).all("img")) == 3


@pytest.mark.slow
def test_headings_sort_numbers_and_leave_gaps_at_the_end(tmp_path: Path) -> None:
    numbers = [10.0, None, 9.0, -1.5, 100.0]
    rows = [{"name": f"row {i}", "x": x} for i, x in enumerate(numbers)]
    columns = (Column("name", "Name", "A name."), Column("x", "X", "A number."))
    page = TablePage("T", "L", [Section("S", "t", columns, rows)], "c", MADE)
    file = tmp_path / "page.html"
    file.write_text(table_page(page))
    script = "[...document.querySelectorAll('tbody td')].map((cell) => cell.textContent)"
    with open_page(file) as opened:
        button = "document.querySelectorAll('th button')[1].click()"
        opened.value(button)
        assert opened.value(script) == ["-1.5", "9", "10", "100", "–"]
        opened.value(button)
        assert opened.value(script) == ["100", "10", "9", "-1.5", "–"]
        assert opened.value("document.querySelectorAll('th')[1].ariaSort") == "descending"
        assert opened.messages == []
