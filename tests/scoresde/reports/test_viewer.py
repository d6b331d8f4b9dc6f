"""The page in a browser: it is silent, reads exact values, and obeys mouse and keys."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from problems import GaussianNoise, Inpainting, InverseProblem, box_mask
from scoresde.data.images import to_uint8
from scoresde.reports import (
    PriorNote,
    RestorationPage,
    RestorationPictures,
    restoration_page,
    write_page,
)
from tests.browser import Page, open_page
from tests.conftest import seeded

pytestmark = pytest.mark.slow

H, W = 24, 32


def restored() -> RestorationPictures:
    g = seeded(3)
    problem = InverseProblem(Inpainting(box_mask(H, W, 4, 5, 6, 7)), GaussianNoise(0.1))
    truth = (0.5 * torch.randn(1, 3, H, W, generator=g)).clamp(-1, 1)
    draws = truth + 0.2 * torch.randn(4, 1, 3, H, W, generator=g)
    y = problem.measure(truth, g)
    return RestorationPictures(problem, y, draws, truth, (draws.amin(0), draws.amax(0)))


PICTURES = restored()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report: dict[str, Any] = {
        "problem": "inpaint",
        "sigma": 0.1,
        "sigma_given": True,
        "prior": "natural",
        "solver": "warm-start",
        "samples": 4,
        "seed": 0,
        "size": [H, W],
        "nfe": 7,
        "vjps": 20,
        "seconds": 1.0,
        "mean_std": 0.2,
        "residual": {"ratio": 1.0, "ratios": [1.0] * 4, "mean_ratio": 0.7, "mean_expected": 0.75}
        | {"warnings": [{"kind": "x", "message": "a very long warning " * 12}]},
    }
    note = PriorNote("natural", "photographs", 1, "none")
    page = RestorationPage(
        "a_file_with_a_very_long_name_that_does_not_fit_on_the_screen_of_a_phone.png",
        "inpaint", report, {"mask": "x" * 500}, "scoresde restore", "restore()",
        {"scoresde": "0.1.0"}, None, note,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(restoration_page(page, PICTURES), path)
    return path


@pytest.fixture(scope="module")
def page(file: Path) -> Iterator[Page]:
    with open_page(file) as opened:
        opened.until(READY)
        yield opened


READY = "document.getElementById('viewer').dataset.ready === 'yes'"


def state(page: Page) -> dict[str, str]:
    page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found: dict[str, str] = json.loads(
        page.value("JSON.stringify(document.getElementById('viewer').dataset)")
    )
    return found


def box(page: Page, name: str) -> tuple[float, float, float, float]:
    text = f"""(() => {{
      const one = document.querySelector({json.dumps(name)});
      one.scrollIntoView({{block: "center"}});
      const b = one.getBoundingClientRect();
      return [b.left, b.top, b.width, b.height];
    }})()"""
    left, top, width, height = page.value(text)
    return left, top, width, height


def click(page: Page, name: str, **more: Any) -> None:
    left, top, width, height = box(page, name)
    at = (left + width / 2, top + height / 2)
    page.mouse("mousePressed", *at, **more)
    page.mouse("mouseReleased", *at, **more)


def pixel(page: Page, column: int, row: int) -> tuple[float, float]:
    """Where a pixel lies in the window while the picture fits the stage."""
    left, top, width, height = box(page, "#stage")
    zoom = min(width / W, height / H)
    x = left + width / 2 + (column + 0.5 - W / 2) * zoom
    return x, top + height / 2 + (row + 0.5 - H / 2) * zoom


def start(page: Page) -> None:
    click(page, "#fit")
    page.value("document.getElementById('wipe').value = 50")
    page.value("document.getElementById('wipe').dispatchEvent(new Event('input'))")
    for side, key in (("left", "measurement"), ("right", "mean")):
        page.value(
            f"(() => {{ const s = document.getElementById('{side}'); s.value = '{key}';"
            "s.dispatchEvent(new Event('change')); })()"
        )


def test_the_values_under_the_pointer_are_those_of_the_tensors(page: Page) -> None:
    start(page)
    mean, y = to_uint8(PICTURES.draws.mean(0)[0]), to_uint8(PICTURES.y[0])
    assert PICTURES.ends is not None
    lower, upper = (to_uint8(end[0]) for end in PICTURES.ends)
    for column, row in ((0, 0), (31, 23), (7, 6), (20, 3)):
        page.mouse("mouseMoved", *pixel(page, column, row))
        text = page.value("document.getElementById('readout').textContent")

        def of(array: Any, at: tuple[int, int] = (row, column)) -> str:
            levels = array[at].tolist()
            return " ".join(map(str, levels if len(set(levels)) > 1 else levels[:1]))

        ends = " ".join(
            f"{a}–{b}" for a, b in zip(lower[row, column], upper[row, column], strict=True)
        )
        assert f"column {column}, row {row}" in text
        assert f"Measurement {of(y)}" in text and f"Mean {of(mean)}" in text, text
        assert f"90 % interval {ends}" in text


def test_the_value_of_a_map_is_read_through_its_colours(page: Page) -> None:
    start(page)
    click(page, ".thumb[data-key=std]")
    std = PICTURES.draws.std(0)[0].mean(0) * 127.5
    step = float(std.max()) / 255
    for column, row in ((1, 2), (30, 20)):
        page.mouse("mouseMoved", *pixel(page, column, row))
        text = page.value("document.getElementById('readout').textContent")
        found = re.search(r"Standard deviation (\d+\.\d)", text)
        assert found, text
        value = float(found[1])
        assert abs(value - float(std[row, column])) <= step / 2 + 0.06


def test_a_hole_has_no_residual(page: Page) -> None:
    start(page)
    click(page, ".thumb[data-key=residual]")
    page.mouse("mouseMoved", *pixel(page, 6, 5))
    assert "Residual no value" in page.value("document.getElementById('readout').textContent")
    assert not page.value("document.getElementById('legend').hidden")


def test_what_is_drawn_is_left_and_right_of_the_divider(page: Page) -> None:
    """Read from the canvas: the pixels of one picture, unsmoothed, then those of the other."""
    start(page)
    state(page)
    mean, y = to_uint8(PICTURES.draws.mean(0)[0]), to_uint8(PICTURES.y[0])
    left, top, _, _ = box(page, "#stage")
    for column, row, wanted in ((3, 4, y), (28, 20, mean)):
        x, down = pixel(page, column, row)
        script = f"""(() => {{
          const one = document.createElement("canvas").getContext("2d");
          const stage = document.getElementById("stage");
          one.drawImage(stage, {round(x - left)}, {round(down - top)}, 1, 1, 0, 0, 1, 1);
          return [...one.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        }})()"""
        assert page.value(script) == wanted[row, column].tolist()


def test_dragging_moves_the_divider(page: Page) -> None:
    start(page)
    left, top, width, height = box(page, "#stage")
    page.mouse("mousePressed", left + width / 2, top + height / 2, buttons=1)
    page.mouse("mouseMoved", left + width / 4, top + height / 2, button="left", buttons=1)
    page.mouse("mouseReleased", left + width / 4, top + height / 2)
    assert abs(int(state(page)["wipe"]) - 25) <= 1
    assert abs(int(page.value("document.getElementById('wipe').value")) - 25) <= 1


def test_the_slider_moves_it_by_keys(page: Page) -> None:
    start(page)
    page.value("document.getElementById('wipe').focus()")
    for _ in range(3):
        page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight",
                  windowsVirtualKeyCode=39)  # fmt: skip
    assert state(page)["wipe"] == "53"


def test_holding_the_button_swaps_until_it_is_let_go(page: Page) -> None:
    start(page)
    left, top, width, height = box(page, "#swap")
    at = (left + width / 2, top + height / 2)
    page.mouse("mousePressed", *at)
    held = state(page)
    page.mouse("mouseReleased", *at)
    after = state(page)
    assert (held["left"], held["right"]) == ("mean", "measurement")
    assert (after["left"], after["right"]) == ("measurement", "mean")


def test_the_wheel_zooms_after_a_click_and_scrolls_before(page: Page) -> None:
    start(page)
    page.value("document.activeElement.blur()")
    left, top, width, height = box(page, "#stage")
    at = (left + width / 3, top + height / 3)
    before = state(page)
    page.mouse("mouseWheel", *at, deltaX=0, deltaY=-120)
    assert state(page)["zoom"] == before["zoom"]
    page.value("document.getElementById('stage').focus()")
    left, top, width, height = box(page, "#stage")
    page.mouse("mouseWheel", left + width / 3, top + height / 3, deltaX=0, deltaY=-120)
    assert float(state(page)["zoom"]) == pytest.approx(float(before["zoom"]) * 1.271, rel=0.01)


def test_keys_choose_zoom_swap_and_read(page: Page) -> None:
    start(page)
    page.value("document.getElementById('stage').focus()")
    page.press("1", "Digit1")
    assert state(page)["right"] == "truth"
    page.press("$", "Digit4", shift=True)
    assert state(page)["left"] == "draw-1"
    before = float(state(page)["zoom"])
    page.press("+", "Equal", shift=True)
    assert float(state(page)["zoom"]) == pytest.approx(1.5 * before, rel=0.01)
    page.press("0", "Digit0")
    assert float(state(page)["zoom"]) == pytest.approx(before)
    page.press("s", "KeyS", up=False)
    assert (state(page)["left"], state(page)["right"]) == ("truth", "draw-1")
    page.call("Input.dispatchKeyEvent", type="keyUp", key="s", code="KeyS")
    assert state(page)["left"] == "draw-1"
    page.press("ArrowRight")
    page.press("ArrowDown")
    text = page.value("document.getElementById('readout').textContent")
    # after a pointer at some pixel the arrows go on from there
    assert "column" in text and "Truth" in text and "Draw 1" in text
    page.until("document.getElementById('spoken').textContent.includes('column')")


def test_all_controls_are_reached_by_tab(page: Page) -> None:
    page.value("document.activeElement.blur(); window.scrollTo(0, 0); getSelection().empty()")
    page.value("document.body.tabIndex = -1; document.body.focus(); 1")
    seen = []
    for _ in range(45):
        page.press("Tab")
        seen.append(page.value("document.activeElement.id || document.activeElement.dataset.key"))
    wanted = [
        "theme",
        "stage",
        "left",
        "wipe",
        "right",
        "swap",
        "zoom-out",
        "zoom-in",
        "fit",
        "whole",
        "truth",
        "mean",
        "draw-4",
    ]
    order = [seen.index(name) for name in wanted]
    assert order == sorted(order)


def test_the_theme_button_goes_round(page: Page) -> None:
    grounds = []
    for _ in range(4):
        grounds.append(page.value("getComputedStyle(document.body).backgroundColor"))
        click(page, "#theme")
    for _ in range(2):
        click(page, "#theme")
    assert grounds[0] == grounds[1] == grounds[3] != grounds[2]


def test_it_said_nothing_and_asked_for_nothing(page: Page) -> None:
    assert page.messages == []


@pytest.mark.parametrize("dark", [False, True])
def test_no_width_scrolls_sideways_and_text_has_contrast(file: Path, dark: bool) -> None:
    with open_page(file, 320, 800, dark) as page:
        page.until(READY)
        for width in (320, 390, 760, 1280):
            page.show(width, 800, dark)
            assert page.value("window.innerWidth") == width
            assert page.value("document.documentElement.scrollWidth") <= width
            ratios = page.value(CONTRASTS)
            assert len(ratios) > 30
            assert not [one for one in ratios if one[0] < 4.5], width
            small = page.value(SMALL)
            assert not small, (width, small)
        assert page.messages == []


CONTRASTS = """(() => {
  const light = (c) => {
    const [r, g, b] = c.map((v) => v / 255).map(
      (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const c = numbers(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] > 0.5) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !one.getClientRects().length || one.closest("script, noscript")) continue;
    const a = light(numbers(getComputedStyle(one).color).slice(0, 3)), b = light(ground(one));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, one.tagName, one.textContent.trim().slice(0, 40)]);
  }
  return found;
})()"""
"""Contrast of every piece of text (WCAG 2.2), with the element."""

SMALL = """[...document.querySelectorAll("button, select, input")].map((one) => {
  const b = one.getBoundingClientRect();
  return [b.width, b.height, one.id || one.textContent];
}).filter(([w, h]) => w < 24 || h < 24)"""
"""Controls smaller than a finger tip may be (WCAG 2.2, target size)."""
