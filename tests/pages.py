"""What every HTML page of a report must be: whole, self-contained, and usable by all."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

__all__ = ["Element", "faults", "parsed"]

_VOID = {"meta", "link", "img", "input", "br", "hr"}
_FOREIGN = {"path", "use", "circle", "rect", "line", "polyline", "polygon"}  # of SVG, self-closed


@dataclass
class Element:
    """An element with its attributes and all text in it."""

    tag: str
    attributes: dict[str, str | None]
    parent: "Element | None" = None
    text: str = ""
    children: "list[Element]" = field(default_factory=list)

    def all(self, tag: str | None = None) -> "list[Element]":
        """Elements within, in the order of the page."""
        found = []
        for child in self.children:
            found += [child] if tag in (None, child.tag) else []
            found += child.all(tag)
        return found

    def get(self, name: str) -> str:
        return self.attributes.get(name) or ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.faults.append(f"<{tag}> has an attribute twice")
        element = Element(tag, dict(attrs), self.open[-1])
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs), self.open[-1]))

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1].tag != tag:
            self.faults.append(f"</{tag}> ends <{self.open[-1].tag}>, line {self.getpos()[0]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def _read(html: str) -> tuple[Element, list[str]]:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.root, reader.faults + [f"<{one.tag}> stays open" for one in reader.open[1:]]


def parsed(html: str) -> Element:
    """The root of a page."""
    return _read(html)[0]


def faults(html: str) -> list[str]:
    """All that is wrong with a page, a line each."""
    root, found = _read(html)
    every = root.all()
    ids = [one.get("id") for one in every if "id" in one.attributes]
    found += [f"id {name!r} occurs twice" for name in {n for n in ids if ids.count(n) > 1}]
    for one in every:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            if re.match(r"\s*(\w+:)?//|\s*(https?|ftp|javascript):", one.get(name)):
                found.append(f"<{one.tag} {name}={one.get(name)[:60]!r}> leaves the page")
        for name in ("for", "aria-labelledby", "aria-describedby"):
            for target in one.get(name).split():
                if target not in ids:
                    found.append(f"<{one.tag} {name}> names no element: {target}")
        if any(name.startswith("on") for name in one.attributes):
            found.append(f"<{one.tag}> has a handler in an attribute")
        if one.tag == "img" and not one.get("alt").strip():
            found.append("an image has no alternative text")
        if one.tag == "svg" and not (one.get("aria-label") or one.get("aria-hidden")):
            found.append("a drawing has no label")
        if one.tag == "button" and not (one.text.strip() or one.get("aria-label")):
            found.append("a button has no name")
        if one.tag == "button" and one.get("type") != "button":
            found.append("a button would submit")
    labelled = {one.get("for") for one in every if one.tag == "label"}
    for one in every:
        if one.tag in ("input", "select", "textarea") and one.get("id") not in labelled:
            found.append(f"<{one.tag} id={one.get('id')!r}> has no label")
    levels = [int(one.tag[1]) for one in every if re.fullmatch(r"h[1-6]", one.tag)]
    found += [] if levels[:1] == [1] and levels.count(1) == 1 else ["there is not one first h1"]
    found += [f"h{b} follows h{a}" for a, b in pairwise(levels) if b > a + 1]
    html_tag = next(one for one in every if one.tag == "html")
    found += [] if html_tag.get("lang") else ["the page has no language"]
    if re.search(r"@import|url\(\s*['\"]?\s*(https?:|//)", html):
        found.append("a style loads something")
    return found
