"""The page in Chromium, as visitors use it: with a mouse, on a phone, by the keyboard alone."""

import io
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scoresde.data.images import write_image
from scoresde.pipelines.demo import photograph
from scoresde.ui.limits import Limits
from scoresde.ui.server import running_page
from tests.axe import axe_source, violations
from tests.browser import Page, chromium, open_page

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ui")]

WIDTHS = {"desktop": 1280, "phone": 390}
_LIMITS = Limits(pixels=40_000, bytes=200_000)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'scoresde[ui]'")
    chromium()
    with running_page(_LIMITS, port=0) as found:
        yield found


@contextmanager
def visit(address: str, width: int = 1280) -> Iterator[Page]:
    with open_page(address, width, 900) as page:
        page.until("!!document.querySelector('#restore') && !!document.querySelector('#status p')")
        yield page


def upload(page: Page, path: Path) -> None:
    page.until("!!document.querySelector('#picture input[type=file]')")
    handle = page.call(
        "Runtime.evaluate", expression="document.querySelector('#picture input[type=file]')"
    )["result"]["objectId"]
    page.call("DOM.setFileInputFiles", files=[str(path)], objectId=handle)


def press(page: Page, text: str) -> None:
    """A button or a choice by its words."""
    found = page.value(
        "(() => { const all = [...document.querySelectorAll('button, label')];"
        f"const one = all.find(e => e.innerText.trim().startsWith({text!r}));"
        "one?.click(); return !!one; })()"
    )
    assert found, text


def status(page: Page) -> str:
    found: str = page.value("document.querySelector('#status p').innerText")
    return found


def says(page: Page, words: str) -> None:
    page.until(f"document.querySelector('#status p').innerText.includes({words!r})")


def download(page: Page, name: str) -> bytes:
    """The file behind a button."""
    with tempfile.TemporaryDirectory() as folder:
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder)
        page.until(f"!!document.querySelector('#download-{name}')")
        page.value(f"document.querySelector('#download-{name}').click()")
        end = time.monotonic() + 20
        while not (files := [one for one in Path(folder).iterdir() if _is_whole(one)]):
            assert time.monotonic() < end, f"{name} does not arrive"
            time.sleep(0.05)
        return files[0].read_bytes()


def _is_whole(path: Path) -> bool:
    return path.suffix != ".crdownload" and not path.name.startswith(".")


def small_picture(path: Path, side: int = 48) -> Path:
    write_image(photograph("chelsea", (60, 130))[0, :, 40 : 40 + side, 40 : 40 + side], path)
    return path


