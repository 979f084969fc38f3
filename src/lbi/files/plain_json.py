"""JSON files whose bytes depend on their content alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a JSON file with sorted keys.

    Args:
        path: The file to write.
        record: Plain JSON values; NaN and infinities are refused.

    Raises:
        ValueError: If a number is not finite.
    """
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
