"""The page of the Lévy benchmark: what is counted, and cells that are not measured twice."""

from pathlib import Path
from typing import Any

import pytest

from solvers.verification.levy import LearnedSettings


def row(solver: str, gap: float, coverage: float, warned: float, **other: Any) -> dict[str, Any]:
    names = {"law": "laplace", "problem": "identity", "solver": solver}
    return names | {"gap": gap, "coverage": coverage, "warned": warned, "seconds": 0.01} | other


def test_the_page_counts_good_and_silent_rows(script: Any) -> None:
    rows = [
        row("mmps", 0.1, 0.87, 0.0),
        row("mmps", 3.0, 0.87, 0.0, problem="sampling"),
        row("ddrm", 0.5, 0.60, 0.0),
        row("ddrm", 9.0, 0.90, 0.5, problem="sampling"),
        row("warm-start", 0.2, 0.81, 0.0),
        {"law": "laplace", "problem": "identity", "solver": "repaint", "refused": "needs a mask"},
    ]
    lines = script("levy_page").learned_page(rows, LearnedSettings(), "the command")
    by_name = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("|")}
    assert "1 of 1 | 0.20 | 0.20 | 81 to 81 | 0 | 10" in by_name["warm-start"]
    assert "1 of 2 | 3.00 | 3.00 | 87 to 87 | 1 | 10" in by_name["mmps"]
    assert "0 of 2 | 9.00 | 9.00 | 60 to 90 | 1 | 10" in by_name["ddrm"]
    assert "repaint" not in by_name
    assert "| laplace | identity | mmps | 0.10 | 87 | 0.20 | 81 |" in lines
    assert "| laplace | sampling | mmps | 3.00 | 87 | | |" in lines  # the default is not known


@pytest.mark.slow
def test_finished_rows_are_kept_and_other_sizes_refused(script: Any, tmp_path: Path) -> None:
    levy = script("levy")
    small = ["--law", "laplace", "--problem", "identity", "--solver", "ddrm", "--out", tmp_path]
    small = [str(word) for word in [*small, "--measurements", 1, "--draws", 20, "--sweeps", 50]]
    levy.main(small)
    first = (tmp_path / "levy.json").read_text()
    assert "| laplace | identity | ddrm |" in (tmp_path / "levy.md").read_text()
    assert "# What solvers do" in (tmp_path / "page.md").read_text()
    levy.main(small)
    assert (tmp_path / "levy.json").read_text() == first  # with its times
    with pytest.raises(SystemExit, match="other sizes"):
        levy.main([*small, "--seed", "1"])
