"""Every block of code of the documentation runs as it is written, page by page."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from scoresde.cli.main import app as cli
from tests.commands import run

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SIDE = 64  # of photo.png; pages that restore arrays name this size
WARNING = re.compile(r"^warning ", re.MULTILINE)  # that the result cannot be right
SHELL = ("make ", ". ")  # lines that install; tests/test_documents.py has the Makefile


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks of a page, in their order."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", page.read_text(), flags=re.S | re.M)


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.name != "levy.md" and blocks(page)]


def commands(text: str) -> Iterator[list[str]]:
    """The command lines of a block, as words."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith(SHELL):
            yield shlex.split(line, comments=True)


def test_most_pages_have_code() -> None:
    assert len(PAGES) > 20
    for page in (DOCS / "how-to").glob("*.md"):
        languages = {language for language, _ in blocks(page)}
        assert page.stem == "index" or "python" in languages, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_are_well_formed(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            compile(text, str(page), "exec")
        else:
            assert {words[0] for words in commands(text)} <= {"scoresde"}, text


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an empty folder with a photograph; blocks of a page share their names and files."""
    from skimage import data
    from skimage.io import imsave

    monkeypatch.chdir(tmp_path)
    imsave("photo.png", data.astronaut()[80 : 80 + SIDE, 190 : 190 + SIDE])
    names: dict[str, Any] = {"__name__": f"docs.{page.stem}"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for language, text in blocks(page):
            if language == "python":
                exec(compile(text, str(page), "exec"), names)
            else:
                for words in commands(text):
                    status, out, err = run(capsys, *words[1:])
                    assert status == 0, f"{' '.join(words)}: {err}"
                    assert not WARNING.search(out), f"{' '.join(words)}: {out}"
    assert os.listdir(tmp_path)


def test_commands_in_prose_have_known_options() -> None:
    """Those in tables and sentences, which are not run."""
    app = get_command(cli)
    found = 0
    for page in DOCS.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
        for span in re.findall(r"`(scoresde [^`]+)`", text.replace("\n", " ")):
            words = span.split()
            command = app.commands[words[1]]  # type: ignore[attr-defined]
            known = {
                option for one in command.params for option in (*one.opts, *one.secondary_opts)
            }
            used = {word.split("=")[0] for word in words if word.startswith("--")}
            assert used <= known | {"--help"}, f"{page.name}: {span}"
            found += 1
    assert found >= 5
