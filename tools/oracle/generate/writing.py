"""Writing fixtures so that the same content always gives the same bytes."""

import json
import re
from pathlib import Path

# A list of numbers spread over lines. Line breaks within strings are escaped, so that only layout matches.
NUMBERS = re.compile(r"\[\s+(?:-?\d[\d.eE+-]*,?\s+)+\]")


def write_json(path: Path, content: object, infinite: bool = False) -> None:
    """Writes `content` as readable UTF-8 JSON in the order given: numbers side by side, a newline at the end.

    `infinite`: write infinite numbers as Python does, though JSON has none.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=infinite)
    text = NUMBERS.sub(lambda found: "[" + ", ".join(found.group()[1:-1].replace(",", " ").split()) + "]", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
