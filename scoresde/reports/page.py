"""One self-contained HTML file: templates, styles and scripts put together by Jinja.

Everything that comes from a run is escaped: text by Jinja, data for scripts by :func:`as_script`.
The page forbids itself every connection by its Content-Security-Policy.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from scoresde.files import json_safe, write_atomically

__all__ = ["as_script", "render", "write_page"]

_ASSETS = Path(__file__).parent / "assets"


def as_script(value: Any) -> str:
    r"""Write JSON that may stand within a script element.

    Args:
        value: Plain values; NaN and infinities become null.

    Returns:
        JSON without the characters that could end the element or a line of the script.

    Example:
        >>> print(as_script("</script>"))
        "\u003c/script\u003e"
    """
    text = json.dumps(json_safe(value), ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_script"] = lambda value: Markup(as_script(value))
    environment.globals["asset"] = lambda name: Markup((_ASSETS / name).read_text("utf-8"))
    return environment


def render(template: str, **content: Any) -> str:
    """Fill a template.

    Args:
        template: Name of a file in ``assets``.
        **content: What the template shows.

    Returns:
        The HTML.

    Raises:
        jinja2.UndefinedError: If the template needs something that is not given.
    """
    text: str = _environment().get_template(template).render(**content)
    return text


def write_page(html: str, path: Path) -> None:
    """Write a page.

    Args:
        html: The page.
        path: Path of the file.

    Raises:
        InputError: If the file cannot be written.
    """
    content = html.encode(errors="backslashreplace")  # names of files may be any bytes
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
