"""The page of the JSON that the commands print and write, made of its schemas."""

import json
from pathlib import Path
from typing import Any

__all__ = ["SCHEMAS", "json_page", "schemas"]

SCHEMAS = Path(__file__).parents[2] / "scoresde/schemas"

INTRODUCTION = """# JSON

What `--json` prints, and every JSON file of a run, is an object with a `format`: a name and a
version. Its fields are those of a [JSON Schema](https://json-schema.org) that comes with the
package, in the folder `scoresde/schemas`:

```python
import json
from importlib.resources import files

name = "restore-report"
schema = json.loads((files("scoresde") / "schemas" / f"{name}.json").read_text())
```

- Within a version fields may be added; none is removed, renamed or given another meaning or unit.
  So a reader must ignore fields that it does not know.
- Any other change counts the version up. A file of another version than the one that is read is
  refused with one line.
- NaN and infinities, which JSON does not have, are `null`.
- Standard output holds the JSON alone; progress and warnings go to standard error.

A field in *italics* is only there in some reports.
"""


def schemas() -> dict[str, dict[str, Any]]:
    """Read the schemas of the package.

    Returns:
        The schemas by name, such as "restore-report".
    """
    return {path.stem: json.loads(path.read_text()) for path in sorted(SCHEMAS.glob("*.json"))}


def json_page() -> str:
    """Write the page, with a list of fields for each format.

    Returns:
        The text of the page.
    """
    parts = [INTRODUCTION]
    for schema in schemas().values():
        name = schema["properties"]["format"]["const"]
        parts.append(f'## {schema["title"]}\n\n`"format": "{name}"`\n\n{_fields(schema)}\n')
    return "\n".join(parts)


def _fields(schema: dict[str, Any], depth: int = 0) -> str:
    lines = []
    for name, one in schema.get("properties", {}).items():
        if name == "format" and depth == 0:
            continue
        shown = f"`{name}`" if name in schema.get("required", ()) else f"*`{name}`*"
        lines.append(
            f"{'  ' * depth}- {shown}: {_type(one)}. {one.get('description', '')}".rstrip()
        )
        inner = _fields(_inside(one), depth + 1)
        lines += [inner] if inner else []
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and lines:
        lines.append(f"{'  ' * depth}- *others*: {more.get('description', '')}")
    return "\n".join(lines)


def _inside(schema: dict[str, Any]) -> dict[str, Any]:
    """The object in a list, or under any name of an object."""
    if isinstance(schema.get("items"), dict):
        return _inside(schema["items"])
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and "properties" not in schema:
        return _inside(more)
    return schema


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    if isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    more = schema.get("additionalProperties")
    if isinstance(more, dict) and "properties" not in schema and schema["type"] == "object":
        return f"object of {_type(more)}"
    kinds = schema.get("type", "any")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
