"""The page of tables and plots: what `verify`, `calibrate`, `likelihood` and others found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scoresde.reports.page import render

__all__ = ["Column", "Picture", "Plot", "Section", "TablePage", "table_page"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        key: Name of its values in the rows.
        title: Heading.
        meaning: What the values mean, one sentence.
        form: Format of numbers, as ".3f".
    """

    key: str
    title: str
    meaning: str
    form: str = ".4g"

    def shown(self, value: Any) -> str:
        """Write a value as the page shows it.

        Args:
            value: A number, a text, or None.

        Returns:
            The text; a dash where there is no number.

        Example:
            >>> Column("x", "x", "", ".1%").shown(0.25), Column("x", "x", "").shown(None)
            ('25.0%', '–')
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return str(value)
        return format(value, self.form)


@dataclass(frozen=True)
class Plot:
    """A plot.

    Args:
        title: Heading.
        svg: Element of :func:`scoresde.reports.figures.inline_svg`.
        caption: How to read it.
    """

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A picture.

    Args:
        title: Heading.
        uri: Data URI.
        alt: What it shows, for those who cannot see it.
        caption: How to read it.
    """

    title: str
    uri: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A table with its plots.

    Args:
        title: Heading.
        text: What the section shows, a sentence or two.
        columns: Columns of the table; () for no table.
        rows: Rows by the keys of the columns.
        plots: Plots above the table.
        pictures: Pictures above the table.
    """

    title: str
    text: str
    columns: Sequence[Column] = ()
    rows: Sequence[dict[str, Any]] = ()
    plots: Sequence[Plot] = ()
    pictures: Sequence[Picture] = ()

    def numeric(self, column: Column) -> bool:
        """Whether a column holds numbers.

        Args:
            column: The column.

        Returns:
            True if one of its values is a number.
        """
        values = [row.get(column.key) for row in self.rows]
        return any(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


@dataclass(frozen=True)
class TablePage:
    """What a page of tables shows.

    Args:
        title: First heading.
        lead: The result in a sentence or two.
        sections: Tables and plots.
        command: The command that made it.
        environment: Versions and device, by name.
        settings: Further facts on how it was made, by name.
        warnings: What a reader must know before the numbers are used.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    command: str
    environment: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def table_page(page: TablePage) -> str:
    """Make a page of tables and plots.

    Args:
        page: What it shows.

    Returns:
        One self-contained HTML file.

    Example:
        >>> columns = [Column("x", "x", "A number.")]
        >>> page = TablePage("T", "L", [Section("S", "t", columns, [{"x": 1.5}])], "c", {
        ...     "scoresde": "0"})
        >>> "1.5" in table_page(page)
        True
    """
    facts = {
        name.replace("_", " "): f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in page.settings.items()
        if value is not None
    }
    return render("tables.html", page=page, environment=page.environment, facts=facts,
                  title=page.title)  # fmt: skip