def test_nothing_is_loaded_from_elsewhere(address: str) -> None:
    with visit(address) as page:
        page.call("Network.enable")
        page.call("Page.reload")
        time.sleep(1)
        page.until("!!document.querySelector('#restore') && document.readyState === 'complete'")
        asked = [one for one in page.messages if one.startswith("request of ")]
        own = tuple(f"request of {one}" for one in (address, "data:", "blob:"))
        assert len(asked) > 5 and not [one for one in asked if not one.startswith(own)]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_upload_restore_stop_download(address: str, tmp_path: Path, width: int) -> None:
    with visit(address, width) as page:
        given = small_picture(tmp_path / "my cat.png")
        upload(page, given)
        says(page, "Ready")
        press(page, "It is blurred")
        page.until("!!document.querySelector('input[type=range][aria-label*=smeared]')")
        press(page, "Restore")
        page.until("document.querySelector('#after')?.innerText.includes('first answer')")
        page.until("document.querySelector('#after').innerText.includes('average of 2')")
        page.until("!!document.querySelector('#std img')")
        press(page, "Stop")
        says(page, "Stopped")
        with zipfile.ZipFile(io.BytesIO(download(page, "archive"))) as archive:
            names = set(archive.namelist())
            count = len([one for one in names if one.startswith("restored/draw_")])
            assert 2 <= count < 8 and archive.read("my_cat.png") == given.read_bytes()
            assert archive.read("restored/mean.png") == download(page, "mean")
            assert archive.read("restored/report.json") == download(page, "numbers")
        press(page, "Repeat it without this page")
        page.until("document.querySelector('#downloads').innerText.includes('scoresde restore')")
        shown = page.value("document.querySelector('#downloads').innerText")
        assert f"--samples {count}" in " ".join(shown.split())
        assert page.value("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_what_is_painted_is_filled_in(address: str, tmp_path: Path, width: int) -> None:
    with visit(address, width) as page:
        picture = Image.new("RGB", (200, 100), (60, 120, 180))
        picture.save(tmp_path / "plain.png")
        upload(page, tmp_path / "plain.png")
        page.until("!!document.querySelector('#editor canvas')")
        time.sleep(1.5)  # until the canvas has its size
        left, top, across, down = page.value(
            "(() => { const c = document.querySelector('#editor canvas');"
            "c.scrollIntoView({block: 'center'}); const r = c.getBoundingClientRect();"
            "return [r.left, r.top, r.width, r.height]; })()"
        )
        x, y = left + across / 2, top + down / 2
        page.mouse("mouseMoved", x - 30, y)
        page.mouse("mousePressed", x - 30, y)
        for step in range(10):
            page.mouse("mouseMoved", x - 30 + 6 * step, y, buttons=1)
        page.mouse("mouseReleased", x + 30, y)
        time.sleep(0.5)
        page.picture(tmp_path / "seen.png", whole=False)
        seen = Image.open(tmp_path / "seen.png").convert("RGB")
        seen = seen.crop((int(left), int(top), int(left + across), int(top + down)))
        page.value("document.querySelector('#restore').click()")
        page.until("document.querySelector('#after')?.innerText.includes('average of 1')")
        press(page, "Stop")
        says(page, "Stopped")
        with zipfile.ZipFile(io.BytesIO(download(page, "archive"))) as archive:
            with Image.open(io.BytesIO(archive.read("mask.png"))) as file:
                mask = np.asarray(file) > 0
            assert mask.shape == (100, 200), "of the size of the picture"
            assert np.abs(_centre(mask, np.ones_like(mask)) - _seen_stroke(seen)).max() < 0.03
            with Image.open(io.BytesIO(archive.read("restored/mean.png"))) as file:
                mean = np.asarray(file).astype(float)
        # a plain picture has one plausible filling, from which a single draw differs by 5 to 15
        # levels, and the paint by 100
        assert np.abs(mean[mask] - (60, 120, 180)).mean() < 25


def _centre(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Of a part, as fractions of the rectangle around the whole."""
    inside = np.argwhere(whole)
    low, high = inside.min(0), inside.max(0)
    found: np.ndarray = (np.argwhere(part).mean(0) - low) / (high - low)
    return found


def _seen_stroke(seen: Image.Image) -> np.ndarray:
    """Centre of the stroke within the picture, on the screen."""
    x = np.asarray(seen).astype(int)
    stroke = np.abs(x - (224, 33, 138)).max(-1) < 30
    plain = np.abs(x - (60, 120, 180)).max(-1) < 12
    return _centre(stroke, stroke | plain)


def test_a_jpeg_arrives_as_it_is(address: str, tmp_path: Path) -> None:
    """The tables of its compression are in the file alone."""
    with visit(address) as page:
        given = tmp_path / "cat.jpg"
        Image.open(small_picture(tmp_path / "cat.png")).save(given, quality=15)
        upload(page, given)
        says(page, "Ready")
        press(page, "It has JPEG artefacts")
        press(page, "Restore")
        page.until("document.querySelector('#after')?.innerText.includes('average of 1')")
        press(page, "Stop")
        says(page, "Stopped")
        with zipfile.ZipFile(io.BytesIO(download(page, "archive"))) as archive:
            assert archive.read("cat.jpg") == given.read_bytes()
            assert b"the tables of the file" in archive.read("restored/report.json")


def test_files_that_are_refused(address: str, tmp_path: Path) -> None:
    with visit(address) as page:
        press(page, "Restore")
        says(page, "Choose a picture first")
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"this is no picture")
        upload(page, bad)
        says(page, "cannot be read as a picture")
    with visit(address) as page:
        Image.new("RGB", (300, 300)).save(tmp_path / "wide.png")
        upload(page, tmp_path / "wide.png")
        says(page, "at most 0.04 are accepted")
        press(page, "It is noisy")
        time.sleep(0.5)
        press(page, "Restore")
        says(page, "The picture has 0.09 megapixels")
    with visit(address) as page:
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "heavy.png")
        assert (tmp_path / "heavy.png").stat().st_size > _LIMITS.bytes
        upload(page, tmp_path / "heavy.png")
        page.until("/exceed|too large|maximum/i.test(document.body.innerText)")


def test_what_is_not_known_is_not_asked(address: str, tmp_path: Path) -> None:
    """A slider goes when its value is to be estimated, and comes back."""
    noise = "!!document.querySelector('#noise input[type=range]')"
    width = "!!document.querySelector('input[type=range][aria-label*=smeared]')"
    with visit(address) as page:
        upload(page, small_picture(tmp_path / "cat.png"))
        says(page, "Ready")
        press(page, "It is blurred")
        page.until(f"{noise} && {width}")
        press(page, "I do not know how far: estimate it")
        page.until(f"!{width}")
        press(page, "I do not know the noise")
        page.until(f"!{noise}")
        press(page, "It has JPEG artefacts")
        page.until(f"!{noise} && !document.querySelector('#unknown-noise input')")
        press(page, "It is noisy")
        page.until(noise)
        press(page, "I do not know the noise")
        page.until(f"!{noise}")
        press(page, "Restore")
        page.until("document.querySelector('#after')?.innerText.includes('first answer')")
        says(page, "Estimating the noise")
        press(page, "Stop")
        says(page, "Stopped before the first draw")


def test_two_visitors_at_once(address: str, tmp_path: Path) -> None:
    with visit(address) as one, visit(address) as two:
        for page, name in ((one, "a"), (two, "b")):
            upload(page, small_picture(tmp_path / f"{name}.png", 32 if name == "a" else 40))
            says(page, "Ready")
            press(page, "It is noisy")
            time.sleep(0.5)
            press(page, "Restore")
        for page, name in ((one, "a"), (two, "b")):
            says(page, "Done")
            with zipfile.ZipFile(io.BytesIO(download(page, "archive"))) as archive:
                assert f"{name}.png" in archive.namelist()
                given = (tmp_path / f"{name}.png").read_bytes()
                assert archive.read(f"{name}.png") == given


def test_by_the_keyboard_alone(address: str) -> None:
    def at(words: str) -> None:
        for _ in range(40):
            page.press("Tab")
            focused = page.value(
                "(() => { const e = document.activeElement;"
                "return [e.innerText, e.ariaLabel, e.labels?.[0]?.innerText].join(' '); })()"
            )
            if words in focused:
                return
        raise AssertionError(f"{words!r} is not reached")

    with visit(address) as page:
        at("Coffee")
        page.press(" ")
        says(page, "Ready")
        at("Or a rectangle")
        page.call("Input.insertText", text="60, 60, 20, 20")
        at("Restore")
        page.press(" ")
        page.until("document.querySelector('#after')?.innerText.includes('average of 1')")
        at("Stop")
        page.press(" ")
        says(page, "Stopped")
        at("Everything")


def test_nothing_keeps_people_out(address: str, tmp_path: Path) -> None:
    axe_source()
    with visit(address) as page:

        def check(state: str) -> None:
            for width, dark in ((1280, False), (390, False), (1280, True)):
                page.show(width, 900, dark)
                theme = "add" if dark else "remove"
                page.value(f"document.body.classList.{theme}('dark')")
                assert violations(page) == [], (state, width, dark)

        check("start")
        upload(page, small_picture(tmp_path / "cat.png"))
        says(page, "Ready")
        check("a picture")
        press(page, "It is blurred")
        page.until("!!document.querySelector('input[type=range][aria-label*=smeared]')")
        check("its settings")
        press(page, "Restore")
        page.until("!!document.querySelector('#std img')")
        press(page, "Stop")
        says(page, "Stopped")
        check("results")
        names = page.value("[...document.querySelectorAll('.result img')].map(e => e.alt)")
        assert len(names) == 4 and all(names)
        press(page, "Repeat it without this page")
        page.until("document.querySelector('#downloads').innerText.includes('scoresde restore')")
        check("commands")


def test_nothing_of_a_visitor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'scoresde[ui]'")
    chromium()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with running_page(_LIMITS, port=0) as found, visit(found) as page:
        upload(page, small_picture(tmp_path / "cat.png"))
        says(page, "Ready")
        press(page, "It is noisy")
        time.sleep(0.5)
        press(page, "Restore")
        page.until("document.querySelector('#after')?.innerText.includes('average of 1')")
        press(page, "Stop")
        says(page, "Stopped")
        end = time.monotonic() + 20  # the folder goes just after the last word is said
        while any(one.is_dir() for one in (tmp_path / "temporary").rglob("job-*")):
            assert time.monotonic() < end, "the folder of a job is left"
            time.sleep(0.05)
    left = [one for one in (tmp_path / "temporary").iterdir() if "scoresde" in one.name]
    assert left == []
