"""axe-core in a page: what keeps people out, by the rules of WCAG.

axe-core is no dependency: tests that need it are skipped where its file is not there. CONTRIBUTING
says how to get it.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser import Page

__all__ = ["axe_source", "violations"]

_FILE = Path(__file__).parents[1] / ".axe/package/axe.min.js"
_GRAVE = ("serious", "critical")
_SETTLED = """
new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))).then(
  () => Promise.allSettled(
    document.getAnimations()
      .filter((one) => one.effect.getComputedTiming().endTime < Infinity)
      .map((one) => one.finished),
  )
).then(() => true)
"""
"""Colours that are still on their way have another contrast."""


def axe_source() -> str:
    """The script; skips the test if it is not there."""
    path = Path(os.environ.get("SCORESDE_AXE") or _FILE)
    if not path.is_file():
        pytest.skip("axe-core is not there: make axe, or give its path in SCORESDE_AXE")
    return path.read_text("utf-8")


def violations(page: Page) -> list[str]:
    """Serious and critical violations: rule, element, and why."""
    page.value(_SETTLED)
    page.value(f"{axe_source()}; typeof axe")
    found: list[dict[str, Any]] = json.loads(
        page.value("axe.run().then((found) => JSON.stringify(found.violations))")
    )
    return [
        f"{one['id']} ({one['impact']}): {' '.join(node['target'])}: {node['failureSummary']}"
        for one in found
        if one["impact"] in _GRAVE
        for node in one["nodes"]
    ]
