"""Take docs/ui.png, the picture of the page of `scoresde ui`.

Needs Gradio and Chromium: python -m benchmarks.maintenance.screenshot
"""

import argparse
import time
from pathlib import Path

from PIL import Image

from scoresde.ui.limits import Limits
from scoresde.ui.server import running_page
from tests.browser import Page, open_page

ROOT = Path(__file__).parents[2]
_STATUS = "document.querySelector('#status p')"


def take(page: Page, path: Path) -> None:
    """Let the page restore a sample from which a strip is missing, and take its picture."""
    page.until(f"!!document.querySelector('#restore') && !!{_STATUS}")
    page.value("[...document.querySelectorAll('button')].find(b => b.innerText == 'Cat').click()")
    page.until("!!document.querySelector('#editor canvas')")
    time.sleep(4)  # until the canvas has its size
    left, top, width, height = page.value(
        "(() => { const r = document.querySelector('#editor canvas').getBoundingClientRect();"
        "return [r.left, r.top + scrollY, r.width, r.height]; })()"
    )
    page.value("scrollTo(0, 0)")
    x, y = left + 0.4 * width, top + 0.5 * height
    page.mouse("mouseMoved", x, y)
    page.mouse("mousePressed", x, y)
    for step in range(20):
        page.mouse("mouseMoved", x + 0.005 * step * width, y, buttons=1)
        time.sleep(0.05)  # the editor draws between frames
    page.mouse("mouseReleased", x + 0.1 * width, y)
    time.sleep(1)
    page.value("document.querySelector('#restore').click()")
    page.until(f"{_STATUS}.innerText.startsWith('Done')")
    time.sleep(1)
    page.picture(path)
    with Image.open(path) as file:
        file.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)


def main() -> None:
    """Serve the page, and take its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/ui.png")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--dark", action="store_true")
    chosen = parser.parse_args()
    with (
        running_page(Limits(), port=0) as address,
        open_page(address, chosen.width, 1400, chosen.dark) as page,
    ):
        take(page, chosen.out)


if __name__ == "__main__":
    main()
