"""Writing fixtures so that the same content always gives the same bytes."""

import json
import re
from pathlib import Path

# A list of numbers spread over lines. Line breaks within strings are escaped, so that only layout matches.
NUMBERS = re.compile(r"\[\s+(?:-?\d[\d.eE+-]*,?\s+)+\]")
# An infinite number as Python writes it, which JSON has not: 1e999 is one for whoever reads it.
INFINITE = re.compile(r'(?<![\w"])Infinity(?![\w"])')
# What is longer is spread over lines.
WIDTH = 100


def write_json(path: Path, content: object, infinite: bool = False) -> None:
    """Writes `content` as readable UTF-8 JSON in the order given: numbers side by side, a newline at the end.

    `infinite`: write infinite numbers as Python does, though JSON has none.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=infinite)
    text = NUMBERS.sub(lambda found: "[" + ", ".join(found.group()[1:-1].replace(",", " ").split()) + "]", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def compact(value: object, margin: str = "") -> str:
    """JSON of few lines that still differ where the content does: one for each entry of a long object, and of a long list of lists or objects."""
    line = INFINITE.sub("1e999", json.dumps(value, ensure_ascii=False))
    if len(line) <= WIDTH or not isinstance(value, (dict, list)):
        return line
    inner = f"{margin} "
    if isinstance(value, dict):
        entries = [f"{json.dumps(key, ensure_ascii=False)}: {compact(entry, inner)}" for key, entry in value.items()]
        first, last = "{}"
    elif all(isinstance(entry, (dict, list)) for entry in value):
        entries = [compact(entry, inner) for entry in value]
        first, last = "[]"
    else:
        return line
    return f",\n{inner}".join([f"{first}\n{inner}{entries[0]}", *entries[1:]]) + f"\n{margin}{last}"


def write_compact(path: Path, content: dict) -> None:
    """Writes an object as UTF-8 JSON, its first keys at the beginning of lines."""
    entries = [f"{json.dumps(key)}: {compact(entry)}" for key, entry in content.items()]
    text = "{\n" + ",\n".join(entries) + "\n}\n"
    if json.loads(text) != content:
        raise ValueError(f"{path.name}: what was written is not what is read")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
