"""How `--help` is laid out: commands by purpose, and the options of a restoration by subject.

Typer cuts the sentence of a command to what fits on its line, and lists all options in one block.
"""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from typer.core import TyperCommand, TyperGroup

from scoresde.pipelines.settings import ProblemOptions, RestoreOptions

__all__ = ["SECTIONS", "Command", "Commands"]

SECTIONS: dict[str, tuple[str, ...]] = {
    "Restore": ("restore", "ui", "demo"),
    "Check": ("calibrate", "check-prior", "audit", "verify"),
    "Priors": ("train", "average", "sample", "likelihood", "compare", "export"),
    "Installation": ("list", "doctor", "completion"),
}
"""Headings of `scoresde --help`, and the commands below each."""

_LARGEST_SEED = 2**63 - 1

_WORDS = (
    (r"<list\[(\w+)\]>", r"<\1>"),
    (r"<str>", "<text>"),
    (r"<(int|float)( range)?>", "<number>"),
    (r"FLOAT\|", "<number>|"),
    (rf"; 0<=x<={_LARGEST_SEED}\b", ""),
    (r"([\d.]+)<=x<=([\d.]+)", r"\1 to \2"),
    (r"\[x>=(\S+)\]", r"[at least \1]"),
    (r"\[x<=(\S+)\]", r"[at most \1]"),
    (r"; x>=([^];]+)\]", r"; at least \1]"),
)
"""Patterns of what Typer writes for a programmer, and plain words for them."""


def _plain(text: str) -> str:
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text


class Commands(TyperGroup):
    """The group of all commands, with a help that lists them by purpose."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each purpose, with whole sentences.

        Args:
            ctx: Context of the call.
            formatter: What the help is written to.
        """
        listed = {name for names in SECTIONS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        width = max(map(len, self.commands), default=0)
        for title, names in {**SECTIONS, "Other": others}.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    sentence = (command.help or "").split("\n\n")[0]
                    rows.append((name.ljust(width), " ".join(sentence.split())))
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Command(TyperCommand):
    """A command whose options stand by subject, if they describe a restoration."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options.

        Args:
            ctx: Context of the call.
            formatter: What the help is written to.
        """
        shown = [(one, one.get_help_record(ctx)) for one in self.get_params(ctx)]
        records = [(one, tuple(map(_plain, record))) for one, record in shown if record is not None]
        arguments = [record for one, record in records if one.param_type_name == "argument"]
        options = [(one.name, record) for one, record in records if one.param_type_name == "option"]
        _write(formatter, "Arguments", arguments)
        for title, rows in _by_subject(options).items():
            _write(formatter, title, rows)


def _by_subject(options: list[tuple[str, tuple[str, ...]]]) -> dict[str, list[tuple[str, ...]]]:
    """Heading -> rows; one heading if the options are not those of a restoration."""
    names = {name for name, _ in options}
    described = {field.name for field in fields(ProblemOptions)} | {"simulate"}
    restored = {field.name for field in fields(RestoreOptions)} | {"effort"}
    if not {"problem", "solver"} <= names:
        return {"Options": [row for _, row in options]}
    found: dict[str, list[tuple[str, ...]]] = {
        "What was measured": [],
        "How to restore it": [],
        "Options": [],
    }
    for name, row in options:
        measured = name in described or name.startswith("sigma")
        title = "What was measured" if measured else "Options"
        found["How to restore it" if name in restored and not measured else title].append(row)
    return found


def _write(formatter: Any, title: str, rows: Iterable[tuple[str, ...]]) -> None:
    rows = list(rows)
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
