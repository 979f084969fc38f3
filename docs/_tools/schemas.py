"""Write docs/schema/*.json from the types in ``lbi.cli.json_records``: ``make schemas``."""

from __future__ import annotations

import json
from pathlib import Path

from lbi.cli.json_records import RECORDS
from lbi.cli.json_schema import schema

FOLDER = Path(__file__).parents[1] / "schema"


def main() -> None:
    """Write one file per command."""
    for command in RECORDS:
        text = json.dumps(schema(command), indent=2, ensure_ascii=False)
        (FOLDER / f"{command}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
